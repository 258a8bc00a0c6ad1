"""ht: Jacobian of hand tracking's residuals by the pose, and by where on its triangle each point lies.

A pose (rotation, translation, four angles a finger) turns the bones of a hand; every vertex of its skin
follows a weighted mean of the bones; each observed point is compared with a point of a triangle, given by two
coordinates ``u`` of its own.
The Jacobian by all ``u`` is block diagonal: the same small step of all of them at once gives its two columns.
The hand is generated: its shape does not matter for the time.
"""

from __future__ import annotations

from types import SimpleNamespace

import native
import numpy as np

import flatgrad as fg

SIZES = {
    "small,c=100": {"vertices": 544, "c": 100},
    "small,c=800": {"vertices": 544, "c": 800},
    "big,c=100": {"vertices": 10_000, "c": 100},
    "big,c=800": {"vertices": 10_000, "c": 800},
}
QUICK = {"vertices": 30, "c": 6}

FINGERS, JOINTS = 5, 4
BONES = 2 + FINGERS * JOINTS  # forearm, palm, and the fingers' bones, a finger after the other
# Which bones are as many steps from the forearm: all of a level are turned at once.
LEVELS = [[1], *[[2 + JOINTS * f + j for f in range(FINGERS)] for j in range(JOINTS)]]


def parent(bone: int) -> int:
    return bone - 1 if bone < 2 or (bone - 2) % JOINTS else 1


def bends() -> np.ndarray:
    """(3 BONES, 20): the Euler angles of all bones are this times a pose's finger angles."""
    table = np.zeros((BONES, 3, 4 * FINGERS))
    for f in range(FINGERS):
        for k, (joint, axis) in enumerate([(0, 0), (0, 1), (1, 0), (2, 0)]):
            table[2 + JOINTS * f + joint, axis, 4 * f + k] = 1
    return table.reshape(3 * BONES, 4 * FINGERS)


def inputs(vertices: int, c: int) -> tuple:
    """theta (26,), u (c, 2), points (c, 3), corners (c, 3), and the hand: turns (22, 3, 3) and shifts (22, 3)
    of bones in their parents, the inverses of both from the root, skin (V, 3), weights (V, 22)."""
    rng = np.random.default_rng(1)
    theta = 0.3 * rng.standard_normal(26)
    turns = np.stack([np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(BONES)])
    turns = turns.copy("C")
    shifts = 0.4 * rng.standard_normal((BONES, 3))
    whole, at = [turns[0]], [shifts[0]]
    for bone in range(1, BONES):
        whole.append(whole[parent(bone)] @ turns[bone])
        at.append(whole[parent(bone)] @ shifts[bone] + at[parent(bone)])
    back = np.stack([w.T for w in whole]).copy("C")
    origin = np.stack([-w.T @ t for w, t in zip(whole, at, strict=True)])
    skin = rng.standard_normal((vertices, 3))
    weights = np.zeros((vertices, BONES))
    for row in weights:
        row[rng.permutation(BONES)[:4]] = rng.dirichlet(np.ones(4))
    corners = rng.integers(0, vertices, (c, 3))
    u, points = rng.uniform(0.1, 0.4, (c, 2)), rng.standard_normal((c, 3))
    return theta, u, points, corners, turns, shifts, back, origin, skin, weights


def rotation(axis, m):
    """The rotation matrix of an axis times an angle."""
    x, y, z = axis[0], axis[1], axis[2]
    square = x * x + y * y + z * z
    small = square < 1e-8
    safe = m.sqrt(m.where(small, m.ones_like(square), square))  # the root's slope at 0 is infinite
    sine = m.where(small, m.ones_like(square), m.sin(safe) / safe)
    one = m.where(small, 0 * square, (1 - m.cos(safe)) / (safe * safe))
    rows = [
        [1 - one * (y * y + z * z), one * x * y - sine * z, one * x * z + sine * y],
        [one * x * y + sine * z, 1 - one * (x * x + z * z), one * y * z - sine * x],
        [one * x * z - sine * y, one * y * z + sine * x, 1 - one * (x * x + y * y)],
    ]
    return m.stack([m.stack(row, 0) for row in rows], 0)


def euler(angles, m):
    """(B, 3, 3): rotations about x, then y, then z, by angles (B, 3)."""
    (sx, sy, sz), (cx, cy, cz) = m.sin(angles).T, m.cos(angles).T
    rows = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
        [-sy, sx * cy, cx * cy],
    ]
    return m.stack([m.stack(row, 1) for row in rows], 1)


