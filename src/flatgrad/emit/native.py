"""Object code of a loop program without Numba: a function that Python calls, made by LLVM alone.

``flatgrad_call`` takes NumPy arrays as CPython's fast calls hand them over (``METH_FASTCALL``), reads
where their data lies, lets go of the GIL and runs the loops; it returns the program's code, or
NOT_ARRAYS if an argument is no plain array. Shapes and dtypes are the caller's business.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from llvmlite import binding
from llvmlite import ir as L

from ..lower import ir
from .llvm import Emitter
from .llvm_types import I8, I64, PTR

__all__ = ["CALL", "NDARRAY", "NOT_ARRAYS", "detected", "object_code", "target"]

CALL, NDARRAY = "flatgrad_call", "flatgrad_ndarray"
NOT_ARRAYS = -1

# Where an array object keeps its class and the address of its data: right behind CPython's head of an
# object, whose last field the class is.
HEAD = object.__basicsize__
CLASS = HEAD - 8


def target() -> tuple[str, str]:
    """The processor's name and features that code is made for: Numba's, where it was told other ones."""
    if "numba" in sys.modules:
        config = sys.modules["numba"].config
        name, features = config.CPU_NAME, config.CPU_FEATURES
    else:
        name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    found = detected() if name in (None, "", "host") else (name, "")
    return found[0], found[1] if features is None else features


@lru_cache(maxsize=1)
def detected() -> tuple[str, str]:
    """The processor's name and features as LLVM finds them, or ``generic`` with what every one has.

    On ARM it reads /proc/cpuinfo. In an emulator that file tells of another machine, and in some
    containers there is none: LLVM then knows no name, and which features it denies depends on
    what it read.
    """
    name = binding.get_host_cpu_name()
    try:
        features = binding.get_host_cpu_features().flatten()
    except RuntimeError:  # it could not find out
        name, features = "generic", ""
    if name == "generic" and binding.get_process_triple().startswith(("aarch64", "arm64")):
        features = "+fp-armv8,+neon"
    return name, features


@lru_cache(maxsize=4)
def _machine(cpu: str, features: str):
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    found = binding.Target.from_default_triple()
    return found.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default"
    )


def object_code(program: ir.Program) -> bytes:
    """The object file of a program and its ``flatgrad_call``, optimised for the machine at hand."""
    machine = _machine(*target())
    module = L.Module("flatgrad", context=L.Context())
    module.triple = binding.get_default_triple()
    module.data_layout = str(machine.target_data)
    _entry(module, program)
    parsed = binding.parse_assembly(str(module))
    tuning = binding.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_object(parsed)


def _entry(module: L.Module, program: ir.Program) -> None:
    function = L.Function(module, L.FunctionType(PTR, [PTR, PTR, I64]), CALL)
    function.attributes.add("nounwind")
    given = function.args[1]
    b = L.IRBuilder(function.append_basic_block("entry"))
    arrays = [
        b.load(_behind(b, given, 8 * k), typ=PTR)
        for k in range(len(program.inputs) + len(program.outputs) + 1)
    ]
    kind = L.GlobalVariable(module, I8, NDARRAY)
    plain = L.Constant(L.IntType(1), 1)
    for array in arrays:
        own = b.load(_behind(b, array, CLASS), typ=PTR)
        plain = b.and_(plain, b.icmp_unsigned("==", b.ptrtoint(own, I64), b.ptrtoint(kind, I64)))
    result = _external(module, "PyLong_FromLongLong", PTR, [I64])
    with b.if_then(b.not_(plain), likely=False):
        b.ret(b.call(result, [L.Constant(I64, NOT_ARRAYS)]))
    data = [b.load(_behind(b, array, HEAD), typ=PTR) for array in arrays]
    arena = data.pop()
    offset = 0
    for size in program.slots:
        data.append(_behind(b, arena, offset))
        offset += size
    body = Emitter(module, program, "flatgrad_program").emit()
    thread = b.call(_external(module, "PyEval_SaveThread", PTR, []), [])
    code = b.call(body, data)
    b.call(_external(module, "PyEval_RestoreThread", L.VoidType(), [PTR]), [thread])
    b.ret(b.call(result, [code]))


def _behind(b: L.IRBuilder, pointer, offset: int):
    return b.gep(pointer, [L.Constant(I64, offset)], inbounds=True, source_etype=I8)


def _external(module: L.Module, name: str, returned, arguments) -> L.Function:
    return L.Function(module, L.FunctionType(returned, arguments), name)
