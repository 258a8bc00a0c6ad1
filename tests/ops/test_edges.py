"""Derivatives at the edges of the domain, against mpmath, in units of the last place (ulp).

The bound is for the derivative as NumPy's functions give it: the ulps of sin, exp ... themselves count.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

import flatgrad as fg
from flatgrad.graph.op import PUBLIC

mp = mpmath.mp


# Operation -> (derivative in mpmath, bound in ulps).
UNARY = {
    "sqrt": (lambda x: 1 / (2 * mp.sqrt(x)), 1),
    "rsqrt": (lambda x: -1 / (2 * x * mp.sqrt(x)), 2),
    "reciprocal": (lambda x: -1 / x**2, 2),
    "square": (lambda x: 2 * x, 0),
    "cbrt": (lambda x: 1 / (3 * mp.cbrt(abs(x)) ** 2), 4),
    "exp": (mp.exp, 1),
    "exp2": (lambda x: mp.power(2, x) * mp.log(2), 2),
    "expm1": (mp.exp, 1),
    "log": (lambda x: 1 / x, 1),
    "log2": (lambda x: 1 / (x * mp.log(2)), 2),
    "log10": (lambda x: 1 / (x * mp.log(10)), 2),
    "log1p": (lambda x: 1 / (1 + x), 1),
    "sin": (mp.cos, 1),
    "cos": (lambda x: -mp.sin(x), 1),
    "tan": (lambda x: 1 + mp.tan(x) ** 2, 4),
    "asin": (lambda x: 1 / mp.sqrt(1 - x * x), 3),
    "acos": (lambda x: -1 / mp.sqrt(1 - x * x), 3),
    "atan": (lambda x: 1 / (1 + x * x), 2),
    "sinh": (mp.cosh, 2),
    "cosh": (mp.sinh, 2),
    "tanh": (lambda x: mp.sech(x) ** 2, 4),
    "asinh": (lambda x: 1 / mp.sqrt(1 + x * x), 2),
    "acosh": (lambda x: 1 / mp.sqrt(x * x - 1), 3),
    "atanh": (lambda x: 1 / (1 - x * x), 2),
    "sigmoid": (lambda x: 1 / (2 + mp.exp(x) + mp.exp(-x)), 4),
    "softplus": (lambda x: 1 / (1 + mp.exp(-x)), 2),
    "logit": (lambda x: 1 / (x * (1 - x)), 2),
    "erf": (lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x), 4),
    "erfc": (lambda x: -2 / mp.sqrt(mp.pi) * mp.exp(-x * x), 4),
    # SciPy's erfc, which corrects the derivative, is off by up to 10 ulps itself.
    "erfinv": (lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(mp.erfinv(x) ** 2), 20),
    "lgamma": (lambda x: mp.psi(0, x), 8),
    "digamma": (lambda x: mp.psi(1, x), 8),
    "sinc": (
        lambda x: (mp.cos(mp.pi * x) - mp.sincpi(x)) / x if abs(x) > 1e-20 else -(mp.pi**2) * x / 3,
        8,
    ),
}
MORE = {
    "square": (0.0, -1e150, 1e-160, 1.0),
    "tanh": (1e-8, 5.0, 18.5, 25.0, -350.0),
    "sigmoid": (1.0, 36.0, 37.0, 100.0, -100.0, 700.0),
    "softplus": (-30.0, 30.0, 1e-10),
    "asin": (0.5, 1 - 2**-53, -1 + 2**-53, 0.999999),
    "acos": (0.5, 1 - 2**-53, -1 + 2**-53, 0.999999),
    "atanh": (0.5, 1 - 2**-53, -1 + 2**-53, 0.999999),
    "acosh": (1 + 2**-52, 1.5, 1e10, 1e154),
    "asinh": (1e154, -1e-10, 1.0),
    "expm1": (-38.0, -50.0, 1.0),
    "erf": (1.0, 3.0, 10.0, -20.0),
    "erfc": (1.0, 3.0, 10.0, -20.0),
    "erfinv": (1 - 2**-53, 0.5, 0.9999999, -0.3),
    "sinc": (0.1, 0.49999, 0.5, -0.2, 0.7, 2.3),
    "lgamma": (0.1, 3.0, 100.0),
    "digamma": (0.1, 3.0, 100.0, -3.3),
    "rsqrt": (1e-100, 0.3),
}


def points(name):
    op = PUBLIC[name].op
    inside = np.random.default_rng(1).uniform(*op.domain[0], 5) if op else ()
    return [*(op.edges if op else ()), *MORE.get(name, ()), *map(float, inside)]


def ulps(value: float, exact) -> float:
    """The distance of `value` from `exact` in units of the last place of the exact value."""
    nearest = float(exact)
    if math.isinf(nearest) or math.isnan(nearest):
        return 0.0 if value == nearest else math.inf
    unit = np.spacing(abs(nearest)) if nearest else np.finfo(float).tiny
    return float(abs(mp.mpf(value) - exact) / mp.mpf(float(unit)))


def derivative(name, *at) -> list[float]:
    xs = [fg.tensor(x, dtype=fg.float64, requires_grad=True) for x in at]
    return [g.item() for g in fg.autograd.grad(PUBLIC[name].function(*xs), xs)]


@pytest.mark.parametrize("name", UNARY)
def test_derivative_in_ulps(name):
    exact, bound = UNARY[name]
    checked = 0
    with mp.workdps(60):
        for x in points(name):
            if name == "sqrt" and x == 0:
                assert derivative(name, x) == [math.inf]
                continue
            (value,) = derivative(name, x)
            assert math.isfinite(value)
            assert ulps(value, exact(mp.mpf(x))) <= bound, f"{name}' at {x!r} is {value!r}"
            checked += 1
    assert checked >= 4


BINARY = {
    "div": (lambda x, y: 1 / y, lambda x, y: -x / y**2, 2),
    "pow": (
        lambda x, y: y * mp.power(x, y - 1),
        lambda x, y: mp.power(x, y) * mp.log(x),
        4,
    ),
    "atan2": (lambda y, x: x / (x * x + y * y), lambda y, x: -y / (x * x + y * y), 4),
    "hypot": (
        lambda x, y: x / mp.sqrt(x * x + y * y),
        lambda x, y: y / mp.sqrt(x * x + y * y),
        2,
    ),
    "logaddexp": (
        lambda x, y: 1 / (1 + mp.exp(y - x)),
        lambda x, y: 1 / (1 + mp.exp(x - y)),
        4,
    ),
    # exp magnifies the rounding of (x - y) * ln 2 by its size, 35 at most here.
    "logaddexp2": (
        lambda x, y: 1 / (1 + mp.power(2, y - x)),
        lambda x, y: 1 / (1 + mp.power(2, x - y)),
        40,
    ),
    "xlogy": (lambda x, y: mp.log(y), lambda x, y: x / y, 1),
}
MORE_PAIRS = {
    "div": ((1e200, 1e160), (3.0, 7.0)),
    "hypot": ((1e-308, 1e-308), (1e300, 1.0), (-3.0, 4.0)),
    "atan2": ((1e-300, 1e-300), (-1e200, 1e200), (1.0, -1.0)),
    "logaddexp": ((800.0, 790.0), (-800.0, -805.0), (0.3, 0.3)),
}


@pytest.mark.parametrize("name", BINARY)
def test_partials_in_ulps(name):
    *exact, bound = BINARY[name]
    rng = np.random.default_rng(2)
    op = PUBLIC[name].op
    pairs = [*op.edges, *MORE_PAIRS.get(name, ())]
    pairs += [tuple(float(rng.uniform(*d)) for d in op.domain) for _ in range(4)]
    with mp.workdps(400):
        for pair in pairs:
            values = derivative(name, *pair)
            for value, partial in zip(values, exact, strict=True):
                at = partial(*map(mp.mpf, pair))
                assert ulps(value, at) <= bound, f"{name} at {pair}: {value!r}, not {float(at)!r}"


SECOND = {
    "tanh": (lambda x: -2 * mp.tanh(x) * mp.sech(x) ** 2, (0.0, 1e-5, 1.0, 25.0, -30.0), 8),
    "sigmoid": (
        lambda x: -mp.tanh(x / 2) / (2 + mp.exp(x) + mp.exp(-x)),
        (0.5, 3.0, 40.0, -40.0),
        12,
    ),
    "softplus": (lambda x: 1 / (2 + mp.exp(x) + mp.exp(-x)), (0.0, 40.0, -40.0), 4),
    "acosh": (lambda x: -x / mp.sqrt(x * x - 1) ** 3, (1 + 1e-10, 2.0, 1e80), 12),
    "asin": (lambda x: x / mp.sqrt(1 - x * x) ** 3, (0.0, 0.5, 1 - 1e-10), 12),
    "erf": (lambda x: -4 * x / mp.sqrt(mp.pi) * mp.exp(-x * x), (0.0, 1.0, 20.0), 6),
    "expm1": (mp.exp, (-50.0, 0.0, 3.0), 1),
    "sinc": (
        lambda x: mp.diff(mp.sincpi, x, 2) if x else -(mp.pi**2) / 3,
        (0.0, 1e-9, 0.3, 0.7),
        40,
    ),
    "digamma": (lambda x: mp.psi(2, x), (0.1, 2.0, 50.0), 16),
    "erfinv": (
        lambda x: mp.pi / 2 * mp.erfinv(x) * mp.exp(2 * mp.erfinv(x) ** 2),
        (0.0, 0.5, 1 - 1e-10, -1 + 1e-14),
        48,
    ),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivative_in_ulps(name):
    exact, at, bound = SECOND[name]
    with mp.workdps(60):
        for point in at:
            x = fg.tensor(point, dtype=fg.float64, requires_grad=True)
            (first,) = fg.autograd.grad(PUBLIC[name].function(x), x, create_graph=True)
            (value,) = fg.autograd.grad(first, x)
            want = exact(mp.mpf(point))
            assert ulps(value.item(), want) <= bound, f"{name}'' at {point}: {value.item()!r}"


def test_tanh_third_derivative_at_zero():
    x = fg.tensor(0.0, dtype=fg.float64, requires_grad=True)
    y = fg.tanh(x)
    for _ in range(3):
        (y,) = fg.autograd.grad(y, x, create_graph=True)
    assert y.item() == -2.0


def test_float32_tails():
    x = fg.tensor([12.0, -20.0], requires_grad=True)
    (g,) = fg.autograd.grad(fg.tanh(x).sum(), x)
    np.testing.assert_allclose(g.numpy(), 1 / np.cosh(np.array([12.0, -20.0])) ** 2, rtol=1e-6)
    x = fg.tensor([1.0 + 2**-20, 1e25], requires_grad=True)
    (g,) = fg.autograd.grad(fg.acosh(x).sum(), x)
    at = np.array([1.0 + 2**-20, np.float32(1e25)])
    np.testing.assert_allclose(g.numpy(), 1 / np.sqrt(at - 1) / np.sqrt(at + 1), rtol=1e-6)
