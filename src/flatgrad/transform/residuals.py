"""What a loop's reverse would compute again is kept from the forward loop, where that is dear and small.

A rule that runs a loop backwards recomputes each iteration from its carries. The parts of that which no
cotangent enters are the same numbers that the forward loop had: contractions and functions among them
(the residuals of the iteration) become further rows that the forward loop stacks and the reversed one reads.
A loop without carries, a ``map``, stores nothing and recomputes: that is what it is for.
"""

from __future__ import annotations

from ..graph.node import CONST, Graph, Node, placeholder
from ..graph.shapes import numel
from .tidy import Loop, is_dear, loop_of, make_loop, pick, reaching, readers, replace
from .trace import rebuild

__all__ = ["keep_residuals"]

# Bytes of residuals an iteration, as a multiple of what it keeps already (its carries), and a floor.
TIMES = 8
FLOOR = 256

# Kinds that cost little more than reading what they read.
CHEAP = ("elementwise", "movement", "pad", "cat", "source")


def keep_residuals(graph: Graph) -> Graph:
    """`graph` with residuals kept wherever a reversed loop would compute them again."""
    while True:
        read = readers(graph)
        swap = next((s for b in read if (s := _kept(loop_of(b), read))), None)
        if swap is None:
            return graph
        graph = replace(graph, swap)


def _kept(back: Loop, read: dict) -> dict | None:
    """What to replace so that `back` reads what its forward loop can keep for it."""
    if back.condition is not None or not back.carries:
        return None
    for source in back.rows:
        if not source.inputs or source.inputs[0] not in read or source.inputs[0] is back.node:
            continue
        forward = loop_of(source.inputs[0])
        if forward.carries and _same_steps(back, forward):
            same = _same_inputs(back, forward)
            chosen = _residuals(back, same, forward)
            if chosen:
                return _moved(back, forward, same, chosen, read)
    return None


def _same_steps(back: Loop, forward: Loop) -> bool:
    """Whether row `t` of `back` belongs to iteration `t` of `forward`, for all that run."""
    if forward.condition is None:
        return back.kind[1] == forward.kind[1] and back.stop == forward.stop
    count = back.stop[0] if back.stop else None
    counts = count is not None and count.inputs and count.inputs[0] is forward.node
    return counts and count.attrs[0] == forward.carries and back.kind[1] == forward.kind[1]


def _same_inputs(back: Loop, forward: Loop) -> dict[Node, Node]:
    """Inputs of the body of `back` -> those of the body of `forward` with the same value."""
    c = forward.carries
    known = {n: forward.body.inputs[c + k] for k, n in enumerate(forward.rows)}
    fixed = {n: forward.body.inputs[c + len(forward.rows) + k] for k, n in enumerate(forward.fixed)}
    histories = {forward.places(k)["history"]: k for k in range(c)}
    same: dict[Node, Node] = {}
    for k, outer in enumerate(back.rows):
        hole = back.body.inputs[back.carries + k]
        if outer in known:
            same[hole] = known[outer]
        elif outer.inputs and outer.inputs[0] is forward.node and outer.attrs[0] in histories:
            same[hole] = forward.body.inputs[histories[outer.attrs[0]]]
    start = back.carries + len(back.rows)
    for k, outer in enumerate(back.fixed):
        if outer in fixed:
            same[back.body.inputs[start + k]] = fixed[outer]
    return same


def _residuals(back: Loop, same: dict, forward: Loop) -> list[Node]:
    """Nodes of the body of `back` to keep: dear, of the forward loop's values alone, read by the rest."""
    body = back.body
    primal = set(same)
    for node in body.order:
        if node.op is CONST or (node.inputs and all(s in primal for s in node.inputs)):
            primal.add(node)
    rest = [n for n in body.order if n not in primal]
    frontier = [s for n in rest for s in n.inputs] + list(body.outputs)
    chosen: dict[Node, None] = {}
    seen: set[Node] = set()
    while frontier:
        node = frontier.pop()
        if node in seen or node not in primal or node in same:
            continue
        seen.add(node)
        if is_dear(node) and node.op.kind != "cat" and node.op.outputs == 1:
            chosen[node] = None
        elif node.op.kind in CHEAP:
            frontier.extend(node.inputs)
    size = sum(_bytes(n) for n in chosen)
    room = TIMES * sum(_bytes(n) for n in forward.body.inputs[: forward.carries])
    return list(chosen) if size <= max(room, FLOOR) else []


def _bytes(node: Node) -> int:
    return numel(node.shape) * node.dtype.itemsize


def _moved(back: Loop, forward: Loop, same: dict, chosen: list, read: dict) -> dict[Node, Node]:
    needed = reaching(back.body, chosen)
    mapping = dict(same)
    rebuild([n for n in back.body.order if n in needed], mapping)
    ys = [mapping[n] for n in chosen]
    body = Graph(forward.body.inputs, (*forward.body.outputs, *ys))
    kept = make_loop(
        forward.kind, forward.condition, body, forward.starts, forward.rows, forward.fixed
    )
    first = forward.first_row + forward.rows_out
    rows = [pick(kept, first + k) for k in range(len(chosen))]
    holes = {n: placeholder(-1, n.shape, n.dtype) for n in chosen}
    inner = {n: n for n in back.body.inputs} | holes
    rebuild(back.body.order, inner)
    at = back.carries + len(back.rows)
    inputs = (*back.body.inputs[:at], *holes.values(), *back.body.inputs[at:])
    again = make_loop(
        back.kind,
        None,
        Graph(inputs, tuple([inner[n] for n in back.body.outputs])),
        back.starts,
        [*back.rows, *rows],
        back.fixed,
    )
    swap = {proj: pick(kept, k) for k, proj in read[forward.node].items()}
    swap.update((proj, pick(again, k)) for k, proj in read[back.node].items())
    return swap
