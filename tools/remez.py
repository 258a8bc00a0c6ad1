"""Compute the polynomial coefficients of flatgrad's scalar functions and print them as a Python module.

    python tools/remez.py > src/flatgrad/emit/mathlib/coefficients.py

Each entry is a weighted minimax polynomial, found by the Remez exchange on a dense Chebyshev grid in
60-digit arithmetic: the largest ``|weight(x) * (p(x) - f(x))|`` over the interval is least. The achieved
error is printed next to each tuple as a power of two. Needs mpmath only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp

mp.mp.dps = 60
GRID = 600


@dataclass(frozen=True)
class Fit:
    """One polynomial: ``sum(c[i] * x**i)`` near `function` on [low, high], relative to 1/weight."""

    name: str
    function: Callable
    weight: Callable
    low: object
    high: object
    degree: dict  # dtype name -> degree


def remez(function, weight, low, high, degree):
    """Coefficients, lowest power first, and the largest weighted error on the grid."""
    low, high = mp.mpf(low), mp.mpf(high)
    points = [
        (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * GRID))
        for i in range(GRID)
    ]
    values = [function(x) for x in points]
    weights = [weight(x) for x in points]
    count = degree + 2
    chosen = [round(i * (GRID - 1) / (count - 1)) for i in range(count)]
    for _ in range(40):
        matrix = mp.matrix(count, count)
        right = mp.matrix(count, 1)
        for row, at in enumerate(chosen):
            for power in range(degree + 1):
                matrix[row, power] = points[at] ** power
            matrix[row, degree + 1] = (-1) ** row / weights[at]
            right[row] = values[at]
        solution = mp.lu_solve(matrix, right)
        coefficients = [solution[i] for i in range(degree + 1)]
        errors = [
            w * (mp.polyval(coefficients[::-1], x) - v)
            for x, v, w in zip(points, values, weights, strict=True)
        ]
        extrema = _alternation(errors, count)
        largest = max(abs(e) for e in errors)
        if len(extrema) < count or largest <= abs(solution[degree + 1]) * mp.mpf("1.0005"):
            break
        chosen = extrema
    return coefficients, largest


def _alternation(errors, count):
    """Indices of the largest error in each run of one sign, `count` neighbouring ones of them."""
    runs = []
    for i, e in enumerate(errors):
        if runs and (errors[runs[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    while len(runs) > count:
        runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
    return runs


def _series_safe(function, limit):
    """`function` with its removable singularity at 0 replaced by the value `limit`."""
    return lambda x: limit if abs(x) < mp.mpf(10) ** -25 else function(x)


SQRT_HALF = mp.sqrt(mp.mpf(1) / 2)
S_MAX = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)


def fits():
    third = mp.mpf(1) / 3
    yield Fit(
        "exp",  # exp(r) = 1 + r + r^2 q(r)
        _series_safe(lambda r: (mp.expm1(r) - r) / r**2, mp.mpf("0.5")),
        lambda r: r * r + mp.mpf("1e-3"),
        "-0.3475",
        "0.3475",
        {"float32": 4, "float64": 9},
    )
    yield Fit(
        "expm1",  # exp(r) - 1 = r + r^2 q(r)
        _series_safe(lambda r: (mp.expm1(r) - r) / r**2, mp.mpf("0.5")),
        lambda r: abs(r) + mp.mpf("0.02"),
        "-0.3475",
        "0.3475",
        {"float32": 5, "float64": 10},
    )
    yield Fit(
        "log_f",  # log(1 + f) = f - f^2/2 + f^3 p(f)
        _series_safe(lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, third),
        lambda f: f * f + mp.mpf("1e-3"),
        SQRT_HALF - 1,
        mp.sqrt(2) - 1,
        {"float32": 8},
    )
    yield Fit(
        "log_s",  # 2 atanh(s) = 2 s + s z q(z), z = s^2
        _series_safe(lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z, 2 * third),
        lambda z: z + mp.mpf("1e-4"),
        0,
        S_MAX**2,
        {"float32": 3, "float64": 6},
    )
    yield Fit(
        "sin",  # sin(r) = r + r z s(z), z = r^2, |r| <= pi/2
        _series_safe(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -third / 2),
        lambda z: z + mp.mpf("1e-2"),
        0,
        (mp.pi / 2) ** 2 * mp.mpf("1.0001"),
        {"float32": 3, "float64": 7},
    )
    two = 2 / mp.sqrt(mp.pi)
    for part, function, weight, low, high in (
        # erf(x) = x + x p(x^2) near zero
        (
            "erf_near",
            _series_safe(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, two - 1),
            lambda z: 1,
            (0, 0),
            (mp.mpf("0.81"), mp.mpf("1.5625")),
        ),
        # and 1 - exp(-q(x)) to where it rounds to 1
        (
            "erf_far",
            lambda x: -mp.log(mp.erfc(x)),
            mp.erfc,
            (mp.mpf("0.9"), mp.mpf("1.25")),
            (mp.mpf("3.95"), mp.mpf("5.95")),
        ),
    ):
        for i, degrees in enumerate(({"float32": 6}, {"float64": 14})):
            yield Fit(part, function, weight, low[i], high[i], degrees)
    yield Fit(
        "log_tail",  # atanh(s)/s = 1 + z (1/3 + z p(z))
        _series_safe(
            lambda z: ((mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z - third) / z, mp.mpf(1) / 5
        ),
        lambda z: z * z + mp.mpf("1e-5"),
        0,
        S_MAX**2,
        {"float64": 6},
    )
    yield Fit(
        "exp2",  # 2^r = 1 + r q(r)
        _series_safe(lambda r: (mp.mpf(2) ** r - 1) / r, mp.log(2)),
        lambda r: abs(r) + mp.mpf("0.02"),
        "-0.5005",
        "0.5005",
        {"float32": 5, "float64": 10},
    )
    yield Fit(
        "exp_wide",  # exp(r) = 1 + r + r^2 q(r) with room to spare
        _series_safe(lambda r: (mp.expm1(r) - r) / r**2, mp.mpf("0.5")),
        lambda r: r * r + mp.mpf("1e-3"),
        "-0.37",
        "0.36",
        {"float32": 5, "float64": 9},
    )
    yield Fit(
        "sinh",  # sinh(x) = x + x z p(z)
        _series_safe(lambda z: (mp.sinh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, third / 2),
        lambda z: z + mp.mpf("1e-2"),
        0,
        1,
        {"float32": 3, "float64": 7},
    )
    yield Fit(
        "cos",  # cos(r) = 1 - z/2 + z^2 p(z), |r| <= 1
        _series_safe(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(1) / 24),
        lambda z: z * z + mp.mpf("1e-2"),
        0,
        1,
        {"float32": 2, "float64": 6},
    )
    yield Fit(
        "asin",  # asin(s) = s + s z p(z), s <= 1/2
        _series_safe(lambda z: (mp.asin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, third / 2),
        lambda z: z + mp.mpf("1e-2"),
        0,
        "0.25",
        {"float32": 5, "float64": 11},
    )
    yield Fit(
        "atan",  # atan(t) = t + t z p(z), |t| <= 1/2
        _series_safe(lambda z: (mp.atan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -third),
        lambda z: z + mp.mpf("1e-2"),
        0,
        "0.2501",
        {"float32": 5, "float64": 12},
    )
    yield Fit(
        "cbrt",  # (1 + f)^(1/3)
        lambda f: mp.cbrt(1 + f),
        lambda f: 1,
        SQRT_HALF - 1,
        mp.sqrt(2) - 1,
        {"float32": 4, "float64": 5},
    )
    for dtype, degree, high in (("float32", 10, "10.5"), ("float64", 23, "27.5")):
        high = mp.mpf(high)
        yield Fit(
            "erfcx",  # (1 + 2x) exp(x^2) erfc(x), t = (x - 4) / (x + 4)
            lambda t: (
                (1 + 8 * (1 + t) / (1 - t))
                * mp.exp((4 * (1 + t) / (1 - t)) ** 2)
                * mp.erfc(4 * (1 + t) / (1 - t))
            ),
            lambda t: 1,
            -1,
            (high - 4) / (high + 4),
            {dtype: degree},
        )
    yield Fit(
        "erfinv_near",  # erfinv(x) / x by w - 3, w = -log(1 - x^2) <= 6
        lambda v: _erfinv_ratio(v + 3),
        lambda v: 1 / _erfinv_ratio(v + 3),
        -3,
        "3.0001",
        {"float32": 11, "float64": 11},
    )
    for dtype, degree, high in (("float32", 9, "16.7"), ("float64", 11, "36.1")):
        yield Fit(
            "erfinv_far",  # and by sqrt(w) - 4
            lambda v: _erfinv_ratio((v + 4) ** 2),
            lambda v: 1 / _erfinv_ratio((v + 4) ** 2),
            mp.sqrt(6) - 4,
            mp.sqrt(mp.mpf(high)) - 4,
            {dtype: degree},
        )
    yield Fit(
        "lgamma",  # log gamma(2 + v) = v p(v)
        _series_safe(lambda v: mp.loggamma(2 + v) / v, 1 - mp.euler),
        lambda v: abs(v) + mp.mpf("0.05"),
        "-0.5",
        "0.5",
        {"float32": 8, "float64": 17},
    )
    yield Fit(
        "stirling",  # log gamma(x) = (x - 1/2) log x - x + log(2 pi)/2 + p(1/x^2) / x
        lambda z: mp.mpf(1) / 12 if z < mp.mpf(10) ** -9 else _stirling(1 / mp.sqrt(z)),
        lambda z: mp.sqrt(z) + mp.mpf("1e-3"),
        0,
        mp.mpf(1) / 64,
        {"float32": 1, "float64": 6},
    )
    yield Fit(
        "digamma",  # digamma(x) = log x - 1/(2x) - p(1/x^2) / x^2
        lambda z: (
            mp.mpf(1) / 12
            if z < mp.mpf(10) ** -9
            else (mp.log(1 / z) / 2 - mp.sqrt(z) / 2 - mp.digamma(1 / mp.sqrt(z))) / z
        ),
        lambda z: z + mp.mpf("1e-4"),
        0,
        mp.mpf(1) / 64,
        {"float32": 2, "float64": 7},
    )


def _stirling(x):
    return (mp.loggamma(x) - (x - mp.mpf("0.5")) * mp.log(x) + x - mp.log(2 * mp.pi) / 2) * x


def _erfinv_ratio(w):
    """erfinv(x) / x for x = sqrt(1 - exp(-w))."""
    x = mp.sqrt(-mp.expm1(-w))
    if x == 0:
        return mp.sqrt(mp.pi) / 2
    return _erfinv(x, mp.exp(-w)) / x


def _erfinv(x, square_gap):
    """Newton's method on erfc, which keeps the digits near 1 (mpmath's erfinv loses them)."""
    gap = square_gap / (1 + x)  # 1 - x
    guess = (
        mp.sqrt(-mp.log(gap * (2 - gap))) * mp.mpf("0.9")
        if x > mp.mpf("0.5")
        else x * mp.mpf("0.89")
    )
    for _ in range(60):
        step = (gap - mp.erfc(guess)) / (2 / mp.sqrt(mp.pi) * mp.exp(-guess * guess))
        guess -= step
        if abs(step) < mp.mpf(10) ** -50 * abs(guess):
            break
    return guess


def main():
    wanted = set(sys.argv[1:])
    print(
        '"""Minimax coefficients, lowest power first. Made by ``python tools/remez.py``; do not edit."""'
    )
    print()
    print("COEFFICIENTS = {")
    for fit in fits():
        if wanted and fit.name not in wanted:
            continue
        for dtype, degree in fit.degree.items():
            coefficients, error = remez(fit.function, fit.weight, fit.low, fit.high, degree)
            bits = mp.nstr(mp.log(error, 2), 4)
            print(f'    ("{fit.name}", "{dtype}"): (  # weighted error 2**{bits}')
            for c in coefficients:
                print(f"        {float(c)!r},")
            print("    ),")
    print("}")


if __name__ == "__main__":
    main()
