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
    from .llvm import constant

    a, b, c = s.a, s.b, s.c
    m, n, k = s.m, s.n, s.k
    if c[3] != 1 and not (n == 1 and c[2] == 1):
        # The output runs down its columns: compute the transpose of everything.
        a, b, m, n = _transposed(b), _transposed(a), n, m
        c = _transposed(c)
    flag_a, lead_a = _layout(a, m, k)
    flag_b, lead_b = _layout(b, k, n)
    lead_c = max(c[2], n, 1)
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
            flag(flag_b),
            flag(flag_a),
            number(n),
            number(m),
            number(k),
            scalar(1.0),
            emitter.pointer(b[0], b[1]),
            number(lead_b),
            emitter.pointer(a[0], a[1]),
            number(lead_a),
            scalar(1.0 if s.accumulate else 0.0),
            emitter.pointer(c[0], c[1]),
            number(lead_c),
        ],
    )


def _transposed(operand):
    buffer, offset, rs, cs = operand
    return buffer, offset, cs, rs


def _layout(operand, rows: int, cols: int) -> tuple[str, int]:
    """(flag, leading dimension) of a row-major operand seen by Fortran: 'N' if its rows are contiguous."""
    _, _, rs, cs = operand
    if (cs == 1 or cols == 1) and (rs >= cols or rows == 1):
        return "N", max(rs if rows > 1 else cols, cols, 1)
    return "T", max(cs if cols > 1 else rows, rows, 1)
