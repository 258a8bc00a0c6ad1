"""Errors in units in the last place, references and test points for the scalar functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np
import scipy.special as sp

MINIMUM_EXPONENT = {np.dtype(np.float32): -126, np.dtype(np.float64): -1022}
MANTISSA = {np.dtype(np.float32): 23, np.dtype(np.float64): 52}


def errors_32(got: np.ndarray, exact: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """|got - exact| in float32 ulps of the float64 `exact`; infinite where a special value differs.

    `floor` : the unit is at least that of this magnitude.
    """
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        size = np.maximum(np.abs(exact), floor)
        exponent = np.floor(np.log2(np.where((size > 0) & np.isfinite(size), size, 1.0)))
        unit = np.exp2(np.maximum(exponent, -126) - 23)
        error = np.abs(got.astype(np.float64) - exact) / unit
    special = ~(np.isfinite(got) & np.isfinite(rounded))
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    error = np.where(special, np.where(same, 0.0, np.inf), error)
    return np.where(
        (exact == 0) & (got == 0) & (np.signbit(exact) != np.signbit(got)), np.inf, error
    )


def errors_64(got: np.ndarray, exact: list, floor: float = 0.0) -> np.ndarray:
    """The same for float64 results and mpmath's exact ones."""
    return np.array([_error(float(g), e, floor) for g, e in zip(got, exact, strict=True)])


def _error(got: float, exact, floor: float) -> float:
    if mp.isnan(exact):
        return 0.0 if math.isnan(got) else math.inf
    if math.isnan(got):
        return math.inf
    if mp.isinf(exact) or math.isinf(got):
        limit = mp.mpf(2) ** 1024 * (1 - mp.mpf(2) ** -54)
        expected = float(mp.sign(exact)) * math.inf if abs(exact) >= limit else exact
        return 0.0 if got == expected else math.inf
    size = max(abs(exact), mp.mpf(floor))
    exponent = max(int(mp.floor(mp.log(size, 2))), -1022) if size else -1022
    return float(abs(mp.mpf(got) - exact) / mp.mpf(2) ** (exponent - 52))


# -- references -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What a function should be: on float64 arrays, and on mpmath numbers (NaN where it has no value)."""

    double: Callable
    exact: Callable


def _on(low, high, function, beyond=None):
    """`function` inside (low, high), infinite or given values at the ends, NaN beyond them."""
    beyond = beyond or {}

    def limited(x):
        if x in beyond:
            return beyond[x]
        return function(x) if low < x < high else mp.nan

    return limited


def _finite(function, at_infinity=lambda x: x):
    return lambda x: function(x) if mp.isfinite(x) else at_infinity(x)


def _not_infinite(function):
    return _finite(function, lambda x: mp.nan)


def _logarithm(function):
    return _on(0, mp.inf, function, {0: mp.ninf, mp.inf: mp.inf})


def _sigmoid(x):
    return 1 / (1 + mp.exp(-x)) if x > -10000 else mp.mpf(0)


def _erfinv(x):
    """Newton's method on erfc: mpmath's own loses digits near 1."""
    if abs(x) < 0.5:
        return mp.erfinv(x)
    gap = 1 - abs(x)
    y = mp.sqrt(-mp.log(gap * (2 - gap))) * mp.mpf("0.9")
    for _ in range(60):
        step = (gap - mp.erfc(y)) * mp.sqrt(mp.pi) / 2 * mp.exp(y * y)
        y -= step
        if abs(step) < mp.mpf(10) ** -35 * y:
            break
    return mp.sign(x) * y


def _erfc(x):
    return mp.erfc(x) if abs(x) < 100 else mp.mpf(0 if x > 0 else 2)


def _lgamma(x):
    if mp.isinf(x) or (x <= 0 and x == mp.floor(x)):
        return mp.inf
    return (
        mp.re(mp.loggamma(x)) if x > 0 else mp.log(abs(mp.pi / (x * mp.sinpi(x)))) - mp.loggamma(-x)
    )


def _digamma(x):
    if x == 0:
        return mp.ninf
    if x < 0 and (mp.isinf(x) or x == mp.floor(x)):
        return mp.nan
    if mp.isinf(x):
        return x
    return mp.digamma(x) if x > 0 else mp.digamma(1 - x) - mp.pi * mp.cospi(x) / mp.sinpi(x)


