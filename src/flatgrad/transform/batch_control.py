"""Batching of loops and branches: the rules of ``SCAN``, ``WHILE`` and ``COND`` for ``batch``.

A loop stays one loop, whose carries hold all items. Where the items end at different times, those that
are done keep their carry while the others go on.
"""

from __future__ import annotations

from ..graph import dtypes
from ..graph.node import Graph, Node, placeholder
from ..graph.op import op_named
from ..ops.creation import iota
from ..ops.declare import cast
from ..ops.movement import reshape
from ..ops.selection import select
from ..ops.views import movedim
from ..tensor import Tensor, node_of, record, wrap
from .batch import Batched, batched, everywhere, shape_of
from .branch import branch
from .call import call, derived
from .loops import scan_loop, while_loop, zeros_like
from .trace import close, intern, quiet

__all__ = ["CONTROL"]


def rows_first(t: Tensor) -> Tensor:
    """``(items, length, ...)`` as ``(length, items, ...)``, and back."""
    return movedim(t, 0, 1)


def carry_flags(body: Graph, carries: int, flags: tuple, size: int) -> tuple:
    """Which inputs of a loop's body are batched: the carries that come to differ as well."""
    while True:
        out = batched(body, flags, size).flags[:carries]
        new = tuple([a or b for a, b in zip(flags[:carries], out, strict=True)]) + flags[carries:]
        if new == flags:
            return flags
        flags = new


