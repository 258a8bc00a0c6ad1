"""A pendulum on a cart and a model-predictive controller: what ``mpc.py`` and ``mpc_neural.py`` share.

The controller minimises a sum of squares over a horizon by Gauss-Newton steps. One flatgrad program has the
exact Jacobians of all stages and the Riccati recursion that solves the linear-quadratic problem they give; a
rollout with a line search takes the step. The loop around them is the user's own Numba function, which calls
them as machine code.
"""

from __future__ import annotations

import time

import numba
import numpy as np

import flatgrad as fg

# State: position of the cart (m), angle from upright (rad), their velocities. Input: force on the cart (N).
GRAVITY, CART, POLE, LENGTH = 9.81, 1.0, 0.2, 0.5
STEP = 0.05  # s
HORIZON = 30
FORCE = 12.0  # N, at most
WEIGHTS = np.array([1.0, 3.0, 0.3, 0.3, 0.05])  # of position, angle, velocities, force
LAST = 5.0  # how much more the last state weighs
HANGING = np.array([0.0, np.pi, 0.0, 0.0])


def acceleration(state, force):
    """Of cart and pole; the pole is a point mass on a massless rod."""
    angle, spin = state[1], state[3]
    s, c = fg.sin(angle), fg.cos(angle)
    cart = (force[0] + POLE * s * (LENGTH * spin * spin - GRAVITY * c)) / (CART + POLE * s * s)
    return fg.stack([cart, (GRAVITY * s - cart * c) / LENGTH])


def step_of(acceleration):
    """A step of Runge and Kutta's method: the next state, a function of state (4,) and force (1,)."""

    def slope(state, force):
        return fg.cat([state[2:], acceleration(state, force)])

    def step(state, force):
        a = slope(state, force)
        b = slope(state + STEP / 2 * a, force)
        c = slope(state + STEP / 2 * b, force)
        d = slope(state + STEP * c, force)
        return state + STEP / 6 * (a + 2 * b + 2 * c + d)

    return step


def residual(state, force):
    """What is squared and summed: the angle as the pole's tip sees it, so that full turns don't count."""
    tip = 2 * fg.sin(state[1] / 2)
    return fg.stack([state[0], tip, state[2], state[3], force[0]]) * fg.from_numpy(WEIGHTS)


def planner_of(acceleration):
    """Gains (HORIZON, 4) and offsets (HORIZON,) of the linear-quadratic problem around a trajectory.

    A function of states (HORIZON + 1, 4) and forces (HORIZON, 1): the exact Jacobians of all stages, and
    Riccati's recursion over them, last stage first.
    """
    step = step_of(acceleration)

    def squares(state, force):
        made = residual(state, force)
        return made, made

    def stage(state, force):
        a, b = fg.func.jacfwd(step, argnums=(0, 1))(state, force)
        (jx, ju), r = fg.func.jacfwd(squares, argnums=(0, 1), has_aux=True)(state, force)
        return a, b[:, 0], jx, ju[:, 0], r

    def backwards(carry, one):
        hessian, slope = carry
        (a, b, jx, ju, r), force = one
        to_b = hessian @ b
        qx, qu = jx.T @ r + a.T @ slope, ju @ r + b @ slope
        qxx, qux = jx.T @ jx + a.T @ (hessian @ a), ju @ jx + to_b @ a
        quu = ju @ ju + b @ to_b
        offset = fg.clamp(-qu / quu, -FORCE - force[0], FORCE - force[0])
        free = offset == -qu / quu  # at a bound the force does not follow the state
        gain = fg.where(free, -qux / quu, 0.0)
        cross = fg.outer(qux, gain)
        hessian = qxx + quu * fg.outer(gain, gain) + cross + cross.T
        slope = qx + gain * (quu * offset + qu) + qux * offset
        return (hessian, slope), (gain, offset)

    def plan(states, forces):
        last, none = states[HORIZON], fg.zeros(1, dtype=states.dtype)
        jx, r = fg.func.jacfwd(squares, has_aux=True)(last, none)
        start = LAST * jx.T @ jx, LAST * jx.T @ r
        stages = fg.func.vmap(stage)(states[:HORIZON], forces)
        return fg.scan(backwards, start, (stages, forces), reverse=True)[1]

    return plan


