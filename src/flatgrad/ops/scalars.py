"""What the elementwise families share: domains for tests, scalar helpers, sample calls.

The scalar helpers build expressions of the loop IR: `s` is that module, operands its expressions.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import dtypes
from ..graph.dtypes import BOOL, FLOAT
from ..graph.node import CONST
from ..graph.op import BadCall, Sample
from ..tensor import Tensor
from .declare import into

REAL = ((-3.0, 3.0),)
POSITIVE = ((0.3, 3.0),)
PAIR = REAL * 2
OVER = (REAL[0], (0.5, 3.0))  # a numerator and a denominator


def number_of(t: Tensor):
    """The Python number that `t` is a constant of, or None."""
    node = t._node
    return node.attrs[0] if node.op is CONST else None


def written(name: str, result: Tensor, out: Tensor | None) -> Tensor:
    """`result`, stored in ``out=`` if that was given."""
    return result if out is None else into(name, result, out)


# -- scalar expressions ---------------------------------------------------------------------------


def is_bool(x) -> bool:
    return x.dtype.category == BOOL


def is_float(x) -> bool:
    return x.dtype.category >= FLOAT


def sign_bit(s, x):
    """Whether the sign bit of a float is set: of -0.0 and of negative NaN too."""
    return s.bits(x, dtypes.int64 if x.dtype is dtypes.float64 else dtypes.int32) < 0


def copy_sign(s, x, y):
    """|x| with the sign of y."""
    size = s.unary("abs", x)
    return s.where(sign_bit(s, y), -size, size)


def larger(s, x, y):
    """The larger; NaN if either is."""
    if is_bool(x):
        return x | y
    return s.where((x > y) | x.ne(x), x, y) if is_float(x) else s.binary("max", x, y)


def smaller(s, x, y):
    """The smaller; NaN if either is."""
    if is_bool(x):
        return x & y
    return s.where((x < y) | x.ne(x), x, y) if is_float(x) else s.binary("min", x, y)


# -- calls for tests ------------------------------------------------------------------------------


def pair_samples(rng):
    for a, b in (
        ((3,), (3,)), ((2, 3), (3,)), ((), (2,)), ((2, 1), (1, 3)), ((), ()), ((0,), (1,)),
    ):  # fmt: skip
        yield Sample((rng.uniform(-3, 3, a), rng.uniform(0.5, 3, b)))


def triple_samples(rng):
    for a, b, c in (
        ((3,), (3,), (3,)), ((2, 3), (3,), ()), ((), (2,), (2, 1)), ((0,), (1,), (1,)),
    ):  # fmt: skip
        yield Sample(tuple(rng.uniform(0.3, 2, shape) for shape in (a, b, c)))


def one_samples(rng):
    for shape in ((3,), (2, 3), (), (0,)):
        yield Sample((rng.uniform(0.3, 2, shape),))


def with_arguments(samples, **kwargs):
    """`samples`, and the same calls once more with `kwargs`."""

    def both(rng):
        for sample in samples(rng):
            yield sample
            yield Sample(sample.args, kwargs)

    return both


def operand_errors():
    yield BadCall((np.ones((2, 3)), np.ones(2)), ShapeError, "do not broadcast")
    yield BadCall((np.ones(2), "x"), ArgumentError, "argument 1 must be a Tensor")
