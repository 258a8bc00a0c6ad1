"""Steps of estimation and control beside CasADi and hand-written Numba: ``python benchmarks/robotics.py``.

Everything is called from a Numba loop, as a robot's control loop would; CasADi's functions as the C it
generates, compiled with ``gcc -O3 -march=native`` (where there is a gcc), and from Python through its virtual
machine.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np

import flatgrad as fg
import tables

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))
import cartpole  # noqa: E402
import ekf  # noqa: E402

CALLS = 2000


def best(run, repeat: int = 7) -> float:
    """Microseconds a call, of ``run(CALLS)``."""
    run(1)
    found = []
    for _ in range(repeat):
        started = time.perf_counter()
        run(CALLS)
        found.append(time.perf_counter() - started)
    return 1e6 * min(found) / CALLS


def looped(fill, *arrays):
    """``run(count)``: calls of a function that fills its last arrays."""

    @numba.njit
    def loop(count, arrays):
        for k in range(count):
            arrays[0].flat[0] += 1e-9 * (k % 2)
            fill(*arrays)

    return lambda count: loop(count, arrays)


# -- CasADi ---------------------------------------------------------------------------------------


def casadi_of(casadi):
    """The same formulas as CasADi's functions: a step of the filter, and Jacobians of all stages."""
    sx = casadi.SX

    state, covariance, measured = sx.sym("x", 5), sx.sym("P", 5, 5), sx.sym("z", 6)
    middle = state[2] + ekf.STEP / 2 * state[4]
    moved = casadi.vertcat(
        state[0] + ekf.STEP * state[3] * casadi.cos(middle),
        state[1] + ekf.STEP * state[3] * casadi.sin(middle),
        state[2] + ekf.STEP * state[4],
        state[3],
        state[4],
    )
    f = casadi.jacobian(moved, state)
    now = f @ covariance @ f.T + ekf.DRIVE
    at = sx.sym("y", 5)

    def wrap(angle):
        return angle - 2 * np.pi * casadi.floor((angle + np.pi) / (2 * np.pi))

    d = [casadi.SX(mark) - at[:2] for mark in ekf.LANDMARKS]
    seen = casadi.vertcat(
        *[casadi.sqrt(v[0] ** 2 + v[1] ** 2) for v in d],
        *[wrap(casadi.atan2(v[1], v[0]) - at[2]) for v in d],
    )
    look = casadi.Function("look", [at], [seen, casadi.jacobian(seen, at)])
    expected, h = look(moved)
    innovation = measured - expected
    innovation = casadi.vertcat(innovation[:3], *[wrap(innovation[k]) for k in range(3, 6)])
    estimate, squared = moved, 0
    for k in range(6):
        row = h[k, :]
        left = innovation[k] - row @ (estimate - moved)
        variance = row @ now @ row.T + ekf.NOISE[k]
        gain = now @ row.T / variance
        keep = casadi.SX.eye(5) - gain @ row
        now = keep @ now @ keep.T + ekf.NOISE[k] * gain @ gain.T
        estimate, squared = estimate + gain * left, squared + left**2 / variance
    filter_step = casadi.Function(
        "filter_step", [state, covariance, measured], [estimate, now, squared]
    )

    s, u = sx.sym("s", 4), sx.sym("u", 1)

    def slope(s):
        sn, c = casadi.sin(s[1]), casadi.cos(s[1])
        pull = cartpole.LENGTH * s[3] ** 2 - cartpole.GRAVITY * c
        cart = (u + cartpole.POLE * sn * pull) / (cartpole.CART + cartpole.POLE * sn**2)
        return casadi.vertcat(
            s[2], s[3], cart, (cartpole.GRAVITY * sn - cart * c) / cartpole.LENGTH
        )

    dt = cartpole.STEP
    a = slope(s)
    b = slope(s + dt / 2 * a)
    c = slope(s + dt / 2 * b)
    after = s + dt / 6 * (a + 2 * b + 2 * c + slope(s + dt * c))
    one = casadi.Function("stage", [s, u], [casadi.jacobian(after, s), casadi.jacobian(after, u)])
    return filter_step, one.map(cartpole.HORIZON)


