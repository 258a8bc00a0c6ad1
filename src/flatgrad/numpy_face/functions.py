"""NumPy's array functions, with NumPy's names and meaning of arguments.

``RENAMED`` is the table of those that differ from a public function by argument names alone; the
adapters below it are for the rest. A row gives NumPy's parameters in NumPy's order, each with
flatgrad's name after ``=`` where that is another.
"""

from __future__ import annotations

import builtins
from itertools import pairwise

import numpy as np

from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..graph.dtypes import as_dtype
from ..graph.node import const
from ..graph.shapes import broadcast, normal_dim
from ..ops.declare import cast, operands, tensor_of
from ..tensor import Tensor, node_of, wrap
from .ufuncs import declared, operand, promoted, public, stored, unsupported

# Arguments that say how NumPy stores or finds a result, not what it is.
_IGNORED = {"order", "subok", "kind", "optimize", "copy", "like", "sparse", "device"}

_REDUCTION = "a=input axis=dim out keepdims=keepdim"
_TYPED = "a=input axis=dim dtype out keepdims=keepdim"

# NumPy's name -> (public function, parameters).
RENAMED = {
    "sum": ("sum", _TYPED),
    "prod": ("prod", _TYPED),
    "mean": ("mean", _TYPED),
    "nansum": ("nansum", _TYPED),
    "nanmean": ("nanmean", _TYPED),
    "amax": ("amax", _REDUCTION),
    "amin": ("amin", _REDUCTION),
    "max": ("amax", _REDUCTION),
    "min": ("amin", _REDUCTION),
    "all": ("all", _REDUCTION),
    "any": ("any", _REDUCTION),
    "argmax": ("argmax", _REDUCTION),
    "argmin": ("argmin", _REDUCTION),
    "count_nonzero": ("count_nonzero", "a=input axis=dim"),
    "diff": ("diff", "a=input n axis=dim prepend append"),
    "trapezoid": ("trapezoid", "y x dx axis=dim"),
    "squeeze": ("squeeze", "a=input axis=dim"),
    "swapaxes": ("transpose", "a=input axis1=dim0 axis2=dim1"),
    "moveaxis": ("movedim", "a=input source destination"),
    "broadcast_to": ("broadcast_to", "array=input shape"),
    "roll": ("roll", "a=input shift=shifts axis=dims"),
    "tril": ("tril", "m=input k=diagonal"),
    "triu": ("triu", "m=input k=diagonal"),
    "diag": ("diag", "v=input k=diagonal"),
    "diagonal": ("diagonal", "a=input offset axis1=dim1 axis2=dim2"),
    "rot90": ("rot90", "m=input k axes=dims"),
    "tile": ("tile", "A=input reps=dims"),
    "take_along_axis": ("take_along_dim", "arr=input indices axis=dim"),
    "nan_to_num": ("nan_to_num", "x=input nan posinf neginf"),
    "round": ("round", "a=input decimals out"),
    "around": ("round", "a=input decimals out"),
    "fix": ("trunc", "x=input out"),
    "sinc": ("sinc", "x=input"),
    "isposinf": ("isposinf", "x=input out"),
    "isneginf": ("isneginf", "x=input out"),
    "copy": ("clone", "a=input"),
    "nonzero": ("nonzero", "a=input"),
    "argwhere": ("argwhere", "a=input"),
    "argsort": ("argsort", "a=input axis=dim"),
    "bincount": ("bincount", "x=input weights minlength"),
    "searchsorted": ("searchsorted", "a=sorted_sequence v=input side"),
    "vander": ("vander", "x N increasing"),
    "corrcoef": ("corrcoef", "x=input"),
    "kron": ("kron", "a=input b=other"),
    "linalg.norm": ("linalg.norm", "x=A ord axis=dim keepdims=keepdim"),
    "linalg.vector_norm": ("linalg.vector_norm", "x axis=dim keepdims=keepdim ord"),
    "linalg.det": ("linalg.det", "a=A"),
    "linalg.slogdet": ("linalg.slogdet", "a=A"),
    "linalg.inv": ("linalg.inv", "a=A"),
    "linalg.cholesky": ("linalg.cholesky", "a=A"),
    "linalg.eigh": ("linalg.eigh", "a=A UPLO"),
    "linalg.eigvalsh": ("linalg.eigvalsh", "a=A UPLO"),
    "linalg.pinv": ("linalg.pinv", "a=A rcond=rtol"),
    "linalg.matrix_power": ("linalg.matrix_power", "a=A n"),
    "linalg.matrix_rank": ("linalg.matrix_rank", "A"),
}  # fmt: skip


