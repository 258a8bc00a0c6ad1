"""Searching sorted sequences, counting, distinct values.

Where the result's shape depends on values (``unique``, ``bincount``) they are evaluated at the
call.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..graph.node import leaf
from ..graph.op import BadCall, Sample
from ..graph.shapes import normal_dim
from ..tensor import Tensor, late, node_of, record, wrap
from .declare import cast, composite, primitive, tensor_of
from .reduction import float_only


def values_of(name: str, value) -> np.ndarray:
    """The array of `value`, evaluated now: the result's shape or meaning depends on it."""
    if isinstance(value, Tensor):
        node = node_of(value)
        late.evaluate([node])
        return node.value
    return np.asarray(value)


def _made(array: np.ndarray) -> Tensor:
    array = np.asarray(array, order="C")
    return wrap(leaf(array, dtypes.as_dtype(array.dtype)))


def _search_numpy(sorted_sequence, values, right):
    side = "right" if right else "left"
    if sorted_sequence.ndim == 1:
        return np.searchsorted(sorted_sequence, values, side)
    out = np.empty(values.shape, np.int64)
    for at in np.ndindex(*values.shape[:-1]):
        out[at] = np.searchsorted(sorted_sequence[at], values[at], side)
    return out


SEARCH = primitive(
    "searchsorted",
    "library",
    2,
    ("right",),
    infer=lambda sorted_sequence, values, right: (values.shape, dtypes.int64),
    numpy=_search_numpy,
    loop=("searchsorted",),
    doc="Where values would be inserted into the sorted last dimension.",
)


def _search_samples(rng):
    row = np.array([1.0, 3.0, 5.0, 7.0])
    yield Sample((row, np.array([[0.0, 3.0], [4.0, 9.0]])))
    yield Sample((row, np.array([3.0, 7.0])), {"right": True})
    yield Sample((np.stack([row, row + 1]), np.array([[3.0], [3.5]])))


def _search_errors():
    yield BadCall((np.ones((2, 3)), np.ones((3, 1))), ShapeError, "leading")
    yield BadCall((np.ones(()), np.ones(1)), ShapeError, "1 dimension")


@composite(
    op=SEARCH, methods=(), samples=_search_samples, errors=_search_errors, differentiable=False
)
def searchsorted(
    sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None
) -> Tensor:
    """The positions at which `input` keeps the sorted last dimension of a sequence in order.

    Parameters
    ----------
    sorted_sequence : Tensor, shape (n,) or (*B, n), ascending
    input : Tensor or number, shape (*B, m), any shape if the sequence is a vector
    out_int32 : bool
        int32 in place of int64.
    right : bool
        After elements that are equal, not before (also ``side="right"``).
    sorter : Tensor of int64, optional
        The order of the sequence, if it is not sorted itself.
    """
    row = tensor_of("searchsorted", sorted_sequence)
    values = tensor_of("searchsorted", input, 1)
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ArgumentError(
            f'searchsorted: side must be "left" or "right", in agreement with right={right}, '
            f"got {side!r}"
        )
    if not row.ndim:
        raise ShapeError("searchsorted: a sequence of at least 1 dimension is required")
    if row.ndim > 1 and node_of(row).shape[:-1] != node_of(values).shape[:-1]:
        raise ShapeError(
            f"searchsorted: the leading dimensions differ: {tuple(row.shape)} and "
            f"{tuple(values.shape)}; use a vector to search one sequence for all"
        )
    if sorter is not None:
        row = row.gather(-1, sorter)
    dtype = dtypes.promote_types(node_of(row).dtype, node_of(values).dtype)
    found = record(
        SEARCH, (cast(row, dtype), cast(values, dtype)), (bool(right or side == "right"),)
    )
    return cast(found, dtypes.int32) if out_int32 else found


def _bucket_samples(rng):
    yield Sample((np.array([[0.0, 3.0], [4.0, 9.0]]), np.array([1.0, 3.0, 5.0])))


def _bucket_errors():
    yield BadCall((np.ones(2), np.ones((2, 2))), ShapeError, "1 dimension")


