"""Loops and branches of the graph as loops and branches of the program.

A sub-graph is lowered inside the statement that runs it: its inputs are rows of arrays outside, carries
or values of the graph around, read element by element where they are needed; its results are copied to
where they belong, which costs nothing where the copy joins the loop that computes them.
"""

from __future__ import annotations

from ..graph import dtypes
from ..graph.node import Graph, Node
from ..graph.shapes import numel
from ..transform.loops import over_bound
from . import fuse, ir
from .ir import Axis, Buffer, Expr
from .nest import Nest, fresh
from .pull import Pull, axes_of, flat_index, index_of, read


def copy(element, buffer: Buffer, shape: tuple, offset: Expr | None = None, updates=False) -> Nest:
    """``buffer[offset + i] = element(i)`` over `shape`."""
    axes = axes_of(shape)
    index = index_of(axes)
    at = flat_index(index, shape)
    if offset is not None:
        at = offset + at
    store = ir.Store(buffer, at, element(index))
    return Nest(buffer, axes, len(axes), [store], store_at=at, updates=updates)


def outer(pull: Pull, node: Node, prefix: tuple = ()):
    """The elements of a node of the graph around, or of its row at `prefix`."""
    return lambda index: pull.element(node, (*prefix, *index))


def statements(nests: list[Nest]) -> list:
    return fuse.statements(fuse.fuse(nests))


def constant(number, dtype):
    return lambda index: ir.const(number, dtype)


def whole(statement, results: dict, before: list[Nest]) -> list[Nest]:
    """`before`, then the statement as a nest that writes the buffers of `results`."""
    buffers = list(results.values())
    return [*before, Nest(buffers[0], [], 0, [statement], also=tuple(buffers[1:]))]


class Carried:
    """The carries of a loop: buffers that are set before it and overwritten at the end of an iteration."""

    def __init__(self, lowering, pull: Pull, body: Graph, starts, results: dict, count: int):
        self.buffers: list[Buffer] = []
        self.starts: list[Nest] = []
        for k in range(count):
            node = body.inputs[k]
            buffer = results.get(k) or lowering.buffer(node.dtype, node.shape)
            self.buffers.append(buffer)
            self.starts.append(copy(outer(pull, starts[k]), buffer, node.shape))

    def given(self, graph: Graph) -> dict:
        pairs = zip(graph.inputs, self.buffers, strict=False)
        return {n: read(b, n.shape) for n, b in pairs}

    def history(self, inner: Pull, body: Graph, results: dict, row: Expr) -> list[Nest]:
        """The carries copied to row `row` of their histories (``{carry: buffer}``)."""
        nests = []
        for k, buffer in results.items():
            node = body.inputs[k]
            here = outer(inner, node)
            nests.append(copy(here, buffer, node.shape, row * numel(node.shape)))
        return nests

    def updates(self, inner: Pull, body: Graph) -> list[Nest]:
        """New values become the carries; those that stay as they are cost nothing."""
        nests = []
        for k, buffer in enumerate(self.buffers):
            if body.outputs[k] is not body.inputs[k]:
                here = outer(inner, body.outputs[k])
                nests.append(copy(here, buffer, body.inputs[k].shape, updates=True))
        return nests

    def written(self, lowering, body: Graph) -> dict[Node, Buffer]:
        """Buffers of the new values: all are known before any carry is overwritten."""
        return {
            n: lowering.buffer(n.dtype, n.shape)
            for k, n in enumerate(body.outputs[: len(self.buffers)])
            if n is not body.inputs[k]
        }


