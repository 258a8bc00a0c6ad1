"""The largest element over dimensions, its derivative at the first that attains it: max pooling's."""

from __future__ import annotations

import numpy as np

from ..tensor import Tensor, node_of, record
from .creation import iota
from .declare import primitive
from .logic import eq
from .movement import reshape
from .reduction import ARGMAX, keep_shape, reduce_sum, reduced_shape
from .selection import select


def _position(shape: tuple, dims: tuple) -> Tensor:
    """Each element's row-major position among those that `dims` hold, as ARGMAX counts it."""
    found = None
    step = 1
    for d in reversed(dims):
        term = iota(shape, d) * step if step > 1 else iota(shape, d)
        found = term if found is None else found + term
        step *= shape[d]
    return found


def _chosen(x: Tensor, dims: tuple) -> Tensor:
    """A mask of the shape of `x`: the first of the largest elements over `dims`."""
    shape = node_of(x).shape
    at = record(ARGMAX, (x,), (dims,))
    return eq(_position(shape, dims), reshape(at, keep_shape(shape, dims)))


def _pullback(g, out, x, dims):
    shape = x._node.shape
    return (select(_chosen(x, dims), reshape(g, keep_shape(shape, dims)), 0.0),)


def _pushforward(ts, out, x, dims):
    return None if ts[0] is None else reduce_sum(select(_chosen(x, dims), ts[0], 0.0), dims)


FIRST_MAX = primitive(
    "first_max",
    "reduction",
    1,
    ("dims",),
    infer=lambda x, dims: (reduced_shape(x.shape, dims), x.dtype),
    numpy=lambda x, dims: np.max(x, axis=dims),
    pullback=_pullback,
    pushforward=_pushforward,
    loop="max",
    doc="The largest element over dimensions (NaN if there is one).",
    kinks="of several largest elements the first in row-major order has the derivative",
)


def first_max(t: Tensor, dims: tuple) -> Tensor:
    """The largest element over `dims` (sorted, not negative), which vanish and hold elements."""
    return record(FIRST_MAX, (t,), (dims,))
