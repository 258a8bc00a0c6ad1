"""What ``flatgrad inspect`` says of memory is what a painted stack and arena show on a microcontroller."""

import re
import subprocess

import pytest
from tools.boards import emulate

import flatgrad as fg
from boards.emulated import board_named
from flatgrad.cli.memory import measured
from flatgrad.export.build import flags_for
from support.workloads import WORKLOADS, workload

pytestmark = pytest.mark.boards

# Frames of the compiler's own arithmetic (float64 on a processor without it), which it does not tell.
RUNTIME = 48


@pytest.mark.parametrize("name", WORKLOADS)
def test_inspect_tells_what_is_touched(tmp_path, name):
    board, it = board_named("m4f"), workload(name)
    made = fg.export(
        it.function,
        *it.example,
        name=f"fn_{name}",
        path=tmp_path / "c",
        target="cortex-m4f",
        donate_argnums=it.donate_argnums,
    )
    figures = measured(made, "arm-none-eabi-gcc")
    flags = flags_for(made.target, zig=False, relaxed=True, bare=True)
    built = emulate.build(made.path, made.name, board, tmp_path, tuple(flags))
    found = emulate.run(built)
    assert found.passed, found.text
    assert figures["work"] - made.layout.align < found.work <= figures["work"]
    object_file = str(tmp_path / f"{made.name}.o")
    symbols = subprocess.run(
        ["arm-none-eabi-nm", "-u", object_file], capture_output=True, text=True, check=True
    )
    calls_runtime = re.search(r"U __aeabi", symbols.stdout) is not None
    assert 0 <= found.stack - figures["stack"] <= RUNTIME * calls_runtime
    parts = ("inputs", "state", "outputs", "work", "stack")
    assert figures["ram"] == sum(figures[k] for k in parts)
    assert figures["code"] == built.sections["text"]
    assert built.sections["data"] == built.sections["bss"] == 0
