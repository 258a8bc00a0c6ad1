"""What printed Python programs call: exact scalar helpers that Numba compiles and plain Python runs.

Imported by generated modules only; it imports numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types  # noqa: F401  (prange: printed programs use it)
from numba.extending import intrinsic, overload

inline = njit(error_model="numpy", nogil=True)


def _reinterpret(kind, name):
    """A function that reads a scalar's bits as another type of its size."""

    def python(x):
        return np.asarray(x).view(name)[()]

    @intrinsic
    def machine(typingctx, x):
        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(signature.return_type))

        return kind(x), codegen

    @overload(python)
    def _overload(x):
        return lambda x: machine(x)

    return python


bits_float32 = _reinterpret(types.int32, np.int32)
bits_float64 = _reinterpret(types.int64, np.int64)
bits_int32 = _reinterpret(types.float32, np.float32)
bits_int64 = _reinterpret(types.float64, np.float64)


@inline
def maximum(x, y):
    return x if x > y or x != x else y


@inline
def minimum(x, y):
    return x if x < y or x != x else y


@inline
def divide(x, y):
    return x / y


@inline
def floor_divide(x, y):
    return x // y if y != 0 else type(x)(0)


@inline
def remainder(x, y):
    return x % y if y != 0 else type(x)(0)


@inline
def to_int64(x):
    return np.int64(x)


@inline
def to_int32(x):
    return np.int32(np.int64(x))


@inline
def to_int16(x):
    return np.int16(np.int64(x))


@inline
def to_int8(x):
    return np.int8(np.int64(x))


@inline
def to_uint8(x):
    return np.uint8(np.int64(x))


@inline
def add_lanes(tile):
    """Add the lanes of the last dimension by halves into the first one."""
    n = tile.shape[2]
    while n > 1:
        n //= 2
        tile[:, :, :n] += tile[:, :, n : 2 * n]


@inline
def matrix(buffer, offset, rows, cols, row_stride, col_stride):
    """A matrix that walks a flat buffer with two strides."""
    size = buffer.itemsize
    return np.lib.stride_tricks.as_strided(
        buffer[offset:], (rows, cols), (row_stride * size, col_stride * size)
    )


@inline
def gemm(a, b, c, accumulate):
    """``c (+)= a @ b``."""
    product = np.dot(np.ascontiguousarray(a), np.ascontiguousarray(b))
    if accumulate:
        c[:, :] += product
    else:
        c[:, :] = product
