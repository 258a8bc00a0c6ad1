"""NumPy's statistics, comparisons, products and linear algebra, with NumPy's arguments."""

from __future__ import annotations

import numpy as np

from ..graph.dtypes import as_dtype
from ..ops.declare import cast, operands, tensor_of
from .table import adapter_for, flat
from .ufuncs import operand, promoted, public, stored, unsupported

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
    adapter_for(_name)(_spread(_name))


@adapter_for("mean")
def _mean(a, axis=None, dtype=None, out=None, keepdims=False, **kwargs):
    _refuse("mean", kwargs)
    x = cast(a, operands("mean", (a, 1.0))[1])
    dtype = None if dtype is None else as_dtype(dtype)
    keep = keepdims is not np._NoValue and bool(keepdims)
    return stored("mean", public("mean")(x, axis, keepdim=keep, dtype=dtype), out)


@adapter_for("average")
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


@adapter_for("ptp")
def _ptp(a, axis=None, out=None, keepdims=False):
    keep = keepdims is not np._NoValue and bool(keepdims)
    dim = tuple(range(a.ndim)) if axis is None else axis
    spread = public("amax")(a, dim, keepdim=keep) - public("amin")(a, dim, keepdim=keep)
    return stored("ptp", spread, out)


@adapter_for("quantile")
def _quantile(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False):
    q = operand(q)
    if isinstance(q, np.ndarray):
        q = tensor_of("quantile", q.astype(a.dtype.np))
    result = public("quantile")(a, q, axis, bool(keepdims), interpolation=method)
    return stored("quantile", result, out)


@adapter_for("percentile")
def _percentile(a, q, axis=None, out=None, overwrite_input=False, **kwargs):
    return _quantile(a, operand(q) / 100.0, axis, out, **kwargs)


@adapter_for("median")
def _median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    return _quantile(a, 0.5, axis, out, keepdims=keepdims)


@adapter_for("cov")
def _cov(m, y=None, rowvar=True, bias=False, ddof=None, **kwargs):
    if y is not None or any(v is not None for v in kwargs.values()):
        raise unsupported("numpy.cov with y= or weights")
    x = m if rowvar or m.ndim < 2 else public("permute")(m, 1, 0)
    return public("cov")(x, correction=int(not bias) if ddof is None else ddof)


def _cumulative(name: str, target: str):
    def adapter(a, axis=None, dtype=None, out=None):
        x, dim = (flat(a), 0) if axis is None else (a, axis)
        dtype = None if dtype is None else as_dtype(dtype)
        return stored(name, public(target)(x, dim, dtype=dtype), out)

    return adapter


for _name in ("cumsum", "cumprod"):
    adapter_for(_name)(_cumulative(_name, _name))


# -- comparison -----------------------------------------------------------------------------------


@adapter_for("isclose")
def _isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    a, b = promoted(operand(a), operand(b))
    return public("isclose")(a, b, rtol, atol, equal_nan)


@adapter_for("allclose")
def _allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    a, b = promoted(operand(a), operand(b))
    return public("allclose")(a, b, rtol, atol, equal_nan)


@adapter_for("array_equal")
def _array_equal(a1, a2, equal_nan=False):
    a, b = promoted(operand(a1), operand(a2))
    if a.shape != b.shape:
        return False
    return public("allclose")(a, b, 0.0, 0.0, equal_nan)


@adapter_for("polyval")
def _polyval(p, x):
    coefficients = operand(p)
    result = operand(x) * 0
    for k in range(coefficients.shape[0]):
        result = result * x + coefficients[k]
    return result


# -- products -------------------------------------------------------------------------------------


@adapter_for("dot")
def _dot(a, b, out=None):
    a, b = promoted(operand(a), operand(b))
    if not a.ndim or not b.ndim:
        return stored("dot", a * b, out)
    result = public("tensordot")(a, b, dims=([a.ndim - 1], [max(b.ndim - 2, 0)]))
    return stored("dot", result, out)


@adapter_for("vdot")
def _vdot(a, b):
    a, b = promoted(operand(a), operand(b))
    return public("dot")(flat(a), flat(b))


@adapter_for("inner")
def _inner(a, b):
    return public("inner")(*promoted(operand(a), operand(b)))


@adapter_for("outer", "linalg.outer")
def _outer(a, b, out=None):
    a, b = promoted(operand(a), operand(b))
    return stored("outer", public("outer")(flat(a), flat(b)), out)


@adapter_for("tensordot", "linalg.tensordot")
def _tensordot(a, b, axes=2):
    a, b = promoted(operand(a), operand(b))
    if not isinstance(axes, int):
        axes = tuple([k] if isinstance(k, int) else list(k) for k in axes)
    return public("tensordot")(a, b, dims=axes)


@adapter_for("einsum")
def _einsum(subscripts, *values, out=None, optimize=False, **kwargs):
    if kwargs or not isinstance(subscripts, str):
        raise unsupported("numpy.einsum with index lists or dtype=, casting=, order=")
    return stored("einsum", public("einsum")(subscripts, *promoted(*map(operand, values))), out)


@adapter_for("trace", "linalg.trace")
def _trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    diagonal = public("diagonal")(a, offset, axis1, axis2)
    dtype = None if dtype is None else as_dtype(dtype)
    return stored("trace", public("sum")(diagonal, -1, dtype=dtype), out)


@adapter_for("cross", "linalg.cross")
def _cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    if axis is None and (axisa, axisb, axisc) != (-1, -1, -1):
        raise unsupported("numpy.cross with axisa=, axisb=, axisc=")
    a, b = promoted(operand(a), operand(b))
    return public("linalg.cross")(a, b, dim=-1 if axis is None else axis)


# -- linear algebra -------------------------------------------------------------------------------


@adapter_for("linalg.svd")
def _svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    if not compute_uv:
        return public("linalg.svdvals")(a)
    return public("linalg.svd")(a, full_matrices=full_matrices)


@adapter_for("linalg.svdvals")
def _svdvals(x):
    return public("linalg.svdvals")(x)


@adapter_for("linalg.qr")
def _qr(a, mode="reduced"):
    if mode not in ("reduced", "complete", "r"):
        raise unsupported(f"numpy.linalg.qr with mode={mode!r}")
    result = public("linalg.qr")(a, mode=mode)
    return result[1] if mode == "r" else result


@adapter_for("linalg.multi_dot")
def _multi_dot(arrays, *, out=None):
    return stored("multi_dot", public("linalg.multi_dot")(promoted(*map(operand, arrays))), out)


@adapter_for("linalg.solve")
def _solve(a, b):
    a, b = promoted(operand(a), operand(b))
    return public("linalg.solve")(a, b)
