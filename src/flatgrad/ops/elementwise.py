"""Elementwise operations: arithmetic, comparison, logic. One scalar expression, one partial an input.

Each partial says where its formula comes from, and why it has the form it has: it must be accurate
at the edges of the domain too.
"""

from __future__ import annotations

import numpy as np

from ..tensor import Tensor
from .declare import Gate, apply_elementwise, composite, elementwise, finish, register

_REAL = ((-3.0, 3.0),)

neg = elementwise(
    "neg", 1, numpy=np.negative, scalar=lambda s, x: -x, rule="number",
    partials=(lambda x, out: -1,), domain=_REAL, ufuncs=(np.negative,), doc="-x.",
)
sin = elementwise(
    "sin", 1, numpy=np.sin, scalar="sin", rule="float",
    partials=(lambda x, out: cos(x),), domain=_REAL, ufuncs=(np.sin,), doc="Sine of x in radians.",
)
cos = elementwise(
    "cos", 1, numpy=np.cos, scalar="cos", rule="float",
    partials=(lambda x, out: -sin(x),), domain=_REAL, ufuncs=(np.cos,), doc="Cosine of x in radians.",
)
exp = elementwise(
    "exp", 1, numpy=np.exp, scalar="exp", rule="float",
    partials=(lambda x, out: out,), domain=_REAL, ufuncs=(np.exp,), doc="e^x.",
)


def _true_divide(x, y):
    return np.true_divide(x, y)


where = elementwise(
    "where", 3, numpy=np.where, scalar=lambda s, c, x, y: s.where(c, x, y), methods=(),
    rule="where", torch=None,
    pullback=None, partials=(None, lambda c, x, y, out: Gate(c), lambda c, x, y, out: Gate(~c)),
)
logical_not = elementwise(
    "logical_not", 1, numpy=np.logical_not, scalar=lambda s, x: ~x, rule="logical", doc="not x.",
)
add = elementwise(
    "add", 2, numpy=np.add, scalar=lambda s, x, y: x + y,
    partials=(lambda x, y, out: 1, lambda x, y, out: 1), domain=_REAL * 2, ufuncs=(np.add,),
)
sub = elementwise(
    "sub", 2, numpy=np.subtract, scalar=lambda s, x, y: x - y, rule="number",
    partials=(lambda x, y, out: 1, lambda x, y, out: -1), domain=_REAL * 2, ufuncs=(np.subtract,),
)
mul = elementwise(
    "mul", 2, numpy=np.multiply, scalar=lambda s, x, y: x * y,
    partials=(lambda x, y, out: y, lambda x, y, out: x), domain=_REAL * 2, ufuncs=(np.multiply,),
)
div = elementwise(
    "div", 2, numpy=_true_divide, scalar=lambda s, x, y: x / y, rule="float",
    partials=(lambda x, y, out: 1 / y, lambda x, y, out: -(out / y)), domain=(_REAL[0], (0.5, 3.0)),
    ufuncs=(np.true_divide,),
)


def _reflected(fn):
    return lambda self, other: fn(other, self)


for _name, _fn in (("add", add), ("sub", sub), ("mul", mul), ("truediv", div)):
    setattr(Tensor, f"__{_name}__", _fn)
    setattr(Tensor, f"__r{_name}__", _reflected(_fn))
    setattr(Tensor, f"__i{_name}__", getattr(Tensor, _fn.__name__ + "_"))
Tensor.__neg__ = neg
Tensor.__invert__ = logical_not
