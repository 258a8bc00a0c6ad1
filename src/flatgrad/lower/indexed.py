"""Reads and writes at indices that are data: gather, scatter (see ops/indexing for their meaning).

Every index is checked: out of range ones raise a flag that ends the program with an error, and are
clamped meanwhile so that nothing outside an array is touched.
"""

from __future__ import annotations

from ..graph import dtypes
from ..graph.node import Node
from . import ir
from .index import value_range
from .ir import Buffer, Expr
from .nest import Nest, copy_nest
from .pull import Pull, axes_of, flat_index, index_of


def checked(pull: Pull, node: Node, index: Node, at, size: int) -> Expr:
    """The element `at` of an index tensor: wrapped if negative, checked, clamped to ``[0, size)``.

    What is known to be inside (a counted index, a table that the program holds) needs none of it.
    """
    value = ir.cast(pull.element(index, at), dtypes.int64)
    low, high = value_range(value)
    if low >= 0 and high < size:
        return value
    wrapped = ir.where(value < 0, value + size, value)
    pull.bounds.append(((wrapped < 0) | (wrapped >= size), node, size))
    return ir.binary("min", ir.binary("max", wrapped, 0), max(size - 1, 0))


def gather(pull: Pull, node: Node, index) -> Expr:
    """An element of INDEX or GATHER."""
    x = node.inputs[0]
    if node.op.name == "gather":
        dim = node.attrs[0]
        place = list(index)
        place[dim] = checked(pull, node, node.inputs[1], index, x.shape[dim])
        return pull.element(x, place)
    return pull.element(x, _index_place(pull, node, x, node.inputs[1:], node.attrs[0], index))


def _index_place(pull: Pull, node: Node, x: Node, indices, dims, index) -> list:
    """Where in `x` the element `index` of INDEX's result lies."""
    rank = len(indices[0].shape)
    first = dims[0]
    inner = list(index[first : first + rank])
    places = [checked(pull, node, i, inner, x.shape[d]) for d, i in zip(dims, indices, strict=True)]
    return [*index[:first], *places, *index[first + rank :]]


def scatter(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """The base copied, then the source's elements written or combined in row-major order."""
    base, source = node.inputs[:2]
    axes = axes_of(source.shape)
    index = index_of(axes)
    if node.op.name == "scatter":
        dim, reduce = node.attrs
        place = list(index)
        place[dim] = checked(pull, node, node.inputs[2], index, base.shape[dim])
    else:
        dims, accumulate = node.attrs
        reduce = "add" if accumulate else "set"
        place = _index_place(pull, node, base, node.inputs[2:], dims, index)
    at = flat_index(place, base.shape)
    value = pull.element(source, index)
    if reduce == "set":
        write = ir.Store(buffer, at, value)
    else:
        write = ir.AccumStore(
            buffer, at, COMBINE[reduce, node.dtype.category == dtypes.BOOL], value
        )
    return [copy_nest(pull, base, buffer), Nest(buffer, axes, 0, [write])]


COMBINE = {
    ("add", False): "add",
    ("prod", False): "mul",
    ("amax", False): "max",
    ("amin", False): "min",
    ("add", True): "or",
    ("prod", True): "and",
    ("amax", True): "or",
    ("amin", True): "and",
}


def one_per_row(node: Node) -> bool:
    """Whether a SCATTER touches one element of each row along its dim, so that it can be pulled."""
    if node.op.name != "scatter" or node.attrs[1] not in ("set", "add"):
        return False
    dim = node.attrs[0]
    base, source = node.inputs[:2]
    rows = all(
        a == b for k, (a, b) in enumerate(zip(base.shape, source.shape, strict=True)) if k != dim
    )
    return rows and source.shape[dim] == 1 and node.dtype.category != dtypes.BOOL


def scatter_element(pull: Pull, node: Node, index) -> Expr:
    """Pull-style: the source's element where the row's index is this one, else the base's.

    This is the gradient of picking one element a row (cross entropy): it fuses with what adds to it.
    """
    base, source, picked = node.inputs
    dim, reduce = node.attrs
    at = list(index)
    at[dim] = ir.index(0)
    here = checked(pull, node, picked, at, base.shape[dim]).eq(index[dim])
    old = pull.element(base, index)
    new = pull.element(source, at)
    return ir.where(here, old + new if reduce == "add" else new, old)
