"""Index arithmetic: normal forms, and that maps of movement operations cancel."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad.lower import ir
from flatgrad.lower.index import has_division, linear, value_range
from flatgrad.lower.ir import Axis


def axis(extent, name="i"):
    return ir.var(Axis(extent, name))


def evaluate(e, values):
    """The number an index expression has for numbers of its axes."""
    if e.kind == "const":
        return e.arg
    if e.kind == "var":
        return values[e]
    x, y = (evaluate(a, values) for a in e.args)
    ops = {"+": x + y, "*": x * y, "min": min(x, y), "max": max(x, y), "<": x < y, ">=": x >= y}
    if e.arg in ("//", "%"):
        return x // y if e.arg == "//" else x % y
    return ops[e.arg]


def test_split_and_join_cancel():
    i = axis(12)
    assert (i // 4) * 4 + i % 4 is i
    assert ((i // 4) * 4 + i % 4) // 4 is i // 4


def test_reshape_of_a_contiguous_buffer_is_a_running_index():
    i, j = axis(3), axis(4, "j")
    flat = i * 4 + j
    back = (flat // 4) * 4 + flat % 4
    assert back is flat
    assert flat // 4 is i
    assert flat % 4 is j


def test_ranges():
    i, j = axis(3), axis(4, "j")
    assert value_range(i * 4 + j) == (0, 11)
    assert value_range(2 - i) == (0, 2)
    assert value_range((i * 4 + j) % 5) == (0, 4)


def test_comparisons_with_a_known_outcome_are_constants():
    i = axis(3)
    assert (i >= 0).kind == "const" and (i >= 0).arg is True
    assert (i < 3).arg is True
    assert (i < 2).kind == "binary"


def test_linear_form():
    i, j = axis(3), axis(4, "j")
    terms, offset = linear((i + j * 2) * 3 - 5)
    assert terms == {i: 3, j: 6} and offset == -5


@pytest.mark.parametrize("seed", range(20))
def test_random_expressions_keep_their_value(seed):
    rng = np.random.default_rng(seed)
    atoms = [axis(int(rng.integers(1, 7)), n) for n in "ijk"]
    e = ir.index(0)
    plain = []  # the same expression, computed on numbers
    for _ in range(6):
        kind = int(rng.integers(4))
        k = int(rng.integers(1, 6))
        a = int(rng.integers(3))
        plain.append((kind, k, a))
        e = (lambda: e + atoms[a] * k, lambda: e * k, lambda: e // k, lambda: e % k)[kind]()  # noqa: B023
    for _ in range(30):
        at = [int(rng.integers(x.arg.extent)) for x in atoms]
        value = 0
        for kind, k, a in plain:
            value = [value + at[a] * k, value * k, value // k, value % k][kind]
        assert evaluate(e, dict(zip(atoms, at, strict=True))) == value
        low, high = value_range(e)
        assert low <= value <= high


def test_a_remainder_by_a_value_of_the_data_stays():
    i, n = axis(12), ir.var("n")
    e = (i // n) * n + i % n  # i, but n may be 0
    assert evaluate(e, {i: 11, n: 4}) == 11
    assert i % n in linear(e)[0]


def test_division_is_seen():
    i = axis(12)
    assert has_division(i // 5)
    assert not has_division((i * 4) // 2)
