"""Joined arrays are computed where they belong; what cannot be is copied, and right either way."""

from __future__ import annotations

import re

import numpy as np
import pytest

import flatgrad as fg


def copies(function, *arrays) -> tuple[list[str], object]:
    """(the statements that only move elements from scratch memory, the result)."""
    compiled = fg.compile(function, *arrays)
    lines = [line.strip() for line in compiled.source.splitlines()]
    names = dict(re.findall(r"^(t\d+) = (b\d+\[.*\])$", "\n".join(lines), re.M))
    stores = re.findall(r"^([by]\d+\[.*\]) = (.*)$", "\n".join(lines), re.M)
    moved = [v for _, v in stores if re.fullmatch(r"b\d+\[.*\]", names.get(v, v))]
    return moved, compiled(*arrays)


def sums(x):
    """Row sums: stored, whoever reads them."""
    return fg.exp(x).sum(1)


def scanned(x):
    """Rows made in a loop, joined with others."""
    _, rows = fg.scan(lambda c, r: (c + r, fg.cat([c, fg.exp(r)], 0)), fg.zeros_like(x[0]), x)
    return fg.cat([rows, fg.cat([x, x], 1)], 0)


X = np.random.default_rng(0).standard_normal((12, 5))
E = np.exp(X).sum(1)
RUNNING = np.cumsum(X, 0) - X
CASES = {
    "one after the other": (lambda x: fg.cat([sums(x), sums(2 * x)], 0), np.r_[E, np.exp(2 * X).sum(1)], 0),
    "as rows": (lambda x: fg.stack([sums(x), sums(2 * x)], 0), np.stack([E, np.exp(2 * X).sum(1)]), 0),
    "as columns": (
        lambda x: fg.stack([sums(x), sums(2 * x), x[:, 0]], 1),
        np.stack([E, np.exp(2 * X).sum(1), X[:, 0]], 1),
        0,
    ),
    "columns of columns": (
        lambda x: fg.stack([fg.stack([sums(x), x[:, 1]], 1), x[:, 2:4]], 1),
        np.stack([np.stack([E, X[:, 1]], 1), X[:, 2:4]], 1),
        0,
    ),
    "a part that is read again": (
        lambda x: fg.cat([sums(x), fg.cumsum(sums(x), 0)], 0),
        np.r_[E, np.cumsum(E)],
        0,
    ),
    "a part in two places": (lambda x: fg.cat([sums(x), sums(x)], 0), np.r_[E, E], 0),
    "written over": (
        lambda x: fg.slice_scatter(fg.cat([sums(x), sums(x)], 0), sums(2 * x), 0, 6, 18),
        np.r_[E[:6], np.exp(2 * X).sum(1), E[6:]],
        None,
    ),
    "in a loop": (
        scanned,
        np.r_[np.c_[RUNNING, np.exp(X)], np.c_[X, X]],
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_joined_arrays(name):
    function, want, most = CASES[name]
    moved, got = copies(function, X)
    np.testing.assert_allclose(got, want, rtol=1e-13)
    if most is not None:
        assert len(moved) == most, moved


def test_both_the_part_and_the_whole_are_results():
    def both(x):
        part = sums(x)
        return part, fg.cat([part, 2 * part], 0)

    part, whole = fg.compile(both, X)(X)
    np.testing.assert_allclose(part, E, rtol=1e-13)
    np.testing.assert_allclose(whole, np.r_[E, 2 * E], rtol=1e-13)


def test_a_joined_state_of_a_loop_is_not_computed_over_itself():
    def turned(x):
        def step(c, _):
            return fg.cat([c[1:], c[:1] + c[-1:]], 0), None

        return fg.scan(step, x[0], length=4)[0]

    want = X[0]
    for _ in range(4):
        want = np.r_[want[1:], want[0] + want[-1]]
    np.testing.assert_allclose(fg.compile(turned, X)(X), want, rtol=1e-13)


def test_gradients_of_joined_arrays():
    def loss(x):
        return (fg.stack([sums(x), sums(x * x)], 1) ** 2).sum()

    e, q = np.exp(X), np.exp(X * X)
    want = 2 * E[:, None] * e + 2 * q.sum(1)[:, None] * q * 2 * X
    np.testing.assert_allclose(fg.compile(fg.grad(loss), X)(X), want, rtol=1e-12)
