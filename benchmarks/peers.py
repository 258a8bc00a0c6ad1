"""flatgrad beside PyTorch, torch.compile, JAX, CasADi and HIPS autograd, on one thread.

    python benchmarks/peers.py                        everything, as a Markdown table
    python benchmarks/peers.py --only rosenbrock      cases whose name contains the word
    python benchmarks/peers.py --quick                one sample, small sizes: does it run?
    python benchmarks/peers.py --json figures.json    the figures, for a program

Every library gets the same inputs, computes the same formula, written once, and must give the same
results before anything is timed. All are timed in their steady state: compiled, warm, one thread
pinned to one processor, in turns (A B C, A B C, ...), so that the machine's drift meets all of them
alike. A figure is the repeats' median; of imports, the least. flatgrad and PyTorch's eager mode
record each step anew; the others call what was compiled before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

# One thread, for every library, before any is imported.
for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

import libraries
from bound import CALLS, FACES
from libraries import NotAvailableError

LIBRARIES = libraries.LIBRARIES | FACES

# -- formulas, written once -----------------------------------------------------------------------


def rosenbrock(m, x):
    return m.sum((1 - x[:-1]) ** 2) + 100 * m.sum((x[1:] - x[:-1] ** 2) ** 2)


def logistic(m, w, features, labels):
    return m.sum(m.log1p(m.exp(-labels * (features @ w)))) / features.shape[0]


def logsumexp(m, x):
    return m.logsumexp(x)


def attention(m, q, k, v):
    out = m.softmax((q @ k.T) / np.sqrt(q.shape[1]).item()) @ v
    return m.sum(out * out)


def network(m, w1, w2, w3, x, y):
    out = m.tanh(m.tanh(m.tanh(x @ w1) @ w2) @ w3)
    return m.sum((out - y) ** 2)


def chain(m, x):
    """Ten transcendental functions."""
    y = m.log1p(m.exp(m.sin(x)))
    y = m.tanh(m.cos(m.exp(-y)))
    return m.sin(m.exp(m.tanh(m.log1p(y * y))))


def chain_sum(m, x):
    return m.sum(chain(m, x))


# -- cases: (name, what is computed, formula, inputs, number of inputs differentiated) -------------


def cases(quick: bool):
    rng = np.random.default_rng(7)

    def normal(*shape):
        return rng.standard_normal(shape)

    gradient = "gradient"
    for n in (2, 100) if quick else (2, 10, 100, 1000):
        yield f"Rosenbrock gradient, n={n}", gradient, rosenbrock, (0.5 * normal(n),), 1
    for n in (2,) if quick else (2, 10):
        name, point = f"Rosenbrock value and gradient, n={n}", (0.5 * normal(n),)
        yield f"{name}, NumPy in and out", "bound", rosenbrock, point, 1
        yield f"{name}, given memory", "bound_out", rosenbrock, point, 1
        yield f"{name}, {CALLS} calls from njit", "inside", rosenbrock, point, 1
    x, labels = normal(500, 20), np.sign(normal(500))
    yield "logistic regression gradient, 500x20", gradient, logistic, (normal(20), x, labels), 1
    yield "digits training step, MLP 64-128-64-10, batch 64", "training", None, (), 0
    for power in (3,) if quick else (3, 4, 5, 6):
        yield (
            f"logsumexp, value and gradient, n=10^{power}",
            "gradient",
            logsumexp,
            (normal(10**power),),
            1,
        )
    yield (
        "attention gradient, T=64, d=32",
        gradient,
        attention,
        [normal(64, 32) for _ in range(3)],
        3,
    )
    layers = (0.3 * normal(16, 32), 0.3 * normal(32, 32), 0.3 * normal(32, 4))
    arrays = (*layers, normal(32, 16), normal(32, 4))
    yield "tanh network, 3 layers, Hessian-vector product", "hvp", network, arrays, 3
    big = normal(10**4 if quick else 10**6).astype(np.float32)
    yield f"10 transcendental ops over {big.size:.0e} float32, forward", "forward", chain, (big,), 1
    yield (
        f"10 transcendental ops over {big.size:.0e} float32, gradient",
        "gradient",
        chain_sum,
        (big,),
        1,
    )


# -- measuring ------------------------------------------------------------------------------------


def prepare(library, what, formula, arrays, count):
    """A callable that runs one step to its end and returns its results."""
    if what == "training":
        return library.training(*training_data())
    if what == "hvp":
        rng = np.random.default_rng(8)
        directions = [rng.standard_normal(a.shape) for a in arrays[:count]]
        return library.hvp(formula, arrays, directions)
    if not hasattr(library, what):
        raise NotAvailableError("-")
    return getattr(library, what)(formula, arrays, count)


def training_data():
    """The batch and the initial weights, the same for all."""
    x, y = digits()
    return initial_weights(), x[:64], y[:64]


def initial_weights() -> list:
    rng = np.random.default_rng(9)
    weights = []
    for n, m in pairwise((64, 128, 64, 10)):
        bound = n**-0.5
        weights.append(rng.uniform(-bound, bound, (m, n)).astype(np.float32))
        weights.append(rng.uniform(-bound, bound, m).astype(np.float32))
    return weights


def digits():
    """1,797 real handwritten digits; noise of their shape where scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        rng = np.random.default_rng(10)
        return rng.random((1797, 64), dtype=np.float32), rng.integers(0, 10, 1797)
    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target.astype(np.int64)


