"""Reductions. A reduction's ``loop`` names its combiner: add mul max min and or argmax argmin.

Primitives take the sorted tuple of dimensions that vanish; ``keepdim`` is a reshape of the face.
"""

from __future__ import annotations

from collections import namedtuple
from math import prod as product

import numpy as np

from ..errors import ArgumentError, DTypeError, IndexingError, ShapeError
from ..graph import dtypes
from ..graph.op import BadCall, Sample
from ..graph.shapes import normal_dim, normal_dims
from ..tensor import ALIAS, DETACH, Tensor, node_of, record
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


def with_keepdim(t: Tensor, x: Tensor, dims: tuple, keepdim: bool) -> Tensor:
    from .movement import reshape

    return reshape(t, keep_shape(node_of(x).shape, dims)) if keepdim else t


def fresh(result: Tensor, x: Tensor) -> Tensor:
    """`result` under a handle of its own, should the reduction have had nothing to do."""
    return record(ALIAS, (x,)) if result is x else result


def constant(t: Tensor) -> Tensor:
    """`t` without derivative."""
    return record(DETACH, (t,))


def float_only(name: str, x: Tensor) -> None:
    """Raise PyTorch's error for a function that has no integer result."""
    if node_of(x).dtype.category < dtypes.FLOAT:
        raise DTypeError(
            f"{name}: a floating-point tensor is required, got {x.dtype!r}; "
            "convert it with .to(flatgrad.float32)"
        )


def not_empty(name: str, x: Tensor, dims: tuple) -> None:
    """Raise for an extreme of nothing.

    Raises
    ------
    IndexingError
        If a dimension to reduce has size 0.
    """
    shape = node_of(x).shape
    for d in dims:
        if shape[d] == 0:
            raise IndexingError(
                f"{name}: the reduced dim {d} has size 0 (shape {shape}), and nothing has no "
                f"{name}; reduce dimensions of non-zero size only"
            )


def single_dim(name: str, dim, x: Tensor) -> tuple[int, ...]:
    """One dimension as the tuple of a reduction; () for a 0-d tensor."""
    k = normal_dim(name, dim, x.ndim)
    return (k,) if x.ndim else ()


# -- primitives -----------------------------------------------------------------------------------


def _infer(x, dims):
    return reduced_shape(x.shape, dims), x.dtype


SUM = primitive(
    "reduce_sum",
    "reduction",
    1,
    ("dims",),
    infer=_infer,
    numpy=lambda x, dims: np.sum(x, axis=dims, dtype=x.dtype),
    pullback=lambda g, out, x, dims: (restore(g, x, dims),),
    pushforward=lambda ts, out, x, dims: linear(ts, lambda t: reduce_sum(t, dims)),
    loop="add",
    doc="The sum over dimensions.",
)


def reduce_sum(t: Tensor, dims: tuple) -> Tensor:
    """The sum over `dims` (sorted, not negative), which vanish."""
    return record(SUM, (t,), (dims,)) if dims else t


def _prod_partials(x: Tensor, dims: tuple) -> Tensor:
    # Of each element the product of all others: the product of those before it times that of those
    # after it. Exact with any number of zeros and, since no division is used, to any order.
    from .movement import permute, reshape
    from .scan import exclusive_cumprod

    shape = node_of(x).shape
    kept = tuple(k for k in range(len(shape)) if k not in dims)
    order = kept + dims
    moved = tuple(shape[k] for k in order)
    count = product(shape[k] for k in dims)
    flat = reshape(permute(x, order), (*moved[: len(kept)], count))
    others = exclusive_cumprod(flat, len(kept)) * exclusive_cumprod(flat, len(kept), True)
    return permute(reshape(others, moved), tuple(order.index(k) for k in range(len(shape))))


PROD = primitive(
    "reduce_prod",
    "reduction",
    1,
    ("dims",),
    infer=_infer,
    numpy=lambda x, dims: np.prod(x, axis=dims, dtype=x.dtype),
    pullback=lambda g, out, x, dims: (restore(g, x, dims) * _prod_partials(x, dims),),
    pushforward=lambda ts, out, x, dims: linear(
        ts, lambda t: reduce_sum(t * _prod_partials(x, dims), dims)
    ),
    loop="mul",
    doc="The product over dimensions.",
)


def _shares(out: Tensor, x: Tensor, dims: tuple):
    """Which elements are the extreme (the NaN ones if it is NaN), and how many they are."""
    extreme = (x == restore(out, x, dims)) | (x != x)
    return extreme, reduce_sum(cast(extreme, x._node.dtype), dims)


def _extreme_pullback(g, out, x, dims):
    from .selection import where

    extreme, count = _shares(out, x, dims)
    return (where(extreme, restore(g / count, x, dims), 0.0),)


