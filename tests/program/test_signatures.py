"""Memory of a process that meets thousands of signatures: bounded, whether they are compiled or not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
import numpy as np
import flatgrad as fg

mode, count, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fg.set_compile(mode)
fg.cache.most_programs = most

def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

def gradient(k):
    x = fg.tensor(np.ones((1 + k % 71, 1 + k // 71), np.float32), requires_grad=True)
    (fg.tanh(x * 2.0) + 1.0).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()

for k in range(most + 10):
    gradient(k)
before = megabytes()
for k in range(most + 10, count):
    gradient(k)
print(megabytes() - before, fg.cache.programs)
"""


def growth(directory, *arguments) -> tuple[float, int]:
    """(megabytes that the signatures after the cap cost, programs alive at the end)."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc: this system does not tell resident memory")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "FLATGRAD_CACHE_DIR": str(directory)},
    )
    assert run.returncode == 0, run.stderr
    megabytes, programs = run.stdout.split()
    return float(megabytes), int(programs)


def test_five_thousand_interpreted_signatures(tmp_path):
    megabytes, programs = growth(tmp_path, "auto", 5000, 16)
    assert megabytes < 60  # measured: 20
    assert programs <= 16


@pytest.mark.slow
def test_compiled_signatures_past_the_cap(tmp_path):
    megabytes, programs = growth(tmp_path, "always", 1000, 32)
    assert megabytes < 100
    assert programs <= 32
