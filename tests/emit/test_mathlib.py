"""The scalar functions: accuracy in ulps, special values, and the shape of their code."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from flatgrad.emit.mathlib import FUNCTIONS, expand, shortcut
from flatgrad.graph import dtypes
from flatgrad.lower import ir
from support.deadline import time_is_up
from support.evaluate_expr import evaluate, in_order
from support.ulps import REFERENCES, SPECIAL, errors_32, errors_64, exact, pairs, points

ONE = sorted(name for name, d in FUNCTIONS.items() if d.arity == 1)
TWO = sorted(name for name, d in FUNCTIONS.items() if d.arity == 2)
FLOATS = (dtypes.float32, dtypes.float64)


def expression(name, dtype):
    names = "xy"[: FUNCTIONS[name].arity]
    return expand(name, [ir.var(n, dtype) for n in names])


def run(name, dtype, *arrays):
    return evaluate(expression(name, dtype), **dict(zip("xy", arrays, strict=False)))


def errors(name, dtype, *arrays):
    """Errors in ulps of the function at the points."""
    floor = FUNCTIONS[name].absolute_below
    got = run(name, dtype, *arrays)
    if dtype is dtypes.float32:
        with np.errstate(all="ignore"):
            wanted = REFERENCES[name].double(*(a.astype(np.float64) for a in arrays))
        return errors_32(got, wanted, floor)
    return errors_64(got, exact(name, *arrays), floor)


def test_every_function_has_a_reference_and_a_description():
    assert set(FUNCTIONS) == set(REFERENCES)
    assert all(len(d.doc) > 10 for d in FUNCTIONS.values())


@pytest.mark.parametrize("name", ONE)
def test_float32_is_within_the_stated_error(name, rng):
    x = points(np.float32, rng, 20000)
    found = errors(name, dtypes.float32, x)
    worst = int(np.argmax(found))
    assert found[worst] <= FUNCTIONS[name].ulp[0], (
        x[worst],
        run(name, dtypes.float32, x[worst : worst + 1]),
    )


@pytest.mark.parametrize("name", ONE)
def test_float64_is_within_the_stated_error(name, rng):
    x = points(np.float64, rng, 150)
    found = errors(name, dtypes.float64, x)
    worst = int(np.argmax(found))
    assert found[worst] <= FUNCTIONS[name].ulp[1], (
        x[worst],
        run(name, dtypes.float64, x[worst : worst + 1]),
    )


SHORT = sorted(name for name, d in FUNCTIONS.items() if d.short is not None)


@pytest.mark.parametrize("name", SHORT)
def test_the_shorter_way_is_within_the_stated_error(name, rng):
    quarters = rng.integers(0, 667543, 120).astype(np.float64)  # of turns, up to 2**20 radians
    x = quarters * (np.pi / 2)
    x = np.concatenate(
        [x, np.nextafter(x, np.inf), np.nextafter(x, 0.0), points(np.float64, rng, 50)]
    )
    # The doubles nearest to multiples of pi/2, of this size and of smaller ones.
    x = np.concatenate([x, [71930.34444229322, 0.0, 355.0, 710.0 / 4, 2.0**20 - 2**-33, 1e-310]])
    condition, value = shortcut(name, [ir.var("x", dtypes.float64)])
    x = np.concatenate([x, -x])
    x = x[evaluate(condition, x=x)]
    assert x.size > 600 and abs(x).max() > 2.0**20 - 1
    found = errors_64(evaluate(value, x=x), exact(name, x), FUNCTIONS[name].absolute_below)
    assert found.max() <= FUNCTIONS[name].ulp[1], x[found.argmax()]
    assert not evaluate(condition, x=np.array([2.0**20, np.inf, -np.inf, np.nan])).any()
    zero = evaluate(value, x=np.array([0.0, -0.0]))
    assert np.array_equal(np.signbit(zero), [False, name == "sin"])


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_are_those_of_the_reference(name, dtype):
    x = np.array(SPECIAL, dtype=dtype.np)
    got = run(name, dtype, x)
    with np.errstate(all="ignore"):
        wanted = REFERENCES[name].double(x.astype(np.float64)).astype(dtype.np)
    edge = ~np.isfinite(wanted) | (wanted == 0) | ~np.isfinite(x)
    if FUNCTIONS[name].absolute_below:
        edge &= wanted != 0
    assert edge.any()
    nan = np.isnan(wanted)
    assert np.array_equal(np.isnan(got), nan)
    close = np.isclose(got[edge & ~nan], wanted[edge & ~nan], rtol=1e-6, atol=0)
    assert close.all(), (x[edge & ~nan][~close], got[edge & ~nan][~close])
    assert np.array_equal(np.signbit(got[edge & ~nan]), np.signbit(wanted[edge & ~nan]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_sin_and_cos_are_right_next_to_multiples_of_a_quarter_turn(dtype):
    """The arguments nearest to k pi/2 of every size: all leading digits cancel in the reduction."""
    x = _near_quarter_turns(dtype)
    for name in ("sin", "cos", "tan"):
        with mp.workprec(1400):
            wanted = [getattr(mp, name)(mp.mpf(float(v))) for v in x]
        got = run(name, dtype, x)
        if dtype is dtypes.float32:
            found = errors_32(got, np.array([float(w) for w in wanted]))
        else:
            found = errors_64(got, wanted)
        assert found.max() <= FUNCTIONS[name].ulp[dtype is dtypes.float64]


def _near_quarter_turns(dtype):
    """Floats close to k pi/2 by continued fractions of 2^e / (pi/2), for every exponent e."""
    bits, high = (24, 104) if dtype is dtypes.float32 else (53, 970)
    found = []
    with mp.workprec(3 * high + 300):
        for e in range(-bits + 1, high, 1 if high < 200 else 7):
            ratio = mp.mpf(2) ** e * 2 / mp.pi
            numerators = (0, 1)
            denominators = (1, 0)
            part = ratio
            while denominators[1] < 2**bits:
                if denominators[1] >= 2 ** (bits - 1):
                    found.append(float(mp.mpf(denominators[1]) * mp.mpf(2) ** e))
                whole = int(mp.floor(part))
                numerators = (numerators[1], whole * numerators[1] + numerators[0])
                denominators = (denominators[1], whole * denominators[1] + denominators[0])
                part = 1 / (part - whole)
    assert len(found) > 50
    return np.array(found, dtype=dtype.np)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("dtype", FLOATS)
def test_two_arguments_are_within_the_stated_error(name, dtype, rng):
    x, y = pairs(name, dtype.np, rng, 3000 if dtype is dtypes.float32 else 120)
    found = errors(name, dtype, x, y)
    worst = int(np.argmax(found))
    assert found[worst] <= FUNCTIONS[name].ulp[dtype is dtypes.float64], (x[worst], y[worst])


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("dtype", FLOATS)
def test_two_arguments_special_values_are_those_of_numpy(name, dtype):
    """C99's Annex F, all pairs of special values."""
    info = np.finfo(dtype.np)
    values = [*SPECIAL, 3, -3, 2.5, -2.5, 1 / info.eps + 1, -1 / info.eps - 1, 0.9, 1.1]
    values += [s * v for s in (1, -1) for v in (info.max, info.tiny, info.smallest_subnormal)]
    x, y = (v.ravel().astype(dtype.np) for v in np.meshgrid(values, values))
    got = run(name, dtype, x, y)
    with np.errstate(all="ignore"):
        wanted = (
            REFERENCES[name].double(x.astype(np.float64), y.astype(np.float64)).astype(dtype.np)
        )
    nan = np.isnan(wanted)
    assert 0 < nan.sum() < nan.size
    assert np.array_equal(np.isnan(got), nan)
    close = np.isclose(got, wanted, rtol=4 * info.eps, atol=0) | nan
    assert close.all(), list(zip(x[~close], y[~close], got[~close], wanted[~close], strict=True))[
        :5
    ]
    assert np.array_equal(np.signbit(got[~nan]), np.signbit(wanted[~nan]))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_code_can_be_vectorised_without_fast_math(name, dtype):
    """No calls, loads or fused operations; equal expressions are one object."""
    e = expression(name, dtype)
    kinds = {s.kind for s in in_order(e)}
    assert kinds <= {"const", "var", "unary", "binary", "select", "cast", "bits"}
    assert expression(name, dtype) is e


