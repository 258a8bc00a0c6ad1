"""From pending nodes to values."""

from __future__ import annotations

from ..graph.modes import modes
from ..graph.node import Node, toposort
from . import interpret


def _known(node: Node) -> bool:
    return node.value is not None


def evaluate(nodes) -> None:
    """Give each of `nodes`, and every pending node of theirs that a tensor holds, its value."""
    roots = [n for n in nodes if n.value is None]
    if not roots:
        return
    order = toposort(roots, stop=_known)
    values = {n: n.value for n in order if n.value is not None}
    interpret.run(order, values)
    keep = set(roots)
    for node in order:
        if node.value is None and (node in keep or node.held):
            settle(node, values[node])
    modes.pending = 0


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
    if not node.requires_grad or node.op.kind == "leaf":
        node.inputs = ()