def check_equal(name, results: dict) -> None:
    """All libraries computed the same numbers, and these are not nothing."""
    reference = results["flatgrad"]
    assert all(np.isfinite(r).all() and np.any(r) for r in reference), f"{name}: nothing to compare"
    tolerance = 2e-3 if reference[-1].dtype == np.float32 else 1e-8
    for library, found in results.items():
        assert len(found) == len(reference), f"{name}: {library} returns {len(found)} arrays"
        for a, b in zip(reference, found, strict=True):
            scale = float(np.abs(a).max())
            worst = float(np.abs(a - np.asarray(b).reshape(a.shape)).max())
            assert worst <= tolerance * scale, f"{name}: flatgrad and {library} differ by {worst:g}"


def measure(steps: dict, repeat: int, budget: float) -> dict[str, float]:
    """Median seconds a call, for each; all take turns."""
    loops = {}
    for name, step in steps.items():
        step()
        start = time.perf_counter()
        step()
        loops[name] = max(1, int(budget / max(time.perf_counter() - start, 1e-7)))
    samples: dict[str, list] = {name: [] for name in steps}
    for _ in range(repeat):
        for name, step in steps.items():
            rounds = range(loops[name])
            start = time.perf_counter()
            for _ in rounds:
                step()
            samples[name].append((time.perf_counter() - start) / loops[name])
    return {name: statistics.median(s) for name, s in samples.items()}