NARROW = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sigmoid", "softplus", "tanh"]
NARROW += [
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "acos",
    "atan",
    "atan2",
    "erf",
]


@pytest.mark.parametrize("name", NARROW)
def test_float32_code_stays_in_32_bits(name):
    assert all(s.dtype.itemsize <= 4 for s in in_order(expression(name, dtypes.float32)))


@pytest.mark.parametrize(
    ("name", "single", "double"),
    [("exp", 36, 48), ("log", 48, 48), ("tanh", 48, 58), ("sigmoid", 48, 58), ("pow", 95, 200)],
)
def test_the_number_of_operations_is_bounded(name, single, double):
    for dtype, limit in ((dtypes.float32, single), (dtypes.float64, double)):
        work = [
            s for s in in_order(expression(name, dtype)) if s.kind not in ("const", "var", "bits")
        ]
        assert len(work) <= limit


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_every_float32(name):
    """All 2**32 floats, in chunks."""
    e = expression(name, dtypes.float32)
    step = 1 << 22
    worst, seen = 0.0, 0
    chunks = np.arange(0, 1 << 32, step)
    # In an order that reaches every exponent early, should time run out.
    for start in np.random.default_rng(0).permutation(chunks):
        if time_is_up():
            break
        seen += step
        start = int(start)
        x = np.arange(start, start + step, dtype=np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            wanted = REFERENCES[name].double(x.astype(np.float64))
        worst = max(
            worst, errors_32(evaluate(e, x=x), wanted, FUNCTIONS[name].absolute_below).max()
        )
    assert worst <= FUNCTIONS[name].ulp[0]
    if seen < 1 << 32:
        pytest.skip(f"time is up (FLATGRAD_SLOW_SECONDS): {seen} floats are right")
