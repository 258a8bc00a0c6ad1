"""How NumPy's array functions are given their meaning: the table of renamed ones, and adapters.

``RENAMED`` is the table of those that differ from a public function by argument names alone. A row
gives NumPy's parameters in NumPy's order, each with flatgrad's name after ``=`` where that is another.
``adapter_for`` registers a function for one that differs in more.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError
from ..ops.declare import tensor_of
from ..tensor import Tensor
from .ufuncs import operand, public, stored, unsupported

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
    "bincount": ("bincount", "x=input weights minlength"),
    "searchsorted": ("searchsorted", "a=sorted_sequence v=input side"),
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


ADAPTERS: dict = {}


def adapter_for(*names: str):
    """Register the decorated function as the meaning of NumPy's functions `names`."""

    def attach(function):
        for name in names:
            found = _numpy_function(name)
            if found is not None:
                ADAPTERS[found] = function
        return function

    return attach


for _name, _row in RENAMED.items():
    adapter_for(_name)(_renamed(_name, _row))


def tensors(name: str, values) -> list[Tensor]:
    """`values`, which may be arrays, numbers and lists, as tensors."""
    return [tensor_of(name, operand(v), k) for k, v in enumerate(values)]


def flat(x: Tensor) -> Tensor:
    """`x` in one dimension."""
    return public("reshape")(x, -1)
