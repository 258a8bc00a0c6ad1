"""From what a user passes to the array that a leaf owns: dtype, shape, and what can be wrong."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..graph.dtypes import DType, as_dtype, promote_types
from ..tensor import Tensor, late, node_of

_NUMBERS = (bool, int, float)

# What to use in place of NumPy's types that flatgrad does not have.
_INSTEAD = {
    "float16": "half precision comes later; use float32: array.astype(numpy.float32)",
    "longdouble": "use float64: array.astype(numpy.float64)",
    "complex64": "complex numbers come later; keep the real and imaginary parts in two tensors",
    "complex128": "complex numbers come later; keep the real and imaginary parts in two tensors",
    "uint16": "use int32: array.astype(numpy.int32)",
    "uint32": "use int64: array.astype(numpy.int64)",
    "uint64": "use int64: array.astype(numpy.int64)",
    "object": "make a numeric array of it first: numpy.array(x.tolist(), dtype=float)",
}


def array_dtype(name: str, array: np.ndarray) -> DType:
    """The ``DType`` of a NumPy array.

    Raises
    ------
    DTypeError
        If flatgrad has none for it, with what to use instead.
    """
    kind = array.dtype
    try:
        return as_dtype(kind)
    except DTypeError:
        if kind.names is None and kind.kind in "SU":
            hint = "strings are not numbers; convert them with array.astype(float)"
        elif kind.kind in "mM":
            hint = "use array.astype(numpy.int64)"
        elif kind.itemsize > 8 and kind.kind == "f":
            hint = _INSTEAD["longdouble"]
        else:
            hint = _INSTEAD.get(kind.name, "convert it to float32 or float64 first")
        names = ", ".join(d.name for d in dtypes.ALL)
        raise DTypeError(
            f"{name}: arrays of NumPy's dtype {kind} are not supported (supported: {names}); {hint}"
        ) from None


def check_device(name: str, device) -> None:
    """Accept "cpu" in any of its spellings.

    Raises
    ------
    ArgumentError
        For any other device.
    """
    if device is None or str(device).partition(":")[0] == "cpu":
        return
    raise ArgumentError(
        f"{name}: device must be 'cpu', got {device!r}; flatgrad runs on the CPU, leave device out"
    )


def array_of(name: str, data, dtype: DType | None) -> np.ndarray:
    """A new array with the values of `data` in `dtype`, or in the dtype that PyTorch infers.

    Raises
    ------
    ArgumentError, DTypeError, ShapeError
        For values that are no numbers, dtypes that flatgrad has not, ragged lists, and numbers that
        `dtype` cannot hold.
    """
    if isinstance(data, Tensor):
        node = node_of(data)
        late.evaluate([node])
        return convert_array(node.value, dtype or node.dtype)
    if isinstance(data, np.generic):
        data = np.asarray(data)
    if isinstance(data, np.ndarray):
        if data.dtype.byteorder not in "=|":
            data = data.astype(data.dtype.newbyteorder("="))
        return convert_array(data, dtype or array_dtype(name, data))
    if type(data) in _NUMBERS:
        return _from_numbers(name, np.asarray(data), data, dtype or _scalar_dtype(name, data))
    if isinstance(data, (list, tuple, range)):
        return _from_sequence(name, data, dtype)
    if hasattr(data, "__array__") or hasattr(data, "__array_interface__"):
        return array_of(name, np.asarray(data), dtype)
    if isinstance(data, (int, float)) and not isinstance(data, complex):
        number = float(data) if isinstance(data, float) else int(data)
        return array_of(name, number, dtype)
    if isinstance(data, complex):
        raise DTypeError(
            f"{name}: complex numbers are not supported, got {data!r}; {_INSTEAD['complex128']}"
        )
    raise ArgumentError(
        f"{name}: numbers, (nested) lists of numbers, arrays or tensors are required, got "
        f"{type(data).__name__}; convert it with numpy.asarray first"
    )


def convert_array(array: np.ndarray, dtype: DType) -> np.ndarray:
    """A contiguous copy in `dtype`, converted as a C cast does."""
    with np.errstate(all="ignore"):
        return array.astype(dtype.np, order="C", copy=True)


def _scalar_dtype(name: str, value) -> DType:
    if isinstance(value, Tensor):
        return value.dtype
    if isinstance(value, (np.ndarray, np.generic)):
        return array_dtype(name, np.asarray(value))
    if isinstance(value, _NUMBERS):
        return dtypes.of_number(value)
    if isinstance(value, complex):
        raise DTypeError(
            f"{name}: complex numbers are not supported, got {value!r}; {_INSTEAD['complex128']}"
        )
    raise ArgumentError(
        f"{name}: numbers are required, got {value!r} of type {type(value).__name__} among the "
        "values; convert it first"
    )


def _from_sequence(name: str, data, dtype: DType | None) -> np.ndarray:
    shape = _shape_of(name, data)
    flat: list = []
    kinds: set = set()
    _flatten(name, data, flat, kinds)
    if not flat:
        return np.zeros(shape, (dtype or dtypes.get_default_dtype()).np)
    if dtype is None:
        for kind in kinds:
            dtype = kind if dtype is None else promote_types(dtype, kind)
    try:
        array = np.array(flat)
    except OverflowError:
        array = np.array(flat, dtype=object)
    return _from_numbers(name, array, flat, dtype).reshape(shape)


def _shape_of(name: str, data) -> tuple[int, ...]:
    """The shape of a nested sequence, from its first elements."""
    shape: list[int] = []
    while isinstance(data, (list, tuple, range)):
        shape.append(len(data))
        if not len(data):
            return tuple(shape)
        data = data[0]
    if isinstance(data, (Tensor, np.ndarray)):
        shape.extend(data.shape)
    if len(shape) > 64:
        raise ShapeError(f"{name}: at most 64 dimensions are supported, got {len(shape)}")
    return tuple(shape)


def _flatten(name: str, data, flat: list, kinds: set) -> None:
    """Append the numbers of `data` in order; check that sibling sequences have one length."""
    level, depth = [data], 0
    while True:
        first = level[0]
        nested = isinstance(first, (list, tuple, range))
        block = not nested and isinstance(first, (Tensor, np.ndarray)) and first.ndim > 0
        if not nested and not block:
            break
        size = len(first) if nested else first.shape[0]
        children: list = []
        for item in level:
            is_array = isinstance(item, (Tensor, np.ndarray)) and item.ndim > 0
            if not is_array and not isinstance(item, (list, tuple, range)):
                raise ShapeError(
                    f"{name}: expected a sequence of length {size} at dim {depth}, got "
                    f"{type(item).__name__} {item!r}; every row must have the same length"
                )
            if is_array:
                item = _plain_array(name, item, kinds)
            if len(item) != size:
                raise ShapeError(
                    f"{name}: expected sequence of length {size} at dim {depth} (got {len(item)}); "
                    "every row must have the same length, so pad the shorter ones"
                )
            children.extend(item)
        if not children:
            return
        level, depth = children, depth + 1
    for item in level:
        if isinstance(item, (list, tuple, range)) or getattr(item, "ndim", 0) > 0:
            raise ShapeError(
                f"{name}: expected a number at dim {depth}, got a sequence of length {len(item)}; "
                "every element must be nested equally deep"
            )
        kinds.add(_scalar_dtype(name, item))
        flat.append(item.item() if isinstance(item, (Tensor, np.ndarray, np.generic)) else item)


def _plain_array(name: str, item, kinds: set) -> np.ndarray:
    """The values of a tensor or array inside a list, its dtype noted."""
    kinds.add(_scalar_dtype(name, item))
    return array_of(name, item, None)


def _from_numbers(name: str, array: np.ndarray, numbers, dtype: DType) -> np.ndarray:
    """`array` of Python numbers in `dtype`, which must be able to hold them."""
    if array.dtype.kind in "OuU" or (dtype.category == dtypes.INTEGER and array.size):
        _check_range(name, numbers if isinstance(numbers, list) else [numbers], dtype)
    if array.dtype.kind == "O":
        array = array.astype(np.float64)
    return convert_array(array, dtype)


def _check_range(name: str, numbers: list, dtype: DType) -> None:
    low, high = -(2**63), 2**63 - 1
    if dtype.category == dtypes.INTEGER:
        info = np.iinfo(dtype.np)
        low, high = int(info.min), int(info.max)
    elif dtype.category == dtypes.FLOAT:
        low, high = -np.inf, np.inf
    for number in numbers:
        if not low <= number <= high:
            raise ArgumentError(
                f"{name}: {number!r} cannot be converted to {dtype!r} without overflow; "
                f"its range is {low} to {high}, use a wider dtype"
            )
