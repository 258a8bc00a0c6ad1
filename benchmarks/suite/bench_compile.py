"""Compiling: cold, and warm from disk. Each sample is a fresh process with a cache of its own."""

import os
import subprocess
import sys
import tempfile

PROGRAM = """
import time
import flatgrad as fg
fg.set_compile("always")
x = fg.ones(1000, requires_grad=True)
y = x
for _ in range({operations}):
    y = (y * 1.5).tanh()
import numba, scipy.linalg
t = time.perf_counter()
fg.autograd.grad(y.sum(), x)[0].numpy()
print(time.perf_counter() - t)
"""


def first_evaluation(operations: int, directory: str) -> float:
    """Seconds of the first evaluation, Numba's import not counted."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(operations=operations)],
        env={**os.environ, "FLATGRAD_CACHE_DIR": directory},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


class Compile:
    params = ((1, 10, 50),)
    param_names = ("operations",)
    timeout = 300

    def track_cold(self, operations):
        with tempfile.TemporaryDirectory() as directory:
            return first_evaluation(operations, directory)

    def track_warm_from_disk(self, operations):
        with tempfile.TemporaryDirectory() as directory:
            first_evaluation(operations, directory)
            return first_evaluation(operations, directory)

    track_cold.unit = track_warm_from_disk.unit = "s"
