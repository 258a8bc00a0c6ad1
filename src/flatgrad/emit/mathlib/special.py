"""The error function and its relatives."""

from __future__ import annotations

from ...graph import dtypes
from ...lower import ir
from ...lower.ir import Expr
from .exponential import reduce_exp, scaled_log
from .parts import (
    NAN,
    clamp_above,
    clear_low,
    copysign,
    decompose,
    fast_two_sum,
    minimax,
    minimax_led,
    pick,
    power_of_two,
    scale,
    two_minimax,
)
from .table import define


@define("erf", ulp=(1.75, 2.0))
def erf(x: Expr) -> Expr:
    """``x + x p(x**2)`` near zero, ``1 - exp(-q(|x|))`` beyond, until it rounds to 1."""
    size = ir.unary("abs", x)
    y = clamp_above(size, pick(x, 3.95, 5.95))
    near = y < pick(x, 0.9, 1.25)
    polynomial = two_minimax(near, "erf_near", "erf_far", ir.where(near, y * y, y))
    n, r, _ = reduce_exp(-polynomial)
    far = 1.0 - ((r * r * minimax("exp", r) + r) + 1.0) * power_of_two(n, x)
    return copysign(ir.where(near, y + y * polynomial, far), x)


@define("erfc", ulp=(2.0, 3.0))
def erfc(x: Expr) -> Expr:
    """``exp(-x**2) p(t) / (1 + 2|x|)`` with t = (|x| - 4) / (|x| + 4), 1 - erf near 0; from 2 for negative x.

    x**2 is taken in two parts in float64, and exact for float32, whose formula is float64's with short
    polynomials. The variable is that of Shepherd and Laframboise, Math. Comp. 36 (1981).
    """
    if x.dtype is dtypes.float32:
        return ir.cast(_erfc_of_float32(ir.cast(x, dtypes.float64)), x.dtype)
    y = clamp_above(ir.unary("abs", x), 27.5)
    short = clear_low(y)
    n, r, low = reduce_exp(-(short * short))
    r, error = fast_two_sum(r, -((y - short) * (y + short)))
    # The second part of x**2 may push r beyond ln2 / 2 a little; the polynomial has room for that.
    beyond = (r * r * minimax("exp_wide", r) + (low + error)) + r
    # p / d is the large factor, and what its divisor lost is made good with what is added to it.
    divisor, lost = fast_two_sum(y + y, ir.const(1.0, x.dtype))
    factor = minimax_led("erfcx", (y - 4.0) / (y + 4.0)) / divisor
    far = scale(factor + factor * (beyond - lost / divisor), n)
    value = ir.where(y < 0.5, 1.0 - (y * minimax("erf_near", y * y) + y), far)
    return ir.where(x < 0.0, 2.0 - value, value)


def _erfc_of_float32(x: Expr) -> Expr:
    y = clamp_above(ir.unary("abs", x), 10.5)
    n, r, _ = reduce_exp(-(y * y))
    exponential = (r * r * minimax("exp_wide", r, "float32") + r) + 1.0
    ratio = minimax("erfcx", (y - 4.0) / (y + 4.0), "float32") / (y + y + 1.0)
    far = exponential * ratio * power_of_two(n, x)
    value = ir.where(y < 0.5, 1.0 - (y * minimax("erf_near", y * y, "float32") + y), far)
    return ir.where(x < 0.0, 2.0 - value, value)


@define("erfinv", ulp=(2.0, 2.0))
def erfinv(x: Expr) -> Expr:
    """``x p(w)`` with w = -log(1 - x*x), or p(sqrt(w)) in the tails (Giles, GPU Computing Gems, 2011)."""
    if x.dtype is dtypes.float32:
        return ir.cast(_erfinv_start(ir.cast(x, dtypes.float64), "float32"), x.dtype)
    size = ir.unary("abs", x)
    value = _refined(_erfinv_start(x, ""), x, size)
    edge = ir.where(size.eq(1.0), x * float("inf"), NAN)
    return ir.where(size < 1.0, value, edge)


def _erfinv_start(x: Expr, made_for: str) -> Expr:
    """Giles's polynomials, those of the dtype that is named."""
    size = ir.unary("abs", x)
    argument = (1.0 - size) * (size + 1.0)
    e, m = decompose(argument)
    w = -scaled_log(e, m - 1.0)
    middle = w < 6.0
    root = ir.unary("sqrt", ir.where(middle, 6.0, w))
    near, far = (
        minimax(f"erfinv_{n}", v, made_for) for n, v in (("near", w - 3.0), ("far", root - 4.0))
    )
    edge = ir.where(size.eq(1.0), x * float("inf"), NAN)
    return ir.where(size < 1.0, x * ir.where(middle, near, far), edge)


def _refined(y: Expr, x: Expr, size: Expr) -> Expr:
    """A step of Halley's method for erf(y) = x; in terms of erfc and 1 - |x| in the tails."""
    near = size < 0.5
    magnitude = clamp_above(ir.unary("abs", y), 6.0)  # outside (-1, 1) y is anything
    gap = ir.where(near, erf(magnitude) - size, (1.0 - size) - erfc(magnitude))
    n, r, low = reduce_exp(magnitude * magnitude)
    inverse_slope = (((r * r * minimax("exp", r) + low) + r) + 1.0) * power_of_two(n, x)
    step = gap * inverse_slope * 0.8862269254527580
    return copysign(magnitude - step / (magnitude * step + 1.0), x)