def scan_loop(lowering, pull: Pull, node: Node, results: dict[int, Buffer]) -> list[Nest]:
    body, c, xs, length, reverse, dynamic = node.attrs
    inputs = node.inputs[dynamic:]
    carried = Carried(lowering, pull, body, inputs, results, c)
    axis = Axis(length, "t")
    step = ir.var(axis) if length != 1 else ir.index(0)
    nests = list(carried.starts)
    stop, before = None, []
    if dynamic:
        name = fresh("stop")
        before = [ir.Let(name, pull.element(node.inputs[0], ()))]
        stop = ir.var(name)
    if reverse:
        step = (length if stop is None else stop) - 1 - step
    given = carried.given(body)
    for k, hole in enumerate(body.inputs[c:]):
        given[hole] = outer(pull, inputs[c + k], (step,) if k < xs else ())
    inner = Pull(given, pull.bounds)
    histories = {k - c: b for k, b in results.items() if c <= k < 2 * c}
    rows = {k - 2 * c: b for k, b in results.items() if k >= 2 * c}
    written = carried.written(lowering, body)
    for k in rows:
        out = body.outputs[c + k]
        written.setdefault(out, lowering.buffer(out.dtype, out.shape))
    parts = lowering.nests(body, inner, written)
    parts[:0] = carried.history(inner, body, histories, step)
    for k, buffer in rows.items():
        out = body.outputs[c + k]
        parts.append(copy(outer(inner, out), buffer, out.shape, step * numel(out.shape)))
        if dynamic:
            zero = constant(0, out.dtype)
            nests.append(copy(zero, buffer, (length, *out.shape)))
    parts += carried.updates(inner, body)
    loop = ir.For(axis, statements(parts), stop, serial=c > 0)
    return _grouped([*before, loop], carried, results, nests)


def _grouped(group: list, carried: Carried, results: dict, nests: list[Nest]) -> list[Nest]:
    """The statements of a loop as one nest that writes the carries and the other results."""
    buffers = list(dict.fromkeys([*carried.buffers, *results.values()]))
    return [*nests, Nest(buffers[0], [], 0, group, also=tuple(buffers[1:]))]


def while_loop(lowering, pull: Pull, node: Node, results: dict[int, Buffer]) -> list[Nest]:
    condition, body, c, bound, partial = node.attrs
    carried = Carried(lowering, pull, body, node.inputs, results, c)
    count = results.get(c) or lowering.buffer(dtypes.int64, ())
    holds = lowering.buffer(dtypes.bool_, ())
    at = ir.index(0)
    done = ir.load(count, at)

    def bind(graph: Graph) -> Pull:
        given = carried.given(graph)
        for k, hole in enumerate(graph.inputs[c:]):
            given[hole] = outer(pull, node.inputs[c + k])
        return Pull(given, pull.bounds)

    tested = bind(condition)
    test = lowering.nests(condition, tested, {condition.outputs[0]: holds})
    if condition.outputs[0] not in tested.stored:
        test.append(copy(outer(tested, condition.outputs[0]), holds, ()))
    inner = bind(body)
    parts = lowering.nests(body, inner, carried.written(lowering, body))
    histories = {k - c - 1: b for k, b in results.items() if k > c}
    parts[:0] = carried.history(inner, body, histories, done)
    parts += carried.updates(inner, body)
    step = Nest(count, [], 0, [ir.Store(count, at, done + 1)], updates=True)
    again = ir.load(holds, at)
    if bound:
        again = again & (done < bound)
    group = [ir.While(statements(test), again, statements([*parts, step]))]
    if bound and partial is not True:
        flag = lowering.checks.flag(lambda: over_bound(bound, partial))
        group.append(ir.Accum(flag, "or", ir.load(holds, at)))
    start = copy(constant(0, dtypes.int64), count, ())
    extra = {**results, -1: count, -2: holds}
    return _grouped(group, carried, extra, [*carried.starts, start])


def branch(lowering, pull: Pull, node: Node, results: dict[int, Buffer]) -> list[Nest]:
    (branches,) = node.attrs
    index, operands = node.inputs[0], node.inputs[1:]
    name = fresh("which")
    chosen = ir.var(name)
    group: list = []
    for k in reversed(range(len(branches))):
        graph = branches[k]
        given = {h: outer(pull, n) for h, n in zip(graph.inputs, operands, strict=True)}
        inner = Pull(given, pull.bounds)
        written = {graph.outputs[r]: None for r in results}
        written = {n: lowering.buffer(n.dtype, n.shape) for n in written}
        parts = lowering.nests(graph, inner, written)
        for r, buffer in results.items():
            out = graph.outputs[r]
            parts.append(copy(outer(inner, out), buffer, out.shape))
        body = statements(parts)
        group = body if k == len(branches) - 1 else [ir.If(chosen < k + 1, body, group)]
    group.insert(0, ir.Let(name, pull.element(index, ())))
    buffers = list(results.values())
    return [Nest(buffers[0], [], 0, group, also=tuple(buffers[1:]))]


CONTROL = {"loop": scan_loop, "while": while_loop, "branch": branch}
