"""Exported C beside CasADi's C and our own Numba program: ``python benchmarks/export.py``.

Everything is compiled with ``gcc -O3 -march=native``, the export also with clang (``ziglang``), and called
from a Numba loop, in turns; results are compared before anything is timed. (What updates its arguments is
called from Python in Numba's case: some microseconds of dozens.) ``--process`` measures Python processes that
only run an exported library, beside ones that only import NumPy. Instructions and sizes are in
``export_counts.py``.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import flatgrad as fg
import tables
from flatgrad.func.tree import flatten

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]
from support.workloads import workload  # noqa: E402

TITLES = {
    "rosenbrock": "Rosenbrock, n=10, value and gradient",
    "ekf": "EKF step",
    "mpc": "MPC cost gradient, horizon 30",
    "scan": "scan of 1,000 steps, value and gradient",
    "digits": "digits training step, AdamW, batch 64, float32",
    "cnn": "small CNN training step, batch 4, float32",
    "lstm": "LSTM inference, 20 steps, float32",
    "rosenbrock_2": "Rosenbrock, n=2",
    "rosenbrock_f32": "Rosenbrock, n=10, float32",
    "ekf_f32": "EKF step, float32",
    "mpc_f32": "MPC cost gradient, float32",
    "scan_f32": "scan of 1,000 steps, float32",
}
GOAL = 1.1


def arrays_of(tree, dtype=None) -> list[np.ndarray]:
    return [np.array(a, dtype if np.ndim(a) == 0 else None, order="C") for a in flatten(tree)[0]]


def interleaved(runs: dict, rounds: int) -> dict[str, float]:
    """Microseconds a call of each, the least of many short repetitions in turns."""
    counts, best = {}, dict.fromkeys(runs, float("inf"))
    for key, run in runs.items():
        run(3)
        started = time.perf_counter()
        run(10)
        counts[key] = max(1, int(10 * 2e-3 / max(time.perf_counter() - started, 1e-7)))
    for _ in range(rounds):
        for key, run in runs.items():
            started = time.perf_counter()
            run(counts[key])
            best[key] = min(best[key], 1e6 * (time.perf_counter() - started) / counts[key])
    return best


def agree(name: str, found: list, expected: list) -> None:
    """End the run if a result is wrong: what is wrong need not be fast."""
    for a, b in zip(found, expected, strict=True):
        unit = np.finfo(b.dtype).eps * max(1e-30, np.abs(b).max())
        worst = np.abs(a.reshape(b.shape) - b).max() / unit
        if not worst < 1e4:
            raise SystemExit(f"export.py: {name}: off by {worst:.0f} ulps of the largest element")


def compared(name: str, folder: Path, casadi, compilers: dict, rounds: int) -> tuple[dict, dict]:
    """({side: us a call}, {side: seconds to compile}) of one workload."""
    import export_peers as peers

    it = workload(name)
    expected = arrays_of(fg.compile(it.function, *it.example)(*it.example), it.dtype)

    def fresh():
        return arrays_of(copy.deepcopy(it.example)), [np.zeros_like(a) for a in expected]

    runs, seconds, sides = {}, {}, {}
    made = fg.export(
        it.function,
        *it.example,
        name=name,
        path=folder / name,
        target="native",
        donate_argnums=it.donate_argnums,
    )
    # What is donated is updated where it lies: no second copy of it is filled.
    updated = {k: slot.updates for k, slot in enumerate(made.layout.results)}
    for side, flags in compilers.items():
        arrays, results = sides[side] = fresh()
        for k, argument in updated.items():
            if argument is not None:
                results[k] = arrays[argument]
        runs[side], seconds[side] = peers.export_run(made, folder, arrays, results, flags)
    program = fg.compile(it.function, *it.example, donate_argnums=it.donate_argnums)
    if it.donate_argnums:
        state = list(copy.deepcopy(it.example))
        runs["Numba"] = lambda count: [program(*state) for _ in range(count)] and None
    else:
        sides["Numba"] = fresh()
        runs["Numba"] = peers.numba_run(program, *sides["Numba"])
        sides["called"] = fresh()
        runs["called"] = peers.pointer_run(program, *sides["called"])
    if casadi is not None and name in peers.EXPRESSIONS:
        import cartpole

        function = peers.EXPRESSIONS[name](casadi, cartpole)
        sides["CasADi"] = fresh()
        runs["CasADi"], seconds["CasADi"] = peers.casadi_run(
            casadi, function, folder, *sides["CasADi"]
        )
    for side, (_, found) in sides.items():
        runs[side](1)
        pairs = [(a, b) for a, b in zip(found, expected, strict=True) if side != "Numba" or a.ndim]
        agree(f"{name}, {side}", [a for a, _ in pairs], [b for _, b in pairs])
    return interleaved(runs, rounds), seconds


# -- processes ------------------------------------------------------------------------------------

MEASURED = """
import time
started = time.perf_counter()
{body}
seconds = time.perf_counter() - started
try:  # of this program alone: what getrusage says is at least what its parent had before the fork
    lines = open("/proc/self/status").read().splitlines()
    most = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