def bone_motions(bent, turns, shifts, back, origin, m):
    """(22, 12): what each bone does to the skin of the hand at rest, a 3 x 4 matrix. `bent`: 20 angles."""
    angles = (m.asarray(bends()) @ bent).reshape(BONES, 3)
    turned = turns @ euler(angles, m)
    whole, at = [turned[:1]], [shifts[:1]]
    number = {0: 0}  # where a bone's matrices stand among those found so far
    for level in map(np.array, LEVELS):
        before = np.array([number[parent(int(b))] for b in level])
        up, there = m.cat(whole, 0)[before], m.cat(at, 0)[before]
        number |= {int(b): len(number) + k for k, b in enumerate(level)}
        whole.append(up @ turned[level])
        at.append((up @ shifts[level][:, :, None])[:, :, 0] + there)
    order = np.array([number[b] for b in range(BONES)])
    whole, at = m.cat(whole, 0)[order], m.cat(at, 0)[order]
    moved = (whole @ origin[:, :, None])[:, :, 0] + at
    return m.cat([whole @ back, moved[:, :, None]], 2).reshape(BONES, 12)


def skinned(theta, motions, skin, weights, m):
    """(V, 3): the vertices of the moved hand."""
    blend = (weights @ motions).reshape(len(skin), 3, 4)
    hand = (blend[:, :, :3] * skin[:, None, :]).sum(2) + blend[:, :, 3]
    return hand @ rotation(theta[:3], m).T + theta[3:6]


def residuals(theta, u, points, corners, turns, shifts, back, origin, skin, weights, m, early):
    """(3 c,): of all points. `early`: only the vertices of triangles that are looked at are moved."""
    motions = bone_motions(theta[6:], turns, shifts, back, origin, m)
    count = len(corners)
    if early:
        used = corners.reshape(-1)
        corner = skinned(theta, motions, skin[used], weights[used], m).reshape(count, 3, 3)
    else:
        corner = skinned(theta, motions, skin, weights, m)[corners]
    share = m.cat([u, 1 - u.sum(1)[:, None]], 1)
    return (points - (share[:, :, None] * corner).sum(1)).reshape(3 * count)


def columns(jacfwd, m, early, both=True):
    """A function of the inputs: (3 c, 28), the columns of u, then those of theta (alone without `both`)."""

    def jacobian(theta, u, *rest):
        if not both:
            return jacfwd(lambda theta: residuals(theta, u, *rest, m, early))(theta)

        def moved(step):
            return residuals(step[2:], u + step[:2], *rest, m, early)

        return jacfwd(moved)(m.cat([0 * u[0], theta], 0))

    return jacobian


def pose_matrix(turn, bent, turns, shifts, back, origin, m):
    """(88, 3): what moves a place at rest, given four times for each bone: times the bone's weight."""
    motions = bone_motions(bent, turns, shifts, back, origin, m).reshape(BONES, 3, 4)
    return m.permute(motions, (2, 0, 1)).reshape(4 * BONES, 3) @ rotation(turn, m).T


def by_pose(jacfwd, m, both=True):
    """The same. Moving is linear: each point's place at rest is blended bone by bone, one
    matrix of the pose moves all of them, and what is differentiated is that matrix."""

    def jacobian(theta, u, points, corners, turns, shifts, back, origin, skin, weights):
        count = len(corners)
        parts = [(skin[corners[:, k]], weights[corners[:, k]]) for k in range(3)]

        def rest(u):
            shares = u[:, 0], u[:, 1], 1 - u[:, 0] - u[:, 1]
            found = 0
            for share, (place, weight) in zip(shares, parts, strict=True):
                held = weight * share[:, None]
                found = found + m.cat([place[:, :, None] * held[:, None, :], held[:, None, :]], 1)
            return found.reshape(count, 4 * BONES)

        def pose(turn, bent):
            return pose_matrix(turn, bent, turns, shifts, back, origin, m)

        by_turn, by_bent = jacfwd(pose, argnums=(0, 1))(theta[:3], theta[6:])
        moved = m.cat([by_turn, by_bent], 2).reshape(4 * BONES, 3 * 23)
        moved = (rest(u) @ moved).reshape(count, 3, 23)
        shift = m.asarray(np.eye(3)) + 0 * points[:, :, None]
        by_theta = moved[:, :, :3], shift, moved[:, :, 3:]
        if not both:
            return -m.cat(list(by_theta), 2).reshape(3 * count, 26)
        by_u = m.permute(jacfwd(lambda step: rest(u + step))(0 * u[0]), (2, 0, 1))
        by_u = (by_u.reshape(2 * count, 4 * BONES) @ pose(theta[:3], theta[6:])).reshape(
            2, count, 3
        )
        whole = m.cat([m.permute(by_u, (1, 2, 0)), *by_theta], 2)
        return -whole.reshape(3 * count, 28)

    return jacobian