def _extreme_pushforward(ts, out, x, dims):
    from .selection import where

    if ts[0] is None:
        return None
    extreme, count = _shares(out, x, dims)
    return reduce_sum(where(extreme, ts[0], 0.0), dims) / count


def _extreme(name: str, function, word: str):
    return primitive(
        f"reduce_{name}",
        "reduction",
        1,
        ("dims",),
        infer=_infer,
        numpy=lambda x, dims: function(x, axis=dims),
        pullback=_extreme_pullback,
        pushforward=_extreme_pushforward,
        loop=name,
        doc=f"The {word} over dimensions; NaN if there is one.",
        kinks="shared evenly by all elements that attain it.",
    )


MAX = _extreme("max", np.max, "largest element")
MIN = _extreme("min", np.min, "smallest element")


def _truth(name: str, function, loop: str, word: str):
    return primitive(
        name,
        "reduction",
        1,
        ("dims",),
        infer=_infer,
        numpy=lambda x, dims: function(x, axis=dims),
        loop=loop,
        doc=f"Whether {word} of the (bool) elements over dimensions hold.",
    )


ALL = _truth("reduce_all", np.all, "and", "all")
ANY = _truth("reduce_any", np.any, "or", "any")


def _arg_numpy(function):
    def numpy(x, dims):
        if len(dims) == 1:
            return function(x, axis=dims[0])
        kept = tuple(k for k in range(x.ndim) if k not in dims)
        moved = x.transpose(kept + dims)
        return function(moved.reshape((*moved.shape[: len(kept)], -1)), axis=-1)

    return numpy


def _arg(name: str, function, word: str):
    return primitive(
        f"reduce_{name}",
        "reduction",
        1,
        ("dims",),
        infer=lambda x, dims: (reduced_shape(x.shape, dims), dtypes.int64),
        numpy=_arg_numpy(function),
        loop=name,
        doc=f"Row-major position, in the dimensions that vanish, of the first {word}; NaN wins.",
    )


ARGMAX = _arg("argmax", np.argmax, "largest element")
ARGMIN = _arg("argmin", np.argmin, "smallest element")


def extreme_of(t: Tensor, dims: tuple, op=MAX) -> Tensor:
    """The MAX or MIN over `dims` (sorted, not negative), which vanish."""
    return record(op, (t,), (dims,)) if dims else t


# -- samples --------------------------------------------------------------------------------------


def dim_samples(*, empty: bool = True, tuples: bool = True, **fixed):
    """Samples ``f(x, dim=, keepdim=)`` over shapes and dimensions, with `fixed` keywords."""

    def samples(rng):
        yield Sample((rng.normal(size=(2, 3)),), dict(fixed))
        yield Sample((rng.normal(size=()),), dict(fixed))
        yield Sample((rng.normal(size=(2, 3, 2)),), {"dim": 1, **fixed})
        yield Sample((rng.normal(size=(2, 3, 2)),), {"dim": -1, "keepdim": True, **fixed})
        yield Sample((rng.normal(size=(4,)),), {"dim": 0, **fixed})
        yield Sample((rng.normal(size=()),), {"dim": -1, **fixed})
        if tuples:
            yield Sample((rng.normal(size=(2, 3, 2)),), {"dim": (0, -1), **fixed})
            yield Sample((rng.normal(size=(2, 3, 2)),), {"dim": (2, 1), "keepdim": True, **fixed})
        if empty:
            yield Sample((rng.normal(size=(0, 3)),), {"dim": 0, **fixed})
            yield Sample((rng.normal(size=(3, 0)),), dict(fixed))

    return samples


def dim_errors(*more):
    """Wrong dimensions, and `more` bad calls."""

    def errors():
        yield BadCall((np.ones((2, 3)), 2), IndexingError, "out of range")
        yield BadCall((np.ones((2, 3)), "rows"), ArgumentError, "int")
        yield from more

    return errors


_TWICE = BadCall((np.ones((2, 3)), (0, -2)), ArgumentError, "more than once")
_EMPTY = BadCall((np.ones((0, 3)), 0), IndexingError, "size 0")
_INTEGER = BadCall((np.ones(3, np.int64),), DTypeError, "floating-point")


# -- faces ----------------------------------------------------------------------------------------


def _integral_to_int64(x: Tensor, dtype) -> Tensor:
    if dtype is not None:
        return cast(x, dtypes.as_dtype(dtype))
    return cast(x, dtypes.int64) if node_of(x).dtype.category < dtypes.FLOAT else x