def run_case(case, libraries_: dict, repeat: int, budget: float, quick: bool):
    name, what, *rest = case
    steps, cells = {}, {}
    for key, library in libraries_.items():
        try:
            step = prepare(library, what, *rest)
            for _ in range(2 if quick else 5):
                step()
            steps[key] = step
        except NotAvailableError as reason:
            cells[key] = str(reason)
        except Exception as error:
            if key == "flatgrad":
                raise
            # A peer that can't do it is no reason to lose the other figures; the table says so.
            cells[key] = f"fails: {type(error).__name__}"
            print(f"   {key}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
    if what != "training":
        check_equal(name, {k: libraries_[k].numpy(step()) for k, step in steps.items()})
    else:
        check_equal(name, {k: [np.float32(step())] for k, step in steps.items()})
    return measure(steps, repeat, budget) | cells


# -- processes: import and memory -----------------------------------------------------------------


def import_seconds(modules: dict[str, str], repeat: int) -> dict[str, float]:
    """Seconds for ``import module`` in a fresh process, the least of several, taken in turns."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # byte code is part of an installed package

    def seconds(module: str) -> float:
        program = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
        run = [sys.executable, "-c", program.format(module)]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    rounds = [{k: seconds(m) for k, m in modules.items()} for _ in range(repeat + 1)]
    return {k: min(r[k] for r in rounds[1:]) for k in modules}


def memory_megabytes(key: str, steps: int) -> float:
    """Resident megabytes of a process that has trained on the digits, imports and all.

    The process imports NumPy and this one library, and reads the images from a file written here, so that
    it is the library that is measured and not scikit-learn. flatgrad's disk cache is empty: the
    process compiles.
    """
    x, y = digits()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.npz"
        np.savez(file, x=x, y=y)
        run = [sys.executable, __file__, "--child", key, "--data", str(file), "--steps", str(steps)]
        empty = {**os.environ, "FLATGRAD_CACHE_DIR": str(Path(folder) / "cache")}
        done = subprocess.run(run, env=empty, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def child(key: str, data: str, steps: int) -> None:
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    step = LIBRARIES[key]().training(initial_weights(), x[:64], y[:64])
    for _ in range(steps):
        step()
    print(libraries.resident_megabytes())


# -- reporting ------------------------------------------------------------------------------------


def shown(value, unit: str) -> str:
    if isinstance(value, str):
        return value
    if unit == "s":
        scaled, name = next((value * f, u) for f, u in UNITS if value * f < 1000 or u == "s")
    else:
        scaled, name = value, unit
    return f"{scaled:.3g} {name}"


UNITS = ((1e6, "µs"), (1e3, "ms"), (1.0, "s"))


def ratio(cells: dict, peers) -> float | None:
    """flatgrad's figure divided by the least of the peers'."""
    theirs = [cells[k] for k in peers if isinstance(cells.get(k), float)]
    own = cells.get("flatgrad")
    return own / min(theirs) if theirs and isinstance(own, float) else None


def table(rows: list, keys: list) -> str:
    """Markdown; what is behind a peer comes first, the furthest at the top."""
    peers = [k for k in keys if k != "flatgrad"]
    head = ["case", "flatgrad / torch", "flatgrad / best peer", *keys]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, unit, cells in sorted(rows, key=lambda row: -(ratio(row[2], peers) or 0.0)):
        ratios = [ratio(cells, ["torch"]), ratio(cells, peers)]
        line = [name, *("-" if r is None else f"{r:.2f}" for r in ratios)]
        line += [shown(cells.get(k, "-"), unit) for k in keys]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def targets(rows: list) -> list[str]:
    """The project's goals, each with what this run says."""
    by_name = {name: cells for name, _, cells in rows}

    def verdict(text, case, peer, most):
        for name, cells in by_name.items():
            ours, theirs = cells.get("flatgrad"), cells.get(peer)
            if name.startswith(case) and isinstance(ours, float) and isinstance(theirs, float):
                ratio = ours / theirs
                yield f"- {'met' if ratio <= most else 'MISSED'}: {name}: {ratio:.2f} of {text}"

    lines = [
        *verdict("PyTorch's, at most 0.50", "digits training step", "torch", 0.5),
        *verdict("PyTorch's, at most 0.50", "10 transcendental", "torch", 0.5),
        *verdict("JAX's, at most 1.00", "10 transcendental", "jax", 1.0),
        *verdict("PyTorch's, at most 0.60", "resident memory", "torch", 0.6),
        *verdict("JAX's, at most 0.125", "Rosenbrock value and gradient", "jax", 0.125),
        *[
            line
            for line in verdict(
                "hand-written Numba, at most 1.50", "Rosenbrock value and gradient", "numba", 1.5
            )
            if "given memory" not in line  # which has a goal in µs
        ],
    ]
    for name, cells in by_name.items():
        if name.endswith("given memory") and isinstance(cells.get("flatgrad"), float):
            own = 1e6 * cells["flatgrad"]
            lines.append(
                f"- {'met' if own <= 0.6 else 'MISSED'}: {name}: {own:.2f} µs, at most 0.6"
            )
    imports = by_name.get("import", {})
    if isinstance(imports.get("flatgrad"), float) and "numpy" in imports:
        extra = 1e3 * (imports["flatgrad"] - imports["numpy"])
        verdict_word = "met" if extra <= 50 else "MISSED"
        lines.append(f"- {verdict_word}: import: NumPy's + {extra:.0f} ms, at most 50 ms")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--repeat", type=int, default=7, help="samples a figure")
    parser.add_argument("--quick", action="store_true", help="one sample, small sizes")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=300, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.data, options.steps)
        return
    repeat, budget = (1, 0.01) if options.quick else (options.repeat, 0.2)
    keys = [k for k in LIBRARIES if not (options.quick and k == "torch.compile")]
    present, versions = {}, []
    for key in keys:
        try:
            present[key] = LIBRARIES[key]()
            versions.append(f"{key} {present[key].version}")
        except ImportError as error:
            print(f"!! {key} is NOT INSTALLED, its column is empty ({error})", file=sys.stderr)
    missing = {k: "not installed" for k in keys if k not in present}
    rows = []
    for case in cases(options.quick):
        if options.only.lower() in case[0].lower():
            print(f".. {case[0]}", file=sys.stderr)
            rows.append(
                (case[0], "s", run_case(case, present, repeat, budget, options.quick) | missing)
            )
    if options.only.lower() in "import":
        modules = {"flatgrad": "flatgrad", "torch": "torch", "jax": "jax", "casadi": "casadi"}
        modules |= {"autograd": "autograd.numpy"}
        modules = {k: m for k, m in modules.items() if k in present} | {"numpy": "numpy"}
        rows.append(("import", "s", import_seconds(modules, repeat + 3) | missing))
    if options.only.lower() in "resident memory after training":
        steps = 20 if options.quick else options.steps
        cells = {
            k: memory_megabytes(k, steps) for k in ("flatgrad", "torch", "jax") if k in present
        }
        rows.append(("resident memory after training", "MB", cells | missing))
    print(f"{platform.machine()}, {libraries.processor()}, one thread, Python", end=" ")
    print(f"{platform.python_version()}, numpy {np.__version__}, {', '.join(versions)}.")
    print("A ratio below 1: flatgrad is the quicker (or the smaller).\n")
    print(table(rows, keys))
    print("\n" + "\n".join(targets(rows)))
    if options.json:
        figures = [{"case": n, "unit": u, "figures": c} for n, u, c in rows]
        Path(options.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
