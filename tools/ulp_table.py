"""Measure the scalar functions' largest errors and print them as docs/numerics.md's table.

    python tools/ulp_table.py [--step 997] [--points 300] [name ...]

float32 is measured at every `step`-th of all 2**32 floats against float64, float64 at `points` points of
each kind (tests/support/ulps.py) against mpmath.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from flatgrad.emit.mathlib import FUNCTIONS, expand  # noqa: E402
from flatgrad.graph import dtypes  # noqa: E402
from flatgrad.lower import ir  # noqa: E402
from support.evaluate_expr import evaluate  # noqa: E402
from support.ulps import REFERENCES, errors_32, errors_64, exact, pairs, points  # noqa: E402


def worst_32(name: str, step: int) -> float:
    definition = FUNCTIONS[name]
    rng = np.random.default_rng(20240917)
    if definition.arity == 2:
        chunks = [pairs(name, np.float32, rng, 2**32 // step // 50) for _ in range(16)]
    else:
        edges = np.linspace(0, 2**32, 17, dtype=np.int64)
        chunks = [
            (np.arange(low, high, step, dtype=np.uint32).view(np.float32),)
            for low, high in pairwise(edges)
        ]
    return max(_errors_32(name, arrays).max() for arrays in chunks)


def _errors_32(name, arrays):
    with np.errstate(all="ignore"):
        wanted = REFERENCES[name].double(*(a.astype(np.float64) for a in arrays))
    return errors_32(_run(name, dtypes.float32, arrays), wanted, FUNCTIONS[name].absolute_below)


def worst_64(name: str, count: int) -> float:
    rng = np.random.default_rng(20240917)
    if FUNCTIONS[name].arity == 2:
        arrays = pairs(name, np.float64, rng, 3 * count)
    else:
        arrays = (points(np.float64, rng, count),)
    got = _run(name, dtypes.float64, arrays)
    return errors_64(got, exact(name, *arrays), FUNCTIONS[name].absolute_below).max()


def _run(name, dtype, arrays):
    names = "xy"[: len(arrays)]
    expression = expand(name, [ir.var(n, dtype) for n in names])
    return evaluate(expression, **dict(zip(names, arrays, strict=True)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=997)
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("names", nargs="*", default=list(FUNCTIONS))
    options = parser.parse_args()
    print("| function | float32 measured | stated | float64 measured | stated |")
    print("|---|---|---|---|---|")
    for name in options.names or FUNCTIONS:
        single, double = worst_32(name, options.step), worst_64(name, options.points)
        stated = FUNCTIONS[name].ulp
        print(
            f"| {name} | {single:.2f} | {stated[0]:g} | {double:.2f} | {stated[1]:g} |", flush=True
        )


if __name__ == "__main__":
    main()
