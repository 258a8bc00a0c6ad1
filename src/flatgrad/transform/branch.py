"""``COND``: one of several sub-graphs, chosen by an index; its derivatives choose by the same index."""

from __future__ import annotations

import numpy as np

from ..graph.node import Graph, const, placeholder
from ..graph.op import Op, register
from ..tensor import Tensor, make, node_of, outputs_of, wrap
from .call import derived, inline
from .loops import run_graph
from .pullback import pullback
from .pushforward import pushforward
from .trace import close, intern, quiet

__all__ = ["COND", "branch"]

# inputs: the index (int64; clamped to the branches there are), operands. Every branch takes all operands and
# returns the same shapes and dtypes.


def _infer(nodes, branches: tuple):
    return branches[0].shapes, branches[0].dtypes


def _run(arrays, branches: tuple) -> tuple:
    index = min(max(int(arrays[0]), 0), len(branches) - 1)
    return tuple([np.asarray(v) for v in run_graph(branches[index], arrays[1:])])


def _pullback(g, out, inputs, branches: tuple) -> tuple:
    index, operands = inputs[0], inputs[1:]
    wants = tuple([t._node.requires_grad and t._node.dtype.is_differentiable for t in operands])
    given = tuple([c is not None for c in g])
    reached = sorted({k for b in branches for k in derived(b, _back, wants, given).reached})
    result: list[Tensor | None] = [None] * len(operands)
    if reached:
        backs = [derived(b, _back, wants, given) for b in branches]
        found = _all_reaching(backs, reached, index, [*operands, *[c for c in g if c is not None]])
        for k, t in zip(reached, found, strict=True):
            result[k] = t
    return (None, *result)


def _pushforward(tangents, out, inputs, branches: tuple) -> tuple:
    index, operands = inputs[0], inputs[1:]
    given = tuple([t is not None for t in tangents[1:]])
    forwards = [derived(b, _forward, given) for b in branches]
    reached = sorted({k for f in forwards for k in f.reached})
    result: list[Tensor | None] = [None] * len(out)
    if reached:
        given_tangents = [t for t in tangents[1:] if t is not None]
        found = _all_reaching(forwards, reached, index, [*operands, *given_tangents])
        for k, t in zip(reached, found, strict=True):
            result[k] = t
    return tuple(result)


class Derived:
    """A branch's derivative: graph, which results it reaches, further operands, shapes of all results."""

    def __init__(self, graph: Graph, reached: list, extra: list, like: list):
        self.graph, self.reached, self.extra, self.like = graph, reached, extra, like


def _all_reaching(parts: list[Derived], reached: list, index: Tensor, operands: list) -> tuple:
    """A ``COND`` of derivatives that all return the `reached` results, zeros where a branch has none."""
    extra: dict = {}
    for part in parts:
        extra.update({node_of(t): t for t in part.extra})
    graphs = []
    for part in parts:
        with quiet():
            inputs = [
                placeholder(k, node_of(t).shape, node_of(t).dtype) for k, t in enumerate(operands)
            ]
            more = {n: placeholder(-1, n.shape, n.dtype) for n in extra}
            outs = inline(part.graph, [*inputs, *[more[node_of(t)] for t in part.extra]])
            have = dict(zip(part.reached, outs, strict=True))
            results = [
                have[k] if k in have else const(0, part.like[k][1], part.like[k][0])
                for k in reached
            ]
            graphs.append(intern(Graph((*inputs, *more.values()), tuple(results), part.graph.name)))
    return branch(tuple(graphs), index, [*operands, *extra.values()])


def _back(graph: Graph, wants: tuple, given: tuple) -> Derived:
    with quiet():
        state = [
            placeholder(k, n.shape, n.dtype, want)
            for k, (n, want) in enumerate(zip(graph.inputs, wants, strict=True))
        ]
        outs = inline(graph, state, grad=True)
        seeds = [
            placeholder(-1, n.shape, n.dtype) if flag else None
            for n, flag in zip(outs, given, strict=True)
        ]
        found = pullback(outs, state, [None if s is None else wrap(s) for s in seeds])
        reached = [k for k, t in enumerate(found) if t is not None and wants[k]]
        inputs = [*state, *[s for s in seeds if s is not None]]
        back, captured = close(inputs, [node_of(found[k]) for k in reached])
    like = [(n.shape, n.dtype) for n in graph.inputs]
    return Derived(back, reached, [wrap(n) for n in captured], like)


def _forward(graph: Graph, given: tuple) -> Derived:
    with quiet():
        state = [
            placeholder(k, n.shape, n.dtype, flag)
            for k, (n, flag) in enumerate(zip(graph.inputs, given, strict=True))
        ]
        outs = inline(graph, state, grad=True)
        seeds = [
            placeholder(-1, n.shape, n.dtype) if flag else None
            for n, flag in zip(state, given, strict=True)
        ]
        found = pushforward(outs, state, [None if s is None else wrap(s) for s in seeds])
        reached = [k for k, t in enumerate(found) if t is not None]
        inputs = [*state, *[s for s in seeds if s is not None]]
        forward, captured = close(inputs, [node_of(found[k]) for k in reached])
    like = [(n.shape, n.dtype) for n in outs]
    return Derived(forward, reached, [wrap(n) for n in captured], like)


COND = register(
    Op(
        "branch",
        "branch",
        -1,
        ("branches",),
        infer=_infer,
        numpy=_run,
        pullback=_pullback,
        pushforward=_pushforward,
        outputs=-1,
        doc="The outputs of the sub-graph that an index chooses.",
    )
)


def branch(branches: tuple, index: Tensor, operands) -> tuple:
    """Record a choice among `branches`: a tensor for each of their outputs."""
    nodes = (node_of(index), *[node_of(t) for t in operands])
    return outputs_of(make(COND, nodes, (branches,), *_infer(nodes, branches))._node)
