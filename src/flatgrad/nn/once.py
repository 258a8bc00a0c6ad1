"""Functions of tensors recorded as one ``CALL``: traced once for their shapes, then two nodes a call.

What a training loop records at every step costs Python time for each node; a loss or a stack of plain
layers is the same graph every time.
"""

from __future__ import annotations

from collections import OrderedDict

from ..tensor import Tensor, node_of, wrap
from ..transform.call import call
from ..transform.trace import trace

_GRAPHS: OrderedDict = OrderedDict()
_GRAPH_LIMIT = 256


def as_one(name: str, options, function, tensors: list[Tensor]) -> Tensor:
    """Record the tensor ``function(*tensors)``, traced once for its shapes and `options`, as one call."""
    return as_several(name, options, lambda *ts: (function(*ts),), tensors)[0]


def as_several(name: str, options, function, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Record ``function(*tensors)``, traced once for its shapes and `options`, as one call.

    Parameters
    ----------
    name : str
        Of the sub-graph (seen in ``grad_fn``).
    options : hashable
        What else the traced graph depends on.
    function : callable
        Takes tensors, returns a tuple of tensors. It is called only to trace.
    tensors : list of Tensor
    """
    nodes = [node_of(t) for t in tensors]
    key = (name, options, *[(n.shape, n.dtype) for n in nodes])
    found = _GRAPHS.get(key)
    if found is None:
        graph, captured = trace(function, nodes, name=name)
        found = _GRAPHS[key] = graph, [wrap(n) for n in captured]
        if len(_GRAPHS) > _GRAPH_LIMIT:
            _GRAPHS.popitem(last=False)
    graph, captured = found
    return call(graph, [*tensors, *captured])
