"""ba: sparse Jacobian of bundle adjustment's residuals, as a matrix of compressed rows.

Each observation (which camera saw which point, with which weight, where) has two residuals that depend on
15 unknowns: 11 of its camera, 3 of its point, and its weight; a third residual, ``1 - w**2``, depends on the
weight alone. So the Jacobian is a small dense one for each observation, and columns that are known
from the indices.
"""

from __future__ import annotations

from types import SimpleNamespace

import native
import numpy as np

import flatgrad as fg

SIZES = {
    "n=49,m=777,p=1000": {"n": 49, "m": 777, "p": 1000},
    "n=49,m=7776,p=31843": {"n": 49, "m": 7776, "p": 31_843},
    "n=161,m=48126,p=182072": {"n": 161, "m": 48_126, "p": 182_072},
}
QUICK = {"n": 2, "m": 5, "p": 8}

ROWS = 128  # observations of a block


def inputs(n: int, m: int, p: int) -> tuple:
    """cameras (n, 11), points (m, 3), weights (p,), seen (p, 2): camera and point, features (p, 2)."""
    rng = np.random.default_rng(1)
    cameras = rng.uniform(0.1, 0.5, (n, 11))
    cameras[:, 6] += 500
    points = rng.standard_normal((m, 3)) + np.array([0, 0, 8])
    seen = np.stack([rng.integers(0, n, p), rng.integers(0, m, p)], 1)
    return cameras, points, rng.uniform(0.5, 1.5, p), seen, 100 * rng.standard_normal((p, 2))


def residual(u, feature, m):
    """The two residuals of one observation; `u`: rotation, center, focal length, principal point, radial
    distortion, point and weight. `m` has sqrt, sin, cos, where, stack."""
    x, y, z = u[11] - u[3], u[12] - u[4], u[13] - u[5]
    a, b, c = u[0], u[1], u[2]
    square = a * a + b * b + c * c
    turns = square != 0
    angle = m.sqrt(m.where(turns, square, m.ones_like(square)))
    sine = m.where(turns, m.sin(angle) / angle, m.ones_like(angle))
    cosine = m.where(turns, m.cos(angle), m.ones_like(angle))
    along = m.where(turns, (1 - cosine) / (angle * angle), 0 * angle) * (a * x + b * y + c * z)
    px = x * cosine + (b * z - c * y) * sine + a * along
    py = y * cosine + (c * x - a * z) * sine + b * along
    pz = z * cosine + (a * y - b * x) * sine + c * along
    px, py = px / pz, py / pz
    radius = px * px + py * py
    scale = u[6] * (1 + u[9] * radius + u[10] * radius * radius)
    return m.stack(
        [u[14] * (px * scale + u[7] - feature[0]), u[14] * (py * scale + u[8] - feature[1])]
    )


def unknowns(cameras, points, weights, seen, cat):
    """(p, 15): what each observation depends on."""
    return cat([cameras[seen[:, 0]], points[seen[:, 1]], weights.reshape(-1, 1)], 1)


def matrix(blocks, cameras, points, weights, seen, cat, arange):
    """(values, columns) of the compressed rows; row 2 i and 2 i + 1 have 15 entries, the last p have one."""
    n, m, p = len(cameras), len(points), len(weights)
    last = arange(p) + (11 * n + 3 * m)
    camera = 11 * seen[:, 0].reshape(p, 1) + arange(11)
    point = 11 * n + 3 * seen[:, 1].reshape(p, 1) + arange(3)
    row = cat([camera, point, last.reshape(p, 1)], 1)
    columns = cat([cat([row, row], 1).reshape(-1), last], 0)
    return cat([blocks.reshape(-1), -2 * weights], 0), columns


def jacobian_of_one(u, feature):
    return fg.jacrev(lambda u: residual(u, feature, fg))(u)


def by_vmap(cameras, points, weights, seen, features):
    """(values, columns)."""
    blocks = fg.vmap(jacobian_of_one)(unknowns(cameras, points, weights, seen, fg.cat), features)
    return matrix(blocks, cameras, points, weights, seen, fg.cat, fg.arange)


def by_map(cameras, points, weights, seen, features):
    """(values, columns)."""
    rows = unknowns(cameras, points, weights, seen, fg.cat), features
    blocks = fg.map(lambda row: jacobian_of_one(*row), rows)
    return matrix(blocks, cameras, points, weights, seen, fg.cat, fg.arange)


