"""A tensor's values outside: NumPy arrays that share its memory, numbers, copies, pickles."""

from __future__ import annotations

import weakref

import numpy as np

from ..errors import ArgumentError, DTypeError, GradientError, ShapeError
from ..graph import dtypes
from ..graph.dtypes import as_dtype
from ..graph.memory import sole_array, sole_node
from ..graph.modes import modes
from ..graph.node import LEAF, SHARED, Node, leaf
from ..ops.declare import cast
from ..tensor import ALIAS, Tensor, bind, late, method, node_of, root_of
from .values import check_device


def value_of(t: Tensor) -> np.ndarray:
    """The values, computed if they are pending. Not to be written, and not to be given away."""
    node = node_of(t)
    late.evaluate([node])
    return node.value


# -- NumPy ----------------------------------------------------------------------------------------


def shared_array(t: Tensor) -> np.ndarray:
    """An array over the memory of `t`; the tensor and its views see what is written to it.

    It is the present memory if nothing else refers to it, and a copy if a recorded graph, a
    constant or another node does: those must not see what the user writes.
    """
    base = root_of(t)
    if not base._node.mark & SHARED:
        late.evaluate([base._node])
        alone = sole_node(base)
        node = base._node
        alone = alone and node.value.flags.writeable and sole_array(node)
        value = node.value if alone else node.value.copy()
        if node.requires_grad and node.op is not LEAF:
            fresh = Node(ALIAS, (node,), (), node.shape, node.dtype, True, value)
        else:
            fresh = leaf(value, node.dtype, node.requires_grad)
        fresh.mark |= SHARED
        bind(base, fresh)
    array = base._node.value
    for op, attrs, _ in t._path:
        array = op.numpy(array, *attrs)
    return array.view()


@method()
def numpy(self, *, force: bool = False) -> np.ndarray:
    """The values as a NumPy array that shares the tensor's memory: writes are seen both ways.

    Parameters
    ----------
    force : bool
        Also for a tensor that requires grad: ``t.detach().numpy()``.

    Returns
    -------
    ndarray, shape (*S)

    Raises
    ------
    GradientError
        If the tensor requires grad and `force` is not given.

    Examples
    --------
    >>> import flatgrad as fg
    >>> t = fg.zeros(2)
    >>> a = t.numpy()
    >>> a[0] = 1.0
    >>> t
    tensor([1., 0.])
    """
    if self.requires_grad:
        if modes.pending < 0:
            value_of(self)  # a traced tensor has none, and that is the error
        if not force:
            raise GradientError(
                "numpy: Can't call numpy() on Tensor that requires grad. "
                "Use tensor.detach().numpy() instead."
            )
        self = self.detach()
    return shared_array(self)


@method("__array__")
def _array(self, dtype=None, copy: bool | None = None) -> np.ndarray:
    """What ``np.asarray(t)`` gives: :meth:`numpy`, converted to `dtype`."""
    if self.requires_grad:
        numpy(self)  # raises
    if copy:
        return value_of(self).astype(dtype or self.dtype.np, copy=True)
    if dtype is None or np.dtype(dtype) == self.dtype.np:
        return shared_array(self)
    if copy is False:
        raise ArgumentError(
            f"__array__: {self.dtype!r} cannot be had as {np.dtype(dtype)} without a copy; "
            "leave copy=False out"
        )
    return value_of(self).astype(dtype)


@method()
def tolist(self):
    """The values as a number (0-d) or nested lists of numbers."""
    return value_of(self).tolist()


# -- numbers --------------------------------------------------------------------------------------


def _single(self: Tensor, name: str):
    value = value_of(self)
    if value.size != 1:
        raise ShapeError(
            f"{name}: only one element tensors can be converted to Python scalars; this one has "
            f"shape {tuple(self.shape)}. Use tolist(), or a reduction such as sum() first"
        )
    return value.item()


@method()
def item(self):
    """The one element as a Python number.

    Raises
    ------
    ShapeError
        If there is not exactly one.
    """
    value = value_of(self)
    if value.size != 1:
        raise ShapeError(
            f"item: a Tensor with {value.size} elements cannot be converted to Scalar; "
            "use tolist(), or a reduction such as sum() first"
        )
    return value.item()


@method("__float__")
def _float(self) -> float:
    return float(_single(self, "float"))


@method("__int__")
def _int(self) -> int:
    return int(_single(self, "int"))


@method("__complex__")
def _complex(self) -> complex:
    return complex(_single(self, "complex"))


@method("__bool__")
def _bool(self) -> bool:
    value = value_of(self)
    if value.size != 1:
        many = "more than one value" if value.size else "no values"
        raise ShapeError(
            f"bool: Boolean value of Tensor with {many} is ambiguous (shape {tuple(self.shape)}); "
            "use .any() or .all()"
        )
    return bool(value.item())


@method("__index__")
def _index(self) -> int:
    if self.dtype.category > dtypes.INTEGER or (self._node.shape and self.numel() != 1):
        raise DTypeError(
            "index: only integer tensors of a single element can be converted to an index, got "
            f"{self.dtype!r} of shape {tuple(self.shape)}"
        )
    return int(_single(self, "index"))


@method("__format__")
def _format(self, spec: str) -> str:
    if self._node.shape == () and spec:
        return format(self.item(), spec)
    if spec:
        raise ArgumentError(
            f"format: {spec!r} fits a single number, the tensor has shape {tuple(self.shape)}; "
            "format the elements of tolist()"
        )
    return repr(self)


# -- dtype and device -----------------------------------------------------------------------------


class Device(str):
    """The one device there is. A string, "cpu", with PyTorch's ``type`` and ``index``."""

    __slots__ = ()
    type = "cpu"
    index = None

    def __repr__(self) -> str:
        return "device(type='cpu')"


