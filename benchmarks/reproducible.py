"""What the same bits everywhere cost: ``python benchmarks/reproducible.py``.

Each program is compiled twice, as usual and with ``reproducible=True``, and called in turns in one process;
the least time counts. The ratio is what the mode takes: 16-byte vectors, nothing fused, sums in one order.
"""

from __future__ import annotations

import time
from pathlib import Path
from sys import path

import numpy as np

import flatgrad as fg

path.insert(0, str(Path(__file__).parents[1]))
from tests.support.workloads import workload

ROUNDS, SECONDS = 30, 0.004
NAMES = ("rosenbrock", "ekf", "mpc", "digits", "cnn", "lstm", "scan")


def programs() -> dict[str, tuple]:
    """{name: (function, arguments)}."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 10_000))
    a, b = rng.standard_normal((2, 128, 128)).astype("f")
    rows = rng.standard_normal((256, 256)).astype("f")
    found = {
        "sum of 10,000 products": (lambda x, y: (x * y).sum(), (x, y)),
        "maximum of 10,000": (lambda x: x.max(), (x,)),
        "sum of exp, 10,000": (lambda x: fg.exp(x).sum(), (x,)),
        "softmax, 256 x 256, float32": (lambda x: fg.softmax(x, 1), (rows,)),
        "128 x 128 @ 128 x 128, float32": (lambda a, b: a @ b, (a, b)),
    }
    return found | {n: (workload(n).function, workload(n).example) for n in NAMES}


def measured(function, arguments) -> tuple[float, float]:
    """Seconds of a call, as usual and reproducible."""
    made = [fg.compile(function, *arguments, reproducible=r) for r in (False, True)]
    best, counts = [np.inf, np.inf], []
    for g in made:
        g(*arguments)
        started = time.perf_counter()
        g(*arguments)
        counts.append(max(1, int(SECONDS / (time.perf_counter() - started))))
    for _ in range(ROUNDS):
        for k, g in enumerate(made):
            started = time.perf_counter()
            for _ in range(counts[k]):
                g(*arguments)
            best[k] = min(best[k], (time.perf_counter() - started) / counts[k])
    return tuple(best)


def main() -> None:
    print("| program | usual µs | reproducible µs | ratio |\n|---|---|---|---|")
    ratios = []
    for name, (function, arguments) in programs().items():
        usual, same = measured(function, arguments)
        ratios.append(same / usual)
        print(f"| {name} | {usual * 1e6:.2f} | {same * 1e6:.2f} | {same / usual:.2f} |", flush=True)
    print(f"\nGeometric mean {np.exp(np.mean(np.log(ratios))):.2f}.")


if __name__ == "__main__":
    main()
