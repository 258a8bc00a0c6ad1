"""Programs that the cold and disk families run in processes of their own."""

import os
import subprocess
import sys
import tempfile
import time

CHAIN = """
import time
import flatgrad as fg
fg.set_compile("always")
x = fg.ones(1000, requires_grad=True)
y = x
for k in range({operations}):
    y = (y * (1.5 + 0.001 * k)).tanh()
{before}
t = time.perf_counter()
fg.autograd.grad(y.sum(), x)[0].numpy()
print(time.perf_counter() - t)
"""
NUMBA = "import numba, scipy.linalg"


def run(program: str, directory: str) -> tuple[float, float]:
    """(seconds that the program prints, seconds of the whole process), with this disk cache."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FLATGRAD_CACHE_DIR": directory},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout), time.perf_counter() - started


def compiled(operations: int) -> float:
    """Seconds of a first evaluation and gradient with an empty disk cache, Numba's import not counted."""
    with tempfile.TemporaryDirectory() as directory:
        return run(CHAIN.format(operations=operations, before=NUMBA), directory)[0]


def loaded(operations: int) -> tuple[float, float]:
    """The same from disk, in a second process: (the evaluation, the whole process with all imports)."""
    with tempfile.TemporaryDirectory() as directory:
        run(CHAIN.format(operations=operations, before=NUMBA), directory)
        evaluation, _ = run(CHAIN.format(operations=operations, before=NUMBA), directory)
        _, whole = run(CHAIN.format(operations=operations, before=""), directory)
        return evaluation, whole
