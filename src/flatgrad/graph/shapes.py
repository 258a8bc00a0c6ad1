"""Shapes: broadcasting, dimension arguments, sizes. Pure functions over tuples of int."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from ..errors import ArgumentError, IndexingError, ShapeError

__all__ = ["addressable", "broadcast", "normal_dim", "normal_dims", "numel", "row_major_strides"]


def numel(shape) -> int:
    return prod(shape)


def addressable(name: str, shape: tuple) -> tuple[int, ...]:
    """`shape`, whose elements can be numbered in 64 bits however wide they are.

    Raises
    ------
    ShapeError
        If they cannot; it is raised before anything is allocated or recorded.
    """
    # NumPy multiplies the sizes that are not 0, even in an array that has no elements.
    if prod(size for size in shape if size) >> 59:
        raise ShapeError(
            f"{name}: a tensor must have fewer than 2**59 elements, got shape {tuple(shape)}; "
            "reduce the sizes"
        )
    return shape


def broadcast(name: str, *shapes) -> tuple[int, ...]:
    """The common shape of `shapes` by NumPy's rule.

    Raises
    ------
    ShapeError
        If two sizes of one dimension differ and neither is 1.
    """
    first = shapes[0]
    if all(s == first for s in shapes):
        return tuple(first)
    rank = max(len(s) for s in shapes)
    out = [1] * rank
    for s in shapes:
        for k, size in enumerate(s, rank - len(s)):
            if size == 1 or size == out[k]:
                continue
            if out[k] != 1:
                given = " and ".join(str(tuple(x)) for x in shapes)
                raise ShapeError(
                    f"{name}: shapes do not broadcast: {given} differ at dimension {k - rank} "
                    f"({out[k]} != {size}); sizes must be equal or 1, so reshape or unsqueeze one of them"
                )
            out[k] = size
    return tuple(out)


def normal_dim(name: str, dim, rank: int, *, extra: int = 0) -> int:
    """`dim` counted from the front; `extra` more dimensions are allowed (unsqueeze, stack).

    Raises
    ------
    IndexingError
        If it is out of range.
    """
    if type(dim) is not int:
        try:
            dim = dim.__index__()
        except (AttributeError, TypeError):
            raise ArgumentError(f"{name}: dim must be an int, got {type(dim).__name__}") from None
    span = max(rank + extra, 1)
    if not -span <= dim < span:
        raise IndexingError(
            f"{name}: dim {dim} is out of range for a tensor of {rank} dimensions; "
            f"it must be in [{-span}, {span - 1}]"
        )
    return dim + span if dim < 0 else dim


def normal_dims(name: str, dims, rank: int) -> tuple[int, ...]:
    """Dimension arguments of reductions, ascending: None or () means all.

    Raises
    ------
    IndexingError, ArgumentError
        If one is out of range or named twice.
    """
    if dims is None or (isinstance(dims, (tuple, list)) and len(dims) == 0):
        return tuple(range(rank))
    if not isinstance(dims, (tuple, list)):
        dims = (dims,)
    out = sorted(normal_dim(name, d, rank) for d in dims)
    if rank == 0:
        return ()
    for a, b in pairwise(out):
        if a == b:
            raise ArgumentError(f"{name}: dim {a} appears more than once in {tuple(dims)}")
    return tuple(out)


def row_major_strides(shape) -> tuple[int, ...]:
    """Strides in elements of a contiguous array."""
    strides = [1] * len(shape)
    for k in range(len(shape) - 2, -1, -1):
        strides[k] = strides[k + 1] * shape[k + 1]
    return tuple(strides)
