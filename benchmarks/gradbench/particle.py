"""particle: the charge's place for which a particle's path crosses the axis at zero, by gradient descent.

The path is integrated until it crosses: a loop of unknown length, whose body holds the gradient of a
potential. Descent by the derivative of the crossing is a loop around it. The two derivatives are
taken forward (f) or in reverse (r): ``rf`` is reverse through the path, forward through the potential.
"""

from __future__ import annotations

import native
import numpy as np
from descent import argmin, argmin_eagerly

import flatgrad as fg

SIZES = {"w=0": {}}
QUICK = {}

STEP = 0.1
BOUND = 1000  # of a path's steps


def inputs() -> tuple:
    """w (1,): where descent starts."""
    return (np.zeros(1),)


def potential(x, w, m):
    first = m.sqrt((x[0] - 10) ** 2 + (x[1] - 10 + w) ** 2)
    return 1 / first + 1 / m.sqrt((x[0] - 10) ** 2 + x[1] ** 2)


def crossing(w, gradient, loop, array):
    """Squared place of the crossing; `gradient` is that of the potential by x."""

    def above(carry):
        x, v = carry
        return (x + STEP * v)[1] > 0

    def step(carry):
        x, v = carry
        return x + STEP * v, v - STEP * gradient(x, w)

    x, v = loop(above, step, (array([0.0, 8.0]), array([0.75, 0.0])))
    return (x[0] - x[1] / v[1] * v[0]) ** 2


def potential_of(x, w):
    return potential(x, w, fg)


INNER = {"r": fg.grad(potential_of), "f": fg.jacfwd(potential_of)}


def forward(function):
    def value_and_grad(w):
        value, tangent = fg.jvp(lambda w: function(w[0]), (w,), (fg.ones_like(w),))
        return value, tangent.reshape(1)

    return value_and_grad


OUTER = {"r": lambda function: fg.value_and_grad(lambda w: function(w[0])), "f": forward}


def bounded(condition, body, carry):
    return fg.while_loop(condition, body, carry, bound=BOUND)


def double(numbers):
    return fg.tensor(numbers, dtype=fg.float64)


def variant(outer: str, inner: str):
    def path(w):
        return crossing(w, INNER[inner], bounded, double)

    return lambda w: argmin(OUTER[outer](path), w)


FORMULATIONS = {name: variant(*name) for name in ("ff", "fr", "rf", "rr")}


def reference(w) -> np.ndarray:
    """Field and tangent by hand."""

    def field(x, w):
        """Acceleration, its derivative by x, and by w."""
        force, by_x, by_w = np.zeros(2), np.zeros((2, 2)), np.zeros(2)
        for charge, moves in ((np.array([10.0, 10 - w]), -1.0), (np.array([10.0, 0.0]), 0.0)):
            d = x - charge
            r = np.sqrt(d @ d)
            jacobian = np.eye(2) / r**3 - 3 * np.outer(d, d) / r**5
            force += d / r**3
            by_x += jacobian
            by_w -= jacobian[:, 1] * moves
        return force, by_x, by_w

    def value_and_grad(w):
        x, v = np.array([0.0, 8.0]), np.array([0.75, 0.0])
        x_dot, v_dot = np.zeros(2), np.zeros(2)
        while (x + STEP * v)[1] > 0:
            force, by_x, by_w = field(x, w[0])
            x, v, x_dot, v_dot = (
                x + STEP * v,
                v + STEP * force,
                x_dot + STEP * v_dot,
                v_dot + STEP * (by_x @ x_dot + by_w),
            )
        time = -x[1] / v[1]
        time_dot = -x_dot[1] / v[1] + x[1] * v_dot[1] / v[1] ** 2
        end = x[0] + time * v[0]
        end_dot = x_dot[0] + time_dot * v[0] + time * v_dot[0]
        return end**2, np.array([2 * end * end_dot])

    return argmin_eagerly(value_and_grad, w)


def c_derivative(arrays, library):
    found = np.empty(1)
    return [native.returning(native.bind(library.particle, *arrays, found), found)]


def torch_derivative(arrays):
    import torch

    start = torch.from_numpy(arrays[0])

    def gradient(x, w):
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(potential(x, w, torch), x, create_graph=True)[0]

    def loop(condition, body, carry):
        while condition(carry):
            carry = body(carry)
        return carry

    def value_and_grad(w):
        w = w.detach().requires_grad_()
        value = crossing(w[0], gradient, loop, lambda v: torch.tensor(v, dtype=w.dtype))
        return value.detach(), torch.autograd.grad(value, w)[0]

    return lambda: argmin_eagerly(value_and_grad, start)


def jax_derivative(arrays):
    """Forward through the path: JAX has no reverse mode through a loop of unknown length."""
    import jax
    import jax.numpy as jnp

    loop = jax.lax.while_loop

    def path(inner):
        gradient = inner(lambda x, w: potential(x, w, jnp))
        return lambda w: crossing(w[0], gradient, loop, jnp.array)

    def minimised(inner):
        def value_and_grad(w):
            value, tangent = jax.jvp(path(inner), (w,), (jnp.ones_like(w),))
            return value, tangent.reshape(1)

        return jax.jit(lambda w: argmin(value_and_grad, w, jnp, loop))

    w = jnp.asarray(arrays[0])
    return [lambda f=f: f(w) for f in map(minimised, (jax.jacfwd, jax.grad))]
