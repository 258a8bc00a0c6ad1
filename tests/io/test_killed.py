"""Processes that are killed while they train and save always leave a whole checkpoint."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("safetensors")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")

HERE = Path(__file__).parent


def run(*arguments, script: str = "killed.py") -> dict[str, int]:
    """What the script found: {word: number} of its last line."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode == 77:
        pytest.skip(f"SKIPPED LOUDLY: no file system can be mounted here: {done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    return {word: int(n) for word, n in re.findall(r"([a-z-]+) (\d+)", done.stdout)}


@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_a_training_that_is_killed_goes_on_with_the_same_losses(tmp_path, kills):
    found = run("random", tmp_path, kills, 1)
    assert found["killed"] == kills
    assert found["resumed"] > 0
    if kills > 100:
        assert found["half-written"] > 0 and found["resumed"] > kills // 4


def test_killed_before_and_within_every_system_call_of_a_save(tmp_path):
    assert run("calls", tmp_path)["calls"] > 8


def test_three_processes_save_at_once(tmp_path):
    assert run("race", tmp_path)["seen"] >= 1


@pytest.mark.slow
def test_the_power_is_cut(tmp_path):
    found = run(tmp_path, 40, script="power_cuts.py")
    assert found["cuts"] == 40 and found["saved"] > 40
    assert found["half-written"] > 0
    assert found["older"] == 0  # ext4 keeps the order: the newest one is always whole
