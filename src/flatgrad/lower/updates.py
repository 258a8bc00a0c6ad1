"""Results that are written over arguments: when."""

from __future__ import annotations

from heapq import heappop, heappush

from ..graph.node import Graph, Node
from .decide import decide
from .nest import Nest

__all__ = ["overwriting_last", "overwriting_soon", "with_copies"]


def overwriting_last(graph: Graph, updates: dict) -> Graph:
    """`graph` with the nodes that overwrite an input, and what needs them, behind all others.

    What reads the old value comes before, so the new one can be written by the loop that computes it; and
    what is updated, much of it read nowhere else, does not drive out of the caches what is computed with.
    """
    last = set(updates)
    for node in graph.order:
        if not last.isdisjoint(node.inputs):
            last.add(node)
    return Graph.ordered(graph, sorted(graph.order, key=lambda n: n in last))


def with_copies(nests: list[Nest], over: list[Nest]) -> list[Nest]:
    """`nests` with each copy of `over` as soon as its source is there and nobody reads the old value."""
    behind: dict[int, list[Nest]] = {}
    for copy in over:
        sources = {b for b, _ in copy.reads}
        last = -1
        for k, nest in enumerate(nests):
            writes = {nest.buffer, *nest.also}
            if not sources.isdisjoint(writes) or any(b is copy.buffer for b, _ in nest.reads):
                last = k
        behind.setdefault(last, []).append(copy)
    out = behind.pop(-1, [])
    for k, nest in enumerate(nests):
        out.append(nest)
        out += behind.get(k, ())
    return out


def overwriting_soon(graph: Graph, updates: dict) -> Graph:
    """`graph` with each node that overwrites an input behind all others that read the old value.

    So the new value can be written by the loop that computes it. Nothing else is moved: what it was computed
    from, a weight's gradient, need not live on until all others are known.
    """
    place = {n: k for k, n in enumerate(graph.order)}
    waits = {n: len(set(n.inputs)) for n in graph.order}
    readers: dict[Node, list[Node]] = {}
    for n in graph.order:
        for s in set(n.inputs):
            readers.setdefault(s, []).append(n)
    old = _old_values(graph, updates)
    frees: dict[Node, list[Node]] = {}
    for new, nodes in old.items():
        for n in nodes:
            frees.setdefault(n, []).append(new)
    held = {n: len(nodes) for n, nodes in old.items()}
    ready = [place[n] for n in graph.order if not waits[n] and not held.get(n)]
    order: dict[Node, None] = {}
    while len(order) < len(graph.order):
        if not ready:  # two arguments exchanged: the copies behind all loops see to it
            ready.append(min(place[n] for n in held if n not in order and not waits[n]))
        n = graph.order[heappop(ready)]
        order[n] = None
        for r in readers.get(n, ()):
            waits[r] -= 1
        for r in frees.get(n, ()):
            held[r] -= 1
        for r in dict.fromkeys((*readers.get(n, ()), *frees.get(n, ()))):
            if r not in order and not waits[r] and not held.get(r):
                heappush(ready, place[r])
    return Graph.ordered(graph, list(order))


def _old_values(graph: Graph, updates: dict) -> dict[Node, list[Node]]:
    """{output that overwrites an input: the nodes in memory that read this and do not need the output}."""
    stored = decide(graph.order, set(graph.outputs))
    overwritten = {graph.inputs[k]: n for n, k in updates.items()}
    reads: dict[
        Node, set[Node]
    ] = {}  # overwritten inputs, also through nodes that are not in memory
    after: dict[Node, set[Node]] = {}  # outputs that a node needs
    found: dict[Node, list[Node]] = {n: [] for n in updates}
    for n in graph.order:
        reads[n], after[n] = set(), {n} if n in updates else set()
        for s in n.inputs:
            after[n] |= after[s]
            if s in overwritten:
                reads[n].add(s)
            elif s not in stored:
                reads[n] |= reads[s]
        if n in stored or n.op.outputs != 1:
            for x in reads[n]:
                if overwritten[x] not in after[n]:
                    found[overwritten[x]].append(n)
    return found
