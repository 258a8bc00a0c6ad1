"""Hyperbolic functions, from the parts of exp and log."""

from __future__ import annotations

from ...lower import ir
from ...lower.ir import Expr
from .exponential import expm1_kernel, reduce_exp
from .parts import at_most, copysign, keep_nan, pick, power_of_two
from .table import define


@define("tanh", ulp=(2.0, 2.0))
def tanh(x: Expr) -> Expr:
    """``(1 - e) / (1 + e)`` with ``e = exp(-2|x|) = 2**n (1 + p)``, so that 1 - e doesn't cancel."""
    y = at_most(ir.unary("abs", x), pick(x, 10.0, 20.0)) * -2.0
    n, r, low = reduce_exp(y)
    s = power_of_two(n, x)
    p = s * expm1_kernel(r, low)
    return keep_nan(x, copysign(((1.0 - s) - p) / ((s + 1.0) + p), x))
