"""Statistics, norms and softmax: composites of reductions in which nothing over- or underflows.

Where a result does not depend on a shift or scale that keeps it in range (the maximum in logsumexp,
the scale of a norm), that number carries no derivative: the derivatives stay exact, to any order.
"""

from __future__ import annotations

from math import inf, isinf
from math import prod as product

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..graph.node import const
from ..graph.op import BadCall, Sample
from ..graph.shapes import normal_dim, normal_dims
from ..tensor import Tensor, node_of, wrap
from .declare import cast, composite, tensor_of
from .reduction import (
    MAX,
    MIN,
    constant,
    dim_errors,
    dim_samples,
    extreme_of,
    float_only,
    mean,
    not_empty,
    reduce_sum,
    sum,
    with_keepdim,
)
from .scan import finite

_TWICE = BadCall((np.ones((2, 3)), (0, -2)), ArgumentError, "more than once")
_INTEGER = BadCall((np.ones(3, np.int64),), DTypeError, "floating-point")


def _kept(t: Tensor, x: Tensor, dims: tuple) -> Tensor:
    return with_keepdim(t, x, dims, True)


# -- variance -------------------------------------------------------------------------------------


def _moments(name, input, dim, unbiased, keepdim, correction):
    """(variance, mean) in two passes, both without the reduced dimensions or with, as asked."""
    x = tensor_of(name, input)
    float_only(name, x)
    if isinstance(dim, bool):  # the old form f(x, unbiased)
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise ArgumentError(f"{name}: give unbiased or correction, not both")
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    dims = normal_dims(name, dim, x.ndim)
    count = product(x._node.shape[d] for d in dims)
    center = _kept(reduce_sum(x, dims), x, dims) / float(count)
    deviation = x - center
    variance = reduce_sum(deviation * deviation, dims) / max(float(count) - correction, 0.0)
    variance = with_keepdim(variance, x, dims, keepdim)
    return variance, center if keepdim else center.reshape(variance._node.shape)


