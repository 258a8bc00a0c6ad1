"""How tensors print: PyTorch's layout, four digits, summarised over 1000 elements."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ArgumentError, TraceError
from ..graph import dtypes
from ..tensor import Tensor, method
from .convert import value_of

__all__ = ["get_printoptions", "printoptions", "set_printoptions"]


@dataclass(frozen=True, slots=True)
class PrintOptions:
    """How numbers are printed; see :func:`set_printoptions`."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}
_options = PrintOptions()


def set_printoptions(
    precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None
) -> None:
    """Set how tensors print.

    Parameters
    ----------
    precision : int
        Digits after the point (4).
    threshold : int
        More elements than this are summarised (1000).
    edgeitems : int
        Elements shown at each end of a summarised dimension (3).
    linewidth : int
        Characters of a line (80).
    profile : "default", "short" or "full"
    sci_mode : bool, optional
        Scientific notation always (True) or never (False). Each call without it restores the choice
        by the values' range.

    Raises
    ------
    ArgumentError
        For an unknown profile.
    """
    global _options
    options = _options
    if profile is not None:
        if profile not in _PROFILES:
            raise ArgumentError(
                f"set_printoptions: profile must be one of {sorted(_PROFILES)}, got {profile!r}"
            )
        options = _PROFILES[profile]
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    given = {key: value for key, value in given.items() if value is not None}
    _options = replace(options, **given, sci_mode=sci_mode)


def get_printoptions() -> dict:
    """The options in force, as :func:`set_printoptions` takes them."""
    return {name: getattr(_options, name) for name in PrintOptions.__dataclass_fields__}


@contextmanager
def printoptions(**options):
    """:func:`set_printoptions` for the body of a ``with`` statement."""
    global _options
    before = _options
    try:
        set_printoptions(**options)
        yield
    finally:
        _options = before


# -- one number -----------------------------------------------------------------------------------


class Formatter:
    """Formats the numbers of one tensor to one width.

    Parameters
    ----------
    values : ndarray
        The numbers that will be shown.
    """

    def __init__(self, values: np.ndarray):
        self.floating = values.dtype.kind == "f"
        self.integral = True
        self.scientific = False
        self.width = 1
        if not self.floating:
            self.width = max([1, *(len(str(v)) for v in values.ravel().tolist())])
            return
        wide = values.astype(np.float64).ravel()
        shown = wide[np.isfinite(wide) & (wide != 0)]
        if shown.size:
            self._choose(np.abs(shown), wide)
        if _options.sci_mode is not None:
            self.scientific = _options.sci_mode
        # Zeros, infinities and NaN do not widen the columns.
        self.width = max([1, *(len(self._text(v)) for v in shown.tolist())])

    def _choose(self, shown: np.ndarray, wide: np.ndarray) -> None:
        high, low = float(shown.max()), float(shown.min())
        finite = wide[np.isfinite(wide)]
        self.integral = bool(np.all(finite == np.ceil(finite)))
        with np.errstate(over="ignore"):
            ratio = high / low
        too_wide = ratio > 1000.0 or high > 1.0e8
        self.scientific = too_wide if self.integral else too_wide or low < 1.0e-4

    def _text(self, value: float) -> str:
        if self.scientific:
            return f"{value:.{_options.precision}e}"
        if not self.integral:
            return f"{value:.{_options.precision}f}"
        return f"{value:.0f}." if math.isfinite(value) else str(value)

    def __call__(self, value) -> str:
        text = self._text(value) if self.floating else str(value)
        return text.rjust(self.width)


# -- nested brackets ------------------------------------------------------------------------------


def _edges(array: np.ndarray) -> np.ndarray:
    """The elements that a summary shows."""
    n = _options.edgeitems
    for axis, size in enumerate(array.shape):
        if size > 2 * n:
            keep = np.r_[0:n, size - n : size]
            array = np.take(array, keep, axis=axis)
    return array


def _row(array: np.ndarray, indent: int, summary: bool, formatter: Formatter) -> str:
    per_line = max(1, (_options.linewidth - indent) // (formatter.width + 2))
    n = _options.edgeitems
    if summary and not n:
        words = ["..."]
    elif summary and array.size > 2 * n:
        words = [formatter(v) for v in array[:n].tolist()]
        words.append(" ...")
        words += [formatter(v) for v in array[-n:].tolist()]
    else:
        words = [formatter(v) for v in array.tolist()]
    lines = [words[k : k + per_line] for k in range(0, len(words), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(", ".join(line) for line in lines) + "]"


def _nested(array: np.ndarray, indent: int, summary: bool, formatter: Formatter) -> str:
    if array.ndim == 0:
        return formatter(array.item())
    if array.ndim == 1:
        return _row(array, indent, summary, formatter)
    n = _options.edgeitems
    if summary and array.shape[0] > 2 * n:
        parts = [_nested(array[k], indent + 1, summary, formatter) for k in range(n)]
        parts.append("...")
        rest = range(array.shape[0] - n, array.shape[0])
        parts += [_nested(array[k], indent + 1, summary, formatter) for k in rest]
    else:
        parts = [_nested(row, indent + 1, summary, formatter) for row in array]
    gap = "," + "\n" * (array.ndim - 1) + " " * (indent + 1)
    return "[" + gap.join(parts) + "]"


def array_text(array: np.ndarray, indent: int) -> str:
    """The nested brackets of an array whose first line starts at column `indent`."""
    if array.size == 0:
        return "[]"
    summary = array.size > _options.threshold
    return _nested(array, indent, summary, Formatter(_edges(array) if summary else array))


# -- the whole ------------------------------------------------------------------------------------


def _has_default_dtype(t: Tensor) -> bool:
    if t.dtype in (dtypes.int64, dtypes.bool_):
        return t.shape.numel() > 0
    return t.dtype is dtypes.get_default_dtype()


@method("__repr__")
def tensor_text(self, *, tensor_contents=None) -> str:
    """PyTorch's text of a tensor. Values that are pending are computed; a traced tensor has none."""
    prefix = "tensor("
    try:
        array = value_of(self)
    except TraceError:
        return f"tensor(<traced>, shape={tuple(self.shape)}, dtype={self.dtype!r})"
    suffixes = []
    hidden = array.size > _options.threshold and not _options.edgeitems
    if hidden or (array.size == 0 and array.shape != (0,)):
        suffixes.append(f"size={tuple(self.shape)}")
    if not _has_default_dtype(self):
        suffixes.append(f"dtype={self.dtype!r}")
    text = array_text(array, len(prefix))
    if self.requires_grad:
        made = "requires_grad=True" if self.is_leaf else f"grad_fn=<{self.grad_fn.name()}>"
        suffixes.append(made)
    return _with_suffixes(prefix + text, suffixes, len(prefix))


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    out = [text]
    last_line = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if last_line + len(suffix) + 2 > _options.linewidth:
            out.append(",\n" + " " * indent + suffix)
            last_line = indent + len(suffix)
        else:
            out.append(", " + suffix)
            last_line += len(suffix) + 2
    out.append(")")
    return "".join(out)


Tensor.__str__ = tensor_text
