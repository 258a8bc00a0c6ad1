"""An extended Kalman filter: where a vehicle is, from ranges and bearings to landmarks, a microsecond a step.

Run it with ``python examples/ekf.py [--plot ekf.png]`` (the picture needs matplotlib). Motion and measurement
are ordinary flatgrad functions; their exact Jacobians, the prediction and the update are one program, called
from the user's own Numba loop.
"""

from __future__ import annotations

import argparse
import time

import numba
import numpy as np

import flatgrad as fg

# State: position x, y (m), heading (rad), speed (m/s), turn rate (rad/s).
STEP = 0.05  # s
LANDMARKS = np.array([[0.0, 12.0], [15.0, -6.0], [-10.0, -8.0]])
RANGE, BEARING = 0.3, 0.03  # standard deviations of a measurement, m and rad
DRIVE = np.diag([1e-8, 1e-8, 1e-8, 0.5 * STEP, 0.3 * STEP])  # covariance of what a step adds
START = np.array([5.0, 0.0, np.pi / 2, 3.0, 0.5])
SPREAD = np.diag([4.0, 4.0, 0.2, 1.0, 0.1])  # covariance of the first estimate


def motion(state):
    """The state one step later: along the heading, which turns."""
    x, y, heading, speed, turn = state
    middle = heading + STEP / 2 * turn
    moved = [x + STEP * speed * fg.cos(middle), y + STEP * speed * fg.sin(middle)]
    return fg.stack([*moved, heading + STEP * turn, speed, turn])


def measurement(state):
    """Ranges, then bearings relative to the heading, to all landmarks: shape (6,)."""
    dx, dy = (fg.from_numpy(LANDMARKS) - state[:2]).unbind(1)
    return fg.cat([fg.sqrt(dx * dx + dy * dy), wrapped(fg.atan2(dy, dx) - state[2])])


def wrapped(angle):
    """An angle in [-pi, pi)."""
    return angle - 2 * np.pi * fg.floor((angle + np.pi) / (2 * np.pi))


NOISE = np.repeat([RANGE**2, BEARING**2], len(LANDMARKS))


def filter_step(state, covariance, measured):
    """The new estimate, its covariance, and the normalised innovation squared.

    Rows of a measurement are independent, so they update one after the other (Joseph's form), and nothing
    is inverted.
    """

    def with_value(f):
        return fg.func.jacfwd(lambda s: (f(s), f(s)), has_aux=True)

    f, state = with_value(motion)(state)
    covariance = f @ covariance @ f.T + fg.from_numpy(DRIVE)
    h, expected = with_value(measurement)(state)
    innovation = measured - expected
    count = len(LANDMARKS)
    innovation = fg.cat([innovation[:count], wrapped(innovation[count:])])

    def update(carry, row):
        state, covariance, squared = carry
        h, innovation, noise = row
        left = innovation - h @ (state - predicted)
        variance = h @ covariance @ h + noise
        gain = covariance @ h / variance
        keep = fg.eye(5, dtype=h.dtype) - fg.outer(gain, h)
        covariance = keep @ covariance @ keep.T + noise * fg.outer(gain, gain)
        return (state + gain * left, covariance, squared + left * left / variance), None

    predicted = state
    rows = h, innovation, fg.from_numpy(NOISE)
    start = state, covariance, fg.zeros((), dtype=state.dtype)
    return fg.scan(update, start, rows)[0]


def simulate(steps: int, seed: int):
    """True states (steps, 5) and their measurements (steps, 6)."""
    rng = np.random.default_rng(seed)
    root = np.sqrt(np.diag(DRIVE))
    move, look = fg.compile(motion, START), fg.compile(measurement, START)
    states, measured = np.empty((steps, 5)), np.empty((steps, 6))
    state = START
    for t in range(steps):
        state = move(state) + root * rng.normal(size=5)
        states[t] = state
        measured[t] = look(state) + np.sqrt(NOISE) * rng.normal(size=6)
    return states, measured


def run_filter(measured: np.ndarray, first: np.ndarray):
    """Estimates (steps, 5), covariances (steps, 5, 5), innovations (steps,), and seconds a step."""
    step = fg.compile(filter_step, first, SPREAD, measured[0]).njit_out

    @numba.njit
    def loop(state, covariance, measured, states, covariances, squared):
        for t in range(len(measured)):
            squared[t] = step(state, covariance, measured[t], states[t], covariances[t])
            state, covariance = states[t], covariances[t]

    steps = len(measured)
    out = np.empty((steps, 5)), np.empty((steps, 5, 5)), np.empty(steps)
    loop(first, SPREAD, measured[:1], *out)
    started = time.perf_counter()
    loop(first, SPREAD, measured, *out)
    return *out, (time.perf_counter() - started) / steps


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", metavar="PATH", help="write a picture of the drive")
    options = parser.parse_args(arguments)
    states, measured = simulate(options.steps, options.seed)
    rng = np.random.default_rng(options.seed + 1)
    first = START + np.linalg.cholesky(SPREAD) @ rng.normal(size=5)
    estimates, covariances, squared, seconds = run_filter(measured, first)

    error = estimates - states
    nees = np.einsum("ti,tij,tj->t", error, np.linalg.inv(covariances), error)
    late = slice(options.steps // 10, None)
    found = {
        "rmse": float(np.sqrt((error[late, :2] ** 2).sum(1).mean())),
        "nees": float(nees[late].mean()),
        "nis": float(squared[late].mean()),
        "seconds": seconds,
    }
    print(f"error of the position          {found['rmse']:.3f} m (a single range: {RANGE} m)")
    print(f"normalised error squared       {found['nees']:.2f}, of a consistent filter 5")
    print(f"normalised innovation squared  {found['nis']:.2f}, of a consistent filter 6")
    print(f"a step, Jacobians and all      {1e6 * seconds:.2f} us")
    if options.plot:
        plot(options.plot, states, estimates, covariances)
    return found


def plot(path: str, states, estimates, covariances) -> None:
    """The track, the landmarks, and ellipses of ten standard deviations (two would be too small to see)."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Ellipse

    figure, axes = plt.subplots(figsize=(7, 7))
    part = slice(0, 400)
    axes.plot(*states[part, :2].T, label="true")
    axes.plot(*estimates[part, :2].T, "--", label="estimated")
    axes.plot(*LANDMARKS.T, "k^", label="landmarks")
    for t in range(20, 400, 20):
        values, vectors = np.linalg.eigh(covariances[t, :2, :2])
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        width, height = 20 * np.sqrt(values[::-1])
        axes.add_patch(
            Ellipse(estimates[t, :2], width, height, angle=angle, fill=False, color="C1")
        )
    axes.set_aspect("equal")
    axes.set_xlabel("x, m")
    axes.set_ylabel("y, m")
    axes.legend()
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
