"""ode: gradient of the last component of a linear cascade after Runge-Kutta steps, by its rates.

``y[0]' = x[0]``, ``y[i]' = x[i] y[i-1]``, from zero, over ``0 <= t <= 2``.
"""

from __future__ import annotations

import native
import numpy as np

import flatgrad as fg

SIZES = {
    "n=1000,s=1": {"n": 1000, "s": 1},
    "n=1000,s=10": {"n": 1000, "s": 10},
    "n=1000,s=100": {"n": 1000, "s": 100},
    "n=10000,s=100": {"n": 10_000, "s": 100},
}
QUICK = {"n": 6, "s": 5}


def inputs(n: int, s: int) -> tuple:
    """x (n,), and as a shape alone: steps (s,)."""
    return np.random.default_rng(1).uniform(0.5, 1.5, n), np.zeros(s)


def runge_kutta(x, y, h, cat):
    """One step from y; `cat` is the library's concatenation."""

    def slope(y):
        return x * cat([0 * y[:1] + 1, y[:-1]])

    k1 = slope(y)
    k2 = slope(y + h / 2 * k1)
    k3 = slope(y + h / 2 * k2)
    k4 = slope(y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def solution(x, steps):
    """(n,): y at the end."""
    s = len(steps)
    y, _ = fg.scan(
        lambda y, _: (runge_kutta(x, y, 2 / s, fg.cat), None), fg.zeros_like(x), length=s
    )
    return y


def derivative(x, steps):
    """Gradient by x."""
    return fg.grad(lambda x: solution(x, steps)[-1])(x)


FORMULATIONS = {"scan": derivative}


def reference(x, steps) -> np.ndarray:
    """The adjoint of the same program by hand."""
    s, n = len(steps), len(x)
    h = 2 / s
    a, b = (h / 2, h / 2, h), (h / 6, h / 3, h / 3, h / 6)

    def shifted(y):
        return np.concatenate([[1.0], y[:-1]])

    def stages(y):
        points, slopes = [y], [x * shifted(y)]
        for k in range(3):
            points.append(y + a[k] * slopes[k])
            slopes.append(x * shifted(points[-1]))
        return points, slopes

    y, past = np.zeros(n), []
    for _ in range(s):
        past.append(y)
        _, slopes = stages(y)
        y = y + sum(c * k for c, k in zip(b, slopes, strict=True))
    g, g_x = np.zeros(n), np.zeros(n)
    g[-1] = 1.0
    for y in reversed(past):
        points, _ = stages(y)
        g_slopes, g_y = [c * g for c in b], g.copy()
        for k in reversed(range(4)):
            g_x += g_slopes[k] * shifted(points[k])
            g_point = np.append((x * g_slopes[k])[1:], 0.0)
            g_y += g_point
            if k:
                g_slopes[k - 1] = g_slopes[k - 1] + a[k - 1] * g_point
        g = g_y
    return g_x


def c_derivative(arrays, library):
    x, steps = arrays
    n, s = len(x), len(steps)
    work, gradient = np.empty((s + 9) * n), np.empty(n)
    return [native.returning(native.bind(library.ode, x, n, s, work, gradient), gradient)]


def torch_derivative(arrays):
    import torch

    x, s = torch.from_numpy(arrays[0]).requires_grad_(), len(arrays[1])

    def step():
        y = torch.zeros_like(x)
        for _ in range(s):
            y = runge_kutta(x, y, 2 / s, torch.cat)
        return torch.autograd.grad(y[-1], x)[0]

    return step


def jax_derivative(arrays):
    import jax
    import jax.numpy as jnp

    s = len(arrays[1])

    def last(x):
        def step(y, _):
            return runge_kutta(x, y, 2 / s, jnp.concatenate), None

        return jax.lax.scan(step, jnp.zeros_like(x), length=s)[0][-1]

    compiled = jax.jit(jax.grad(last))
    x = jnp.asarray(arrays[0])
    return lambda: compiled(x)
