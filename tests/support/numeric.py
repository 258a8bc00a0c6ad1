"""Derivatives by central differences, for tests that need a function of their own.

What follows from an operation's record alone is in ``tests/derived.py``.
"""

from __future__ import annotations

import numpy as np

import flatgrad as fg
from flatgrad.tensor import late, node_of


def tensors_of(arrays, requires_grad: bool = True) -> list:
    return [fg.tensor(np.array(a, np.float64), requires_grad=requires_grad) for a in arrays]


def array_of(t) -> np.ndarray:
    node = node_of(t)
    late.evaluate([node])
    return node.value


def central_differences(function, arrays, step: float = 1e-6) -> list[np.ndarray]:
    """The gradient of a scalar ``function(*tensors)`` at float64 arrays."""
    grads = []
    for k, array in enumerate(arrays):
        grad = np.zeros(np.shape(array))
        for at in np.ndindex(*grad.shape):
            h = step * max(1.0, abs(float(np.asarray(array)[at])))
            sides = []
            for sign in (1.0, -1.0):
                moved = [np.array(a, np.float64) for a in arrays]
                moved[k][at] += sign * h
                sides.append(function(*tensors_of(moved, False)).item())
            grad[at] = (sides[0] - sides[1]) / (2.0 * h)
        grads.append(grad)
    return grads


def gradients(function, arrays) -> list[np.ndarray]:
    """The gradient of a scalar ``function(*tensors)`` by reverse mode."""
    xs = tensors_of(arrays)
    return [array_of(g) for g in fg.autograd.grad(function(*xs), xs)]


def check_gradient(function, *arrays, rtol: float = 1e-6, atol: float = 1e-7) -> None:
    """Reverse mode against central differences, for a scalar function; not vacuously."""
    found, expected = gradients(function, arrays), central_differences(function, arrays)
    assert any(np.abs(e).max(initial=0.0) > 1e-3 for e in expected), "all derivatives vanish"
    for g, e in zip(found, expected, strict=True):
        assert np.isfinite(e).all()
        np.testing.assert_allclose(g, e, rtol=rtol, atol=atol * max(1.0, np.abs(e).max(initial=0)))


def check_orders(function, *arrays, rtol: float = 1e-6, atol: float = 1e-6) -> None:
    """First and second derivatives of a scalar function against central differences."""
    check_gradient(function, *arrays, rtol=rtol, atol=atol)
    rng = np.random.default_rng(3)
    directions = [rng.normal(size=np.shape(a)) for a in arrays]

    def slope(*xs):
        xs = [x.requires_grad_() if x.is_leaf and not x.requires_grad else x for x in xs]
        grads = fg.autograd.grad(function(*xs), xs, create_graph=True)
        total = None
        for g, d in zip(grads, directions, strict=True):
            term = (g * fg.tensor(d)).sum()
            total = term if total is None else total + term
        return total

    check_gradient(slope, *arrays, rtol=10 * rtol, atol=10 * atol)
