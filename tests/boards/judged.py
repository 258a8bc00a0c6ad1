"""The functions that exports are judged by, of a size for boards: {name: (function, arguments, donated)}."""

from __future__ import annotations

import numpy as np

import flatgrad as fg
from flatgrad import nn

__all__ = ["NAMES", "judged"]

RATE, MOMENTUM = np.float32(0.1), np.float32(0.9)
STEP = 0.1
LANDMARKS = [[5.0, 1.0], [-2.0, 4.0]]


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def motion(state):
    """A unicycle: position, heading, speed."""
    heading, speed = state[2], state[3]
    way = fg.stack([speed * fg.cos(heading), speed * fg.sin(heading), 0.2 * speed, 0.0 * speed])
    return state + STEP * way


def sight(state):
    """Distance and direction of each landmark."""
    d = fg.tensor(LANDMARKS, dtype=state.dtype) - state[:2]
    distance = fg.sqrt((d * d).sum(1))
    return fg.cat([distance, fg.atan2(d[:, 1], d[:, 0]) - state[2]])


def ekf_step(state, covariance, measured):
    eye = fg.eye(4, dtype=state.dtype)
    f = fg.func.jacfwd(motion)(state)
    state = motion(state)
    covariance = f @ covariance @ f.T + 0.01 * eye
    h = fg.func.jacfwd(sight)(state)
    spread = h @ covariance @ h.T + 0.05 * eye
    gain = fg.linalg.solve(spread, h @ covariance).T
    state = state + gain @ (measured - sight(state))
    return state, covariance - gain @ h @ covariance


def mpc_cost(start, controls):
    """A pendulum that is to stand upright."""

    def step(state, u):
        angle, rate = state[0], state[1]
        rate = rate + STEP * (9.81 * fg.sin(angle) - 0.5 * rate + u)
        state = fg.stack([angle + STEP * rate, rate])
        return state, 1 - fg.cos(state[0]) + 0.1 * state[1] ** 2 + 0.01 * u * u

    return fg.func.scan(step, start, controls)[1].sum()


def stepped(loss):
    """A training step, SGD with momentum, of ``loss(params, x, labels)``."""

    def step(params, velocity, x, labels):
        value, gradient = fg.func.value_and_grad(loss)(params, x, labels)
        velocity = {k: MOMENTUM * velocity[k] + gradient[k] for k in params}
        return {k: params[k] - RATE * velocity[k] for k in params}, velocity, value

    return step


def digits_loss(p, x, labels):
    hidden = fg.relu(x @ p["w"] + p["b"])
    return nn.functional.cross_entropy(hidden @ p["v"] + p["c"], labels)


def cnn_loss(p, x, labels):
    hidden = nn.functional.max_pool2d(fg.relu(nn.functional.conv2d(x, p["k"], p["b"])), 2)
    return nn.functional.cross_entropy(hidden.flatten(1) @ p["w"] + p["c"], labels)


def iterated(x, rows):
    """A thousand steps of a recurrence."""

    def step(state, row):
        state = fg.tanh(0.9 * state + fg.roll(state, 1) * row)
        return state, state[0]

    final, seen = fg.func.scan(step, x, rows)
    return final, seen.sum()


def judged(dtype) -> dict[str, tuple]:
    """With arguments of `dtype`."""
    rng = np.random.default_rng(7)
    fg.manual_seed(7)

    def normal(*shape):
        return (0.3 * rng.standard_normal(shape)).astype(dtype)

    def zeros(params):
        return {k: np.zeros_like(v) for k, v in params.items()}

    lstm = nn.LSTM(6, 8).to(fg.tensor(np.zeros(1, dtype)).dtype)
    lstm.requires_grad_(False)
    mlp = {"w": normal(64, 24), "b": normal(24), "v": normal(24, 10), "c": normal(10)}
    cnn = {"k": normal(4, 1, 3, 3), "b": normal(4), "w": normal(36, 10), "c": normal(10)}
    covariance = np.eye(4, dtype=dtype)
    state = np.array([0.1, -0.2, 0.3, 1.0], dtype)
    start = np.array([3.0, 0.1], dtype)
    return {
        "rosenbrock": (fg.func.grad(rosenbrock), (normal(6),), ()),
        "ekf": (ekf_step, (state, covariance, normal(4)), ()),
        "mpc": (fg.func.grad(mpc_cost, argnums=1), (start, normal(20)), ()),
        "digits": (
            stepped(digits_loss),
            (mlp, zeros(mlp), normal(8, 64), rng.integers(0, 10, 8)),
            (0, 1),
        ),
        "cnn": (
            stepped(cnn_loss),
            (cnn, zeros(cnn), normal(4, 1, 8, 8), rng.integers(0, 10, 4)),
            (0, 1),
        ),
        "lstm": (lambda x: lstm(x)[0], (normal(12, 6),), ()),
        "iterated": (iterated, (normal(5), normal(1000, 5)), ()),
    }


NAMES = ["rosenbrock", "ekf", "mpc", "digits", "cnn", "lstm", "iterated"]
