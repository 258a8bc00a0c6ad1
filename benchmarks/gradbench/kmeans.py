"""kmeans: the Newton direction of the centroids, gradient over diagonal of the Hessian.

The cost is the sum over points of the squared distance to the nearest centroid. Its Hessian by the centroids
is diagonal, so one product with a vector of ones gives the diagonal: forward over reverse.
"""

from __future__ import annotations

import native
import numpy as np

import flatgrad as fg

SIZES = {
    "k=10,n=1000,d=8": {"k": 10, "n": 1000, "d": 8},
    "k=100,n=1000,d=16": {"k": 100, "n": 1000, "d": 16},
    "k=100,n=10000,d=8": {"k": 100, "n": 10_000, "d": 8},
    "k=1000,n=10000,d=8": {"k": 1000, "n": 10_000, "d": 8},
}
QUICK = {"k": 3, "n": 40, "d": 2}

ROWS = 40  # points of a block


def inputs(k: int, n: int, d: int) -> tuple:
    """points (n, d), centroids (k, d): some of the points."""
    rng = np.random.default_rng(1)
    points = rng.standard_normal((n, d))
    return points, points[rng.permutation(n)[:k]].copy()


def distances(points, centroids):
    """(n, k): squared distances less ``|points|**2``, which no choice depends on."""
    return (centroids * centroids).sum(1) - 2 * (points @ centroids.T)


def cost_by_min(points, centroids):
    return (points * points).sum() + distances(points, centroids).amin(1).sum()


def cost_by_choice(points, centroids):
    """The choice of the nearest is constant: only the chosen distances are differentiated."""
    difference = points - centroids[distances(points, centroids.detach()).argmin(1)]
    return (difference * difference).sum()


def cost_by_blocks(points, centroids):
    """The same, some points at a time, so that their distances stay in the cache."""
    n, d = points.shape
    rows = ROWS if n % ROWS == 0 else n
    return fg.map(lambda p: cost_by_choice(p, centroids), points.reshape(-1, rows, d)).sum()


def direction(cost):
    def derivative(points, centroids):
        """(k, d): the direction."""

        def gradient(c):
            return fg.grad(cost, argnums=1)(points, c)

        first, second = fg.jvp(gradient, (centroids,), (fg.ones_like(centroids),))
        return first / second

    return derivative


FORMULATIONS = {
    "array": direction(cost_by_min),
    "choice": direction(cost_by_choice),
    "map of blocks": direction(cost_by_blocks),
}


def reference(points, centroids) -> np.ndarray:
    """Centroid less the mean of the points that are nearest to it."""
    nearest = np.empty(len(points), np.int64)
    for i, p in enumerate(points):
        nearest[i] = ((p - centroids) ** 2).sum(1).argmin()
    counts = np.bincount(nearest, minlength=len(centroids))
    sums = np.zeros_like(centroids)
    np.add.at(sums, nearest, points)
    return centroids - sums / counts[:, None]


def c_derivative(arrays, library):
    (n, d), k = arrays[0].shape, len(arrays[1])
    counts, found = np.empty(k), np.empty((k, d))
    return [native.returning(native.bind(library.kmeans, *arrays, n, k, d, counts, found), found)]


def torch_derivative(arrays):
    import torch

    points, centroids = (torch.from_numpy(a) for a in arrays)
    ones = torch.ones_like(centroids)

    def step(cost):
        gradient = torch.func.grad(lambda c: cost(points, c))
        first, second = torch.func.jvp(gradient, (centroids,), (ones,))
        return first / second

    return [lambda: step(cost_by_choice), lambda: step(cost_by_min)]


def jax_derivative(arrays):
    import jax
    import jax.numpy as jnp

    def by_choice(points, c):
        nearest = jax.lax.stop_gradient(distances(points, c)).argmin(1)
        return ((points - c[nearest]) ** 2).sum()

    def by_min(points, c):
        return (points * points).sum() + distances(points, c).min(1).sum()

    def program(cost):
        gradient = jax.grad(cost, argnums=1)

        def step(points, c):
            first, second = jax.jvp(lambda c: gradient(points, c), (c,), (jnp.ones_like(c),))
            return first / second

        return jax.jit(step)

    arrays = [jnp.asarray(a) for a in arrays]
    return [lambda f=f: f(*arrays) for f in map(program, (by_choice, by_min))]
