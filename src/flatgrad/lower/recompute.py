"""Recomputing instead of storing: a graph rewritten so that its program needs less scratch memory.

Before that, the computations are put into an order that lets go of memory early: what lowering sees
otherwise comes in the order in which results ask for it, and may do all weights' gradients at the end.

A training step's memory peaks where the forward part ends: what the backward part will read is all there.
Some of it need not be. A value is *dropped* if its readers behind the peak read a second computation of
it, made when the first of them is about to run. (A ``FENCE`` on one operand keeps the second
computation from being fused with the first one.) Values are dropped so that what is recomputed at once
stays short: first every other one of a chain, then two of three, and so on, cheap ones before dear ones.
If that is not enough, loops that run backwards go in segments (``transform/segment.py``).
Whether the budget is met is read from the lowered program, not estimated; where the peak has
moved elsewhere, it is looked at again, a few times.
"""

from __future__ import annotations

from itertools import accumulate
from math import prod

from ..errors import BudgetError
from ..graph.node import Graph, Node, toposort
from ..ops.cost import scalar_cost
from ..transform.checkpoint import FENCE
from ..transform.segment import in_segments
from . import ir
from .decide import decide
from .lowering import lower

__all__ = ["lower_within"]

# Kinds of nodes that are never computed twice: with several results, or dear beyond measure.
ONCE = frozenset(
    {"input", "const", "loop", "while", "branch", "library", "proj", "custom", "fence"}
)

# A value that takes less of the peak's memory than one part in so many is kept.
SMALL = 256

# Once what is dropped has moved the peak elsewhere, that is looked at; so often.
ROUNDS = 5

# How many choices are lowered in each round to see what they need, about.
ATTEMPTS = 8


def lower_within(graph: Graph, budget: int | None, **how) -> ir.Program:
    """``lower(graph, **how)``, its arena at most `budget` bytes; see `lower` for `how`.

    Raises
    ------
    BudgetError
        If no choice of what is recomputed meets the budget; it says what is least.
    """
    program = lower(graph, **how)
    if budget is None or program.arena_bytes <= budget:
        return program
    first = least = program.arena_bytes
    updates = how.get("updates") or {}
    how = how | {"frugal": True}
    graph = Graph.ordered(graph, _scheduled(graph, updates))
    for made, moved, count in _forms(graph, updates):
        around = {moved[n]: k for n, k in updates.items()}
        program = _searched(made, around, count, budget, how)
        if program.arena_bytes <= budget:
            return program
        least = min(least, program.arena_bytes)
    raise BudgetError(
        f"memory_budget: this program needs {first} bytes of scratch memory, with all that can be recomputed "
        f"{least}, and the budget is {budget}; allow {least} bytes, or make the batch smaller"
    )


def _forms(graph: Graph, updates):
    """(a graph, {output: what it is there}, values computed twice): as it is, and its loops in segments."""
    yield graph, {n: n for n in graph.outputs}, 0
    found = in_segments(graph)
    if found is not None:
        made, moved, count = found
        around = {moved[n] for n in updates}
        yield Graph.ordered(made, _scheduled(made, around)), moved, count


def _searched(graph: Graph, updates: dict, count: int, budget: int, how: dict) -> ir.Program:
    """The first program that is found within the budget, or the least."""
    least = lower(graph, **how | {"updates": updates})
    least.recomputed = count
    for _ in range(ROUNDS):
        if least.arena_bytes <= budget:
            break
        better = None
        for dropped, peak in _Peak(graph).choices():
            made, moved = _rewritten(graph, dropped, peak)
            around = {moved[n]: k for n, k in updates.items()}
            program = lower(made, **how | {"updates": around})
            program.recomputed = count + len(dropped)
            if program.arena_bytes < least.arena_bytes:
                least, better = program, (made, around)
            if program.arena_bytes <= budget:
                return program
        if better is None:
            break
        (graph, updates), count = better, least.recomputed
    return least


def _bytes(node: Node) -> int:
    if node.op.outputs != 1:
        return sum(prod(s) * d.itemsize for s, d in zip(node.shape, node.dtype, strict=True))
    return prod(node.shape) * node.dtype.itemsize