def by_blocks(cameras, points, weights, seen, features):
    """The same, some observations at a time, so that what is between stays in the cache."""

    def some(part):
        weights, seen, features = part
        return fg.vmap(jacobian_of_one)(unknowns(cameras, points, weights, seen, fg.cat), features)

    rows, found = (weights, seen, features), []
    whole = len(weights) // ROWS * ROWS
    if whole:
        blocks = fg.map(some, tuple([a[:whole].reshape(-1, ROWS, *a.shape[1:]) for a in rows]))
        found.append(blocks.reshape(whole, 2, 15))
    if whole < len(weights):
        found.append(some([a[whole:] for a in rows]))
    return matrix(fg.cat(found, 0), cameras, points, weights, seen, fg.cat, fg.arange)


FORMULATIONS = {"blocks of vmap": by_blocks, "map of jacrev": by_map, "vmap of jacrev": by_vmap}


def all_residuals(cameras, points, weights, seen, features):
    """(3 p,): two residuals of each observation, then one of each weight."""
    u = unknowns(cameras, points, weights, seen, fg.cat)
    return fg.cat([residual(u.T, features.T, fg).T.reshape(-1), 1 - weights * weights], 0)


def by_pattern(arrays):
    """The whole Jacobian, whose pattern is found once: nothing is said of observations and blocks.

    It has two elements less an observation (a coordinate does not depend on the other one's principal
    point), so they are put where the benchmark's pattern has them, among its zeros.
    """
    cameras, points, weights, seen, _ = arrays
    jacobian = fg.func.jacobian(all_residuals, (0, 1, 2), sparse=True)
    given = [fg.from_numpy(a) for a in arrays]
    first, p = jacobian(*given), len(weights)
    blocks = np.zeros((p, 2, 15))
    _, columns = matrix(blocks, cameras, points, weights, seen, np.concatenate, np.arange)
    rows = np.concatenate([np.repeat(np.arange(2 * p), 15), np.arange(2 * p, 3 * p)])
    width = first.shape[1]
    own = np.repeat(np.arange(3 * p), np.diff(first.indptr)) * width + first.indices
    places = np.searchsorted(rows * width + columns, own)

    def step():
        values = np.zeros(31 * p)
        values[places] = jacobian(*given).data
        return values, columns

    return step


# Formulations that are called as they are, and not compiled for their arguments first.
CALLED = {"jacobian(sparse=True)": by_pattern}


def reference(cameras, points, weights, seen, features) -> tuple:
    """Steps along the imaginary axis: exact to rounding, as the residuals are analytic."""
    m = SimpleNamespace(
        sqrt=np.sqrt, sin=np.sin, cos=np.cos, where=np.where, stack=np.stack, ones_like=np.ones_like
    )
    u = unknowns(cameras, points, weights, seen, np.concatenate).T.astype(complex)
    blocks = np.empty((len(weights), 2, 15))
    for k in range(15):
        moved = u.copy()
        moved[k] += 1e-30j
        blocks[:, :, k] = residual(moved, features.T, m).imag.T / 1e-30
    return matrix(blocks, cameras, points, weights, seen, np.concatenate, np.arange)


def c_derivative(arrays, library):
    cameras, points, weights, seen, features = arrays
    n, m, p = len(cameras), len(points), len(weights)
    results = np.empty(31 * p), np.empty(31 * p, np.int64)
    call = native.bind(library.ba, cameras, points, weights, seen, features, n, m, p, *results)
    return [native.returning(call, results)]


def torch_derivative(arrays):
    import torch

    cameras, points, weights, seen, features = (torch.from_numpy(a) for a in arrays)
    one = torch.func.jacrev(lambda u, feature: residual(u, feature, torch))

    def step():
        rows = unknowns(cameras, points, weights, seen, torch.cat)
        blocks = torch.func.vmap(one)(rows, features)
        return matrix(blocks, cameras, points, weights, seen, torch.cat, torch.arange)

    return step


def jax_derivative(arrays):
    import jax
    import jax.numpy as jnp

    one = jax.jacrev(lambda u, feature: residual(u, feature, jnp))

    @jax.jit
    def step(cameras, points, weights, seen, features):
        rows = unknowns(cameras, points, weights, seen, jnp.concatenate)
        blocks = jax.vmap(one)(rows, features)
        return matrix(blocks, cameras, points, weights, seen, jnp.concatenate, jnp.arange)

    arrays = [jnp.asarray(a) for a in arrays]
    return lambda: step(*arrays)
