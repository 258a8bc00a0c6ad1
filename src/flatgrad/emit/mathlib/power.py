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
    decompose,
    fast_two_sum,
    integer,
    layout,
    minimax,
    normalised,
    power_of_two,
    scale,
    two_product,
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
    """log x of a positive finite float64, as an unevaluated sum, to about 2**-66 of its size.

    ``2 atanh(s)`` with s = (m - 1) / (m + 1) in double length: ``2 s (1 + z (1/3 + z p(z)))``, z = s*s.
    """
    scaled, shift = normalised(x)
    e, m = decompose(scaled)
    f = m - 1.0
    d, d_low = fast_two_sum(ir.const(1.0, m.dtype), m)
    inverse = 1.0 / d
    s = f * inverse
    p, p_low = two_product(s, d)
    s_low = (((f - p) - p_low) - s * d_low) * inverse
    z, z_low = two_product(s, s)
    z_low = z_low + (s + s) * s_low
    a, a_low = fast_two_sum(ir.const(THIRD, m.dtype), z * minimax("log_tail", z))
    a_low = a_low + THIRD_LOW
    t, t_low = two_product(z, a)
    t_low = t_low + (z * a_low + z_low * a)
    u, u_low = two_product(s, t)
    u_low = u_low + (s * t_low + s_low * t)
    high, low = fast_two_sum(s, u)
    low = low + (s_low + u_low)
    n = (e + shift).to(m.dtype)
    total, rest = fast_two_sum(n * LN2_40, high + high)
    return fast_two_sum(total, (low + low) + (rest + n * LN2_REST))


def _magnitude_64(x: Expr, y: Expr) -> Expr:
    """x**y for x >= 0 or NaN."""
    high, low = log_extended(x)
    high = ir.where((x > 0.0) & (x < INFINITY), high, ir.where(x.eq(0.0), -INFINITY, x))
    product, error = two_product(y, high)
    error = error + y * low
    error = ir.where(ir.unary("abs", product) < 1000.0, error, 0.0)
    inside = at_most(at_least(product, -746.0), 710.0)
    n = ir.unary("rint", inside * LOG2_E)
    exact = inside - n * LN2_40
    r, low = fast_two_sum(exact, error - n * LN2_REST)
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
    """``exp(y log|x|)`` with log to 66 bits (float64) or in float64 (float32), and C99 Annex F's special cases.

    ``pow(x, 0) = pow(1, y) = 1`` even for NaN; a negative x takes an integral y only; an odd y keeps x's
    sign, that of zero and infinity too.
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
