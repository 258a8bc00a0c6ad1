"""Elementwise comparison, logic, bits, and tests of closeness. None has a derivative."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..graph import dtypes
from ..graph.dtypes import BOOL, FLOAT
from ..graph.op import BadCall, Sample
from ..tensor import Tensor, late, node_of
from .declare import alias, cast, composite, elementwise, operands, tensor_of
from .scalars import is_bool, is_float

# fmt: off
# -- comparison -----------------------------------------------------------------------------------

eq = elementwise(
    "eq", 2, numpy=np.equal, scalar=lambda s, x, y: x.eq(y), rule="compare", ufuncs=(np.equal,),
    doc="x == y.",
)
ne = elementwise(
    "ne", 2, numpy=np.not_equal, scalar=lambda s, x, y: x.ne(y), rule="compare",
    ufuncs=(np.not_equal,), doc="x != y.",
)
lt = elementwise(
    "lt", 2, numpy=np.less, scalar=lambda s, x, y: y & ~x if is_bool(x) else x < y, rule="compare",
    ufuncs=(np.less,), doc="x < y.",
)
le = elementwise(
    "le", 2, numpy=np.less_equal, scalar=lambda s, x, y: y | ~x if is_bool(x) else x <= y,
    rule="compare", ufuncs=(np.less_equal,), doc="x <= y.",
)
gt = elementwise(
    "gt", 2, numpy=np.greater, scalar=lambda s, x, y: x & ~y if is_bool(x) else x > y,
    rule="compare", ufuncs=(np.greater,), doc="x > y.",
)
ge = elementwise(
    "ge", 2, numpy=np.greater_equal, scalar=lambda s, x, y: x | ~y if is_bool(x) else x >= y,
    rule="compare", ufuncs=(np.greater_equal,), doc="x >= y.",
)
isnan = elementwise(
    "isnan", 1, numpy=np.isnan, rule="compare", inplace=False, ufuncs=(np.isnan,),
    scalar=lambda s, x: x.ne(x) if is_float(x) else s.const(False, dtypes.bool_),
    doc="Whether x is NaN.",
)
isinf = elementwise(
    "isinf", 1, numpy=np.isinf, rule="compare", inplace=False, ufuncs=(np.isinf,),
    scalar=lambda s, x: s.unary("abs", x).eq(math.inf)
    if is_float(x) else s.const(False, dtypes.bool_),
    doc="Whether x is infinite.",
)
isfinite = elementwise(
    "isfinite", 1, numpy=np.isfinite, rule="compare", inplace=False, ufuncs=(np.isfinite,),
    scalar=lambda s, x: s.unary("abs", x) < math.inf
    if is_float(x) else s.const(True, dtypes.bool_),
    doc="Whether x is neither NaN nor infinite.",
)

isposinf = elementwise(
    "isposinf", 1, numpy=lambda x: x == math.inf, rule="compare", inplace=False,
    scalar=lambda s, x: x.eq(math.inf) if is_float(x) else s.const(False, dtypes.bool_),
    doc="Whether x is +infinity.",
)
isneginf = elementwise(
    "isneginf", 1, numpy=lambda x: x == -math.inf, rule="compare", inplace=False,
    scalar=lambda s, x: x.eq(-math.inf) if is_float(x) else s.const(False, dtypes.bool_),
    doc="Whether x is -infinity.",
)

# -- logic ----------------------------------------------------------------------------------------

logical_not = elementwise(
    "logical_not", 1, numpy=np.logical_not, scalar=lambda s, x: ~x, rule="logical",
    ufuncs=(np.logical_not,), doc="not x; a number is true if it is not 0 (NaN is true).",
)
logical_and = elementwise(
    "logical_and", 2, numpy=np.logical_and, scalar=lambda s, x, y: x & y, rule="logical",
    ufuncs=(np.logical_and,), doc="x and y.",
)
logical_or = elementwise(
    "logical_or", 2, numpy=np.logical_or, scalar=lambda s, x, y: x | y, rule="logical",
    ufuncs=(np.logical_or,), doc="x or y.",
)
logical_xor = elementwise(
    "logical_xor", 2, numpy=np.logical_xor, scalar=lambda s, x, y: x ^ y, rule="logical",
    ufuncs=(np.logical_xor,), doc="Either x or y, not both.",
)
# fmt: on

# -- bits -----------------------------------------------------------------------------------------
# A shift by the width or more, or by a negative count, moves every bit out, as NumPy's does.


def _width(x) -> int:
    return 8 * x.dtype.itemsize


def _outside(x, y):
    return (y < 0) | (y >= _width(x)) if x.dtype.is_signed else y >= _width(x)


def _left_shift(s, x, y):
    outside = _outside(x, y)
    return s.where(outside, 0, x << s.where(outside, 0, y))


def _right_shift(s, x, y):
    outside = _outside(x, y)
    emptied = s.where(x < 0, s.const(-1, x.dtype), s.const(0, x.dtype)) if x.dtype.is_signed else 0
    return s.where(outside, emptied, x >> s.where(outside, 0, y))


def _bit_samples(rng):
    for a, b in (((3,), (3,)), ((2, 3), ()), ((), ()), ((0,), (1,))):
        yield Sample((rng.integers(-50, 50, a), rng.integers(-50, 50, b)))
        yield Sample((rng.uniform(size=a) < 0.5, rng.uniform(size=b) < 0.5))


def _not_samples(rng):
    yield Sample((rng.integers(-50, 50, (2, 3)),))
    yield Sample((np.array([True, False]),))


def _bit_errors():
    yield BadCall((np.ones(2), np.ones(2)), DTypeError, "integer or bool tensors are required")
    yield BadCall((np.ones((2, 3), int), np.ones(2, int)), RuntimeError, "do not broadcast")


def _not_errors():
    yield BadCall((np.ones(2),), DTypeError, "integer or bool tensors are required")


# fmt: off
bitwise_and = elementwise(
    "bitwise_and", 2, numpy=np.bitwise_and, scalar=lambda s, x, y: x & y, rule="integer",
    ufuncs=(np.bitwise_and,), samples=_bit_samples, errors=_bit_errors, doc="x & y.",
)
bitwise_or = elementwise(
    "bitwise_or", 2, numpy=np.bitwise_or, scalar=lambda s, x, y: x | y, rule="integer",
    ufuncs=(np.bitwise_or,), samples=_bit_samples, errors=_bit_errors, doc="x | y.",
)
bitwise_xor = elementwise(
    "bitwise_xor", 2, numpy=np.bitwise_xor, scalar=lambda s, x, y: x ^ y, rule="integer",
    ufuncs=(np.bitwise_xor,), samples=_bit_samples, errors=_bit_errors, doc="x ^ y.",
)
bitwise_not = elementwise(
    "bitwise_not", 1, numpy=np.bitwise_not, scalar=lambda s, x: ~x, rule="integer",
    ufuncs=(np.bitwise_not,), samples=_not_samples, errors=_not_errors, doc="~x.",
)
raw_left_shift = elementwise(
    "bitwise_left_shift", 2, numpy=np.left_shift, scalar=_left_shift, rule="integer", public=False,
    doc="x << y.",
)
raw_right_shift = elementwise(
    "bitwise_right_shift", 2, numpy=np.right_shift, scalar=_right_shift, rule="integer",
    public=False, doc="x >> y.",
)
# fmt: on


def _shifted(name: str, shift, input, other, out):
    from .scalars import written

    _, dtype = operands(name, (input, other))
    if dtype.category == BOOL:
        raise DTypeError(f"{name}: not defined for bool tensors; convert with .to() first")
    return written(name, shift(input, other), out)


def _shift_samples(rng):
    for a, b in (((3,), (3,)), ((2, 3), ()), ((), ()), ((0,), (1,))):
        yield Sample((rng.integers(-50, 50, a), rng.integers(0, 8, b)))


def _shift_errors():
    yield from _bit_errors()
    yield BadCall((np.ones(2, bool), np.ones(2, bool)), DTypeError, "bool")


@composite(
    op=raw_left_shift.op, numpy=(np.left_shift,), inplace=True, samples=_shift_samples,
    errors=_shift_errors, differentiable=False,
)  # fmt: skip
def bitwise_left_shift(input: Tensor, other, *, out: Tensor | None = None) -> Tensor:
    """``input << other``: integers; every bit is lost for a count that is negative or too large."""
    return _shifted("bitwise_left_shift", raw_left_shift, input, other, out)


@composite(
    op=raw_right_shift.op, numpy=(np.right_shift,), inplace=True, samples=_shift_samples,
    errors=_shift_errors, differentiable=False,
)  # fmt: skip
def bitwise_right_shift(input: Tensor, other, *, out: Tensor | None = None) -> Tensor:
    """``input >> other``: integers; the sign is kept."""
    return _shifted("bitwise_right_shift", raw_right_shift, input, other, out)


# -- closeness ------------------------------------------------------------------------------------


def _close_samples(rng):
    x = rng.normal(size=(2, 3))
    y = x + np.array([0, 1e-9, 1e-3])
    yield Sample((x, y))
    yield Sample((x, y), {"rtol": 0.0, "atol": 1e-2})
    x = np.array([math.nan, math.inf, -math.inf, 1.0])
    yield Sample((x, x))
    yield Sample((x, x), {"equal_nan": True})


def _close_errors():
    yield BadCall((np.ones(2), np.ones(2, int)), DTypeError, "one dtype")
    yield BadCall((np.ones((2, 3)), np.ones(2)), RuntimeError, "do not broadcast")
    yield BadCall((np.ones(2), np.ones(2), -1.0), ArgumentError, "not be negative")


@composite(samples=_close_samples, errors=_close_errors, differentiable=False)
def isclose(input, other, rtol=1e-5, atol=1e-8, equal_nan: bool = False) -> Tensor:
    """Whether ``|input - other| <= atol + rtol * |other|``, or both are equal (infinities).

    Raises
    ------
    DTypeError
        If the dtypes differ.
    ArgumentError
        For a negative tolerance.
    """
    from .selection import abs

    a, b = tensor_of("isclose", input), tensor_of("isclose", other, 1)
    if node_of(a).dtype is not node_of(b).dtype:
        raise DTypeError(
            f"isclose: tensors of one dtype are required, got {a.dtype!r} and {b.dtype!r}; "
            "convert one with .to()"
        )
    if rtol < 0 or atol < 0:
        raise ArgumentError(f"isclose: tolerances must not be negative, got {rtol} and {atol}")
    same = logical_or(eq(a, b), logical_and(isnan(a), isnan(b))) if equal_nan else eq(a, b)
    if node_of(a).dtype.category < FLOAT:
        a, b = cast(a, dtypes.float64), cast(b, dtypes.float64)
    near = le(abs(a - b), atol + rtol * abs(b))
    return logical_or(same, logical_and(near, isfinite(b)))


def _all(t: Tensor) -> bool:
    node = node_of(t)
    late.evaluate([node])
    return bool(np.all(node.value))


@composite(samples=_close_samples, errors=_close_errors, differentiable=False)
def allclose(input, other, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close: see :func:`flatgrad.isclose`. A Python bool."""
    return _all(isclose(input, other, rtol, atol, equal_nan))


def _equal_samples(rng):
    x = rng.normal(size=(2, 3))
    yield Sample((x, x))
    yield Sample((x, x + 1))
    yield Sample((x, x[0]))


def _equal_errors():
    yield BadCall(("x", np.ones(2)), ArgumentError, "argument 0 must be a Tensor")


@composite(samples=_equal_samples, errors=_equal_errors, differentiable=False)
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same elements. A Python bool."""
    a, b = tensor_of("equal", input), tensor_of("equal", other, 1)
    return node_of(a).shape == node_of(b).shape and _all(eq(a, b))


alias("ne", "not_equal")
alias("lt", "less")
alias("le", "less_equal")
alias("gt", "greater")
alias("ge", "greater_equal")
