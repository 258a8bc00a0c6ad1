"""Small linear algebra in machine code beside NumPy's: ``python benchmarks/linalg.py``.

flatgrad's from a Numba loop, as a filter or a controller would call it, and ``numpy.linalg`` from the same
kind of loop (Numba calls LAPACK for it). Ratios are LAPACK's time over ours: above 1, flatgrad is ahead.
"""

from __future__ import annotations

import argparse
import time

import numba
import numpy as np

import flatgrad as fg
import tables

SIZES = (2, 3, 6, 12, 30, 90)


def best(run, count: int) -> float:
    """Nanoseconds a call."""
    run(1)
    found = []
    for _ in range(7):
        started = time.perf_counter()
        run(count)
        found.append(time.perf_counter() - started)
    return 1e9 * min(found) / count


def loop_of(function, *arrays):
    @numba.njit
    def loop(count, arrays):
        total = 0.0
        for _ in range(count):
            total += function(*arrays).flat[0]
        return total

    return lambda count: loop(count, arrays)


@numba.njit
def solve(a, b):
    return np.linalg.solve(a, b)


@numba.njit
def inverse(a):
    return np.linalg.inv(a)


@numba.njit
def cholesky(a):
    return np.linalg.cholesky(a)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small systems, few calls")
    tables.add_option(parser)
    options = parser.parse_args()
    rows = []
    rng = np.random.default_rng(0)
    la = fg.linalg
    print("| n | solve, ns (ratio) | inv, ns (ratio) | cholesky, ns (ratio) |\n|---|---|---|---|")
    for n in SIZES[:3] if options.quick else SIZES:
        a = rng.normal(size=(n, n))
        a = a @ a.T + n * np.eye(n)
        b = rng.normal(size=(n, 1))
        count = max(20, (20_000 if options.quick else 2_000_000) // n**3)
        cells = []
        for ours, theirs, arrays in (
            (la.solve, solve, (a, b)),
            (la.inv, inverse, (a,)),
            (la.cholesky, cholesky, (a,)),
        ):
            mine = best(loop_of(fg.compile(ours, *arrays).njit, *arrays), count)
            other = best(loop_of(theirs, *arrays), count)
            cells.append(f"{mine:,.0f} ({other / mine:.2f})")
            label = f"{ours.__name__}, n = {n}"
            rows.append(tables.row(label, "LAPACK through Numba", mine, other, unit="ns"))
        print(f"| {n} | {' | '.join(cells)} |")
    tables.write(options.json, rows)


if __name__ == "__main__":
    main()
