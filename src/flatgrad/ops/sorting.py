"""Sorting and what follows from it: the largest, the middle, the most frequent, quantiles.

NaN counts as the greatest number, as in PyTorch. The derivative of a sorted or selected value goes
to the element that it was taken from.
"""

from __future__ import annotations

from collections import namedtuple
from math import ceil, floor

import numpy as np

from ..errors import ArgumentError, DTypeError, IndexingError, ShapeError
from ..graph import dtypes
from ..graph.node import const
from ..graph.op import BadCall, Sample
from ..graph.shapes import normal_dim
from ..tensor import ALIAS, Tensor, node_of, record, record_outputs, wrap
from .declare import cast, composite, primitive, tensor_of
from .reduction import (
    along_dim,
    constant,
    dim_errors,
    float_only,
    not_empty,
    reduce_sum,
    restore,
    single_dim,
    with_keepdim,
)
from .scan import narrowed, taken

SortResult = namedtuple("sort", ["values", "indices"])
TopkResult = namedtuple("topk", ["values", "indices"])
KthvalueResult = namedtuple("kthvalue", ["values", "indices"])
MedianResult = namedtuple("median", ["values", "indices"])
NanmedianResult = namedtuple("nanmedian", ["values", "indices"])
ModeResult = namedtuple("mode", ["values", "indices"])


# -- sort -----------------------------------------------------------------------------------------


def order_of(x: np.ndarray, dim: int, descending: bool) -> np.ndarray:
    """The stable order of an array along `dim`, NaN greatest."""
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    backwards = np.argsort(np.flip(x, dim), axis=dim, kind="stable")
    return np.flip(x.shape[dim] - 1 - backwards, dim)


def _sort_numpy(x, dim, descending, stable):
    order = order_of(x, dim, descending)
    return np.take_along_axis(x, order, dim), order.astype(np.int64, copy=False)


def _sort_pullback(g, out, x, dim, descending, stable):
    from .creation import zeros_of

    if g[0] is None:
        return (None,)
    return (zeros_of(x._node).scatter_add(dim, out[1], g[0]),)


def _sort_pushforward(ts, out, x, dim, descending, stable):
    return None if ts[0] is None else (ts[0].gather(dim, out[1]), None)


SORT = primitive(
    "sort",
    "library",
    1,
    ("dim", "descending", "stable"),
    infer=lambda x, *attrs: ((x.shape, x.shape), (x.dtype, dtypes.int64)),
    numpy=_sort_numpy,
    pullback=_sort_pullback,
    pushforward=_sort_pushforward,
    loop=("sort",),
    outputs=2,
    doc="The elements in order along a dimension and their former positions; always stable.",
    kinks="equal elements: in the order they were found in.",
)


def sorted_pair(x: Tensor, dim: int, descending: bool = False, stable: bool = True):
    return record_outputs(SORT, (x,), (dim, descending, stable))


def _position_zero(x: Tensor) -> Tensor:
    """The index of a 0-d tensor's element."""
    return wrap(const(0, dtypes.int64, node_of(x).shape))


def _sort_samples(rng):
    for shape, kwargs in [
        ((5,), {}), ((2, 4), {"dim": 0}), ((2, 4), {"dim": -1, "descending": True}), ((), {}),
        ((0,), {}), ((2, 3, 2), {"dim": 1, "stable": True}),
    ]:  # fmt: skip
        yield Sample((rng.permutation(int(np.prod(shape))).reshape(shape) * 1.0 - 2.5,), kwargs)


def _sort_errors():
    yield BadCall((np.ones((2, 3)), 2), IndexingError, "out of range")


@composite(op=SORT, samples=_sort_samples, errors=_sort_errors)
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False):
    """The elements in order along `dim`: the named tuple ``(values, indices)``.

    NaN is greatest. Equal elements keep their order, whether `stable` asks for it or not.

    Examples
    --------
    >>> import flatgrad as fg
    >>> values, indices = fg.sort(fg.tensor([3.0, 1.0, 2.0]))
    >>> indices.tolist()
    [1, 2, 0]
    """
    x = tensor_of("sort", input)
    dim = normal_dim("sort", dim, x.ndim)
    if not x.ndim:
        return SortResult(record(ALIAS, (x,)), _position_zero(x))
    return SortResult(*sorted_pair(x, dim, bool(descending), bool(stable)))