except (OSError, StopIteration):
    import resource
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(seconds, most)
"""


def processes(folder: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """{what a process does: (ms, kB of memory at its most)}, the least of several in turns."""
    it = workload("ekf")
    made = fg.export(it.function, *it.example, name="ekf", path=folder / "process")
    made.build()
    example = [a.tolist() for a in it.example]
    bodies = {
        "import numpy": "import numpy",
        "run an export": f"import numpy\nfrom ekf import ekf\nekf(*map(numpy.array, {example}))",
    }
    best = dict.fromkeys(bodies, (float("inf"), float("inf")))
    for _ in range(rounds):
        for key, body in bodies.items():
            run = [sys.executable, "-c", MEASURED.format(body=body)]
            done = subprocess.run(run, cwd=made.path, capture_output=True, text=True, check=True)
            seconds, memory = map(float, done.stdout.split())
            best[key] = min(best[key][0], 1e3 * seconds), min(best[key][1], memory)
    return best


def process_table(folder: Path, rounds: int) -> list[dict]:
    found = processes(folder, rounds)
    (bare, least), (ours, memory) = found["import numpy"], found["run an export"]
    print("\n| process | start to finish, ms | most memory, MB |\n|---|---|---|")
    for key, (ms, kilobytes) in found.items():
        print(f"| {key} | {ms:.1f} | {kilobytes / 1024:.1f} |")
    print(
        f"\nBeyond NumPy: {ours - bare:.1f} ms (goal 30), {(memory - least) / 1024:.1f} MB (goal 3)."
    )
    return [
        tables.row("start, an exported EKF", "goal: NumPy + 30 ms", ours, bare + 30, 1.0, "ms"),
        tables.row(
            "memory, an exported EKF", "goal: NumPy + 3 MB", memory, least + 3072, 1.0, "kB"
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three workloads, few repetitions")
    parser.add_argument("--only", default="", help="workloads, separated by commas")
    parser.add_argument("--process", action="store_true", help="processes alone")
    tables.add_option(parser)
    options = parser.parse_args()
    if shutil.which("gcc") is None:
        print("!! gcc is NOT INSTALLED: nothing was compared")
        tables.write(options.json, [])
        return
    try:
        import casadi
    except ImportError:
        casadi = None
        print("!! casadi is NOT INSTALLED, its columns are empty\n")
    names = options.only.split(",") if options.only else list(TITLES)
    names = names[:2] if options.quick else names
    rounds, rows = (5 if options.quick else 60), []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if not options.process:
            import export_peers as peers

            compilers = {"C": peers.FLAGS}
            if importlib.util.find_spec("ziglang"):
                compilers["clang"] = peers.CLANG
            else:
                print("!! ziglang is NOT INSTALLED, clang's column is empty\n")
            sides = ("C", "clang", "Numba", "called", "CasADi")
            print("| a call, us | gcc | clang | Numba | the same by its address |", end="")
            print(" CasADi's C | gcc / Numba | gcc / CasADi | clang / gcc |", end="")
            print(" compiling, s: gcc | CasADi's C |")
            print("|---|" + "---|" * 10)
            for name in names:
                times, seconds = compared(name, folder, casadi, compilers, rounds)
                ratios = [
                    times[a] / times[b] if a in times and b in times else None
                    for a, b in (("C", "Numba"), ("C", "CasADi"), ("clang", "C"))
                ]
                cells = [times.get(s) for s in sides] + ratios
                cells += [seconds.get(s) for s in ("C", "CasADi")]
                texts = ["-" if x is None else f"{x:.3g}" for x in cells]
                print(f"| {TITLES[name]} | {' | '.join(texts)} |", flush=True)
                for side, label in (("Numba", "our Numba program"), ("CasADi", "CasADi's C")):
                    if side in times:
                        rows.append(tables.row(TITLES[name], label, times["C"], times[side], GOAL))
            (empty,) = interleaved({"empty": peers.empty_run(folder)}, rounds).values()
            print(
                f"\nCalling a C function takes {1e3 * empty:.1f} ns by itself. Numba's loop calls nothing: "
                "LLVM puts the program into it."
            )
        rows += process_table(folder, 3 if options.quick else 15)
    tables.write(options.json, rows)


if __name__ == "__main__":
    main()
