"""``lower``: a simplified graph in, a loop program out."""

from __future__ import annotations

from ..errors import CompileError, IndexingError
from ..graph import dtypes
from ..graph.node import PROJ, Graph, Node
from ..graph.shapes import numel
from . import fuse, ir, passes
from .control import CONTROL
from .decide import decide
from .factor import FACTORS, is_small
from .factor_qr import QR, is_small_qr
from .index import axes_in
from .ir import Buffer
from .machine import Machine, lowering_for
from .nest import NESTS, Nest, pointwise, restart_names
from .order import ORDERS, is_short
from .plan import plan
from .pull import ELEMENT, Pull, read

_KINDS = frozenset({"input", *ELEMENT, *NESTS})


def has_loops(node: Node) -> bool:
    """Whether `node` can be lowered: its kind has loops, and so has all that its sub-graphs hold."""
    if node.op is PROJ:
        return node.inputs[0].op.kind in (*CONTROL, "library") and has_loops(node.inputs[0])
    if node.op.kind in CONTROL:
        return all(has_loops(n) for graph in graphs_of(node) for n in graph.order)
    if node.op.kind == "library":
        return is_small(node) or is_small_qr(node) or is_short(node)
    return node.op.kind in _KINDS


def graphs_of(node: Node) -> list[Graph]:
    """The sub-graphs among a node's attributes."""
    found = []
    for a in node.attrs:
        found += [a] if type(a) is Graph else a if type(a) is tuple else ()
    return [g for g in found if type(g) is Graph]


def lower(graph: Graph, dump=None, machine: Machine | None = None) -> ir.Program:
    """The loop program that computes ``graph.outputs`` from ``graph.inputs``, for a machine's registers.

    Raises
    ------
    CompileError
        If a node's kind has no loops (callers split such nodes off first).
    """
    ir.forget()
    restart_names()
    lowering_for(machine)
    for node in graph.order:
        if not has_loops(node):
            raise CompileError(
                f"lower: {node.op.name} ({node.op.kind}) has no loops; please report"
            )
    inputs = [_buffer(f"x{k}", n, "in") for k, n in enumerate(graph.inputs)]
    outputs = {n: _buffer(f"y{k}", n, "out") for k, n in enumerate(dict.fromkeys(graph.outputs))}
    written = _behind_reshapes(outputs)
    given = {n: read(b, n.shape) for n, b in zip(graph.inputs, inputs, strict=True)}
    lowering = Lowering()
    nests = lowering.nests(graph, Pull(given), written)
    body = lowering.checks.around(fuse.statements(fuse.fuse(nests)))
    if dump is not None:
        dump("fuse", body)
    body = passes.run(body, dump)
    slots, place = plan(body)
    return ir.Program(inputs, list(outputs.values()), body, slots, place, lowering.checks.errors)


def _behind_reshapes(outputs: dict[Node, Buffer]) -> dict[Node, Buffer]:
    """An output that only reshapes what another node computes: that node writes the output's buffer."""
    written: dict[Node, Buffer] = {}
    for node, buffer in outputs.items():
        source = node
        while source.op.name == "reshape":
            source = source.inputs[0]
        free = source not in outputs and source not in written
        written[source if free and source.op.kind not in ("input", "const") else node] = buffer
    return written


def _buffer(name: str, node: Node, role: str) -> Buffer:
    return Buffer(name, node.dtype, numel(node.shape), role, node.shape)


class Lowering:
    """One program being lowered: its buffers are numbered, its checks collected, through all sub-graphs."""

    def __init__(self):
        self.checks = Checks()
        self.count = 0

    def buffer(self, dtype, shape: tuple) -> Buffer:
        """A new buffer of the arena."""
        self.count += 1
        return Buffer(f"b{self.count - 1}", dtype, numel(shape), "arena", shape)

    def nests(
        self, graph: Graph, pull: Pull, written: dict[Node, Buffer], skip=frozenset()
    ) -> list[Nest]:
        """The loop nests that fill the buffers of `written` (nodes of `graph`), in order.

        Nodes in `skip` are lowered by the caller.
        """
        nests: list[Nest] = []
        chosen = decide(graph.order, set(written))
        reading: dict[Node, list[Node]] = {}
        for node in graph.order:
            if node.op is PROJ:
                reading.setdefault(node.inputs[0], []).append(node)
        for node in graph.order:
            if node.op.kind in CONTROL:
                # Its results, as far as anybody reads them, are filled at once.
                results: dict[int, Buffer] = {}
                for proj in reading.get(node, ()):
                    buffer = written.get(proj) or self.buffer(proj.dtype, proj.shape)
                    results[proj.attrs[0]] = pull.stored[proj] = buffer
                made = CONTROL[node.op.kind](self, pull, node, results) if results else []
            elif node.op.kind == "library":
                made = self._library(pull, node, written, reading.get(node, ()))
            elif node in chosen and node.op is not PROJ and node not in skip:
                buffer = written.get(node) or self.buffer(node.dtype, node.shape)
                made = NESTS.get(node.op.kind, pointwise)(pull, node, buffer)
                pull.stored[node] = buffer
            else:
                continue
            self.checks.attach(pull, made)
            nests.extend(made)
            pull.memo.clear()
        return nests

    def _library(self, pull: Pull, node: Node, written: dict, picks) -> list[Nest]:
        """The nests of a routine: its one result, or those that somebody picks, are filled."""
        results: dict = {}
        for n, place in [(p, p.attrs[0]) for p in picks] if node.op.outputs > 1 else [(node, None)]:
            results[place] = written.get(n) or self.buffer(n.dtype, n.shape)
        made = (FACTORS | QR | ORDERS)[node.op.name](self, pull, node, results) if results else []
        for n, place in [(p, p.attrs[0]) for p in picks] if node.op.outputs > 1 else [(node, None)]:
            pull.stored[n] = results[place]
        return made


class Checks:
    """Run-time checks of index values: each has a flag that loops raise and the program's end tests."""

    def __init__(self):
        self.errors: list = []

    def flag(self, error) -> str:
        """The name of a new flag; `error` makes the exception that it means."""
        self.errors.append(error)
        return f"bad{len(self.errors) - 1}"

    def attach(self, pull: Pull, nests: list[Nest]) -> None:
        """Let the nest that reads with an index raise the flag if it is out of range."""
        every = {a for nest in nests for a in nest.axes}
        for bad, node, size in dict.fromkeys(pull.bounds):
            flag = self.flag(_out_of_range(node, size))
            axes = axes_in(bad) & every  # others are of loops around
            for nest in nests:
                if axes <= set(nest.axes):
                    nest.add_leaf(ir.Accum(flag, "or", bad))
                    break
        pull.bounds.clear()

    def around(self, body: list) -> list:
        flags = [f"bad{k}" for k in range(len(self.errors))]
        start = [ir.Set(flag, ir.const(False, dtypes.bool_)) for flag in flags]
        end = [ir.Check(~ir.var(flag, dtypes.bool_), k + 1) for k, flag in enumerate(flags)]
        return start + body + end


def _out_of_range(node: Node, size: int):
    where = f" (made at {node.where})" if node.where else ""
    return lambda: IndexingError(
        f"{node.op.name}: an index is out of range for a dimension of size {size}{where}; "
        f"indices must be in [{-size}, {size - 1}]"
    )


__all__ = ["graphs_of", "has_loops", "lower"]
