"""The self-test that ``flatgrad doctor`` runs in a process of its own: ``python -m flatgrad.cli.trial``.

In a process of its own since code for another processor ends one, and since what a second one finds on disk
can't be seen from the first. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

TILE = 48  # rows and columns of a product that is not left to BLAS
EXPS = 4096


def gradients(numba: bool) -> dict[str, float]:
    """How far each way to compute a gradient is from the formula, relative to its largest element."""
    import flatgrad as fg

    def f(x):
        return (fg.exp(fg.sin(x)) * x).sum() + (x[1:] * x[:-1]).sum()

    x = np.linspace(-2.0, 2.0, 37)
    expected = np.exp(np.sin(x)) * (1 + x * np.cos(x))
    expected[:-1] += x[1:]
    expected[1:] += x[:-1]
    found = {}
    with fg.set_compile("never"):
        found["interpreted"] = fg.grad(f)(fg.tensor(x)).numpy()
    if numba:
        with fg.set_compile("always"):
            found["compiled"] = fg.grad(f)(fg.tensor(x)).numpy()
        found["compiled by Numba"] = fg.compile(fg.grad(f), x)(x)
    scale = np.abs(expected).max()
    return {name: float(np.abs(v - expected).max() / scale) for name, v in found.items()}


def best(call, repeat: int = 7, least: float = 0.004) -> float:
    """Seconds of a call: the least of several means."""
    call()
    count = 1
    while True:
        started = time.perf_counter()
        for _ in range(count):
            call()
        taken = time.perf_counter() - started
        if taken >= least:
            break
        count *= 2
    found = taken / count
    for _ in range(repeat):
        started = time.perf_counter()
        for _ in range(count):
            call()
        found = min(found, (time.perf_counter() - started) / count)
    return found


def speed(numba: bool) -> dict[str, float]:
    """Seconds of a tiny gradient's call, of an exp in a long array; multiply-adds a second, twice."""
    import flatgrad as fg

    x, long, tile = (
        np.ones(2),
        np.linspace(-5, 5, EXPS, dtype=np.float32),
        np.ones((TILE, TILE), "f"),
    )

    def square(x):
        return (x * x).sum()

    if numba:
        tiny = fg.compile(fg.value_and_grad(square), x)
        exps = fg.compile(fg.exp, long)
        product = fg.compile(fg.matmul, tile, tile)
        out, square_out = np.empty_like(long), np.empty_like(tile)
        calls = (
            lambda: tiny(x),
            lambda: exps(long, out=out),
            lambda: product(tile, tile, out=square_out),
        )
    else:
        calls = (
            lambda: fg.grad(square)(fg.tensor(x)).numpy(),
            lambda: np.exp(long),
            lambda: tile @ tile,
        )
    gradient, exp, multiplied = (best(c) for c in calls)
    return {
        "gradient_call_seconds": gradient,
        "exp_seconds": exp / EXPS,
        "flops": 2 * TILE**3 / multiplied,
    }


def report(parts: list[str]) -> dict:
    """What the parts asked for find; ``numba`` says that programs can be compiled."""
    from flatgrad.program.cache import cache

    numba = "numba" in parts
    found: dict = {}
    started = time.perf_counter()
    found["differences"] = gradients(numba)
    found["seconds"] = time.perf_counter() - started
    found["hits"], found["misses"] = cache.hits, cache.misses
    if "speed" in parts:
        found["speed"] = speed(numba)
    return found


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1:])))
