"""llsq: gradient of a polynomial least-squares fit of the sign function at n points.

``0.5 * sum_i (s_i - sum_j x_j t_i**j)**2``. Horner's rule goes through the coefficients one by
one, for all points at once; its derivative needs nothing that was computed on the way.
"""

from __future__ import annotations

import native
import numpy as np

import flatgrad as fg

SIZES = {f"n={n},m=128": {"n": n, "m": 128} for n in (16, 128, 1024, 8196)}
QUICK = {"n": 12, "m": 5}


def inputs(n: int, m: int) -> tuple:
    """x (m,), t (n,), s (n,)."""
    t = -1 + 2 * np.arange(n) / (n - 1)
    return np.random.default_rng(1).standard_normal(m), t, np.sign(t)


def cost(x, t, s):
    """By Horner's rule."""
    value, _ = fg.scan(lambda acc, c: (acc * t + c, None), fg.zeros_like(t), x, reverse=True)
    return 0.5 * ((s - value) ** 2).sum()


def by_horner(x, t, s):
    """Gradient by x."""
    return fg.grad(cost)(x, t, s)


def by_powers(x, t, s):
    """Gradient by x."""

    def cost(x):
        powers = t.reshape(-1, 1) ** fg.arange(len(x), dtype=x.dtype)
        return 0.5 * ((s - powers @ x) ** 2).sum()

    return fg.grad(cost)(x)


FORMULATIONS = {"horner": by_horner, "array": by_powers}


def reference(x, t, s) -> np.ndarray:
    powers = np.vander(t, len(x), increasing=True)
    return powers.T @ (powers @ x - s)


def c_derivative(arrays, library):
    """With powers computed twice, and kept."""
    n, m = len(arrays[1]), len(arrays[0])
    gradient, powers = np.empty(m), np.empty(m)
    calls = (
        native.bind(library.llsq, *arrays, n, m, gradient),
        native.bind(library.llsq_kept, *arrays, n, m, powers, gradient),
    )
    return [native.returning(call, gradient) for call in calls]


def torch_derivative(arrays):
    import torch

    x, t, s = (torch.from_numpy(a) for a in arrays)
    x.requires_grad_()

    def cost():
        return 0.5 * ((s - torch.vander(t, len(x), increasing=True) @ x) ** 2).sum()

    return lambda: torch.autograd.grad(cost(), x)[0]


def jax_derivative(arrays):
    import jax
    import jax.numpy as jnp

    def by_powers(x, t, s):
        return 0.5 * ((s - jnp.vander(t, len(x), increasing=True) @ x) ** 2).sum()

    def by_horner(x, t, s):
        value, _ = jax.lax.scan(lambda a, c: (a * t + c, None), jnp.zeros_like(t), x, reverse=True)
        return 0.5 * ((s - value) ** 2).sum()

    arrays = [jnp.asarray(a) for a in arrays]
    programs = [jax.jit(jax.grad(f)) for f in (by_powers, by_horner)]
    return [lambda f=f: f(*arrays) for f in programs]
