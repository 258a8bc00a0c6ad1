"""``lower``: a simplified graph in, a loop program out."""

from __future__ import annotations

from ..errors import CompileError
from ..graph.node import Graph, Node
from ..graph.shapes import numel
from . import fuse, ir, passes
from .decide import decide
from .ir import Buffer
from .nest import NESTS, pointwise, restart_names
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
            raise CompileError(f"lower: {node.op.name} ({node.op.kind}) has no loops; please report")
    inputs = [_buffer(f"x{k}", n, "in") for k, n in enumerate(graph.inputs)]
    out = [_buffer(f"y{k}", n, "out") for k, n in enumerate(outputs)]
    stored = dict(zip(graph.inputs, inputs, strict=True))
    pull = Pull(stored)
    pull.stored_input = dict(stored)
    chosen = decide(order, set(outputs))
    written = dict(zip(outputs, out, strict=True))
    nests = []
    count = 0
    for node in order:
        if node not in chosen:
            continue
        buffer = written.get(node)
        if buffer is None:
            buffer = _buffer(f"b{count}", node, "arena")
            count += 1
        make = NESTS.get(node.op.kind, pointwise)
        nests.extend(make(pull, node, buffer))
        stored[node] = buffer
        pull.memo.clear()
    body, checks = _checks(pull, nests)
    body = fuse.statements(fuse.fuse(nests)) + body
    if dump is not None:
        dump("fuse", body)
    body = passes.run(body, dump)
    slots, place = plan(body)
    return ir.Program(inputs, out, body, slots, place, checks)


def _buffer(name: str, node: Node, role: str) -> Buffer:
    return Buffer(name, node.dtype, numel(node.shape), role, node.shape)


def _checks(pull: Pull, nests) -> tuple[list, list]:
    """Statements that stop the program after an index was out of range, and what each code means."""
    return [], []


__all__ = ["LOWERABLE", "lower"]
