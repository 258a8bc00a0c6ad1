"""Which nodes are stored: the others are recomputed element by element where they are read.

A node is stored if it must be (an output, a reduction, a contraction, an operand that a library or
an irregular read needs in memory), or if it is worth it: its expression is dear and read more than
once. A stored node whose readers end up in the same loop body costs nothing: it becomes a
variable again (passes.forward).
"""

from __future__ import annotations

from ..graph.node import Node
from ..ops.cost import scalar_cost
from .pull import axes_of, element_rule, index_of

# Recomputing an expression cheaper than this beats a buffer's traffic.
CHEAP = 4

# An expression's text is repeated for so many slices of it.
FEW_PARTS = 4

# Expressions deeper than this are cut by a stored node (free again if its readers join its loop):
# the compiler walks expressions recursively.
DEEP = 24


def decide(order: list[Node], outputs: set[Node]) -> set[Node]:
    """The nodes of `order` that get a buffer (inputs have one already)."""
    stored: set[Node] = set(outputs)
    readers: dict[Node, set] = {}
    for node in order:
        if node.op.kind == "input":
            continue
        if element_rule(node) is None:
            stored.add(node)
        if node.op.kind == "window":  # zeros around an image are written once, not asked for
            stored.update(s for s in node.inputs if s.op.kind == "pad")
        for s in node.inputs:
            readers.setdefault(s, set()).add(node)
    cost: dict[Node, int] = {}
    depth: dict[Node, int] = {}
    for node in order:
        cost[node] = _decide_one(node, stored, readers, cost)
        depth[node] = 1 + max((depth[s] for s in node.inputs), default=0)
        if depth[node] > DEEP and cost[node]:
            stored.add(node)
            cost[node] = 0
        if node in stored or node.op.kind == "input":
            depth[node] = 0
    return {n for n in stored if n.op.kind not in ("input", "const")} | (
        outputs & {n for n in order if n.op.kind in ("input", "const")}
    )


def _decide_one(node: Node, stored: set, readers: dict, cost: dict) -> int:
    """Decide about `node`; returns the cost of one read of it."""
    kind = node.op.kind
    if kind in ("input", "const") or node in stored:
        return 0
    spent = sum(cost[s] for s in node.inputs)
    if kind == "elementwise":
        spent += scalar_cost(node.op, node.attrs)
    elif kind in ("gather", "scatter"):
        spent += CHEAP
    elif kind == "movement" and spent and not _plain(node):
        # Divisions would be left in every read of a whole expression: read a buffer instead.
        stored.add(node.inputs[0])
        spent = 0
    if spent and _worth_storing(node, spent, readers.get(node, ())):
        stored.add(node)
        return 0
    return spent


def _worth_storing(node: Node, spent: int, readers) -> bool:
    if len(readers) > 1 and spent > CHEAP and not _parts(node, readers):
        return True
    for reader in readers:
        if _needs_memory(reader):
            return True
        stretched = reader.op.kind in ("elementwise", "movement", "pad") and _size(reader) > _size(
            node
        )
        if stretched and spent >= 1:
            return True
    return False


def _parts(node: Node, readers) -> bool:
    """Whether the readers are a few slices of no more elements than there are: nothing is computed twice."""
    if len(readers) > FEW_PARTS or any(r.op.name != "slice" for r in readers):
        return False
    return sum(map(_size, readers)) <= _size(node)


def _needs_memory(reader: Node) -> bool:
    """Whether `reader` wants `node` in memory: it reads elements several times, or by address."""
    return reader.op.kind in (
        "contraction",
        "window",
        "library",
        "gather",
        "loop",
        "while",
        "branch",
        "fence",
    )


def _size(node: Node) -> int:
    n = 1
    for s in node.shape:
        n *= s
    return n


def _plain(node: Node) -> bool:
    """Whether a movement's index map is free of divisions."""
    from .index import has_division

    source = node.inputs[0]
    index = node.op.loop(index_of(axes_of(node.shape)), source.shape, *node.attrs)
    return not any(hasattr(i, "kind") and has_division(i) for i in index)
