"""The error for a value that is asked for while a function is traced: the line, and a remedy."""

from __future__ import annotations

import os.path
import sys

from ..errors import ArgumentError, TraceError
from ..graph.node import INPUT
from ..graph.op import Op, register

_PACKAGE = os.path.dirname(os.path.dirname(__file__))

# What the user's code did, by the function of ours that it called, and what to write instead.
_CHOICE = (
    "choose among values with fg.where, among computations with fg.cond, and repeat with "
    "fg.while_loop; or make the argument that decides static (static_argnums, static_argnames)"
)
_NUMBER = (
    "keep it a tensor (arithmetic and fg.where take it as it is), or make the argument it comes from "
    "static (static_argnums, static_argnames)"
)
_ARRAY = (
    "use the function's counterpart on tensors (np.sin(x), np.sum(x) and the like record by "
    "themselves), and take NumPy arrays of the results outside of the traced function"
)
_ASKED = {
    "_bool": ("bool(), as `if`, `while`, `and` and `not` do,", _CHOICE),
    "_int": ("int()", _NUMBER),
    "_float": ("float()", _NUMBER),
    "_index": ("an index or a range()", _NUMBER),
    "item": ("item()", _NUMBER),
    "tolist": ("tolist()", _ARRAY),
    "numpy": ("numpy()", _ARRAY),
    "_array": ("np.asarray()", _ARRAY),
    "data_ptr": ("data_ptr()", _ARRAY),
}


def donated_error(where: str) -> ArgumentError:
    return ArgumentError(
        f"this tensor was donated to {where}, which took its memory; pass it without donate_argnums, or "
        "use the result in its place"
    )


def _raise_donated(where: str):
    raise donated_error(where)


DONATED = register(
    Op(
        "donated",
        "donated",
        0,
        ("where",),
        infer=lambda where: ((), None),
        numpy=_raise_donated,
        differentiable=False,
        doc="What a tensor shows after it was given away; its value is an error.",
    )
)


def without_value(key: tuple) -> Exception | None:
    """The error for a signature that needs what has no value."""
    if DONATED in key:
        return donated_error(key[key.index(DONATED) + 1][0])
    return asked_while_tracing() if INPUT in key else None


def asked_while_tracing() -> TraceError:
    """The error for the value that the frames above ask for."""
    frame = sys._getframe(1)
    names: list[str] = []
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "<unknown>"
    known = [name for name in names if name in _ASKED]
    asked, remedy = _ASKED[known[-1]] if known else (f"{names[-1].lstrip('_')}()", _ARRAY)
    return TraceError(
        f"{where}: {asked} needs the value of a tensor, but this function is being traced and its "
        f"arguments have no values yet, only shapes and dtypes; {remedy}"
    )
