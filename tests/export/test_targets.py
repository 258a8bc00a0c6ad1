"""Targets: what they say of machines, and that their compilers are called as they must be."""

import importlib.util
import re
import shutil
import subprocess

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, ToolError
from flatgrad.export.build import compiler_for, flags_for, library_name
from flatgrad.export.targets import TARGETS, target_named

NAMES = [
    "generic",
    "rpi0",
    "rpi2",
    "rpi3",
    "rpi0-2",
    "rpi4",
    "rpi5",
    "x86-64",
    "x86-64-v3",
    "cortex-m4f",
    "cortex-m7",
    "riscv64",
]
MACHINES = {  # of `readelf -h`
    "rpi0": "ARM",
    "rpi2": "ARM",
    "rpi4": "AArch64",
    "x86-64-v3": "X86-64",
    "riscv64": "RISC-V",
}


def zig():
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the package ziglang is not installed: nothing was cross-compiled")


def test_every_target_is_whole():
    assert list(TARGETS) == NAMES
    for name, target in TARGETS.items():
        assert target_named(name) is target and target.name == name
        assert target.machine.blas_work >= 2**62, "exported code calls no BLAS by itself"
        assert target.pointer in (4, 8)
        assert target.freestanding == name.startswith("cortex-m")
        assert target.machine.align == (8 if target.freestanding else 64)
        assert bool(target.zig) == bool(target.cpu) == (name != "generic")
        ends = {True: ".a", False: ".so"}[target.freestanding]
        assert name == "generic" or library_name("f", target) == f"libf{ends}"
    assert target_named("native").name == "native"


def test_flags():
    """Traps that were met: each of these compiles, and is slow or wrong without the flag."""
    m4 = flags_for(TARGETS["cortex-m4f"], zig=True, relaxed=True)
    assert "-mcpu=cortex_m4+vfp4d16sp" in m4 and "-ffreestanding" in m4
    for name, target in TARGETS.items():
        for by_zig in (False, True):
            flags = flags_for(target, zig=by_zig, relaxed=True)
            assert "-std=c99" in flags and "-ffp-contract=off" in flags
            assert ("-ffast-math" in flags) == (name == "rpi2" and not by_zig)
            assert "-ffast-math" not in flags_for(target, zig=by_zig, relaxed=False)


def test_a_compiler_that_is_missing_or_fails(tmp_path):
    made = fg.export(lambda x: x + 1, np.ones(2), name="plus", path=tmp_path)
    with pytest.raises(ToolError, match="there is no command 'no-such-cc'"):
        made.build("no-such-cc -O3")
    with pytest.raises(ArgumentError, match="cc must be a compiler's command"):
        made.build(" ")
    with pytest.raises(ToolError, match=r"false .*failed with status 1"):
        made.build("false")
    assert made.library is None and not list(tmp_path.glob("lib*"))


def test_nothing_to_cross_compile_with(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda command: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"building for rpi4 needs a compiler.*flatgrad\[cross\]"):
        compiler_for(TARGETS["rpi4"], None)


@pytest.mark.parametrize("name", [*MACHINES, "cortex-m4f"])
def test_cross_compiling_with_zig(name, tmp_path):
    zig()
    made = fg.export(
        lambda x: fg.exp(-x * x).sum(),
        np.ones(5, np.float32),
        name="bell",
        path=tmp_path,
        target=name,
        build=True,
    )
    assert made.library.name == library_name("bell", TARGETS[name])
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed: libraries were built, and NOT looked at")
    seen = subprocess.run(
        ["readelf", "-hdsA", str(made.library)], capture_output=True, text=True
    ).stdout
    if name in MACHINES:
        assert re.search(rf"Machine:.*{MACHINES[name]}", seen)
    if name == "rpi0":
        assert "Tag_CPU_arch: v6" in seen and "NEEDED" not in seen
    if name == "cortex-m4f":
        undefined = [
            line.split()[-1]
            for line in seen.splitlines()
            if " UND " in line and line.split()[-1] != "UND"
        ]
        assert undefined == [], "it needs nothing from anywhere"
        assert "VFPv4-D16" in seen
