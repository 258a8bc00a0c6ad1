"""Reductions. A reduction primitive's ``loop`` names the combiner: add, mul, max, min, and, or, argmax, argmin.

Primitives take the sorted tuple of dimensions that vanish; ``keepdim`` is a reshape of the face.
"""

from __future__ import annotations

import numpy as np

from ..errors import DTypeError
from ..graph import dtypes
from ..graph.shapes import normal_dims
from ..tensor import Tensor, node_of, record
from .declare import cast, composite, linear, primitive, tensor_of


def reduced_shape(shape, dims):
    return tuple(s for k, s in enumerate(shape) if k not in dims)


def keep_shape(shape, dims):
    return tuple(1 if k in dims else s for k, s in enumerate(shape))


def restore(t: Tensor, x: Tensor, dims: tuple) -> Tensor:
    """A reduced tensor stretched back to the shape of `x`."""
    from .movement import expand, reshape

    shape = x._node.shape
    return expand(reshape(t, keep_shape(shape, dims)), shape)


SUM = primitive(
    "reduce_sum",
    "reduction",
    1,
    ("dims",),
    infer=lambda x, dims: (reduced_shape(x.shape, dims), x.dtype),
    numpy=lambda x, dims: np.sum(x, axis=dims, dtype=x.dtype),
    pullback=lambda g, out, x, dims: (restore(g, x, dims),),
    pushforward=lambda ts, out, x, dims: linear(ts, lambda t: reduce_sum(t, dims)),
    loop="add",
    doc="The sum over dimensions.",
)


def reduce_sum(t: Tensor, dims: tuple) -> Tensor:
    """The sum over `dims` (sorted, not negative), which vanish."""
    return record(SUM, (t,), (dims,)) if dims else t


def with_keepdim(t: Tensor, x: Tensor, dims: tuple, keepdim: bool) -> Tensor:
    from .movement import reshape

    return reshape(t, keep_shape(node_of(x).shape, dims)) if keepdim else t


def _integral_to_int64(x: Tensor, dtype) -> Tensor:
    if dtype is not None:
        return cast(x, dtypes.as_dtype(dtype))
    return cast(x, dtypes.int64) if x._node.dtype.category < dtypes.FLOAT else x


@composite(op=SUM, numpy=(np.sum,))
def sum(input: Tensor, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """The sum over `dim` (an int, a tuple, or None for all)."""
    x = _integral_to_int64(tensor_of("sum", input), dtype)
    dims = normal_dims("sum", dim, x.ndim)
    return with_keepdim(reduce_sum(x, dims), x, dims, keepdim)


@composite(numpy=(np.mean,))
def mean(input: Tensor, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """The arithmetic mean over `dim`."""
    x = tensor_of("mean", input)
    if dtype is not None:
        x = cast(x, dtypes.as_dtype(dtype))
    if x._node.dtype.category < dtypes.FLOAT:
        raise DTypeError(
            f"mean: a floating-point tensor is required, got {x.dtype!r}; pass dtype=flatgrad.float32"
        )
    dims = normal_dims("mean", dim, x.ndim)
    count = 1
    for d in dims:
        count *= x._node.shape[d]
    return with_keepdim(reduce_sum(x, dims) / float(count), x, dims, keepdim)
