"""GradBench's workloads in flatgrad, beside PyTorch and JAX, on one thread.

    python benchmarks/gradbench/run.py                  everything, as a Markdown table
    python benchmarks/gradbench/run.py --only gmm,lstm  these workloads
    python benchmarks/gradbench/run.py --quick          small sizes: does it run?
    python benchmarks/gradbench/run.py --no-peers       flatgrad's formulations alone

Every result must equal the workload's reference before it is timed. A figure is the least of many
runs, in microseconds; a library with several formulations is given its fastest. Ratios are a peer's time
over flatgrad's: above 1, flatgrad is ahead.
"""

from __future__ import annotations

import argparse
import importlib
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

import numpy as np  # noqa: E402

import flatgrad as fg  # noqa: E402

NAMES = (
    "hello", "gmm", "ba", "lstm", "ht", "kmeans", "llsq", "lse", "ode", "det", "particle", "saddle",
)  # fmt: skip
PEERS = ("torch", "jax")
TOLERANCE = 1e-8
SECONDS = 1.0


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


def least(step, seconds: float) -> float:
    """Least microseconds of a run, over `seconds` or three runs, whichever is longer."""
    found, end = [], time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
        if found[0] > 3 * max(seconds, 0.1):
            break
    return 1e6 * min(found)


def ours(workload, arrays) -> dict:
    """Bound functions of every formulation, by name."""
    programs = {}
    for name, function in workload.FORMULATIONS.items():
        bound = fg.compile(function, *arrays)
        programs[name] = lambda bound=bound: bound(*arrays)
    return programs


def peers(workload, arrays, library: str) -> dict:
    """A peer's formulations; none where it cannot express the workload, or is not installed."""
    make = getattr(workload, f"{library}_derivative", None)
    try:
        importlib.import_module(library)
    except ImportError:
        return {}
    made = None if make is None else make([a.copy() for a in arrays])
    if made is None:
        return {}
    steps = made if isinstance(made, list) else [made]
    if library == "jax":
        import jax

        steps = [lambda s=s: jax.block_until_ready(s()) for s in steps]
    return {f"{library} {k}": s for k, s in enumerate(steps)}


def fastest(programs: dict, wanted, seconds: float) -> tuple[str, float]:
    """(name, microseconds) of the fastest program, after all were checked."""
    for name, step in programs.items():
        check(name, step(), wanted)
    times = {name: least(step, seconds) for name, step in programs.items()}
    best = min(times, key=times.get)
    return best, times[best]


def rows(name: str, quick: bool, libraries, seconds: float):
    """A row of the table for each size."""
    workload = importlib.import_module(name)
    sizes = {"quick": workload.QUICK} if quick else workload.SIZES
    for label, size in sizes.items():
        arrays = workload.inputs(**size)
        wanted = leaves(workload.reference(*arrays))
        formulation, mine = fastest(ours(workload, arrays), wanted, seconds)
        cells = [name, label, formulation, f"{mine:,.1f}"]
        for library in libraries:
            programs = peers(workload, arrays, library)
            if not programs:
                cells.append("-")
                continue
            _, other = fastest(programs, wanted, seconds)
            cells.append(f"{other:,.1f} ({other / mine:,.2f})")
        yield cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(NAMES), help="names, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--no-peers", action="store_true", help="flatgrad alone")
    options = parser.parse_args()
    libraries = () if options.no_peers else PEERS
    for library in libraries:
        prepare(library)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
    heads = ["workload", "size", "formulation", "flatgrad, µs"]
    heads += [f"{library}, µs (ratio)" for library in libraries]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in options.only.split(","):
        for cells in rows(name, options.quick, libraries, 0.05 if options.quick else SECONDS):
            print(f"| {' | '.join(cells)} |", flush=True)


def prepare(library: str) -> None:
    """Double precision and one thread."""
    try:
        module = importlib.import_module(library)
    except ImportError:
        return
    if library == "torch":
        module.set_num_threads(1)
    else:
        module.config.update("jax_enable_x64", True)


if __name__ == "__main__":
    main()