def _cost(node: Node) -> float:
    """Operations of computing a node once, roughly."""
    if node.op.kind == "elementwise":
        return prod(node.shape) * scalar_cost(node.op, node.attrs)
    if node.op.kind in ("contraction", "window"):  # exact for a product of two matrices
        return prod(prod(n.shape) ** 0.5 for n in (node, *node.inputs))
    return max(prod(n.shape) for n in (node, *node.inputs))


def _stored(graph: Graph) -> tuple[set[Node], dict[Node, set[Node]]]:
    """The nodes that lie in memory, and which of them each node reads, directly or through others."""
    stored = decide(graph.order, set(graph.outputs))
    stored |= {n for n in graph.order if n.op.outputs != 1}
    reads: dict[Node, set[Node]] = {}
    for n in graph.order:
        found: set[Node] = set()
        for s in n.inputs:
            found |= {s} if s in stored else reads[s]
        reads[n] = found
    return stored, reads


def _scheduled(graph: Graph, updates) -> list[Node]:
    """The nodes in another order: of those that are ready, the one that frees most memory first.

    What overwrites an argument takes no memory, and a gradient that only such outputs read is gone at once.
    """
    order = graph.order
    stored, reads = _stored(graph)
    readers: dict[Node, set[Node]] = {n: set() for n in stored}
    waits: dict[Node, int] = {}
    for n in order:
        if n in stored:
            waits[n] = len(reads[n])
            for s in reads[n]:
                readers[s].add(n)
    place = {n: k for k, n in enumerate(order)}
    left = {n: len(readers[n]) for n in stored}
    kept = set(graph.outputs)

    def gain(n: Node) -> tuple:
        freed = sum(_bytes(s) for s in reads[n] if left[s] == 1 and s not in kept)
        passing = n in updates or (readers[n] and all(r in updates for r in readers[n]))
        return freed - _bytes(n) * (not passing), -place[n]

    ready = [n for n in waits if not waits[n]]
    chosen: dict[Node, None] = {}
    while ready:
        n = max(ready, key=gain)
        ready.remove(n)
        _with_operands(n, chosen)
        for s in reads[n]:
            left[s] -= 1
        for r in readers[n]:
            waits[r] -= 1
            if not waits[r]:
                ready.append(r)
    for n in order:
        chosen.setdefault(n)
    return list(chosen)


def _with_operands(node: Node, chosen: dict) -> None:
    """Add `node` behind what it needs and is not there yet."""
    for n in toposort([node], stop=chosen.__contains__):
        chosen.setdefault(n)


