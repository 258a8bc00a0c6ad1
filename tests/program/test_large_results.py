"""Results too large for Numba's allocator: NumPy makes them, and nothing else changes."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ShapeError
from flatgrad.func.tracing import Traced, kind_of
from flatgrad.program.entry import LARGE, Entry, prepared

X = np.random.default_rng(0).standard_normal(LARGE // 8 + 3)


def test_one_result():
    double = fg.compile(lambda x: 2 * x, X)
    first, second = double(X), double(X + 1)
    np.testing.assert_array_equal(first, 2 * X)
    np.testing.assert_array_equal(second, 2 * X + 2)
    assert not np.shares_memory(first, second)


def test_numbers_and_small_arrays_among_them():
    def many(x):
        return x.sum(), -x, {"some": x[:3], "most": x.amax()}

    total, negative, rest = fg.compile(many, X)(X)
    np.testing.assert_allclose(total, X.sum(), rtol=1e-9)
    np.testing.assert_array_equal(negative, -X)
    np.testing.assert_array_equal(rest["some"], X[:3])
    assert rest["most"] == X.max()


def test_value_and_gradient():
    value, gradient = fg.compile(fg.value_and_grad(lambda x: (x * x).sum()), X)(X)
    np.testing.assert_allclose(value, (X * X).sum(), rtol=1e-12)
    np.testing.assert_array_equal(gradient, 2 * X)


def test_wrong_arguments_are_told_as_always():
    double = fg.compile(lambda x: 2 * x, X)
    with pytest.raises(ShapeError, match="x must have the shape"):
        double(X[:-1])
    np.testing.assert_array_equal(double(X[::-1]), 2 * X[::-1])


def test_a_program_with_an_arena_that_was_let_go_is_had_again(monkeypatch):
    """Its module takes no further types, and without files there is nothing to start over from."""
    monkeypatch.setattr(fg.cache, "enabled", False)

    def f(x):
        y = fg.sin(x)
        z = fg.cos(y * y.sum())
        return (z * z.sum() + y).sum()

    x = np.linspace(0, 1, 30000)
    found = []
    for _ in range(2):
        traced = Traced("f", lambda leaves: f(*leaves), [kind_of("f", fg.tensor(x), "x")])
        entry = Entry(*prepared(traced.graph), [False], "f", ["x"])
        assert entry.loops.arena_bytes >= x.nbytes
        found.append(entry.program(x))
        del traced, entry
        gc.collect()
    assert found[0] == found[1]
