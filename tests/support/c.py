"""Compiling exported C: strictly, with every compiler that is here."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flatgrad.emit.c99 import source
from flatgrad.lower.machine import BASELINE, Machine
from flatgrad.lower.recompute import lower_within

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


class CFunction:
    """A C function of exported form, called through ctypes."""

    def __init__(self, symbol, form, printed):
        self.symbol, self.form, self.printed = symbol, form, printed

    def __call__(self, arguments, *, skip=()) -> tuple[int, list[np.ndarray]]:
        """(status, results); results in `skip` are not asked for, and keep what was in their memory."""
        inputs = [np.array(a, order="C") for a in arguments]
        results = [
            np.full(b.shape, 77 if b.dtype.np.kind != "b" else True, b.dtype.np)
            for b in self.printed.results
        ]
        work = np.zeros(self.printed.work + self.printed.align, np.uint8)
        start = -work.ctypes.data % self.printed.align
        asked = [None if k in skip else r.ctypes.data for k, r in enumerate(results)]
        status = self.symbol(
            (ctypes.c_void_p * len(inputs))(*[a.ctypes.data for a in inputs]),
            (ctypes.c_void_p * len(asked))(*asked),
            ctypes.c_void_p(work.ctypes.data + start),
        )
        for given, kept in zip(arguments, inputs, strict=True):
            assert np.array_equal(given, kept, equal_nan=np.asarray(given).dtype.kind == "f")
        return status, results


def compiled(
    folder: Path,
    forms: dict,
    *flags: str,
    machine: Machine = BASELINE,
    command: list[str] | None = None,
) -> dict[str, CFunction]:
    """The C of traced functions (`export.form.Form` by name), compiled strictly into one library."""
    printed, files = {}, []
    for name, form in forms.items():
        program = lower_within(
            form.graph, None, machine=machine, updates=form.updates, spans=form.spans
        )
        printed[name] = source(program, name, form.stored, machine=machine)
        file = folder / f"{name}.c"
        declared = f"int {name}(const {{0}} *const *, {{0}} *const *, void *);\n"
        file.write_text(printed[name].text + declared.format(printed[name].ctype))
        files.append(file)
    made = folder / "library.so"
    run([*(command or compiler()), *STRICT, *flags, "-fPIC", "-shared", *files, "-o", made, "-lm"])
    library = ctypes.CDLL(str(made))
    return {n: CFunction(library[n], forms[n], printed[n]) for n in forms}
