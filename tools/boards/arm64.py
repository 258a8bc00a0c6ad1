"""flatgrad on 64-bit ARM under emulation: ``python -m tools.boards.arm64``.

Makes a root file system of Debian with the wheels of aarch64, copies the project into it, and runs there
a part of the test suite and examples/digits.py, on processors as boards have them. Where a tool is missing,
it says so and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from .emulate import install
from .roots import ARM64, PROJECT

# A part of every layer that needs neither PyTorch, which has no place here, nor child processes.
SUBSET = [
    "emit/test_target.py",
    "program/test_native.py",
    "boards/test_workloads.py",
    "boards/test_steps.py",
    "autograd/test_engine.py",
    "ops/test_contraction.py",
    "ops/test_edges.py",
    "func/test_compile.py",
    "emit/test_mathlib.py",
    "func/test_control.py",
    "lower/test_tile.py",
]
# A chain of 100,000 nodes takes half a minute of Python; a child process would need the kernel's help.
LEFT_OUT = "not 100_000 and not needs_no_numba and not old_model and not process"
DIGITS = ["--epochs", "3", "--quiet", "--steps", "50"]
CPUS = ["cortex-a72", "cortex-a53", "cortex-a76"]


def check(title: str, arguments: list[str], cpu: str, seconds: float, whole=False) -> bool:
    """Run Python inside with these arguments; whether it succeeded. Its last line is shown, or all."""
    command = ARM64.command(["/usr/bin/python3", *arguments], cpu)
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        print(
            f"{cpu} {title}: STOPPED after {seconds:.0f} s\n{(error.stdout or b'').decode()[-2000:]}"
        )
        return False
    lines = done.stdout.strip().splitlines()
    passed = done.returncode == 0
    shown = lines[-60:] if whole or not passed else lines[-1:]
    word = "ok" if passed else "FAILED"
    print(f"{cpu} {title}: {word} in {time.monotonic() - started:.0f} s", *shown, sep="\n    ")
    return passed


def same_bits(cpu: str, seconds: float) -> bool:
    """Whether the judged programs, compiled reproducibly, give the bits there that they give here."""
    script = "tests/boards/bits.py"
    here = subprocess.run(
        [sys.executable, str(PROJECT / script)], capture_output=True, text=True, cwd=PROJECT
    )
    there = ARM64.command(["/usr/bin/python3", f"/srv/flatgrad/{script}"], cpu)
    try:
        there = subprocess.run(there, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"{cpu} bits: STOPPED after {seconds:.0f} s")
        return False
    try:
        here, there = json.loads(here.stdout), json.loads(there.stdout)
    except json.JSONDecodeError:
        print(f"{cpu} bits: FAILED", here.stderr[-2000:], there.stderr[-2000:], sep="\n    ")
        return False
    different = [name for name in here if here[name] != there.get(name)]
    print(
        f"{cpu} bits: {len(here) - len(different)} of {len(here)} programs give the bits of this PC"
    )
    if different:
        print(f"{cpu} bits: FAILED, different: {' '.join(different)}")
    return not different


def tests(files: list[str], cpu: str, end: float) -> bool:
    """Run test files, one process each, as long as there is time."""
    passed = True
    for k, file in enumerate(files):
        left = end - time.monotonic()
        if left < 20:
            print(f"{cpu}: NO TIME LEFT for {' '.join(files[k:])}")
            break
        how = ["-q", "-p", "no:cacheprovider", "-k", LEFT_OUT, "-c", "/srv/flatgrad/pyproject.toml"]
        arguments = ["-m", "pytest", *how, f"/srv/flatgrad/tests/{file}"]
        passed &= check(file, arguments, cpu, left + 60)
    return passed


def main() -> int:
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--cpu", action="append", choices=CPUS, help="the first runs all of it (cortex-a72)"
    )
    parser.add_argument("--seconds", type=float, default=600, help="time for all of it (600)")
    parser.add_argument("--tests", nargs="*", help="files of tests/ instead of the usual ones")
    parser.add_argument("--install", action="store_true", help="first, as root: apt-get install")
    given = parser.parse_args()
    if given.install and install(["qemu-aarch64-static", "mmdebstrap"]):
        return 1
    lacking = ARM64.missing()
    if lacking:
        print(f"SKIPPED, NOTHING WAS RUN on 64-bit ARM: first {'; '.join(lacking)}")
        return 0
    end = time.monotonic() + given.seconds
    print(f"root file system: {ARM64.make()}")
    ARM64.copy_project("src", "tests", "examples", "tools")
    passed = True
    for k, cpu in enumerate(given.cpu or CPUS[:2]):
        if time.monotonic() > end - 60:
            print(f"{cpu}: NO TIME LEFT, nothing was run")
            break
        ARM64.show_cpu(cpu)
        passed &= check("doctor", ["-m", "flatgrad", "doctor"], cpu, 120, whole=True)
        digits = ["/srv/flatgrad/examples/digits.py", *DIGITS]
        passed &= check("digits", digits, cpu, max(end - time.monotonic(), 60))
        passed &= same_bits(cpu, max(end - time.monotonic(), 120))
        files = given.tests or (SUBSET if k == 0 else SUBSET[:3])
        passed &= tests(files, cpu, end)
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
