"""The command line: ``flatgrad export | inspect | bench | doctor | warmup``.

Commands import what they need when they run, so that ``--help`` costs no more than NumPy does.
"""

from .main import main

__all__ = ["main"]
