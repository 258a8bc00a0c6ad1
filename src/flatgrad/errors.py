"""The errors flatgrad raises, each also the built-in class that PyTorch's and NumPy's users expect.

A message says, in this order: the operation, what was required, what was given, one fix.
``assert`` is kept for flatgrad's own invariants; bad input never reaches one.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "CheckpointWarning",
    "CompileError",
    "DTypeError",
    "FlatgradError",
    "GradientError",
    "IndexingError",
    "LinAlgError",
    "LoopError",
    "MissingCheckpointError",
    "ShapeError",
    "ToolError",
    "TraceError",
    "UnsupportedError",
]


class FlatgradError(Exception):
    """Base of every error that flatgrad raises on purpose."""


class ShapeError(FlatgradError, RuntimeError, ValueError):
    """Shapes, sizes or dimensions do not fit the operation (PyTorch: RuntimeError, NumPy: ValueError)."""


class DTypeError(FlatgradError, RuntimeError, TypeError):
    """A dtype does not fit the operation, such as a gradient asked of an integer tensor."""


class IndexingError(FlatgradError, IndexError, RuntimeError, TypeError):
    """An index is out of range, or of a kind that cannot index."""


class ArgumentError(FlatgradError, RuntimeError, ValueError, TypeError):
    """An argument has the wrong type, an unknown name or a value out of range."""


class GradientError(FlatgradError, RuntimeError):
    """The graph cannot be differentiated as asked: no grad_fn, freed, modified or unused."""


class LinAlgError(FlatgradError, RuntimeError, ValueError):
    """A decomposition failed on these values (singular, not positive definite, no convergence)."""


class LoopError(FlatgradError, RuntimeError):
    """A loop did not end within the bound or the memory it was given."""


class BudgetError(FlatgradError, MemoryError):
    """A program needs more memory than it was given, even if it recomputes what it can."""


class CheckpointError(FlatgradError, OSError):
    """A checkpoint can't be written, or none is whole."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no checkpoint of that name, nor an older one."""


class CheckpointWarning(RuntimeWarning):
    """The newest checkpoint is damaged or gone, and an older one was loaded."""


class TraceError(FlatgradError, RuntimeError, TypeError):
    """While a function is traced, its Python code asked for a value that does not exist yet."""


class ToolError(FlatgradError, RuntimeError):
    """A program from outside (a C compiler) is missing, or failed."""


class UnsupportedError(FlatgradError, TypeError):
    """A function of NumPy or PyTorch that flatgrad does not record."""


class CompileError(FlatgradError, RuntimeError):
    """The compiler broke one of its own invariants. This is a bug in flatgrad: please report it."""
