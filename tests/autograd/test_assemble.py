"""Cotangents of an array's parts: those side by side are joined, and only what meets is added."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.graph.node import toposort
from flatgrad.transform.assemble import total
from flatgrad.transform.pullback import pullback


def gradient_graph(function, x):
    """(the gradient, the names of the operations that it is made of)."""
    t = fg.tensor(x, requires_grad=True)
    out = function(t)
    (g,) = pullback([out._node], [t._node], [fg.ones_like(out)])
    return g.detach().numpy(), [n.op.name for n in toposort([g._node], stop=lambda n: n is t._node)]


def differences(function, x, step=1e-6):
    found = np.empty_like(x)
    for at in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * step
            ends.append(function(fg.tensor(moved)).item())
        found[at] = (ends[0] - ends[1]) / (2 * step)
    return found


def corners(x):
    """Four blocks around a fifth: no straight cut separates them."""
    parts = (x[0, :2], x[:2, 2], x[2, 1:], x[1:, 0], x[1, 1])
    return sum(((k + 2.0) * p * p).sum() for k, p in enumerate(parts))


# Functions, and whether some of their cotangents are added to zeros.
FUNCTIONS = {
    "elements": (lambda x: x[0, 0] * x[0, 1] * x[2, 2].sin(), False),
    "rows": (lambda x: (x[0] * x[1] * x[2]).sum(), False),
    "columns, one twice": (lambda x: (x[:, 0] * x[:, 2] + x[:, 0].exp()).sum(), False),
    "blocks with gaps": (lambda x: (x[:2, 1:] ** 3).sum() + x[2, 0] * 2, False),
    "with the whole": (lambda x: x[0, 0] * x[1, 1] * (x * x).sum(), False),
    "overlapping": (lambda x: (x[:2] ** 2).sum() + (x[1:] ** 3).sum(), False),
    "around a corner": (corners, True),
    "shifted": (lambda x: (x[:-1, 1:] * x[1:, :-1]).sum() + x[:, :1].exp().sum(), False),
    "every other": (lambda x: (x[::2] ** 2).sum() * x[1, 1], True),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_joined_cotangents_are_the_derivative(name):
    function, added = FUNCTIONS[name]
    x = np.random.default_rng(2).uniform(0.5, 1.5, (3, 3))
    found, names = gradient_graph(function, x)
    np.testing.assert_allclose(found, differences(function, x), rtol=1e-7, atol=1e-8)
    assert ("view_scatter" in names) == added


def test_many_elements_are_joined_once():
    x = np.linspace(1, 2, 50)
    found, names = gradient_graph(lambda x: sum(x[k] ** 3 for k in range(50)), x)
    np.testing.assert_allclose(found, 3 * x**2, rtol=1e-14)
    assert names.count("cat") == 1 and "view_scatter" not in names


def test_second_derivatives_pass_through():
    def product(x):
        return x[0] * x[1] * x[2]

    x = np.array([2.0, 3.0, 5.0])
    want = [[0, 5, 3], [5, 0, 2], [3, 2, 0]]
    for jacobian in (fg.func.jacrev, fg.func.jacfwd):
        np.testing.assert_array_equal(jacobian(fg.func.grad(product))(fg.tensor(x)).numpy(), want)


def test_zero_stays_zero():
    assert total(None) is None
    assert total([None, None]) == [None, None]
