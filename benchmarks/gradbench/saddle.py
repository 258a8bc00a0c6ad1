"""saddle: the least of a greatest value, a descent whose every step contains a descent.

``min_x max_y |x|**2 - |y|**2``, both by the same loop. The outer gradient goes through the program of
the inner loop, which takes a gradient at each of its steps. The derivatives are taken forward (f) or in
reverse (r): ``rf`` is reverse for the outer, forward for the inner.
"""

from __future__ import annotations

import native
import numpy as np
from descent import argmin, argmin_eagerly

import flatgrad as fg

SIZES = {"s=(1,1)": {}}
QUICK = {}


def inputs() -> tuple:
    """start (2,)."""
    return (np.ones(2),)


def height(x, y):
    return (x * x).sum() - (y * y).sum()


def forward(function):
    def value_and_grad(x):
        return function(x), fg.jacfwd(function)(x)

    return value_and_grad


VALUE_AND_GRAD = {"r": fg.value_and_grad, "f": forward}


def solve(start, outer, inner, least, join):
    """x, then the y that is best for it."""

    def best(x):
        return least(inner(lambda y: -height(x, y)), start)

    x = least(outer(lambda x: height(x, best(x))), start)
    return join([x, best(x)])


def variant(outer: str, inner: str):
    return lambda start: solve(start, VALUE_AND_GRAD[outer], VALUE_AND_GRAD[inner], argmin, fg.cat)


FORMULATIONS = {name: variant(*name) for name in ("ff", "fr", "rf", "rr")}


def reference(start) -> np.ndarray:
    """Gradients by hand: 2 y inside; outside, 2 x, as the best y does not depend on x."""

    def inner(x):
        return argmin_eagerly(lambda y: (y @ y - x @ x, 2 * y), start)

    def outer(x):
        y = inner(x)
        return x @ x - y @ y, 2 * x

    x = argmin_eagerly(outer, start)
    return np.concatenate([x, inner(x)])


def c_derivative(arrays, library):
    found = np.empty(4)
    return [native.returning(native.bind(library.saddle, *arrays, found), found)]


def torch_derivative(arrays):
    import torch

    def value_and_grad(function):
        def both(x):
            x = x if x.requires_grad else x.detach().requires_grad_()
            value = function(x)
            return value, torch.autograd.grad(value, x, create_graph=True)[0]

        return both

    start = torch.from_numpy(arrays[0])
    return lambda: solve(start, value_and_grad, value_and_grad, argmin_eagerly, torch.cat).detach()


def jax_derivative(arrays):
    """The outer gradient forward: JAX has no reverse mode through a loop of unknown length."""
    import jax
    import jax.numpy as jnp

    def forward(function):
        return lambda x: (function(x), jax.jacfwd(function)(x))

    def least(value_and_grad, x):
        return argmin(value_and_grad, x, jnp, jax.lax.while_loop)

    def program(inner):
        return jax.jit(lambda s: solve(s, forward, inner, least, jnp.concatenate))

    start = jnp.asarray(arrays[0])
    return [lambda f=f: f(start) for f in map(program, (forward, jax.value_and_grad))]
