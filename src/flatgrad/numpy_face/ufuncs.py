"""NumPy's ufuncs: called, reduced, accumulated, and as outer products."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..errors import ArgumentError, UnsupportedError
from ..graph.dtypes import as_dtype
from ..graph.op import PUBLIC
from ..ops.declare import NUMBERS, cast, into, tensor_of
from ..tensor import Tensor, late, node_of

_ADVICE = (
    "compose it of supported functions, or call it on x.detach().numpy() if no derivative is needed"
)


def unsupported(what: str) -> UnsupportedError:
    return UnsupportedError(f"{what}: flatgrad does not record this for tensors; {_ADVICE}")


def public(name: str):
    """The public function `name`; looked up when it is called, so that every family may come later."""
    return PUBLIC[name].function


@cache
def _table(size: int) -> dict:
    """NumPy function -> public function, from the registry of `size` functions."""
    return {f: p.function for p in PUBLIC.values() for f in p.numpy}


def declared(function):
    """The public function declared for a NumPy function; None if there is none."""
    return _table(len(PUBLIC)).get(function)


def _divmod(x, y):
    return public("floor_divide")(x, y), public("remainder")(x, y)


def _modf(x):
    return public("frac")(x), public("trunc")(x)


# Ufuncs that are not one public function.
_CALLS = {
    np.divmod: _divmod,
    np.modf: _modf,
    np.fabs: lambda x: public("abs")(x),
    np.conjugate: lambda x: tensor_of("conjugate", x),
}
_REDUCE = {
    np.add: "sum",
    np.multiply: "prod",
    np.maximum: "amax",
    np.minimum: "amin",
    np.logical_and: "all",
    np.logical_or: "any",
    np.logaddexp: "logsumexp",
}
_ACCUMULATE = {
    np.add: "cumsum",
    np.multiply: "cumprod",
    np.maximum: "cummax",
    np.minimum: "cummin",
    np.logaddexp: "logcumsumexp",
}


def operand(value):
    """An argument of a NumPy function: lists become arrays, tensors, arrays and numbers stay."""
    if isinstance(value, (list, tuple)):
        if any(isinstance(v, Tensor) for v in value):
            return public("stack")([tensor_of("array", operand(v)) for v in value])
        return np.asarray(value)
    return value


def array_ufunc(self, ufunc, method: str, *inputs, **kwargs):
    """``Tensor.__array_ufunc__``: record what a ufunc does.

    Raises
    ------
    UnsupportedError
        For a ufunc, a method or an argument that flatgrad does not record.
    """
    inputs = tuple(operand(x) for x in inputs)
    if not all(isinstance(x, (Tensor, np.ndarray, np.generic, *NUMBERS)) for x in inputs):
        return NotImplemented
    out = kwargs.pop("out", None)
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    run = _METHODS.get(method)
    if run is None:
        raise unsupported(f"numpy.{ufunc.__name__}.{method}")
    return stored(ufunc.__name__, run(ufunc, *inputs, **kwargs), out)


def stored(name: str, result, out):
    """`result` written to NumPy's ``out=``: a tensor as in PyTorch, an array if no gradient is lost."""
    if out is None:
        return result
    if isinstance(out, Tensor):
        return into(name, result, out)
    if not isinstance(out, np.ndarray):
        raise ArgumentError(
            f"numpy.{name}: out must be a tensor or an array, got {type(out).__name__}"
        )
    node = node_of(result)
    if node.requires_grad:
        raise ArgumentError(
            f"numpy.{name}: the result requires grad and can't be written into an array, which keeps "
            "no history; use a tensor on the left (x = x + y rather than array += y)"
        )
    late.evaluate([node])
    np.copyto(out, node.value, casting="same_kind")
    return out


def _call(ufunc, *inputs, dtype=None, **kwargs):
    function = declared(ufunc) or _CALLS.get(ufunc)
    if function is None:
        raise unsupported(f"numpy.{ufunc.__name__}")
    if kwargs:
        raise unsupported(f"numpy.{ufunc.__name__} with {', '.join(kwargs)}=")
    if dtype is not None:
        inputs = tuple(cast(tensor_of(ufunc.__name__, x), as_dtype(dtype)) for x in inputs)
    elif ufunc is np.matmul:
        inputs = promoted(*inputs)
    return function(*inputs)


def promoted(*values) -> tuple[Tensor, ...]:
    """`values` as tensors of their common dtype, where flatgrad's own function requires one."""
    from ..ops.declare import operands

    _, dtype = operands("numpy", values)
    return tuple(cast(tensor_of("numpy", v), dtype) for v in values)


def _reduce(ufunc, x, axis=0, dtype=None, keepdims=False, **kwargs):
    name = _REDUCE.get(ufunc)
    if name is None or kwargs:
        given = f" with {', '.join(kwargs)}=" if name else ""
        raise unsupported(f"numpy.{ufunc.__name__}.reduce{given}")
    x = tensor_of(ufunc.__name__, x)
    if dtype is not None:
        x = cast(x, as_dtype(dtype))
    dim = tuple(range(x.ndim)) if axis is None else axis
    return public(name)(x, dim, keepdim=keepdims)


def _accumulate(ufunc, x, axis=0, dtype=None):
    name = _ACCUMULATE.get(ufunc)
    if name is None:
        raise unsupported(f"numpy.{ufunc.__name__}.accumulate")
    x = tensor_of(ufunc.__name__, x)
    if dtype is not None:
        x = cast(x, as_dtype(dtype))
    result = public(name)(x, axis)
    return result[0] if isinstance(result, tuple) else result


def _outer(ufunc, x, y, **kwargs):
    x, y = tensor_of(ufunc.__name__, x), tensor_of(ufunc.__name__, y)
    return _call(ufunc, public("reshape")(x, *x.shape, *(1,) * y.ndim), y, **kwargs)


_METHODS = {"__call__": _call, "reduce": _reduce, "accumulate": _accumulate, "outer": _outer}
