"""Scalar expressions of elementwise operations, evaluated on NumPy arrays with functions of NumPy and SciPy.

``evaluate_expr`` gives everything but calls of the mathematical library, which must be polynomials there;
here a call means the NumPy or SciPy function of that name.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import scipy.special

from tests.support import evaluate_expr

CALLS = {
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "lgamma": scipy.special.gammaln,
    "sigmoid": scipy.special.expit,
    "softplus": lambda x: np.logaddexp(x, x.dtype.type(0)),
    "pow": np.power,
}


def evaluate(expression, **arrays) -> np.ndarray:
    """The value of `expression` with each variable bound to an array."""
    values: dict = {}
    with np.errstate(all="ignore"):
        for e in evaluate_expr.in_order(expression):
            args = [values[a] for a in e.args]
            if e.kind == "call":
                value = np.asarray(_function(e.arg)(*args))
            elif e.kind == "fma":
                value = np.asarray(_fma(*np.broadcast_arrays(*args))).astype(e.dtype.np)
            else:
                value = evaluate_expr._value(e, args, arrays)
            assert value.dtype == e.dtype.np, (e.kind, e.arg, value.dtype, e.dtype)
            values[e] = value
    return values[expression]


def _function(name: str):
    return CALLS.get(name) or getattr(np, name, None) or getattr(scipy.special, name)


@np.vectorize
def _fma(x, y, z):
    if not np.isfinite([x, y, z]).all():
        return x * y + z
    return type(x)(float(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))))
