"""LLVM's types and constants for ours."""

from __future__ import annotations

import struct

from llvmlite import ir as L

from ..graph import dtypes
from ..graph.dtypes import DType

__all__ = ["I1", "I8", "I32", "I64", "PTR", "constant", "memory_type", "opaque", "type_of"]

I1, I8, I32, I64 = L.IntType(1), L.IntType(8), L.IntType(32), L.IntType(64)
PTR = L.PointerType()


def type_of(dtype: DType) -> L.Type:
    """The register type; bool is i1 (i8 in memory)."""
    if dtype.category == dtypes.BOOL:
        return I1
    if dtype.category == dtypes.INTEGER:
        return L.IntType(dtype.itemsize * 8)
    return L.FloatType() if dtype.itemsize == 4 else L.DoubleType()


def memory_type(dtype: DType) -> L.Type:
    return I8 if dtype.category == dtypes.BOOL else type_of(dtype)


def constant(number, dtype: DType) -> L.Constant:
    kind = type_of(dtype)
    if dtype.is_floating_point:
        return _float_constant(number, dtype, kind)
    return L.Constant(kind, int(number))


def _float_constant(number: float, dtype: DType, kind) -> L.Constant:
    """An exact literal, NaN payloads and signed zeros included."""
    rounded = dtype.np.type(number)
    if number == number and abs(number) != float("inf"):
        return L.Constant(kind, float(rounded))
    bits = struct.unpack("<Q", struct.pack("<d", float(number)))[0]
    return L.FormattedConstant(kind, f"0x{bits:016x}")


def opaque(b: L.IRBuilder, cell):
    """A stack cell's address as a pointer to anything; LLVM takes the round back."""
    return b.inttoptr(b.ptrtoint(cell, I64), PTR)