class Controller:
    """Programs of a model, and the control loop around them.

    Attributes
    ----------
    control : Numba function
        ``control(state, forces, iterations)`` improves `forces` (HORIZON, 1) in place and returns the cost.
    compile_seconds : float
    """

    def __init__(self, acceleration):
        state, force = np.zeros(4), np.zeros(1)
        states, forces = np.zeros((HORIZON + 1, 4)), np.zeros((HORIZON, 1))
        started = time.perf_counter()
        self.step = fg.compile(step_of(acceleration), state, force)
        self.residual = fg.compile(residual, state, force)
        self.plan = fg.compile(planner_of(acceleration), states, forces)
        self.control = _control_loop(self.step.njit_out, self.residual.njit_out, self.plan.njit_out)
        self.control(HANGING, forces, 1)
        self.compile_seconds = time.perf_counter() - started


def _control_loop(step, residual, plan):
    @numba.njit
    def rollout(start, forces, old, gains, offsets, rate, states, new):
        """The cost of following the gains from `start`, at `rate`; fills `states` and `new` forces."""
        r, none = np.empty(5), np.zeros(1)
        states[0] = start
        cost = 0.0
        for t in range(HORIZON + 1):
            last = t == HORIZON
            if not last:
                u = forces[t, 0] + rate * offsets[t]
                for k in range(4):
                    u += gains[t, k] * (states[t, k] - old[t, k])
                new[t, 0] = min(max(u, -FORCE), FORCE)
                step(states[t], new[t], states[t + 1])
            residual(states[t], none if last else new[t], r)
            for k in range(5):
                cost += (LAST if last else 1.0) * r[k] * r[k]
        return cost

    @numba.njit
    def control(state, forces, iterations):
        states, trial = np.empty((HORIZON + 1, 4)), np.empty((HORIZON + 1, 4))
        new = np.empty((HORIZON, 1))
        gains, offsets = np.zeros((HORIZON, 4)), np.zeros(HORIZON)
        cost = rollout(state, forces, states, gains, offsets, 0.0, states, new)
        for _ in range(iterations):
            plan(states, forces, gains, offsets)
            rate = 1.0
            while rate > 0.05:
                tried = rollout(state, forces, states, gains, offsets, rate, trial, new)
                if tried < cost:
                    cost = tried
                    states[:], forces[:] = trial, new
                    break
                rate *= 0.5
        return cost

    return control


def swing_up(
    controller: Controller, plant, seconds: float = 6.0, iterations: int = 2, seed: int = 0
):
    """Run the closed loop from hanging still: (states, forces, seconds of each control step).

    `plant` is the true system's step, ``plant(state, force, out)``.
    """
    rng = np.random.default_rng(seed)
    count = int(seconds / STEP)
    states, applied, spent = np.empty((count + 1, 4)), np.empty(count), np.empty(count)
    states[0] = HANGING
    forces = rng.normal(size=(HORIZON, 1))  # exactly symmetric, hanging still is a saddle
    controller.control(states[0], forces, 50)
    for t in range(count):
        started = time.perf_counter()
        controller.control(states[t], forces, iterations)
        spent[t] = time.perf_counter() - started
        applied[t] = forces[0, 0]
        states[t + 1] = plant(states[t], forces[0])
        forces[:-1] = forces[1:]
    return states, applied, spent


def report(states, applied, spent) -> dict:
    """Print and return how it went."""
    late = states[-20:]
    tilt = np.abs(np.arctan2(np.sin(late[:, 1]), np.cos(late[:, 1]))).max()
    found = {
        "tilt": tilt,
        "reach": np.abs(states[:, 0]).max(),
        "force": np.abs(applied).max(),
        "median": np.median(spent),
        "p99": np.quantile(spent, 0.99),
    }
    print(f"tilt in the last second       {np.degrees(tilt):.2f} degrees")
    print(f"furthest from the middle      {found['reach']:.2f} m")
    print(f"largest force                 {found['force']:.1f} N of {FORCE:g} N")
    print(
        f"control step, median and 99 % {1e6 * found['median']:.0f} us and {1e6 * found['p99']:.0f} us"
    )
    return found


def plot(path: str, states, applied, title: str) -> None:
    """The swing as a picture: angle, position and force over time."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    t = STEP * np.arange(len(states))
    figure, axes = plt.subplots(3, 1, sharex=True, figsize=(7, 6))
    axes[0].plot(t, np.degrees(states[:, 1]))
    axes[0].set_ylabel("angle from upright, degrees")
    axes[1].plot(t, states[:, 0])
    axes[1].set_ylabel("cart, m")
    axes[2].step(t[:-1], applied, where="post")
    axes[2].axhline(FORCE, ls=":", c="gray")
    axes[2].axhline(-FORCE, ls=":", c="gray")
    axes[2].set_ylabel("force, N")
    axes[2].set_xlabel("time, s")
    axes[0].set_title(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")
