"""Constructors under PyTorch's names. Every one makes a leaf with a memory of its own.

``from_numpy`` and ``as_tensor`` share the user's instead.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..graph.dtypes import DType, as_dtype
from ..graph.node import SHARED, leaf
from ..graph.shapes import addressable
from ..ops.declare import cast
from ..ops.movement import dims_argument
from ..tensor import Tensor, late, method, wrap
from .values import array_dtype, array_of, check_device

__all__ = [
    "arange",
    "as_tensor",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "logspace",
    "ones",
    "ones_like",
    "tensor",
    "zeros",
    "zeros_like",
]


def make_leaf(name: str, array: np.ndarray, requires_grad: bool = False) -> Tensor:
    """A leaf tensor that owns `array`.

    Raises
    ------
    DTypeError
        If `requires_grad` is asked of a dtype without derivatives.
    """
    dtype = as_dtype(array.dtype)
    if requires_grad and not dtype.is_differentiable:
        raise DTypeError(
            f"{name}: only tensors of floating-point dtype can require gradients, got {dtype!r}; "
            "give dtype=flatgrad.float32"
        )
    return wrap(leaf(array, dtype, bool(requires_grad)))


def tensor(data, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A new leaf with a copy of `data`.

    Parameters
    ----------
    data : number, (nested) sequence of numbers, array or Tensor, shape (*S)
        Python floats become the default dtype, ints int64, bools bool; arrays keep their dtype.
    dtype : DType or NumPy dtype, optional
    device : "cpu", optional
    requires_grad : bool

    Returns
    -------
    Tensor, shape (*S)

    Raises
    ------
    ShapeError
        For ragged lists.
    DTypeError
        For dtypes that flatgrad has not (float16 and complex come later), and for `requires_grad`
        with an integer dtype.
    ArgumentError
        For values that are no numbers, or that `dtype` cannot hold.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.tensor([[1, 2], [3, 4.5]])
    tensor([[1.0000, 2.0000],
            [3.0000, 4.5000]])
    """
    check_device("tensor", device)
    if isinstance(data, Tensor):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use "
            "sourceTensor.detach().clone() or "
            "sourceTensor.detach().clone().requires_grad_(True), rather than "
            "flatgrad.tensor(sourceTensor).",
            UserWarning,
            stacklevel=2,
        )
    dtype = None if dtype is None else as_dtype(dtype)
    return make_leaf("tensor", array_of("tensor", data, dtype), requires_grad)


def as_tensor(data, dtype=None, device=None) -> Tensor:
    """`data` as a tensor, without a copy where it is one already, or an array (memory is shared).

    Parameters
    ----------
    data : number, sequence, array or Tensor, shape (*S)
    dtype : DType, optional
        Convert to it; the conversion of a tensor is differentiable.
    device : "cpu", optional

    Returns
    -------
    Tensor, shape (*S)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        As :func:`tensor`.

    Examples
    --------
    >>> import flatgrad as fg, numpy as np
    >>> a = np.zeros(2)
    >>> t = fg.as_tensor(a)
    >>> a[0] = 1.0
    >>> t
    tensor([1., 0.], dtype=flatgrad.float64)
    """
    check_device("as_tensor", device)
    dtype = None if dtype is None else as_dtype(dtype)
    if isinstance(data, Tensor):
        return data if dtype is None else cast(data, dtype)
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == dtype.np):
        sharable = data.dtype.byteorder in "=|" and all(s >= 0 for s in data.strides)
        if sharable:
            return from_numpy(data)
    return make_leaf("as_tensor", array_of("as_tensor", data, dtype))


def converted(value) -> Tensor:
    """An array or number among the operands of an operation, as a leaf of its own."""
    return make_leaf("as_tensor", array_of("as_tensor", value, None))


late.convert = converted


