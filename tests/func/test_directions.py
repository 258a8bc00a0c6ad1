"""Jacobians of few directions: recorded one by one, so that what is zero by construction is not computed."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.func.frame import DIRECTIONS


def mixed(u):
    """Three outputs, of which each depends on some of the four inputs; one is an input."""
    return fg.stack([u[0] * u[1].sin(), u[3], (u[1:3] ** 3).sum()])


def by_hand(u):
    return np.array(
        [
            [np.sin(u[1]), u[0] * np.cos(u[1]), 0, 0],
            [0, 0, 0, 1],
            [0, 3 * u[1] ** 2, 3 * u[2] ** 2, 0],
        ]
    )


@pytest.mark.parametrize("jacobian", [fg.func.jacrev, fg.func.jacfwd])
@pytest.mark.parametrize("size", [None, 2])
def test_structure_and_values(jacobian, size):
    u = np.random.default_rng(0).uniform(0.5, 1.5, 4)
    found = jacobian(mixed, chunk_size=size)(fg.tensor(u)).numpy()
    np.testing.assert_allclose(found, by_hand(u), rtol=1e-14)


@pytest.mark.parametrize("jacobian", [fg.func.jacrev, fg.func.jacfwd])
def test_what_is_zero_is_zero_even_beside_infinity(jacobian):
    u = np.array([np.inf, 1.0, 1.0, 1.0])
    found = jacobian(mixed)(fg.tensor(u)).numpy()
    np.testing.assert_array_equal(found[1:], by_hand(u)[1:])


@pytest.mark.parametrize("jacobian", [fg.func.jacrev, fg.func.jacfwd])
def test_no_product_with_zeros_is_computed(jacobian):
    def chain(u):
        return fg.stack([u[k] * u[k] for k in range(4)])

    source = fg.compile(jacobian(chain), np.ones(4)).source
    products = [line for line in source.splitlines() if " * x0[" in line or "* v" in line]
    assert len(products) <= 4, source


@pytest.mark.parametrize("outer", [fg.func.jacrev, fg.func.jacfwd])
@pytest.mark.parametrize("inner", [fg.func.jacrev, fg.func.jacfwd])
def test_second_derivatives(outer, inner):
    def product(u):
        return u[0] * u[1] * u[2]

    u = np.array([2.0, 3.0, 5.0])
    want = [[0, 5, 3], [5, 0, 2], [3, 2, 0]]
    np.testing.assert_allclose(outer(inner(product))(fg.tensor(u)).numpy(), want, rtol=1e-14)


def test_outputs_that_need_nothing_and_shapes():
    def two(u, v):
        return {"a": u.reshape(2, 2) * v, "b": v.exp()}

    u, v = fg.tensor([1.0, 2.0, 3.0, 4.0]), fg.tensor(2.0)
    for jacobian in (fg.func.jacrev, fg.func.jacfwd):
        found = jacobian(two, argnums=(0, 1))(u, v)
        assert found["a"][0].shape == (2, 2, 4) and found["b"][0].shape == (4,)
        np.testing.assert_array_equal(found["a"][0].numpy(), 2 * np.eye(4).reshape(2, 2, 4))
        np.testing.assert_array_equal(found["b"][0].numpy(), np.zeros(4))
        np.testing.assert_array_equal(found["a"][1].numpy(), [[1, 2], [3, 4]])


def test_items_and_gradients_of_jacobians():
    u = np.random.default_rng(1).uniform(0.5, 1.5, (5, 4))
    for jacobian in (fg.func.jacrev, fg.func.jacfwd):
        found = fg.vmap(jacobian(mixed))(fg.tensor(u)).numpy()
        np.testing.assert_allclose(found, [by_hand(row) for row in u], rtol=1e-14)
        t = fg.tensor(u[0], requires_grad=True)
        jacobian(mixed)(t).sum().backward()
        a, b, c, _ = u[0]
        want = [np.cos(b), np.cos(b) - a * np.sin(b) + 6 * b, 6 * c, 0]
        np.testing.assert_allclose(t.grad.numpy(), want, rtol=1e-13)


def test_many_directions_are_a_batch():
    u = np.random.default_rng(2).uniform(0.5, 1.5, DIRECTIONS + 1)
    found = fg.func.jacrev(lambda u: u * u)(fg.tensor(u)).numpy()
    np.testing.assert_array_equal(found, np.diag(2 * u))
