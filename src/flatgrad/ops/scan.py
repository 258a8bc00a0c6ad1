"""Scans: running sums, products and extremes along one dimension, and the linear recurrence.

CUMSUM and CUMPROD have kind "scan"; their ``loop`` is the combiner, "add" or "mul". The derivative
of a running product is a linear recurrence, s[k] = a[k] s[k-1] + b[k], whose own derivative is one
again: so it is exact with zeros, in O(n), to any order.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import dtypes
from ..graph.op import BadCall, Sample
from ..graph.shapes import normal_dim
from ..tensor import ALIAS, Tensor, node_of, record
from .declare import cast, composite, linear, primitive, tensor_of
from .movement import SLICE, view_scatter
from .reduction import constant, dim_errors, float_only, reduce_sum

# -- neighbours -----------------------------------------------------------------------------------


def narrowed(x: Tensor, dim: int, start: int, size: int) -> Tensor:
    """`size` elements of `x` along `dim`, from `start` on."""
    shape = list(node_of(x).shape)
    starts = [0] * len(shape)
    starts[dim], shape[dim] = start, size
    return record(SLICE, (x,), (tuple(starts), (1,) * len(shape), tuple(shape)))


def taken(x: Tensor, dim: int, position: int) -> Tensor:
    """The elements at one position along `dim`, which vanishes."""
    from .movement import reshape

    shape = node_of(x).shape
    return reshape(narrowed(x, dim, position, 1), shape[:dim] + shape[dim + 1 :])


def shifted(x: Tensor, dim: int, fill, reverse: bool = False) -> Tensor:
    """Each element's predecessor along `dim` (its successor if `reverse`), `fill` at the end."""
    from .creation import full_of

    shape = node_of(x).shape
    rest = shape[dim] - 1
    if rest < 0:
        return x
    part = narrowed(x, dim, int(reverse), rest)
    starts = [0] * len(shape)
    starts[dim] = int(not reverse)
    attrs = (tuple(starts), (1,) * len(shape), node_of(part).shape)
    return view_scatter(SLICE, full_of(node_of(x), fill), part, attrs)


# -- primitives -----------------------------------------------------------------------------------


def _accumulated(accumulate):
    def numpy(x, dim, reverse):
        if reverse:
            x = np.flip(x, dim)
        out = accumulate(x, axis=dim, dtype=x.dtype)
        return np.flip(out, dim) if reverse else out

    return numpy


def _same(x, dim, reverse):
    return x.shape, x.dtype


CUMSUM = primitive(
    "scan_sum",
    "scan",
    1,
    ("dim", "reverse"),
    infer=_same,
    numpy=_accumulated(np.add.accumulate),
    pullback=lambda g, out, x, dim, reverse: (running_sum(g, dim, not reverse),),
    pushforward=lambda ts, out, x, *attrs: linear(ts, lambda t: running_sum(t, *attrs)),
    loop="add",
    doc="The running sum along a dimension, from its end if `reverse`.",
)


def running_sum(x: Tensor, dim: int, reverse: bool = False) -> Tensor:
    return record(CUMSUM, (x,), (dim, reverse))


def _cumprod_pullback(g, out, x, dim, reverse):
    # d out[k] / d x[i] = (product of x before i) (product of x between i and k): the first factor
    # times a recurrence over the second, s[i] = g[i] + x[i+1] s[i+1].
    later = recurrence(shifted(x, dim, 0, not reverse), g, dim, not reverse)
    return (shifted(out, dim, 1, reverse) * later,)


def _cumprod_pushforward(ts, out, x, dim, reverse):
    if ts[0] is None:
        return None
    return recurrence(x, ts[0] * shifted(out, dim, 1, reverse), dim, reverse)


CUMPROD = primitive(
    "scan_prod",
    "scan",
    1,
    ("dim", "reverse"),
    infer=_same,
    numpy=_accumulated(np.multiply.accumulate),
    pullback=_cumprod_pullback,
    pushforward=_cumprod_pushforward,
    loop="mul",
    doc="The running product along a dimension, from its end if `reverse`.",
)


