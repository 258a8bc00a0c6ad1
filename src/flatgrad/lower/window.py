"""Convolutions and their derivatives as register tiles; images are read where they lie.

With affine indices in operands and result, "result" and "filter" are problems for ``tile`` as they stand. An
"image" (a transposed convolution) collects from the result: ``i = p * stride + k * dilation`` is solved
for ``p``, separately for each remainder of i by the stride, so that every part is an ordinary sum
over some of the filter's taps, from a copy of the result with zeros around it.
"""

from __future__ import annotations

from itertools import product
from math import gcd

from ..graph.node import Node
from ..graph.shapes import numel, row_major_strides
from . import ir
from .index import axes_in, linear
from .ir import Axis, Buffer
from .nest import Nest, fresh
from .pull import Pull, axes_of, flat_index, index_of
from .tile import Dim, Problem, tiled_nest


def window(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """The nests of a ``convolve``."""
    target = node.attrs[0]
    return {"result": _result, "filter": _filter, "image": _image}[target](pull, node, buffer)


def _affine(pull: Pull, node: Node, nests: list) -> tuple:
    """(place, strides) of a node's elements in memory; it is copied if they have none."""
    axes = [Axis(max(n, 1), "i") for n in node.shape]
    element = pull.element(node, [ir.var(a) for a in axes])
    if element.kind == "load":
        terms, _ = linear(element.args[0])
        own = set(axes)
        if all(
            (atom.kind == "var" and atom.arg in own) or own.isdisjoint(axes_in(atom))
            for atom in terms
        ):
            strides = [terms.get(ir.var(a), 0) for a in axes]
            start = element.args[0]
            for axis, stride in zip(axes, strides, strict=True):
                start = start - ir.var(axis) * stride
            return (element.arg, start), strides
    copy = Buffer(fresh("copy"), node.dtype, numel(node.shape), "arena", node.shape)
    inner = axes_of(node.shape)
    at = flat_index(index_of(inner), node.shape)
    value = pull.element(node, index_of(inner))
    nests.append(Nest(copy, inner, len(inner), [ir.Store(copy, at, value)], store_at=at))
    return (copy, ir.index(0)), list(row_major_strides(node.shape))


def _lead(node: Node, strides) -> list[tuple]:
    return list(zip(node.shape[:3], strides[:3], strict=True))


def _result(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    x, w = node.inputs
    _, stride, dilation, _ = node.attrs
    nests: list[Nest] = []
    (a, sa), (b, sb) = _affine(pull, x, nests), _affine(pull, w, nests)
    sc = row_major_strides(node.shape)
    out = [
        Dim(node.shape[0], sa[0], 0, sc[0], Axis(node.shape[0], "n")),
        Dim(node.shape[1], sa[1], sb[0], sc[1], Axis(node.shape[1], "g")),
        Dim(node.shape[2], 0, sb[1], sc[2]),
    ]
    out += [
        Dim(n, s * step, 0, c)
        for n, s, step, c in zip(node.shape[3:], sa[3:], stride, sc[3:], strict=True)
    ]
    inner = [Dim(w.shape[2], sa[2], sb[2], 0)]
    inner += [
        Dim(n, s * step, k, 0)
        for n, s, step, k in zip(w.shape[3:], sa[3:], dilation, sb[3:], strict=True)
    ]
    problem = Problem(node.dtype, tuple(out), tuple(inner), a, b, (buffer, ir.index(0)))
    return [*nests, tiled_nest(problem)]


def _filter(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    x, y = node.inputs
    _, stride, dilation, _ = node.attrs
    nests: list[Nest] = []
    (a, sa), (b, sb) = _affine(pull, x, nests), _affine(pull, y, nests)
    sc = row_major_strides(node.shape)
    out = [
        Dim(node.shape[0], sa[1], sb[1], sc[0], Axis(node.shape[0], "g")),
        Dim(node.shape[1], 0, sb[2], sc[1]),
        Dim(node.shape[2], sa[2], 0, sc[2]),
    ]
    out += [
        Dim(n, s * step, 0, c)
        for n, s, step, c in zip(node.shape[3:], sa[3:], dilation, sc[3:], strict=True)
    ]
    inner = [Dim(x.shape[0], sa[0], sb[0], 0)]
    inner += [
        Dim(n, s * step, k, 0)
        for n, s, step, k in zip(y.shape[3:], sa[3:], stride, sb[3:], strict=True)
    ]
    problem = Problem(node.dtype, tuple(out), tuple(inner), a, b, (buffer, ir.index(0)))
    return [*nests, tiled_nest(problem)]


# -- the transposed convolution -------------------------------------------------------------------


class Phase:
    """Of one spatial dimension, the elements ``i = r + stride * q``: which taps reach them, and from where.

    Tap ``first + j * step`` (j < taps) reaches q from result ``q + start - j * back``.
    """

    def __init__(self, r: int, size: int, taps: int, stride: int, dilation: int):
        self.r = r
        self.size = -(-(size - r) // stride) if size > r else 0
        self.step = stride // gcd(stride, dilation)
        self.back = self.step * dilation // stride
        reaching = [k for k in range(taps) if (k * dilation - r) % stride == 0]
        self.first = reaching[0] if reaching else 0
        self.taps = len(reaching)
        self.start = (r - self.first * dilation) // stride

    @property
    def low(self) -> int:
        """The first result that is asked for, below 0 where there is none."""
        return self.start - (self.taps - 1) * self.back

    @property
    def high(self) -> int:
        return self.size - 1 + self.start


def _image(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    y, w = node.inputs
    _, stride, dilation, sizes = node.attrs
    each = [
        [Phase(r, n, k, s, d) for r in range(s)]
        for n, k, s, d in zip(sizes, w.shape[3:], stride, dilation, strict=True)
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
    (a, sa), (b, sb) = _surrounded(pull, y, low, high, nests), _affine(pull, w, nests)
    parts = [
        _part(node, w, (a, sa), (b, sb), buffer, low, phases, stride) for phases in product(*live)
    ]
    if len(parts) == 1 and not any(n.buffer is buffer for n in nests):
        return [*nests, tiled_nest(parts[0])]
    for problem in parts:
        nest = tiled_nest(problem)
        nest.complete, nest.store_at = 0, None
        nests.append(nest)
    return nests


def _part(node, w, y_place, w_place, buffer, low, phases, stride) -> Problem:
    (a, sa), (b, sb) = y_place, w_place
    sc = row_major_strides(node.shape)
    n, g, c = node.shape[:3]
    out = [
        Dim(n, sa[0], 0, sc[0], Axis(n, "n")),
        Dim(g, sa[1], sb[0], sc[1], Axis(g, "g")),
        Dim(c, 0, sb[2], sc[2]),
    ]
    inner = [Dim(w.shape[1], sa[2], sb[1], 0)]
    at_a, at_b, at_c = a[1], b[1], ir.index(0)
    for p, before, s, ya, wb, xc in zip(phases, low, stride, sa[3:], sb[3:], sc[3:], strict=True):
        out.append(Dim(p.size, ya, 0, xc * s))
        inner.append(Dim(p.taps, -p.back * ya, p.step * wb, 0))
        at_a = at_a + (p.start + before) * ya
        at_b = at_b + p.first * wb
        at_c = at_c + p.r * xc
    return Problem(node.dtype, tuple(out), tuple(inner), (a[0], at_a), (b[0], at_b), (buffer, at_c))


def _surrounded(pull: Pull, node: Node, low, high, nests: list) -> tuple:
    """A result with zeros around it, as ``_affine`` gives its place."""
    if not any(low) and not any(high):
        return _affine(pull, node, nests)
    low, high = [0, 0, 0, *low], [0, 0, 0, *high]
    shape = tuple(n + i + j for n, i, j in zip(node.shape, low, high, strict=True))
    wide = Buffer(fresh("wide"), node.dtype, numel(shape), "arena", shape)
    nests += padded_nests(pull, node, wide, shape, low, ir.const(0, node.dtype))
    return (wide, ir.index(0)), list(row_major_strides(shape))


def padded_nests(pull: Pull, source: Node, buffer: Buffer, shape, low, fill) -> list[Nest]:
    """A border of `fill`, then the source inside it: neither loop decides anything."""
    around = axes_of(shape)
    everywhere = flat_index(index_of(around), shape)
    axes = axes_of(source.shape)
    index = index_of(axes)
    at = flat_index([i + k for i, k in zip(index, low, strict=True)], shape)
    return [
        Nest(buffer, around, 0, [ir.Store(buffer, everywhere, fill)]),
        Nest(buffer, axes, 0, [ir.Store(buffer, at, pull.element(source, index))]),
    ]


def pad(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """A stored ``pad``."""
    low, _, fill = node.attrs
    value = ir.const(fill.number, node.dtype)
    if any(n < 0 for n in (*low, *node.attrs[1])):
        from .nest import pointwise

        return pointwise(pull, node, buffer)
    return padded_nests(pull, node.inputs[0], buffer, node.shape, low, value)
