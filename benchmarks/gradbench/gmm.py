"""gmm: gradient of the log-likelihood of a Gaussian mixture, with a Wishart prior.

Each component's inverse covariance is given by a lower triangle ``Q``: ``exp(q)`` on its diagonal,
``lower`` below it, column by column. With ``Q (x - mu) = Q x - Q mu`` the work of all points
and all components is one product of matrices, and so is its derivative.
"""

from __future__ import annotations

import math

import native
import numpy as np

import flatgrad as fg

SIZES = {
    "d=2,k=5,n=1000": {"d": 2, "k": 5, "n": 1000},
    "d=10,k=5,n=1000": {"d": 10, "k": 5, "n": 1000},
    "d=10,k=25,n=1000": {"d": 10, "k": 25, "n": 1000},
    "d=32,k=25,n=1000": {"d": 32, "k": 25, "n": 1000},
}
QUICK = {"d": 3, "k": 4, "n": 20}

GAMMA, M = 1.0, 0  # of the Wishart prior
ROWS = 250


def inputs(d: int, k: int, n: int) -> tuple:
    """alpha (k,), mu (k, d), q (k, d), lower (k, d (d - 1) / 2), x (n, d)."""
    rng = np.random.default_rng(1)
    shapes = (k,), (k, d), (k, d), (k, d * (d - 1) // 2), (n, d)
    alpha, mu, q, lower, x = (rng.standard_normal(s) for s in shapes)
    return alpha, mu, 0.3 * q, 0.3 * lower, x


def places(d: int) -> np.ndarray:
    """(d, d): which column of ``[exp(q), lower, 0]`` stands where in the triangle."""
    table = np.full((d, d), d + d * (d - 1) // 2)
    table[np.diag_indices(d)] = np.arange(d)
    columns, rows = np.triu_indices(d, 1)  # column by column of the lower triangle
    table[rows, columns] = d + np.arange(len(rows))
    return table


def constant(n: int, d: int, k: int, prior=(GAMMA, M)) -> float:
    """What the parameters do not change."""
    gamma, extra = prior
    degrees = d + extra + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi)
    log_gamma += sum(math.lgamma(degrees / 2 - j / 2) for j in range(d))
    wishart = degrees * d * (math.log(gamma) - 0.5 * math.log(2)) - log_gamma
    return -n * d / 2 * math.log(2 * math.pi) + k * wishart


def objective(alpha, mu, q, lower, x, *, m=fg, rows=None, prior=(GAMMA, M)):
    """The log-likelihood, `rows` points at a time; `m` is flatgrad or torch, `prior` Wishart's two."""
    (k, d), n = mu.shape, len(x)
    diagonal, sums = m.exp(q), q.sum(1)
    parts = m.cat([diagonal, lower, m.zeros((k, 1), dtype=q.dtype)], 1)
    triangle = parts[:, m.from_numpy(places(d)).reshape(-1)].reshape(k, d, d)
    center = (triangle @ mu.reshape(k, d, 1)).reshape(k * d)

    def log_likelihood(points):
        y = (points @ triangle.reshape(k * d, d).T - center).reshape(len(points), k, d)
        return m.logsumexp(alpha + sums - 0.5 * (y * y).sum(2), 1).sum()

    if rows is None:
        likelihood = log_likelihood(x)
    else:
        likelihood = m.map(log_likelihood, x.reshape(n // rows, rows, d)).sum()
    gamma, extra = prior
    square = (diagonal * diagonal).sum() + (lower * lower).sum()
    penalty = 0.5 * gamma**2 * square - extra * sums.sum()
    return constant(n, d, k, prior) + likelihood - n * m.logsumexp(alpha, 0) - penalty


def by_arrays(alpha, mu, q, lower, x):
    """Gradient by alpha, mu, q and lower."""
    return fg.grad(objective, argnums=(0, 1, 2, 3))(alpha, mu, q, lower, x)


def by_blocks(alpha, mu, q, lower, x):
    """The same, ``ROWS`` points at a time, so that what is between stays in the cache."""
    gradient = fg.grad(objective, argnums=(0, 1, 2, 3))
    return gradient(alpha, mu, q, lower, x, rows=min(ROWS, len(x)))


FORMULATIONS = {"map of blocks": by_blocks, "array": by_arrays}


def reference(alpha, mu, q, lower, x) -> tuple:
    """The gradient by hand, component by component."""
    (k, d), n = mu.shape, len(x)
    columns, rows = np.triu_indices(d, 1)
    logs, found = np.empty((n, k)), []
    for c in range(k):
        triangle = np.diag(np.exp(q[c]))
        triangle[rows, columns] = lower[c]
        centered = x - mu[c]
        y = centered @ triangle.T
        logs[:, c] = alpha[c] + q[c].sum() - 0.5 * (y * y).sum(1)
        found.append((triangle, centered, y))
    weights = np.exp(logs - logs.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    softmax = np.exp(alpha - alpha.max())
    g_alpha = weights.sum(0) - n * softmax / softmax.sum()
    g_mu, g_q, g_l = np.empty_like(mu), np.empty_like(q), np.empty_like(lower)
    for c, (triangle, centered, y) in enumerate(found):
        w = weights[:, c, None]
        g_triangle = -(w * y).T @ centered
        g_mu[c] = (w * y).sum(0) @ triangle
        g_q[c] = w.sum() + np.diag(g_triangle) * np.exp(q[c]) - GAMMA**2 * np.exp(2 * q[c]) + M
        g_l[c] = g_triangle[rows, columns] - GAMMA**2 * lower[c]
    return g_alpha, g_mu, g_q, g_l


def c_derivative(arrays, library):
    (k, d), n = arrays[1].shape, len(arrays[-1])
    work, results = np.empty(k * (1 + 4 * d)), tuple(np.empty_like(a) for a in arrays[:4])
    return [native.returning(native.bind(library.gmm, *arrays, k, d, n, work, *results), results)]


def torch_derivative(arrays):
    """A callable that computes the gradient with PyTorch."""
    import torch

    *parameters, x = [torch.from_numpy(a) for a in arrays]
    parameters = [p.requires_grad_() for p in parameters]
    return lambda: torch.autograd.grad(objective(*parameters, x, m=torch), parameters)


def jax_derivative(arrays):
    """A callable that computes the gradient with JAX."""
    import jax
    import jax.numpy as jnp
    from jax.scipy.special import logsumexp

    def jax_objective(alpha, mu, q, lower, x):
        (k, d), n = mu.shape, len(x)
        diagonal, sums = jnp.exp(q), q.sum(1)
        parts = jnp.concatenate([diagonal, lower, jnp.zeros((k, 1))], 1)
        triangle = parts[:, places(d)]
        center = (triangle @ mu.reshape(k, d, 1)).reshape(k * d)
        y = (x @ triangle.reshape(k * d, d).T - center).reshape(n, k, d)
        likelihood = logsumexp(alpha + sums - 0.5 * (y * y).sum(2), 1).sum()
        prior = (
            0.5 * GAMMA**2 * ((diagonal * diagonal).sum() + (lower * lower).sum()) - M * sums.sum()
        )
        return constant(n, d, k) + likelihood - n * logsumexp(alpha) - prior

    compiled = jax.jit(jax.grad(jax_objective, argnums=(0, 1, 2, 3)))
    arrays = [jnp.asarray(a) for a in arrays]
    return lambda: compiled(*arrays)