def asarray(
    obj, *, dtype=None, device=None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """`obj` as a tensor; `copy` True always copies, False raises where a copy would be needed.

    Parameters
    ----------
    obj : number, sequence, array or Tensor, shape (*S)
    dtype : DType, optional
    device : "cpu", optional
    copy : bool, optional
        None copies only where it must.
    requires_grad : bool

    Returns
    -------
    Tensor, shape (*S)

    Raises
    ------
    ArgumentError
        If `copy` is False and memory cannot be shared.
    """
    check_device("asarray", device)
    wanted = None if dtype is None else as_dtype(dtype)
    if copy is False:
        shares = isinstance(obj, (Tensor, np.ndarray)) and (
            wanted is None or as_dtype(obj.dtype) is wanted
        )
        if not shares:
            raise ArgumentError(
                f"asarray: copy=False, but a {type(obj).__name__} cannot be shared as "
                f"{wanted or 'a tensor'} without a copy; leave copy out"
            )
    if copy:
        return make_leaf("asarray", array_of("asarray", obj, wanted), requires_grad)
    t = as_tensor(obj, wanted)
    if isinstance(obj, Tensor) and not requires_grad:
        return t.detach()
    return t.requires_grad_() if requires_grad else t


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares memory with a NumPy array: a write to either is seen by the other.

    Parameters
    ----------
    ndarray : ndarray, shape (*S)

    Returns
    -------
    Tensor, shape (*S)
        Of the array's dtype. A read-only array is not written by in-place operations: the tensor
        then takes memory of its own.

    Raises
    ------
    ArgumentError
        If it is no array, is in the other byte order, or has negative strides.
    DTypeError
        If flatgrad has not its dtype.

    Examples
    --------
    >>> import flatgrad as fg, numpy as np
    >>> a = np.array([1.0, 2.0])
    >>> t = fg.from_numpy(a)
    >>> a[0] = 5.0
    >>> t.add_(1)
    tensor([6., 3.], dtype=flatgrad.float64)
    >>> a
    array([6., 3.])
    """
    if not isinstance(ndarray, np.ndarray):
        raise ArgumentError(
            f"from_numpy: a NumPy array is required, got {type(ndarray).__name__}; "
            "use flatgrad.tensor for other values"
        )
    if ndarray.dtype.byteorder not in "=|":
        raise ArgumentError(
            "from_numpy: the array's byte order is not the machine's; convert it with "
            "array.astype(array.dtype.newbyteorder('='))"
        )
    dtype = array_dtype("from_numpy", ndarray)
    if any(s < 0 for s in ndarray.strides):
        raise ArgumentError(
            f"from_numpy: arrays with negative strides cannot be shared, got {ndarray.strides}; "
            "pass array.copy()"
        )
    node = leaf(np.asarray(ndarray).view(), dtype)
    if ndarray.flags.writeable:
        node.mark |= SHARED
    return wrap(node)


# -- filled ---------------------------------------------------------------------------------------


def _sizes(name: str, size: tuple) -> tuple[int, ...]:
    sizes = dims_argument(name, size)
    if any(s < 0 for s in sizes):
        raise ShapeError(f"{name}: sizes must not be negative, got {sizes}")
    return addressable(name, sizes)


def _float_or(dtype) -> DType:
    return dtypes.get_default_dtype() if dtype is None else as_dtype(dtype)


def zeros(*size, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``.

    Parameters
    ----------
    *size : int, or one sequence of ints
    dtype : DType, optional
        Default: :func:`get_default_dtype`.
    device : "cpu", optional
    requires_grad : bool

    Returns
    -------
    Tensor, shape (*size)

    Raises
    ------
    ShapeError, ArgumentError
        For sizes that are negative or no ints.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    check_device("zeros", device)
    return make_leaf("zeros", np.zeros(_sizes("zeros", size), _float_or(dtype).np), requires_grad)


def ones(*size, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones; arguments as :func:`zeros`.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.ones(3, dtype=fg.int64)
    tensor([1, 1, 1])
    """
    check_device("ones", device)
    return make_leaf("ones", np.ones(_sizes("ones", size), _float_or(dtype).np), requires_grad)


def empty(*size, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor whose values are not specified (zeros at present); arguments as :func:`zeros`."""
    check_device("empty", device)
    return make_leaf("empty", np.zeros(_sizes("empty", size), _float_or(dtype).np), requires_grad)


def full(size, fill_value, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor filled with one number.

    Parameters
    ----------
    size : int or sequence of ints
    fill_value : number or 0-d Tensor
    dtype : DType, optional
        Default: that of `fill_value` (a float's is the default dtype).
    device : "cpu", optional
    requires_grad : bool

    Returns
    -------
    Tensor, shape (*size)

    Raises
    ------
    ShapeError, ArgumentError
        For bad sizes, or a `fill_value` that is no single number.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.full((2, 2), 7)
    tensor([[7, 7],
            [7, 7]])
    """
    check_device("full", device)
    value = array_of("full", fill_value, None if dtype is None else as_dtype(dtype))
    if value.ndim:
        raise ArgumentError(
            f"full: fill_value must be a single number, got shape {value.shape}; use expand()"
        )
    return make_leaf("full", np.full(_sizes("full", (size,)), value, value.dtype), requires_grad)


def _like(name: str, value):
    """The constructor ``<name>_like(input)``: zeros, ones or unspecified values."""

    def function(input, *, dtype=None, device=None, requires_grad=False, memory_format=None):
        check_device(name, device)
        if not isinstance(input, Tensor):
            raise ArgumentError(
                f"{name}: a Tensor is required, got {type(input).__name__}; "
                "convert it with flatgrad.tensor"
            )
        dtype = input.dtype if dtype is None else as_dtype(dtype)
        return make_leaf(name, value(tuple(input.shape), dtype.np), requires_grad)

    function.__name__ = function.__qualname__ = name
    return function


zeros_like = _like("zeros_like", np.zeros)
ones_like = _like("ones_like", np.ones)
empty_like = _like("empty_like", np.zeros)
zeros_like.__doc__ = "Zeros of the shape and dtype of `input`; `dtype` overrides."
ones_like.__doc__ = "Ones of the shape and dtype of `input`; `dtype` overrides."
empty_like.__doc__ = "Unspecified values (zeros at present) of the shape and dtype of `input`."


def full_like(
    input: Tensor, fill_value, *, dtype=None, device=None, requires_grad=False, memory_format=None
) -> Tensor:
    """A tensor of the shape and dtype of `input`, filled with one number."""
    dtype = input.dtype if dtype is None else dtype
    return full(input.shape, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)


@method()
def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False) -> Tensor:
    """A new leaf with a copy of `data`, by default of this tensor's dtype."""
    check_device("new_tensor", device)
    dtype = self.dtype if dtype is None else as_dtype(dtype)
    return make_leaf("new_tensor", array_of("new_tensor", data, dtype), requires_grad)


@method()
def new_full(self, size, fill_value, *, dtype=None, device=None, requires_grad=False) -> Tensor:
    """A tensor of `size` filled with one number, by default of this tensor's dtype."""
    dtype = self.dtype if dtype is None else dtype
    return full(size, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)


def _new(name: str, constructor):
    def new(self, *size, dtype=None, device=None, requires_grad=False):
        dtype = self.dtype if dtype is None else dtype
        return constructor(*size, dtype=dtype, device=device, requires_grad=requires_grad)

    new.__name__ = new.__qualname__ = name
    new.__doc__ = f":func:`flatgrad.{constructor.__name__}`, by default of this tensor's dtype."
    return method(name)(new)


_new("new_zeros", zeros)
_new("new_ones", ones)
_new("new_empty", empty)


# -- counted --------------------------------------------------------------------------------------


def eye(n: int, m: int | None = None, *, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Ones on the diagonal, zeros elsewhere: shape (n, n) or (n, m).

    Raises
    ------
    ShapeError
        For negative sizes.
    """
    check_device("eye", device)
    n, m = _sizes("eye", (n, n if m is None else m))
    return make_leaf("eye", np.eye(n, m, dtype=_float_or(dtype).np), requires_grad)


def _number(name: str, value):
    """A Python number from a number or a tensor of one element."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        value = value.item()
    if not isinstance(value, (int, float)):
        raise ArgumentError(f"{name}: numbers are required, got {type(value).__name__} {value!r}")
    return value


def range_check(name: str, **numbers) -> None:
    """Raise an ArgumentError if a number of a range is infinite or NaN."""
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise ArgumentError(f"{name}: {key} must be finite, got {value}")


def arange(
    start, end=None, step=1, *, dtype=None, device=None, requires_grad: bool = False
) -> Tensor:
    """``start, start + step, ...`` up to and without `end`; ``arange(n)`` counts from 0.

    Parameters
    ----------
    start, end, step : number
    dtype : DType, optional
        Default: int64 if all three are ints, else the default dtype.
    device : "cpu", optional
    requires_grad : bool

    Returns
    -------
    Tensor, shape (ceil((end - start) / step),)

    Raises
    ------
    ArgumentError
        If `step` is 0, leads away from `end`, or a bound is not finite.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.arange(2, 8, 3), fg.arange(0.0, 1.0, 0.25)
    (tensor([2, 5]), tensor([0.0000, 0.2500, 0.5000, 0.7500]))
    """
    check_device("arange", device)
    if end is None:
        start, end = 0, start
    start, end, step = (_number("arange", v) for v in (start, end, step))
    range_check("arange", start=start, end=end, step=step)
    if step == 0:
        raise ArgumentError("arange: step must be nonzero, got 0")
    if (end - start) * step < 0:
        raise ArgumentError(
            "arange: upper bound and lower bound inconsistent with step sign: "
            f"from {start} to {end} by {step}; swap them or negate step"
        )
    integral = not any(isinstance(v, float) for v in (start, end, step))
    if dtype is None:
        dtype = dtypes.int64 if integral else dtypes.get_default_dtype()
    size = -((start - end) // step) if integral else math.ceil((end - start) / step)
    addressable("arange", (size,))
    index = np.arange(size, dtype=np.int64 if integral else np.float64)
    return make_leaf("arange", (start + step * index).astype(as_dtype(dtype).np), requires_grad)


def _linspace(name: str, start, end, steps) -> np.ndarray:
    """`steps` equal steps in float64, counted from the nearer end, so that both ends are exact."""
    start, end = _number(name, start), _number(name, end)
    (steps,) = dims_argument(name, (steps,))
    if steps < 0:
        raise ArgumentError(f"{name}: number of steps must be non-negative, got {steps}")
    addressable(name, (steps,))
    if steps == 1:
        return np.array([start], np.float64)
    step = (end - start) / (steps - 1) if steps else 0.0
    index = np.arange(steps, dtype=np.float64)
    return np.where(index < steps // 2, start + step * index, end - step * (steps - 1 - index))


def linspace(start, end, steps, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included.

    Parameters
    ----------
    start, end : number
    steps : int
    dtype : DType, optional
        Default: the default dtype, also for ints.
    device : "cpu", optional
    requires_grad : bool

    Returns
    -------
    Tensor, shape (steps,)

    Raises
    ------
    ArgumentError
        If `steps` is negative.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    check_device("linspace", device)
    values = _linspace("linspace", start, end, steps)
    return make_leaf("linspace", values.astype(_float_or(dtype).np), requires_grad)


def logspace(
    start, end, steps, base=10.0, *, dtype=None, device=None, requires_grad: bool = False
) -> Tensor:
    """``base ** linspace(start, end, steps)``.

    Raises
    ------
    ArgumentError
        If `steps` is negative.
    """
    check_device("logspace", device)
    with np.errstate(all="ignore"):
        values = np.power(
            float(_number("logspace", base)), _linspace("logspace", start, end, steps)
        )
    return make_leaf("logspace", values.astype(_float_or(dtype).np), requires_grad)