def _numpy_function(name: str):
    found = np
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _renamed(name: str, row: tuple):
    """The adapter that a row of the table describes."""
    target, parameters = row
    ours = dict(p.split("=") if "=" in p else (p, p) for p in parameters.split())
    order = list(ours)

    def adapter(*args, **kwargs):
        given = dict(zip(order, args, strict=False)) | kwargs
        call = {}
        for key, value in given.items():
            if value is np._NoValue or value is None or key in _IGNORED:
                continue
            if key not in ours:
                raise unsupported(f"numpy.{name} with {key}=")
            call[ours[key]] = value
        first = ours[order[0]]
        if len(args) > len(order) or first not in call:
            raise ArgumentError(
                f"numpy.{name}: takes ({', '.join(order)}), got {len(args)} arguments"
            )
        out = call.pop("out", None)
        return stored(name, public(target)(operand(call.pop(first)), **call), out)

    return adapter


_ADAPTERS: dict = {}


def _adapter(*names: str):
    """Register the decorated function as the meaning of NumPy's functions `names`."""

    def attach(function):
        for name in names:
            found = _numpy_function(name)
            if found is not None:
                _ADAPTERS[found] = function
        return function

    return attach


for _name, _row in RENAMED.items():
    _adapter(_name)(_renamed(_name, _row))


def array_function(self, func, types, args, kwargs):
    """``Tensor.__array_function__``: record what a NumPy function does.

    Raises
    ------
    UnsupportedError
        For a function or an argument that flatgrad does not record.
    """
    if not all(issubclass(t, (Tensor, np.ndarray)) for t in types):
        return NotImplemented
    name = f"{func.__module__}.{func.__name__}"
    adapter = _ADAPTERS.get(func)
    try:
        if adapter is not None:
            return adapter(*args, **kwargs)
        function = declared(func)
        if function is None:
            raise unsupported(name)
        return function(*map(operand, args), **kwargs)
    except KeyError as missing:
        raise unsupported(name) from missing


def _tensors(name: str, values) -> list[Tensor]:
    return [tensor_of(name, operand(v), k) for k, v in enumerate(values)]


def _flat(x: Tensor) -> Tensor:
    return public("reshape")(x, -1)


# -- shape ----------------------------------------------------------------------------------------


@_adapter("shape")
def _shape(a):
    return tuple(a.shape)


@_adapter("ndim")
def _ndim(a):
    return a.ndim


@_adapter("size")
def _size(a, axis=None):
    return int(np.prod(a.shape)) if axis is None else a.shape[axis]


@_adapter("iscomplexobj")
def _iscomplexobj(x):
    return False


@_adapter("real")
def _real(val):
    return val


@_adapter("reshape")
def _reshape(a, /, shape=None, order="C", *, newshape=None, copy=None):
    if order not in ("C", "A"):
        raise unsupported(f"numpy.reshape with order={order!r}")
    return public("reshape")(a, shape if newshape is None else newshape)


@_adapter("ravel")
def _ravel(a, order="C"):
    if order not in ("C", "A", "K"):
        raise unsupported(f"numpy.ravel with order={order!r}")
    return _flat(a)


@_adapter("transpose", "permute_dims")
def _transpose(a, axes=None):
    return public("permute")(a, *(reversed(range(a.ndim)) if axes is None else axes))


@_adapter("matrix_transpose", "linalg.matrix_transpose")
def _matrix_transpose(x):
    return public("transpose")(x, -2, -1)


@_adapter("expand_dims")
def _expand_dims(a, axis):
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    rank = a.ndim + len(axes)
    for k in sorted(normal_dim("expand_dims", k, rank) for k in axes):
        a = public("unsqueeze")(a, k)
    return a


def _atleast(rank: int, name: str):
    def adapter(*arys):
        out = []
        for x in _tensors(name, arys):
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
    _adapter(_name)(_atleast(_rank, _name))


@_adapter("broadcast_arrays")
def _broadcast_arrays(*args, subok=False):
    xs = _tensors("broadcast_arrays", args)
    shape = broadcast("broadcast_arrays", *[node_of(x).shape for x in xs])
    return tuple(public("broadcast_to")(x, shape) for x in xs)


@_adapter("meshgrid")
def _meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    xs = [_flat(x) for x in _tensors("meshgrid", xi)]
    order = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        order[:2] = 1, 0
    made = []
    for k, x in enumerate(xs):
        shape = [1] * len(xs)
        shape[order[k]] = x.shape[0]
        made.append(public("reshape")(x, tuple(shape)))
    return tuple(made) if sparse else _broadcast_arrays(*made)


