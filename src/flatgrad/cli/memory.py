"""What ``export`` and ``inspect`` share: options of a target, and the table of RAM and flash."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

from ..errors import ToolError
from .elf import STACK_FLAG, Object
from .screen import Screen, size
from .stack import GRAPH_FLAG, RUNTIME, deepest

__all__ = ["add_memory", "fits", "measured", "show_memory"]

RAM = ("inputs", "state", "outputs", "work", "stack", "ram")
FLASH = ("code", "constants", "flash")


def add_memory(parser) -> None:
    """Options of both commands."""
    parser.add_argument("--target", default="generic", metavar="T", help="rpi4, ...; list: all")
    parser.add_argument("--cc", metavar="CC", help="the compiler (the target's own, or zig)")
    parser.add_argument("--donate", metavar="0,1", help="arguments written over: the state")
    parser.add_argument("--reproducible", action="store_true", help="the same bits everywhere")
    parser.add_argument("--max-ram", metavar="64K", help="plan within, or refuse")
    parser.add_argument("--max-flash", metavar="256K", help="the same for code and constants")


def measured(made, cc: str | None) -> dict:
    """An export's RAM, and its flash as compiled; code is None where no compiler for it is here.

    ``stack`` is the most that a call takes below its caller's frame, and part of ``ram``: the heaviest way
    through GCC's call graph, or the sum of all of clang's frames; None if nobody tells.
    """
    figures = dict(made.memory)
    from ..export.build import compiler_for

    try:
        command, zig = compiler_for(made.target, cc)
    except ToolError as error:
        if cc is not None:
            raise
        figures |= {"code": None, "flash": None, "stack": None, "why": str(error).splitlines()[0]}
        return figures
    code, constants, stack = _compiled(made, command, zig)
    figures |= {"code": code, "constants": max(constants, figures["constants"]), "stack": stack}
    figures["ram"] += stack or 0
    figures["flash"] = figures["code"] + figures["constants"]
    return figures


def _compiled(made, command: list[str], zig: bool) -> tuple[int, int, int | None]:
    """Bytes of (code, constants, stack) of the compiled sources, the functions that tell sizes left out."""
    from ..export.build import flags_for

    flags = flags_for(made.target, zig=zig, relaxed=not made.layout.reproducible, bare=True)
    code = constants = 0
    stacks: list[int | None] = []
    with tempfile.TemporaryDirectory(prefix="flatgrad-") as scratch:
        for source in made.sources:
            goal = Path(scratch) / f"{source}.o"
            _compile([*command, *flags, "-c", str(made.files[source]), "-o", str(goal)], zig)
            found = Object(goal.read_bytes())
            sizes = found.code_and_constants()
            code, constants = code + sizes[0], constants + sizes[1]
            stacks.append(_stack(found, goal.with_suffix(".ci")))
    return code, constants, None if None in stacks else max(stacks)


def _compile(line: list[str], zig: bool) -> None:
    """Compile, and have frames told as GCC or clang does, or not at all."""
    for more in ((STACK_FLAG,), ()) if zig else ((GRAPH_FLAG,), (STACK_FLAG,), ()):
        done = subprocess.run([*line, *more], capture_output=True, text=True)
        if done.returncode == 0:
            return
    said = (done.stderr or done.stdout).strip()
    raise ToolError(f"{shlex.join(line)} failed with status {done.returncode}:\n{said}")


def _stack(found: Object, graph: Path) -> int | None:
    if graph.exists():
        return deepest(graph.read_text()) + found.red_zone
    frames = found.frames()
    return None if frames is None else frames + found.red_zone + RUNTIME * found.calls_others()


def fits(figures: dict, limits: dict) -> list[str]:
    """Which of ``ram`` and ``flash`` are above their limits, or not known to be within."""
    return [
        name
        for name, limit in limits.items()
        if limit is not None and (figures.get(name) is None or figures[name] > limit)
    ]


def show_memory(rows: list[tuple[str, dict]], target: str, limits: dict, screen: Screen) -> None:
    """The table, and a verdict for each limit."""
    columns = [n for n in (*RAM, *FLASH) if any(n in figures for _, figures in rows)]
    table = [(f"bytes on {target}", *columns)]
    for label, figures in rows:
        cells = ("?" if figures.get(n) is None else str(figures[n]) for n in columns)
        table.append((label, *cells))
    screen.table(table, tuple(range(1, len(columns) + 1)))
    for why in sorted({figures["why"] for _, figures in rows if "why" in figures}):
        screen.line(f"code: {why}")
    for name, limit in limits.items():
        if limit is None:
            continue
        for label, figures in rows:
            value = figures.get(name)
            if value is None:
                screen.line(f"{label}: {name} {screen.coloured('NOT KNOWN', 'fail')}")
            elif value <= limit:
                word = screen.coloured("fits", "ok")
                screen.line(f"{label}: {name} {word}, {size(value)} of {size(limit)}")
            else:
                word = screen.coloured("TOO LARGE", "fail")
                screen.line(f"{label}: {name} {word}, {size(value)}, and {size(limit)} are allowed")