def exclusive_cumprod(x: Tensor, dim: int, reverse: bool = False) -> Tensor:
    """Of each element the product of those before it along `dim` (after it if `reverse`)."""
    return shifted(record(CUMPROD, (x,), (dim, reverse)), dim, 1, reverse)


def _recurrence_of_floats(a, b, reverse):
    # Vectors: Python's floats are several times as fast here as NumPy's scalars.
    if reverse:
        a, b = a[::-1], b[::-1]
    values: list = []
    for factor, term in zip(a.tolist(), b.tolist(), strict=True):
        values.append(factor * values[-1] + term if values else term)
    return np.array(values[::-1] if reverse else values, b.dtype)


def _recurrence_numpy(a, b, dim, reverse):
    if b.ndim == 1:
        return _recurrence_of_floats(a, b, reverse)
    out = np.empty(b.shape, b.dtype)
    rows_a, rows_b, rows = (np.moveaxis(t, dim, 0) for t in (a, b, out))
    order = range(len(rows) - 1, -1, -1) if reverse else range(len(rows))
    state = None
    for k in order:
        state = rows_b[k] if state is None else rows_a[k] * state + rows_b[k]
        rows[k] = state
    return out


def _recurrence_pullback(g, out, a, b, dim, reverse):
    # The cotangent of s runs the other way: t[k] = g[k] + a[k+1] t[k+1].
    later = recurrence(shifted(a, dim, 0, not reverse), g, dim, not reverse)
    return (later * shifted(out, dim, 0, reverse) if a._node.requires_grad else None, later)


def _recurrence_pushforward(ts, out, a, b, dim, reverse):
    drive = ts[1]
    if ts[0] is not None:
        change = ts[0] * shifted(out, dim, 0, reverse)
        drive = change if drive is None else drive + change
    return None if drive is None else recurrence(a, drive, dim, reverse)


RECURRENCE = primitive(
    "recurrence",
    "library",
    2,
    ("dim", "reverse"),
    infer=lambda a, b, dim, reverse: (b.shape, b.dtype),
    numpy=_recurrence_numpy,
    pullback=_recurrence_pullback,
    pushforward=_recurrence_pushforward,
    loop=("recurrence",),
    doc="s[k] = a[k] s[k-1] + b[k] along a dimension; s of the first element is b.",
)


def recurrence(a: Tensor, b: Tensor, dim: int, reverse: bool = False) -> Tensor:
    return record(RECURRENCE, (a, b), (dim, reverse))


def _running_index(accumulate):
    def numpy(x, dim):
        best = accumulate(x, axis=dim)
        place = np.arange(x.shape[dim]).reshape([-1 if k == dim else 1 for k in range(x.ndim)])
        return np.maximum.accumulate(np.where((x == best) | (x != x), place, 0), axis=dim)

    return numpy


def _running_extreme(name, accumulate):
    return primitive(
        f"{name}_index",
        "library",
        1,
        ("dim",),
        infer=lambda x, dim: (x.shape, dtypes.int64),
        numpy=_running_index(accumulate),
        loop=(f"{name}_index",),
        doc="Where the extreme so far stands along a dimension: the latest of equals, NaN wins.",
    )


CUMMAX = _running_extreme("cummax", np.maximum.accumulate)
CUMMIN = _running_extreme("cummin", np.minimum.accumulate)


# -- faces ----------------------------------------------------------------------------------------


def scan_samples(rng):
    for shape, dim in [((4,), 0), ((2, 3), 1), ((2, 3), 0), ((2, 1, 3), -1), ((0,), 0), ((), 0)]:
        yield Sample((rng.normal(size=shape), dim))


def _cumprod_samples(rng):
    yield from scan_samples(rng)
    yield Sample((np.array([2.0, 0.0, 3.0, 0.0, 5.0]), 0))
    yield Sample((np.array([[1.5, 0.0], [0.0, 2.0], [4.0, 3.0]]), 0))


def _running(name: str, op, input, dim, dtype) -> Tensor:
    x = tensor_of(name, input)
    dim = normal_dim(name, dim, x.ndim)
    if dtype is not None:
        y = cast(x, dtypes.as_dtype(dtype))
    else:
        y = cast(x, dtypes.int64) if node_of(x).dtype.category < dtypes.FLOAT else x
    return record(op, (y,), (dim, False)) if y.ndim else record(ALIAS, (y,))


