"""``CALL``: a sub-graph as one operation. The compiler inlines it, the interpreter runs it.

A call keeps recording cheap where the same graph is recorded again and again (the backward pass of
a training step): one node is made instead of hundreds. Its derivatives are calls too.
"""

from __future__ import annotations

import threading
import weakref

from ..graph.node import PROJ, Graph, Node, placeholder
from ..graph.op import Op, register
from ..tensor import Tensor, late, make, node_of, outputs_of, wrap
from .pullback import pullback
from .trace import close, quiet, rebuild, trace

__all__ = ["CALL", "call", "derived", "inline", "trace", "trace_pullback", "trace_pushforward"]


def _infer(nodes, graph: Graph):
    return graph.shapes, graph.dtypes


def _run(arrays, graph: Graph) -> tuple:
    values = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.order:
        if node.value is not None:
            values[node] = node.value
    late.run(graph.order, values)
    return tuple([values[n] for n in graph.outputs])


def _pullback(g, out, inputs, graph: Graph) -> tuple:
    wants = tuple([t._node.requires_grad for t in inputs])
    given = tuple([c is not None for c in g])
    back, extra, reached = derived(graph, trace_pullback, wants, given)
    result: list[Tensor | None] = [None] * len(inputs)
    if reached:
        found = call(back, [*inputs, *[c for c in g if c is not None], *extra])
        for k, cotangent in zip(reached, found, strict=True):
            result[k] = cotangent
    return tuple(result)


def _pushforward(tangents, out, inputs, graph: Graph) -> tuple:
    given = tuple([t is not None for t in tangents])
    forward, extra, reached = derived(graph, trace_pushforward, given, ())
    result: list[Tensor | None] = [None] * len(graph.outputs)
    if reached:
        found = call(forward, [*inputs, *[t for t in tangents if t is not None], *extra])
        for k, tangent in zip(reached, found, strict=True):
            result[k] = tangent
    return tuple(result)


CALL = register(
    Op(
        "call",
        "call",
        -1,
        ("graph",),
        infer=_infer,
        numpy=_run,
        pullback=_pullback,
        pushforward=_pushforward,
        outputs=-1,
        doc="The outputs of a sub-graph whose placeholders are the inputs.",
    )
)


def call(graph: Graph, tensors) -> tuple[Tensor, ...]:
    """Record one call of `graph`: a tensor for each of its outputs."""
    nodes = tuple([node_of(t) for t in tensors])
    return outputs_of(make(CALL, nodes, (graph,), graph.shapes, graph.dtypes)._node)


def evaluated_call(graph: Graph, nodes: tuple) -> tuple:
    """The arrays of one call of `graph`, evaluated now with everything pending behind `nodes`.

    Leaves that its ``updates`` name may have no value afterwards.
    """
    whole = Node(CALL, nodes, (graph,), graph.shapes, graph.dtypes)
    late.evaluate([whole])
    return whole.value


def inline(graph: Graph, inputs, *, grad: bool = False) -> list[Node]:
    """The outputs of `graph` as nodes over `inputs`; calls inside it are opened as well."""
    mapping = dict(zip(graph.inputs, inputs, strict=True))
    opened: dict[Node, list[Node]] = {}
    for node in graph.order:
        if node.op is CALL:  # a checkpoint or a root stays: its derivative is not its graph's
            opened[node] = inline(node.attrs[0], [mapping[s] for s in node.inputs], grad=grad)
        elif node.op is PROJ and node.inputs[0] in opened:
            mapping[node] = opened[node.inputs[0]][node.attrs[0]]
        else:
            rebuild((node,), mapping, grad)
    return [mapping[n] for n in graph.outputs]


# -- derivatives of a graph -----------------------------------------------------------------------

_lock = threading.Lock()
_derivatives: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def derived(graph: Graph, make, *pattern):
    """``make(graph, *pattern)``, kept as long as `graph` lives."""
    with _lock:
        known = _derivatives.setdefault(graph, {})
        found = known.get((make, pattern))
    if found is None:
        found = make(graph, *pattern)
        with _lock:
            known[make, pattern] = found
    return found


def _copy_of(graph: Graph, requires) -> tuple[list[Node], list[Node]]:
    """Fresh placeholders and the graph's outputs over them."""
    inputs = [
        placeholder(k, n.shape, n.dtype, flag)
        for k, (n, flag) in enumerate(zip(graph.inputs, requires, strict=True))
    ]
    mapping = rebuild(graph.order, dict(zip(graph.inputs, inputs, strict=True)), grad=True)
    return inputs, [mapping[n] for n in graph.outputs]


def _closed(inputs, results):
    """(graph of the results that are there, further inputs as tensors, which ones are there)."""
    reached = [k for k, t in enumerate(results) if t is not None]
    graph, captured = close(inputs, [results[k]._node for k in reached])
    return graph, [wrap(n) for n in captured], reached


def trace_pullback(graph: Graph, wants, given):
    with quiet():
        inputs, outputs = _copy_of(graph, wants)
        seeds: list[Node | None] = []
        for node, flag in zip(outputs, given, strict=True):
            at = len(inputs) + sum(s is not None for s in seeds)
            seeds.append(placeholder(at, node.shape, node.dtype) if flag else None)
        found = pullback(outputs, inputs, [None if s is None else wrap(s) for s in seeds])
        kept = [t if want else None for t, want in zip(found, wants, strict=True)]
        return _closed([*inputs, *[s for s in seeds if s is not None]], kept)


def trace_pushforward(graph: Graph, given, _):
    from .pushforward import pushforward

    with quiet():
        inputs, outputs = _copy_of(graph, [n.dtype.is_differentiable for n in graph.inputs])
        tangents: list[Node | None] = []
        for node, flag in zip(inputs, given, strict=True):
            at = len(inputs) + sum(t is not None for t in tangents)
            tangents.append(placeholder(at, node.shape, node.dtype) if flag else None)
        found = pushforward(outputs, inputs, [None if t is None else wrap(t) for t in tangents])
        return _closed([*inputs, *[t for t in tangents if t is not None]], found)
