"""Functions of tensors as compiled loop programs, in all the forms they can run in."""

from __future__ import annotations

import numpy as np

from flatgrad.graph.dtypes import as_dtype
from flatgrad.graph.node import Graph, placeholder
from flatgrad.lower import lower
from flatgrad.tensor import Tensor, node_of, wrap
from flatgrad.transform.simplify import simplify
from flatgrad.transform.trace import quiet


def graph_of(function, *arrays) -> Graph:
    """``function(*tensors)`` traced over placeholders and simplified."""
    holes = [placeholder(k, a.shape, as_dtype(a.dtype), False) for k, a in enumerate(arrays)]
    with quiet():
        outputs = function(*[wrap(n) for n in holes])
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    nodes = [node_of(t) for t in outputs]
    raw = Graph(tuple(holes), tuple(nodes))
    return simplify(tuple(holes), nodes, raw.order, {n: n for n in holes})[0]


def loops_of(function, *arrays):
    """Its loop program."""
    return lower(graph_of(function, *arrays))


def run_source(program, arrays, jit=None) -> list[np.ndarray]:
    """Run the readable form, as plain Python or through ``jit`` (``numba.njit``)."""
    from flatgrad.emit.python import source

    namespace: dict = {}
    exec(compile(source(program), "<program>", "exec"), namespace)
    function = namespace["program"] if jit is None else jit(namespace["program"])
    out = [np.empty(b.shape, b.dtype.np) for b in program.outputs]
    arena = np.zeros(program.arena_bytes, np.uint8)
    with np.errstate(all="ignore"):
        function(*arrays, *out, arena)
    return out