def by_vertices(jacfwd, m, both=True):
    """The same, all vertices moved in all columns by one product, and then looked at."""

    def jacobian(theta, u, points, corners, turns, shifts, back, origin, skin, weights):
        count = len(corners)

        def pose(turn, bent):
            return pose_matrix(turn, bent, turns, shifts, back, origin, m)

        def blend(u, corner):
            shares = u[:, 0], u[:, 1], 1 - u[:, 0] - u[:, 1]
            parts = [s.reshape(count, 1, 1) * corner[k] for k, s in enumerate(shares)]
            return parts[0] + parts[1] + parts[2]

        given = theta[:3], theta[6:]
        columns = m.cat([pose(*given)[:, :, None], *jacfwd(pose, argnums=(0, 1))(*given)], 2)
        held = skin[:, :, None] * weights[:, None, :]
        rest = m.cat([held, weights[:, None, :]], 1).reshape(len(skin), 4 * BONES)
        moved = (rest @ columns.reshape(4 * BONES, 3 * 24)).reshape(len(skin), 3, 24)
        seen = [moved[corners[:, k]] for k in range(3)]
        mean = blend(u, seen)
        shift = m.asarray(np.eye(3)) + 0 * points[:, :, None]
        by_theta = mean[:, :, 1:4], shift, mean[:, :, 4:]
        if not both:
            return -m.cat(list(by_theta), 2).reshape(3 * count, 26)
        places = [s[:, :, :1] for s in seen]
        by_u = jacfwd(lambda step: blend(u + step, places)[:, :, 0])(0 * u[0])
        return -m.cat([by_u, *by_theta], 2).reshape(3 * count, 28)

    return jacobian


FG = SimpleNamespace(
    sin=fg.sin, cos=fg.cos, sqrt=fg.sqrt, where=fg.where, stack=fg.stack, cat=fg.cat,
    ones_like=fg.ones_like, asarray=fg.from_numpy, permute=fg.permute,
)  # fmt: skip


def formulations(jacfwd, m, both=True) -> dict:
    """Functions of the inputs, by name."""
    return {
        "jacfwd of the pose": by_pose(jacfwd, m, both),
        "jacfwd of the pose, all vertices": by_vertices(jacfwd, m, both),
        "gather, then skin": columns(jacfwd, m, True, both),
        "skin, then gather": columns(jacfwd, m, False, both),
    }


FORMULATIONS = formulations(fg.func.jacfwd, FG)


def reference(theta, u, *rest) -> np.ndarray:
    """Steps along the imaginary axis: exact to rounding, as the residuals are analytic."""
    m = SimpleNamespace(
        sin=np.sin, cos=np.cos, sqrt=np.sqrt, where=np.where, stack=np.stack, cat=np.concatenate,
        ones_like=np.ones_like, asarray=np.asarray,
    )  # fmt: skip
    found = []
    for k in range(28):
        step = np.zeros(28, complex)
        step[k] = 1e-30j
        found.append(residuals(theta + step[2:], u + step[:2], *rest, m, True).imag / 1e-30)
    return np.stack(found, 1)


def c_derivative(arrays, library, both=True):
    """With all vertices moved, and only those that are looked at."""
    theta, u, _, corners, *hand = arrays
    vertices, c = len(hand[-1]), len(corners)
    fields, jacobian = np.empty((vertices, 63)), np.empty((3 * c, 28 if both else 26))
    steps = []
    for work in (fields, None):
        numbers = c, vertices, int(both)
        call = native.bind(library.ht, theta, u, corners, *hand, *numbers, work, jacobian)
        steps.append(native.returning(call, jacobian))
    return steps


def torch_derivative(arrays, both=True):
    import torch

    arrays = [torch.from_numpy(a) for a in arrays]
    steps = formulations(torch.func.jacfwd, torch, both).values()
    return [lambda step=step: step(*arrays) for step in steps]


def jax_derivative(arrays, both=True):
    import jax
    import jax.numpy as jnp

    names = ("sin", "cos", "sqrt", "where", "stack", "ones_like", "asarray")
    m = SimpleNamespace(
        cat=jnp.concatenate, permute=jnp.transpose, **{n: getattr(jnp, n) for n in names}
    )
    arrays = [jnp.asarray(a) for a in arrays]
    steps = [jax.jit(step) for step in formulations(jax.jacfwd, m, both).values()]
    return [lambda step=step: step(*arrays) for step in steps]
