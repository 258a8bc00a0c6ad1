"""pow, from a logarithm with more digits than the result."""

from __future__ import annotations

from ...graph import dtypes
from ...lower import ir
from ...lower.ir import Expr
from .exponential import LOG2_E
from .parts import (
    F64,
    INFINITY,
    NAN,
    at_least,
    at_most,
    clear_low,
    decompose,
    fast_two_sum,
    halves,
    integer,
    layout,
    minimax,
    normalised,
    power_of_two,
    scale,
    word,
)
from .table import define

LN2 = 0.6931471805599453
# ln 2 in two parts, the first of 40 bits, so that an exponent times it is exact.
LN2_40 = 0.6931471805601177
LN2_REST = -1.7239444525614835e-13
THIRD = 0.3333333333333333
THIRD_LOW = 1.850371707708594e-17


def log_extended(x: Expr) -> tuple[Expr, Expr]:
    """log x of a positive finite float64 to 2**-66 of its size: a double and a rest below 2**-24 of it.

    ``2 atanh(s)`` with s = (m - 1) / (m + 1): ``2 s (1 + z (1/3 + z p(z)))``, z = s*s. Each factor
    is cut to a short leading part, whose products are exact, and a rest.
    """
    scaled, shift = normalised(x)
    e, m = decompose(scaled)
    f = m - 1.0
    inverse = 1.0 / (m + 1.0)
    s = clear_low(f * inverse)
    d = clear_low(m + 1.0)
    s_rest = ((f - s * d) - s * (m - (d - 1.0))) * inverse
    z = s * s
    z_rest = (s + s + s_rest) * s_rest
    whole = z + z_rest
    tail = whole * minimax("log_tail", whole)
    a = clear_low(tail + THIRD)
    a_rest = ((THIRD - a) + tail) + THIRD_LOW
    z_short = clear_low(z)
    product = z_short * a
    product_rest = z_short * a_rest + ((z - z_short) + z_rest) * (a + a_rest)
    t = clear_low(product + product_rest)
    t_rest = (product - t) + product_rest
    high, low = fast_two_sum(s, s * t)
    low = low + (s_rest + (s * t_rest + s_rest * (t + t_rest)))
    n = (e + shift).to(m.dtype)
    total, rest = fast_two_sum(n * LN2_40, high + high)
    return total, (low + low) + (rest + n * LN2_REST)


def _magnitude_64(x: Expr, y: Expr) -> Expr:
    """x**y for x >= 0 or NaN."""
    high, low = log_extended(x)
    log = clear_low(high)
    y_short, y_rest = halves(y)
    limit = y * ir.where(x.eq(0.0), -INFINITY, x)
    product = ir.where((x > 0.0) & (x < INFINITY), y_short * log, limit)
    rest = y_short * ((high - log) + low) + y_rest * (high + low)
    rest = ir.where(ir.unary("abs", product) < 1000.0, rest, 0.0)
    inside = at_most(at_least(product, -746.0), 710.0)
    n = ir.unary("rint", inside * LOG2_E)
    r, low = fast_two_sum(inside - n * LN2_40, rest - n * LN2_REST)
    return scale(((r * r * minimax("exp", r) + low) + r) + 1.0, integer(n))


def _magnitude_32(x: Expr, y: Expr) -> Expr:
    """x**y for float32 x >= 0 or NaN, in float64: 37 bits of the logarithm are enough."""
    wide = ir.cast(x, dtypes.float64)
    e, m = decompose(wide)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    log = e.to(dtypes.float64) * LN2 + s * (z * minimax("log_s", z, "float32") + 2.0)
    log = ir.where((x > 0.0) & (x < INFINITY), log, ir.where(x.eq(0.0), -INFINITY, wide))
    inside = at_most(at_least(ir.cast(y, dtypes.float64) * log, -110.0), 90.0)
    n = ir.unary("rint", inside * LOG2_E)
    r = inside - n * LN2
    power = (r * r * minimax("exp", r, "float32") + r) + 1.0
    return ir.cast(power * power_of_two(integer(n), wide), dtypes.float32)


@define("pow", arity=2, ulp=(1.0, 1.0))
def power(x: Expr, y: Expr) -> Expr:
    """``exp(y log|x|)`` with the logarithm to 66 bits, or in float64 for float32.

    Special cases are those of C99, Annex F: ``pow(x, 0) = pow(1, y) = 1`` even for NaN; a negative x
    takes an integral y only; an odd y keeps x's sign, that of zero and infinity too.
    """
    size = ir.unary("abs", x)
    value = (_magnitude_64 if layout(x) is F64 else _magnitude_32)(size, y)
    half = y * 0.5
    integral = ir.unary("rint", y).eq(y)
    odd = integral & ir.unary("rint", half).ne(half)
    sign = word(x) & layout(x).sign
    value = ir.where(odd, (word(value) ^ sign).real(), value)
    value = ir.where((x < 0.0) & (x > -INFINITY) & ~integral, NAN, value)
    value = ir.where(x.ne(x) | y.ne(y), NAN, value)
    one = y.eq(0.0) | x.eq(1.0) | (x.eq(-1.0) & ir.unary("abs", y).eq(INFINITY))
    return ir.where(one, 1.0, value)


@define("hypot", arity=2, ulp=(1.0, 1.5))
def hypot(x: Expr, y: Expr) -> Expr:
    """``sqrt(x*x + y*y)``, in float64 or scaled by a power of two; infinite if either is, even beside NaN."""
    a, b = ir.unary("abs", x), ir.unary("abs", y)
    infinite = a.eq(INFINITY) | b.eq(INFINITY)
    if layout(x) is F64:
        larger = ir.where(a < b, b, a)
        down = ir.where(larger > 2.0**500, ir.const(2.0**-600, x.dtype), 1.0)
        down = ir.where(larger < 2.0**-450, 2.0**600, down)
        up = ir.where(larger > 2.0**500, ir.const(2.0**600, x.dtype), 1.0)
        up = ir.where(larger < 2.0**-450, 2.0**-600, up)
        a, b = a * down, b * down
        length = ir.unary("sqrt", a * a + b * b) * up
    else:
        a, b = ir.cast(a, dtypes.float64), ir.cast(b, dtypes.float64)
        length = ir.cast(ir.unary("sqrt", a * a + b * b), x.dtype)
    return ir.where(infinite, INFINITY, length)


@define("cbrt", ulp=(1.0, 1.0))
def cbrt(x: Expr) -> Expr:
    """A polynomial in the significand, scaled by a third of the exponent; then Newton's method."""
    size = ir.unary("abs", x)
    scaled, shift = normalised(size)
    e, m = decompose(scaled)
    e = e + shift
    third = integer(ir.unary("rint", e.to(x.dtype) * THIRD))
    rest = e - third * 3  # -1, 0 or 1
    a = m * power_of_two(rest, x)
    f = m - 1.0
    root = minimax("cbrt", f) * ir.where(
        rest < 0,
        ir.const(0.7937005259840998, x.dtype),
        ir.where(rest.eq(0), ir.const(1.0, x.dtype), 1.2599210498948732),
    )
    for _ in range(1 if x.dtype is dtypes.float32 else 2):
        root = root - (root - a / (root * root)) * THIRD
    value = (word(root * power_of_two(third, x)) | (word(x) & layout(x).sign)).real()
    return ir.where((size > 0.0) & (size < INFINITY), value, x)
