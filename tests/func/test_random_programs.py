"""Transforms on random programs: they agree with backward(), with one another, and when nested."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import func as ours
from support.random_graphs import Maker

SEEDS = range(12)


def program(seed: int):
    """(function of several tensors, its arguments); the same for the same seed."""
    leaves = Maker(seed).leaves()

    def function(*tensors):
        maker = Maker(seed)
        maker.leaves()
        return maker.program(tensors)

    return function, leaves


def scalar(seed: int):
    function, leaves = program(seed)

    def total(*tensors):
        parts = [(y * y * 0.1).sum() for y in function(*tensors)]
        return sum(parts[1:], parts[0])

    return total, leaves


def flat(tree) -> np.ndarray:
    parts = [t.detach().numpy().ravel() for t in ours.tree.flatten(tree)[0]]
    return np.concatenate(parts) if parts else np.zeros(0)


def close(a, b) -> None:
    a, b = flat(a), flat(b)
    scale = max(1.0, np.abs(b).max(initial=0.0))
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("seed", SEEDS)
def test_grad_is_backwards(seed):
    function, leaves = scalar(seed)
    xs = [fg.tensor(a, requires_grad=True) for a in leaves]
    expected = fg.autograd.grad(function(*xs), xs, allow_unused=True, materialize_grads=True)
    close(fg.grad(function, (0, 1, 2))(*leaves), list(expected))


@pytest.mark.parametrize("seed", SEEDS)
def test_forward_is_the_transpose_of_reverse(seed):
    function, leaves = program(seed)
    rng = np.random.default_rng(seed)
    v = tuple(rng.normal(size=a.shape) for a in leaves)
    outputs, pushed = fg.jvp(function, tuple(leaves), v)
    u = [fg.tensor(rng.normal(size=tuple(t.shape))) for t in outputs]
    _, pull = fg.vjp(function, *leaves)
    left, right = flat(u) @ flat(pushed), flat(pull(u)) @ np.concatenate([a.ravel() for a in v])
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)
    _, push = ours.linearize(function, *leaves)
    close(push(*v), pushed)


@pytest.mark.parametrize("seed", SEEDS[:6])
def test_second_derivatives_by_every_way(seed):
    function, leaves = scalar(seed)
    rng = np.random.default_rng(seed)
    v = tuple(fg.tensor(rng.normal(size=a.shape)) for a in leaves)
    every = (0, 1, 2)
    gradient = fg.grad(function, every)
    g, forward_over_reverse = fg.hvp(function, tuple(leaves), v)
    close(g, gradient(*leaves))

    def slope(*xs):
        return fg.jvp(function, xs, v)[1]

    close(fg.grad(slope, every)(*leaves), forward_over_reverse)
    close(fg.vjp(gradient, *leaves)[1](v), forward_over_reverse)


@pytest.mark.parametrize("seed", SEEDS)
def test_sparse_is_dense(seed):
    pytest.importorskip("scipy.sparse")
    function, leaves = program(seed)
    every = (0, 1, 2)
    derivative = ours.jacobian(function, every, sparse=True)
    matrix = derivative(*leaves)
    table = fg.jacfwd(function, every)(*leaves)
    blocks = [
        [b.detach().numpy().reshape(-1, a.size) for b, a in zip(row, leaves, strict=True)]
        for row in table
    ]
    dense = np.block(blocks)
    scale = max(1.0, np.abs(dense).max(initial=0.0))
    np.testing.assert_allclose(matrix.toarray(), dense, rtol=1e-9, atol=1e-9 * scale)
    assert derivative.passes(*leaves) <= min(matrix.shape)
