"""Python's operators on ``Tensor``: plain, reflected and in place.

An operand that is no tensor, array or number gets Python's own treatment (``NotImplemented``), so
that another class's reflected operator has its turn, and ``t == None`` is False.
"""

from __future__ import annotations

import numpy as np

from ..tensor import Tensor
from . import elementwise, logic, selection

_OPERANDS = (Tensor, int, float, bool, np.ndarray, np.generic)


def _plain(fn):
    def operator(self, other):
        return fn(self, other) if isinstance(other, _OPERANDS) else NotImplemented

    return operator


def _reflected(fn):
    def operator(self, other):
        return fn(other, self) if isinstance(other, _OPERANDS) else NotImplemented

    return operator


_ARITHMETIC = {
    "add": (elementwise.raw_add, "add_"),
    "sub": (elementwise.raw_sub, "sub_"),
    "mul": (elementwise.mul, "mul_"),
    "truediv": (elementwise.raw_div, "div_"),
    "floordiv": (elementwise.floor_divide, "floor_divide_"),
    "mod": (elementwise.remainder, "remainder_"),
    "pow": (elementwise.pow, "pow_"),
    "and": (logic.bitwise_and, "bitwise_and_"),
    "or": (logic.bitwise_or, "bitwise_or_"),
    "xor": (logic.bitwise_xor, "bitwise_xor_"),
    "lshift": (logic.bitwise_left_shift, "bitwise_left_shift_"),
    "rshift": (logic.bitwise_right_shift, "bitwise_right_shift_"),
}
_COMPARISON = {
    "eq": logic.eq,
    "ne": logic.ne,
    "lt": logic.lt,
    "le": logic.le,
    "gt": logic.gt,
    "ge": logic.ge,
}
_UNARY = {
    "neg": elementwise.neg,
    "pos": elementwise.positive,
    "abs": selection.abs,
    "invert": logic.bitwise_not,
}


def _attach(name: str, fn) -> None:
    fn.__name__ = f"__{name}__"
    fn.__qualname__ = f"Tensor.__{name}__"
    setattr(Tensor, fn.__name__, fn)


def _unary(fn):
    return lambda self: fn(self)


for _name, (_fn, _inplace) in _ARITHMETIC.items():
    _attach(_name, _plain(_fn))
    _attach("r" + _name, _reflected(_fn))
    _attach("i" + _name, _plain(getattr(Tensor, _inplace)))
for _name, _fn in _COMPARISON.items():
    _attach(_name, _plain(_fn))
for _name, _fn in _UNARY.items():
    _attach(_name, _unary(_fn))
Tensor.__hash__ = object.__hash__
