"""What ``export`` and ``inspect`` share: options of a target, and the table of RAM and flash."""

from __future__ import annotations

import shlex
import struct
import subprocess
import tempfile
from pathlib import Path

from ..errors import ToolError
from .screen import Screen, size
from .stack import FLAG, deepest

__all__ = ["add_memory", "fits", "measured", "sections", "show_memory"]

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

    ``stack`` is what a call takes below its caller's frame, and part of ``ram``; None if nobody tells.
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
    total, stack = [0, 0], None
    with tempfile.TemporaryDirectory(prefix="flatgrad-") as scratch:
        for source in made.sources:
            goal = Path(scratch) / f"{source}.o"
            line = [*command, *flags, "-c", str(made.files[source]), "-o", str(goal)]
            done = subprocess.run([*line, *[FLAG] * (not zig)], capture_output=True, text=True)
            if done.returncode:  # an older GCC, or another compiler
                done = subprocess.run(line, capture_output=True, text=True)
            if done.returncode:
                said = (done.stderr or done.stdout).strip()
                raise ToolError(f"{shlex.join(line)} failed with status {done.returncode}:\n{said}")
            for k, found in enumerate(sections(goal.read_bytes())):
                total[k] += found
            graph = goal.with_suffix(".ci")
            if graph.exists():
                stack = max(stack or 0, deepest(graph.read_text()))
    return total[0], total[1], stack


def sections(data: bytes) -> tuple[int, int]:
    """(bytes of code, bytes of constants) of an ELF object file.

    Code is what is executed, constants are what is loaded and not written; tables for unwinding are neither.
    """
    if data[:4] != b"\x7fELF":
        raise ToolError("inspect: the compiler made no ELF object; give one that does with --cc")
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    if wide:
        start = struct.unpack_from(f"{order}Q", data, 0x28)[0]
        entry, count, names = struct.unpack_from(f"{order}HHH", data, 0x3A)
    else:
        start = struct.unpack_from(f"{order}I", data, 0x20)[0]
        entry, count, names = struct.unpack_from(f"{order}HHH", data, 0x2E)
    head = f"{order}II4Q" if wide else f"{order}6I"  # name, type, flags, address, place, length
    rows = [struct.unpack_from(head, data, start + k * entry) for k in range(count)]
    text = rows[names][4]
    code = constants = 0
    for name, _, flags, _, _, length in rows:
        label = data[text + name : data.index(b"\0", text + name)]
        if not flags & 2 or label.startswith((b".eh_frame", b".ARM.ex", b".note")):
            continue
        if flags & 4:
            code += length
        elif not flags & 1:
            constants += length
    return code, constants


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
