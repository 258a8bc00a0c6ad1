"""GradBench's hands for ``ht``: any skeleton, mirrored or not, with and without coordinates on triangles.

`ht.py` measures a hand that it makes; here the hand comes with the message. Moving is linear in a point's
place at rest, so each observed point has its blend of places bone by bone, and one matrix of the pose moves
all.
"""

from __future__ import annotations

from types import SimpleNamespace

import ht
import numpy as np

import flatgrad as fg


def hand_of(given) -> tuple[tuple, SimpleNamespace]:
    """((theta, u, points, relatives, inverses, skin, weights), what is fixed)."""
    data = given["data"]
    model = data["model"]
    corners = np.array(data["correspondences"], np.int64)
    u = np.array(given["us"], np.float64).reshape(-1, 2)
    if len(u):
        corners = np.array(model["triangles"], np.int64)[corners]
    else:
        corners = corners[:, None]
    parts = ("base_relatives", "inverse_base_absolutes", "base_positions", "weights")
    relatives, inverses, skin, weights = (np.array(model[name], np.float64) for name in parts)
    if len(relatives) != ht.BONES:
        raise ValueError(f"a hand has {ht.BONES} bones, got {len(relatives)}")
    theta, points = np.array(given["theta"], np.float64), np.array(data["points"], np.float64)
    fixed = SimpleNamespace(
        parents=model["parents"], mirrored=model["is_mirrored"], corners=corners
    )
    return (theta, u, points, relatives, inverses, skin, weights), fixed


def absolutes(relatives, parents):
    """(B, 4, 4): each bone's motion from the root; all bones of a level are turned at once."""
    depth: list[int] = []
    for parent in parents:  # a parent comes before its children
        depth.append(0 if parent < 0 else depth[parent] + 1)
    place: dict[int, int] = {}
    found = None
    for level in range(max(depth) + 1):
        bones = [b for b, at in enumerate(depth) if at == level]
        turned = relatives[np.array(bones)]
        if found is None:
            found = turned
        else:
            before = np.array([place[parents[b]] for b in bones])
            found = fg.cat([found, found[before] @ turned], 0)
        place |= {b: len(place) + k for k, b in enumerate(bones)}
    return found[np.array([place[b] for b in range(len(parents))])]


def pose(turn, bent, relatives, inverses, fixed):
    """(4 B, 3): what moves blends of places at rest; the hand's own shift is not in it."""
    angles = (fg.from_numpy(ht.bends()) @ bent).reshape(ht.BONES, 3)
    turns = ht.euler(angles[:, np.array([0, 2, 1])], ht.FG)  # the angles are of x, z, y
    posed = fg.cat([relatives[:, :, :3] @ turns, relatives[:, :, 3:]], 2)
    motions = (absolutes(posed, fixed.parents) @ inverses)[:, :3]
    small = (turn * turn).sum() < 1e-8  # where GradBench's reference does not turn at all
    whole = fg.where(small, fg.eye(3, dtype=turn.dtype), ht.rotation(turn, ht.FG))
    if fixed.mirrored:
        whole = whole * fg.tensor([-1.0, 1.0, 1.0], dtype=turn.dtype)
    return fg.permute(motions, (2, 0, 1)).reshape(4 * ht.BONES, 3) @ whole.T


def rest(u, skin, weights, fixed):
    """(c, 4 B): every point's place at rest, blended bone by bone."""
    corners = fixed.corners
    shares = (u[:, 0], u[:, 1], 1 - u[:, 0] - u[:, 1]) if corners.shape[1] == 3 else (1.0,)
    found = 0
    for k, share in enumerate(shares):
        held = weights[corners[:, k]]
        held = held * share[:, None] if corners.shape[1] == 3 else held
        found = found + skin[corners[:, k]][:, :, None] * held[:, None, :]
    return found.reshape(len(corners), 4 * ht.BONES)


def objective(given) -> tuple:
    """(function, its arrays): the residuals (3 c,)."""
    arrays, fixed = hand_of(given)

    def residuals(theta, u, points, relatives, inverses, skin, weights):
        moved = pose(theta[:3], theta[6:], relatives, inverses, fixed)
        place = rest(u, skin, weights, fixed) @ moved + theta[3:6]
        return (points - place).reshape(-1)

    return residuals, arrays


def jacobian(given) -> tuple:
    """(function, its arrays): (3 c, 2 + 26), each point's own two coordinates first, or (3 c, 26)."""
    arrays, fixed = hand_of(given)
    count = len(fixed.corners)

    def columns(theta, u, points, relatives, inverses, skin, weights):
        def moved(turn, bent):
            return pose(turn, bent, relatives, inverses, fixed)

        blend = rest(u, skin, weights, fixed)
        by_pose = fg.cat(fg.jacfwd(moved, argnums=(0, 1))(theta[:3], theta[6:]), 2)
        by_pose = blend @ by_pose.reshape(4 * ht.BONES, 3 * 23)
        by_pose = by_pose.reshape(count, 3, 23)
        shift = fg.eye(3, dtype=theta.dtype) + 0 * points[:, :, None]
        found = [by_pose[:, :, :3], shift, by_pose[:, :, 3:]]
        if fixed.corners.shape[1] == 3:
            by_u = fg.jacfwd(lambda step: rest(u + step, skin, weights, fixed))(0 * u[0])
            by_u = fg.permute(by_u, (2, 0, 1)).reshape(2 * count, 4 * ht.BONES)
            by_u = (by_u @ moved(theta[:3], theta[6:])).reshape(2, count, 3)
            found.insert(0, fg.permute(by_u, (1, 2, 0)))
        return -fg.cat(found, 2).reshape(3 * count, -1)

    return columns, arrays
