"""The graph: immutable nodes, sub-graphs as values, and walks that never recurse."""

from __future__ import annotations

from itertools import count
from operator import attrgetter

import numpy as np

from ..errors import ArgumentError
from .dtypes import DType
from .modes import modes
from .op import Op, register

# Bits of Node.mark, the little mutable state a node has besides its value.
FREED = 1  # backward has been through it, and its rule needed values that were then let go
SHARED = 2  # a leaf whose buffer the user's own NumPy array shares
DIRECT = 4  # backward must run its rule itself, not a cached pullback (hooks, custom functions)
INFERENCE = 8  # made in inference mode: no rule may save it
NUMBER = 16  # a placeholder for a Python number: it promotes as one
UNIT = 32  # a Jacobian's direction: 1 at one place and 0 elsewhere, whatever the values are


_created = count()


class Node:
    """One operation applied to inputs. Immutable but for the evaluated `value` and bookkeeping.

    Attributes
    ----------
    op : Op
    inputs : tuple of Node
    attrs : tuple
        Hashable static attributes, in the order of ``op.attrs``.
    shape : tuple of int
        (a tuple of shapes if ``op.outputs > 1``)
    dtype : DType
        (a tuple of dtypes if ``op.outputs > 1``)
    requires_grad : bool
        Whether derivatives flow through this node.
    value : ndarray or None
        The result, once known.
    holder : weakref.ref or None
        The tensor that shows this node to the user; while it lives, evaluation keeps the value.
    mark : int
        Bits FREED, SHARED, DIRECT, INFERENCE, NUMBER and UNIT.
    where : str or None
        The user's ``file:line``, kept under anomaly detection.
    hooks : list of callable or None
        Called with the node's whole cotangent while differentiating (``Tensor.register_hook``).
    seq : int
        Nodes are numbered as they are made, so ascending numbers are a topological order.
    depth : int
        Length of the longest chain of recorded nodes behind it when it was recorded.
    program : Program or None
        What computed the value (for ``fg.explain``).
    """

    __slots__ = (
        "__weakref__",
        "attrs",
        "depth",
        "dtype",
        "holder",
        "hooks",
        "inputs",
        "mark",
        "op",
        "program",
        "requires_grad",
        "seq",
        "shape",
        "value",
        "where",
    )

    def __init__(self, op, inputs, attrs, shape, dtype, requires_grad=False, value=None):
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.shape = shape
        self.dtype = dtype
        self.requires_grad = requires_grad
        self.value = value
        self.holder = None
        self.mark = 0
        self.where = None
        self.hooks = None
        self.program = None
        self.seq = next(_created)
        self.depth = 0

    @property
    def held(self) -> bool:
        """Whether a live tensor shows this node."""
        if self.holder is None:
            return False
        tensor = self.holder()
        return tensor is not None and tensor._node is self

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.dtype!r} {self.shape}>"


class Graph:
    """A sub-graph as a value: placeholders in, nodes out. Compared by identity.

    The inputs are nodes of the op ``input``; no other pending node may be reached from the outputs
    but constants.

    updates : pairs (output, input) of positions: the output is what this input, a leaf, becomes next.
    """

    __slots__ = (
        "__weakref__",
        "_order",
        "dtypes",
        "inputs",
        "name",
        "outputs",
        "shapes",
        "updates",
    )

    def __init__(self, inputs: tuple[Node, ...], outputs: tuple[Node, ...], name: str = "graph"):
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.shapes = tuple(n.shape for n in self.outputs)
        self.dtypes = tuple(n.dtype for n in self.outputs)
        self.name = name
        self.updates: tuple = ()
        self._order = None

    @classmethod
    def ordered(cls, graph: Graph, order: list[Node]) -> Graph:
        """`graph`, its nodes in another order, which has the inputs of a node before it as well."""
        found = cls(graph.inputs, graph.outputs, graph.name)
        found._order = order
        return found

    @property
    def order(self) -> list[Node]:
        """All nodes, inputs of a node before it."""
        if self._order is None:
            self._order = toposort(self.outputs)
        return self._order


def toposort(roots, stop=None) -> list[Node]:
    """The nodes that `roots` depend on, themselves included, each after its inputs. Iterative.

    A node for which ``stop(node)`` is true is listed, its inputs are not followed.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        if not node.inputs or (stop is not None and stop(node)):
            order.append(node)
            continue
        stack.append((node, True))
        for source in reversed(node.inputs):
            if source not in seen:
                stack.append((source, False))
    return order


_by_seq = attrgetter("seq")


def pending(roots) -> list[Node]:
    """What `roots` need, each after its inputs; nodes with a value are listed and not followed.

    Faster than ``toposort``: every node is seen once, and sorted by its number.
    """
    seen = set(roots)
    stack = list(seen)
    order = []
    while stack:
        node = stack.pop()
        order.append(node)
        if node.value is None:
            for source in node.inputs:
                if source not in seen:
                    seen.add(source)
                    stack.append(source)
    order.sort(key=_by_seq)
    return order


def _same(node, *_):
    return node.shape, node.dtype


# The graph's own operations. A leaf is a value from outside; with an input it is a variable whose
# value the graph computes (a parameter after an in-place update): derivatives stop at it.
LEAF = register(Op("leaf", "leaf", -1, (), infer=_same, numpy=lambda arrays: arrays[0]))
CONST = register(
    Op(
        "const",
        "const",
        0,
        ("number",),
        infer=None,
        numpy=None,
        doc="A number of the program's text.",
    )
)
INPUT = register(
    Op("input", "input", 0, ("index",), infer=None, numpy=None, doc="A placeholder of a sub-graph.")
)


def _proj_infer(node, index):
    return node.shape[index], node.dtype[index]


PROJ = register(
    Op(
        "proj",
        "proj",
        1,
        ("index",),
        infer=_proj_infer,
        numpy=lambda outs, index: outs[index],
        doc="One output of a node with several.",
    )
)


def leaf(value: np.ndarray, dtype: DType, requires_grad: bool = False) -> Node:
    """A node for an array from outside."""
    node = Node(LEAF, (), (), value.shape, dtype, requires_grad, value)
    if modes.inference:
        node.mark = INFERENCE
    return node


def variable(node: Node) -> Node:
    """A leaf that requires grad and whose value is that of `node`."""
    return Node(LEAF, (node,), (), node.shape, node.dtype, True, node.value)


_consts: dict = {}


def const(number, dtype: DType, shape: tuple = ()) -> Node:
    """A node for a Python number. Small, shared, and part of the program's text.

    With a `shape` it stands for an array filled with the number.

    Raises
    ------
    ArgumentError
        For an integer beyond 64 bits, or beyond the floats.
    """
    key = (number if number else str(number), type(number), dtype, shape)
    node = _consts.get(key)
    if node is None:
        try:
            value = np.asarray(number).astype(dtype.np)
        except OverflowError:
            raise ArgumentError(
                f"{number} is too large for {dtype!r}; give a smaller number"
            ) from None
        if shape:
            value = np.broadcast_to(value, shape)
        node = Node(
            CONST, (), (value.flat[0].item() if value.size else 0,), shape, dtype, False, value
        )
        if len(_consts) > 4096:
            _consts.clear()
        _consts[key] = node
    return node


def placeholder(index: int, shape, dtype: DType, requires_grad: bool = False) -> Node:
    """The `index`-th input of a sub-graph."""
    return Node(INPUT, (), (index,), shape, dtype, requires_grad)
