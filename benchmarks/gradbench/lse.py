"""lse: gradient of log(sum(exp(x))), which is the softmax of x."""

from __future__ import annotations

import native
import numpy as np

import flatgrad as fg

SIZES = {"n=2500": {"n": 2500}, "n=40000": {"n": 40_000}, "n=640000": {"n": 640_000}}
QUICK = {"n": 30}


def inputs(n: int) -> tuple:
    """x (n,)."""
    return (10 * np.random.default_rng(1).standard_normal(n),)


def derivative(x):
    return fg.grad(lambda x: fg.logsumexp(x, 0))(x)


FORMULATIONS = {"array": derivative}


def reference(x) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def c_derivative(arrays, library):
    (x,) = arrays
    gradient = np.empty_like(x)
    return [native.returning(native.bind(library.lse, x, len(x), gradient), gradient)]


def torch_derivative(arrays):
    import torch

    x = torch.from_numpy(arrays[0]).requires_grad_()
    return lambda: torch.autograd.grad(torch.logsumexp(x, 0), x)[0]


def jax_derivative(arrays):
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(jax.grad(jax.scipy.special.logsumexp))
    x = jnp.asarray(arrays[0])
    return lambda: compiled(x)
