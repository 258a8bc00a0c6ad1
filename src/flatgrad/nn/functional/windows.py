"""Images and their windows as movements: nothing here is computed, only where elements are read."""

from __future__ import annotations

from ...graph.op import Exact
from ...ops.joining import PAD
from ...ops.movement import SLICE, UNFOLD, reshape
from ...tensor import Tensor, node_of, record

__all__ = ["cropped", "placed", "tiles", "windows"]


def cropped(x: Tensor, start: tuple, sizes: tuple) -> Tensor:
    """`sizes` elements of the last dimensions of `x`, from `start` on."""
    shape = node_of(x).shape
    lead = shape[: len(shape) - len(sizes)]
    if shape[len(lead) :] == sizes:
        return x
    starts = (*[0] * len(lead), *start)
    return record(SLICE, (x,), (starts, (1,) * len(shape), (*lead, *sizes)))


def placed(x: Tensor, low: tuple, sizes: tuple, fill=0) -> Tensor:
    """The last dimensions of `x` from `low` elements before its first on; outside it is `fill`."""
    have = node_of(x).shape[-len(sizes) :]
    kept = tuple([min(h, s - a) for h, s, a in zip(have, sizes, low, strict=True)])
    x = cropped(x, (0,) * len(sizes), kept)
    high = tuple([s - a - k for s, a, k in zip(sizes, low, kept, strict=True)])
    if not any(low) and not any(high):
        return x
    lead = (0,) * (x.ndim - len(low))
    return record(PAD, (x,), ((*lead, *low), (*lead, *high), Exact(fill)))


def windows(x: Tensor, taps: tuple, stride: tuple, dilation: tuple) -> Tensor:
    """All windows of the last dimensions of `x`, as ``[..., *places, *taps]``."""
    lead = x.ndim - len(taps)
    for k, (t, s, d) in enumerate(zip(taps, stride, dilation, strict=True)):
        x = record(UNFOLD, (x,), (lead + k, (t - 1) * d + 1, s))
        if d > 1:
            shape = (*node_of(x).shape[:-1], t)
            x = record(SLICE, (x,), ((0,) * x.ndim, (*[1] * (x.ndim - 1), d), shape))
    return x


def tiles(x: Tensor, taps: tuple) -> tuple[Tensor, tuple[int, ...]]:
    """Windows side by side that fill the last dimensions: (``[..., Y1, K1, Y2, K2]``, where the K are)."""
    shape = node_of(x).shape
    lead = len(shape) - len(taps)
    cut = [n for size, k in zip(shape[lead:], taps, strict=True) for n in (size // k, k)]
    return reshape(x, (*shape[:lead], *cut)), tuple(range(lead + 1, lead + 2 * len(taps), 2))