class _Peak:
    """What is in memory where a program needs most of it: stored values that are read later on."""

    def __init__(self, graph: Graph):
        self.place = {n: k for k, n in enumerate(graph.order)}
        outside = set(graph.outputs)
        stored, reads = _stored(graph)
        until: dict[Node, int] = {}
        for n in graph.order:
            if n in stored or n in outside:
                until.update((s, self.place[n]) for s in reads[n] if s not in outside)
        change = [0] * (len(graph.order) + 1)
        for n, end in until.items():
            change[self.place[n]] += _bytes(n)
            change[end] -= _bytes(n)
        alive = list(accumulate(change))
        self.last = alive.index(max(alive))
        self.kept = {n for n, end in until.items() if self.place[n] <= self.last < end}
        # What is read by the very next loops would have to be there again at once.
        following = (reads[n] for n in graph.order[self.last + 1 :] if n in stored)
        self.at_once = next(following, set())

    def choices(self):
        """(what is dropped, the peak), of growing sizes."""
        peak = self.last, frozenset(self.kept)
        little = sum(map(_bytes, self.kept)) // SMALL
        rest = [
            n
            for n in self.kept
            if n.op.kind not in ONCE and n not in self.at_once and _bytes(n) > little
        ]
        sources = {n: self._sources(n) for n in rest}
        readers: dict[Node, list[Node]] = {}
        for n in rest:
            for s in sources[n]:
                readers.setdefault(s, []).append(n)
        price = {n: self._price(n) / max(_bytes(n), 1) for n in rest}
        dropped: list[Node] = []
        step = max(1, len(rest) // ATTEMPTS)
        while rest:
            inside = set(dropped)
            runs = {n: _run(n, inside, sources, readers) for n in rest}
            chosen = min(rest, key=lambda n: (runs[n], price[n], self.place[n]))
            rest.remove(chosen)
            dropped.append(chosen)
            if len(rest) % step == 0:
                yield frozenset(dropped), peak

    def _sources(self, node: Node) -> set[Node]:
        """The kept values that computing `node` again reads."""
        found, stack, seen = set(), list(node.inputs), set()
        while stack:
            n = stack.pop()
            if n in seen:
                continue
            seen.add(n)
            if n in self.kept:
                found.add(n)
            elif n.op.kind not in ONCE:
                stack.extend(n.inputs)
        return found

    def _price(self, node: Node) -> float:
        total, stack, seen = 0.0, [node], set()
        while stack:
            n = stack.pop()
            if n in seen or n.op.kind in ONCE or (n in self.kept and n is not node):
                continue
            seen.add(n)
            total += _cost(n)
            stack.extend(n.inputs)
        return total


def _run(node: Node, dropped: set, sources: dict, readers: dict) -> int:
    """How many dropped values would be recomputed at once if `node` was dropped as well."""
    count, stack, seen = 0, [node], {node}
    while stack:
        n = stack.pop()
        count += 1
        for other in (*sources.get(n, ()), *readers.get(n, ())):
            if other in dropped and other not in seen:
                seen.add(other)
                stack.append(other)
    return count


def _rewritten(graph: Graph, dropped: frozenset, peak: tuple) -> tuple[Graph, dict]:
    """`graph` with readers behind the peak reading second computations of what is dropped.

    Also {output: what it is now}.
    """
    last, kept = peak
    place = {n: k for k, n in enumerate(graph.order)}
    order: list[Node] = list(graph.order[: last + 1])
    again: dict[Node, Node] = {}
    own: set[Node] = set()  # second computations: what reads one of them comes late by itself
    moved: dict[Node, Node] = {}
    latest: Node | None = None

    def late(root: Node) -> Node:
        """What a reader behind the peak reads in the place of `root`, iteratively."""
        stack = [(root, False)]
        while stack:
            n, ready = stack.pop()
            if n in again or n in moved:
                continue
            stays = n.op.kind in ONCE or (n in kept and n not in dropped)
            if stays or place[n] > last:
                again[n] = n
                continue
            if not ready:
                stack.append((n, True))
                stack.extend((s, False) for s in n.inputs)
                continue
            inputs = [moved.get(s) or again[s] for s in n.inputs]
            if _untouched(n, inputs) and not _stored_early(n):
                again[n] = n
                continue
            again[n] = _copy(n, _fenced(inputs))
            own.add(again[n])
        return moved.get(root) or again[root]

    def _untouched(n: Node, inputs: list) -> bool:
        return n not in dropped and all(a is b for a, b in zip(inputs, n.inputs, strict=True))

    def _stored_early(n: Node) -> bool:
        """Whether `n` is memory that would have to live on to be read behind the peak."""
        return n.op.kind not in ("elementwise", "movement")

    def _fenced(inputs: list) -> list:
        if latest is None or not own.isdisjoint(inputs):
            return inputs
        usable = [k for k, s in enumerate(inputs) if s.op.kind != "const"]
        if not usable:
            return inputs
        k = min(usable, key=lambda k: _bytes(inputs[k]))
        x = inputs[k]
        fence = Node(FENCE, (x, latest), (), x.shape, x.dtype)
        order.append(fence)
        return [*inputs[:k], fence, *inputs[k + 1 :]]

    def _copy(n: Node, inputs: list) -> Node:
        made = Node(n.op, tuple(inputs), n.attrs, n.shape, n.dtype)
        made.where = n.where
        order.append(made)
        return made

    for n in graph.order[last + 1 :]:
        if n.op.kind in ("input", "const"):
            order.append(n)
            continue
        behind = [moved[s] for s in n.inputs if s in moved and s.op.kind not in ONCE]
        latest = behind[-1] if behind else latest
        inputs = [late(s) for s in n.inputs]
        if all(a is b for a, b in zip(inputs, n.inputs, strict=True)):
            moved[n] = n
            order.append(n)
        else:
            moved[n] = _copy(n, inputs)
    outputs = tuple([moved.get(n, n) for n in graph.outputs])
    made = Graph(graph.inputs, outputs, graph.name)
    needed = set(made.order)
    made = Graph.ordered(made, [n for n in order if n in needed])
    return made, dict(zip(graph.outputs, outputs, strict=True))