def compiled_c(function, folder: str, shapes):
    """``run(count)`` of CasADi's generated C, called from a Numba loop; None without a compiler."""
    source, library = Path(folder) / "c.c", Path(folder) / f"{function.name()}.so"
    name = function.name()
    generator = importlib.import_module("casadi").CodeGenerator(source.name)
    generator.add(function)
    generator.generate(f"{folder}/")
    try:
        subprocess.run(
            ["gcc", "-O3", "-march=native", "-shared", "-fPIC", "-o", library, source, "-lm"],
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    call = getattr(ctypes.CDLL(str(library)), name)
    call.argtypes, call.restype = [ctypes.c_void_p] * 5, ctypes.c_int
    sizes = [function.sz_arg(), function.sz_res(), function.sz_iw(), function.sz_w()]
    arrays = [np.full(shape, 0.3) for shape in shapes]
    count = function.n_in()
    arguments, results = np.zeros(max(1, sizes[0]), np.int64), np.zeros(max(1, sizes[1]), np.int64)
    arguments[:count] = [a.ctypes.data for a in arrays[:count]]
    results[: len(arrays) - count] = [a.ctypes.data for a in arrays[count:]]
    integers, work = np.zeros(max(1, sizes[2]), np.int64), np.zeros(max(1, sizes[3]))

    @numba.njit
    def loop(calls, first, arguments, results, integers, work):
        for k in range(calls):
            first.flat[0] += 1e-9 * (k % 2)
            call(arguments.ctypes, results.ctypes, integers.ctypes, work.ctypes, 0)

    return lambda calls: loop(calls, arrays[0], arguments, results, integers, work)


# -- the table ------------------------------------------------------------------------------------


def by_hand():
    """The filter's step as somebody would write it for Numba, derivatives by hand."""
    marks, noise, drive, dt = ekf.LANDMARKS, ekf.NOISE, ekf.DRIVE, ekf.STEP

    @numba.njit
    def step(state, covariance, measured, new, out):
        s = np.sin(state[2] + dt / 2 * state[4])
        c = np.cos(state[2] + dt / 2 * state[4])
        f = np.eye(5)
        f[0, 2], f[0, 3], f[0, 4] = -dt * state[3] * s, dt * c, -dt * state[3] * s * dt / 2
        f[1, 2], f[1, 3], f[1, 4] = dt * state[3] * c, dt * s, dt * state[3] * c * dt / 2
        f[2, 4] = dt
        new[:] = state
        new[0] += dt * state[3] * c
        new[1] += dt * state[3] * s
        new[2] += dt * state[4]
        out[:] = f @ covariance @ f.T + drive
        before = new.copy()
        squared = 0.0
        h = np.zeros(5)
        for k in range(6):
            dx, dy = marks[k % 3, 0] - before[0], marks[k % 3, 1] - before[1]
            r = np.sqrt(dx * dx + dy * dy)
            if k < 3:
                h[0], h[1], h[2] = -dx / r, -dy / r, 0.0
                left = measured[k] - r
            else:
                h[0], h[1], h[2] = dy / (r * r), -dx / (r * r), -1.0
                left = measured[k] - (np.arctan2(dy, dx) - before[2])
                left -= 2 * np.pi * np.floor((left + np.pi) / (2 * np.pi))
            for j in range(3):
                left -= h[j] * (new[j] - before[j])
            to_h = out @ h
            variance = h @ to_h + noise[k]
            gain = to_h / variance
            keep = np.eye(5) - np.outer(gain, h)
            out[:] = keep @ out @ keep.T + noise[k] * np.outer(gain, gain)
            new += gain * left
            squared += left * left / variance
        return squared

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without the controller's own loop")
    tables.add_option(parser)
    options = parser.parse_args()
    rows = []
    state, measured = ekf.START.copy(), np.array([13.0, 11.0, 17.0, 1.0, -2.0, 1.5])
    given = state, ekf.SPREAD, measured, np.empty(5), np.empty((5, 5))
    ours = fg.compile(ekf.filter_step, *given[:3]).njit_out
    rows.append(["EKF step", best(looped(ours, *given)), best(looped(by_hand(), *given))])

    states, forces = np.full((cartpole.HORIZON, 4), 0.3), np.full((cartpole.HORIZON, 1), 0.3)
    stage = fg.func.jacfwd(cartpole.step_of(cartpole.acceleration), argnums=(0, 1))
    a, b = np.empty((cartpole.HORIZON, 4, 4)), np.empty((cartpole.HORIZON, 4, 1))
    jacobians = fg.compile(fg.func.vmap(stage), states, forces).njit_out
    rows.append(["Jacobians of 30 stages", best(looped(jacobians, states, forces, a, b)), None])

    machines: list = [[None, None], [None, None]]
    try:
        import casadi
    except ImportError:
        print("!! casadi is NOT INSTALLED, its columns are empty")
    else:
        functions = casadi_of(casadi)
        shapes = [
            [(5,), (5, 5), (6,), (5,), (5, 5), ()],
            [(30, 4), (30,), (480,), (120,)],
        ]
        inputs = [(state, ekf.SPREAD, measured), (states.T, forces.T)]
        with tempfile.TemporaryDirectory() as folder:
            for k, function in enumerate(functions):
                run = compiled_c(function, folder, shapes[k])
                numbers = [casadi.DM(x) for x in inputs[k]]

                def virtual(count, function=function, numbers=numbers):
                    for _ in range(min(count, 300)):
                        function(*numbers)

                machines[k] = [best(run) if run else None, best(virtual) * CALLS / 300]

    print("| step, us | flatgrad | by hand, Numba | CasADi, C | CasADi, from Python |")
    print("|---|---|---|---|---|")
    compared: list[dict] = []
    for (name, *mine), theirs in zip(rows, machines, strict=True):
        cells = ["-" if x is None else f"{x:.2f}" for x in (*mine, *theirs)]
        print(f"| {name} | {' | '.join(cells)} |")
        peers = zip(("hand-written Numba", "CasADi's C"), (mine[1], theirs[0]), strict=True)
        compared += [tables.row(name, peer, mine[0], x) for peer, x in peers if x is not None]
    tables.write(options.json, compared)
    if options.quick:
        return

    for name, model in (("cart and pole", None), ("network", "mpc_neural")):
        learned = cartpole.acceleration
        if model:
            import mpc_neural

            learned, _ = mpc_neural.train(300, 0)
        controller = cartpole.Controller(learned)
        forces = np.zeros((cartpole.HORIZON, 1))
        start = np.array([0.2, 0.3, 0.0, 0.1])
        controller.control(start, forces, 20)
        spent = []
        for _ in range(200):
            started = time.perf_counter()
            controller.control(start, forces, 2)
            spent.append(time.perf_counter() - started)
        median, late = 1e6 * np.median(spent), 1e6 * np.quantile(spent, 0.99)
        print(
            f"control step, horizon 30, two iterations, {name}: median {median:.0f} us, 99 % {late:.0f} us; "
            f"compiled in {controller.compile_seconds:.1f} s"
        )


if __name__ == "__main__":
    main()