@composite(methods=(), samples=_bucket_samples, errors=_bucket_errors, differentiable=False)
def bucketize(input, boundaries, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The bucket, between ascending `boundaries`, of each element. See ``searchsorted``."""
    row = tensor_of("bucketize", boundaries, 1)
    if row.ndim != 1:
        raise ShapeError(
            f"bucketize: boundaries of 1 dimension are required, got shape {tuple(row.shape)}"
        )
    return searchsorted(row, input, out_int32=out_int32, right=right)


def _unique_samples(rng):
    x = np.array([3.0, 1.0, 2.0, 1.0])
    for kwargs in ({}, {"return_inverse": True, "return_counts": True}):
        yield Sample((x,), kwargs)
    yield Sample((np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]),), {"dim": 0})


@composite(samples=_unique_samples, differentiable=False)
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim=None,
):
    """The distinct elements (or slices along `dim`), ascending. Evaluates the tensor; no gradient.

    Returns
    -------
    Tensor, or a tuple of it and, as asked, each element's position in it and the counts
    """
    x = tensor_of("unique", input)
    if dim is not None:
        dim = normal_dim("unique", dim, x.ndim)
    found = np.unique(
        values_of("unique", x), return_inverse=True, return_counts=True, axis=dim, equal_nan=False
    )
    values, inverse, counts = found
    inverse = inverse.reshape(tuple(x.shape) if dim is None else (-1,))
    wanted = [values] + [inverse] * return_inverse + [counts] * return_counts
    made = tuple(_made(a) for a in wanted)
    return made[0] if len(made) == 1 else made


def _bincount_errors():
    yield BadCall((np.array([-1, 2]),), ArgumentError, "negative")
    yield BadCall((np.array([1.0, 2.0]),), DTypeError, "integer")
    yield BadCall((np.array([[1]]),), ShapeError, "1 dimension")


def _bincount_samples(rng):
    yield Sample((np.array([0, 2, 2, 5]),))
    yield Sample((np.array([0, 2, 2]),), {"minlength": 6})
    yield Sample((np.array([0, 2, 2]), np.array([0.5, 1.0, 2.0])))


@composite(
    numpy=(np.bincount,), samples=_bincount_samples, errors=_bincount_errors, differentiable=False
)
def bincount(input: Tensor, weights=None, minlength: int = 0) -> Tensor:
    """How often each non-negative integer occurs, or its sum of weights. Evaluates the tensor."""
    x = tensor_of("bincount", input)
    if node_of(x).dtype.category != dtypes.INTEGER:
        raise DTypeError(f"bincount: an integer tensor is required, got {x.dtype!r}")
    if x.ndim != 1:
        raise ShapeError(f"bincount: 1 dimension is required, got shape {tuple(x.shape)}")
    numbers = values_of("bincount", x)
    if numbers.size and numbers.min() < 0:
        raise ArgumentError(f"bincount: the numbers must not be negative, got {numbers.min()}")
    if weights is None:
        return _made(np.bincount(numbers, minlength=minlength).astype(np.int64))
    loads = values_of("bincount", weights)
    if loads.shape != numbers.shape:
        raise ShapeError(
            f"bincount: weights must have input's shape {numbers.shape}, got {loads.shape}"
        )
    out = np.bincount(numbers, loads, minlength)
    return _made(out.astype(np.float32 if loads.dtype == np.float32 else np.float64))


def _histc_samples(rng):
    yield Sample((rng.normal(size=20),), {"bins": 5})
    yield Sample((rng.normal(size=20),), {"bins": 4, "min": -1.0, "max": 1.0})


def _histc_errors():
    yield BadCall((np.ones(3), 0), ArgumentError, "bins")
    yield BadCall((np.ones(3), 3, 2.0, 1.0), ArgumentError, "max")


@composite(samples=_histc_samples, errors=_histc_errors, differentiable=False)
def histc(input: Tensor, bins: int = 100, min=0, max=0) -> Tensor:
    """Counts in `bins` equal intervals from `min` to `max` (the data's range if both are 0).

    Elements outside, and NaN, are not counted. Evaluates the tensor.
    """
    x = tensor_of("histc", input)
    float_only("histc", x)
    if bins < 1:
        raise ArgumentError(f"histc: bins must be positive, got {bins}")
    if max < min:
        raise ArgumentError(f"histc: max must not be less than min, got {min} and {max}")
    values = values_of("histc", x).reshape(-1)
    if min == max and values.size:
        min, max = float(values.min()), float(values.max())
    if min == max:
        min, max = min - 1, max + 1
    counts = np.histogram(values[values == values], bins, (min, max))[0]
    return _made(counts.astype(node_of(x).dtype.np))
