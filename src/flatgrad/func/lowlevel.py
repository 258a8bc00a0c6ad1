"""``scipy.LowLevelCallable``: programs as the C functions that SciPy's integrators and filters call."""

from __future__ import annotations

import ctypes

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph.dtypes import float64

__all__ = ["low_level_callable"]

ONE, SEVERAL = "double (double)", "double (int, double *)"


def low_level_callable(entry, kinds: list, fixed: tuple, signature: str | None):
    """See ``CompiledFunction.low_level_callable``."""
    from scipy import LowLevelCallable

    label = f"{entry.label}.low_level_callable"
    _check(label, entry, kinds, fixed)
    free = kinds[: len(kinds) - len(fixed)]
    signature = _signature(label, free, signature)
    function = _function(entry, free, signature, bool(fixed))
    full = signature.replace(")", ", void *)") if fixed else signature
    if not fixed:
        return LowLevelCallable(function.ctypes, signature=full)
    data = _data(label, kinds[len(free) :], fixed)
    pointer = ctypes.c_void_p(data.ctypes.data)
    pointer.array = data  # lives as long as the callable, which holds the pointer
    return LowLevelCallable(function.ctypes, pointer, signature=full)


def _check(label: str, entry, kinds: list, fixed: tuple) -> None:
    outputs = entry.loops.outputs
    if len(outputs) != 1 or outputs[0].shape or outputs[0].dtype is not float64:
        found = ", ".join(f"{b.dtype.name}{list(b.shape)}" for b in outputs)
        raise ArgumentError(
            f"{label}: one float64 result without dimensions is required, got {found}; compile a function "
            "that returns the value alone"
        )
    for kind, name in zip(kinds, entry.names, strict=True):
        if kind.dtype is not float64:
            raise DTypeError(
                f"{label}: all arguments must be float64, {name} is {kind}; compile it for float64"
            )
    if len(fixed) >= len(kinds):
        raise ArgumentError(
            f"{label}: {len(fixed)} fixed values leave none of the {len(kinds)} arguments free; fix fewer"
        )


def _signature(label: str, free: list, signature: str | None) -> str:
    scalars = all(not k.shape for k in free)
    vector = len(free) == 1 and len(free[0].shape) == 1
    if not scalars and not vector:
        raise ShapeError(
            f"{label}: the free arguments must be numbers, or one vector, got "
            f"{', '.join(map(repr, free))}; fix the others"
        )
    if signature is None:
        return ONE if scalars and len(free) == 1 else SEVERAL
    for known in (ONE, SEVERAL):
        if signature.replace(" ", "") == known.replace(" ", ""):
            if known == ONE and (vector or len(free) != 1):
                raise ArgumentError(
                    f"{label}: {ONE!r} is for one free number, there are {free}; use {SEVERAL!r}"
                )
            return known
    raise ArgumentError(f"{label}: signature must be {ONE!r} or {SEVERAL!r}, got {signature!r}")


def _data(label: str, kinds: list, fixed: tuple) -> np.ndarray:
    """The fixed values, one after the other."""
    parts = []
    for kind, value in zip(kinds, fixed, strict=True):
        array = np.asarray(value, np.float64)
        if array.shape != kind.shape:
            raise ShapeError(
                f"{label}: a fixed value of shape {kind.shape} is required, got {array.shape}"
            )
        parts.append(array.ravel())
    return np.concatenate(parts) if parts else np.empty(0)


def _function(entry, free: list, signature: str, data: bool):
    """The Numba cfunc: it reads numbers one after the other and gives NaN where it cannot be right."""
    from numba import carray, cfunc, types

    key = "low level", tuple([k.shape for k in free]), signature, data
    with entry._lock:
        found = entry._made.get(key)
        if found is not None:
            return found
        namespace = {"run": entry.njit, "carray": carray, "nan": float("nan")}
        count = sum(k.shape[0] if k.shape else 1 for k in free)
        head, views, at = ["x"], [], 0
        for k, buffer in enumerate(entry.arguments):
            base = "p" if k >= len(free) else "x"
            at = 0 if k == len(free) else at
            views.append("x" if base == "x" and signature == ONE else _view(base, at, buffer))
            at += buffer.size
        if signature == SEVERAL:
            head = ["n", "x"]
        text = f"def call({', '.join(head + ['p'] * data)}):\n"
        if signature == SEVERAL:
            text += f"    if n != {count}:\n        return nan\n"
        call = f"return run({', '.join(views)})"
        if entry.loops.checks:
            call = f"try:\n        {call}\n    except Exception:\n        return nan"
        text += f"    {call}\n"
        exec(text, namespace)
        doubles = types.CPointer(types.float64)
        kinds = [types.float64] if signature == ONE else [types.intc, doubles]
        made = cfunc(types.float64(*kinds, *[doubles] * data), error_model="numpy")(
            namespace["call"]
        )
        entry._made[key] = made
        return made


def _view(base: str, at: int, buffer) -> str:
    """An argument read from `base` at the `at`-th double."""
    if not buffer.shape:
        return f"{base}[{at}]"
    array = f"carray({base}, ({at + buffer.size},))[{at}:]"
    return array if len(buffer.shape) == 1 else f"{array}.reshape({buffer.shape})"
