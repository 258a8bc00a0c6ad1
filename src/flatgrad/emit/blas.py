"""BLAS in compiled programs: SciPy's own, found once a process and known to LLVM by name.

Programs refer to ``flatgrad_sgemm`` and ``flatgrad_dgemm`` by symbol, so that cached machine code stays
valid in the next process, where the address differs.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import ExtensionFileLoader, PathFinder
from importlib.util import module_from_spec
from pathlib import Path

from llvmlite import ir as L

from ..lower import ir
from .gemm import oriented
from .llvm_types import constant

I32, PTR = L.IntType(32), L.PointerType()
BLAS_MODULE = "scipy.linalg.cython_blas"
SYMBOLS = {4: ("flatgrad_sgemm", "sgemm"), 8: ("flatgrad_dgemm", "dgemm")}

_provided = False


@contextmanager
def provided():
    """Make the BLAS symbols known to LLVM, for the block that compiles or loads programs."""
    global _provided
    if _provided:
        yield
        return
    import llvmlite.binding

    # Numba asks for the same module when it compiles for the first time: in the block.
    with _only_the_extension(BLAS_MODULE):
        for symbol, address in addresses().items():
            llvmlite.binding.add_symbol(symbol, address)
        yield
    _provided = True


@lru_cache(maxsize=1)
def addresses() -> dict[str, int]:
    """Where SciPy's routines are, by the names that programs use."""
    with _only_the_extension(BLAS_MODULE):
        offered = importlib.import_module(BLAS_MODULE).__pyx_capi__
    return {symbol: _address(offered[routine]) for symbol, routine in SYMBOLS.values()}


def _address(capsule) -> int:
    """What a capsule points to; its name is the routine's C signature."""
    named = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(
        ("PyCapsule_GetName", ctypes.pythonapi)
    )
    pointed = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return pointed(capsule, named(capsule))


@contextmanager
def _only_the_extension(name: str):
    """Within the block, importing the extension module `name` does not run its package.

    ``import scipy.linalg.cython_blas`` runs all of scipy.linalg first: 13 MB and a tenth of a
    second for two addresses. Afterwards the import system is as it was: the module's next import is
    an ordinary one, which finds the same functions.
    """
    package = name.rpartition(".")[0]
    if package in sys.modules or name in sys.modules:
        yield
        return
    root, _, folder = package.partition(".")
    paths = [str(Path(p) / folder) for p in importlib.import_module(root).__path__]
    spec = PathFinder.find_spec(name, paths)
    if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
        yield  # an editable SciPy, for example: the ordinary import finds it
        return
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        yield
    finally:
        sys.modules.pop(name, None)


def gemm_call(emitter, s: ir.Gemm) -> None:
    """Fortran gemm on the transposed problem: column-major ``c' (n x m) = b' (n x k) a' (k x m)``."""
    g = oriented(s)
    builder = emitter.b
    symbol = SYMBOLS[s.dtype.itemsize][0]
    fn = emitter.module.globals.get(symbol)
    if fn is None:
        fn = L.Function(emitter.module, L.FunctionType(L.VoidType(), [PTR] * 13), symbol)

    def cell(value):
        with builder.goto_entry_block():
            slot = builder.alloca(value.type)
        builder.store(value, slot)
        return slot

    def number(x):
        return cell(L.Constant(I32, int(x)))

    def flag(letter):
        return cell(L.Constant(L.IntType(8), ord(letter)))

    def scalar(x):
        return cell(constant(float(x), s.dtype))

    builder.call(
        fn,
        [
            flag("NT"[g.transposed_b]),
            flag("NT"[g.transposed_a]),
            number(g.n),
            number(g.m),
            number(g.k),
            scalar(1.0),
            emitter.pointer(*g.b),
            number(g.lead_b),
            emitter.pointer(*g.a),
            number(g.lead_a),
            scalar(1.0 if s.accumulate else 0.0),
            emitter.pointer(*g.c),
            number(g.lead_c),
        ],
    )
