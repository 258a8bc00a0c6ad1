"""``fg.save`` and ``fg.load``: the same functions, with PyTorch's order of arguments."""

from __future__ import annotations

from . import files
from .files import load

__all__ = ["load", "save"]


def save(obj, f, *, keep: int = 1, metadata: dict[str, str] | None = None) -> None:
    """:func:`flatgrad.io.save` as PyTorch has it: first what is saved, then the path.

    Examples
    --------
    >>> import flatgrad as fg, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> fg.save(fg.nn.Linear(2, 1).state_dict(), path)
    >>> list(fg.load(path))
    ['weight', 'bias']
    """
    files.save(f, obj, keep=keep, metadata=metadata)