_CPU = Device("cpu")


def device(name="cpu") -> Device:
    """The device of that name; "cpu" is the only one.

    Raises
    ------
    ArgumentError
        For any other.
    """
    check_device("device", name)
    return _CPU


Tensor.device = property(lambda self: _CPU, doc='Where the tensor is: always "cpu".')


@method()
def to(self, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    """This tensor in another dtype: ``to(dtype)``, ``to("cpu", dtype)`` or ``to(other)``.

    Parameters
    ----------
    *args : DType, "cpu" or Tensor
    copy : bool
        A copy also where nothing has to change.

    Returns
    -------
    Tensor, shape (*S)
        Itself if nothing changes. The conversion is differentiable; floats to integers truncate.

    Raises
    ------
    ArgumentError, DTypeError
        For another device, or an unknown dtype.
    """
    for arg in args:
        if isinstance(arg, Tensor):
            dtype = arg.dtype
        elif isinstance(arg, str) and arg.partition(":")[0] not in _DTYPE_NAMES:
            check_device("to", arg)
        elif arg is not None and not isinstance(arg, bool):
            dtype = arg
    check_device("to", device)
    result = self if dtype is None else cast(self, as_dtype(dtype))
    return result.clone() if copy and result is self else result


_DTYPE_NAMES = frozenset(d.name for d in dtypes.ALL)

_TYPE_NAMES = {
    "BoolTensor": dtypes.bool_,
    "ByteTensor": dtypes.uint8,
    "CharTensor": dtypes.int8,
    "ShortTensor": dtypes.int16,
    "IntTensor": dtypes.int32,
    "LongTensor": dtypes.int64,
    "FloatTensor": dtypes.float32,
    "DoubleTensor": dtypes.float64,
}


@method()
def type(self, dtype=None):
    """The name of the tensor's type, such as "flatgrad.FloatTensor"; or the tensor in `dtype`."""
    if dtype is None:
        names = {d: name for name, d in _TYPE_NAMES.items()}
        return f"flatgrad.{names[self.dtype]}"
    if isinstance(dtype, str):
        dtype = _TYPE_NAMES.get(dtype.rpartition(".")[2], dtype)
    return cast(self, as_dtype(dtype))


@method()
def type_as(self, other: Tensor) -> Tensor:
    """This tensor in the dtype of `other`."""
    return cast(self, other.dtype)


@method()
def cpu(self, memory_format=None) -> Tensor:
    """The tensor itself: it is on the CPU."""
    return self


def _converter(name: str, dtype):
    def convert(self, memory_format=None):
        return cast(self, dtype)

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"This tensor in {dtype.name}; differentiable between floating-point dtypes."
    return method(name)(convert)


for _name, _dtype in (
    ("bool", dtypes.bool_),
    ("byte", dtypes.uint8),
    ("char", dtypes.int8),
    ("short", dtypes.int16),
    ("int", dtypes.int32),
    ("long", dtypes.int64),
    ("float", dtypes.float32),
    ("double", dtypes.float64),
):
    _converter(_name, _dtype)


@method()
def is_floating_point(self) -> bool:
    """Whether the dtype is a floating-point one."""
    return self.dtype.is_floating_point


@method()
def is_complex(self) -> bool:
    """Whether the dtype is complex; never so at present."""
    return self.dtype.is_complex


@method()
def element_size(self) -> int:
    """Bytes of one element."""
    return self.dtype.itemsize


Tensor.itemsize = property(lambda self: self.dtype.itemsize, doc="Bytes of one element.")
Tensor.nbytes = property(
    lambda self: self.dtype.itemsize * self.shape.numel(), doc="Bytes of all elements."
)


@method()
def data_ptr(self) -> int:
    """The address of the first element. It stays the same until the tensor is written."""
    return value_of(self).ctypes.data


def is_tensor(obj) -> bool:
    """Whether `obj` is a Tensor."""
    return isinstance(obj, Tensor)


# -- copies and pickles ---------------------------------------------------------------------------


def rebuild(cls, array: np.ndarray, requires_grad: bool, grad) -> Tensor:
    """A leaf from its pickled parts."""
    t = object.__new__(cls)
    t._node = leaf(array, as_dtype(array.dtype), requires_grad)
    t._node.holder = weakref.ref(t)
    t._grad = grad
    return t


def _copied(t: Tensor) -> np.ndarray:
    return value_of(t).copy()


@method("__reduce_ex__")
def _reduce_ex(self, protocol):
    """Values, ``requires_grad`` and ``grad``. A view is pickled as a tensor of its own."""
    if not self.is_leaf:
        raise GradientError(
            "pickle: this tensor requires grad and was computed by "
            f"{node_of(self).op.name}: its graph cannot be pickled. Pickle .detach() instead"
        )
    grad = self._grad
    parts = (self.__class__, _copied(self), self.requires_grad, grad)
    return rebuild, parts


@method("__deepcopy__")
def _deepcopy(self, memo):
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise GradientError(
            "deepcopy: Only Tensors created explicitly by the user (graph leaves) support the "
            f"deepcopy protocol at the moment; this one was computed by {node_of(self).op.name}. "
            "Copy .detach() or .clone() instead"
        )
    grad = None if self._grad is None else _copy_of_grad(self._grad, memo)
    copied = memo[id(self)] = rebuild(self.__class__, _copied(self), self.requires_grad, grad)
    return copied


def _copy_of_grad(grad: Tensor, memo) -> Tensor:
    return _deepcopy(grad, memo) if grad.is_leaf else grad.clone()


@method("__copy__")
def _copy(self):
    """A tensor of its own with the same values."""
    if not self.is_leaf:
        return self.clone()
    grad = self._grad
    return rebuild(self.__class__, _copied(self), self.requires_grad, grad)
