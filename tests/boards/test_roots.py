"""Root file systems of ARM: every way in works, and flatgrad knows the processor, or that it does not."""

import os
import shutil
import subprocess

import pytest
from tools.boards import roots
from tools.boards.roots import ARM64, ARMHF

pytestmark = pytest.mark.boards

TARGET = "from flatgrad.emit.native import target; print(*target())"


def inside(root, cpu, program):
    """What a Python program prints inside of a root."""
    lacking = root.missing()
    if lacking:
        pytest.skip(f"NOTHING WAS RUN on {root.arch}: first {'; '.join(lacking)}")
    root.make()
    done = subprocess.run(
        root.command(["/usr/bin/python3", "-c", program], cpu), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_debians_numpy_on_32_bits():
    program = "import numpy, platform; print(numpy.ones(3) @ numpy.ones(3), platform.machine())"
    assert inside(ARMHF, "cortex-a7", program) == "3.0 armv7l"


@pytest.fixture
def project():
    """flatgrad in the arm64 root."""
    inside(ARM64, "cortex-a72", "")
    ARM64.copy_project("src")


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "cortex-a76"])
def test_a_board_is_recognised(project, cpu):
    ARM64.show_cpu(cpu)
    name, features = inside(ARM64, cpu, TARGET).split()
    assert name == cpu and "+neon" in features


@pytest.mark.parametrize("shown", ["the PC's", "none"])
def test_what_plain_emulation_shows_is_generic(project, shown):
    ARM64.show_cpu(None)
    if shown == "none":
        (ARM64.path / "proc/cpuinfo").unlink()
    assert inside(ARM64, "cortex-a72", TARGET) == "generic +fp-armv8,+neon"


@pytest.mark.parametrize("way", ["proot", "neither proot nor root"])
def test_ways_in_without_being_root(project, monkeypatch, way):
    if shutil.which("proot") is None and way == "proot":
        pytest.skip("NOTHING WAS RUN: first apt-get install proot")
    ARM64.show_cpu("cortex-a72")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    which = shutil.which
    if way != "proot":
        monkeypatch.setattr(roots.shutil, "which", lambda c: None if c == "proot" else which(c))
    assert inside(ARM64, "cortex-a72", TARGET).startswith("cortex-a72 ")
