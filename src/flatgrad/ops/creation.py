"""Constant arrays of the graph: filled and counted ones, which cost no memory until they are needed."""

from __future__ import annotations

import numpy as np

from ..graph.dtypes import DType, int64
from ..graph.node import Node, const
from ..tensor import Tensor, record, wrap
from .declare import primitive


def zeros_of(node: Node) -> Tensor:
    """Zeros of a node's shape and dtype."""
    return wrap(const(0, node.dtype, node.shape))


def full_of(node: Node, number) -> Tensor:
    """`number` in a node's shape and dtype."""
    return wrap(const(number, node.dtype, node.shape))


def scalar_of(node: Node, number) -> Tensor:
    """`number` as a 0-d tensor of a node's dtype, where a bare number would get the default dtype."""
    return wrap(const(number, node.dtype))


def _iota_numpy(shape, dim, dtype):
    wide = tuple(-1 if k == dim else 1 for k in range(len(shape)))
    return np.broadcast_to(np.arange(shape[dim]).astype(dtype.np).reshape(wide), shape)


# Kind "source": loop(index, *attrs) is the element at an index.
IOTA = primitive(
    "iota",
    "source",
    0,
    ("shape", "dim", "dtype"),
    infer=lambda shape, dim, dtype: (shape, dtype),
    numpy=_iota_numpy,
    loop=lambda index, shape, dim, dtype: index[dim],
    doc="Each element's index along a dimension.",
)


def iota(shape: tuple, dim: int, dtype: DType = int64) -> Tensor:
    """Each element's index along `dim`, in an array of `shape`."""
    return record(IOTA, (), (shape, dim, dtype))
