"""exp and log with their relatives: expm1, log1p, exp2, log2, log10, sigmoid, softplus.

Range reduction as in Cody and Waite, *Software Manual for the Elementary Functions* (1980), with a two-part
ln 2; polynomials by tools/remez.py.
"""

from __future__ import annotations

from ...lower import ir
from ...lower.ir import Expr
from .parts import (
    INFINITY,
    NAN,
    Word,
    at_least,
    choose,
    clamp,
    clamp_below,
    clear_low,
    decompose,
    fast_two_sum,
    integer,
    layout,
    minimax,
    normalised,
    pick,
    power_of_two,
    power_of_two_bits,
    scale,
    split_constant,
)
from .table import define

LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first is short, so that an exponent times it is exact.
LN2_HIGH = (0.693145751953125, 0.6931471803691238)
LN2_LOW = (1.428606765330187e-06, 1.9082149292705877e-10)


def reduce_exp(x: Expr) -> tuple[Word, Expr, Expr]:
    """(n, r, low) with ``x = n ln2 + r + low`` and |r| <= ln2 / 2, for x that is not huge; NaN gives NaN."""
    n = at_least(ir.unary("rint", x * LOG2_E), pick(x, -160.0, -1100.0))  # a number for NaN too
    exact = x - n * pick(x, *LN2_HIGH)
    rest = n * pick(x, *LN2_LOW)
    r = exact - rest
    return integer(n), r, (exact - r) - rest


def expm1_kernel(r: Expr, low: Expr) -> Expr:
    """exp(r + low) - 1 for |r| <= ln2 / 2, relatively accurate."""
    return (r * r * minimax("expm1", r) + low) + r


@define("exp", ulp=(1.25, 1.0))
def exp(x: Expr) -> Expr:
    """``2**n * exp(r)``; clamped just outside the range where the result is neither 0 nor infinite."""
    n, r, _ = reduce_exp(clamp(x, pick(x, -105.0, -746.0), pick(x, 89.0, 710.0)))
    return scale((r * r * minimax("exp", r) + r) + 1.0, n)


@define("expm1", ulp=(1.5, 1.5))
def expm1(x: Expr) -> Expr:
    """``2**n * (exp(r) - 1) + (2**n - 1)``, halved while scaling so that 2**n never overflows alone."""
    n, r, low = reduce_exp(clamp(x, pick(x, -18.0, -38.0), pick(x, 89.0, 710.0)))
    s = power_of_two(n - 1, x)
    result = (s * expm1_kernel(r, low) + (s - 0.5)) * 2.0
    # Tiny x is its own result, with its sign if it is zero; NaN passes the same way.
    return ir.where(ir.unary("abs", x) >= pick(x, 1e-10, 1e-20), result, x)


@define("sigmoid", ulp=(2.0, 2.0))
def sigmoid(x: Expr) -> Expr:
    """``1 / (1 + exp(-x))`` as ``a / (a + 1 + p)`` with ``exp(-x) = (1 + p) / a``, a a power of two.

    So exp(-x) is never rounded and never overflows. Where the result is subnormal, a stops at the smallest
    normal number's size and the quotient is scaled once more.
    """
    y = clamp(-x, pick(x, -87.0, -708.0), pick(x, 105.0, 746.0))
    n, r, _ = reduce_exp(y)
    p = r * r * minimax("exp", r) + r
    most = pick(x, 124, 1020)
    first = choose(n < most, n, most)
    a = power_of_two(0 - first, x)
    total, rest = fast_two_sum(ir.const(1.0, x.dtype), a)  # inexact for a > 1 only, where a rules
    return a / (total + (p + rest)) * power_of_two(first - n, x)


def log_parts(f: Expr) -> tuple[Expr, Expr]:
    """(a, b) with ``log(1 + f) = f - a + b``, a = f*f/2, for 1 + f in [sqrt(1/2), sqrt(2))."""
    half_square = f * f * 0.5
    if layout(f).mantissa == 23:
        return half_square, f * f * f * minimax("log_f", f)
    s = f / (f + 2.0)
    z = s * s
    return half_square, s * (half_square + z * minimax("log_s", z))


