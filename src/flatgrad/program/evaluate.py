"""From pending nodes to values: find the program of the pending graph's signature, and run it.

A signature is the graph's structure: operations, attributes, wiring, shapes and dtypes of what is
known, and what is wanted. Numbers of the user's text (``3 * x``) are part of it until they are seen to
change; from then on they are inputs.
"""

from __future__ import annotations

from ..graph.modes import modes
from ..graph.node import CONST, FREED, Node, pending
from ..tensor import take_demanded
from . import interpret
from .budget import budget
from .tiers import program_for


def evaluate(nodes) -> None:
    """Give each of `nodes`, and every pending node of theirs that a tensor holds, its value."""
    roots = [n for n in nodes if n.value is None]
    if not roots:
        return
    roots += take_demanded()
    key, inputs, numbers, outputs, walk = signature(roots)
    if budget.bytes is not None:
        key = (*key, budget, budget.bytes)
    program = program_for(key)
    results = program.run(roots, inputs, numbers, outputs, walk)
    for node, value in zip(outputs, results, strict=True):
        settle(node, value)
        node.program = program
    modes.pending = min(modes.pending, 0)


def signature(roots):
    """(key, known nodes, number nodes, wanted nodes, all nodes) of the pending graph of `roots`.

    Nodes are numbered as the walk finds them, so equal structures have equal keys whatever the
    nodes' history. Wanted are the roots, and what a live tensor shows. A known node is described
    where it is first read.
    """
    key: list = []
    inputs: list[Node] = []
    numbers: list[Node] = []
    outputs: list[Node] = []
    at: dict[Node, int] = {}
    for node in roots:
        at.setdefault(node, len(at))
    stack = list(at)
    last_root = len(at)
    push = key.append
    while stack:
        node = stack.pop()
        op = node.op
        push(op)
        # A custom function's value does not depend on its context, another one at every call.
        push(node.attrs if op.kind != "custom" else len(node.shape))
        if op.arity < 0:
            push(len(node.inputs))
        for source in node.inputs:
            k = at.get(source)
            if k is not None:
                push(k)
                continue
            k = at[source] = len(at)
            push(k)
            if source.value is None:
                stack.append(source)
                continue
            if source.op is CONST:
                numbers.append(source)
                push(None)
            else:
                inputs.append(source)
            push(source.dtype)
            push(source.shape)
        keep = at[node] < last_root
        if not keep and node.holder is not None:
            tensor = node.holder()
            keep = tensor is not None and tensor._node is node and op.outputs == 1
        if keep:
            outputs.append(node)
            push(True)
    return tuple(key), inputs, numbers, outputs, list(at)


def flush(node: Node) -> None:
    """Bound the pending graph: evaluate `node` and keep every value on the way."""
    order = pending([node])
    values = {n: n.value for n in order if n.value is not None}
    interpret.run(order, values)
    for n in order:
        if n.value is None:
            settle(n, values[n])
    modes.pending = min(modes.pending, 0)


def settle(node: Node, value) -> None:
    """Store a value; a node that derivatives don't flow through lets its history go.

    (Forward derivatives also flow through what was recorded under ``no_grad``.)
    """
    node.value = value
    forgets = not node.requires_grad or node.mark & FREED or node.op.kind == "leaf"
    if forgets and not modes.forward:
        node.inputs = ()
