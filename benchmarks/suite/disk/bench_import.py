"""What ``import flatgrad`` costs beyond NumPy, each time in a fresh process."""

import os
import statistics
import subprocess
import sys


def seconds(statement: str, samples: int = 5) -> float:
    program = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # byte code is part of an installed package
    run = [sys.executable, "-c", program]

    def once() -> float:
        done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    once()
    return statistics.median(once() for _ in range(samples))


class Import:
    timeout = 120

    def track_milliseconds_beyond_numpy(self):
        return 1e3 * (seconds("import flatgrad") - seconds("import numpy"))

    track_milliseconds_beyond_numpy.unit = "ms"

    def track_heavy_modules(self):
        """How many of the libraries that must wait for the first compilation are imported."""
        heavy = ("numba", "llvmlite", "scipy")
        program = f"import flatgrad, sys; print(sum(m in sys.modules for m in {heavy!r}))"
        run = [sys.executable, "-c", program]
        return int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)

    track_heavy_modules.unit = "modules"
