"""GradBench's workloads in flatgrad, beside hand-written C, PyTorch and JAX, on one thread.

    python benchmarks/gradbench/run.py                  everything, as a Markdown table
    python benchmarks/gradbench/run.py --only gmm,lstm  these workloads
    python benchmarks/gradbench/run.py --quick          small sizes: does it run?
    python benchmarks/gradbench/run.py --peers c        beside C alone; `--peers none`: flatgrad alone
    python benchmarks/gradbench/run.py --all            and the time of every formulation
    python benchmarks/gradbench/run.py --json FILE      the same figures for other programs

Every result must equal the workload's reference before it is timed. A figure is the least of many
runs, in microseconds; all columns of a row take turns, and a library with several formulations is given its
fastest. Ratios are another column's time over flatgrad's: above 1, flatgrad is ahead. The last
rows are geometric means of the ratios: of each workload's sizes, then of the workloads.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import sys
import time
from pathlib import Path

# One thread, for every library, before any is imported.
for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

sys.path.insert(0, str(Path(__file__).parent))

import native  # noqa: E402
import numpy as np  # noqa: E402

import flatgrad as fg  # noqa: E402

NAMES = (
    "hello", "gmm", "ba", "lstm", "ht", "ht_theta", "kmeans", "llsq", "lse", "ode", "det", "particle",
    "saddle",
)  # fmt: skip
PEERS = {
    "c": "C",
    "c-fast": "C -ffast-math",
    "torch": "PyTorch",
    "jax": "JAX",
}
TOLERANCE = 1e-8
FILLING = "flatgrad, filling"  # arrays that are given
ROUNDS = 5


def leaves(result) -> list[np.ndarray]:
    """The arrays of a result: an array, a tensor, or a tuple of them."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in leaves(part)]
    return [np.asarray(result.detach() if hasattr(result, "detach") else result)]


def check(name: str, result, wanted) -> None:
    """Raise unless all arrays are equal, relative to the largest element of each."""
    result = leaves(result)
    if len(result) != len(wanted):
        raise AssertionError(f"{name}: {len(wanted)} arrays are required, got {len(result)}")
    for got, want in zip(result, wanted, strict=True):
        scale = np.abs(want).max(initial=1e-300)
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * scale, err_msg=name)


def ours(workload, arrays) -> dict:
    """Every formulation as Python calls it, and twice as C is called, filling arrays that are given: with
    ``out=``, and through ctypes, as the hand-written C is."""
    programs = {}
    for name, function in workload.FORMULATIONS.items():
        bound = fg.compile(function, *arrays)
        programs["flatgrad", name] = lambda bound=bound: bound(*arrays)
        results = bound(*arrays)
        if not isinstance(results, float):
            programs[FILLING, name] = lambda b=bound, r=results: b(*arrays, out=r)
        targets = tuple([r if isinstance(r, np.ndarray) else np.empty(()) for r in tree(results)])
        function = native.at_address(bound.cfunc.address)
        call = native.bind(function, *arrays, *targets)
        programs[FILLING, f"{name}, pointers"] = native.returning(call, targets)
    for name, make in getattr(workload, "CALLED", {}).items():
        programs["flatgrad", name] = make(arrays)
    return programs


def tree(results) -> tuple:
    return results if isinstance(results, tuple) else (results,)


def in_c(workload, arrays, flags) -> list:
    """The hand-written C's formulations."""
    library = native.load(getattr(workload, "LIBRARY", workload.__name__), flags)
    return workload.c_derivative(arrays, library)


def in_library(workload, arrays, library: str) -> list:
    """A peer's formulations; none where it cannot express the workload."""
    make = getattr(workload, f"{library}_derivative", None)
    made = None if make is None else make([a.copy() for a in arrays])
    steps = made if isinstance(made, list) else [made] if made else []
    if library == "jax":
        import jax

        return [lambda s=s: jax.block_until_ready(s()) for s in steps]
    return steps


def all_programs(workload, arrays, peers) -> dict:
    """``{(column, formulation): function}`` of flatgrad and of the peers."""
    programs = ours(workload, arrays)
    for peer in peers:
        if peer in ("c", "c-fast"):
            steps = in_c(workload, arrays, native.FLAGS if peer == "c" else native.FAST_FLAGS)
        else:
            steps = in_library(workload, arrays, peer)
        programs |= {(peer, str(k)): step for k, step in enumerate(steps)}
    return programs


def least(programs: dict, seconds: float) -> dict:
    """Least microseconds of a run of each program; they take turns, `seconds` each in all."""
    found = dict.fromkeys(programs, math.inf)
    for turn in range(ROUNDS):
        for key, step in programs.items():
            if turn and 1e-6 * found[key] > seconds:
                continue  # one run is long enough
            end = time.perf_counter() + seconds / ROUNDS
            while True:
                start = time.perf_counter()
                step()
                now = time.perf_counter()
                found[key] = min(found[key], 1e6 * (now - start))
                if now > end:
                    break
    return found


