"""Run an export's self-test in emulators of boards: ``python -m tools.boards.emulate FOLDER``.

Tells whether the stored vectors are given back, the sizes of code and constants, what a call touched
of its stack and of its scratch memory, and a hash of the bits of all results.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .machines import BOARDS, PACKAGES, Board, C, missing

__all__ = ["Build", "Seen", "build", "install", "run", "sections"]

LONGEST = 300  # seconds that a program may run


@dataclass
class Build:
    """A self-test that was linked for a board."""

    board: Board
    program: Path
    sections: dict[str, int]


@dataclass
class Seen:
    """What a program showed.

    Attributes
    ----------
    passed : bool
        The self-test's exit status was 0.
    text : str
        What it said.
    stack, work : int
        Bytes below the caller's stack pointer, and from the start of work, that some call wrote to.
    bits : str
        A hash of all results of all calls, bit by bit.
    """

    passed: bool
    text: str
    calls: int = 0
    stack: int = 0
    work: int = 0
    bits: str = ""


def build(
    folder: Path,
    name: str,
    board: Board,
    place: Path,
    flags: tuple[str, ...] = ("-O2", "-ffp-contract=off"),
    libraries: tuple[str, ...] = (),
    compiler: tuple[str, ...] | None = None,
) -> Build:
    """The program of ``NAME.c``, ``NAME_test.c`` and the probe.

    flags : how NAME.c is compiled; ``-std=c99`` and the board's own flags are added.
    compiler : another one, for NAME.c alone; it gets no flags but these.
    """
    own = [*board.compiler, "-std=c99", *board.flags, "-I", str(folder)]
    if board.bare:
        own += ["-ffunction-sections", "-fdata-sections"]
    header = (folder / f"{name}.h").read_text()
    jobs = {
        f"{name}.o": [*flags, str(folder / f"{name}.c")],
        "test.o": ["-O1", f"-D{name}=probed_{name}", str(folder / f"{name}_test.c")],
        # GNU C for its inline assembly; never with the flags that are tried on NAME.c.
        "probe.o": ["-std=gnu99", "-O1", *_probe(header, name), str(C / "probe.c")],
    }
    if board.bare:
        jobs["start.o"] = ["-O1", str(C / "start.c")]
    for goal, what in jobs.items():
        other = compiler is not None and goal == f"{name}.o"
        _run([*(compiler if other else own), *what, "-c", "-o", str(place / goal)])
    program = place / f"{name}.{board.name}"
    ends = [f"-l{x}" for x in libraries]
    objects = [str(place / goal) for goal in jobs]
    _run([*board.compiler, *board.flags, *objects, *board.link, "-o", str(program), *ends])
    return Build(board, program, sections(board, place / f"{name}.o"))


def _probe(header: str, name: str) -> list[str]:
    """The macros that tell c/probe.c of the function."""
    macro = name.upper()
    types = set(re.findall(rf"^#define {macro}_(?:IN|OUT)\d+_TYPE (\w+)$", header, re.M))
    rows = []
    for k in range(int(_macro(header, f"{macro}_N_OUT"))):
        kind = _macro(header, f"{macro}_OUT{k}_TYPE")
        updates = re.search(rf"^#define {macro}_OUT{k}_UPDATES (\d+)$", header, re.M)
        is_float = int(kind in ("float", "double"))
        at = updates[1] if updates else -1
        rows.append(f"{{sizeof({kind}),{is_float},{macro}_OUT{k}_SIZE,{at}}}")
    return [
        f'-DPROBE_HEADER="{name}.h"',
        f"-DPROBE_CALL={name}",
        f"-DPROBED=probed_{name}",
        f"-DPROBE_TYPE={types.pop() if len(types) == 1 else 'void'}",
        f"-DPROBE_WORK={_macro(header, f'{macro}_WORK_BYTES')}",
        f"-DPROBE_RESULTS={','.join(rows)}",
    ]


def _macro(header: str, name: str) -> str:
    return re.search(rf"^#define {name} (\w+)", header, re.M)[1]


def sections(board: Board, program: Path) -> dict[str, int]:
    """Bytes of code, constants (also string literals), initialised and zeroed memory."""
    found = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    for line in _run([board.size, "-A", str(program)]).splitlines():
        match = re.match(r"\.(text|rodata|data|bss)[.\w]*\s+(\d+)", line)
        if match and not line.startswith(".data.rel.ro"):
            found[match[1]] += int(match[2])
    return found


def run(made: Build) -> Seen:
    """Run it; a program that hangs counts as failed."""
    command = [*made.board.runner, str(made.program)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return Seen(False, f"still running after {LONGEST} s")
    text = done.stdout + done.stderr
    match = re.search(r"probe: calls (\d+) stack (\d+) work (\d+) of \d+ bits (\w+)", text)
    seen = Seen(done.returncode == 0 and match is not None, text.strip())
    if match:
        seen.calls, seen.stack, seen.work = map(int, match.groups()[:3])
        seen.bits = match[4]
    return seen


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where fg.export wrote its files")
    parser.add_argument("--board", action="append", choices=list(BOARDS), help="all if not given")
    parser.add_argument("--name", help="of the function; needed if the folder has several")
    parser.add_argument(
        "--flags", default="-O2 -ffp-contract=off", help="for NAME.c (default: %(default)s)"
    )
    parser.add_argument("--libraries", default="", help='linked with it, e.g. "m"')
    parser.add_argument("--install", action="store_true", help="first, as root: apt-get install")
    given = parser.parse_args()
    chosen = [BOARDS[b] for b in given.board or BOARDS]
    if given.install and install([c for b in chosen for c in (b.compiler[0], *b.runner[:1])]):
        return 1
    names = [given.name] if given.name else sorted(p.stem for p in given.folder.glob("*.h"))
    failed = 0
    for board in chosen:
        lacking = missing(board)
        if lacking:
            print(f"{board.name:13} SKIPPED: needs {'; '.join(lacking)}")
            continue
        for name in names:
            failed += not _show(given, board, name)
    return 1 if failed else 0


def _show(given, board: Board, name: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="flatgrad-") as place:
        libraries = tuple(given.libraries.split())
        made = build(given.folder, name, board, Path(place), tuple(given.flags.split()), libraries)
        seen = run(made)
    sizes = " ".join(f"{k} {v}" for k, v in made.sections.items())
    word = "ok" if seen.passed else f"FAILED: {seen.text}\n"
    print(
        f"{board.name:13} {name}: {word}; {sizes}; stack {seen.stack} work {seen.work} bits {seen.bits}"
    )
    return seen.passed


def install(commands: list[str]) -> int:
    """apt-get install the packages that have these commands; as root only."""
    if os.geteuid() != 0:
        print("--install needs root; or install by hand what is listed as missing", file=sys.stderr)
        return 2
    packages = sorted({p for c in commands if c in PACKAGES for p in PACKAGES[c].split()})
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    return subprocess.run(
        command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
