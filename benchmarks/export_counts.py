"""Instructions and bytes of exported C: ``python benchmarks/export_counts.py``.

Instructions of one call are counted by valgrind's callgrind on x86-64, compiled for x86-64-v3 (it knows no
512-bit registers). They repeat where times do not, and say what changed, not how long a board takes. Bytes
of code are ``.text`` as gcc makes it, here and for a Cortex-M4F. ``suite/size/bench_export.py`` tracks both.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import flatgrad as fg
import tables
from flatgrad.func.tree import flatten

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]
from support.workloads import WORKLOADS, workload  # noqa: E402

HERE = ["-std=c99", "-O3", "-march=x86-64-v3", "-ffp-contract=off"]
BOARD = "-std=c99 -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -ffreestanding -DFLATGRAD_BARE"
LIMITS = {"rosenbrock_f32": 2048, "ekf_f32": 16384}  # bytes of .text on a Cortex-M4F

# Reads the arguments' bytes, one after the other, from a file, and calls the function once.
DRIVER = """\
#include <stdio.h>
#include <stdlib.h>
int {name}(const void *const *in, void *const *out, void *work);
static void *room(size_t bytes) {{ return aligned_alloc(64, (bytes + 127) / 64 * 64); }}
int main(int count, char **words) {{
    static const size_t given[] = {{{given}}}, made[] = {{{made}}};
    const void *in[sizeof given / sizeof *given];
    void *out[sizeof made / sizeof *made];
    FILE *file = count > 1 ? fopen(words[1], "rb") : NULL;
    size_t k;
    if (file == NULL) return 2;
    for (k = 0; k < sizeof given / sizeof *given; k++) {{
        void *p = room(given[k]);
        if (fread(p, 1, given[k], file) != given[k]) return 2;
        in[k] = p;
    }}
    for (k = 0; k < sizeof made / sizeof *made; k++) out[k] = made[k] ? room(made[k]) : NULL;
    return {name}(in, out, room({work}));
}}
"""


def exported(name: str, folder: Path, target: str):
    """A workload's files."""
    it = workload(name)
    return fg.export(
        it.function,
        *it.example,
        name=it.name,
        path=folder / f"{name}_{target}",
        target=target,
        donate_argnums=it.donate_argnums,
    )


def text_bytes(command: list[str], size: str, source: Path, folder: Path) -> int:
    """Bytes of ``.text`` of a C file's object."""
    made = folder / "sized.o"
    subprocess.run([*command, "-c", source, "-o", made], check=True)
    run = subprocess.run([size, "-A", made], check=True, capture_output=True, text=True)
    return sum(int(n) for n in re.findall(r"^\.text\S*\s+(\d+)", run.stdout, re.MULTILINE))


def instructions(made, folder: Path) -> int:
    """Instructions of one call, of all that it calls as well."""
    it = workload(made.name)
    given = [
        np.ascontiguousarray(a, slot.dtype.np)
        for a, slot in zip(flatten(it.example)[0], made.layout.arguments, strict=True)
    ]
    text = DRIVER.format(
        name=made.name,
        given=", ".join(str(a.nbytes) for a in given),
        # What is updated is updated where it lies: its result is skipped.
        made=", ".join(str(0 if s.updates is not None else s.bytes) for s in made.layout.results),
        work=made.memory["work"],
    )
    driver, data, program = folder / "driver.c", folder / "given.bin", folder / "counted"
    driver.write_text(text)
    data.write_bytes(b"".join(a.tobytes() for a in given))
    source = made.files[f"{made.name}.c"]
    subprocess.run(
        ["gcc", *HERE, "-D_ISOC11_SOURCE", driver, source, "-o", program, "-lm"], check=True
    )
    counts = folder / "callgrind.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}"]
    command += [f"--toggle-collect={made.name}", program, data]
    subprocess.run(command, check=True, capture_output=True)
    return int(re.search(r"^(?:totals|summary): (\d+)", counts.read_text(), re.MULTILINE)[1])


def missing(*tools: str) -> list[str]:
    return [t for t in tools if shutil.which(t) is None]


def counted(names, folder: Path) -> None:
    """Print instructions and bytes on this machine."""
    lost = missing("gcc", "size", "valgrind")
    if lost:
        print(f"!! {', '.join(lost)} NOT INSTALLED: instructions were not counted")
        return
    print(
        "| x86-64-v3, gcc -O3 | instructions of a call | .text, bytes | work, bytes | constants |"
    )
    print("|---|---|---|---|---|")
    for name in names:
        made = exported(name, folder, "x86-64-v3")
        text = text_bytes(["gcc", *HERE], "size", made.files[f"{name}.c"], folder)
        memory = made.memory
        count = instructions(made, folder)
        cells = [f"{x:,}" for x in (count, text, memory["work"], memory["constants"])]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def on_board(names, folder: Path) -> list[dict]:
    """Print bytes on a Cortex-M4F; rows of those that have a limit."""
    lost = missing("arm-none-eabi-gcc", "arm-none-eabi-size")
    if lost:
        print(f"\n!! {', '.join(lost)} NOT INSTALLED: sizes on Cortex-M4F are not known")
        return []
    rows = []
    print(
        "\n| Cortex-M4F | .text, -Os | .text, -O2 | goal | constants | work |\n|---|" + "---|" * 5
    )
    for name in names:
        made = exported(name, folder, "cortex-m4f")
        source = made.files[f"{name}.c"]
        command = ["arm-none-eabi-gcc", *BOARD.split()]
        sizes = [
            text_bytes([*command, o], "arm-none-eabi-size", source, folder) for o in ("-Os", "-O2")
        ]
        limit = LIMITS.get(name)
        cells = [f"{x:,}" for x in sizes] + [f"{limit:,}" if limit else "-"]
        cells += [f"{made.memory[key]:,}" for key in ("constants", "work")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        if limit:
            rows.append(
                tables.row(f"{name}, .text, Cortex-M4F", "goal", sizes[0], limit, 1.0, "bytes")
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small ones alone")
    parser.add_argument("--only", default="", help="workloads, separated by commas")
    tables.add_option(parser)
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(WORKLOADS)
    names = ["rosenbrock_f32", "ekf_f32"] if options.quick else names
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        counted(names, folder)
        rows = on_board(names, folder)
    tables.write(options.json, rows)


if __name__ == "__main__":
    main()
