"""``CHECKPOINT``: a sub-graph whose values the backward pass computes again instead of keeping.

Its derivative reads the inputs through a ``FENCE``: the same values, but a computation of its own, which
starts when the cotangent is there. Without it the two equal computations would become one again.
"""

from __future__ import annotations

from ..graph.node import Graph
from ..graph.op import Op, register
from ..tensor import Tensor, make, node_of, outputs_of
from .call import CALL, call, derived, trace_pullback

__all__ = ["CHECKPOINT", "FENCE", "checkpointed"]

FENCE = register(
    Op(
        "fence",
        "fence",
        2,
        (),
        infer=lambda x, after: (x.shape, x.dtype),
        numpy=lambda x, after: x,
        pullback=lambda g, out, x, after: (g, None),
        pushforward=lambda ts, out, x, after: ts[0],
        doc="The first input, to be read after the second is known, and not shared with other readers.",
    )
)


def _pullback(g, out, inputs, graph: Graph) -> tuple:
    wants = tuple([t._node.requires_grad for t in inputs])
    given = tuple([c is not None for c in g])
    back, extra, reached = derived(graph, trace_pullback, wants, given)
    result: list[Tensor | None] = [None] * len(inputs)
    if reached:
        seeds = [c for c in g if c is not None]
        again = [_fenced(t, seeds[-1]) for t in inputs]
        found = call(back, [*again, *seeds, *extra])
        for k, cotangent in zip(reached, found, strict=True):
            result[k] = cotangent
    return tuple(result)


def _fenced(t: Tensor, after: Tensor) -> Tensor:
    node = node_of(t)
    return make(FENCE, (node, node_of(after)), (), node.shape, node.dtype)


CHECKPOINT = register(
    Op(
        "checkpoint",
        "call",
        -1,
        ("graph",),
        infer=CALL.infer,
        numpy=CALL.numpy,
        pullback=_pullback,
        pushforward=CALL.pushforward,
        outputs=-1,
        doc="The outputs of a sub-graph whose inner values are not kept for the derivative.",
    )
)


def checkpointed(graph: Graph, tensors) -> tuple[Tensor, ...]:
    """Record `graph` over `tensors` as a checkpoint: a tensor for each of its outputs."""
    nodes = tuple([node_of(t) for t in tensors])
    return outputs_of(make(CHECKPOINT, nodes, (graph,), graph.shapes, graph.dtypes)._node)
