"""Compiling an exported program: with zig (the ``ziglang`` package) for any target, or any C compiler."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import ArgumentError, ToolError
from .targets import Target

__all__ = ["compile_library", "compiler_for", "flags_for"]


def compiler_for(target: Target, cc: str | None) -> tuple[list[str], bool]:
    """(the command that compiles for `target`, whether it is zig).

    Raises
    ------
    ToolError
        If there is no such compiler here.
    """
    if cc is not None:
        return _given(cc)
    own = not target.zig
    candidates = ["cc", "gcc", "clang"] if own else [target.gcc]
    found = next((c for c in candidates if shutil.which(c)), None)
    zig = importlib.util.find_spec("ziglang") is not None
    if found is not None and (own or not zig):
        return [found], False
    if zig:
        return [sys.executable, "-m", "ziglang", "cc"], True
    raise ToolError(
        f"export: building for {target.name} needs a compiler, and neither the package ziglang nor "
        f"{' or '.join(candidates)} is here; install it with: pip install 'flatgrad[cross]', or name a "
        'compiler: cc="..."'
    )


def _given(cc: str) -> tuple[list[str], bool]:
    if not isinstance(cc, str) or not cc.strip():
        raise ArgumentError(f"export: cc must be a compiler's command, got {cc!r}")
    command = shlex.split(cc)
    if command == ["zig"]:
        command = ["zig", "cc"]
    if shutil.which(command[0]) is None:
        raise ToolError(
            f"export: cc={cc!r}: there is no command {command[0]!r} here; install it, or leave cc out "
            "and install flatgrad[cross]"
        )
    return command, "zig" in Path(command[0]).name or "ziglang" in command


def flags_for(target: Target, *, zig: bool, relaxed: bool, bare: bool = False) -> list[str]:
    """How `target`'s code is compiled, whatever is made of it.

    relaxed : whether -ffast-math may be given where the vector unit needs it.
    bare : leave out the functions that tell sizes and names.
    """
    flags = ["-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno"]
    if zig and target.zig:
        flags += ["-target", target.zig, f"-mcpu={target.cpu}", "-fno-sanitize=all"]
    elif zig:
        flags += ["-mcpu=native"] if target.name == "native" else []
        flags += ["-fno-sanitize=all"]
    else:
        flags += target.flags
    if target.freestanding:
        flags[1] = "-O2"
        flags += ["-ffreestanding", "-ffunction-sections", "-fdata-sections"]
        flags += ["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
    if relaxed and target.relaxed and not zig:  # clang would take NaN and infinity for impossible
        flags.append("-ffast-math")
    if bare:
        flags.append("-DFLATGRAD_BARE")
    return flags


def library_name(name: str, target: Target) -> str:
    if target.freestanding:
        return f"lib{name}.a"
    if not target.zig:
        return f"lib{name}" + {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
    return f"lib{name}.so"


def compile_library(
    sources: list[Path],
    name: str,
    target: Target,
    *,
    cc: str | None = None,
    relaxed: bool = True,
    libraries: tuple[str, ...] = (),
) -> Path:
    """A shared library of `sources` beside the first of them; a static one on microcontrollers.

    Raises
    ------
    ToolError
        If no compiler is here, or it refuses the program.
    """
    command, zig = compiler_for(target, cc)
    head, own = _apart(command, zig)
    command = [*head, *flags_for(target, zig=zig, relaxed=relaxed), *own]  # the user's flags win
    folder = sources[0].parent
    goal = folder / library_name(name, target)
    with tempfile.TemporaryDirectory(prefix="flatgrad-") as scratch:
        made = Path(scratch) / goal.name
        if target.freestanding:
            objects = []
            for source in sources:
                objects.append(Path(scratch) / f"{source.stem}.o")
                _run([*command, "-c", str(source), "-o", str(objects[-1])])
            _run([*_archiver(head, zig), "rcs", str(made), *map(str, objects)])
        else:
            link = ["-fPIC", "-shared", "-s"]
            if target.name == "rpi0" and not libraries:
                link += ["-nostdlib", "-ffreestanding"]  # no C library that could be of another ARM
            ends = [f"-l{x}" for x in libraries]
            _run([*command, *link, *map(str, sources), "-o", str(made), *ends])
        # Into its folder under another name first: a process may have the old one loaded.
        beside = goal.with_name(f".{goal.name}.{os.getpid()}")
        shutil.copyfile(made, beside)
        os.chmod(beside, 0o755 if not target.freestanding else 0o644)
        os.replace(beside, goal)
    return goal


def _apart(command: list[str], zig: bool) -> tuple[list[str], list[str]]:
    """The compiler itself, and the flags that were given with it."""
    if zig and "cc" in command:
        at = command.index("cc") + 1
    else:
        at = next((k for k, word in enumerate(command) if word.startswith("-")), len(command))
    return command[:at], command[at:]


def _archiver(command: list[str], zig: bool) -> list[str]:
    if zig:
        return [*command[: command.index("cc") if "cc" in command else len(command)], "ar"]
    cross = command[0].removesuffix("gcc").removesuffix("clang").removesuffix("cc")
    for name in (f"{cross}ar", "ar"):
        if shutil.which(name):
            return [name]
    raise ToolError(
        f"export: a static library needs {cross}ar, which is not here; install the compiler's binutils"
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(
            f"export: {shlex.join(command)} failed with status {done.returncode}:\n"
            + "\n".join(lines[:20])
        )
