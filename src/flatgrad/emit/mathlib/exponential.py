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
    at_most,
    choose,
    decompose,
    integer,
    keep_nan,
    layout,
    minimax,
    normalised,
    pick,
    power_of_two,
    scale,
)
from .table import define

LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first is short, so that an exponent times it is exact.
LN2_HIGH = (0.693145751953125, 0.6931471803691238)
LN2_LOW = (1.428606765330187e-06, 1.9082149292705877e-10)


def reduce_exp(x: Expr) -> tuple[Word, Expr, Expr]:
    """(n, r, low) with ``x = n ln2 + r + low`` and |r| <= ln2 / 2, for x that is not NaN nor huge."""
    n = ir.unary("rint", x * LOG2_E)
    exact = x - n * pick(x, *LN2_HIGH)
    rest = n * pick(x, *LN2_LOW)
    r = exact - rest
    return integer(n), r, (exact - r) - rest


def expm1_kernel(r: Expr, low: Expr) -> Expr:
    """exp(r + low) - 1 for |r| <= ln2 / 2, relatively accurate."""
    return (r * r * minimax("expm1", r) + low) + r


@define("exp", ulp=(1.0, 1.0))
def exp(x: Expr) -> Expr:
    """``2**n * exp(r)``; clamped just outside the range where the result is neither 0 nor infinite."""
    inside = at_most(at_least(x, pick(x, -105.0, -746.0)), pick(x, 89.0, 710.0))
    n, r, _ = reduce_exp(inside)
    return keep_nan(x, scale((r * r * minimax("exp", r) + r) + 1.0, n))


@define("expm1", ulp=(1.5, 1.5))
def expm1(x: Expr) -> Expr:
    """``2**n * (exp(r) - 1) + (2**n - 1)``, halved while scaling so that 2**n never overflows alone."""
    inside = at_most(at_least(x, pick(x, -18.0, -38.0)), pick(x, 89.0, 710.0))
    n, r, low = reduce_exp(inside)
    s = power_of_two(n - 1, x)
    result = (s * expm1_kernel(r, low) + (s - 0.5)) * 2.0
    # Tiny x is its own result, with its sign if it is zero; NaN passes the same way.
    return ir.where(ir.unary("abs", x) >= pick(x, 1e-10, 1e-20), result, x)


@define("sigmoid", ulp=(2.0, 2.0))
def sigmoid(x: Expr) -> Expr:
    """``1 / (1 + e)`` for x >= 0, ``e / (1 + e)`` below, with ``e = exp(-|x|)``: right in both tails.

    With ``e = 2**n (1 + p)`` the second is ``2**n (q + p q)``, q the first: e itself is never rounded.
    """
    y = at_least(-ir.unary("abs", x), pick(x, -105.0, -746.0))
    n, r, low = reduce_exp(y)
    p = (r * r * minimax("exp", r) + low) + r
    floor = pick(x, -124, -1020)  # first a scaling that stays normal, then the rest of n
    first = choose(n < floor, floor, n)
    s = power_of_two(first, x)
    q = 1.0 / ((s + 1.0) + s * p)
    below = (q + p * q) * s * power_of_two(n - first, x)
    return keep_nan(x, ir.where(x < 0.0, below, q))


def log_kernel(f: Expr) -> Expr:
    """log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)): the correction c in ``f - c``."""
    half_square = f * f * 0.5
    if layout(f).mantissa == 23:
        return half_square - f * f * f * minimax("log_f", f)
    s = f / (f + 2.0)
    z = s * s
    return half_square - s * (half_square + z * minimax("log_s", z))


def log_edges(x: Expr, at_zero: Expr, value: Expr) -> Expr:
    """`value` for finite x with ``at_zero > 0``; -inf at 0, NaN below, x itself if infinite or NaN."""
    special = ir.where(at_zero < 0.0, NAN, ir.where(at_zero.eq(0.0), -INFINITY, x))
    return ir.where((at_zero > 0.0) & (at_zero < INFINITY), value, special)


def scaled_log(e: Word, f: Expr) -> Expr:
    """``e ln2 + log(1 + f)``."""
    n = e.to(f.dtype)
    return n * pick(f, *LN2_HIGH) + (f - (log_kernel(f) - n * pick(f, *LN2_LOW)))


@define("log", ulp=(1.0, 1.0))
def log(x: Expr) -> Expr:
    """``e ln2 + log(m)`` with m near 1; log(1 + f) by a polynomial (float32) or in f / (2 + f) (float64)."""
    scaled, shift = normalised(x)
    e, m = decompose(scaled)
    return log_edges(x, x, scaled_log(e + shift, m - 1.0))


@define("log1p", ulp=(1.5, 1.5))
def log1p(x: Expr) -> Expr:
    """log of u = 1 + x with the rounding error of u added to the reduced argument."""
    u = x + 1.0
    error = ir.where(x < 1.0, x - (u - 1.0), 1.0 - (u - x))
    e, m = decompose(u)
    # 2**(1 - e) rather than 2**-e, which would leave the exponent's range at the top.
    f = (m - 1.0) + (error * 0.5) * power_of_two(1 - e, x)
    value = ir.where(ir.unary("abs", x) < pick(x, 1e-10, 1e-20), x, scaled_log(e, f))
    return log_edges(x, u, value)