def chosen(active: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` for the items that are active, `old` for the others."""
    rank = len(shape_of(new))
    return select(reshape(active, (shape_of(active)[0], *(1,) * (rank - 1))), new, old)


class Items:
    """A loop's body for all items, recorded: its carries are flagged as they go in."""

    def __init__(self, body: Graph, carries: int, flags: tuple, size: int):
        self.flags = carry_flags(body, carries, flags, size)
        self.inner: Batched = batched(body, self.flags, size)
        self.carries, self.size = carries, size
        self.inputs = [
            placeholder(-1, (size, *n.shape) if f else n.shape, n.dtype)
            for n, f in zip(body.inputs, self.flags, strict=True)
        ]
        given = [wrap(n) for n in self.inputs]
        outs = call(self.inner.graph, [*given, *self.inner.extra])
        self.outs = [
            everywhere(t, have, size) if k < carries and self.flags[k] else t
            for k, (t, have) in enumerate(zip(outs, self.inner.flags, strict=True))
        ]


def _closed(inputs: list[Node], outs) -> tuple[Graph, list[Tensor]]:
    graph, captured = close(inputs, [node_of(t) for t in outs])
    return intern(graph), [wrap(n) for n in captured]


# -- SCAN -----------------------------------------------------------------------------------------


def _scan(node, values, flags, size):
    body, c, xs, length, reverse, dynamic = node.attrs
    if dynamic and flags[0]:
        return _scan_of_different_lengths(node, values, flags, size)
    stop, values, flags = values[:dynamic], values[dynamic:], tuple(flags[dynamic:])
    graph, extra, inner, ins = derived(body, _scan_body, c, flags, size)
    rows = [
        rows_first(t) if f else t
        for t, f in zip(values[c : c + xs], flags[c : c + xs], strict=True)
    ]
    starts = [
        everywhere(t, f, size) if g else t
        for t, f, g in zip(values[:c], flags[:c], ins[:c], strict=True)
    ]
    found = scan_loop(
        graph,
        starts,
        rows,
        [*values[c + xs :], *extra],
        length,
        reverse=reverse,
        stop=stop[0] if stop else None,
    )
    return _scan_results(found, c, ins, inner)


def _scan_body(body: Graph, c: int, flags: tuple, size: int):
    with quiet():
        items = Items(body, c, flags, size)
        graph, extra = _closed(items.inputs, items.outs)
    return graph, extra, items.inner.flags, items.flags


def _scan_results(found, c: int, ins: tuple, inner: tuple):
    """Outputs with the items in front."""
    last, past, ys = found[:c], found[c : 2 * c], found[2 * c :]
    outs = [
        *last,
        *[rows_first(t) if f else t for t, f in zip(past, ins[:c], strict=True)],
        *[rows_first(t) if f else t for t, f in zip(ys, inner[c:], strict=True)],
    ]
    return tuple(outs), (*ins[:c], *ins[:c], *inner[c:])


def _scan_of_different_lengths(node, values, flags, size):
    """Each item has its own number of iterations: row `t` is of the items that have more than `t`."""
    body, c, xs, length, reverse, _ = node.attrs
    stop, values, flags = values[0], values[1:], tuple(flags[1:])
    graph, extra, outs = derived(body, _masked_body, c, xs, flags, size)
    rows = [
        rows_first(t) if f else t
        for t, f in zip(values[c : c + xs], flags[c : c + xs], strict=True)
    ]
    starts = [everywhere(t, f, size) for t, f in zip(values[:c], flags[:c], strict=True)]
    found = scan_loop(
        graph,
        starts,
        [*rows, iota((length,), 0)],
        [stop, *values[c + xs :], *extra],
        length,
        reverse=reverse,
        stop=record(op_named("reduce_max"), (stop,), ((0,),)),
    )
    return _scan_results(found, c, (True,) * c, (True,) * (c + outs))


def _masked_body(body: Graph, c: int, xs: int, flags: tuple, size: int):
    with quiet():
        items = Items(body, c, (*(True,) * c, *flags[c:]), size)
        at = placeholder(-1, (), dtypes.int64)
        stop = placeholder(-1, (size,), dtypes.int64)
        active = wrap(at) < wrap(stop)
        outs = [
            chosen(active, new, wrap(old))
            for new, old in zip(items.outs[:c], items.inputs[:c], strict=True)
        ]
        for t, f in zip(items.outs[c:], items.inner.flags[c:], strict=True):
            whole = everywhere(t, f, size)
            outs.append(chosen(active, whole, zeros_like(whole)))
        inputs = [*items.inputs[: c + xs], at, stop, *items.inputs[c + xs :]]
        graph, extra = _closed(inputs, outs)
    return graph, extra, len(outs) - c


# -- WHILE ----------------------------------------------------------------------------------------


def _while(node, values, flags, size):
    condition, body, c, bound, partial = node.attrs
    flags = tuple(flags)
    ins = carry_flags(body, c, flags, size)
    if batched(condition, ins, size).flags[0]:
        return _while_of_different_lengths(node, values, flags, size)
    graph, test, extra = derived(body, _while_body, condition, c, ins, size)
    starts = [
        everywhere(t, f, size) if g else t
        for t, f, g in zip(values[:c], flags[:c], ins[:c], strict=True)
    ]
    found = while_loop(test, graph, starts, [*values[c:], *extra], bound=bound, partial=partial)
    past = [rows_first(t) if f else t for t, f in zip(found[c + 1 :], ins[:c], strict=False)]
    outs = (*found[: c + 1], *past)
    return outs, (*ins[:c], False, *(ins[:c] if bound else ()))


def _while_body(body: Graph, condition: Graph, c: int, flags: tuple, size: int):
    """(body, condition, extra constants) of a loop whose items end together."""
    with quiet():
        items = Items(body, c, flags, size)
        inner = batched(condition, items.flags, size)
        (holds,) = call(inner.graph, [*[wrap(n) for n in items.inputs], *inner.extra])
        return _over_one_state(items.inputs, items.outs, holds)


def _over_one_state(inputs, outs, holds: Tensor):
    """A body and a condition over the same inputs, with all that either captured."""
    both, captured = close(inputs, [*[node_of(t) for t in outs], node_of(holds)])
    graph = intern(Graph(both.inputs, both.outputs[:-1]))
    test = intern(Graph(both.inputs, both.outputs[-1:]))
    return graph, test, [wrap(n) for n in captured]


def _while_of_different_lengths(node, values, flags, size):
    condition, body, c, bound, partial = node.attrs
    graph, test, extra = derived(body, _counting_body, condition, c, flags, size)
    starts = [everywhere(t, f, size) for t, f in zip(values[:c], flags[:c], strict=True)]
    zero = zeros_like(iota((size,), 0))
    found = while_loop(
        test, graph, [*starts, zero], [*values[c:], *extra], bound=bound, partial=partial
    )
    past = [rows_first(t) for t in found[c + 2 : 2 * c + 2]]
    outs = (*found[: c + 1], *past)
    return outs, (True,) * len(outs)


def _counting_body(body: Graph, condition: Graph, c: int, flags: tuple, size: int):
    """(body, condition, extra) of a loop that goes on while any item does, and counts for each."""
    with quiet():
        items = Items(body, c, (*(True,) * c, *flags[c:]), size)
        inner = batched(condition, items.flags, size)
        (active,) = call(inner.graph, [*[wrap(n) for n in items.inputs], *inner.extra])
        count = placeholder(-1, (size,), dtypes.int64)
        outs = [
            chosen(active, new, wrap(old))
            for new, old in zip(items.outs, items.inputs[:c], strict=True)
        ]
        outs.append(wrap(count) + cast(active, dtypes.int64))
        inputs = [*items.inputs[:c], count, *items.inputs[c:]]
        return _over_one_state(inputs, outs, record(op_named("reduce_any"), (active,), ((0,),)))


# -- COND -----------------------------------------------------------------------------------------


def _branch(node, values, flags, size):
    (branches,) = node.attrs
    index, operands = values[0], values[1:]
    inner = [batched(b, tuple(flags[1:]), size) for b in branches]
    if flags[0]:
        return _every_branch(inner, index, operands, size)
    outs = tuple([any(b.flags[k] for b in inner) for k in range(len(inner[0].flags))])
    extra = {node_of(t): t for b in inner for t in b.extra}
    graphs = []
    for b in inner:
        with quiet():
            given = [placeholder(-1, shape_of(t), node_of(t).dtype) for t in operands]
            more = {n: placeholder(-1, n.shape, n.dtype) for n in extra}
            found = call(b.graph, [wrap(n) for n in (*given, *[more[node_of(t)] for t in b.extra])])
            found = [
                everywhere(t, have, size) if want else t
                for t, have, want in zip(found, b.flags, outs, strict=True)
            ]
            inputs = [*given, *more.values()]
            graph, captured = close(inputs, [node_of(t) for t in found])
            assert not captured
            graphs.append(intern(graph))
    return branch(tuple(graphs), index, [*operands, *extra.values()]), outs


def _every_branch(inner: list[Batched], index: Tensor, operands, size: int):
    """Items choose different branches: all run, and each item takes what its own gave."""
    results = []
    for b in inner:
        outs = call(b.graph, [*operands, *b.extra])
        results.append([everywhere(t, f, size) for t, f in zip(outs, b.flags, strict=True)])
    found = results[-1]
    for k in reversed(range(len(inner) - 1)):
        found = [
            chosen(index < k + 1, new, old) for new, old in zip(results[k], found, strict=True)
        ]
    return tuple(found), (True,) * len(found)


CONTROL = {"loop": _scan, "while": _while, "branch": _branch}