@composite(op=CUMSUM, numpy=(np.cumsum,), samples=scan_samples, errors=dim_errors(), inplace=True)
def cumsum(input: Tensor, dim, *, dtype=None) -> Tensor:
    """The running sum along `dim`; integers and bools in int64.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.cumsum(fg.tensor([1.0, 2.0, 3.0]), 0).tolist()
    [1.0, 3.0, 6.0]
    """
    return _running("cumsum", CUMSUM, input, dim, dtype)


@composite(
    op=CUMPROD, numpy=(np.cumprod,), samples=_cumprod_samples, errors=dim_errors(), inplace=True
)
def cumprod(input: Tensor, dim, *, dtype=None) -> Tensor:
    """The running product along `dim`; integers and bools in int64.

    The gradient is exact with zeros, to any order.
    """
    return _running("cumprod", CUMPROD, input, dim, dtype)


CummaxResult = namedtuple("cummax", ["values", "indices"])
CumminResult = namedtuple("cummin", ["values", "indices"])


def _extreme_so_far(name, op, result, input, dim):
    from .creation import zeros_of

    x = tensor_of(name, input)
    dim = normal_dim(name, dim, x.ndim)
    if not x.ndim:
        return result(record(ALIAS, (x,)), cast(zeros_of(node_of(x)), dtypes.int64))
    index = record(op, (x,), (dim,))
    return result(x.gather(dim, index), index)


@composite(samples=scan_samples, errors=dim_errors())
def cummax(input: Tensor, dim):
    """The largest element so far along `dim`: the named tuple ``(values, indices)``.

    Of equals the index is the latest; a NaN stays. Gradient: to the index.
    """
    return _extreme_so_far("cummax", CUMMAX, CummaxResult, input, dim)


@composite(samples=scan_samples, errors=dim_errors())
def cummin(input: Tensor, dim):
    """The smallest element so far along `dim`: the named tuple ``(values, indices)``.

    Of equals the index is the latest; a NaN stays. Gradient: to the index.
    """
    return _extreme_so_far("cummin", CUMMIN, CumminResult, input, dim)


def finite(x: Tensor) -> Tensor:
    """`x` as a constant, infinities replaced by the largest finite numbers, NaN kept."""
    from .selection import where

    largest = float(np.finfo(node_of(x).dtype.np).max)
    x = constant(x)
    return where(x > largest, largest, where(x < -largest, -largest, x))


@composite(
    samples=scan_samples, errors=dim_errors(BadCall((np.ones(3, int), 0), TypeError, "float"))
)
def logcumsumexp(input: Tensor, dim) -> Tensor:
    """``log(cumsum(exp(input), dim))`` without overflow.

    The running sum is kept relative to the largest element so far, M:
    s[k] = s[k-1] exp(M[k-1] - M[k]) + exp(x[k] - M[k]). The result does not depend on M, so M
    has no derivative.
    """
    x = tensor_of("logcumsumexp", input)
    float_only("logcumsumexp", x)
    dim = normal_dim("logcumsumexp", dim, x.ndim)
    if not x.ndim or not x._node.shape[dim]:
        return record(ALIAS, (x,))
    top = finite(cummax(x, dim).values)
    decay = (shifted(top, dim, 0) - top).exp()
    return recurrence(decay, (x - top).exp(), dim).log() + top


# -- differences and integrals --------------------------------------------------------------------


def _diff_samples(rng):
    for shape, kwargs in [
        ((4,), {}), ((2, 5), {"n": 2}), ((3, 2), {"dim": 0}), ((2, 3), {"n": 0}), ((2,), {"n": 4}),
    ]:  # fmt: skip
        yield Sample((rng.normal(size=shape),), kwargs)
    yield Sample(
        (rng.normal(size=(2, 3)),),
        {"prepend": rng.normal(size=(2, 1)), "append": rng.normal(size=(2, 2))},
    )


def _diff_errors():
    yield BadCall((np.ones(()),), ShapeError, "1 dimension")
    yield BadCall((np.ones(3), -1), ArgumentError, "negative")
    yield BadCall((np.ones(3), 1, 1), IndexError, "out of range")


