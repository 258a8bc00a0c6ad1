"""Compiling exported C: strictly, with every compiler that is here."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]


# Names that must not become code, in any file that is made.
HOSTILE = [
    "a*/ int main(void){return 9;} /*",
    'x"\n#error injected\n"',
    "trigraph ??/\n#error injected",
    "backslash \\\n#error injected",
    "`$(touch injected)` <script> | pipe",
    "\u202e\u0000\u001b[31mé漢",
    "%s%n{0}{name}",
    "*" + "/",
    '"""\nraise SystemExit(9)\n"""',
    "-->\n# end f",
]


def compilers() -> dict[str, list[str]]:
    """{name: command} of the C compilers that are here."""
    found = {c: [c] for c in ("gcc", "clang") if shutil.which(c)}
    if importlib.util.find_spec("ziglang") is not None:
        found["zig"] = [sys.executable, "-m", "ziglang", "cc"]
    return found


def compiler() -> list[str]:
    """The first compiler; the test is skipped without one."""
    found = compilers()
    if not found:
        pytest.skip("no C compiler is installed: exported C was NOT compiled")
    return next(iter(found.values()))


def run(command: list, **how) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **how)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def selftest(made, command: list[str] | None = None, *flags: str) -> str:
    """Compile an export and its self-test strictly, and run it: what it says."""
    program = Path(made.path) / f"{made.name}_selftest"
    sources = [made.files[f"{made.name}.c"], made.files[f"{made.name}_test.c"]]
    link = [f"-l{x}" for x in made.libraries]
    run([*(command or compiler()), *STRICT, "-O2", *flags, *sources, "-o", program, *link])
    return run([program])
