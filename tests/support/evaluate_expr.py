"""The loop IR's meaning on NumPy arrays: every Expr evaluated bit for bit, whole arrays at a time.

float32 arithmetic stays in float32, integers wrap, shifts of signed integers are arithmetic, and nothing
is contracted, so a printer that follows the IR must give these very bits.
"""

from __future__ import annotations

import numpy as np

from flatgrad.lower.ir import Expr

BINARY = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "//": np.floor_divide,
    "%": np.remainder,
    "&": np.bitwise_and,
    "|": np.bitwise_or,
    "^": np.bitwise_xor,
    "<<": np.left_shift,
    ">>": np.right_shift,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "min": np.minimum,
    "max": np.maximum,
}
UNARY = {
    "neg": np.negative,
    "not": np.invert,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
}


def evaluate(expression: Expr, **arrays) -> np.ndarray:
    """The value of `expression` with each variable bound to an array of its dtype (all of one shape)."""
    values: dict[Expr, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for e in in_order(expression):
            value = _value(e, [values[a] for a in e.args], arrays)
            assert value.dtype == e.dtype.np, (e.kind, e.arg, value.dtype, e.dtype)
            values[e] = value
    return values[expression]


def in_order(expression: Expr) -> list[Expr]:
    """Each shared sub-expression once, operands before their users."""
    seen, order, stack = set(), [], [(expression, False)]
    while stack:
        e, done = stack.pop()
        if done:
            order.append(e)
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            stack.extend((a, False) for a in e.args)
    return order


def _value(e: Expr, args: list, arrays: dict) -> np.ndarray:
    if e.kind == "const":
        return np.asarray(e.arg, dtype=e.dtype.np)
    if e.kind == "var":
        return np.asarray(arrays[e.arg], dtype=e.dtype.np)
    if e.kind == "binary":
        return np.asarray(BINARY[e.arg](*args))
    if e.kind == "unary":
        return np.asarray(UNARY[e.arg](*args))
    if e.kind == "select":
        return np.where(*args)
    if e.kind == "cast":
        return _cast(args[0], e.dtype.np)
    if e.kind == "bits":
        return args[0].view(e.dtype.np)
    raise ValueError(f"evaluate: no meaning for kind {e.kind!r} ({e.arg!r})")


def _cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Conversion; a float that the integer type can't hold is a fault of the formula, so it is refused."""
    if x.dtype.kind == "f" and dtype.kind == "i":
        limit = 2.0 ** (8 * dtype.itemsize - 1)
        assert np.all((x >= -limit) & (x < limit)), "cast of a float out of the integer's range"
    return x.astype(dtype)
