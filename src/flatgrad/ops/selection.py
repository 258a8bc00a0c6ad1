"""Elementwise selection: signs, where, extrema, clamp, relu."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..graph import dtypes
from ..graph.dtypes import FLOAT
from ..graph.op import PUBLIC, BadCall, Sample
from ..tensor import ALIAS, Tensor, node_of, record
from . import logic
from .creation import scalar_of
from .declare import Gate, alias, composite, elementwise, tensor_of
from .scalars import (
    PAIR,
    REAL,
    copy_sign,
    is_bool,
    is_float,
    larger,
    pair_samples,
    sign_bit,
    smaller,
    written,
)

# -- signs ----------------------------------------------------------------------------------------


def _sign(s, x):
    if is_bool(x):
        return x
    positive = s.where(x > 0, s.const(1, x.dtype), s.const(0, x.dtype))
    return s.where(x < 0, s.const(-1, x.dtype), positive) if x.dtype.is_signed else positive


def _sign_numpy(x):
    return x if x.dtype.kind == "b" else (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


def _copysign_by_size(x, y, out):
    # out/x is 1 or -1; 0 at x = 0 (PyTorch, copysign_tensor_self_backward).
    return Gate(logic.ne(x, 0), out / x)


def _signbit_numpy(x):
    return np.signbit(x) if x.dtype.kind == "f" else x < 0 if x.dtype.kind == "i" else x != x


# fmt: off
abs = elementwise(
    "abs", 1, numpy=np.abs, rule="number",
    scalar=lambda s, x: s.unary("abs", x) if x.dtype.is_signed else x,
    partials=(lambda x, out: sign(x),), domain=REAL, edges=(0.0,), kinks="0 at 0",
    ufuncs=(np.absolute,), doc="|x|.",
)
sign = elementwise(
    "sign", 1, numpy=_sign_numpy, scalar=_sign, partials=(lambda x, out: 0,), domain=REAL,
    edges=(0.0,), kinks="0 everywhere", ufuncs=(np.sign,),
    doc="-1, 0 or 1; 0 for NaN, as in PyTorch.",
)
signbit = elementwise(
    "signbit", 1, numpy=_signbit_numpy, rule="compare", inplace=False, ufuncs=(np.signbit,),
    scalar=lambda s, x: sign_bit(s, x) if is_float(x)
    else (x < 0) if x.dtype.is_signed else s.const(False, dtypes.bool_),
    doc="Whether the sign bit is set (of -0.0 too).",
)
copysign = elementwise(
    "copysign", 2, numpy=np.copysign, scalar=copy_sign, rule="float",
    partials=(_copysign_by_size, lambda x, y, out: 0), domain=PAIR, kinks="0 by x at x = 0",
    ufuncs=(np.copysign,), doc="|x| with the sign of y.",
)
heaviside = elementwise(
    "heaviside", 2, numpy=lambda x, y: np.where(x == 0, y, (x > 0).astype(y.dtype)),
    scalar=lambda s, x, y: s.where(x.eq(0), y, s.cast(x > 0, y.dtype)) if not is_bool(x) else x | y,
    ufuncs=(np.heaviside,),
    doc="0 for x < 0, y for x = 0, 1 for x > 0. Not differentiable, as in PyTorch.",
)
# fmt: on


# -- selection ------------------------------------------------------------------------------------


def _skip_nan(pick):
    def scalar(s, x, y):
        if not is_float(x):
            return pick(s, x, y)
        return s.where(x.ne(x), y, s.where(y.ne(y), x, pick(s, x, y)))

    return scalar


def _tie_partials(beaten):
    # PyTorch: a tie is split in halves; the side that is beaten gets nothing, even of NaN.
    def half(x, y):
        return select(logic.eq(x, y), scalar_of(node_of(x), 0.5), 1.0)

    return (
        lambda x, y, out: Gate(logic.logical_not(beaten(x, y)), half(x, y)),
        lambda x, y, out: Gate(logic.logical_not(beaten(y, x)), half(x, y)),
    )


def _first_wins(wins):
    # PyTorch: fmax and fmin give a tie to the first; the other side of a NaN gets everything.
    def first(x, y):
        return logic.logical_or(wins(x, y), logic.isnan(y))

    return (
        lambda x, y, out: Gate(first(x, y)),
        lambda x, y, out: Gate(logic.logical_not(first(x, y))),
    )


# fmt: off
select = elementwise(
    "where", 3, numpy=np.where, scalar=lambda s, c, x, y: s.where(c, x, y), rule="where",
    partials=(None, lambda c, x, y, out: Gate(c), lambda c, x, y, out: Gate(~c)),
    domain=(REAL[0],) * 3, public=False, doc="x where c holds, y elsewhere.",
)
maximum = elementwise(
    "maximum", 2, numpy=np.maximum, scalar=larger, domain=PAIR, edges=((1.0, 1.0), (0.0, 0.0)),
    partials=_tie_partials(lambda x, y: logic.lt(x, y)), kinks="1/2 each on a tie",
    ufuncs=(np.maximum,), doc="The larger of x and y; NaN if either is.",
)
minimum = elementwise(
    "minimum", 2, numpy=np.minimum, scalar=smaller, domain=PAIR, edges=((1.0, 1.0), (0.0, 0.0)),
    partials=_tie_partials(lambda x, y: logic.gt(x, y)), kinks="1/2 each on a tie",
    ufuncs=(np.minimum,), doc="The smaller of x and y; NaN if either is.",
)
fmax = elementwise(
    "fmax", 2, numpy=np.fmax, scalar=_skip_nan(larger), domain=PAIR, edges=((1.0, 1.0),),
    partials=_first_wins(lambda x, y: logic.ge(x, y)), kinks="x gets all of a tie",
    ufuncs=(np.fmax,), doc="The larger of x and y; a NaN gives way to the other.",
)
fmin = elementwise(
    "fmin", 2, numpy=np.fmin, scalar=_skip_nan(smaller), domain=PAIR, edges=((1.0, 1.0),),
    partials=_first_wins(lambda x, y: logic.le(x, y)), kinks="x gets all of a tie",
    ufuncs=(np.fmin,), doc="The smaller of x and y; a NaN gives way to the other.",
)
raw_clamp_min = elementwise(
    "clamp_min", 2, numpy=np.maximum, scalar=larger, domain=PAIR, edges=((1.0, 1.0),),
    # PyTorch, clamp_backward: the input keeps its gradient on the bound.
    partials=(
        lambda x, low, out: Gate(logic.ge(x, low)),
        lambda x, low, out: Gate(logic.lt(x, low)),
    ),
    kinks="x gets all of a tie", public=False, doc="max(x, low).",
)
raw_clamp_max = elementwise(
    "clamp_max", 2, numpy=np.minimum, scalar=smaller, domain=PAIR, edges=((1.0, 1.0),),
    partials=(
        lambda x, high, out: Gate(logic.le(x, high)),
        lambda x, high, out: Gate(logic.gt(x, high)),
    ),
    kinks="x gets all of a tie", public=False, doc="min(x, high).",
)
raw_clamp = elementwise(
    "clamp", 3, numpy=lambda x, low, high: np.minimum(np.maximum(x, low), high),
    scalar=lambda s, x, low, high: smaller(s, larger(s, x, low), high), domain=(REAL[0],) * 3,
    # PyTorch, clamp_backward and clamp_backward_min_max.
    partials=(
        lambda x, low, high, out: Gate(logic.ge(x, low) & logic.le(x, high)),
        lambda x, low, high, out: Gate(logic.lt(low, high) & logic.lt(x, low)),
        lambda x, low, high, out: Gate(logic.gt(x, high) | logic.lt(high, low)),
    ),
    kinks="x keeps its gradient on the bounds", public=False, doc="min(max(x, low), high).",
)
relu = elementwise(
    "relu", 1, numpy=lambda x: np.maximum(x, 0),
    scalar=lambda s, x: larger(s, x, s.const(0, x.dtype)),
    # PyTorch, threshold_backward: 0 where the output is <= 0, so NaN passes.
    rule="number", partials=(lambda x, out: Gate(logic.logical_not(logic.le(out, 0))),),
    domain=REAL, edges=(0.0,), kinks="0 at 0", doc="max(x, 0).",
)
# fmt: on


def _where_samples(rng):
    for c, a, b in (((3,), (3,), (3,)), ((2, 3), (3,), ()), ((), (2,), (2,)), ((0,), (1,), (1,))):
        yield Sample((rng.uniform(size=c) < 0.5, rng.normal(size=a), rng.normal(size=b)))
    yield Sample((rng.uniform(size=3) < 0.5, rng.normal(size=3), 2.0))


def _where_errors():
    yield BadCall((np.ones(2), np.ones(2), np.ones(2)), DTypeError, "bool")
    yield BadCall((np.ones(2, bool), np.ones(2)), ArgumentError, "both")
    yield BadCall((np.ones(2, bool), np.ones(3), 1.0), RuntimeError, "do not broadcast")


@composite(op=select.op, methods=(), samples=_where_samples, errors=_where_errors)
def where(condition: Tensor, input=None, other=None, *, out: Tensor | None = None):
    """`input` where `condition` holds, `other` elsewhere.

    With the condition alone, the indices of its nonzero elements, one tensor a dimension.
    No derivative, not even NaN, flows to the side that was not chosen.

    Parameters
    ----------
    condition : Tensor, bool
    input, other : Tensor or number, optional
        They broadcast with the condition, and their dtypes are promoted.

    Raises
    ------
    DTypeError
        If the condition is not bool.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([-1.0, 2.0])
    >>> fg.where(x > 0, x, 0.0).tolist()
    [0.0, 2.0]
    """
    if input is None and other is None:
        return PUBLIC["nonzero"].function(condition, as_tuple=True)
    if input is None or other is None:
        raise ArgumentError("where: give both values or neither, got one of them")
    dtype = node_of(tensor_of("where", condition)).dtype
    if dtype is not dtypes.bool_ and dtype is not dtypes.uint8:
        raise DTypeError(
            f"where: the condition must be a bool tensor, got {dtype!r}; use condition != 0"
        )
    return written("where", select(condition, input, other), out)


def _where_method(self, condition, other):
    return where(condition, self, other)


Tensor.where = _where_method


def _clamp_samples(rng):
    x = rng.uniform(-3, 3, (2, 3))
    yield Sample((x, -1.0, 1.0))
    yield Sample((x,), {"min": -0.5})
    yield Sample((x,), {"max": 0.5})
    yield Sample((x, rng.uniform(-2, 0, 3), rng.uniform(0, 2, (2, 1))))
    yield Sample((x, None, rng.uniform(-2, 2, 3)))
    yield Sample((np.array(2.0), -1, 1))
    yield Sample((np.ones((0, 2)), 0.0, 1.0))


def _clamp_errors():
    yield BadCall((np.ones(2),), ArgumentError, "at least one of min and max")
    yield BadCall((np.ones((2, 3)), np.ones(2)), RuntimeError, "do not broadcast")


@composite(op=raw_clamp.op, inplace=True, samples=_clamp_samples, errors=_clamp_errors)
def clamp(input: Tensor, min=None, max=None, *, out: Tensor | None = None) -> Tensor:
    """`input` limited to [min, max]; each bound a number, a tensor or None.

    Where the bounds cross the result is `max`.
    The input keeps its gradient on the bounds, as in PyTorch.

    Raises
    ------
    ArgumentError
        If neither bound is given.
    """
    if min is None and max is None:
        raise ArgumentError("clamp: at least one of min and max is required, got neither")
    if max is None:
        result = raw_clamp_min(input, min)
    elif min is None:
        result = raw_clamp_max(input, max)
    else:
        result = raw_clamp(input, min, max)
    return written("clamp", result, out)


@composite(op=raw_clamp_min.op, inplace=True, samples=pair_samples)
def clamp_min(input: Tensor, min, *, out: Tensor | None = None) -> Tensor:
    """`input`, at least `min` (a number or tensor)."""
    return written("clamp_min", raw_clamp_min(input, min), out)


@composite(op=raw_clamp_max.op, inplace=True, samples=pair_samples)
def clamp_max(input: Tensor, max, *, out: Tensor | None = None) -> Tensor:
    """`input`, at most `max` (a number or tensor)."""
    return written("clamp_max", raw_clamp_max(input, max), out)


def _nan_to_num_samples(rng):
    x = rng.normal(size=(2, 3))
    x[0, 0], x[1, 1], x[0, 2] = math.nan, math.inf, -math.inf
    yield Sample((x,))
    yield Sample((x, 1.0, 2.0, -3.0))


@composite(inplace=True, samples=_nan_to_num_samples, differentiable=False)
def nan_to_num(input: Tensor, nan=0.0, posinf=None, neginf=None, *, out=None) -> Tensor:
    """NaN, infinity and -infinity replaced by numbers (0, the dtype's largest and lowest).

    The derivative is 1 where the input is finite and 0 elsewhere.
    """
    x = tensor_of("nan_to_num", input)
    dtype = node_of(x).dtype
    if dtype.category < FLOAT:
        return written("nan_to_num", record(ALIAS, (x,)), out)
    limit = np.finfo(dtype.np)
    high = float(limit.max) if posinf is None else posinf
    low = float(limit.min) if neginf is None else neginf
    fixed = select(logic.eq(x, math.inf), high, select(logic.eq(x, -math.inf), low, x))
    return written("nan_to_num", select(logic.isnan(x), 0.0 if nan is None else nan, fixed), out)


alias("abs", "absolute")
alias("clamp", "clip")
alias("sign", "sgn")