@_adapter("flip")
def _flip(m, axis=None):
    dims = tuple(range(m.ndim)) if axis is None else axis
    return public("flip")(m, dims if isinstance(dims, tuple) else (dims,))


@_adapter("fliplr")
def _fliplr(m):
    return _flip(m, 1)


@_adapter("flipud")
def _flipud(m):
    return _flip(m, 0)


@_adapter("pad")
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


@_adapter("full_like")
def _full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None, **kwargs):
    shape = tuple(a.shape) if shape is None else tuple(np.atleast_1d(shape).tolist())
    return wrap(const(fill_value, a.dtype if dtype is None else as_dtype(dtype), shape))


for _name, _number in (("zeros_like", 0), ("ones_like", 1), ("empty_like", 0)):
    _adapter(_name)(_filled(_number))


# -- joining and splitting ------------------------------------------------------------------------


def _joined(name: str, function: str, values, axis, dtype, out):
    xs = _tensors(name, values)
    if axis is None:
        xs, axis = [_flat(x) for x in xs], 0
    xs = list(promoted(*xs))
    result = public(function)(xs, axis)
    return stored(name, result if dtype is None else cast(result, as_dtype(dtype)), out)


@_adapter("concatenate", "concat")
def _concatenate(arrays, /, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return _joined("concatenate", "cat", arrays, axis, dtype, out)


@_adapter("stack")
def _stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return _joined("stack", "stack", arrays, axis, dtype, out)


@_adapter("vstack")
def _vstack(tup, *, dtype=None, casting="same_kind"):
    rows = [_ADAPTERS[np.atleast_2d](x) for x in _tensors("vstack", tup)]
    return _joined("vstack", "cat", rows, 0, dtype, None)


@_adapter("hstack")
def _hstack(tup, *, dtype=None, casting="same_kind"):
    parts = [_ADAPTERS[np.atleast_1d](x) for x in _tensors("hstack", tup)]
    return _joined("hstack", "cat", parts, 0 if parts[0].ndim == 1 else 1, dtype, None)


@_adapter("dstack")
def _dstack(tup):
    parts = [_ADAPTERS[np.atleast_3d](x) for x in _tensors("dstack", tup)]
    return _joined("dstack", "cat", parts, 2, None, None)


@_adapter("column_stack")
def _column_stack(tup):
    parts = [
        public("reshape")(x, (-1, 1)) if x.ndim < 2 else x for x in _tensors("column_stack", tup)
    ]
    return _joined("column_stack", "cat", parts, 1, None, None)


@_adapter("append")
def _append(arr, values, axis=None):
    return _concatenate((arr, values), axis=axis)


def _pieces(x: Tensor, bounds: list, axis: int) -> list[Tensor]:
    before = (slice(None),) * normal_dim("split", axis, x.ndim)
    edges = [0, *bounds, x.shape[axis]]
    return [x[(*before, slice(a, b))] for a, b in pairwise(edges)]


@_adapter("array_split")
def _array_split(ary, indices_or_sections, axis=0):
    if not isinstance(indices_or_sections, int):
        return _pieces(ary, list(indices_or_sections), axis)
    size, extra = divmod(ary.shape[axis], indices_or_sections)
    sizes = [size + (k < extra) for k in range(indices_or_sections)]
    return _pieces(ary, np.cumsum(sizes)[:-1].tolist(), axis)


@_adapter("split")
def _split(ary, indices_or_sections, axis=0):
    if isinstance(indices_or_sections, int) and ary.shape[axis] % indices_or_sections:
        raise ShapeError(
            f"numpy.split: {ary.shape[axis]} elements can't be split in {indices_or_sections} equal "
            "parts; use numpy.array_split"
        )
    return _array_split(ary, indices_or_sections, axis)


@_adapter("hsplit")
def _hsplit(ary, indices_or_sections):
    return _split(ary, indices_or_sections, 1 if ary.ndim > 1 else 0)


@_adapter("vsplit")
def _vsplit(ary, indices_or_sections):
    return _split(ary, indices_or_sections, 0)


@_adapter("repeat")
def _repeat(a, repeats, axis=None):
    return public("repeat_interleave")(a, operand(repeats), axis)


# -- choosing -------------------------------------------------------------------------------------


@_adapter("where")
def _where(condition, x=None, y=None, /):
    condition = tensor_of("where", operand(condition))
    condition = condition if condition.dtype.name == "bool" else public("ne")(condition, 0)
    return public("where")(condition, operand(x), operand(y))


@_adapter("select")
def _select(condlist, choicelist, default=0):
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = _where(condition, choice, result)
    return result


@_adapter("clip")
def _clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None, **kwargs):
    if kwargs:
        raise unsupported(f"numpy.clip with {', '.join(kwargs)}=")
    low = min if a_min is None or a_min is np._NoValue else a_min
    high = max if a_max is None or a_max is np._NoValue else a_max
    low = None if low is np._NoValue else operand(low)
    high = None if high is np._NoValue else operand(high)
    return stored("clip", public("clamp")(operand(a), low, high), out)


