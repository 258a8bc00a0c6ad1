"""det: gradient of the determinant by Laplace's expansion, which is the matrix of cofactors.

Expansion along the first row left visits the same minors again and again: one for each set of columns that
is left. Here each is computed once, from those with a column less, row by row from the last: ``2**ell ell``
products instead of ``ell!``. Which minors belong to which is known before, in tables of indices.
"""

from __future__ import annotations

from itertools import combinations

import native
import numpy as np

import flatgrad as fg

SIZES = {f"ell={ell}": {"ell": ell} for ell in (5, 7, 9, 11)}
QUICK = {"ell": 4}


def inputs(ell: int) -> tuple:
    """a (ell, ell)."""
    return (np.random.default_rng(1).standard_normal((ell, ell)),)


def tables(ell: int):
    """For sets of 1, 2, ... ell columns: (columns (sets, size), the minors without each, their signs)."""
    before = {(): 0}
    for size in range(1, ell + 1):
        sets = list(combinations(range(ell), size))
        columns = np.array(sets)
        without = [[before[s[:k] + s[k + 1 :]] for k in range(size)] for s in sets]
        signs = np.where(np.arange(size) % 2, -1.0, 1.0)
        yield columns, np.array(without), signs
        before = {s: k for k, s in enumerate(sets)}


def determinant(a, constant, ones):
    """The determinant; `constant` makes the library's tensor of a table."""
    minors = ones
    for columns, without, signs in tables(len(a)):
        row = a[len(a) - columns.shape[1]]
        minors = (constant(signs) * row[constant(columns)] * minors[constant(without)]).sum(1)
    return minors[0]


def derivative(a):
    """(ell, ell): the gradient."""
    return fg.grad(lambda a: determinant(a, fg.from_numpy, fg.ones(1, dtype=fg.float64)))(a)


FORMULATIONS = {"array": derivative}


def reference(a) -> np.ndarray:
    return np.linalg.det(a) * np.linalg.inv(a).T


def c_derivative(arrays, library):
    """By expansion, as the benchmark means it, and minor by minor."""
    (a,) = arrays
    n = len(a)
    work, gradient = np.empty(2 * 2**n), np.empty((n, n))
    calls = (
        native.bind(library.det, a, n, gradient),
        native.bind(library.det_sets, a, n, work, gradient),
    )
    return [native.returning(call, gradient) for call in calls]


def torch_derivative(arrays):
    import torch

    a = torch.from_numpy(arrays[0]).requires_grad_()
    ready = [tuple(torch.from_numpy(t) for t in level) for level in tables(len(a))]
    ones = torch.ones(1, dtype=a.dtype)

    def step():
        minors = ones
        for columns, without, signs in ready:
            minors = (signs * a[len(a) - columns.shape[1]][columns] * minors[without]).sum(1)
        return torch.autograd.grad(minors[0], a)[0]

    return step


def jax_derivative(arrays):
    import jax
    import jax.numpy as jnp

    a = jnp.asarray(arrays[0])
    compiled = jax.jit(jax.grad(lambda a: determinant(a, jnp.asarray, jnp.ones(1))))
    return lambda: compiled(a)