@composite(numpy=(np.diff,), samples=_diff_samples, errors=_diff_errors)
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend=None, append=None) -> Tensor:
    """The `n`-th difference of neighbours along `dim`, of the tensor with both additions."""
    x = tensor_of("diff", input)
    if not x.ndim:
        raise ShapeError("diff: a tensor of at least 1 dimension is required, got a 0-d one")
    if n < 0:
        raise ArgumentError(f"diff: n must not be negative, got {n}")
    dim = normal_dim("diff", dim, x.ndim)
    if n == 0:
        return record(ALIAS, (x,))
    if prepend is not None or append is not None:
        from .joining import cat

        parts = (prepend, x, append)
        x = cat([tensor_of("diff", p) for p in parts if p is not None], dim)
    for _ in range(n):
        rest = max(node_of(x).shape[dim] - 1, 0)
        start = min(1, node_of(x).shape[dim])
        after, before = narrowed(x, dim, start, rest), narrowed(x, dim, 0, rest)
        x = after != before if x.dtype is dtypes.bool_ else after - before
    return x


def _panels(name: str, y, x, dx, dim):
    """The areas between neighbouring samples, and the normal form of `dim`."""
    y = tensor_of(name, y)
    if not y.ndim:
        raise ShapeError(f"{name}: y of at least 1 dimension is required, got a 0-d tensor")
    dim = normal_dim(name, dim, y.ndim)
    rest = max(node_of(y).shape[dim] - 1, 0)
    both = narrowed(y, dim, min(1, node_of(y).shape[dim]), rest) + narrowed(y, dim, 0, rest)
    if x is None:
        return both * ((1.0 if dx is None else dx) / 2.0), dim
    if dx is not None:
        raise ArgumentError(f"{name}: give x or dx, not both")
    x = tensor_of(name, x, 1)
    if x.ndim > y.ndim:  # PyTorch and NumPy disagree on which of x's dimensions is meant
        raise ShapeError(
            f"{name}: x must not have more dimensions than y, got shapes {tuple(x.shape)} and "
            f"{tuple(y.shape)}; expand y to the shape of x"
        )
    if x.ndim == 1:
        from .movement import reshape

        if node_of(x).shape[0] != node_of(y).shape[dim]:
            raise ShapeError(
                f"{name}: x has {node_of(x).shape[0]} points, y has {node_of(y).shape[dim]} along "
                f"dim {dim}; there must be one x for each y"
            )
        x = reshape(x, tuple(-1 if k == dim else 1 for k in range(y.ndim)))
    return both * diff(x, 1, dim - y.ndim) / 2.0, dim


def _trapezoid_samples(rng):
    yield Sample((rng.normal(size=5),))
    yield Sample((rng.normal(size=(2, 4)), rng.normal(size=4)))
    yield Sample((rng.normal(size=(3, 2)), rng.normal(size=(3, 2))), {"dim": 0})
    yield Sample((rng.normal(size=(3, 2)),), {"dx": 0.5, "dim": 0})


def _trapezoid_errors():
    yield BadCall((np.ones((2, 3)), np.ones(4)), ShapeError, "one x for each y")
    yield BadCall((np.ones(2), np.ones((3, 2))), ShapeError, "more dimensions than y")
    yield BadCall((np.ones(()),), ShapeError, "1 dimension")


@composite(numpy=(np.trapezoid,), methods=(), samples=_trapezoid_samples, errors=_trapezoid_errors)
def trapezoid(y: Tensor, x=None, *, dx=None, dim: int = -1) -> Tensor:
    """The integral of `y` along `dim` by the trapezoidal rule, at points `x` or steps `dx`."""
    areas, dim = _panels("trapezoid", y, x, dx, dim)
    return reduce_sum(areas, (dim,))


@composite(methods=(), samples=_trapezoid_samples, errors=_trapezoid_errors)
def cumulative_trapezoid(y: Tensor, x=None, *, dx=None, dim: int = -1) -> Tensor:
    """The running integral of samples `y` along `dim` by the trapezoidal rule."""
    areas, dim = _panels("cumulative_trapezoid", y, x, dx, dim)
    return running_sum(areas, dim)
