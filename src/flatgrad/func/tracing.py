"""A user's function as a graph: traced once for its arguments' shapes, with all that it captured as inputs.

What a traced function reads from outside (parameters of a module it closes over) is found through the tensor
that shows it, so that every later call sees the tensor's present value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ArgumentError, TraceError
from ..graph.dtypes import DType, float64, int64
from ..graph.dtypes import bool_ as bool_dtype
from ..graph.modes import modes
from ..graph.node import NUMBER, Graph, Node, placeholder, toposort
from ..tensor import Tensor, late, node_of, user_line, wrap
from ..transform.trace import is_constant, quiet, settled
from .arguments import output_tensors
from .tree import Spec

__all__ = ["Kind", "Traced", "is_number", "kind_of"]

_NUMBERS = {float: float64, int: int64, bool: bool_dtype}


class Kind:
    """What a trace knows of one argument: equal kinds share a trace.

    Attributes
    ----------
    shape : tuple of int
    dtype : DType
    number : bool
        A Python number: it is a program's input like all others, and promotes as a number does.
    """

    __slots__ = ("dtype", "number", "shape")

    def __init__(self, shape: tuple, dtype: DType, number: bool = False):
        self.shape, self.dtype, self.number = shape, dtype, number

    def __repr__(self) -> str:
        if self.number:
            return {v: k.__name__ for k, v in _NUMBERS.items()}[self.dtype]
        return f"{self.dtype.name}{list(self.shape)}"


def is_number(x) -> bool:
    return type(x) in _NUMBERS


def kind_of(name: str, x, path: str) -> Kind:
    """The kind of an argument's leaf.

    Raises
    ------
    ArgumentError
        If it is no tensor, array or number.
    DTypeError
        For an array of a dtype that flatgrad has not.
    """
    if isinstance(x, Tensor):
        node = node_of(x)
        return Kind(node.shape, node.dtype)
    if type(x) in _NUMBERS:
        return Kind((), _NUMBERS[type(x)], True)
    if isinstance(x, (np.ndarray, np.generic)):
        node = node_of(late.convert(np.empty(np.shape(x), x.dtype) if x.ndim else x))
        return Kind(node.shape, node.dtype)
    if isinstance(x, (int, float)):  # an enumeration's member, for example
        return kind_of(name, float(x) if isinstance(x, float) else int(x), path)
    raise ArgumentError(
        f"{name}: argument {path} is of type {type(x).__name__}, which is not data that a program can "
        "take; declare it static (static_argnums, static_argnames), or close over it"
    )


class Traced:
    """A function traced for given kinds.

    Attributes
    ----------
    graph : Graph
        Its inputs are the arguments, then what was captured.
    captured : list of (Tensor or Node)
        Tensors are read at every call; nodes are constants.
    spec : Spec
        The structure of the result.
    """

    graph: Graph
    captured: list
    spec: Spec

    def __init__(self, name: str, function: Callable, kinds: list[Kind], *, weak: bool = True):
        """`function` takes a list of tensors. Numbers promote as such if `weak`.

        Raises
        ------
        TraceError
            If `function` asks for a value, or writes to a tensor from outside.
        ArgumentError
            If it returns something that is no data.
        """
        before = modes.written, modes.traced
        modes.written, modes.traced = [], True
        try:
            with quiet(grad=True):
                inputs = [
                    placeholder(k, kind.shape, kind.dtype, kind.dtype.is_differentiable)
                    for k, kind in enumerate(kinds)
                ]
                for node, kind in zip(inputs, kinds, strict=True):
                    node.mark |= NUMBER if kind.number and weak else 0
                since = inputs[0].seq if inputs else placeholder(0, (), float64).seq
                try:
                    result = function([wrap(n) for n in inputs])
                finally:
                    undo_writes(name, modes.written, since)
                tensors, self.spec = output_tensors(name, result)
                outputs = [node_of(t) for t in tensors]
                del result, tensors
        finally:
            modes.written, modes.traced = before
        graph, self.captured = _closed(inputs, outputs, since, name)
        self.graph = settled(graph)

    @property
    def captured_nodes(self) -> list[Node]:
        """What was captured, as it is now."""
        return [node_of(c) if isinstance(c, Tensor) else c for c in self.captured]


def undo_writes(name: str, written: list, since: int) -> None:
    """Give tensors from outside that were written back what they showed.

    Raises
    ------
    TraceError
        If there was one.
    """
    outside = [(t, node) for t, node in written if node.seq < since]
    for t, node in reversed(outside):
        t._node = node
        t._writes += 1
    if outside:
        t = outside[0][0]
        raise TraceError(
            f"{name}: {user_line()}: the function wrote in place to a tensor from outside (shape "
            f"{tuple(t._node.shape)}). A traced function runs once and must not have such effects; return "
            "the new value and write it outside"
        )


def _closed(inputs: list[Node], outputs: list[Node], since: int, name: str):
    """(graph, what it captured). What was made while tracing is part of it, down to what is older."""
    given = set(inputs)

    def from_outside(n: Node) -> bool:
        return n not in given and not is_constant(n) and (n.seq < since or not n.inputs)

    order = toposort(outputs, stop=lambda n: n in given or from_outside(n))
    captured = {
        n: placeholder(len(inputs) + k, n.shape, n.dtype, n.requires_grad)
        for k, n in enumerate([n for n in order if from_outside(n)])
    }
    mapping = {n: n for n in inputs} | captured
    for node in order:
        if node in mapping or not node.inputs:
            mapping.setdefault(node, node)
            continue
        # Also what has a value, asked for while tracing, is computed anew at every call. Whether
        # derivatives flow through a node was decided by the mode it was recorded in.
        sources = tuple([mapping[s] for s in node.inputs])
        flows = node.requires_grad
        copy = Node(node.op, sources, node.attrs, node.shape, node.dtype, flows)
        copy.where, copy.mark = node.where, node.mark
        mapping[node] = copy
    outputs = [mapping[n] for n in outputs]
    return Graph((*inputs, *captured.values()), tuple(outputs), name), [
        n.holder() if n.held else n for n in captured
    ]
