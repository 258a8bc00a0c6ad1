"""Pull-style elements: the expression of one element of a node, as reads of what is stored.

``Pull.element(node, index)`` follows elementwise and movement operations down to stored buffers, so these
operations cost no memory: they become arithmetic on values and on indices.
"""

from __future__ import annotations

from ..graph import dtypes
from ..graph.node import Node
from ..graph.shapes import row_major_strides
from . import ir
from .ir import Axis, Buffer, Expr


def axes_of(shape, name: str = "i") -> list[Axis]:
    """One loop axis a dimension."""
    return [Axis(size, f"{name}{k}") for k, size in enumerate(shape)]


def index_of(axes) -> list[Expr]:
    """Their expressions; an axis of extent 1 is the constant 0."""
    return [ir.var(a) if a.extent != 1 else ir.index(0) for a in axes]


def flat_index(index, shape) -> Expr:
    """The row-major position of a multi-index."""
    flat = ir.index(0)
    for i, stride in zip(index, row_major_strides(shape), strict=True):
        flat = flat + _expr(i) * stride
    return flat


def read(buffer: Buffer, shape: tuple, offset: Expr | None = None):
    """The elements of an array of `shape` that lies in `buffer`, from `offset` on."""

    def element(index):
        at = flat_index(index, shape)
        return ir.load(buffer, at if offset is None else offset + at)

    return element


def _expr(i) -> Expr:
    return i if isinstance(i, Expr) else ir.index(i)


class Pull:
    """Elements of the nodes of one graph.

    stored : nodes that have a buffer; given : what the elements of the graph's inputs are, as functions
    of an index (a row of an array outside a loop, for the loop's body).
    """

    def __init__(self, given: dict, bounds: list | None = None):
        self.given = given
        self.stored: dict[Node, Buffer] = {}
        self.memo: dict = {}
        self.copies: dict = {}  # (node, layout) -> buffer that holds it in that layout
        # In a loop's body: what is the same in every iteration -> (pull, node, nests before the loop).
        self.constants: dict = {}
        self.bounds: list = (
            [] if bounds is None else bounds
        )  # (condition that must not hold, node, size) of indices from data

    def element(self, node: Node, index) -> Expr:
        """The element of `node` at `index` (expressions or ints)."""
        index = tuple(_expr(i) for i in index)
        key = (node, index)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self._element(node, index)
        return found

    def _element(self, node: Node, index) -> Expr:
        buffer = self.stored.get(node)
        if buffer is not None:
            return ir.load(buffer, flat_index(index, node.shape))
        if node.op.kind == "input":
            return self.input_element(node, index)
        return element_rule(node)(self, node, index)

    def input_element(self, node: Node, index) -> Expr:
        """An element of one of the graph's inputs."""
        return self.given[node](index)

    def inside(self, node: Node, index):
        """`index` for an operand that is broadcast to the node it feeds."""
        lead = len(index) - len(node.shape)
        return [0 if size == 1 else index[k + lead] for k, size in enumerate(node.shape)]


def _const(pull, node, index):
    return ir.const(node.attrs[0], node.dtype)


def scalar_expression(node: Node, args) -> Expr:
    """The scalar expression of an elementwise node for its operands' elements."""
    loop = node.op.loop
    if loop == "cast":
        return _cast(args[0], node.dtype)
    if isinstance(loop, str):
        return ir.call(loop, *args)
    return loop(ir, *args, *node.attrs)


def _cast(x: Expr, dtype) -> Expr:
    if dtype.category == dtypes.BOOL and x.dtype.category != dtypes.BOOL:
        return x.ne(0)
    if x.dtype.is_floating_point and dtype.category == dtypes.INTEGER:
        x = _within(x, 2.0 ** (8 * max(dtype.itemsize, 4) - 1))
    return ir.cast(x, dtype)


def _within(x: Expr, limit: float) -> Expr:
    """`x`, or ``-limit`` for NaN and what no integer below `limit` stands for.

    Processors differ there and C leaves it open: this is what NumPy finds on x86.
    """
    return ir.where((x >= -limit) & (x < limit), x, -limit)


def _elementwise(pull, node, index):
    args = [pull.element(s, pull.inside(s, index)) for s in node.inputs]
    return scalar_expression(node, args)


def _movement(pull, node, index):
    source = node.inputs[0]
    return pull.element(source, node.op.loop(list(index), source.shape, *node.attrs))


def _source(pull, node, index):
    return ir.cast(_expr(node.op.loop(list(index), *node.attrs)), node.dtype)


def _pad(pull, node, index):
    """An element of the source inside, the fill value outside (where the read is clamped)."""
    low, _high, fill = node.attrs
    source = node.inputs[0]
    inside = None
    at = []
    for i, before, size in zip(index, low, source.shape, strict=True):
        k = i - before
        for ok in (k >= 0, k < size):
            if ok.kind == "const" and not ok.arg:  # always outside
                return ir.const(fill.number, node.dtype)
            if ok.kind != "const":
                inside = ok if inside is None else inside & ok
        at.append(ir.binary("min", ir.binary("max", k, 0), max(size - 1, 0)))
    if 0 in source.shape:
        return ir.const(fill.number, node.dtype)
    value = pull.element(source, at)
    return value if inside is None else ir.where(inside, value, ir.const(fill.number, node.dtype))


def _gather(pull, node, index):
    from .indexed import gather

    return gather(pull, node, index)


def _scatter(pull, node, index):
    from .indexed import scatter_element

    return scatter_element(pull, node, index)


ELEMENT = {
    "const": _const,
    "elementwise": _elementwise,
    "movement": _movement,
    "source": _source,
    "pad": _pad,
    "gather": _gather,
}


def element_rule(node: Node):
    """How an element of `node` is computed where it is read; None if it must be stored."""
    from .indexed import one_per_row

    if node.op.kind == "scatter" and one_per_row(node):
        return _scatter
    return ELEMENT.get(node.op.kind)