@_adapter("take")
def _take(a, indices, axis=None, out=None, mode="raise"):
    if mode != "raise":
        raise unsupported(f"numpy.take with mode={mode!r}")
    x, axis = (_flat(a), 0) if axis is None else (a, axis)
    before = (slice(None),) * normal_dim("take", axis, x.ndim)
    return stored("take", x[(*before, operand(indices))], out)


@_adapter("sort")
def _sort(a, axis=-1, kind=None, order=None, *, stable=None):
    x, axis = (_flat(a), 0) if axis is None else (a, axis)
    return public("sort")(x, axis)[0]


@_adapter("flatnonzero")
def _flatnonzero(a):
    return public("nonzero")(_flat(a), as_tuple=True)[0]


@_adapter("nonzero")
def _nonzero(a):
    return public("nonzero")(a, as_tuple=True)


@_adapter("unique")
def _unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, **kwargs):
    if return_index:
        raise unsupported("numpy.unique with return_index=")
    return public("unique")(
        ar, return_inverse=return_inverse, return_counts=return_counts, dim=axis
    )


# -- statistics -----------------------------------------------------------------------------------


def _refuse(name: str, kwargs: dict) -> None:
    """Raise for arguments that were given and that flatgrad does not know."""
    given = [k for k, v in kwargs.items() if v is not np._NoValue]
    if given:
        raise unsupported(f"numpy.{name} with {', '.join(given)}=")


def _spread(name: str):
    def adapter(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, **kwargs):
        correction = kwargs.pop("correction", None)
        _refuse(name, kwargs)
        x = a if dtype is None else cast(a, as_dtype(dtype))
        x = cast(x, operands(name, (x, 1.0))[1])
        spare = ddof if correction in (None, np._NoValue) else correction
        keep = keepdims is not np._NoValue and bool(keepdims)
        result = public(name)(x, axis, correction=spare, keepdim=keep)
        return stored(name, result, out)

    return adapter


for _name in ("var", "std"):
    _adapter(_name)(_spread(_name))


@_adapter("mean")
def _mean(a, axis=None, dtype=None, out=None, keepdims=False, **kwargs):
    _refuse("mean", kwargs)
    x = cast(a, operands("mean", (a, 1.0))[1])
    dtype = None if dtype is None else as_dtype(dtype)
    keep = keepdims is not np._NoValue and bool(keepdims)
    return stored("mean", public("mean")(x, axis, keepdim=keep, dtype=dtype), out)


@_adapter("average")
def _average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    keep = keepdims is not np._NoValue and bool(keepdims)
    if returned:
        raise unsupported("numpy.average with returned=")
    if weights is None:
        return _mean(a, axis, keepdims=keep)
    x, w = promoted(a, operand(weights))
    if w.ndim == 1 and x.ndim > 1 and axis is not None:
        w = public("reshape")(w, [-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])
    w = public("broadcast_to")(w, x.shape)
    total = public("sum")
    return total(x * w, axis, keepdim=keep) / total(w, axis, keepdim=keep)


@_adapter("ptp")
def _ptp(a, axis=None, out=None, keepdims=False):
    keep = keepdims is not np._NoValue and bool(keepdims)
    dim = tuple(range(a.ndim)) if axis is None else axis
    spread = public("amax")(a, dim, keepdim=keep) - public("amin")(a, dim, keepdim=keep)
    return stored("ptp", spread, out)


@_adapter("quantile")
def _quantile(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False):
    q = operand(q)
    if isinstance(q, np.ndarray):
        q = tensor_of("quantile", q.astype(a.dtype.np))
    result = public("quantile")(a, q, axis, bool(keepdims), interpolation=method)
    return stored("quantile", result, out)


@_adapter("percentile")
def _percentile(a, q, axis=None, out=None, overwrite_input=False, **kwargs):
    return _quantile(a, operand(q) / 100.0, axis, out, **kwargs)


@_adapter("median")
def _median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    return _quantile(a, 0.5, axis, out, keepdims=keepdims)


