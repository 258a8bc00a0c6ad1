"""How much stack a compiled function needs: the heaviest way through GCC's call graph."""

from __future__ import annotations

import re

__all__ = ["GRAPH_FLAG", "RUNTIME", "deepest"]

# Writes the graph, with every function's frame, beside the object file (GCC 10 and newer).
GRAPH_FLAG = "-fcallgraph-info=su"

# Bytes for a function that is in another file: the compiler's own runtime (arithmetic that the processor
# lacks, memset). On a Cortex-M4F its frames took at most so many (tests/boards/test_memory.py).
RUNTIME = 48

_NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \(static\)', re.M)
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.M)


def deepest(graph: str) -> int:
    """Bytes of the largest sum of frames from any function down; ``RUNTIME`` for those of other files.

    Raises
    ------
    ValueError
        If a function calls itself, so that there is no bound.
    """
    frames = {name: int(size) for name, size in _NODE.findall(graph)}
    calls: dict[str, set[str]] = {}
    for caller, callee in _EDGE.findall(graph):
        calls.setdefault(caller, set()).add(callee)
    known: dict[str, int] = {}

    def below(name: str, above: tuple) -> int:
        if name in above:
            raise ValueError(f"{name} calls itself")
        if name not in known:
            deeper = (below(c, (*above, name)) for c in sorted(calls.get(name, ())))
            known[name] = frames.get(name, RUNTIME) + max(deeper, default=0)
        return known[name]

    return max((below(name, ()) for name in frames), default=0)
