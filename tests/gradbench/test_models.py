"""The models of bundle adjustment and hand tracking, against models that share no line with them.

Plain NumPy and high-precision arithmetic: rotations by the matrix exponential, a hand built bone by bone, one
point at a time. The workloads' own references differentiate the workloads' own residuals; this says
that these are the right residuals.
"""

from __future__ import annotations

from types import SimpleNamespace

import mpmath
import numpy as np
import pytest

from tests.gradbench.test_workloads import load


def turned(axis, point):
    """`point` turned about `axis` by its length: the exponential of the cross product's matrix."""
    x, y, z = (mpmath.mpf(float(v)) for v in axis)
    skew = mpmath.matrix([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return mpmath.expm(skew, method="taylor") * mpmath.matrix([mpmath.mpf(float(v)) for v in point])


def project(camera, point):
    """Where a camera sees a point."""
    x, y, z = turned(camera[:3], point - camera[3:6])
    u, v = x / z, y / z
    square = u**2 + v**2
    scale = camera[6] * (1 + camera[9] * square + camera[10] * square**2)
    return np.array([float(u * scale + camera[7]), float(v * scale + camera[8])])


@pytest.mark.parametrize("rotation", [None, 0.0])
def test_bundle_adjustment(rotation):
    ba = load("ba")
    cameras, points, weights, seen, features = ba.inputs(n=2, m=3, p=4)
    if rotation is not None:
        cameras[:, :3] = rotation
    m = SimpleNamespace(
        sqrt=np.sqrt, sin=np.sin, cos=np.cos, where=np.where, stack=np.stack, ones_like=np.ones_like
    )
    rows = ba.unknowns(cameras, points, weights, seen, np.concatenate)
    for i, (camera, point) in enumerate(seen):
        want = weights[i] * (project(cameras[camera], points[point]) - features[i])
        got = ba.residual(rows[i], features[i], m)
        np.testing.assert_allclose(got, want, rtol=1e-11)


def columns_by_differences(residuals, values, step=1e-6):
    """Central differences of a vector function by a flat array."""
    found = []
    for k in range(len(values)):
        ends = [residuals(values + sign * step * np.eye(len(values))[k]) for sign in (1, -1)]
        found.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(found, 1)


def test_bundle_adjustments_jacobian_is_where_the_columns_say():
    """The sparse matrix, made dense, against differences of all residuals by all unknowns."""
    ba = load("ba")
    cameras, points, weights, seen, features = ba.inputs(n=2, m=3, p=4)
    n, m, p = len(cameras), len(points), len(weights)

    def residuals(flat):
        c, x, w = (
            flat[: 11 * n].reshape(n, 11),
            flat[11 * n : 11 * n + 3 * m],
            flat[11 * n + 3 * m :],
        )
        found = [
            w[i] * (project(c[a], x.reshape(m, 3)[b]) - features[i])
            for i, (a, b) in enumerate(seen)
        ]
        return np.concatenate([np.concatenate(found), 1 - w**2])

    values, columns = ba.reference(cameras, points, weights, seen, features)
    dense = np.zeros((3 * p, 11 * n + 3 * m + p))
    at = 0
    for row in range(3 * p):
        count = 15 if row < 2 * p else 1
        dense[row, columns[at : at + count]] = values[at : at + count]
        at += count
    assert at == len(values)
    flat = np.concatenate([cameras.ravel(), points.ravel(), weights])
    want = columns_by_differences(residuals, flat)
    np.testing.assert_allclose(dense, want, rtol=0, atol=1e-6 * np.abs(want).max())


def rotation_matrix(axis) -> np.ndarray:
    """The exponential of the cross product's matrix, term by term."""
    skew = np.cross(np.eye(3), axis)  # rows e_k x axis: antisymmetric, its columns are axis x e_k
    found, term = np.eye(3), np.eye(3)
    for k in range(1, 30):
        term = term @ skew / k
        found = found + term
    return found


def hand(theta, u, points, corners, turns, shifts, back, origin, skin, weights) -> np.ndarray:
    """Residuals of all points: bone after bone, vertex after vertex, in homogeneous coordinates."""

    def about(k, angle):
        return rotation_matrix(np.eye(3)[k] * angle)

    def rigid(r, t):
        m = np.eye(4)
        m[:3, :3], m[:3, 3] = r, t
        return m

    whole = []
    for bone in range(22):
        angles = np.zeros(3)
        if bone >= 2:
            finger, joint = divmod(bone - 2, 4)
            own = theta[6 + 4 * finger : 10 + 4 * finger]
            angles = [[*own[:2], 0], [own[2], 0, 0], [own[3], 0, 0], [0, 0, 0]][joint]
        bent = about(2, angles[2]) @ about(1, angles[1]) @ about(0, angles[0])
        here = rigid(turns[bone] @ bent, shifts[bone])
        if bone == 0:
            whole.append(here)
        else:
            whole.append(whole[1 if bone >= 2 and (bone - 2) % 4 == 0 else bone - 1] @ here)
    moves = [w @ rigid(b, o) for w, b, o in zip(whole, back, origin, strict=True)]
    pose = rigid(rotation_matrix(theta[:3]), theta[3:6])
    found = []
    for point, triangle, (a, b) in zip(points, corners, u, strict=True):
        places = []
        for v in triangle:
            blend = sum(w * m for w, m in zip(weights[v], moves, strict=True))
            at = blend @ np.append(skin[v], 1.0)
            places.append((pose @ np.append(at[:3], 1.0))[:3])
        found.append(point - (a * places[0] + b * places[1] + (1 - a - b) * places[2]))
    return np.concatenate(found)


def test_hand_tracking():
    ht = load("ht")
    theta, u, *rest = ht.inputs(vertices=30, c=3)
    jacobian = ht.reference(theta, u, *rest)
    by_theta = columns_by_differences(lambda t: hand(t, u, *rest), theta)
    by_u = columns_by_differences(lambda s: hand(theta, u + s, *rest), np.zeros(2))
    want = np.concatenate([by_u, by_theta], 1)
    np.testing.assert_allclose(jacobian, want, rtol=0, atol=1e-7 * np.abs(want).max())
