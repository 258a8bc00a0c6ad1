"""Sorting, searching and linear recurrences as loops along one dimension.

The sort is stable and without recursion: runs of a few elements by counting how many come before each, which
is vectorised, then merges from the bottom up. NaN is greatest.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from ..graph import dtypes
from ..graph.node import Node
from ..graph.shapes import row_major_strides
from . import ir
from .factor import Variable, loop, named, worked
from .ir import Expr
from .nest import Nest
from .pull import flat_index

__all__ = ["ORDERS", "is_short"]

INT = dtypes.int64

# Longer lines are NumPy's to sort (measured: its radix and vectorised sorts are ahead by 1.4 to 3 times).
LONG = 4096

# Elements of a run that is sorted by counting.
RUN = 16


def is_short(node: Node) -> bool:
    """Whether a library node has loops here."""
    if node.op.name == "sort":
        return node.inputs[0].shape[node.attrs[0]] <= LONG
    return node.op.name in ORDERS


def lines(shape: tuple, dim: int, body: Callable) -> list:
    """Statements for every line along `dim`; ``body(place)``, ``place(k)`` being the index of element `k`."""
    others = [n for d, n in enumerate(shape) if d != dim]
    count = prod(others)

    def of(flat: Expr) -> list:
        index = [
            flat // stride % n if n > 1 else ir.index(0)
            for n, stride in zip(others, row_major_strides(others), strict=True)
        ]

        def place(k) -> tuple:
            k = k if isinstance(k, Expr) else ir.index(k)
            return (*index[:dim], k, *index[dim:])

        return body(place)

    if not count or not shape[dim]:
        return []
    return of(ir.index(0)) if count == 1 else [loop(count, of)]


def less(a: Expr, b: Expr) -> Expr:
    """``a < b``, NaN being greatest."""
    if not a.dtype.is_floating_point:
        return _below(a, b)
    return (a < b) | (b.ne(b) & a.eq(a))


def _below(a: Expr, b: Expr) -> Expr:
    if a.dtype.category == dtypes.BOOL:
        return ~a & b
    return a < b


def clipped(i: Expr, n: int) -> Expr:
    return ir.binary("min", i, ir.index(n - 1))


# -- sort -----------------------------------------------------------------------------------------


def sort(lowering, pull, node: Node, results: dict) -> list[Nest]:
    (x,), (dim, descending, _stable) = node.inputs, node.attrs
    n, shape = x.shape[dim], x.shape
    keys = [lowering.buffer(x.dtype, (max(n, 1),)) for _ in range(2)]
    places = [lowering.buffer(INT, (max(n, 1),)) for _ in range(2)]

    def line(place) -> list:
        def begin(k: Expr) -> list:
            key = pull.element(x, place(k))
            return [ir.Store(keys[0], k, key), ir.Store(places[0], k, k)]

        out, now, width = [loop(n, begin), counted(keys, places, n, descending)], 1, RUN
        while width < n:
            out.append(merged(keys, places, now, width, n, descending))
            now, width = 1 - now, 2 * width

        def end(k: Expr) -> list:
            at = flat_index(place(k), shape)
            values = {0: ir.load(keys[now], k), 1: ir.load(places[now], k)}
            return [ir.Store(buffer, at, values[which]) for which, buffer in results.items()]

        return [*out, loop(n, end)]

    first, *rest = results.values()
    return [worked(first, lines(shape, dim, line), (*rest, *keys, *places))]


def counted(keys: list, places: list, n: int, descending: bool) -> ir.For:
    """Runs of the first buffers in order in the second ones: each element goes to where its rank is."""

    def run(block: Expr) -> list:
        low = block * RUN
        count = ir.binary("min", n - low, ir.index(RUN)) if n % RUN else None

        def element(i: Expr) -> list:
            let, key = named(ir.load(keys[0], low + i))
            rank = Variable(INT)

            def other(j: Expr) -> list:
                x = ir.load(keys[0], low + j)
                before, after = less(x, key), less(key, x)
                if descending:
                    before, after = after, before
                return [rank.add(ir.cast(before | (~after & (j < i)), INT))]

            to = low + rank.value
            return [
                let,
                rank.set(0),
                loop(min(n, RUN), other, count),
                ir.Store(keys[1], to, key),
                ir.Store(places[1], to, low + i),
            ]

        return [loop(min(n, RUN), element, count)]

    return loop(-(-n // RUN), run)


def merged(keys: list, places: list, now: int, width: int, n: int, descending: bool) -> ir.For:
    """Neighbouring runs of `width` elements, merged from buffers number `now` into the others."""

    def pair(block: Expr) -> list:
        low = block * (2 * width)
        middle, high = (ir.binary("min", low + k * width, ir.index(n)) for k in (1, 2))
        i, j = Variable(INT), Variable(INT)

        def take(t: Expr) -> list:
            (one, a), (two, b) = (named(ir.load(keys[now], clipped(v.value, n))) for v in (i, j))
            before = less(a, b) if descending else less(b, a)  # the right one strictly first
            let, left = named((i.value < middle) & ((j.value >= high) | ~before))
            let_from, source = named(ir.where(left, i.value, j.value))
            return [
                one,
                two,
                let,
                let_from,
                ir.Store(keys[1 - now], low + t, ir.where(left, a, b)),
                ir.Store(places[1 - now], low + t, ir.load(places[now], clipped(source, n))),
                i.set(ir.where(left, i.value + 1, i.value)),
                j.set(ir.where(left, j.value, j.value + 1)),
            ]

        return [i.set(low), j.set(middle), loop(2 * width, take, high - low)]

    return loop(-(-n // (2 * width)), pair)


# -- search ---------------------------------------------------------------------------------------


def search(lowering, pull, node: Node, results: dict) -> list[Nest]:
    """Where each value would be inserted into the sorted last dimension: by bisection."""
    row, values = node.inputs
    (right,) = node.attrs
    n, buffer = row.shape[-1], results[None]
    shape = values.shape

    def one(flat: Expr) -> list:
        index = [flat // s % m for m, s in zip(shape, row_major_strides(shape), strict=True)]
        lead = index[:-1] if len(row.shape) > 1 else []
        low, high = Variable(INT), Variable(INT)

        def halve(_: Expr) -> list:
            let_middle, middle = named((low.value + high.value) // 2)
            x, v = pull.element(row, (*lead, clipped(middle, n))), pull.element(values, index)
            above = ~less(v, x) if right else less(x, v)
            let_open, is_open = named(low.value < high.value)
            let_up, up = named(is_open & above)
            return [
                let_middle,
                let_open,
                let_up,
                low.set(ir.where(up, middle + 1, low.value)),
                high.set(ir.where(is_open & ~up, middle, high.value)),
            ]

        steps = [loop(n.bit_length(), halve)] if n else []
        return [low.set(0), high.set(n), *steps, ir.Store(buffer, flat, low.value)]

    return [Nest(buffer, [], 0, [loop(prod(shape), one)])]


# -- along a line ---------------------------------------------------------------------------------


def running_index(better: Callable):
    """Where the extreme so far stands: the latest of equals, NaN wins."""

    def nests(lowering, pull, node: Node, results: dict) -> list[Nest]:
        (x,), (dim,), buffer = node.inputs, node.attrs, results[None]

        def line(place) -> list:
            best, at = Variable(x.dtype), Variable(INT)

            def step(k: Expr) -> list:
                let, v = named(pull.element(x, place(k)))
                take = ~better(best.value, v)
                if x.dtype.is_floating_point:
                    take = (take & best.value.eq(best.value)) | v.ne(v)
                let_take, take = named(take)
                return [
                    let,
                    let_take,
                    best.set(ir.where(take, v, best.value)),
                    at.set(ir.where(take, k, at.value)),
                    ir.Store(buffer, flat_index(place(k), x.shape), at.value),
                ]

            start = best.set(pull.element(x, place(0)))
            return [start, at.set(0), loop(x.shape[dim], step)]

        return [Nest(buffer, [], 0, lines(x.shape, dim, line))]

    return nests


def recurrence(lowering, pull, node: Node, results: dict) -> list[Nest]:
    """s[k] = a[k] s[k-1] + b[k] along a dimension, from its end if it is reversed."""
    (a, b), (dim, reverse), buffer = node.inputs, node.attrs, results[None]
    n, shape = b.shape[dim], b.shape

    def line(place) -> list:
        state = Variable(b.dtype)

        def step(t: Expr) -> list:
            at = place(n - 2 - t if reverse else t + 1)
            value = pull.element(a, at) * state.value + pull.element(b, at)
            return [state.set(value), store(at)]

        def store(at):
            return ir.Store(buffer, flat_index(at, shape), state.value)

        first = place(n - 1 if reverse else 0)
        return [state.set(pull.element(b, first)), store(first), loop(n - 1, step)]

    return [Nest(buffer, [], 0, lines(shape, dim, line))]


ORDERS: dict[str, Callable[..., list[Nest]]] = {
    "sort": sort,
    "searchsorted": search,
    "cummax_index": running_index(lambda best, v: _below(v, best)),
    "cummin_index": running_index(lambda best, v: _below(best, v)),
    "recurrence": recurrence,
}
