"""NumPy's functions of shape, joining, splitting and choosing, with NumPy's arguments."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..errors import ShapeError
from ..graph.dtypes import as_dtype
from ..graph.node import const
from ..graph.shapes import broadcast, normal_dim
from ..ops.declare import cast, tensor_of
from ..tensor import Tensor, node_of, wrap
from .table import ADAPTERS, adapter_for, flat, tensors
from .ufuncs import operand, promoted, public, stored, unsupported

# -- shape ----------------------------------------------------------------------------------------


@adapter_for("shape")
def _shape(a):
    return tuple(a.shape)


@adapter_for("ndim")
def _ndim(a):
    return a.ndim


@adapter_for("size")
def _size(a, axis=None):
    return int(np.prod(a.shape)) if axis is None else a.shape[axis]


@adapter_for("iscomplexobj")
def _iscomplexobj(x):
    return False


@adapter_for("real")
def _real(val):
    return val


@adapter_for("reshape")
def _reshape(a, /, shape=None, order="C", *, newshape=None, copy=None):
    if order not in ("C", "A"):
        raise unsupported(f"numpy.reshape with order={order!r}")
    return public("reshape")(a, shape if newshape is None else newshape)


@adapter_for("ravel")
def _ravel(a, order="C"):
    if order not in ("C", "A", "K"):
        raise unsupported(f"numpy.ravel with order={order!r}")
    return flat(a)


@adapter_for("transpose", "permute_dims")
def _transpose(a, axes=None):
    return public("permute")(a, *(reversed(range(a.ndim)) if axes is None else axes))


@adapter_for("matrix_transpose", "linalg.matrix_transpose")
def _matrix_transpose(x):
    return public("transpose")(x, -2, -1)


@adapter_for("expand_dims")
def _expand_dims(a, axis):
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    rank = a.ndim + len(axes)
    for k in sorted(normal_dim("expand_dims", k, rank) for k in axes):
        a = public("unsqueeze")(a, k)
    return a


def _atleast(rank: int, name: str):
    def adapter(*arys):
        out = []
        for x in tensors(name, arys):
            missing = rank - x.ndim
            if missing > 0:
                # Of NumPy's three dimensions, a vector's is the middle one, a matrix's the first two.
                after = 1 if rank == 3 and x.ndim in (1, 2) else 0
                ones = (1,) * (missing - after), (1,) * after
                x = public("reshape")(x, (*ones[0], *x.shape, *ones[1]))
            out.append(x)
        return out[0] if len(out) == 1 else tuple(out)

    return adapter


for _rank, _name in ((1, "atleast_1d"), (2, "atleast_2d"), (3, "atleast_3d")):
    adapter_for(_name)(_atleast(_rank, _name))


@adapter_for("broadcast_arrays")
def _broadcast_arrays(*args, subok=False):
    xs = tensors("broadcast_arrays", args)
    shape = broadcast("broadcast_arrays", *[node_of(x).shape for x in xs])
    return tuple(public("broadcast_to")(x, shape) for x in xs)


@adapter_for("meshgrid")
def _meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    xs = [flat(x) for x in tensors("meshgrid", xi)]
    order = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        order[:2] = 1, 0
    made = []
    for k, x in enumerate(xs):
        shape = [1] * len(xs)
        shape[order[k]] = x.shape[0]
        made.append(public("reshape")(x, tuple(shape)))
    return tuple(made) if sparse else _broadcast_arrays(*made)


@adapter_for("flip")
def _flip(m, axis=None):
    dims = tuple(range(m.ndim)) if axis is None else axis
    return public("flip")(m, dims if isinstance(dims, tuple) else (dims,))


@adapter_for("fliplr")
def _fliplr(m):
    return _flip(m, 1)


@adapter_for("flipud")
def _flipud(m):
    return _flip(m, 0)


@adapter_for("tile")
def _tile(A, reps):
    return public("tile")(A, *np.atleast_1d(reps).tolist())


@adapter_for("pad")
def _pad(array, pad_width, mode="constant", *, constant_values=0, **kwargs):
    if mode != "constant" or kwargs or not np.isscalar(constant_values):
        raise unsupported(f"numpy.pad with mode={mode!r}")
    widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    flat = [int(n) for before_after in reversed(widths) for n in before_after]
    return public("pad")(array, tuple(flat), value=constant_values)


def _filled(number):
    def adapter(a, dtype=None, order="K", subok=True, shape=None, **kwargs):
        return _full_like(a, number, dtype, shape=shape)

    return adapter


@adapter_for("full_like")
def _full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None, **kwargs):
    shape = tuple(a.shape) if shape is None else tuple(np.atleast_1d(shape).tolist())
    return wrap(const(fill_value, a.dtype if dtype is None else as_dtype(dtype), shape))


for _name, _number in (("zeros_like", 0), ("ones_like", 1), ("empty_like", 0)):
    adapter_for(_name)(_filled(_number))


# -- joining and splitting ------------------------------------------------------------------------


def _joined(name: str, function: str, values, axis, dtype, out):
    xs = tensors(name, values)
    if axis is None:
        xs, axis = [flat(x) for x in xs], 0
    xs = list(promoted(*xs))
    result = public(function)(xs, axis)
    return stored(name, result if dtype is None else cast(result, as_dtype(dtype)), out)


@adapter_for("concatenate", "concat")
def _concatenate(arrays, /, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return _joined("concatenate", "cat", arrays, axis, dtype, out)


@adapter_for("stack")
def _stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return _joined("stack", "stack", arrays, axis, dtype, out)


@adapter_for("vstack")
def _vstack(tup, *, dtype=None, casting="same_kind"):
    rows = [ADAPTERS[np.atleast_2d](x) for x in tensors("vstack", tup)]
    return _joined("vstack", "cat", rows, 0, dtype, None)


@adapter_for("hstack")
def _hstack(tup, *, dtype=None, casting="same_kind"):
    parts = [ADAPTERS[np.atleast_1d](x) for x in tensors("hstack", tup)]
    return _joined("hstack", "cat", parts, 0 if parts[0].ndim == 1 else 1, dtype, None)


@adapter_for("dstack")
def _dstack(tup):
    parts = [ADAPTERS[np.atleast_3d](x) for x in tensors("dstack", tup)]
    return _joined("dstack", "cat", parts, 2, None, None)


@adapter_for("column_stack")
def _column_stack(tup):
    parts = [
        public("reshape")(x, (-1, 1)) if x.ndim < 2 else x for x in tensors("column_stack", tup)
    ]
    return _joined("column_stack", "cat", parts, 1, None, None)


@adapter_for("append")
def _append(arr, values, axis=None):
    return _concatenate((arr, values), axis=axis)


def _pieces(x: Tensor, bounds: list, axis: int) -> list[Tensor]:
    before = (slice(None),) * normal_dim("split", axis, x.ndim)
    edges = [0, *bounds, x.shape[axis]]
    return [x[(*before, slice(a, b))] for a, b in pairwise(edges)]


@adapter_for("array_split")
def _array_split(ary, indices_or_sections, axis=0):
    if not isinstance(indices_or_sections, int):
        return _pieces(ary, list(indices_or_sections), axis)
    size, extra = divmod(ary.shape[axis], indices_or_sections)
    sizes = [size + (k < extra) for k in range(indices_or_sections)]
    return _pieces(ary, np.cumsum(sizes)[:-1].tolist(), axis)


@adapter_for("split")
def _split(ary, indices_or_sections, axis=0):
    if isinstance(indices_or_sections, int) and ary.shape[axis] % indices_or_sections:
        raise ShapeError(
            f"numpy.split: {ary.shape[axis]} elements can't be split in {indices_or_sections} equal "
            "parts; use numpy.array_split"
        )
    return _array_split(ary, indices_or_sections, axis)


@adapter_for("hsplit")
def _hsplit(ary, indices_or_sections):
    return _split(ary, indices_or_sections, 1 if ary.ndim > 1 else 0)


@adapter_for("vsplit")
def _vsplit(ary, indices_or_sections):
    return _split(ary, indices_or_sections, 0)


@adapter_for("repeat")
def _repeat(a, repeats, axis=None):
    return public("repeat_interleave")(a, operand(repeats), axis)


# -- choosing -------------------------------------------------------------------------------------


@adapter_for("where")
def _where(condition, x=None, y=None, /):
    condition = tensor_of("where", operand(condition))
    condition = condition if condition.dtype.name == "bool" else public("ne")(condition, 0)
    return public("where")(condition, operand(x), operand(y))


@adapter_for("select")
def _select(condlist, choicelist, default=0):
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = _where(condition, choice, result)
    return result


@adapter_for("clip")
def _clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None, **kwargs):
    if kwargs:
        raise unsupported(f"numpy.clip with {', '.join(kwargs)}=")
    low = min if a_min is None or a_min is np._NoValue else a_min
    high = max if a_max is None or a_max is np._NoValue else a_max
    low = None if low is np._NoValue else operand(low)
    high = None if high is np._NoValue else operand(high)
    return stored("clip", public("clamp")(operand(a), low, high), out)


@adapter_for("take")
def _take(a, indices, axis=None, out=None, mode="raise"):
    if mode != "raise":
        raise unsupported(f"numpy.take with mode={mode!r}")
    x, axis = (flat(a), 0) if axis is None else (a, axis)
    before = (slice(None),) * normal_dim("take", axis, x.ndim)
    return stored("take", x[(*before, operand(indices))], out)


@adapter_for("sort")
def _sort(a, axis=-1, kind=None, order=None, *, stable=None):
    x, axis = (flat(a), 0) if axis is None else (a, axis)
    return public("sort")(x, axis)[0]


@adapter_for("argsort")
def _argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    x, axis = (flat(a), 0) if axis is None else (a, axis)
    return public("argsort")(x, axis, stable=bool(stable) or kind == "stable")


@adapter_for("take_along_axis")
def _take_along_axis(arr, indices, axis=-1):
    x, axis = (flat(arr), 0) if axis is None else (arr, axis)
    return public("take_along_dim")(x, operand(indices), axis)


@adapter_for("flatnonzero")
def _flatnonzero(a):
    return public("nonzero")(flat(a), as_tuple=True)[0]


@adapter_for("nonzero")
def _nonzero(a):
    return public("nonzero")(a, as_tuple=True)


@adapter_for("unique")
def _unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, **kwargs):
    if return_index:
        raise unsupported("numpy.unique with return_index=")
    return public("unique")(
        ar, return_inverse=return_inverse, return_counts=return_counts, dim=axis
    )
