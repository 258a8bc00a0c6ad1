"""Convolutions and their derivatives as register tiles; images are read where they lie.

With affine indices in operands and result, "result" and "filter" are problems for ``tile`` as they stand. An
"image" (a transposed convolution) collects from the result: ``i = p * stride + k * dilation`` is solved
for ``p``, separately for each remainder of i by the stride, so that every part is an ordinary sum
over some of the filter's taps, from a copy of the result with zeros around it.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from math import gcd

from ..graph.node import Node
from ..graph.shapes import row_major_strides
from . import ir
from .ir import Axis, Buffer
from .layout import Layout, as_it_is, cheapest, copied
from .nest import Nest, pointwise
from .pull import Pull, axes_of, flat_index, index_of
from .tile import Dim, Problem, tiled_nest


def window(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """The nests of a ``convolve``."""
    target = node.attrs[0]
    return {"result": _result, "filter": _filter, "image": _image}[target](pull, node, buffer)


def _reached(count: int, taps: int, stride: int, dilation: int, size: int, before: int) -> int:
    """How far windows reach beyond the end of an image."""
    if not count or not taps:
        return 0
    return max(0, (count - 1) * stride + (taps - 1) * dilation + 1 - before - size)


def _image_layouts(
    pull: Pull, x: Node, counts, taps, node: Node, channels_last: bool
) -> list[Layout]:
    """How an image can lie: with its border, if windows reach over it; channels first or last."""
    _, stride, dilation, _, low = node.attrs
    parts = zip(counts, taps, stride, dilation, x.shape[3:], low, strict=True)
    high = [_reached(*part) for part in parts]
    border = any(low) or any(high)
    low, high = (0, 0, 0, *low), (0, 0, 0, *high)
    found = [copied(pull, x, low, high) if border else as_it_is(pull, x)]
    return found + ([copied(pull, x, low, high, last=2)] if channels_last else [])


# -- results and filters --------------------------------------------------------------------------


def _result(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    x, w = node.inputs
    _, stride, dilation, sizes, _ = node.attrs
    sc = row_major_strides(node.shape)
    n, g, o = node.shape[:3]

    def problem(sa, sb, a=None, b=None):
        out = [
            Dim(n, sa[0], 0, sc[0], Axis(n, "n")),
            Dim(g, sa[1], sb[0], sc[1], Axis(g, "g")),
            Dim(o, 0, sb[1], sc[2]),
            *_dims(node.shape[3:], _times(sa[3:], stride), None, sc[3:]),
        ]
        taps = _dims(w.shape[3:], _times(sa[3:], dilation), sb[3:], None)
        inner = [Dim(w.shape[2], sa[2], sb[2], 0), *taps]
        return Problem(node.dtype, tuple(out), tuple(inner), a, b, (buffer, ir.index(0)))

    images = _image_layouts(pull, x, sizes, w.shape[3:], node, False)
    filters = [as_it_is(pull, w), copied(pull, w, last=1)]
    nests: list[Nest] = []
    chosen = cheapest(problem, images, filters, nests)
    return [*nests, tiled_nest(chosen)]


def _dims(extents, a, b, c) -> list[Dim]:
    """One Dim each, with the strides that are given."""
    none = [0] * len(extents)
    return [Dim(*d) for d in zip(extents, a or none, b or none, c or none, strict=True)]


def _times(strides, steps) -> list[int]:
    return [s * k for s, k in zip(strides, steps, strict=True)]


def _filter(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    x, y = node.inputs
    _, stride, dilation, sizes, _ = node.attrs
    sc = row_major_strides(node.shape)
    g, o, c = node.shape[:3]

    def problem(sa, sb, a=None, b=None):
        out = [
            Dim(g, sa[1], sb[1], sc[0], Axis(g, "g")),
            Dim(o, 0, sb[2], sc[1]),
            Dim(c, sa[2], 0, sc[2]),
            *_dims(sizes, _times(sa[3:], dilation), None, sc[3:]),
        ]
        places = _dims(y.shape[3:], _times(sa[3:], stride), sb[3:], None)
        inner = [Dim(x.shape[0], sa[0], sb[0], 0), *places]
        return Problem(node.dtype, tuple(out), tuple(inner), a, b, (buffer, ir.index(0)))

    images = _image_layouts(pull, x, y.shape[3:], sizes, node, True)
    results = [as_it_is(pull, y), copied(pull, y, last=2)]
    nests: list[Nest] = []
    chosen = cheapest(problem, images, results, nests)
    return [*nests, tiled_nest(chosen)]


# -- the transposed convolution -------------------------------------------------------------------


class Phase:
    """Of one spatial dimension, the elements ``i = r + stride * q``: which taps reach them, and from where.

    Tap ``first + j * step`` (j < taps) reaches q from result ``q + start - j * back``.
    """

    def __init__(self, r: int, size: int, taps: int, stride: int, dilation: int, padding: int):
        self.r = r
        self.size = -(-(size - r) // stride) if size > r else 0
        self.step = stride // gcd(stride, dilation)
        self.back = self.step * dilation // stride
        reaching = [k for k in range(taps) if (k * dilation - padding - r) % stride == 0]
        self.first = reaching[0] if reaching else 0
        self.taps = len(reaching)
        self.start = (r + padding - self.first * dilation) // stride

    @property
    def low(self) -> int:
        """The first result that is asked for, below 0 where there is none."""
        return self.start - (self.taps - 1) * self.back

    @property
    def high(self) -> int:
        return self.size - 1 + self.start


def _image(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    y, w = node.inputs
    _, stride, dilation, sizes, padding = node.attrs
    each = [
        [Phase(r, n, k, s, d, p) for r in range(s)]
        for n, k, s, d, p in zip(sizes, w.shape[3:], stride, dilation, padding, strict=True)
    ]
    # Those that no tap reaches stay 0.
    live = [[p for p in phases if p.taps and p.size] for phases in each]
    nests: list[Nest] = []
    at = flat_index(index_of(axes := axes_of(node.shape)), node.shape)
    if [len(p) for p in live] != [min(s, n) for s, n in zip(stride, sizes, strict=True)]:
        nests.append(Nest(buffer, axes, 0, [ir.Store(buffer, at, ir.const(0, node.dtype))]))
    if not all(live):
        return nests
    low = [max(0, -min(p.low for p in phases)) for phases in live]
    high = [
        max(0, max(p.high for p in phases) - n + 1)
        for phases, n in zip(live, y.shape[3:], strict=True)
    ]
    border = any(low) or any(high)
    wide = partial(copied, pull, y, (0, 0, 0, *low), (0, 0, 0, *high))
    results = [wide() if border else as_it_is(pull, y)]
    filters = [as_it_is(pull, w), copied(pull, w, last=2)]
    whole = bool(nests)
    parts = []
    for phases in product(*live):
        problem = partial(_part, node, w, buffer, low, phases)
        parts.append(cheapest(problem, results, filters, nests))
    if len(parts) == 1 and not whole:
        return [*nests, tiled_nest(parts[0])]
    for problem in parts:
        nest = tiled_nest(problem)
        nest.complete, nest.store_at = 0, None
        nests.append(nest)
    return nests


def _part(node, w, buffer, low, phases, sa, sb, a=None, b=None) -> Problem:
    """The problem of one phase of every dimension."""
    sc = row_major_strides(node.shape)
    stride = node.attrs[1]
    n, g, c = node.shape[:3]
    out = [
        Dim(n, sa[0], 0, sc[0], Axis(n, "n")),
        Dim(g, sa[1], sb[0], sc[1], Axis(g, "g")),
        Dim(c, 0, sb[2], sc[2]),
    ]
    inner = [Dim(w.shape[1], sa[2], sb[1], 0)]
    starts = [0, 0, 0]
    for p, before, s, ya, wb, xc in zip(phases, low, stride, sa[3:], sb[3:], sc[3:], strict=True):
        out.append(Dim(p.size, ya, 0, xc * s))
        inner.append(Dim(p.taps, -p.back * ya, p.step * wb, 0))
        for k, more in enumerate(((p.start + before) * ya, p.first * wb, p.r * xc)):
            starts[k] += more
    if a is not None:
        a, b = (a[0], a[1] + starts[0]), (b[0], b[1] + starts[1])
    c_place = (buffer, ir.index(starts[2]))
    return Problem(node.dtype, tuple(out), tuple(inner), a, b, c_place)


# -- borders of other operations ------------------------------------------------------------------


def pad(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """A stored ``pad``: a border of its number, then the source inside; neither loop decides anything."""
    low, high, fill = node.attrs
    if any(n < 0 for n in (*low, *high)):
        return pointwise(pull, node, buffer)
    source = node.inputs[0]
    around = axes_of(node.shape)
    everywhere = flat_index(index_of(around), node.shape)
    axes = axes_of(source.shape)
    index = index_of(axes)
    at = flat_index([i + k for i, k in zip(index, low, strict=True)], node.shape)
    number = ir.const(fill.number, node.dtype)
    return [
        Nest(buffer, around, 0, [ir.Store(buffer, everywhere, number)]),
        Nest(buffer, axes, 0, [ir.Store(buffer, at, pull.element(source, index))]),
    ]
