"""The error function and its relatives."""

from __future__ import annotations

from ...lower import ir
from ...lower.ir import Expr
from .exponential import reduce_exp
from .parts import at_most, copysign, keep_nan, minimax, pick, power_of_two, two_minimax
from .table import define


@define("erf", ulp=(1.5, 2.0))
def erf(x: Expr) -> Expr:
    """``x + x p(x**2)`` near zero, ``1 - exp(-q(|x|))`` beyond, until it rounds to 1."""
    size = ir.unary("abs", x)
    y = at_most(size, pick(x, 3.95, 5.95))
    near = y < pick(x, 0.9, 1.25)
    polynomial = two_minimax(near, "erf_near", "erf_far", ir.where(near, y * y, y))
    n, r, _ = reduce_exp(-polynomial)
    far = 1.0 - ((r * r * minimax("exp", r) + r) + 1.0) * power_of_two(n, x)
    return keep_nan(x, copysign(ir.where(near, y + y * polynomial, far), x))
