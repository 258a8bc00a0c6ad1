"""Hyperbolic functions, from the parts of exp and log."""

from __future__ import annotations

from ...lower import ir
from ...lower.ir import Expr
from .exponential import expm1_kernel, log1p, reduce_exp
from .parts import clamp_above, copysign, minimax, pick, power_of_two
from .table import define


@define("tanh", ulp=(2.0, 2.0))
def tanh(x: Expr) -> Expr:
    """``(1 - e) / (1 + e)`` with ``e = exp(-2|x|) = 2**n (1 + p)``, so that 1 - e doesn't cancel."""
    y = clamp_above(ir.unary("abs", x), pick(x, 10.0, 20.0)) * -2.0
    n, r, low = reduce_exp(y)
    s = power_of_two(n, x)
    p = s * expm1_kernel(r, low)
    return copysign(((1.0 - s) - p) / ((s + 1.0) + p), x)


def _quarter_exp(size: Expr) -> Expr:
    """exp(size) / 4 for size >= 0, without overflow as long as exp(size) / 2 is finite.

    The power of two stays finite: -ffast-math may multiply it with the parts of the sum, of both signs.
    """
    n, r, low = reduce_exp(clamp_above(size, pick(size, 89.6, 710.6)))
    return (((r * r * minimax("exp", r) + low) + r) + 1.0) * power_of_two(n - 2, size)


@define("sinh", ulp=(2.0, 2.0))
def sinh(x: Expr) -> Expr:
    """``x + x**3 p(x**2)`` for |x| < 1, else half the difference of exp(|x|) and its inverse."""
    size = ir.unary("abs", x)
    quarter = _quarter_exp(size)
    far = (quarter - 0.0625 / quarter) * 2.0
    inside = clamp_above(size, 1.0)
    z = inside * inside
    near = size * z * minimax("sinh", z) + size
    return copysign(ir.where(size < 1.0, near, far), x)


@define("cosh", ulp=(2.0, 2.0))
def cosh(x: Expr) -> Expr:
    """Half the sum of exp(|x|) and its inverse."""
    quarter = _quarter_exp(ir.unary("abs", x))
    return (quarter + 0.0625 / quarter) * 2.0


def _log1p_and_doubling(argument: Expr, double: Expr) -> Expr:
    """log1p(argument), plus ln 2 where `double`."""
    ln2 = ir.where(double, ir.const(0.6931471805599453, argument.dtype), 0.0)
    return log1p(argument) + ln2


@define("asinh", ulp=(2.0, 2.0))
def asinh(x: Expr) -> Expr:
    """``log1p(a + a**2 / (1 + sqrt(1 + a**2)))`` with a = |x|; ``log(2a)`` where a**2 could overflow."""
    size = ir.unary("abs", x)
    limit = pick(x, 2.0**30, 2.0**60)
    inside = clamp_above(size, limit)
    square = inside * inside
    argument = inside + square / (ir.unary("sqrt", square + 1.0) + 1.0)
    large = size > limit
    return copysign(_log1p_and_doubling(ir.where(large, size, argument), large), x)


@define("acosh", ulp=(2.0, 2.0))
def acosh(x: Expr) -> Expr:
    """``log1p(t + sqrt(t (t + 2)))`` with t = x - 1, which is exact near 1; NaN for x < 1."""
    limit = pick(x, 2.0**30, 2.0**60)
    t = clamp_above(x, limit) - 1.0
    large = x > limit
    root = ir.unary("sqrt", t * (t + 2.0))
    return _log1p_and_doubling(
        ir.where(large, x, ir.where(t < 0.0, t * float("inf"), t + root)), large
    )


@define("atanh", ulp=(2.0, 2.0))
def atanh(x: Expr) -> Expr:
    """``log1p(2a / (1 - a)) / 2`` with a = |x|; infinite at 1, NaN beyond."""
    size = ir.unary("abs", x)
    return copysign(log1p((size + size) / (1.0 - size)) * 0.5, x)
