"""A loop and the one that runs it backwards, in segments: what the second reads of the first is found again.

The first loop then keeps its carries at the start of each segment alone. The second one takes the segments
one after the other: it runs the first loop's iterations of a segment again, keeps what they leave, and goes
back through it. ``n`` iterations need memory of order ``sqrt(n)``, and one more forward pass (Griewank 1992).
``fg.scan(..., checkpoint=...)`` says so in the program; this is for programs that must meet a budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from ..graph.node import Graph, Node, placeholder
from ..ops.joining import cat
from ..tensor import Tensor, node_of, wrap
from .loops import SCAN, scan_loop
from .trace import close, intern, quiet

__all__ = ["in_segments"]

SHORTEST = 4  # iterations of a loop that is worth it


def in_segments(graph: Graph) -> tuple[Graph, dict[Node, Node], int] | None:
    """(`graph` with all its pairs of loops in segments, {output: what it is now}, values computed twice).

    None if it has no such pair.
    """
    pairs = {p.first: p for p in _pairs(graph)}
    if not pairs:
        return None
    seconds = {p.second: p for p in pairs.values()}
    made: dict[Node, Node] = {}
    with quiet():
        for n in graph.order:
            if n in made:
                continue
            if n in pairs:
                made.update(pairs[n].forwards(made))
                made[n] = n
            elif n in seconds:
                made.update(seconds[n].backwards(made))
                made[n] = n
            else:
                made[n] = _copied(n, made)
    outputs = tuple([made[n] for n in graph.outputs])
    changed = Graph(graph.inputs, outputs, graph.name)
    twice = sum(len(p.again) for p in pairs.values())
    return changed, dict(zip(graph.outputs, outputs, strict=True)), twice


def _copied(n: Node, made: dict) -> Node:
    inputs = tuple([made[s] for s in n.inputs])
    if all(a is b for a, b in zip(inputs, n.inputs, strict=True)):
        return n
    copy = Node(n.op, inputs, n.attrs, n.shape, n.dtype)
    copy.where, copy.mark = n.where, n.mark
    return copy


def _pairs(graph: Graph) -> Iterator[_Pair]:
    """Loops of fixed length of which another one, that runs the other way, alone reads some of the rows."""
    readers: dict[Node, list[Node]] = {}
    for n in graph.order:
        for s in n.inputs:
            readers.setdefault(s, []).append(n)
    outputs, taken = set(graph.outputs), set()
    for first in graph.order:
        if first.op is not SCAN or first in taken:
            continue
        results = {p.attrs[0]: p for p in readers[first]}
        second, again = _partner(_Loop.of(first), results, readers, outputs | taken)
        if second is not None:
            taken |= {first, second}
            ends = {p.attrs[0]: p for p in readers[second]}
            every = {*results.values(), *ends.values()} - outputs
            summed = {p for p in every if _is_summed(p, readers)}
            yield _Pair(first, second, results, ends, again, summed)


def _partner(a: _Loop, results: dict, readers: dict, but: set) -> tuple[Node | None, dict]:
    """(the loop that runs `a` backwards, {number: rows of `a` that only it reads}); None if there is none."""
    rows = {k: p for k, p in results.items() if k >= a.c and p not in but}
    if a.dynamic or a.length < SHORTEST:
        return None, {}
    for second in dict.fromkeys(r for p in rows.values() for r in readers.get(p, ())):
        if second.op is not SCAN or second in but:
            continue
        b = _Loop.of(second)
        if b.dynamic or b.length != a.length or b.reverse == a.reverse:
            continue
        others = {*b.carries, *b.fixed}
        again = {
            k: p for k, p in rows.items() if {*readers.get(p, ())} == {second} and p not in others
        }
        if again:
            return second, again
    return None, {}


def _is_summed(p: Node, readers: dict) -> bool:
    """Whether rows are only added up: the sums of segments do as well."""
    sums = all(r.op.name == "reduce_sum" and 0 in r.attrs[0] for r in readers.get(p, ()))
    return sums and p.dtype.is_floating_point


@dataclass
class _Loop:
    """What a ``SCAN`` node says."""

    body: Graph
    c: int
    length: int
    reverse: bool
    dynamic: bool
    carries: tuple
    rows: tuple
    fixed: tuple

    @classmethod
    def of(cls, node: Node) -> _Loop:
        body, c, xs, length, reverse, dynamic = node.attrs
        given = node.inputs[dynamic:]
        return cls(body, c, length, reverse, dynamic, given[:c], given[c : c + xs], given[c + xs :])

    def run(self, carries, rows, fixed, length: int) -> tuple:
        return scan_loop(self.body, carries, rows, fixed, length, reverse=self.reverse)


class _Pair:
    """Two loops; `results` and `ends` are {number of an output: its node} of either.

    again : those of `results` that are computed anew.
    summed : nodes of rows of which sums are enough.
    """

    def __init__(
        self, first: Node, second: Node, results: dict, ends: dict, again: dict, summed: set
    ):
        self.first, self.second, self.again = first, second, again
        self.a, self.b = _Loop.of(first), _Loop.of(second)
        self.ends, self.summed = ends, summed
        self.results = {k: p for k, p in results.items() if k not in again}
        self.inner = self._inner()
        self.whole, self.rest = divmod(self.a.length, self.inner)

    def _inner(self) -> int:
        """Iterations of a segment: of starts outside and rows inside together the least memory.

        A divisor of the length, if it takes little more: there is no rest to be joined with.
        """
        length = self.a.length
        starts = sum(_bytes(n.shape, n) for n in self.a.carries)
        rows = sum(_bytes(p.shape[1:], p) for p in self.again.values())

        def memory(inner: int) -> int:
            return length // inner * starts + (inner + length % inner) * rows

        least = min(range(2, length // 2 + 1), key=memory)
        divisors = [k for k in range(2, length // 2 + 1) if length % k == 0]
        even = min(divisors, key=memory, default=least)
        return even if memory(even) < 1.5 * memory(least) else least

    # -- the rows of both loops, cut --------------------------------------------------------------

    def blocks(self, t: Tensor) -> Tensor:
        """The rows of whole segments; the rest is what the first loop comes to last."""
        part = t
        if self.rest:
            part = t[self.rest :] if self.a.reverse else t[: self.whole * self.inner]
        return part.reshape(self.whole, self.inner, *t.shape[1:])

    def tail(self, t: Tensor) -> Tensor:
        return t[: self.rest] if self.a.reverse else t[self.whole * self.inner :]

    def left(self, rows: Tensor, p: Node) -> Tensor:
        """What a segment hands out of its rows of `p`."""
        return rows.sum(0) if p in self.summed else rows

    def joined(self, blocks: Tensor, tail: Tensor | None, p: Node) -> Tensor:
        """All rows of `p`, or the sums of each segment's."""
        if p in self.summed:
            flat = blocks
            tail = None if tail is None else tail.sum(0, keepdim=True)
        else:
            flat = blocks.reshape(self.whole * self.inner, *blocks.shape[2:])
        if tail is None:
            return flat
        return cat([tail, flat] if self.a.reverse else [flat, tail])

    # -- the loops --------------------------------------------------------------------------------

    def forwards(self, made: dict) -> dict[Node, Node]:
        """{output of the first loop: what it is now}."""
        a, c = self.a, self.a.c
        carries, rows, self.fixed = (_handles(ns, made) for ns in (a.carries, a.rows, a.fixed))
        self.a_blocks = [self.blocks(t) for t in rows]
        kept = [k for k in self.results if k >= c]

        def segment(state, blocks, fixed):
            found = a.run(state, blocks, fixed, self.inner)
            return [*found[:c], *[self.left(found[k], self.results[k]) for k in kept]]

        body = _closed(segment, carries, self.a_blocks, self.fixed)
        found = scan_loop(body, carries, self.a_blocks, self.fixed, self.whole, reverse=a.reverse)
        self.starts = found[c : 2 * c]
        last, self.rest_of_a = found[:c], None
        if self.rest:
            self.rest_of_a = a.run(last, [self.tail(t) for t in rows], self.fixed, self.rest)
            last = self.rest_of_a[:c]
        values = dict(enumerate(last))
        for k, t in zip(kept, found[2 * c :], strict=True):
            rest = self.rest_of_a[k] if self.rest else None
            values[k] = self.joined(t, rest, self.results[k])
        return {p: node_of(values[k]) for k, p in self.results.items()}

    def backwards(self, made: dict) -> dict[Node, Node]:
        """{output of the second loop: what it is now}."""
        a, b, c = self.a, self.b, self.b.c
        number = {p: k for k, p in self.again.items()}
        carries, fixed = _handles(b.carries, made), _handles(b.fixed, made)
        others = {n: wrap(made[n]) for n in b.rows if n not in number}
        last = carries
        rest = None
        if self.rest:
            rows = [
                self.rest_of_a[number[n]] if n in number else self.tail(others[n]) for n in b.rows
            ]
            rest = b.run(carries, rows, fixed, self.rest)
            last = rest[:c]
        kept = [k for k in self.ends if k >= c]
        counts = len(self.starts), len(self.a_blocks), len(self.fixed)

        def segment(state, rows, constants):
            starts, rows = rows[: counts[0]], rows[counts[0] :]
            again = a.run(starts, rows[: counts[1]], constants[: counts[2]], self.inner)
            given = dict(zip(others, rows[counts[1] :], strict=True))
            every = [again[number[n]] if n in number else given[n] for n in b.rows]
            found = b.run(state, every, constants[counts[2] :], self.inner)
            return [*found[:c], *[self.left(found[k], self.ends[k]) for k in kept]]

        rows = [*self.starts, *self.a_blocks, *[self.blocks(t) for t in others.values()]]
        constants = [*self.fixed, *fixed]
        body = _closed(segment, last, rows, constants)
        found = scan_loop(body, last, rows, constants, self.whole, reverse=b.reverse)
        values = dict(enumerate(found[:c]))
        for k, t in zip(kept, found[2 * c :], strict=True):
            values[k] = self.joined(t, None if rest is None else rest[k], self.ends[k])
        return {p: node_of(values[k]) for k, p in self.ends.items()}


def _handles(nodes, made: dict) -> list[Tensor]:
    return [wrap(made[n]) for n in nodes]


def _closed(segment, carries, rows, fixed) -> Graph:
    """The body of a loop over segments."""
    like = [(node_of(t).shape, t) for t in carries]
    like += [(node_of(t).shape[1:], t) for t in rows]
    like += [(node_of(t).shape, t) for t in fixed]
    state = [placeholder(k, shape, node_of(t).dtype) for k, (shape, t) in enumerate(like)]
    handles = [wrap(n) for n in state]
    c, x = len(carries), len(carries) + len(rows)
    results = segment(handles[:c], handles[c:x], handles[x:])
    return intern(close(state, [node_of(t) for t in results])[0])


def _bytes(shape, node: Node) -> int:
    return prod(shape) * node.dtype.itemsize
