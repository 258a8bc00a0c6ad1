"""Forward mode: a graph in, the graph of its tangents out.

An operation without a pushforward of its own gets it from its pullback: the pullback is linear in
the cotangent, so its own pullback, the transpose of the transpose, maps tangents forward.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..errors import GradientError
from ..graph.node import PROJ, Node, const, placeholder, toposort
from ..graph.op import Op
from ..tensor import Tensor, node_of, wrap
from .pullback import handle, output_handles, pullback, run_rule
from .trace import close, quiet, rebuild

__all__ = ["pushforward"]


def pushforward(outputs, inputs, tangents, since: int = 0) -> list[Tensor | None]:
    """Tangents of `outputs` given those of `inputs`, as newly recorded graph. Iterative.

    Parameters
    ----------
    outputs, inputs : sequence of Node
    tangents : sequence of (Tensor or None)
        One an input, of its shape and dtype; None is zero.
    since : int
        Nodes numbered below it don't depend on the inputs: what an outer transform has recorded.

    Returns
    -------
    list of (Tensor or None)
        One an output; None where it does not depend on an input with a tangent.
    """
    known: dict[Node, Tensor | tuple | None] = {}
    for node, t in zip(inputs, tangents, strict=True):
        if t is not None:
            known[node] = t
    given = set(inputs)
    handles: dict[Node, Tensor] = {}

    def stops(node: Node) -> bool:
        return node in given or node.seq < since or node.op.kind in ("leaf", "input")

    for node in toposort(outputs, stop=stops):
        if node in given or not node.op.differentiable:
            continue
        if all(s not in known for s in node.inputs):
            continue
        t = _tangent(node, known, handles)
        if t is not None:
            known[node] = t
    return [known.get(node) for node in outputs]


def _tangent(node: Node, known: dict, handles: dict):
    op = node.op
    if op is PROJ:
        whole = known.get(node.inputs[0])
        return None if whole is None else whole[node.attrs[0]]
    tangents = tuple([known.get(s) for s in node.inputs])
    inputs = [handle(s, handles) for s in node.inputs]
    out = output_handles(node, handles)
    if op.pushforward is None:
        return transposed(op, tangents, out, inputs, node.attrs)
    if op.arity < 0:
        return op.pushforward(tangents, out, tuple(inputs), *node.attrs)
    return op.pushforward(tangents, out, *inputs, *node.attrs)


# -- from the pullback ----------------------------------------------------------------------------

_lock = threading.Lock()
_transposes: OrderedDict = OrderedDict()
_LIMIT = 512


def transposed(op: Op, tangents, out, inputs, attrs):
    """The tangent of ``op(inputs)`` (a tuple of them if it has several outputs) from its pullback.

    Raises
    ------
    GradientError
        If `op` has no pullback either.
    """
    if op.pullback is None:
        raise GradientError(
            f"pushforward: {op.name} has no derivative; detach() its inputs, or write an "
            "autograd.Function with a jvp of your own"
        )
    several = op.outputs != 1
    outs = out if several else (out,)
    nodes = [node_of(t) for t in inputs]
    mask = tuple([t is not None for t in tangents])
    key = (
        op,
        attrs,
        mask,
        tuple([(n.shape, n.dtype) for n in nodes]),
        tuple([(t._node.shape, t._node.dtype) for t in outs]),
    )
    with _lock:
        found = _transposes.get(key)
    if found is None:
        found = _trace_transpose(op, attrs, mask, nodes, [t._node for t in outs], several)
        with _lock:
            _transposes[key] = found
            if len(_transposes) > _LIMIT:
                _transposes.popitem(last=False)
    graph, captured, reached = found
    given = [*nodes, *[t._node for t in outs], *[node_of(t) for t in tangents if t is not None]]
    mapping = dict(zip(graph.inputs, [*given, *captured], strict=True))
    rebuild(graph.order, mapping, grad=True)
    result: list[Tensor | None] = [None] * len(outs)
    for k, node in zip(reached, graph.outputs, strict=True):
        result[k] = handle(mapping[node], {})
    return tuple(result) if several else result[0]


def _trace_transpose(op: Op, attrs, mask, nodes, outs, several: bool):
    """The graph of the tangents over (inputs, outputs, tangents), and which outputs have one."""
    with quiet(grad=True):
        cuts = [
            placeholder(k, n.shape, n.dtype, flag)
            for k, (n, flag) in enumerate(zip(nodes, mask, strict=True))
        ]
        results = [placeholder(len(cuts) + k, n.shape, n.dtype) for k, n in enumerate(outs)]
        # A dummy cotangent: the rule is linear in it, so its value cannot matter.
        dummies = [
            placeholder(-1 - k, n.shape, n.dtype, n.dtype.is_differentiable)
            for k, n in enumerate(outs)
        ]
        handles = [wrap(n) for n in cuts]
        seeds = [wrap(n) if n.requires_grad else None for n in dummies]
        shown = tuple([wrap(n) for n in results])
        if several:
            grads = run_rule(op, tuple(seeds), shown, handles, attrs)
        else:
            grads = run_rule(op, seeds[0], shown[0], handles, attrs)
        at = len(cuts) + len(results)
        rows, cotangents, placed = [], [], []
        for node, flag, grad in zip(nodes, mask, grads, strict=True):
            if not flag:
                continue
            tangent = placeholder(at + len(placed), node.shape, node.dtype)
            placed.append(tangent)
            if grad is not None:
                rows.append(node_of(grad))
                cotangents.append(wrap(tangent))
        found = pullback(rows, dummies, cotangents)
        reached = [k for k, t in enumerate(found) if t is not None]
        graph, captured = close([*cuts, *results, *placed], [node_of(found[k]) for k in reached])
        zeros = {n: const(0, n.dtype, n.shape) for n in dummies}
        return graph, [zeros.get(n, n) for n in captured], reached
