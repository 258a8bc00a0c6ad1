"""``lower``: a simplified graph in, a loop program out."""

from __future__ import annotations

from ..errors import CompileError, IndexingError
from ..graph import dtypes
from ..graph.node import PROJ, Graph, Node
from ..graph.shapes import numel
from . import fuse, ir, passes
from .body import walk
from .control import CONTROL, copy, outer
from .decide import decide
from .factor import FACTORS, is_small
from .factor_qr import QR, is_small_qr
from .index import axes_in
from .ir import Buffer
from .machine import Machine, lowering_for, present
from .nest import NESTS, Nest, pointwise, restart_names
from .order import ORDERS, is_short
from .plan import plan
from .pull import ELEMENT, Pull, read
from .updates import overwriting_last, overwriting_soon, with_copies

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


def lower(
    graph: Graph,
    dump=None,
    machine: Machine | None = None,
    updates: dict | None = None,
    spans: dict | None = None,
    frugal: bool = False,
) -> ir.Program:
    """The loop program that computes ``graph.outputs`` from ``graph.inputs``, for a machine's registers.

    Parameters
    ----------
    graph : Graph
    dump : callable, optional
        Sees the body after each pass.
    machine : Machine, optional
    updates : dict, optional
        {output: position of an input}: it is written over this input, once everything else is known
        and every run-time check has passed.
    spans : dict, optional
        {position of an input of integers: its least and greatest element}, where they are known.
    frugal : bool
        Whether inputs are overwritten as soon as they may be: less memory, and a little more time.

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
    spans = spans or {}
    inputs = [_buffer(f"x{k}", n, "in", spans.get(k)) for k, n in enumerate(graph.inputs)]
    updates = updates or {}
    results = list(dict.fromkeys(graph.outputs))
    outputs = {n: _buffer(f"y{k}", n, "out") for k, n in enumerate(results) if n not in updates}
    pull = Pull({n: read(b, n.shape) for n, b in zip(graph.inputs, inputs, strict=True)})
    lowering = Lowering()
    # As the carries of a loop: new values have buffers of their own (which go where the copy joins the
    # loop that computes them), since all must be known before anything is overwritten.
    values = {n: lowering.buffer(n.dtype, n.shape) for n in updates}
    written = _behind_reshapes(outputs | values)
    ordered = (overwriting_soon if frugal else overwriting_last)(graph, updates)
    nests = lowering.nests(ordered, pull, written)
    over = [copy(outer(pull, n), inputs[k], n.shape, updates=True) for n, k in updates.items()]
    body = lowering.checks.around(nests, over, frugal)
    if dump is not None:
        dump("fuse", body)
    body = passes.run(body, dump)
    slots, place = plan(body)
    return ir.Program(
        inputs,
        list(outputs.values()),
        body,
        slots,
        place,
        lowering.checks.errors,
        [inputs[updates[n]] if n in updates else outputs[n] for n in results],
        exact=present().exact,
    )


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


def _buffer(name: str, node: Node, role: str, span: tuple | None = None) -> Buffer:
    return Buffer(name, node.dtype, numel(node.shape), role, node.shape, span)


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

    def around(self, nests: list, over: list, frugal: bool) -> list:
        """The loops of `nests` and their checks, before those of `over` overwrite inputs.

        They are fused if every check still comes first.
        """
        flags = [f"bad{k}" for k in range(len(self.errors))]
        start = [ir.Set(flag, ir.const(False, dtypes.bool_)) for flag in flags]
        tests = [ir.Check(~ir.var(flag, dtypes.bool_), k + 1) for k, flag in enumerate(flags)]
        body = fuse.statements(fuse.fuse(with_copies(nests, over) if frugal else nests + over))
        at = next((k for k, s in enumerate(body) if _overwrites(s)), len(body))
        if any(_raises(s, flags) for s in body[at:]):
            first, last = (fuse.statements(fuse.fuse(part)) for part in (nests, over))
            return start + first + tests + last
        return start + body[:at] + tests + body[at:]


def _overwrites(statement) -> bool:
    """Whether a statement, or one inside it, writes to an input."""
    found = [s.buffer for s, _ in walk([statement]) if isinstance(s, (ir.Store, ir.AccumStore))]
    found += [s.c[0] for s, _ in walk([statement]) if isinstance(s, (ir.Gemm, ir.Tile))]
    return any(b.role == "in" for b in found)


def _raises(statement, flags) -> bool:
    return any(isinstance(s, ir.Accum) and s.name in flags for s, _ in walk([statement]))


def _out_of_range(node: Node, size: int):
    where = f" (made at {node.where})" if node.where else ""
    return lambda: IndexingError(
        f"{node.op.name}: an index is out of range for a dimension of size {size}{where}; "
        f"indices must be in [{-size}, {size - 1}]"
    )


__all__ = ["graphs_of", "has_loops", "lower"]
