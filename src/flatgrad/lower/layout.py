"""How operands of register tiles lie in memory: as they are, or copied into an order that tiles like better.

A copy costs a step or two an element and is worth it where the alternative reads memory across, or sums
along vectors; ``cheapest`` counts both. Copies belong to the graph being lowered (``Pull.copies``): another
contraction that wants the same one reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..graph.node import Node
from ..graph.shapes import numel, row_major_strides
from . import ir
from .index import axes_in, linear
from .ir import Axis, Buffer
from .machine import present
from .nest import Nest, fresh, substitute_statement
from .pull import Pull, axes_of, index_of
from .tile import Problem, best

# Steps (see ``tile``) for an element of a copy, and of one that turns the order of dimensions.
ALONG, ACROSS = 0.25, 2.5

# What the steps of a copy that is made before a loop count for one iteration.
ONCE = 0.1

# Elements that a loop over the innermost dimension copies before it goes on in another one, where they lie
# far apart: as many lines of memory are walked side by side, and stay in the cache.
BLOCK = 16


@dataclass
class Layout:
    """A way to have an operand in memory: its strides, the steps that it costs, and how it comes there."""

    strides: list
    cost: float
    place: Callable[
        [list], tuple
    ]  # of the list of nests, which may grow; (buffer, index of element 0)


def as_it_is(pull: Pull, node: Node) -> Layout:
    """Where a node's elements lie, if their indices are affine; else a copy."""
    axes = [Axis(max(n, 1), "i") for n in node.shape]
    element = pull.element(node, [ir.var(a) for a in axes])
    if element.kind == "load":
        strides = affine(element, axes)
        if strides is not None:
            start = element.args[0]
            for axis, stride in zip(axes, strides, strict=True):
                start = start - ir.var(axis) * stride
            return Layout(strides, 0.0, lambda nests: (element.arg, start))
    return copied(pull, node)


def affine(element, axes) -> list | None:
    """The strides of a load along `axes`, or None if its index is not a sum of theirs and of others'."""
    terms, _ = linear(element.args[0])
    own = set(axes)
    for atom in terms:
        if not (atom.kind == "var" and atom.arg in own) and not own.isdisjoint(axes_in(atom)):
            return None
    return [terms.get(ir.var(a), 0) for a in axes]


def copied(pull: Pull, node: Node, low=None, high=None, last: int | None = None) -> Layout:
    """A copy with zeros around (`low`, `high`: how many), dimension `last` innermost if that is given.

    Of what a loop around does not change, it is made once, before the loop.
    """
    if node in pull.constants:
        around, outside, before = pull.constants[node]
        found = copied(around, outside, low, high, last)
        return Layout(found.strides, found.cost * ONCE, lambda nests: found.place(before))
    rank = len(node.shape)
    low, high = tuple(low or (0,) * rank), tuple(high or (0,) * rank)
    shape = tuple(n + i + j for n, i, j in zip(node.shape, low, high, strict=True))
    order = [k for k in range(rank) if k != last] + ([] if last is None else [last])
    strides = [0] * rank
    for k, stride in zip(order, row_major_strides([shape[k] for k in order]), strict=True):
        strides[k] = stride
    key = (node, low, high, last)

    def place(nests: list) -> tuple:
        copy = pull.copies.get(key)
        if copy is None:
            copy = pull.copies[key] = Buffer(
                fresh("copy"), node.dtype, numel(shape), "arena", shape
            )
            nests.append(_copy_nest(pull, node, copy, strides, low))
        return copy, ir.index(0)

    each = ALONG if last is None else ACROSS
    return Layout(strides, 0.0 if key in pull.copies else numel(shape) * each, place)


def _copy_nest(pull: Pull, node: Node, copy: Buffer, strides, low) -> Nest:
    """Zeros, then the source inside them, one item of the first dimension after the other."""
    axes = axes_of(node.shape)
    order = sorted(range(len(axes)), key=lambda k: -strides[k])
    whole = order[:1] == [0] and low[0] == 0 and copy.shape[0] == node.shape[0]
    outer = [axes[0]] if whole else []  # a loop that others may join

    def loops(chosen, start, value) -> list:
        at = start
        for k, axis in enumerate(chosen):
            at = at + ir.var(axis) * strides[k]
        body = [ir.Store(copy, at, value)]
        last = chosen[order[-1]]
        if across and last.extent > BLOCK and last.extent % BLOCK == 0:
            block, lane = Axis(last.extent // BLOCK, last.name), Axis(BLOCK, last.name)
            split = {ir.var(last): ir.var(block) * BLOCK + ir.var(lane)}
            body = [ir.For(lane, [substitute_statement(s, split) for s in body])]
            for k in reversed(order[:-1]):
                if chosen[k].extent != 1 and chosen[k] not in outer:
                    body = [ir.For(chosen[k], body)]
            return [_without_single(s, chosen) for s in [ir.For(block, body)]]
        for k in reversed(order):
            if chosen[k].extent != 1 and chosen[k] not in outer:
                body = [ir.For(chosen[k], body)]
        return [_without_single(s, chosen) for s in body]

    offset = ir.index(sum(n * s for n, s in zip(low, strides, strict=True)))
    value = pull.element(node, index_of(axes))
    read = affine(value, axes) if value.kind == "load" else None
    across = read is not None and read[order[-1]] != 1
    body = loops(axes, offset, value)
    if copy.shape != node.shape:
        around = [Axis(n, "i") if k or not outer else axes[0] for k, n in enumerate(copy.shape)]
        body = loops(around, ir.index(0), ir.const(0, node.dtype)) + body
    each = copy.size // max(copy.shape[0], 1) if outer else copy.size
    at = ir.var(Axis(max(each, 1), "i"))
    if outer:
        at = at + index_of(outer)[0] * strides[0]
    return Nest(copy, outer, len(outer), body, store_at=at)


def _without_single(statement, axes):
    """Loops of one iteration are none: their index is 0."""
    zero = {ir.var(a): ir.index(0) for a in axes if a.extent == 1}
    return substitute_statement(statement, zero) if zero else statement


def cheapest(problem_of, first: list[Layout], second: list[Layout], nests: list) -> Problem:
    """The problem whose operands are laid out in the way that costs least, copies included.

    ``problem_of(strides of a, strides of b, place of a, place of b)`` makes it; places may be left out.
    """
    machine = present()

    def cost(pair):
        a, b = pair
        problem = problem_of(a.strides, b.strides)
        if any(d.extent == 0 for d in (*problem.out, *problem.inner)):
            return 0.0
        return a.cost + b.cost + best(problem, machine).cost

    pairs = [(a, b) for a in first for b in second]
    a, b = min(pairs, key=cost) if len(pairs) > 1 else pairs[0]
    return problem_of(a.strides, b.strides, a.place(nests), b.place(nests))