def log_edges(x: Expr, u: Expr, ordinary: Expr, value: Expr) -> Expr:
    """`value` where `ordinary`; else x for u > 0, -inf at u = 0, NaN below and for NaN."""
    positive = u > 0.0
    special = ir.where(positive, x, ir.where(u.eq(0.0), ir.const(-INFINITY, x.dtype), NAN))
    return ir.where(positive & ordinary, value, special)


def scaled_log(e: Word, f: Expr) -> Expr:
    """``e ln2 + log(1 + f)``."""
    n = e.to(f.dtype)
    half_square, rest = log_parts(f)
    return n * pick(f, *LN2_HIGH) + (f - (half_square - (rest + n * pick(f, *LN2_LOW))))


@define("log", ulp=(1.0, 1.0))
def log(x: Expr) -> Expr:
    """``e ln2 + log(m)`` with m near 1; log(1 + f) by a polynomial (float32) or in f / (2 + f) (float64)."""
    scaled, shift = normalised(x)
    e, m = decompose(scaled)
    return log_edges(x, x, x < INFINITY, scaled_log(e + shift, m - 1.0))


@define("log1p", ulp=(1.5, 1.5))
def log1p(x: Expr) -> Expr:
    """log of u = 1 + x with the rounding error of u added to the reduced argument."""
    u = x + 1.0
    v = u - 1.0
    error = (x - v) + (1.0 - (u - v))
    e, m = decompose(u)
    # 2**(1 - e) rather than 2**-e, which would leave the exponent's range at the top.
    f = (m - 1.0) + (error * 0.5) * (power_of_two_bits(1, x) - (e << layout(x).mantissa)).real()
    # Tiny x is its own result, with its sign if it is zero.
    ordinary = (u < INFINITY) & (ir.unary("abs", x) >= pick(x, 1e-10, 1e-20))
    return log_edges(x, u, ordinary, scaled_log(e, f))


@define("exp2", ulp=(1.5, 1.5))
def exp2(x: Expr) -> Expr:
    """``2**n * 2**r`` with r in [-1/2, 1/2]; exact at integers."""
    y = clamp(x, pick(x, -151.0, -1076.0), pick(x, 129.0, 1025.0))
    n = at_least(ir.unary("rint", y), pick(x, -160.0, -1100.0))
    r = y - n
    return scale(r * minimax("exp2", r) + 1.0, integer(n))


def _log_to_base(x: Expr, inverse: tuple, unit: tuple) -> Expr:
    """log x times `inverse`, where `unit` is log 2 times `inverse`; both in two parts.

    The product's leading part is exact, so only the last sum rounds visibly; powers of two are exact in
    base 2.
    """
    scaled, shift = normalised(x)
    e, m = decompose(scaled)
    f = m - 1.0
    half_square, rest = log_parts(f)
    high = clear_low(f - half_square)
    low = ((f - high) - half_square) + rest
    n = (e + shift).to(x.dtype)
    inverse_high, inverse_low = split_constant(inverse, x)
    unit_high, unit_low = split_constant(unit, x)
    total, error = fast_two_sum(n * unit_high, high * inverse_high)
    small = (low + high) * inverse_low + low * inverse_high
    return log_edges(x, x, x < INFINITY, total + (small + (error + n * unit_low)))


@define("log2", ulp=(1.5, 1.5))
def log2(x: Expr) -> Expr:
    """``e + log(m) / ln 2``; exact at powers of two."""
    return _log_to_base(x, (LOG2_E, 2.0355273740931033e-17), (1.0, 0.0))


@define("log10", ulp=(1.5, 1.5))
def log10(x: Expr) -> Expr:
    """``(e ln 2 + log(m)) / ln 10``."""
    return _log_to_base(
        x,
        (0.4342944819032518, 1.098319650216765e-17),
        (0.30102999566398120, -2.8037281277851704e-18),
    )


@define("softplus", ulp=(2.0, 2.0))
def softplus(x: Expr) -> Expr:
    """``log(1 + exp(x))`` as ``max(x, 0) + log1p(exp(-|x|))``."""
    return clamp_below(x, 0.0) + log1p(exp(-ir.unary("abs", x)))