def _msort_samples(rng):
    yield Sample((rng.permutation(6.0 * np.arange(6)).reshape(3, 2),))
    yield Sample((rng.permutation(np.arange(4.0)),))


@composite(samples=_msort_samples)
def msort(input: Tensor) -> Tensor:
    """The elements in order along the first dimension."""
    return sort(input, 0).values


@composite(numpy=(np.argsort,), samples=_sort_samples, errors=_sort_errors, differentiable=False)
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The positions that put the elements in order along `dim` (int64)."""
    return sort(input, dim, descending, stable).indices


def _topk_samples(rng):
    for shape, k, kwargs in [
        ((5,), 2, {}), ((2, 4), 1, {"dim": 0}), ((2, 4), 3, {"largest": False}), ((), 1, {}),
        ((2, 3, 2), 0, {"dim": 1}),
    ]:  # fmt: skip
        x = rng.permutation(int(np.prod(shape))).reshape(shape) * 1.0 - 2.5
        yield Sample((x, k), kwargs)


def _topk_errors():
    yield BadCall((np.ones(3), 4), IndexingError, "k must be")
    yield BadCall((np.ones(3), -1), IndexingError, "k must be")
    yield BadCall((np.ones(3), 1, 1), IndexingError, "out of range")


def _check_k(name: str, k, low: int, size: int) -> None:
    if isinstance(k, bool) or not hasattr(k, "__index__"):
        raise ArgumentError(f"{name}: k must be an int, got {type(k).__name__}")
    if not low <= k <= size:
        raise IndexingError(f"{name}: k must be in [{low}, {size}], the size of dim, got {k}")


@composite(samples=_topk_samples, errors=_topk_errors)
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True):
    """The `k` largest (or smallest) elements along `dim`: the named tuple ``(values, indices)``.

    Always in order, largest (smallest) first, the first found of equals first; NaN is greatest.
    """
    x = tensor_of("topk", input)
    dim = normal_dim("topk", dim, x.ndim)
    _check_k("topk", k, 0, node_of(x).shape[dim] if x.ndim else 1)
    if not x.ndim:
        return TopkResult(record(ALIAS, (x,)), _position_zero(x))
    values, indices = sorted_pair(x, dim, bool(largest))
    return TopkResult(narrowed(values, dim, 0, int(k)), narrowed(indices, dim, 0, int(k)))


# -- order statistics -----------------------------------------------------------------------------


def _pick(x: Tensor, dims: tuple, order: Tensor, position: int):
    """(value, index) of the `position`-th element along a dimension, given its order."""
    (dim,) = dims
    index = taken(order, dim, position)
    return along_dim(x, dim, index), index


def _kth_samples(rng):
    for shape, k, kwargs in [
        ((5,), 2, {}),
        ((2, 4), 1, {"dim": 0}),
        ((2, 4), 3, {"keepdim": True}),
        ((), 1, {}),
    ]:
        x = rng.permutation(int(np.prod(shape))).reshape(shape) * 1.0 - 2.5
        yield Sample((x, k), kwargs)


def _kth_errors():
    yield BadCall((np.ones(3), 4), IndexingError, "k must be")
    yield BadCall((np.ones(3), 0), IndexingError, "k must be")


@composite(samples=_kth_samples, errors=_kth_errors)
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False):
    """The `k`-th smallest element along `dim`, from 1: the named tuple ``(values, indices)``."""
    x = tensor_of("kthvalue", input)
    dims = single_dim("kthvalue", dim, x)
    _check_k("kthvalue", k, 1, node_of(x).shape[dims[0]] if dims else 1)
    if not dims:
        return KthvalueResult(record(ALIAS, (x,)), _position_zero(x))
    order = sorted_pair(constant(x), dims[0])[1]
    found = _pick(x, dims, order, int(k) - 1)
    return KthvalueResult(*[with_keepdim(t, x, dims, keepdim) for t in found])


def _middle(x: Tensor, dims: tuple, skip_nan: bool):
    """Value and index of the lower median along a dimension; NaN wins, or is passed over."""
    from .selection import where

    (dim,) = dims
    values, order = sorted_pair(constant(x), dim)
    size = node_of(x).shape[dim]
    if node_of(x).dtype.category < dtypes.FLOAT:
        return _pick(x, dims, order, (size - 1) // 2)
    missing = reduce_sum(cast(values != values, dtypes.int64), dims)
    if skip_nan:
        # Of size - missing numbers the lower middle; of none, the first (a NaN).
        count = size - missing
        place = where(count > 0, (count - 1) // 2, 0)
    else:
        place = where(missing > 0, size - missing, (size - 1) // 2)
    wide = with_keepdim(place, x, dims, True)
    index = taken(order.gather(dim, wide), dim, 0)
    return along_dim(x, dim, index), index


def _median_face(name, result, skip_nan, input, dim, keepdim):
    x = tensor_of(name, input)
    if dim is not None:
        dims = single_dim(name, dim, x)
        not_empty(name, x, dims)
        if not dims:
            return result(record(ALIAS, (x,)), _position_zero(x))
        found = _middle(x, dims, skip_nan)
        return result(*[with_keepdim(t, x, dims, keepdim) for t in found])
    flat = x.reshape(-1)
    if not node_of(flat).shape[0]:
        from .creation import full_of

        return full_of(_middle_of_nothing(x), float("nan"))
    return _shared_evenly(flat, _middle(constant(flat), (0,), skip_nan)[0])


def _middle_of_nothing(x: Tensor):
    float_only("median", x)
    return const(0, node_of(x).dtype)


def _shared_evenly(x: Tensor, value: Tensor) -> Tensor:
    """`value`, with a derivative shared by all elements of the vector `x` that equal it."""
    from .selection import where

    if not node_of(x).dtype.is_differentiable:
        return value
    all_of_it = restore(value, x, (0,))
    equal = (x == all_of_it) | ((x != x) & (all_of_it != all_of_it))
    # The difference to the constant is 0 where it is finite, so only a derivative is added.
    zero = x - constant(x)
    change = where(equal & (zero == zero), zero, 0.0)
    count = reduce_sum(cast(equal, node_of(x).dtype), (0,))
    return value + reduce_sum(change, (0,)) / count


def _median_samples(rng):
    yield Sample((rng.normal(size=(2, 3)),))
    yield Sample((rng.normal(size=4),))
    yield Sample((rng.normal(size=(2, 3, 2)),), {"dim": 1})
    yield Sample((rng.normal(size=(2, 4)),), {"dim": -1, "keepdim": True})
    yield Sample((rng.normal(size=()),), {"dim": 0})


_EMPTY = BadCall((np.ones((0, 3)), 0), IndexingError, "size 0")


@composite(samples=_median_samples, errors=dim_errors(_EMPTY))
def median(input: Tensor, dim=None, keepdim: bool = False):
    """The (lower) median of all elements, or along `dim` the named tuple ``(values, indices)``.

    NaN if there is one. Gradient: without `dim` shared evenly by all elements that equal it, with
    `dim` to the index found.
    """
    return _median_face("median", MedianResult, False, input, dim, keepdim)


@composite(samples=_median_samples, errors=dim_errors(_EMPTY))
def nanmedian(input: Tensor, dim=None, keepdim: bool = False):
    """The (lower) median of what is not NaN; otherwise as :func:`flatgrad.median`."""
    return _median_face("nanmedian", NanmedianResult, True, input, dim, keepdim)


def _mode_index_numpy(x, dim):
    rows = np.moveaxis(x, dim, -1)
    out = np.empty(rows.shape[:-1], np.int64)
    for at in np.ndindex(*out.shape):
        values, counts = np.unique(rows[at], return_counts=True)
        most = values[counts == counts.max()][0]
        same = rows[at] != rows[at] if most != most else rows[at] == most
        out[at] = np.flatnonzero(same)[-1]
    return out


MODE = primitive(
    "mode_index",
    "library",
    1,
    ("dim",),
    infer=lambda x, dim: (tuple(s for k, s in enumerate(x.shape) if k != dim), dtypes.int64),
    numpy=_mode_index_numpy,
    loop=("mode_index",),
    doc="The last position of the most frequent element (of several, the smallest) along a dim.",
)


def _mode_samples(rng):
    yield Sample((np.array([1.0, 2.0, 2.0, 3.0]),))
    yield Sample((rng.integers(0, 3, size=(3, 4)) * 1.0,), {"dim": 0, "keepdim": True})


@composite(samples=_mode_samples, errors=dim_errors(_EMPTY), differentiable=False)
def mode(input: Tensor, dim: int = -1, keepdim: bool = False):
    """The most frequent element along `dim`: the named tuple ``(values, indices)``.

    The smallest of several, at its last position. Gradient: to the index found.
    """
    x = tensor_of("mode", input)
    dims = single_dim("mode", dim, x)
    not_empty("mode", x, dims)
    if not dims:
        return ModeResult(record(ALIAS, (x,)), _position_zero(x))
    index = record(MODE, (x,), dims)
    values = along_dim(x, dims[0], index)
    return ModeResult(*[with_keepdim(t, x, dims, keepdim) for t in (values, index)])


_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile_at(ordered: Tensor, q: float, exact, size: int, interpolation: str) -> Tensor:
    """The quantile of vectors sorted along the last dimension; `exact` is q, maybe a tensor."""
    last = ordered.ndim - 1
    rank = q * (size - 1)
    if interpolation == "nearest":
        rank = float(round(rank))
    low = ceil(rank) if interpolation == "higher" else floor(rank)
    below = taken(ordered, last, low)
    if interpolation in ("lower", "higher", "nearest") or rank == low:
        return below
    above = taken(ordered, last, low + 1)
    weight = 0.5 if interpolation == "midpoint" else exact * (size - 1) - low
    return below + (above - below) * weight


def _quantile_samples(rng):
    for kwargs in ({}, {"dim": 1}, {"dim": 0, "keepdim": True}, {"interpolation": "midpoint"}):
        yield Sample((rng.normal(size=(3, 4)), 0.3), kwargs)
    yield Sample((rng.normal(size=5), 0.6), {"interpolation": "nearest"})
    yield Sample((rng.normal(size=5), 0.6), {"interpolation": "lower"})
    yield Sample((rng.normal(size=5), 0.55), {"interpolation": "higher"})


def _quantile_errors():
    yield BadCall((np.ones(3), 1.5), ArgumentError, r"\[0, 1\]")
    yield BadCall((np.ones(0), 0.5), ShapeError, "no elements")
    yield BadCall((np.ones(3, np.int64), 0.5), DTypeError, "floating")
    yield BadCall((np.ones(3), 0.5), ArgumentError, "interpolation", {"interpolation": "cubic"})


@composite(samples=_quantile_samples, errors=_quantile_errors)
def quantile(
    input: Tensor, q, dim=None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The `q`-quantiles along `dim`, or of all elements; NaN if one is NaN.

    Parameters
    ----------
    input : Tensor, floating
    q : float or 1-d tensor
        In [0, 1]. A tensor is evaluated when this is called; of a vector the result has a first
        dimension.
    dim : int, optional
    keepdim : bool
    interpolation : {"linear", "lower", "higher", "midpoint", "nearest"}
    """
    from .counting import values_of
    from .selection import where

    x = tensor_of("quantile", input)
    float_only("quantile", x)
    if interpolation not in _INTERPOLATIONS:
        raise ArgumentError(
            f"quantile: interpolation must be one of {', '.join(_INTERPOLATIONS)}, got "
            f"{interpolation!r}"
        )
    numbers = values_of("quantile", q)
    if numbers.ndim > 1 or not ((numbers >= 0) & (numbers <= 1)).all():
        raise ArgumentError(f"quantile: q must be a number or vector in [0, 1], got {numbers}")
    dims = tuple(range(x.ndim)) if dim is None else single_dim("quantile", dim, x)
    if not all(node_of(x).shape):
        raise ShapeError(f"quantile: a tensor of shape {tuple(x.shape)} has no elements")
    if dim is None or not dims:
        row = x.reshape(-1)
    else:
        row = x.permute(*[k for k in range(x.ndim) if k not in dims], *dims)
    size = node_of(row).shape[-1]
    ordered = sorted_pair(row, row.ndim - 1)[0]
    last = taken(ordered, row.ndim - 1, size - 1)
    found = []
    for k, number in enumerate(numbers.reshape(-1).tolist()):
        exact = taken(q.reshape(-1), 0, k) if isinstance(q, Tensor) else number
        value = _quantile_at(ordered, number, exact, size, interpolation)
        value = where(last != last, last, value)
        found.append(with_keepdim(value, x, dims, keepdim))
    if not numbers.ndim:
        return found[0]
    from .joining import stack

    return stack(found)
