"""Machine code that flatgrad loads itself, without Numba: quick to start, and given back when let go of.

Numba is a third of a second to import, as much again until its first function is compiled, and never
frees a function's code. What Python alone calls needs none of that: LLVM makes object code
(`emit.native`), which lies in the disk cache as one file, and LLVM's linker loads it. A loaded
function is a builtin of CPython; with its last reference its code is unmapped.
"""

from __future__ import annotations

import ctypes
import itertools
import threading

import numpy as np

from . import cache as disk

__all__ = ["Code", "loaded"]

STEM = "native"
FASTCALL = 0x0080  # METH_FASTCALL

_lock = threading.RLock()
_numbered = itertools.count()


class _Method(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("document", ctypes.c_char_p),
    )


class Code:
    """Linked object code; as long as anything refers to it, it stays in memory.

    Attributes
    ----------
    bytes : int
        Size of the object code.
    """

    def __init__(self, data: bytes):
        from llvmlite import binding

        from ..emit.native import CALL, NDARRAY

        self.bytes = len(data)
        library = binding.JITLibraryBuilder().add_object_img(data).add_current_process()
        for name in ("PyLong_FromLongLong", "PyEval_SaveThread", "PyEval_RestoreThread"):
            library.import_symbol(name, _address(getattr(ctypes.pythonapi, name)))
        library.import_symbol(NDARRAY, id(np.ndarray))
        if b"flatgrad_sgemm" in data or b"flatgrad_dgemm" in data:
            from ..emit.blas import addresses

            for name, address in addresses().items():
                library.import_symbol(name, address)
        library.export_symbol(CALL)
        with _lock:
            self._tracker = library.link(_linker(), f"flatgrad{next(_numbered)}")
        self._method = _Method(b"program", self._tracker[CALL], FASTCALL, None)

    def function(self):
        """The builtin function; it holds on to the code."""
        make = ctypes.PYFUNCTYPE(
            ctypes.py_object, ctypes.POINTER(_Method), ctypes.py_object, ctypes.c_void_p
        )(("PyCFunction_NewEx", ctypes.pythonapi))
        return make(ctypes.byref(self._method), self, None)


def _address(function) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value


_engine = None


def _linker():
    """LLVM's linker, one a process."""
    global _engine
    if _engine is None:
        from llvmlite import binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        _engine = binding.create_lljit_compiler(use_jit_link=True)
    return _engine


def loaded(source: str, loops) -> tuple[Code, bool]:
    """The code of a program, and whether it came from disk.

    Parameters
    ----------
    source : str
        The readable form: equal programs have equal texts.
    loops : ir.Program
    """
    path = disk.object_file(source, STEM)
    data = disk.read_object(path) if path is not None else None
    if data is not None:
        try:
            code = Code(data)
            disk.cache._count(True)
            return code, True
        except RuntimeError:  # whole, and yet no object code of ours: made anew
            pass
    from ..emit.native import object_code

    with _lock:
        data = object_code(loops)
    disk.cache._count(False)
    if path is not None:
        disk.write_object(path, data)
    return Code(data), False
