"""Loops over scalar functions are vector code: read from the assembly, for x86 and a Cortex-A72's NEON."""

from __future__ import annotations

import re

import numpy as np
import pytest
from llvmlite import binding
from llvmlite import ir as L

import flatgrad as fg
from flatgrad.emit.llvm import Emitter
from flatgrad.emit.mathlib import FUNCTIONS
from flatgrad.graph import dtypes
from flatgrad.lower import ir
from tests.support.programs import loops_of

TARGETS = {
    "x86": ("x86_64-unknown-linux-gnu", "haswell", "+avx2,+fma"),
    "neon": ("aarch64-unknown-linux-gnu", "cortex-a72", "+neon"),
}
# Packed arithmetic of each target: "vmulps %ymm", "fmul v0.4s".
PACKED = {
    ("x86", "float32"): r"v(add|mul|sub|fmadd\d+)ps[^\n]*%ymm",
    ("x86", "float64"): r"v(add|mul|sub|fmadd\d+)pd[^\n]*%ymm",
    ("neon", "float32"): r"f(add|mul|sub|mla)\s+v\d+\.4s",
    ("neon", "float64"): r"f(add|mul|sub|mla)\s+v\d+\.2d",
}


def loop_over(name: str, dtype) -> ir.Program:
    """``y[i] = function(x[i])`` over 4,096 elements."""
    inputs = [ir.Buffer(f"x{k}", dtype, 4096, "in", (4096,)) for k in range(FUNCTIONS[name].arity)]
    output = ir.Buffer("y0", dtype, 4096, "out", (4096,))
    i = ir.Axis(4096, "i")
    value = ir.call(name, *[ir.load(b, ir.var(i)) for b in inputs])
    body = [ir.For(i, [ir.Store(output, ir.var(i), value)])]
    return ir.Program(inputs, [output], body, [], {}, [], [output])


def assembly(target: str, programs: dict) -> dict[str, str]:
    """The assembly of each program, compiled for a target as Numba compiles for its own."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    triple, cpu, features = TARGETS[target]
    module = L.Module("functions")
    module.triple = triple
    for name, program in programs.items():
        Emitter(module, program, name).emit().linkage = "external"
    machine = binding.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3
    )
    parsed = binding.parse_assembly(str(module))
    parsed.data_layout = str(machine.target_data)
    options = binding.create_pipeline_tuning_options(3)
    options.loop_vectorization = options.slp_vectorization = True
    binding.create_pass_builder(machine, options).getModulePassManager().run(
        parsed, binding.create_pass_builder(machine, options)
    )
    text = machine.emit_assembly(parsed)
    found = {}
    for name in programs:
        start = re.search(rf"^{name}:", text, re.MULTILINE).end()
        end = re.compile(r"^\s*\.size|\.cfi_endproc", re.MULTILINE).search(text, start).start()
        found[name] = text[start:end]
    return found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=lambda d: d.name)
def test_every_function_is_packed_arithmetic_without_calls(target, dtype):
    programs = {f"loop_{name}": loop_over(name, dtype) for name in FUNCTIONS}
    packed = PACKED[target, dtype.name]
    # Those whose float32 formula is in float64.
    if dtype is dtypes.float32:
        packed = f"{packed}|{PACKED[target, 'float64']}"
    for name, text in assembly(target, programs).items():
        assert len(re.findall(packed, text)) >= 3, f"{name} has no packed arithmetic"
        calls = re.findall(r"^\s*(?:callq?|bl)\s+(\S+)", text, re.MULTILINE)
        assert not calls, f"{name} calls {calls}"


@pytest.mark.parametrize("target", TARGETS)
def test_a_fused_gradient_too(target):
    x = np.zeros(4096, np.float32)
    f = fg.grad(lambda x: (fg.sigmoid(x) * fg.tanh(x)).sum())
    text = assembly(target, {"gradient": loops_of(f, x)})["gradient"]
    assert len(re.findall(PACKED[target, "float32"], text)) > 20
    assert not re.search(r"^\s*(?:callq?|bl)\s", text, re.MULTILINE)


def test_a_loop_that_cannot_be_packed_is_seen():
    """The check can fail: a recurrence has no packed arithmetic."""
    x = np.zeros(4096, np.float32)
    program = loops_of(lambda x: fg.cumprod(fg.tanh(x) + 1.0, 0)[-1], x)
    scalar = [s for s in program.body if isinstance(s, ir.For)][-1:]
    alone = ir.Program(
        program.inputs, program.outputs, scalar, program.slots, program.place, [], []
    )
    text = assembly("neon", {"recurrence": alone})["recurrence"]
    assert len(re.findall(PACKED["neon", "float32"], text)) < 3
