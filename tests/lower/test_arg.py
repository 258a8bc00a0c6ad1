"""Places of extrema, compiled: ties, NaN and infinities as NumPy has them, whatever loops find them."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg

RNG = np.random.default_rng(4)


def arrays():
    yield "ties", RNG.integers(-3, 3, (5, 40)).astype(np.float64)
    yield "nan", np.where(RNG.random((6, 33)) < 0.1, np.nan, RNG.standard_normal((6, 33)))
    yield "infinite", RNG.choice([np.inf, -np.inf, 0.0, -0.0], (7, 17))
    yield "all nan", np.full((2, 9), np.nan)
    yield "all infinite", np.full((2, 9), np.inf)
    yield "float32", RNG.standard_normal((3, 100)).astype(np.float32)
    yield "integers", RNG.integers(-1000, 1000, (4, 25))
    yield "lowest integers", np.full((2, 8), np.iinfo(np.int64).min)
    yield "short", RNG.integers(0, 3, (9, 3)).astype(np.float64)


@pytest.mark.parametrize(
    ("name", "x"), list(arrays()), ids=lambda v: v if isinstance(v, str) else ""
)
@pytest.mark.parametrize("op", ["argmin", "argmax"])
def test_places_are_numpys(op, name, x):
    def f(x):
        found = getattr(fg, op)
        return found(x, 1), found(x, 0), found(x)

    rows, columns, whole = fg.compile(f, x)(x)
    np.testing.assert_array_equal(rows, getattr(np, op)(x, 1))
    np.testing.assert_array_equal(columns, getattr(np, op)(x, 0))
    assert whole == getattr(np, op)(x)


def test_of_expressions():
    x = RNG.standard_normal((4, 12, 3))

    def f(x):
        return (x * x - 2 * x).argmin(1), fg.sin(3 * x).argmax(1), (x.flip(1) + 1).argmin(1)

    got = fg.compile(f, x)(x)
    want = (x * x - 2 * x).argmin(1), np.sin(3 * x).argmax(1), (x[:, ::-1] + 1).argmin(1)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_of_what_is_read_at_indices():
    """The check of an index belongs to the loop that reads with it."""
    x, at = RNG.standard_normal((5, 12)), np.array([4, 0, 1, 3])
    found = fg.compile(lambda x, at: fg.index_select(x, 0, at).argmax(1), x, at)
    np.testing.assert_array_equal(found(x, at), x[at].argmax(1))
    with pytest.raises(IndexError, match="out of range"):
        found(x, np.array([0, 5, 1, 2]))
