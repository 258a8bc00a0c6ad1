"""``fg.export``: any compiled program as C99, with all that a board needs to run it.

The module is callable, since it has its function's name: ``fg.export(f, *example)``.
"""

from __future__ import annotations

import sys
from types import ModuleType

from .api import Export, export
from .targets import TARGETS, Target

__all__ = ["TARGETS", "Export", "Target", "export"]


class _Callable(ModuleType):
    __call__ = staticmethod(export)


sys.modules[__name__].__class__ = _Callable