def measured(name: str, label: str, size: dict, peers, seconds: float) -> dict:
    """One row: the fastest formulation of each column."""
    workload = importlib.import_module(name)
    arrays = workload.inputs(**size)
    wanted = leaves(workload.reference(*arrays))
    programs = all_programs(workload, arrays, peers)
    for key, step in programs.items():
        check(f"{name}, {label}, {key}", step(), wanted)
    times, formulations = {}, {}
    every = least(programs, seconds)
    for (column, formulation), spent in every.items():
        if spent < times.get(column, math.inf):
            times[column], formulations[column] = spent, formulation
    return {
        "workload": name,
        "size": label,
        "formulation": formulations["flatgrad"],
        "us": times,
        "all": {
            f"{column}: {formulation}": spent for (column, formulation), spent in every.items()
        },
    }


def ratio(row: dict, peer: str) -> float | None:
    """A peer's time over flatgrad's; C fills given arrays, so it is compared with what does so too."""
    times = row["us"]
    own = times[FILLING if peer in ("c", "c-fast") else "flatgrad"]
    return times[peer] / own if peer in times else None


def mean(values) -> float | None:
    """Geometric mean of what is known."""
    logs = [math.log(v) for v in values if v is not None]
    return math.exp(sum(logs) / len(logs)) if logs else None


def means(rows: list[dict], peer: str) -> dict:
    """The mean ratio of each workload, and of all of them as ``"all"``."""
    names = dict.fromkeys(row["workload"] for row in rows)
    found = {n: mean(ratio(row, peer) for row in rows if row["workload"] == n) for n in names}
    return found | {"all": mean(found.values())}


def cell(row: dict, column: str) -> str:
    if column not in row["us"]:
        return "-"
    text = f"{row['us'][column]:,.1f}"
    return text if column not in PEERS else f"{text} ({ratio(row, column):,.2f})"


def table(rows: list[dict], peers) -> str:
    """The rows, then the geometric means, as Markdown."""
    columns = ["flatgrad", FILLING, *peers]
    heads = ["workload", "size", "formulation", "flatgrad, µs", "into given arrays, µs"]
    heads += [f"{PEERS[p]}, µs (ratio)" for p in peers]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        begin = [row["workload"], row["size"], row["formulation"]]
        lines.append(begin + [cell(row, c) for c in columns])
    found = {p: means(rows, p) for p in peers}
    for name in [*dict.fromkeys(row["workload"] for row in rows), "all"] if peers else ():
        ratios = [found[p][name] for p in peers]
        cells = ["-" if r is None else f"{r:,.2f}" for r in ratios]
        lines.append([f"**{name}**", "geometric mean", "", "", "", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def available(peers) -> list[str]:
    """Those of the peers that are installed, made ready; the others are named on standard error."""
    found = []
    for peer in peers:
        try:
            prepare(peer)
        except (ImportError, FileNotFoundError) as missing:
            print(f"without {PEERS[peer]}: {missing}", file=sys.stderr)
        else:
            found.append(peer)
    return found


def prepare(peer: str) -> None:
    """Double precision and one thread."""
    if peer in ("c", "c-fast"):
        if native.compiler() is None:
            raise FileNotFoundError("gcc was not found")
    elif peer == "torch":
        importlib.import_module("torch").set_num_threads(1)
    else:
        importlib.import_module("jax").config.update("jax_enable_x64", True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(NAMES), help="names, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--peers", default=",".join(PEERS), help="c,c-fast,torch,jax or none")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each program")
    parser.add_argument("--all", action="store_true", help="every formulation's time as well")
    parser.add_argument("--json", type=Path, help="a file that gets the figures")
    options = parser.parse_args()
    peers = available([] if options.peers == "none" else options.peers.split(","))
    seconds = min(options.seconds, 0.05) if options.quick else options.seconds
    rows = []
    for name in options.only.split(","):
        workload = importlib.import_module(name)
        sizes = {"quick": workload.QUICK} if options.quick else workload.SIZES
        for label, size in sizes.items():
            rows.append(measured(name, label, size, peers, seconds))
            print(f"{name}, {label}", file=sys.stderr)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
    print(table(rows, peers))
    for row in rows if options.all else ():
        times = ", ".join(f"{name} {spent:,.1f}" for name, spent in row["all"].items())
        print(f"\n{row['workload']}, {row['size']}: {times}")
    if options.json:
        found = {p: means(rows, p) for p in peers}
        options.json.write_text(json.dumps({"rows": rows, "means": found}, indent=1))


if __name__ == "__main__":
    main()
