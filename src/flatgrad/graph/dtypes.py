"""Element types and PyTorch's promotion rules. Imports NumPy and nothing of flatgrad but errors.

A ``DType`` is interned: compare with ``is``. ``category`` orders the kinds (bool < integer < float <
complex), which is all that promotion between kinds needs; half and complex types will be rows here.
"""

from __future__ import annotations

import numpy as np

from ..errors import DTypeError

BOOL, INTEGER, FLOAT, COMPLEX = range(4)


class DType:
    """One element type: its PyTorch name, NumPy type and category."""

    __slots__ = ("category", "itemsize", "name", "np")

    def __init__(self, name: str, numpy_type, category: int):
        self.name = name
        self.np = np.dtype(numpy_type)
        self.category = category
        self.itemsize = self.np.itemsize

    @property
    def is_floating_point(self) -> bool:
        return self.category == FLOAT

    @property
    def is_complex(self) -> bool:
        return self.category == COMPLEX

    @property
    def is_signed(self) -> bool:
        return self.category >= FLOAT or self.np.kind == "i"

    @property
    def is_differentiable(self) -> bool:
        return self.category >= FLOAT

    def __repr__(self) -> str:
        return f"flatgrad.{self.name}"

    def __reduce__(self):
        return (dtype_named, (self.name,))


bool_ = DType("bool", np.bool_, BOOL)
uint8 = DType("uint8", np.uint8, INTEGER)
int8 = DType("int8", np.int8, INTEGER)
int16 = DType("int16", np.int16, INTEGER)
int32 = DType("int32", np.int32, INTEGER)
int64 = DType("int64", np.int64, INTEGER)
float32 = DType("float32", np.float32, FLOAT)
float64 = DType("float64", np.float64, FLOAT)

ALL = (bool_, uint8, int8, int16, int32, int64, float32, float64)
_BY_NAME = {d.name: d for d in ALL}
_BY_NUMPY = {d.np: d for d in ALL}
_PYTHON = {bool: bool_, int: int64, float: None}  # None: the default dtype

_default = float32


def dtype_named(name: str) -> DType:
    return _BY_NAME[name]


def get_default_dtype() -> DType:
    """The dtype of floating-point tensors made from Python numbers (initially float32)."""
    return _default


def set_default_dtype(dtype) -> None:
    """Set the default floating-point dtype.

    Raises
    ------
    DTypeError
        If `dtype` is not float32 or float64.
    """
    global _default
    dtype = as_dtype(dtype)
    if not dtype.is_floating_point:
        raise DTypeError(
            f"set_default_dtype: a floating-point dtype is required, got {dtype!r}; "
            "use flatgrad.float32 or flatgrad.float64"
        )
    _default = dtype


def as_dtype(dtype) -> DType:
    """The ``DType`` for a DType, a NumPy dtype or type, or ``bool``/``int``/``float``.

    Raises
    ------
    DTypeError
        If there is no such element type in flatgrad.
    """
    if type(dtype) is DType:
        return dtype
    if dtype is float:
        return _default
    try:
        found = _BY_NUMPY.get(np.dtype(dtype))
    except TypeError:
        found = None
    if found is None:
        names = ", ".join(d.name for d in ALL)
        raise DTypeError(f"dtype {dtype!r} is not supported; supported are {names}")
    return found


def promote_types(a: DType, b: DType) -> DType:
    """The smallest dtype that PyTorch promotes `a` and `b` to."""
    if a is b:
        return a
    if a.category != b.category:
        return a if a.category > b.category else b
    return _BY_NUMPY[np.promote_types(a.np, b.np)]


def of_number(value) -> DType:
    """The dtype that a bare Python number has in promotion."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, float):
        return _default
    raise DTypeError(f"a bool, int or float is required, got {type(value).__name__}")


def combine(dimensioned, zero_dim, numbers) -> DType:
    """PyTorch's result type of three priority groups, each a DType or None.

    A lower-priority group only matters if its category is higher: ``int32[3] + 1.5`` is the default
    float, ``float32[3] + float64 0-d`` stays float32.
    """
    result = dimensioned
    for group in (zero_dim, numbers):
        if group is None:
            continue
        if result is None or group.category > result.category:
            result = group if result is None else promote_types(result, group)
    return result
