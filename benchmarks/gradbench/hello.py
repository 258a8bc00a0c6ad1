"""hello: the derivative of x * x, which is the cost of one call."""

from __future__ import annotations

import native
import numpy as np

import flatgrad as fg

SIZES = {"x=4": {}}
QUICK = {}


def inputs() -> tuple:
    """x ()."""
    return (np.array(4.0),)


def square(x):
    return x * x


def derivative(x):
    return fg.grad(square)(x)


FORMULATIONS = {"array": derivative}


def reference(x) -> np.ndarray:
    return 2 * x


def c_derivative(arrays, library):
    gradient = np.empty(())
    return [native.returning(native.bind(library.hello, *arrays, gradient), gradient)]


def torch_derivative(arrays):
    import torch

    x = torch.tensor(arrays[0].item(), dtype=torch.float64, requires_grad=True)
    return lambda: torch.autograd.grad(square(x), x)[0]


def jax_derivative(arrays):
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(jax.grad(square))
    x = jnp.asarray(arrays[0])
    return lambda: compiled(x)