def root(t: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0: PyTorch's convention for std and the 2-norm."""
    from .selection import where

    zero = t == 0.0
    return where(zero, 0.0, where(zero, 1.0, t).sqrt())


def _var_samples(rng):
    yield from dim_samples(empty=False)(rng)
    yield Sample((rng.normal(size=(2, 3)),), {"dim": 1, "correction": 0})
    yield Sample((rng.normal(size=(2, 4)), False))
    yield Sample((rng.normal(size=(2, 4)), -1, True))


_VAR_ERRORS = dim_errors(
    _TWICE, _INTEGER, BadCall((np.ones(3), 0, True), ArgumentError, "not both", {"correction": 0})
)


@composite(samples=_var_samples, errors=_VAR_ERRORS)
def var(
    input: Tensor, dim=None, unbiased=None, keepdim: bool = False, *, correction=None
) -> Tensor:
    """The variance over `dim`: squared deviations from the mean, summed, over N - correction.

    Parameters
    ----------
    input : Tensor, floating
    dim : int or tuple of int, optional
    unbiased : bool, optional
        The old way to say ``correction=1`` (True, the default) or 0.
    keepdim : bool
    correction : int, optional

    Returns
    -------
    Tensor
        Computed in two passes. NaN where N <= correction and the deviations are 0.
    """
    return _moments("var", input, dim, unbiased, keepdim, correction)[0]


@composite(samples=_var_samples, errors=_VAR_ERRORS)
def std(
    input: Tensor, dim=None, unbiased=None, keepdim: bool = False, *, correction=None
) -> Tensor:
    """The standard deviation over `dim`, see ``var``. Gradient 0 where it is 0."""
    return root(_moments("std", input, dim, unbiased, keepdim, correction)[0])


@composite(methods=(), samples=_var_samples, errors=_VAR_ERRORS)
def var_mean(input: Tensor, dim=None, unbiased=None, keepdim: bool = False, *, correction=None):
    """The pair (variance, mean) over `dim`, see ``var``."""
    return _moments("var_mean", input, dim, unbiased, keepdim, correction)


@composite(methods=(), samples=_var_samples, errors=_VAR_ERRORS)
def std_mean(input: Tensor, dim=None, unbiased=None, keepdim: bool = False, *, correction=None):
    """The pair (standard deviation, mean) over `dim`, see ``var``."""
    variance, center = _moments("std_mean", input, dim, unbiased, keepdim, correction)
    return root(variance), center


# -- without NaN ----------------------------------------------------------------------------------


def _nan_samples(rng):
    yield from dim_samples()(rng)
    x = rng.normal(size=(2, 3))
    x[0, 1] = np.nan
    yield Sample((x,), {"dim": 1})


@composite(numpy=(np.nansum,), samples=_nan_samples, errors=dim_errors(_TWICE))
def nansum(input: Tensor, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """The sum over `dim` with NaN counted as 0; their gradient is 0."""
    from .selection import where

    x = tensor_of("nansum", input)
    if node_of(x).dtype.category >= dtypes.FLOAT:
        x = where(x != x, 0.0, x)
    return sum(x, dim, keepdim, dtype=dtype)


@composite(numpy=(np.nanmean,), samples=_nan_samples, errors=dim_errors(_TWICE, _INTEGER))
def nanmean(input: Tensor, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """The mean over `dim` of what is not NaN; NaN if nothing is."""
    x = tensor_of("nanmean", input)
    if dtype is not None:
        x = cast(x, dtypes.as_dtype(dtype))
    float_only("nanmean", x)
    return nansum(x, dim, keepdim) / sum(cast(x == x, node_of(x).dtype), dim, keepdim)


# -- sums of exponentials -------------------------------------------------------------------------


def _top(x: Tensor, dims: tuple) -> Tensor:
    return _kept(extreme_of(constant(x), dims), x, dims)


def _float(name: str, x: Tensor, dtype) -> Tensor:
    if dtype is not None:
        return cast(x, dtypes.as_dtype(dtype))
    float_only(name, x)
    return x


def _logsumexp_samples(rng):
    for sample in dim_samples()(rng):
        if "dim" in sample.kwargs:
            yield sample


@composite(
    samples=_logsumexp_samples,
    errors=dim_errors(_TWICE, BadCall((np.ones(3),), TypeError, "dim")),
)
def logsumexp(input: Tensor, dim, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(input), dim))`` without overflow; -inf of nothing or of -inf alone.

    Gradient: softmax. It is NaN where all elements are -inf and where one is inf, as in PyTorch.
    Integers are converted to the default dtype.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.logsumexp(fg.tensor([1000.0, 1000.0], dtype=fg.float64), 0).item()
    1000.6931471805599
    """
    x = tensor_of("logsumexp", input)
    if node_of(x).dtype.category < dtypes.FLOAT:
        x = cast(x, dtypes.get_default_dtype())
    dims = normal_dims("logsumexp", dim, x.ndim)
    if not product(x._node.shape[d] for d in dims):
        return with_keepdim(reduce_sum(x, dims).log(), x, dims, keepdim)
    top = finite(extreme_of(x, dims))
    total = reduce_sum((x - _kept(top, x, dims)).exp(), dims)
    return with_keepdim(total.log() + top, x, dims, keepdim)


def _softmax_dim(name, x, dim) -> tuple:
    k = normal_dim(name, dim, x.ndim)
    return (k,) if x.ndim else ()


def _softmax_parts(name, input, dim, dtype):
    """(input - max, its exponentials, their sum), or None for an empty tensor."""
    x = _float(name, tensor_of(name, input), dtype)
    dims = _softmax_dim(name, x, dim)
    if not product(node_of(x).shape):
        return x, x, x
    shifted = x - _top(x, dims)
    powers = shifted.exp()
    return shifted, powers, _kept(reduce_sum(powers, dims), x, dims)


def _softmax_samples(rng):
    for shape, dim in [((3,), 0), ((2, 3), -1), ((2, 3), 0), ((2, 3, 2), 1), ((), 0), ((0, 3), 1)]:
        yield Sample((rng.normal(size=shape), dim))


_SOFTMAX_ERRORS = dim_errors(BadCall((np.ones(3, np.int64), 0), DTypeError, "floating-point"))


@composite(samples=_softmax_samples, errors=_SOFTMAX_ERRORS)
def softmax(input: Tensor, dim, dtype=None) -> Tensor:
    """``exp(input) / sum(exp(input), dim)``, computed relative to the largest element.

    Parameters
    ----------
    input : Tensor, floating
    dim : int
    dtype : DType, optional
        Converted to it first.

    Returns
    -------
    Tensor
        Of input's shape, with sums 1 along `dim`. NaN where all elements are -inf, as in PyTorch.
    """
    _, powers, total = _softmax_parts("softmax", input, dim, dtype)
    return powers / total


@composite(samples=_softmax_samples, errors=_SOFTMAX_ERRORS)
def log_softmax(input: Tensor, dim, dtype=None) -> Tensor:
    """``log(softmax(input, dim))``, accurate where the softmax underflows."""
    shifted, _, total = _softmax_parts("log_softmax", input, dim, dtype)
    return shifted - total.log()


@composite(
    samples=_softmax_samples, errors=_SOFTMAX_ERRORS, methods=(), torch="nn.functional.softmin"
)
def softmin(input: Tensor, dim, dtype=None) -> Tensor:
    """``softmax(-input, dim)``."""
    x = tensor_of("softmin", input)
    return softmax(-_float("softmin", x, dtype), dim)


# -- norms ----------------------------------------------------------------------------------------

# Of squares: beyond these magnitudes elements are scaled by a power of two, which is exact, so that
# neither their squares nor the sum of many leave the range. dtype: (limit, scale).
_SAFE = {dtypes.float32: (2.0**40, 2.0**-88), dtypes.float64: (2.0**400, 2.0**-650)}


def number(value: float, like: Tensor) -> Tensor:
    """A number in the dtype of `like`, whatever the default dtype is."""
    return wrap(const(value, node_of(like).dtype))


def _in_range(x: Tensor, dims: tuple, norm_of, least: bool = False) -> Tensor:
    """``norm_of(x, top)``, of `x` brought into the safe range; `top` its dominating magnitude."""
    from .selection import where

    limit, down = _SAFE[node_of(x).dtype]
    top = extreme_of(constant(x).abs(), dims, MIN if least else MAX)
    scale = where((top < 1.0 / limit) & (top > 0.0), number(1.0 / down, x), 1.0)
    scale = where((top > limit) & (top < inf), down, scale)
    # The scale is a power of two, so multiplying and dividing by it is exact.
    return norm_of(x * _kept(scale, x, dims), top * scale) / scale


def _power_sum(x: Tensor, top: Tensor, p: float, dims: tuple) -> Tensor:
    """(sum |x|^p)^(1/p), relative to the element that dominates; derivative 0 at zeros."""
    from .selection import where

    size = x.abs()
    scale = where((top > 0.0) & (top < inf), top, 1.0)
    ratio = size / _kept(scale, x, dims)
    zero = ratio == 0.0
    powers = where(zero, 0.0 if p > 0 else inf, where(zero, 1.0, ratio) ** p)
    total = reduce_sum(powers, dims)
    none = (total == 0.0) | (total == inf)
    edge = where(total == 0.0, number(0.0 if p > 0 else inf, x), inf if p > 0 else 0.0)
    return where(none, edge, where(none, 1.0, total) ** (1.0 / p)) * scale


def p_norm(name: str, x: Tensor, p: float, dims: tuple) -> Tensor:
    """The vector norm of order `p` over `dims`, which vanish."""
    shape = node_of(x).shape
    if p == 0:
        from .selection import where

        return reduce_sum(where(x != 0.0, number(1.0, x), x * 0.0), dims)
    if p == 1:
        return reduce_sum(x.abs(), dims)
    if p < 0 or isinf(p):
        not_empty(name, x, dims)
    if not product(shape):
        return reduce_sum(x.abs(), dims)
    if p == 2:
        return _in_range(x, dims, lambda x, top: root(reduce_sum(x * x, dims)))
    if isinf(p):
        size = x.abs()
        return extreme_of(size, dims) if p > 0 else extreme_of(size, dims, MIN)
    return _in_range(x, dims, lambda x, top: _power_sum(x, top, p, dims), p < 0)


def vector_norm(name: str, x: Tensor, ord, dim, keepdim: bool, dtype=None) -> Tensor:
    """The norm of the elements over `dim`, all by default."""
    x = _float(name, x, dtype)
    if isinstance(ord, bool) or not isinstance(ord, (int, float)):
        raise ArgumentError(f"{name}: ord must be a number, got {ord!r}; use linalg.matrix_norm")
    dims = normal_dims(name, dim, x.ndim)
    return with_keepdim(p_norm(name, x, float(ord), dims), x, dims, keepdim)


def _norm_samples(rng):
    yield from dim_samples(empty=False)(rng)
    for p in (0, 0.5, 1, 1.5, 2, 3, inf, -inf, -1, -2, "fro"):
        yield Sample((rng.normal(size=(2, 3)), p))
        yield Sample((rng.normal(size=(2, 3)), p), {"dim": 1, "keepdim": True})
    yield Sample((rng.normal(size=(3, 2)), "nuc"))
    yield Sample((rng.normal(size=(0, 3)),))


def _norm_errors():
    yield _INTEGER
    yield BadCall((np.ones(3), "max"), ArgumentError, "fro")
    yield BadCall((np.ones((0, 3)), inf, 0), IndexError, "size 0")
    yield BadCall((np.ones(3), 2, 1), IndexError, "out of range")


@composite(
    samples=_norm_samples,
    errors=_norm_errors,
)
def norm(input: Tensor, p="fro", dim=None, keepdim: bool = False, dtype=None) -> Tensor:
    """The norm over `dim` (all by default), ``sum(|x|^p)^(1/p)``, safe from overflow.

    Parameters
    ----------
    input : Tensor, floating
    p : number, "fro" or "nuc"
        inf and -inf give the largest and smallest magnitude, 0 the count of non-zeros, "fro" is 2,
        "nuc" the sum of a matrix's singular values.
    dim : int or tuple of int, optional
    keepdim : bool
    dtype : DType, optional

    Returns
    -------
    Tensor
        Gradient 0 at 0; for inf shared evenly by all elements that attain it.

    Examples
    --------
    >>> import flatgrad as fg
    >>> round(fg.norm(fg.tensor([3e200, 4e200], dtype=fg.float64)).item() / 1e200, 12)
    5.0
    """
    x = tensor_of("norm", input)
    if p == "nuc":
        from .matrix_functions import matrix_norm

        return matrix_norm(x, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if p is None or p == "fro":
        p = 2
    if isinstance(p, str):
        raise ArgumentError(f'norm: p must be a number, "fro" or "nuc", got {p!r}')
    return vector_norm("norm", x, p, dim, keepdim, dtype)


def _dist_samples(rng):
    for p in (1, 2, 3, inf):
        yield Sample((rng.normal(size=(2, 3)), rng.normal(size=3), p))


@composite(samples=_dist_samples)
def dist(input: Tensor, other: Tensor, p=2) -> Tensor:
    """The `p`-norm of ``input - other``."""
    return norm(tensor_of("dist", input) - tensor_of("dist", other, 1), p)


# -- covariance -----------------------------------------------------------------------------------


def _cov_samples(rng):
    yield Sample((rng.normal(size=(2, 5)),))
    yield Sample((rng.normal(size=4),), {"correction": 0})
    yield Sample((rng.normal(size=(2, 3)),), {"fweights": np.array([1, 3, 2])})
    weights = {"fweights": np.array([1, 3, 2]), "aweights": rng.uniform(0.5, 1.5, size=3)}
    yield Sample((rng.normal(size=(2, 3)),), weights)


def _cov_errors():
    yield BadCall((np.ones((2, 2, 2)),), ShapeError, "at most 2")
    yield BadCall((np.ones((2, 3)),), ShapeError, "3 observations", {"fweights": np.array([1, 2])})


@composite(samples=_cov_samples, errors=_cov_errors)
def cov(input: Tensor, *, correction: int = 1, fweights=None, aweights=None) -> Tensor:
    """The covariance matrix of variables (rows) over observations (columns); 0-d of one variable.

    Parameters
    ----------
    input : Tensor, shape (v, n) or (n,)
    correction : int
    fweights : Tensor of int, shape (n,), optional
        How often each observation was made.
    aweights : Tensor, shape (n,), optional
        How much each observation matters.
    """
    x = tensor_of("cov", input)
    if x.ndim > 2:
        raise ShapeError(f"cov: at most 2 dimensions are required, got shape {tuple(x.shape)}")
    if node_of(x).dtype.category < dtypes.FLOAT:
        x = cast(x, dtypes.get_default_dtype())
    rows = x if x.ndim == 2 else x.reshape(1, -1)
    variables, observations = node_of(rows).shape
    weights = None
    for given in (fweights, aweights):
        if given is None:
            continue
        w = cast(tensor_of("cov", given), node_of(x).dtype)
        if node_of(w).shape != (observations,):
            raise ShapeError(
                f"cov: one weight is required for each of the {observations} observations, got "
                f"shape {tuple(w.shape)}"
            )
        weights = w if weights is None else weights * w
    if weights is None:
        center = mean(rows, 1, True)
        count = max(float(observations) - correction, 0.0)
        heavy = rows - center
    else:
        total = weights.sum()
        center = (rows * weights).sum(1, True) / total
        heavy = (rows - center) * weights
        # With weights of importance the correction is scaled by their mean, as in NumPy.
        scale = 1.0 if aweights is None else (weights * w).sum() / total
        count = (total - scale * correction).clamp(min=0.0)
    out = heavy @ (rows - center).permute(1, 0) / count
    return out.reshape(()) if variables == 1 else out


def _corrcoef_samples(rng):
    yield Sample((rng.normal(size=(3, 5)),))


@composite(samples=_corrcoef_samples)
def corrcoef(input: Tensor) -> Tensor:
    """The correlation coefficients of variables (rows) over observations (columns)."""
    c = cov(input)
    if not c.ndim:
        return c / c
    spread = c.diagonal().sqrt()
    return c / spread.reshape(-1, 1) / spread.reshape(1, -1)
