"""The judged programs as CasADi expressions, and calls of C libraries from compiled loops.

For ``export.py``. CasADi's own way to fast code is one scalar expression graph without loops (``SX``), so
that is what it gets, of 1,000 steps as well.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np

import robotics

FLAGS = ["gcc", "-std=c99", "-O3", "-march=native", "-ffp-contract=off"]
CLANG = [sys.executable, "-m", "ziglang", "cc", *FLAGS[1:], "-fno-sanitize=all"]
PEER_FLAGS = ["gcc", "-O3", "-march=native"]  # CasADi's may contract, as gcc does by itself


def compiled(flags: list[str], source: Path, library: Path) -> float:
    """Seconds that the C compiler takes to make a shared library."""
    started = time.perf_counter()
    subprocess.run([*flags, "-shared", "-fPIC", "-o", library, source, "-lm"], check=True)
    return time.perf_counter() - started


# -- CasADi's formulas ----------------------------------------------------------------------------


def rosenbrock(casadi, cartpole):
    x = casadi.SX.sym("x", 10)
    head, tail = x[:-1], x[1:]
    value = casadi.sum1((1 - head) ** 2 + 100 * (tail - head**2) ** 2)
    return casadi.Function("rosenbrock", [x], [value, casadi.gradient(value, x)])


def ekf(casadi, cartpole):
    return robotics.casadi_of(casadi)[0]


def mpc(casadi, cartpole):
    sx = casadi.SX
    forces, start = sx.sym("u", cartpole.HORIZON), sx.sym("s", 4)
    weights = casadi.DM(cartpole.WEIGHTS)

    def slope(s, u):
        sn, c = casadi.sin(s[1]), casadi.cos(s[1])
        pull = cartpole.LENGTH * s[3] ** 2 - cartpole.GRAVITY * c
        cart = (u + cartpole.POLE * sn * pull) / (cartpole.CART + cartpole.POLE * sn**2)
        turn = (cartpole.GRAVITY * sn - cart * c) / cartpole.LENGTH
        return casadi.vertcat(s[2], s[3], cart, turn)

    def spent(s, u):
        tip = 2 * casadi.sin(s[1] / 2)
        return casadi.sumsqr(casadi.vertcat(s[0], tip, s[2], s[3], u) * weights)

    dt, state, cost = cartpole.STEP, start, 0
    for t in range(cartpole.HORIZON):
        u = forces[t]
        cost += spent(state, u)
        a = slope(state, u)
        b = slope(state + dt / 2 * a, u)
        c = slope(state + dt / 2 * b, u)
        state = state + dt / 6 * (a + 2 * b + 2 * c + slope(state + dt * c, u))
    cost += cartpole.LAST * spent(state, 0)
    return casadi.Function("mpc", [forces, start], [cost, casadi.gradient(cost, forces)])


def scan(casadi, cartpole):
    sx, steps, h = casadi.SX, 1000, 0.01
    p, start, force = sx.sym("p", 4), sx.sym("s", 2), sx.sym("f", steps)
    angle, speed, total = start[0], start[1], 0
    for t in range(steps):
        speed = speed + h * (p[2] * force[t] - p[0] * casadi.sin(angle) - p[1] * speed)
        angle = angle + h * speed
        total += (angle - p[3]) ** 2
    value = total / steps
    slopes = [casadi.gradient(value, x) for x in (p, start)]
    return casadi.Function("scan", [p, start, force], [value, *slopes])


EXPRESSIONS = {"rosenbrock": rosenbrock, "ekf": ekf, "mpc": mpc, "scan": scan}


# -- calls ----------------------------------------------------------------------------------------


def pointers(arrays) -> np.ndarray:
    return np.array([a.ctypes.data for a in arrays] or [0], np.int64)


def casadi_run(casadi, function, folder: Path, arrays: list, results: list):
    """(``run(count)`` of the C that CasADi makes of a function, seconds of gcc)."""
    source = folder / f"casadi_{function.name()}.c"
    generator = casadi.CodeGenerator(source.name)
    generator.add(function)
    generator.generate(f"{folder}/")
    library = source.with_suffix(".so")
    seconds = compiled(PEER_FLAGS, source, library)
    call = getattr(ctypes.CDLL(str(library)), function.name())
    call.argtypes, call.restype = [ctypes.c_void_p] * 5, ctypes.c_int
    given, made = np.zeros(function.sz_arg(), np.int64), np.zeros(function.sz_res(), np.int64)
    given[: len(arrays)], made[: len(results)] = pointers(arrays), pointers(results)
    integers, work = np.zeros(function.sz_iw() + 1, np.int64), np.zeros(function.sz_w() + 1)

    @numba.njit
    def loop(count, first, given, made, integers, work):
        for k in range(count):
            first[0] += 1e-12 * (k % 2)
            call(given.ctypes, made.ctypes, integers.ctypes, work.ctypes, 0)

    return lambda count: loop(count, arrays[0].reshape(-1), given, made, integers, work), seconds


def export_run(made, folder: Path, arrays: list, results: list, flags=FLAGS):
    """(``run(count)`` of an export, seconds of its compiler)."""
    library = folder / f"{made.name}_{len(flags)}.so"
    seconds = compiled(flags, made.files[f"{made.name}.c"], library)
    room = np.zeros(made.memory["work"] + 64, np.uint8)
    work = room[-room.ctypes.data % 64 :]  # aligned
    return calls(library, made.name, arrays, results, work), seconds


EMPTY = "int empty(const double *const *in, double *const *out, void *work)\n{\n    return 0;\n}\n"


def empty_run(folder: Path):
    """``run(count)`` of an exported function's face with nothing behind it."""
    source = folder / "empty.c"
    source.write_text(EMPTY)
    compiled(FLAGS, source, source.with_suffix(".so"))
    one = np.zeros(1)
    return calls(source.with_suffix(".so"), "empty", [one], [one], one)


