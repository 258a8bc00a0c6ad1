"""``lower``: a simplified graph in, a loop program out."""

from __future__ import annotations

from ..errors import CompileError, IndexingError
from ..graph import dtypes
from ..graph.node import Graph, Node
from ..graph.shapes import numel
from . import fuse, ir, passes
from .decide import decide
from .ir import Buffer
from .nest import NESTS, Nest, pointwise, restart_names
from .plan import plan
from .pull import ELEMENT, Pull

LOWERABLE = frozenset({"input", *ELEMENT, *NESTS})


def lower(graph: Graph, dump=None) -> ir.Program:
    """The loop program that computes ``graph.outputs`` from ``graph.inputs``.

    Raises
    ------
    CompileError
        If a node's kind has no loops (callers split such nodes off first).
    """
    ir.forget()
    restart_names()
    outputs = dict.fromkeys(graph.outputs)
    order = graph.order
    for node in order:
        if node.op.kind not in LOWERABLE:
            raise CompileError(
                f"lower: {node.op.name} ({node.op.kind}) has no loops; please report"
            )
    inputs = [_buffer(f"x{k}", n, "in") for k, n in enumerate(graph.inputs)]
    out = [_buffer(f"y{k}", n, "out") for k, n in enumerate(outputs)]
    stored = dict(zip(graph.inputs, inputs, strict=True))
    pull = Pull(stored)
    pull.stored_input = dict(stored)
    chosen = decide(order, set(outputs))
    written = dict(zip(outputs, out, strict=True))
    nests: list[Nest] = []
    checks = Checks()
    count = 0
    for node in order:
        if node not in chosen:
            continue
        buffer = written.get(node)
        if buffer is None:
            buffer = _buffer(f"b{count}", node, "arena")
            count += 1
        make = NESTS.get(node.op.kind, pointwise)
        made = make(pull, node, buffer)
        checks.attach(pull, made)
        nests.extend(made)
        stored[node] = buffer
        pull.memo.clear()
    body = checks.around(fuse.statements(fuse.fuse(nests)))
    if dump is not None:
        dump("fuse", body)
    body = passes.run(body, dump)
    slots, place = plan(body)
    return ir.Program(inputs, out, body, slots, place, checks.errors)


def _buffer(name: str, node: Node, role: str) -> Buffer:
    return Buffer(name, node.dtype, numel(node.shape), role, node.shape)


class Checks:
    """Run-time checks of index values: each has a flag that loops raise and the program's end tests."""

    def __init__(self):
        self.errors: list = []

    def attach(self, pull: Pull, nests: list[Nest]) -> None:
        """Let the nest that reads with an index raise the flag if it is out of range."""
        for bad, node, size in dict.fromkeys(pull.bounds):
            flag = f"bad{len(self.errors)}"
            axes = axes_in(bad)
            for nest in nests:
                if axes <= set(nest.axes):
                    nest.add_leaf(ir.Accum(flag, "or", bad))
                    break
            self.errors.append(_out_of_range(node, size))
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


def axes_in(e: ir.Expr) -> set:
    """The loop axes that an expression depends on."""
    found, stack, seen = set(), [e], set()
    while stack:
        x = stack.pop()
        if x in seen:
            continue
        seen.add(x)
        if x.kind == "var" and type(x.arg) is ir.Axis:
            found.add(x.arg)
        stack.extend(x.args)
    return found


__all__ = ["LOWERABLE", "lower"]
