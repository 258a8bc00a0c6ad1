"""The parts that scalar functions are made of: machine words, exponents, polynomials, double-length sums.

Everything here builds ``lower.ir`` expressions and is free of branches, tables, calls and fused
multiply-adds, so that a loop around it vectorises and every target computes the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...graph import dtypes
from ...graph.dtypes import DType
from ...lower import ir
from ...lower.ir import Expr
from .coefficients import COEFFICIENTS

INFINITY = float("inf")
NAN = float("nan")


class Layout:
    """A floating-point format: its word type, field sizes and the limits that formulas need."""

    def __init__(self, dtype: DType, integer: DType, mantissa: int, bias: int):
        self.dtype = dtype
        self.integer = integer
        self.mantissa = mantissa
        self.bias = bias
        self.sign = -(1 << (8 * dtype.itemsize - 1))
        self.tiny = 2.0 ** (1 - bias)  # the smallest normal number
        # Clearing these low bits leaves a factor whose products with other such factors are exact.
        self.half = (mantissa + 2) // 2


F32 = Layout(dtypes.float32, dtypes.int32, 23, 127)
F64 = Layout(dtypes.float64, dtypes.int64, 52, 1023)


def layout(x: Expr) -> Layout:
    return F32 if x.dtype is dtypes.float32 else F64


def pick(x: Expr, single, double):
    """The first value for float32, the second for float64."""
    return single if x.dtype is dtypes.float32 else double


class Word:
    """An int32 or int64 expression with a machine word's operators: they wrap and are never rearranged.

    (The IR's own int64 operators keep index arithmetic in normal form, which is wrong for bit patterns.)
    ``>>`` is arithmetic, ``lsr`` is logical; comparisons give a boolean Expr.
    """

    __slots__ = ("expr",)

    def __init__(self, expr: Expr):
        self.expr = expr

    def _with(self, op: str, other, dtype: DType | None = None) -> Expr:
        if not isinstance(other, Word):
            other = Word(Expr("const", self.expr.dtype, (), int(other)))
        return Expr("binary", dtype or self.expr.dtype, (self.expr, other.expr), op)

    def __add__(self, other):
        return Word(self._with("+", other))

    def __sub__(self, other):
        return Word(self._with("-", other))

    def __rsub__(self, other):
        return Word(Expr("const", self.expr.dtype, (), other)) - self

    def __mul__(self, other):
        return Word(self._with("*", other))

    def __and__(self, other):
        return Word(self._with("&", other))

    def __or__(self, other):
        return Word(self._with("|", other))

    def __xor__(self, other):
        return Word(self._with("^", other))

    def __lshift__(self, other):
        return Word(self._with("<<", other))

    def __rshift__(self, other):
        return Word(self._with(">>", other))

    def __lt__(self, other):
        return self._with("<", other, dtypes.bool_)

    def __ge__(self, other):
        return self._with(">=", other, dtypes.bool_)

    def eq(self, other):
        return self._with("==", other, dtypes.bool_)

    def ne(self, other):
        return self._with("!=", other, dtypes.bool_)

    def lsr(self, count: int):
        """Shift right, filling with zeros, by a constant."""
        size = 8 * self.expr.dtype.itemsize
        return (self >> count) & ((1 << (size - count)) - 1)

    def real(self) -> Expr:
        """The float with these bits."""
        kind = dtypes.float32 if self.expr.dtype is dtypes.int32 else dtypes.float64
        return ir.bits(self.expr, kind)

    def to(self, dtype: DType) -> Expr:
        """The value converted to a float type."""
        return ir.cast(self.expr, dtype)


def word(x: Expr) -> Word:
    """The bits of a float."""
    return Word(ir.bits(x, layout(x).integer))


def choose(c: Expr, x, y) -> Word:
    """``x if c else y`` of words; one of them may be a number."""
    kind = (x if isinstance(x, Word) else y).expr.dtype
    x, y = (v.expr if isinstance(v, Word) else Expr("const", kind, (), v) for v in (x, y))
    return Word(ir.where(c, x, y))


def integer(x: Expr) -> Word:
    """A float with an integral value that fits, as a word of its size."""
    return Word(ir.cast(x, layout(x).integer))


# -- signs, special values ------------------------------------------------------------------------


def copysign(magnitude: Expr, sign: Expr) -> Expr:
    """`magnitude`, which is not negative, with the sign of `sign`."""
    return (word(magnitude) | (word(sign) & layout(sign).sign)).real()


def keep_nan(x: Expr, value: Expr) -> Expr:
    """`value`, or `x` where `x` is NaN."""
    return ir.where(x.ne(x), x, value)


def at_least(x: Expr, low: float) -> Expr:
    """max(x, low), and `low` for NaN, so that a conversion to integer is defined."""
    low = ir.const(low, x.dtype)
    return ir.where(low < x, x, low)


def at_most(x: Expr, high: float) -> Expr:
    """min(x, high), and `high` for NaN."""
    high = ir.const(high, x.dtype)
    return ir.where(x < high, x, high)


def clamp_below(x: Expr, low: float) -> Expr:
    """max(x, low), and NaN for NaN."""
    low = ir.const(low, x.dtype)
    return ir.where(x < low, low, x)


def clamp_above(x: Expr, high: float) -> Expr:
    """min(x, high), and NaN for NaN."""
    high = ir.const(high, x.dtype)
    return ir.where(high < x, high, x)


def clamp(x: Expr, low: float, high: float) -> Expr:
    """`x` limited to [low, high]; NaN stays."""
    return clamp_above(clamp_below(x, low), high)


# -- polynomials ----------------------------------------------------------------------------------


def polynomial(x: Expr, coefficients: Sequence) -> Expr:
    """``sum(c[i] * x**i)``: Horner's rule, for many terms in two interleaved halves (less latency)."""
    if len(coefficients) < 8:
        return _horner(x, coefficients)
    square = x * x
    return _horner(square, coefficients[0::2]) + x * _horner(square, coefficients[1::2])


def _horner(x: Expr, coefficients: Sequence) -> Expr:
    result = None
    for c in reversed(coefficients):
        if not isinstance(c, Expr):
            c = ir.const(c, x.dtype)
        result = c if result is None else result * x + c
    return result


def minimax(name: str, x: Expr, made_for: str = "") -> Expr:
    """The polynomial that tools/remez.py made under this name, for x's dtype or the one named."""
    return polynomial(x, COEFFICIENTS[name, made_for or x.dtype.name])


def minimax_led(name: str, x: Expr) -> Expr:
    """``minimax`` whose constant, the largest term, is added last: one rounding of that size, not two."""
    first, *rest = COEFFICIENTS[name, x.dtype.name]
    return x * polynomial(x, rest) + first


def two_minimax(condition: Expr, first: str, second: str, x: Expr) -> Expr:
    """One of two polynomials in `x`, choosing coefficients: cheaper than evaluating both."""
    a = COEFFICIENTS[first, x.dtype.name]
    b = COEFFICIENTS[second, x.dtype.name]
    size = max(len(a), len(b))
    a, b = (list(c) + [0.0] * (size - len(c)) for c in (a, b))
    return polynomial(
        x,
        [
            ir.where(condition, ir.const(p, x.dtype), ir.const(q, x.dtype))
            for p, q in zip(a, b, strict=True)
        ],
    )


# -- exponents ------------------------------------------------------------------------------------


def power_of_two_bits(n: int, like: Expr) -> Word:
    """The bits of 2**n."""
    form = layout(like)
    return Word(Expr("const", form.integer, (), (n + form.bias) << form.mantissa))


def power_of_two(n: Word, like: Expr) -> Expr:
    """2**n for n from -bias (which gives 0) to bias + 1 (infinity)."""
    form = layout(like)
    return ((n + form.bias) << form.mantissa).real()


def scale(x: Expr, n: Word) -> Expr:
    """``x * 2**n`` rounded once, for |n| up to twice the exponent's range and x near 1."""
    half = n >> 1
    return x * power_of_two(half, x) * power_of_two(n - half, x)


def decompose(x: Expr) -> tuple[Word, Expr]:
    """(e, m) with ``x = m * 2**e`` and sqrt(1/2) <= m < sqrt(2), for positive normal x."""
    form = layout(x)
    root = pick(x, 0x3F3504F3, 0x3FE6A09E667F3BCD)  # the bits of sqrt(1/2)
    bits = word(x)
    e = (bits - root) >> form.mantissa
    return e, (bits - (e << form.mantissa)).real()


def normalised(x: Expr) -> tuple[Expr, Word]:
    """(x', shift) with positive ``x = x' * 2**shift`` and x' normal even if x is subnormal."""
    form = layout(x)
    small = x < form.tiny
    up = form.mantissa + 2
    return ir.where(small, x * 2.0**up, x), choose(small, Word(_zero(form, -up)), 0)


def _zero(form: Layout, number: int) -> Expr:
    return Expr("const", form.integer, (), number)


# -- double-length arithmetic, without fused multiply-add -----------------------------------------


def clear_low(x: Expr) -> Expr:
    """`x` with the low half of its significand cleared: products of two such are exact."""
    return (word(x) & -(1 << layout(x).half)).real()


def halves(x: Expr) -> tuple[Expr, Expr]:
    """(high, low) with ``x = high + low`` and short significands, by masking (it can't overflow)."""
    high = clear_low(x)
    return high, x - high


def split_constant(number: tuple[float, float], like: Expr) -> tuple[Expr, Expr]:
    """A constant given as (double, rest) in two parts of like's dtype, the first with a short significand."""
    form = layout(like)
    kind = form.dtype.np.type
    mantissa, exponent = math.frexp(number[0])
    digits = form.mantissa + 1 - form.half
    high = math.ldexp(round(math.ldexp(mantissa, digits)), exponent - digits)
    return ir.const(kind(high), like.dtype), ir.const((number[0] - high) + number[1], like.dtype)


def fast_two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Sum and its rounding error, for |a| >= |b|."""
    s = a + b
    return s, b - (s - a)


def two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Sum and its rounding error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Product and its rounding error (Dekker, splitting by masks)."""
    p = a * b
    ah, al = halves(a)
    bh, bl = halves(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl
