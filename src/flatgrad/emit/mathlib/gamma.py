"""log |gamma| and its derivative: a polynomial near 2 reached by recurrence, Stirling's series, reflection.

Formulas: NIST Digital Library of Mathematical Functions, 5.5 (recurrence, reflection), 5.11 (asymptotics).
"""

from __future__ import annotations

from ...graph import dtypes
from ...lower import ir
from ...lower.ir import Expr
from .exponential import log
from .parts import INFINITY, NAN, clamp_above, minimax
from .table import define

PI = 3.141592653589793
HALF_LOG_2_PI = 0.9189385332046728


def _sine_of_pi(fraction: Expr) -> Expr:
    """sin(pi * fraction) for 0 <= fraction <= 1/2."""
    angle = fraction * PI
    z = angle * angle
    return angle * z * minimax("sin", z) + angle


def _fraction(x: Expr) -> Expr:
    """x less the nearest integer."""
    return x - ir.unary("rint", x)


@define("lgamma", ulp=(1.0, 4.0), absolute_below=1.0)
def lgamma(x: Expr) -> Expr:
    """log|gamma(x)|: Stirling's series from 8 on; below, the recurrence to [3/2, 5/2) and a polynomial there.

    Below 0 by ``gamma(x) gamma(-x) = -pi / (x sin(pi x))``; infinite at 0, -1, -2, ... float32 is float64's
    formula with short polynomials: the terms cancel left of 0.
    """
    if x.dtype is dtypes.float32:
        return ir.cast(_lgamma(ir.cast(x, dtypes.float64), "float32"), x.dtype)
    return _lgamma(x, "")


def _lgamma(x: Expr, made_for: str) -> Expr:
    size = ir.unary("abs", x)
    inside = clamp_above(size, 8.0)
    t, factor = inside, ir.const(1.0, x.dtype)
    for _ in range(6):
        down = t >= 2.5
        t = ir.where(down, t - 1.0, t)
        factor = ir.where(down, factor * t, factor)
    for _ in range(2):
        up = t < 1.5
        factor = ir.where(up, factor * t, factor)
        t = ir.where(up, t + 1.0, t)
    large = size >= 8.0
    logarithm = log(ir.where(large, size, factor))
    v = t - 2.0
    near = v * minimax("lgamma", v, made_for) + ir.where(size < 1.5, -logarithm, logarithm)
    inverse = 1.0 / ir.where(large, size, 8.0)
    tail = inverse * minimax("stirling", inverse * inverse, made_for) + (HALF_LOG_2_PI - 0.5)
    far = (size - 0.5) * (logarithm - 1.0) + tail
    value = ir.where(large, far, near)
    fraction = ir.unary("abs", _fraction(size))
    mirrored = log(PI / (size * _sine_of_pi(fraction))) - value
    value = ir.where(x < -(2.0**-54), mirrored, value)
    pole = fraction.eq(0.0) & (x <= 0.0)
    return ir.where(pole | size.eq(INFINITY), INFINITY, value)


@define("digamma", ulp=(1.0, 20.0), absolute_below=1.0)
def digamma(x: Expr) -> Expr:
    """The derivative of lgamma: the recurrence to x + 8 where x < 8, then the asymptotic series.

    Below 0, ``digamma(1 - x) - pi / tan(pi x)``, whose terms cancel: 5 ulp at most for x > -3, 20 beyond.
    -inf at 0, inf at -0, NaN at -1, -2, ... and -inf.
    """
    if x.dtype is dtypes.float32:  # the digits that cancel left of 0 cost less than a careful sum
        return ir.cast(digamma(ir.cast(x, dtypes.float64)), x.dtype)
    negative = x < 0.0
    y = ir.where(negative, 1.0 - x, x)
    small = y < 8.0
    start = ir.where(small, y, 1.0)
    # 1/(y + 1) + ... + 1/(y + 7) = top / bottom; 1/y, the largest, is subtracted last.
    top, bottom = ir.const(1.0, x.dtype), start + 1.0
    for k in range(2, 8):
        term = start + float(k)
        top = top * term + bottom
        bottom = bottom * term
    shifted = ir.where(small, y + 8.0, y)
    inverse = 1.0 / shifted
    series = log(shifted) - (
        inverse * 0.5 + inverse * inverse * minimax("digamma", inverse * inverse)
    )
    value = ir.where(small, (series - top / bottom) - 1.0 / start, series)
    fraction = _fraction(x)
    size = ir.unary("abs", fraction)
    tangent = _sine_of_pi(size) / _sine_of_pi(0.5 - size)
    cotangent = ir.where(fraction < 0.0, ir.const(-PI, x.dtype), PI) / tangent
    value = ir.where(negative, value - cotangent, value)
    return ir.where(negative & fraction.eq(0.0), NAN, value)
