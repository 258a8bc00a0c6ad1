"""Indices that are known to be inside are not checked; all others are."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg

X = np.random.default_rng(0).standard_normal((6, 4))
TABLE = np.array([[0, 3], [5, 2], [1, 1]])


def checks(compiled) -> int:
    return compiled.source.count("bad0 = bad0 or")


def test_a_table_that_the_program_holds_is_not_checked():
    compiled = fg.compile(lambda x: x[fg.from_numpy(TABLE)] * 2, X)
    assert not checks(compiled)
    np.testing.assert_array_equal(compiled(X), 2 * X[TABLE])


def test_writing_at_known_places():
    def gradient(x):
        return fg.grad(lambda x: (x[fg.from_numpy(TABLE)] ** 2).sum())(x)

    compiled = fg.compile(gradient, X)
    want = np.zeros_like(X)
    np.add.at(want, TABLE, 2 * X[TABLE])
    assert not checks(compiled)
    np.testing.assert_allclose(compiled(X), want, rtol=1e-14)


def test_negative_places_of_a_table_are_wrapped():
    compiled = fg.compile(lambda x: x[fg.from_numpy(TABLE - 6)], X)
    np.testing.assert_array_equal(compiled(X), X[TABLE - 6])


@pytest.mark.parametrize("wrong", [6, -7])
def test_a_table_with_places_outside_raises(wrong):
    table = fg.from_numpy(np.array([0, wrong]))
    with pytest.raises(IndexError, match="out of"):
        fg.compile(lambda x: x[table], X)


def test_arguments_are_checked():
    compiled = fg.compile(lambda x, i: x[i], X, TABLE)
    assert checks(compiled)
    np.testing.assert_array_equal(compiled(X, TABLE), X[TABLE])
    with pytest.raises(IndexError):
        compiled(X, TABLE + 1)


@pytest.mark.parametrize("column", range(5))
def test_a_part_of_what_was_padded_may_be_all_outside(column):
    def f(x):
        return fg.nn.functional.pad(x, (2, 1), value=7.0)[:, column] * 2

    x = X[:, :2]
    want = np.pad(x, ((0, 0), (2, 1)), constant_values=7.0)[:, column] * 2
    np.testing.assert_array_equal(fg.compile(f, x)(x), want)
