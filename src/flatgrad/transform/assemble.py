"""The sum of one node's cotangents: parts of an array that lie side by side are joined, not added.

What reads ``x[0]``, ``x[1]``, ``x[2]`` gives x three cotangents, each an array of zeros with one element
written into it. Their sum is those elements, one after the other. Where two overlap, that part of them
is added.
"""

from __future__ import annotations

from itertools import pairwise

from ..graph.node import CONST, Node, const
from ..ops.joining import CAT
from ..ops.movement import SLICE, VIEW_SCATTER
from ..tensor import Tensor, record, wrap

__all__ = ["Parts", "add", "total"]


# Blocks that overlap are cut where others begin and end, if they are not more than these.
MEETING = 4


class Parts(list):
    """Cotangents of one node that are to be added."""


def add(a, b):
    """Cotangent `b` added to `a`, which is a cotangent, Parts or None (zero)."""
    if a is None:
        return b
    if b is None:
        return a
    if type(a) is Parts:
        a.append(b)
        return a
    return Parts((a, b))


def total(g):
    """One tensor for a cotangent or for Parts; a list stands for several outputs, None for zero."""
    if type(g) is list:
        return [total(part) for part in g]
    if type(g) is not Parts:
        return g
    blocks = [b for b in map(Block.of, g) if b is not None]
    if len(blocks) > 1:
        node = blocks[0].whole
        joined = _joined(_distinct(blocks), (0,) * len(node.shape), node.shape, node.dtype)
        if joined is not None:
            return _sum([joined, *[part for part in g if Block.of(part) is None]])
    return _sum(g)


def _sum(parts) -> Tensor:
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


class Block:
    """A part of an array, which is zero outside: where it starts, its shape, its values."""

    __slots__ = ("shape", "starts", "value", "whole")

    def __init__(self, starts: tuple, shape: tuple, value: Tensor, whole: Node):
        self.starts, self.shape, self.value, self.whole = starts, shape, value, whole

    @classmethod
    def of(cls, g: Tensor) -> Block | None:
        """What a slice's rule wrote into zeros."""
        node = g._node
        if node.op is not VIEW_SCATTER or node.value is not None or node.attrs[0] != "slice":
            return None
        base, source = node.inputs
        starts, steps, shape = node.attrs[1]
        if base.op is not CONST or base.attrs[0] != 0 or any(k != 1 for k in steps):
            return None
        return cls(starts, shape, _unheld(source), node)

    def end(self, dim: int) -> int:
        return self.starts[dim] + self.shape[dim]

    def cut(self, dim: int, places: list[int]) -> list[Block]:
        """Its parts between `places` along `dim`."""
        inside = [p for p in places if self.starts[dim] < p < self.end(dim)]
        ends = [self.starts[dim], *inside, self.end(dim)]
        return [self._part(dim, a, b) for a, b in pairwise(ends)] if inside else [self]

    def _part(self, dim: int, first: int, last: int) -> Block:
        starts, shape, at = list(self.starts), list(self.shape), [0] * len(self.shape)
        at[dim] = first - self.starts[dim]
        starts[dim], shape[dim] = first, last - first
        steps = (1,) * len(shape)
        value = record(SLICE, (self.value,), (tuple(at), steps, tuple(shape)))
        return Block(tuple(starts), tuple(shape), value, self.whole)


def _unheld(node: Node) -> Tensor:
    """A tensor of `node` that leaves the handle that the user may have on it alone."""
    holder = node.holder
    t = wrap(node)
    node.holder = holder
    return t


def _distinct(blocks: list[Block]) -> list[Block]:
    """Blocks at the same place added."""
    places: dict[tuple, list[Block]] = {}
    for b in blocks:
        places.setdefault((b.starts, b.shape), []).append(b)
    return [
        Block(starts, shape, _sum([b.value for b in same]), same[0].whole)
        for (starts, shape), same in places.items()
    ]


def _joined(blocks: list[Block], starts: tuple, shape: tuple, dtype) -> Tensor | None:
    """The array from `starts` on that the blocks in it make up; None if too many of them overlap."""
    if not blocks:
        return wrap(const(0, dtype, shape))
    if len(blocks) == 1 and blocks[0].starts == starts and blocks[0].shape == shape:
        return blocks[0].value
    for dim in range(len(shape)):
        sections = _sections(blocks, dim, starts[dim], starts[dim] + shape[dim])
        if len(sections) == 1:
            continue
        parts = []
        for start, end, inside in sections:
            at, size = list(starts), list(shape)
            at[dim], size[dim] = start, end - start
            part = _joined(inside, tuple(at), tuple(size), dtype)
            if part is None:
                return None
            parts.append(part)
        return record(CAT, tuple(parts), (dim,))
    if len(blocks) > MEETING:
        return None
    for dim in range(len(shape)):
        places = sorted({p for b in blocks for p in (b.starts[dim], b.end(dim))})
        pieces = [piece for b in blocks for piece in b.cut(dim, places)]
        if len(pieces) > len(blocks):
            return _joined(_distinct(pieces), starts, shape, dtype)
    return None


def _sections(blocks: list[Block], dim: int, start: int, end: int) -> list[tuple]:
    """``(start, end, blocks)`` of stretches along `dim` that no block reaches out of, gaps among them."""
    found: list[tuple] = []
    at = start
    for b in sorted(blocks, key=lambda b: b.starts[dim]):
        if found and found[-1][2] and b.starts[dim] < at:
            first, last, inside = found[-1]
            inside.append(b)
            at = max(last, b.end(dim))
            found[-1] = first, at, inside
            continue
        if b.starts[dim] > at:
            found.append((at, b.starts[dim], []))
        at = b.end(dim)
        found.append((b.starts[dim], at, [b]))
    if at < end:
        found.append((at, end, []))
    return found