REFERENCES = {
    "exp": Reference(np.exp, mp.exp),
    "exp2": Reference(np.exp2, _finite(lambda x: mp.mpf(2) ** x, mp.exp)),
    "expm1": Reference(np.expm1, mp.expm1),
    "log": Reference(np.log, _logarithm(mp.log)),
    "log2": Reference(np.log2, _logarithm(lambda x: mp.log(x) / mp.log(2))),
    "log10": Reference(np.log10, _logarithm(mp.log10)),
    "log1p": Reference(np.log1p, _on(-1, mp.inf, mp.log1p, {-1: mp.ninf, mp.inf: mp.inf})),
    "sigmoid": Reference(sp.expit, _sigmoid),
    "softplus": Reference(
        lambda x: np.logaddexp(0, x), lambda x: mp.log1p(mp.exp(x)) if x < 5000 else x
    ),
    "sin": Reference(np.sin, _not_infinite(mp.sin)),
    "cos": Reference(np.cos, _not_infinite(mp.cos)),
    "tan": Reference(np.tan, _not_infinite(mp.tan)),
    "asin": Reference(np.arcsin, lambda x: mp.asin(x) if abs(x) <= 1 else mp.nan),
    "acos": Reference(np.arccos, lambda x: mp.acos(x) if abs(x) <= 1 else mp.nan),
    "atan": Reference(np.arctan, mp.atan),
    "sinh": Reference(np.sinh, mp.sinh),
    "cosh": Reference(np.cosh, mp.cosh),
    "tanh": Reference(np.tanh, mp.tanh),
    "asinh": Reference(np.arcsinh, _finite(mp.asinh)),
    "acosh": Reference(
        np.arccosh, lambda x: (mp.acosh(x) if mp.isfinite(x) else x) if x >= 1 else mp.nan
    ),
    "atanh": Reference(np.arctanh, _on(-1, 1, mp.atanh, {1: mp.inf, -1: mp.ninf})),
    "erf": Reference(sp.erf, mp.erf),
    "erfc": Reference(sp.erfc, _erfc),
    "erfinv": Reference(
        lambda x: np.copysign(sp.erfinv(x), x), _on(-1, 1, _erfinv, {1: mp.inf, -1: mp.ninf})
    ),
    "cbrt": Reference(np.cbrt, _finite(lambda x: mp.sign(x) * mp.cbrt(abs(x)))),
    "lgamma": Reference(lambda x: np.where(x == -np.inf, np.inf, sp.gammaln(x)), _lgamma),
    "digamma": Reference(sp.digamma, _digamma),
    "pow": Reference(np.power, mp.power),
    "atan2": Reference(np.arctan2, mp.atan2),
    "hypot": Reference(np.hypot, mp.hypot),
}


def exact(name: str, *arrays) -> list:
    """mpmath's values at the points, to 160 bits."""
    function = REFERENCES[name].exact
    with mp.workprec(160):
        values = [
            _exact(function, [mp.mpf(float(v)) for v in row]) for row in zip(*arrays, strict=True)
        ]
    if name == "digamma":  # mpmath has no -0
        negative = (arrays[0] == 0) & np.signbit(arrays[0])
        values = [mp.inf if n else v for n, v in zip(negative, values, strict=True)]
    return values


def _exact(function, args):
    return mp.nan if any(mp.isnan(a) for a in args) else function(*args)


# -- points ---------------------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, np.inf, -np.inf, np.nan]


def points(dtype, rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` points of each kind: any exponent, thresholds of exp, near 0, near 1, and special values."""
    dtype = np.dtype(dtype)
    low = MINIMUM_EXPONENT[dtype]
    info = np.finfo(dtype)
    signs = rng.choice([-1.0, 1.0], count)
    edge = math.log(float(info.max))
    kinds = [
        signs * rng.uniform(1, 2, count) * np.exp2(rng.integers(low, -low, count)),
        signs * rng.uniform(1, 2, count) * np.exp2(rng.integers(-30, 8, count)),
        rng.uniform(-30, 30, count),
        rng.uniform(-edge * 1.2, edge * 1.01, count),
        rng.normal(size=count),
        rng.uniform(-1, 1, count),
        1 + rng.normal(size=count) * np.exp2(rng.integers(-MANTISSA[dtype], -1, count)),
        rng.integers(-1000, 1000, count) * (np.pi / 2),
        rng.uniform(0, 1, count) * float(info.tiny),
        [s * v for s in (1, -1) for v in (float(info.tiny), float(info.max), edge)],
        [s * float(info.smallest_subnormal) for s in (1, -1, 3)],
        np.nextafter(dtype.type(1), dtype.type([0, 2])),
        SPECIAL,
    ]
    with np.errstate(over="ignore"):
        return np.concatenate([np.asarray(k, dtype=dtype) for k in kinds])


def pairs(name: str, dtype, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points for a function of two arguments: every exponent, results in range, and integral powers."""
    dtype = np.dtype(dtype)
    low = MINIMUM_EXPONENT[dtype]
    x = rng.uniform(1, 2, 2 * count) * np.exp2(rng.integers(low, -low, 2 * count))
    x[count:] = 1 + np.abs(rng.normal(size=count)) * np.exp2(rng.integers(-20, 3, count))
    if name == "pow":
        edge = math.log(float(np.finfo(dtype).max))
        y = rng.uniform(-1.15 * edge, edge, 2 * count) / np.log(x)
        x = np.concatenate([x, rng.uniform(-20, 20, count)])
        y = np.concatenate([y, rng.integers(-30, 30, count)])
    else:
        y = x * rng.normal(size=2 * count) * np.exp2(rng.integers(-3, 4, 2 * count))
        x = x * rng.choice([-1, 1], 2 * count)
    with np.errstate(over="ignore"):
        return x.astype(dtype), y.astype(dtype)
