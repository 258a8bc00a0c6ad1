"""Checkpoints: trees of tensors and numbers as safetensors files that survive a power cut.

``save`` and ``load`` are the face, ``Checkpointer`` is what a training loop needs of them. `tree.py`
turns a tree into named arrays and a text, `encoded.py` those into the bytes of a safetensors file
and back, checked; `durable.py` brings bytes to a disk so that a whole file is there at any moment.
Nothing in a file is ever executed. Only `encoded.py` imports the safetensors package, at the first use.
"""

from .checkpointer import Checkpointer
from .files import load, read_metadata, save

__all__ = ["Checkpointer", "load", "read_metadata", "save"]
