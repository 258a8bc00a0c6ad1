"""From pending nodes to values: find the program of the pending graph's signature, and run it.

A signature is the graph's structure: operations, attributes, wiring, shapes and dtypes of what is
known, and what is wanted. Numbers of the user's text (``3 * x``) are part of it until they are seen to
change; from then on they are inputs.
"""

from __future__ import annotations

from ..graph.modes import modes
from ..graph.node import CONST, DIRECT, FREED, Node, toposort
from ..tensor import take_demanded
from . import interpret
from .tiers import program_for


def _known(node: Node) -> bool:
    return node.value is not None


def evaluate(nodes) -> None:
    """Give each of `nodes`, and every pending node of theirs that a tensor holds, its value."""
    roots = [n for n in nodes if n.value is None]
    if not roots:
        return
    roots += take_demanded()
    order = toposort(roots, stop=_known)
    wanted = set(roots)
    key, inputs, numbers, outputs = signature(order, wanted)
    program = program_for(key)
    results = program.run(order, inputs, numbers, outputs)
    for node, value in zip(outputs, results, strict=True):
        settle(node, value)
        node.program = program
    modes.pending = 0


def signature(order, wanted):
    """(key, known nodes, number nodes, wanted nodes) of a pending graph in topological order."""
    key: list = []
    inputs: list[Node] = []
    numbers: list[Node] = []
    outputs: list[Node] = []
    at: dict[Node, int] = {}
    for k, node in enumerate(order):
        at[node] = k
        if node.value is not None:
            if node.op is CONST:
                numbers.append(node)
                key.append((None, node.dtype, node.shape))
            else:
                inputs.append(node)
                key.append((node.dtype, node.shape))
            continue
        wire = tuple([at[s] for s in node.inputs])
        holder = node.holder
        if node in wanted or (
            holder is not None and (t := holder()) is not None and t._node is node
        ):
            if node.op.outputs == 1:
                outputs.append(node)
                key.append((node.op, node.attrs, wire, True))
                continue
        if node.mark & DIRECT and node.op.kind == "custom":
            # Its value does not depend on the context, which is another one at every call.
            key.append((node.op, len(node.shape), wire))
            continue
        key.append((node.op, node.attrs, wire))
    return tuple(key), inputs, numbers, outputs


def flush(node: Node) -> None:
    """Bound the pending graph: evaluate `node` and keep every value on the way."""
    order = toposort([node], stop=_known)
    values = {n: n.value for n in order if n.value is not None}
    interpret.run(order, values)
    for n in order:
        if n.value is None:
            settle(n, values[n])
    modes.pending = 0


def settle(node: Node, value) -> None:
    """Store a value; a node that derivatives don't flow through lets its history go."""
    node.value = value
    if not node.requires_grad or node.mark & FREED or node.op.kind == "leaf":
        node.inputs = ()