@composite(op=SUM, numpy=(np.sum,), samples=dim_samples(), errors=dim_errors(_TWICE))
def sum(input: Tensor, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """The sum over `dim` (an int, a tuple, or None for all).

    Integers and bools are summed in int64 unless `dtype` says otherwise.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.sum(fg.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0).tolist()
    [4.0, 6.0]
    """
    x = tensor_of("sum", input)
    y = _integral_to_int64(x, dtype)
    dims = normal_dims("sum", dim, y.ndim)
    return fresh(with_keepdim(reduce_sum(y, dims), y, dims, keepdim), x)


@composite(numpy=(np.mean,), samples=dim_samples(), errors=dim_errors(_TWICE, _INTEGER))
def mean(input: Tensor, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """The arithmetic mean over `dim` (an int, a tuple, or None for all); NaN of nothing.

    Raises
    ------
    DTypeError
        For an integer tensor, unless a floating-point `dtype` is given.
    """
    x = tensor_of("mean", input)
    if dtype is not None:
        x = cast(x, dtypes.as_dtype(dtype))
    float_only("mean", x)
    dims = normal_dims("mean", dim, x.ndim)
    count = product(x._node.shape[d] for d in dims)
    return with_keepdim(reduce_sum(x, dims) / float(count), x, dims, keepdim)


def _prod_samples(rng):
    yield from dim_samples(tuples=False)(rng)
    yield Sample((np.array([2.0, 0.0, 3.0]),))
    yield Sample((np.array([[2.0, 0.0, 0.0], [1.0, 5.0, 0.0]]),), {"dim": 1})


@composite(op=PROD, numpy=(np.prod,), samples=_prod_samples, errors=dim_errors())
def prod(input: Tensor, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """The product over `dim` (an int, a tuple, or None for all).

    The gradient, the product of the other elements, is exact with zeros, to any order.
    """
    x = tensor_of("prod", input)
    y = _integral_to_int64(x, dtype)
    dims = normal_dims("prod", dim, y.ndim)
    out = record(PROD, (y,), (dims,)) if dims else y
    return fresh(with_keepdim(out, y, dims, keepdim), x)


def _extreme_face(name: str, op, input, dim, keepdim) -> Tensor:
    x = tensor_of(name, input)
    dims = normal_dims(name, dim, x.ndim)
    not_empty(name, x, dims)
    return fresh(with_keepdim(extreme_of(x, dims, op), x, dims, keepdim), x)


@composite(
    op=MAX, numpy=(np.max,), samples=dim_samples(empty=False), errors=dim_errors(_TWICE, _EMPTY)
)
def amax(input: Tensor, dim=(), keepdim: bool = False) -> Tensor:
    """The largest element over `dim` (an int, a tuple, or () for all); NaN if there is one.

    Gradient: shared evenly by all elements that attain it.
    """
    return _extreme_face("amax", MAX, input, dim, keepdim)


@composite(
    op=MIN, numpy=(np.min,), samples=dim_samples(empty=False), errors=dim_errors(_TWICE, _EMPTY)
)
def amin(input: Tensor, dim=(), keepdim: bool = False) -> Tensor:
    """The smallest element over `dim` (an int, a tuple, or () for all); NaN if there is one.

    Gradient: shared evenly by all elements that attain it.
    """
    return _extreme_face("amin", MIN, input, dim, keepdim)


def _arg_face(name: str, op, input, dim, keepdim) -> Tensor:
    x = tensor_of(name, input)
    dims = tuple(range(x.ndim)) if dim is None else single_dim(name, dim, x)
    not_empty(name, x, dims)
    if not dims:
        from .creation import zeros_of

        return cast(zeros_of(node_of(x)), dtypes.int64)
    return with_keepdim(record(op, (x,), (dims,)), x, dims, keepdim)


@composite(
    op=ARGMAX,
    numpy=(np.argmax,),
    samples=dim_samples(empty=False, tuples=False),
    errors=dim_errors(_EMPTY),
    differentiable=False,
)
def argmax(input: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """The position of the largest element along `dim`, or in the flattened tensor (int64).

    The first of equals; the first NaN if there is one.
    """
    return _arg_face("argmax", ARGMAX, input, dim, keepdim)


@composite(
    op=ARGMIN,
    numpy=(np.argmin,),
    samples=dim_samples(empty=False, tuples=False),
    errors=dim_errors(_EMPTY),
    differentiable=False,
)
def argmin(input: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """The position of the smallest element along `dim`, or in the flattened tensor (int64).

    The first of equals; the first NaN if there is one.
    """
    return _arg_face("argmin", ARGMIN, input, dim, keepdim)


def _truth_face(name: str, op, input, dim, keepdim) -> Tensor:
    x = tensor_of(name, input)
    dims = normal_dims(name, dim, x.ndim)
    y = cast(x, dtypes.bool_)
    out = with_keepdim(record(op, (y,), (dims,)) if dims else y, y, dims, keepdim)
    if node_of(x).dtype is dtypes.uint8:
        return cast(out, dtypes.uint8)
    return fresh(out, x)


@composite(
    op=ALL, numpy=(np.all,), samples=dim_samples(), errors=dim_errors(_TWICE), differentiable=False
)
def all(input: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """Whether all elements over `dim` are true (non-zero; NaN is). bool, but uint8 of uint8."""
    return _truth_face("all", ALL, input, dim, keepdim)


@composite(
    op=ANY, numpy=(np.any,), samples=dim_samples(), errors=dim_errors(_TWICE), differentiable=False
)
def any(input: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """Whether any element over `dim` is true (non-zero; NaN is). bool, but uint8 of uint8."""
    return _truth_face("any", ANY, input, dim, keepdim)


def _count_samples(rng):
    for kwargs in ({}, {"dim": 0}, {"dim": (0, -1)}):
        yield Sample((rng.integers(0, 2, size=(2, 3, 2)).astype(float),), kwargs)


@composite(
    numpy=(np.count_nonzero,), samples=_count_samples, errors=dim_errors(), differentiable=False
)
def count_nonzero(input: Tensor, dim=None) -> Tensor:
    """How many elements over `dim` are not zero (int64)."""
    return sum(cast(tensor_of("count_nonzero", input), dtypes.bool_), dim)


# -- max and min in all their forms ---------------------------------------------------------------

MaxResult = namedtuple("max", ["values", "indices"])
MinResult = namedtuple("min", ["values", "indices"])
AminmaxResult = namedtuple("aminmax", ["min", "max"])


def along_dim(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """The elements of `x` at `index`, whose dimension `dim` is gone; the gradient goes to them."""
    from .movement import reshape

    shape = node_of(x).shape
    if not shape:
        return record(ALIAS, (x,))
    wide = keep_shape(shape, (dim,))
    return reshape(x.gather(dim, reshape(index, wide)), reduced_shape(shape, (dim,)))


def _max_face(name, op, arg_op, result, input, dim, keepdim, other):
    x = tensor_of(name, input)
    if isinstance(dim, (Tensor, np.ndarray)) or other is not None:
        from . import selection

        return getattr(selection, f"{name}imum")(x, dim if other is None else other)
    if dim is None:
        if keepdim:
            raise ArgumentError(f"{name}: keepdim needs dim; use a{name}(input, keepdim=True)")
        if node_of(x).shape and not product(node_of(x).shape):
            raise ShapeError(
                f"{name}: a tensor of shape {tuple(x.shape)} has no elements, so no {name}; "
                "give a dim of non-zero size"
            )
        return fresh(extreme_of(x, tuple(range(x.ndim)), op), x)
    dims = single_dim(name, dim, x)
    index = _arg_face(name, arg_op, x, dim, False)
    values = along_dim(x, dims[0] if dims else 0, index)
    return result(with_keepdim(values, x, dims, keepdim), with_keepdim(index, x, dims, keepdim))


def _max_samples(rng):
    yield from dim_samples(empty=False, tuples=False)(rng)
    yield Sample((np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 0.0]]), 1))
    yield Sample((rng.normal(size=(2, 3)), rng.normal(size=3)))


_NONE = BadCall((np.ones((0, 3)),), ShapeError, "no elements")


@composite(samples=_max_samples, errors=dim_errors(_EMPTY, _NONE))
def max(input: Tensor, dim=None, keepdim: bool = False, *, other=None):
    """The largest element: of the tensor, along `dim`, or of two tensors' pairs.

    Parameters
    ----------
    input : Tensor
    dim : int or Tensor, optional
        A dimension: the result is a named tuple ``(values, indices)``. A tensor: ``maximum``.
    keepdim : bool
    other : Tensor, optional

    Returns
    -------
    Tensor or (Tensor, Tensor)
        Gradient: without `dim` shared evenly by all that attain it, with `dim` to the index found.

    Raises
    ------
    ShapeError, IndexingError
        If there is no element to choose from.
    """
    return _max_face("max", MAX, ARGMAX, MaxResult, input, dim, keepdim, other)


@composite(samples=_max_samples, errors=dim_errors(_EMPTY, _NONE))
def min(input: Tensor, dim=None, keepdim: bool = False, *, other=None):
    """The smallest element: of the tensor, along `dim`, or of two tensors' pairs. See ``max``."""
    return _max_face("min", MIN, ARGMIN, MinResult, input, dim, keepdim, other)


@composite(samples=dim_samples(empty=False, tuples=False), errors=dim_errors(_EMPTY))
def aminmax(input: Tensor, dim=None, keepdim: bool = False):
    """The named tuple ``(min, max)`` of the elements along `dim`, or of all."""
    axes = () if dim is None else normal_dim("aminmax", dim, tensor_of("aminmax", input).ndim)
    return AminmaxResult(amin(input, axes, keepdim), amax(input, axes, keepdim))
