"""Forward and backward in one program beside hand-fused C: ``python benchmarks/fusion.py [--quick]``.

The C (``benchmarks/fusion_c``) is the same gradient written by hand in one go over the data, compiled for
the very sizes, like ours: ``gcc -O3 -march=native``, and again with ``-ffast-math``, without which gcc
vectorises neither a sum nor ``expf``. The quicker of the two is "the C" of the ratio. Everything is
called from Numba loops, in turns, and the least time counts. Answers are compared first.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

import numba
import numpy as np

import flatgrad as fg
import tables
from suite.fused import CASES

FOLDER = Path(__file__).parent / "fusion_c"
FLAGS = {"C": (), "C, -ffast-math": ("-ffast-math",)}
TARGET = 1.3

# Called with the same numbers again and again, an inlined program might be computed once.
CHANGE = "a0.flat[0] += 1e-9 * (k % 2)"


def hand_written(name: str, sizes, folder: str, flags) -> object:
    """The C function `name` for these sizes, as ctypes sees it."""
    library = Path(folder) / f"{name}_{'_'.join(map(str, sizes))}{''.join(flags)}.so"
    command = ["gcc", "-std=c99", "-O3", "-march=native", *flags, "-shared", "-fPIC"]
    command += [f"-DROWS={sizes[0]}", f"-DCOLS={sizes[1]}", FOLDER / f"{name}.c"]
    subprocess.run([*command, "-o", library, "-lmvec", "-lm"], check=True)
    return getattr(ctypes.CDLL(str(library)), name)


def c_loop(function, arrays):
    """``run(count)``: calls of a C function from a Numba loop."""
    function.argtypes, function.restype = [ctypes.c_void_p] * len(arrays), None
    names = [f"a{k}" for k in range(len(arrays))]
    pointers = ", ".join(f"{n}.ctypes" for n in names)
    text = f"def loop(count, {', '.join(names)}):\n    for k in range(count):\n        {CHANGE}\n"
    namespace = {"function": function}
    exec(f"{text}        function({pointers})", namespace)
    loop = numba.njit(namespace["loop"])
    return lambda count: loop(count, *arrays)


def our_loop(program, given, results):
    """The same for a compiled function: results without dimensions come back as numbers."""
    fill = program.njit_out
    filled = tuple(r for r in results if r.shape)
    numbers = [r for r in results if not r.shape]

    @numba.njit
    def loop(count, arrays):
        found = fill(*arrays)
        for k in range(1, count):
            a0 = arrays[0]
            a0.flat[0] += 1e-9 * (k % 2)
            found = fill(*arrays)
        return found

    def run(count):
        found = loop(count, (*given, *filled))
        for place in numbers:
            place[()] = found

    return run


def timed(runs: dict, seconds: float) -> dict:
    """Microseconds a call, each: the least of many short repetitions in turns."""
    counts = {}
    for name, run in runs.items():
        run(1)
        started = time.perf_counter()
        run(10)
        counts[name] = max(1, int(10 * 5e-4 / max(time.perf_counter() - started, 1e-7)))
    found = dict.fromkeys(runs, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in runs.items():
            started = time.perf_counter()
            run(counts[name])
            spent = (time.perf_counter() - started) / counts[name]
            found[name] = min(found[name], 1e6 * spent)
    return found


def measure(name: str, sizes, folder: str, seconds: float) -> dict:
    """{column: microseconds} of one program."""
    case = CASES[name]
    given, results = case.arguments(*sizes), case.results(*sizes)
    runs = {"flatgrad": our_loop(fg.compile(case.function, *given), given, results)}
    runs["flatgrad"](1)
    for column, flags in FLAGS.items():
        theirs = case.results(*sizes)
        runs[column] = c_loop(hand_written(name, sizes, folder, flags), (*given, *theirs))
        runs[column](1)
        for ours, other in zip(results, theirs, strict=True):
            np.testing.assert_allclose(ours, other, rtol=2e-4, atol=2e-5 * abs(other).max())
    return timed(runs, seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="short timings, the large sizes only")
    parser.add_argument("--only", choices=CASES, help="one program")
    tables.add_option(parser)
    options = parser.parse_args()
    print(f"| forward and backward, us | size | flatgrad | {' | '.join(FLAGS)} | ratio to the C |")
    print("|---|---|---|" + "---|" * (len(FLAGS) + 1))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            if options.only not in (None, name):
                continue
            for sizes in case.sizes[: 1 if options.quick else None]:
                found = measure(name, sizes, folder, 0.1 if options.quick else 0.6)
                ratio = found["flatgrad"] / min(found[column] for column in FLAGS)
                times = " | ".join(f"{t:.2f}" for t in found.values())
                mark = "" if ratio <= TARGET else " (!)"
                size = " x ".join(map(str, sizes))
                best = min(found[column] for column in FLAGS)
                label = f"{case.title}, {size}"
                rows.append(tables.row(label, "hand-fused C", found["flatgrad"], best, TARGET))
                print(f"| {case.title} | {size} | {times} | {ratio:.2f}{mark} |", flush=True)
    behind = sum(map(tables.misses, rows))
    mean = tables.geometric_mean(rows)
    print(f"\nGeometric mean {mean:.2f}; {behind} of {len(rows)} above {TARGET} (!).")
    tables.write(options.json, rows)


if __name__ == "__main__":
    main()