def calls(library: Path, name: str, arrays: list, results: list, work: np.ndarray):
    """``run(count)`` of a function of a library with export's face."""
    call = getattr(ctypes.CDLL(str(library)), name)
    call.argtypes, call.restype = [ctypes.c_void_p] * 3, ctypes.c_int
    given, to = pointers(arrays), pointers(results)

    @numba.njit
    def loop(count, first, given, to, work):
        for k in range(count):
            first[0] += 1e-12 * (k % 2)
            call(given.ctypes, to.ctypes, work.ctypes)

    return lambda count: loop(count, arrays[0].reshape(-1), given, to, work)


def numba_run(program, arrays: list, results: list):
    """``run(count)`` of the program that ``fg.compile`` made, which LLVM puts into the loop.

    It returns the numbers among its results, and does not compute what the loop has no use for.
    """
    fill = program.njit_out
    filled = tuple(r for r in results if r.ndim)
    numbers = len(results) - len(filled)

    @numba.njit
    def used(found):
        if numbers == 0:
            return 0.0
        return found if numbers == 1 else sum(found)

    @numba.njit
    def loop(count, first, arrays):
        total = 0.0
        for k in range(count):
            first[0] += 1e-12 * (k % 2)
            total += used(fill(*arrays))
        return total

    every = (*arrays, *filled)
    return lambda count: loop(count, arrays[0].reshape(-1), every)


def pointer_run(program, arrays: list, results: list):
    """``run(count)`` of the same program as C functions are called: by its address."""
    count = len(arrays) + len(results)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * count)(program.cfunc.address)
    names = [f"a{k}" for k in range(count)]
    text = f"""
def loop(count, first, {", ".join(names)}):
    for k in range(count):
        first[0] += 1e-12 * (k % 2)
        call({", ".join(f"{n}.ctypes" for n in names)})
"""
    scope = {"call": call}
    exec(text, scope)
    loop = numba.njit(scope["loop"])
    every = (*arrays, *results)
    return lambda count: loop(count, arrays[0].reshape(-1), *every)