@_adapter("cov")
def _cov(m, y=None, rowvar=True, bias=False, ddof=None, **kwargs):
    if y is not None or any(v is not None for v in kwargs.values()):
        raise unsupported("numpy.cov with y= or weights")
    x = m if rowvar or m.ndim < 2 else public("permute")(m, 1, 0)
    return public("cov")(x, correction=int(not bias) if ddof is None else ddof)


def _cumulative(name: str, target: str):
    def adapter(a, axis=None, dtype=None, out=None):
        x, dim = (_flat(a), 0) if axis is None else (a, axis)
        dtype = None if dtype is None else as_dtype(dtype)
        return stored(name, public(target)(x, dim, dtype=dtype), out)

    return adapter


for _name in ("cumsum", "cumprod"):
    _adapter(_name)(_cumulative(_name, _name))


# -- comparison -----------------------------------------------------------------------------------


@_adapter("isclose")
def _isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    a, b = promoted(operand(a), operand(b))
    return public("isclose")(a, b, rtol, atol, equal_nan)


@_adapter("allclose")
def _allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    a, b = promoted(operand(a), operand(b))
    return public("allclose")(a, b, rtol, atol, equal_nan)


@_adapter("array_equal")
def _array_equal(a1, a2, equal_nan=False):
    a, b = promoted(operand(a1), operand(a2))
    if a.shape != b.shape:
        return False
    return public("allclose")(a, b, 0.0, 0.0, equal_nan)


# -- products -------------------------------------------------------------------------------------


@_adapter("dot")
def _dot(a, b, out=None):
    a, b = promoted(operand(a), operand(b))
    if not a.ndim or not b.ndim:
        return stored("dot", a * b, out)
    result = public("tensordot")(a, b, dims=([a.ndim - 1], [builtins.max(b.ndim - 2, 0)]))
    return stored("dot", result, out)


@_adapter("vdot")
def _vdot(a, b):
    a, b = promoted(operand(a), operand(b))
    return public("dot")(_flat(a), _flat(b))


@_adapter("inner")
def _inner(a, b):
    return public("inner")(*promoted(operand(a), operand(b)))


@_adapter("outer", "linalg.outer")
def _outer(a, b, out=None):
    a, b = promoted(operand(a), operand(b))
    return stored("outer", public("outer")(_flat(a), _flat(b)), out)


@_adapter("tensordot", "linalg.tensordot")
def _tensordot(a, b, axes=2):
    a, b = promoted(operand(a), operand(b))
    if not isinstance(axes, int):
        axes = tuple([k] if isinstance(k, int) else list(k) for k in axes)
    return public("tensordot")(a, b, dims=axes)


@_adapter("einsum")
def _einsum(subscripts, *values, out=None, optimize=False, **kwargs):
    if kwargs or not isinstance(subscripts, str):
        raise unsupported("numpy.einsum with index lists or dtype=, casting=, order=")
    return stored("einsum", public("einsum")(subscripts, *promoted(*map(operand, values))), out)


@_adapter("trace", "linalg.trace")
def _trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    diagonal = public("diagonal")(a, offset, axis1, axis2)
    dtype = None if dtype is None else as_dtype(dtype)
    return stored("trace", public("sum")(diagonal, -1, dtype=dtype), out)


@_adapter("cross", "linalg.cross")
def _cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    if axis is None and (axisa, axisb, axisc) != (-1, -1, -1):
        raise unsupported("numpy.cross with axisa=, axisb=, axisc=")
    a, b = promoted(operand(a), operand(b))
    return public("linalg.cross")(a, b, dim=-1 if axis is None else axis)


# -- linear algebra -------------------------------------------------------------------------------


@_adapter("linalg.svd")
def _svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    if not compute_uv:
        return public("linalg.svdvals")(a)
    return public("linalg.svd")(a, full_matrices=full_matrices)


@_adapter("linalg.svdvals")
def _svdvals(x):
    return public("linalg.svdvals")(x)


@_adapter("linalg.qr")
def _qr(a, mode="reduced"):
    if mode not in ("reduced", "complete", "r"):
        raise unsupported(f"numpy.linalg.qr with mode={mode!r}")
    result = public("linalg.qr")(a, mode=mode)
    return result[1] if mode == "r" else result


@_adapter("linalg.multi_dot")
def _multi_dot(arrays, *, out=None):
    return stored("multi_dot", public("linalg.multi_dot")(promoted(*map(operand, arrays))), out)


@_adapter("linalg.solve")
def _solve(a, b):
    a, b = promoted(operand(a), operand(b))
    return public("linalg.solve")(a, b)


__all__ = ["RENAMED", "UnsupportedError", "array_function"]
