"""How long one waits: importing, compiling, loading: ``python benchmarks/waiting.py [--quick]``.

Every figure is of a fresh process with a disk cache of its own, the least of a few. "Cold" compiles, "from
disk" is a second process. *First* is from the moment the value is asked for until it is there; *all in* is
from the start of Python, imports and recording included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

QUICK = "--quick" in sys.argv
SAMPLES = 1 if QUICK else 3
SIZES = (100, 1000) if QUICK else (100, 1000, 10_000)

START = """
import time
started = time.perf_counter()
import flatgrad as fg
imported = time.perf_counter()
"""
END = """
asked = time.perf_counter()
program = fg.explain(y).program
done = time.perf_counter()
from flatgrad.lower.body import walk
segments = program.compiled.segments
statements = sum(1 for s in segments for _ in walk(s.loops.body))
print(imported - started, asked - imported, done - asked, done - started, statements)
"""
FAMILIES = {
    "straight-line scalars": """
x = fg.ones(1, dtype=fg.float64); y, z = x, x * 0.5
for k in range({n} // 4):
    y, z = y * z + 0.1, (y - z) * 0.3
y = y + z
""",
    "chain of small arrays": """
y = fg.ones(16)
for k in range({n}):
    y = y * 1.5 if k % 2 else y.tanh()
""",
    "distinct loops": """
x = fg.ones(16)
y = fg.stack([((fg.ones(4 + k % 13 + k // 13) * x[k % 16] + k).sum()) for k in range({n} // 5)])
""",
    "identical layers": """
y, w = fg.ones(8), fg.ones(8, 8) * 0.1
w.numpy()
for k in range({n} // 7):
    y = (w @ y).tanh()
""",
}


def run(program: str, directory: str) -> list[float]:
    environment = {**os.environ, "FLATGRAD_CACHE_DIR": directory}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # byte code is part of an installed package
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return [float(x) for x in done.stdout.split()]


def least(program: str, warm: bool) -> list[float]:
    found = []
    for _ in range(SAMPLES):
        with tempfile.TemporaryDirectory() as directory:
            if warm:
                run(program, directory)
            found.append(run(program, directory))
    return min(found, key=lambda row: row[2])


def importing() -> None:
    timed = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    print("| import | ms |\n|---|---:|")
    rows = {}
    for name in ("numpy", "flatgrad", "numba"):
        with tempfile.TemporaryDirectory() as directory:
            run(timed.format(name), directory)
            rows[name] = min(run(timed.format(name), directory)[0] for _ in range(3 * SAMPLES))
        print(f"| {name} | {1e3 * rows[name]:.0f} |")
    print(f"| flatgrad beyond numpy | {1e3 * (rows['flatgrad'] - rows['numpy']):.0f} |\n")


def main() -> None:
    importing()
    print(
        "| program | nodes | statements | cold first s | cold all in s | from disk first s | all in s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, body in FAMILIES.items():
        for n in SIZES:
            mode = (
                "import flatgrad.program.tiers as t; t.TOO_LARGE = 10**9; fg.set_compile('always')"
            )
            program = START + mode + body.format(n=n) + END
            cold, warm = least(program, False), least(program, True)
            print(
                f"| {name} | {n} | {cold[4]:.0f} | {cold[2]:.2f} | {cold[3]:.2f} | {warm[2]:.2f} | "
                f"{warm[3]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
