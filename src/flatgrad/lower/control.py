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
from .contract import contraction
from .indexed import scatter
from .ir import Axis, Buffer, Expr
from .nest import Nest, fresh, written_view
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


# Nodes that are their first input with something written into it.
WRITES = {"scatter": scatter, "slice_scatter": written_view, "view_scatter": written_view}


def in_place(body: Graph, carries, written: dict) -> dict[int, list[Node]]:
    """{carry: the nodes that change it in place}: writes into it in turn, or a product to be added."""
    reading: dict[Node, list[Node]] = {}
    for node in body.order:
        for s in node.inputs:
            reading.setdefault(s, []).append(node)
    outputs = list(body.outputs)
    found = {}
    for k in carries:
        start, end = body.inputs[k], body.outputs[k]
        if end in written or outputs.count(end) > 1 or start in outputs:
            continue
        chain = _added(start, end, reading) or _written(start, end, reading)
        if chain and not any(n in outputs for n in chain if n is not end):
            found[k] = chain
    return found


def _added(start: Node, end: Node, reading: dict) -> list[Node]:
    """[sum, contraction] if `end` is ``start + contraction``, of which nobody else knows."""
    if end.op.name != "add" or start not in end.inputs or not end.dtype.is_floating_point:
        return []
    other = end.inputs[1] if end.inputs[0] is start else end.inputs[0]
    alone = reading.get(other) == [end]
    same = other.shape == end.shape and other is not start
    return [end, other] if alone and same and other.op.kind == "contraction" else []


def _written(start: Node, end: Node, reading: dict) -> list[Node]:
    """The writes that lead from `start` to `end`, each read by the next alone."""
    chain = []
    node = end
    while node is not start:
        if node.op.kind not in WRITES or (node is not end and reading[node] != [chain[0]]):
            return []
        chain.insert(0, node)
        node = node.inputs[0]
    return chain


def operands(chain: list[Node]) -> list[Node]:
    """What the nodes of a chain read besides the carry."""
    if chain[0].op.name == "add":
        return list(chain[1].inputs)
    return [s for n in chain for s in n.inputs[1:]]


def depending(body: Graph, sources) -> set[Node]:
    """The nodes of `body` that need one of `sources`, these included."""
    found = set(sources)
    for node in body.order:
        if not found.isdisjoint(node.inputs):
            found.add(node)
    return found


def write_in_place(inner: Pull, chain: list[Node], buffer: Buffer) -> list[Nest]:
    """The nests that change a carry's buffer."""
    if chain[0].op.name == "add":
        nests = contraction(inner, chain[1], buffer, accumulate=True)
    else:
        inner.stored.update((n, buffer) for n in chain)
        # The first nests of each copy the base, which is there already; the last one writes.
        nests = [WRITES[n.op.kind](inner, n, buffer)[-1] for n in chain]
    for nest in nests:
        nest.updates = True
    return nests


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

    def changing(self, body: Graph) -> list[int]:
        """The carries that an iteration changes."""
        return [k for k in range(len(self.buffers)) if body.outputs[k] is not body.inputs[k]]

    def lower(self, lowering, inner: Pull, body: Graph, written: dict[Node, Buffer]) -> tuple:
        """(nests of the body, nests that overwrite the carries).

        New values have buffers of their own, since all must be known before any carry is overwritten;
        a carry to which something is added, or into which something is written, is changed in place.
        """
        direct = in_place(body, self.changing(body), written)
        for k in self.changing(body):
            n = body.outputs[k]
            if k not in direct:
                written.setdefault(n, lowering.buffer(n.dtype, n.shape))
        skip = {n for chain in direct.values() for n in chain}
        early = depending(body, [body.inputs[k] for k in self.changing(body)])
        for n in (n for chain in direct.values() for n in operands(chain)):
            if n in early:  # to be read while carries are being overwritten: in memory before that
                written.setdefault(n, lowering.buffer(n.dtype, n.shape))
        parts = lowering.nests(body, inner, written, skip)
        updates = []
        for k in self.changing(body):
            if k in direct:
                made = write_in_place(inner, direct[k], self.buffers[k])
                lowering.checks.attach(inner, made)
            else:
                here = outer(inner, body.outputs[k])
                made = [copy(here, self.buffers[k], body.inputs[k].shape, updates=True)]
            updates += made
        return parts, updates


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
    first: list[Nest] = []
    inner.constants = {
        hole: (pull, inputs[c + xs + k], first) for k, hole in enumerate(body.inputs[c + xs :])
    }
    histories = {k - c: b for k, b in results.items() if c <= k < 2 * c}
    rows = {k - 2 * c: b for k, b in results.items() if k >= 2 * c}
    written = row_values(lowering, body, c, rows)
    past = carried.history(inner, body, histories, step)
    parts, updates = carried.lower(lowering, inner, body, written)
    parts[:0] = past
    parts += stacked_rows(inner, body, c, rows, step)
    parts += updates
    if dynamic:  # rows that the loop does not come to
        for k, buffer in rows.items():
            out = body.outputs[c + k]
            nests.append(copy(constant(0, out.dtype), buffer, (length, *out.shape)))
    loop = ir.For(axis, statements(parts), stop, serial=c > 0)
    return _grouped([*before, loop], carried, results, [*first, *nests])


def row_values(lowering, body: Graph, carries: int, rows: dict) -> dict[Node, Buffer]:
    """Buffers for the values that become rows of the ys that are read."""
    outs = [body.outputs[carries + k] for k in rows]
    return {n: lowering.buffer(n.dtype, n.shape) for n in dict.fromkeys(outs)}


def stacked_rows(inner: Pull, body: Graph, carries: int, rows: dict, step: Expr) -> list[Nest]:
    """These values copied to row `step` of their stacks (``{position: buffer}``)."""
    nests = []
    for k, buffer in rows.items():
        out = body.outputs[carries + k]
        nests.append(copy(outer(inner, out), buffer, out.shape, step * numel(out.shape)))
    return nests


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
    histories = {k - c - 1: b for k, b in results.items() if c < k <= 2 * c}
    rows = {k - 2 * c - 1: b for k, b in results.items() if k > 2 * c}
    past = carried.history(inner, body, histories, done)
    written = row_values(lowering, body, c, rows)
    parts, updates = carried.lower(lowering, inner, body, written)
    parts[:0] = past
    parts += stacked_rows(inner, body, c, rows, done)
    parts += updates
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
