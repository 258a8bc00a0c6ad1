"""Functions that the user gives to loops and branches, traced over placeholders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..graph.modes import modes
from ..graph.node import Graph, Node, const, placeholder
from ..ops.declare import cast_node
from ..tensor import Tensor, late, node_of, wrap
from ..transform.trace import close_once, intern, quiet, recorded_anew, settled
from .tree import Spec, flatten, paths, unflatten

__all__ = ["Traced", "map_nodes", "matching_carry", "over_the_same", "promoted", "tensors_of"]


def tensors_of(name: str, what: str, tree) -> tuple[list[Tensor], Spec]:
    """The leaves of `tree` as tensors.

    Raises
    ------
    ArgumentError
        For a leaf that is neither tensor, array nor number.
    """
    leaves, spec = flatten(tree)
    out = []
    for leaf, path in zip(leaves, paths(spec), strict=True):
        if isinstance(leaf, Tensor):
            out.append(leaf)
        elif type(leaf) in (bool, int, float):
            out.append(wrap(const(leaf, dtypes.of_number(leaf))))
        elif isinstance(leaf, (np.ndarray, np.generic, int, float)):
            out.append(late.convert(leaf))
        else:
            raise ArgumentError(
                f"{name}: {what}{path} must be a tensor, an array or a number, got "
                f"{type(leaf).__name__}; close over what is not data instead of passing it"
            )
    return out, spec


class Traced:
    """A function of trees, traced: outputs over placeholders, before what it captured is known.

    inputs, outputs : lists of Node; spec : Spec of the result.
    """

    def __init__(self, name: str, what: str, function: Callable, like: list[Node], specs):
        with quiet(grad=True):
            self.inputs = [
                placeholder(k, n.shape, n.dtype, n.dtype.is_differentiable)
                for k, n in enumerate(like)
            ]
            self.since = placeholder(0, (), dtypes.int64).seq
            handles = iter([wrap(n) for n in self.inputs])
            arguments = [unflatten(s, [next(handles) for _ in range(s.count)]) for s in specs]
            result = function(*arguments)
            tensors, self.spec = tensors_of(name, f"the result of {what}", result)
            self.outputs = [node_of(t) for t in tensors]

    def graph(self, outputs=None) -> tuple[Graph, list[Tensor]]:
        """(the graph over the placeholders and what was captured, the captured tensors)."""
        graph, captured = close_once(self.inputs, self.outputs if outputs is None else outputs)
        return intern(settled(graph)), self.outside(captured)

    def outside(self, captured: list[Node]) -> list[Tensor]:
        """Captured nodes as tensors of the code around."""
        return [wrap(n) for n in recorded_anew(captured, self.since, modes.grad)]


def matching_carry(name: str, traced: list[Node], spec: Spec, like: list[Node], want: Spec):
    """The new carry, if it has the structure, shapes and dtypes of the one that went in.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        If it has not.
    """
    if spec != want:
        raise ArgumentError(
            f"{name}: the carry that comes out must have the structure of the one that went in, {want}, got "
            f"{spec}; return the carry as it came"
        )
    for node, old, path in zip(traced, like, paths(want), strict=True):
        if node.shape != old.shape:
            raise ShapeError(
                f"{name}: the carry{path} must keep its shape {old.shape}, got {node.shape} after one "
                "iteration; start with the final shape (broadcast_to), or reduce inside the loop"
            )
        if node.dtype is not old.dtype:
            raise DTypeError(
                f"{name}: the carry{path} must keep its dtype {old.dtype!r}, got {node.dtype!r} after one "
                "iteration; convert the initial value or the result with .to()"
            )
    return traced


def promoted(init, like: list[Node], out: list[Node]) -> list[Node] | None:
    """The leaves of `init` in the dtype that one iteration gives them; None if they have it already.

    `like` are their nodes. A Python number is converted from what the user wrote.
    """
    if len(like) != len(out):
        return None
    better = [
        dtypes.promote_types(a.dtype, b.dtype) if a.shape == () else a.dtype
        for a, b in zip(like, out, strict=True)
    ]
    if all(d is n.dtype for d, n in zip(better, like, strict=True)):
        return None
    return [
        const(leaf, d) if type(leaf) in (bool, int, float) else cast_node(n, d)
        for leaf, n, d in zip(flatten(init)[0], like, better, strict=True)
    ]


def map_nodes(tensors) -> list[Node]:
    return [node_of(t) for t in tensors]


def over_the_same(*traces: Traced) -> tuple:
    """Graphs of several traces over one list of inputs: placeholders, then all that any captured."""
    closed = [close_once(t.inputs, t.outputs) for t in traces]
    every = list(dict.fromkeys(n for _, captured in closed for n in captured))
    graphs = []
    for (graph, captured), trace in zip(closed, traces, strict=True):
        own = dict(zip(captured, graph.inputs[len(trace.inputs) :], strict=True))
        holes = [
            own[n] if n in own else placeholder(-1, n.shape, n.dtype, n.requires_grad)
            for n in every
        ]
        graphs.append(
            intern(settled(Graph((*graph.inputs[: len(trace.inputs)], *holes), graph.outputs)))
        )
    return (*graphs, traces[0].outside(every))
