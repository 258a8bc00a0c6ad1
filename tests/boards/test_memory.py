"""What ``flatgrad inspect`` says of memory is what a painted stack and arena show on a microcontroller."""

import importlib.util
import subprocess

import pytest
from tools.boards import emulate

import flatgrad as fg
from boards.emulated import board_named
from flatgrad.cli.memory import measured
from flatgrad.cli.stack import RUNTIME
from flatgrad.export.build import compiler_for, flags_for
from support.workloads import WORKLOADS, workload

pytestmark = pytest.mark.boards

# Frames that clang tells are added, though not all are on one way.
SLACK = 256


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
    # A bound: what the frames of the compiler's own functions are, no compiler tells.
    assert 0 <= figures["stack"] - found.stack <= RUNTIME * bool(symbols.stdout.strip())
    parts = ("inputs", "state", "outputs", "work", "stack")
    assert figures["ram"] == sum(figures[k] for k in parts)
    assert figures["code"] == built.sections["text"]
    assert built.sections["data"] == built.sections["bss"] == 0


@pytest.mark.parametrize("name", ["rosenbrock", "ekf_f32", "cnn"])
def test_clangs_stack_is_a_bound(tmp_path, name):
    board, it = board_named("m4f"), workload(name)
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is NOT INSTALLED: clang's frames were NOT compared")
    path = tmp_path / "c"
    how = {"target": "cortex-m4f", "donate_argnums": it.donate_argnums}
    made = fg.export(it.function, *it.example, name=f"fn_{name}", path=path, **how)
    command, zig = compiler_for(made.target, None)
    flags = flags_for(made.target, zig=zig, relaxed=True, bare=True)
    built = emulate.build(path, made.name, board, tmp_path, tuple(flags), compiler=tuple(command))
    found = emulate.run(built)
    assert found.passed, found.text
    assert 0 <= measured(made, None)["stack"] - found.stack <= RUNTIME + SLACK


@pytest.mark.parametrize("name,limit", [("mpc_f32", 1024), ("scan_f32", 5 * 1024)])
def test_a_budget_is_kept(tmp_path, name, limit):
    """The gradient of a loop within a quarter of its scratch memory, or less."""
    board, it = board_named("m4f"), workload(name)
    path = tmp_path / "c"
    made = fg.export(
        it.function, *it.example, name=f"fn_{name}", path=path, target="cortex-m4f", max_ram=limit
    )
    found = emulate.run(emulate.build(path, made.name, board, tmp_path))
    assert found.passed, found.text
    assert made.memory["ram"] <= limit and found.work <= made.memory["work"]
