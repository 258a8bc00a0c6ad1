"""The hand-written C beside the workloads: compiled when it is asked for, called through ctypes.

`load` compiles ``c/<name>.c``; `bind` ties a function to arrays and numbers, so that a call does
nothing in Python but hand over what is ready. The C writes into arrays that exist.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SOURCES = Path(__file__).parent / "c"
FLAGS = "-O3", "-march=native"
FAST_FLAGS = *FLAGS, "-ffast-math"


def compiler() -> str | None:
    """The path of gcc, if there is one."""
    return shutil.which("gcc")


@functools.cache
def folder() -> tempfile.TemporaryDirectory:
    """Where compiled libraries live until the process ends."""
    return tempfile.TemporaryDirectory()


@functools.cache
def load(name: str, flags: tuple = FLAGS) -> ctypes.CDLL:
    """The library made of ``c/<name>.c``."""
    target = Path(folder().name) / f"{name}{''.join(flags)}.so"
    command = ["gcc", "-std=gnu11", *flags, "-shared", "-fPIC", "-Wall", "-Wextra"]
    command += ["-o", str(target), str(SOURCES / f"{name}.c"), "-lm"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode or made.stderr:
        raise RuntimeError(f"{' '.join(command)}\n{made.stderr}")
    return ctypes.CDLL(str(target))


def at_address(address: int):
    """The function of pointers that is there."""
    return ctypes.CFUNCTYPE(None)(address)


def bind(function, *arguments):
    """A function of nothing that calls `function` with pointers to the arrays, and with the numbers.

    Parameters
    ----------
    function : ctypes function that returns nothing
    *arguments : np.ndarray, int or None
        Contiguous arrays of float64 or int64; None is a null pointer.
    """
    function.restype = None
    ready = []
    for a in arguments:
        if isinstance(a, np.ndarray):
            if not a.flags.c_contiguous or a.dtype not in (np.float64, np.int64):
                raise ValueError(f"bind: contiguous float64 or int64 is required, got {a.dtype}")
            ready.append(ctypes.c_void_p(a.ctypes.data))
        else:
            ready.append(ctypes.c_void_p(None) if a is None else ctypes.c_long(a))

    def call(arguments=arguments):  # holds the arrays
        function(*ready)

    return call


def returning(call, results):
    """`call`, then the arrays it has filled."""

    def step():
        call()
        return results

    return step
