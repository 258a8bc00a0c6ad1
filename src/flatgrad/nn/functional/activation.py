"""Activations: functions of one element. Gradients at kinks are PyTorch's."""

from __future__ import annotations

import math

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...graph.op import BadCall, Sample
from ...graph.shapes import normal_dim
from ...ops.declare import tensor_of
from ...ops.joining import chunk
from ...ops.movement import fit_inplace, reshape
from ...ops.reduction import constant
from ...ops.selection import relu as _relu
from ...ops.selection import select
from ...ops.statistics import log_softmax, softmax, softmin
from ...ops.transcendental import erf, expm1, sigmoid, tanh
from ...ops.transcendental import softplus as _softplus
from ...tensor import Tensor, node_of
from ...writing import assign
from ..once import as_one
from .face import face, float_input

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``x Phi(x)``, Phi the normal distribution function; or its tanh approximation.

    Source: Hendrycks and Gimpel 2016.

    Raises
    ------
    ArgumentError
        If `approximate` is neither "none" nor "tanh".
    """
    if approximate == "none":
        return 0.5 * input * (1 + erf(input * math.sqrt(0.5)))
    if approximate != "tanh":
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
    return 0.5 * input * (1 + tanh(inner))


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(x, 0)``; gradient 0 at 0."""
    return input.relu_() if inplace else _relu(input)


# -- how they are made ----------------------------------------------------------------------------


def _number(name: str, what: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentError(f"{name}: {what} must be a number, got {type(value).__name__}")
    return value


def _applied(name: str, input, inplace: bool, function, *options) -> Tensor:
    """``function(input, *options)`` of floating-point numbers as one call; see `_recorded`."""
    return _recorded(name, float_input(name, input), inplace, function, *options)


def _recorded(name: str, x: Tensor, inplace: bool, function, *options) -> Tensor:
    """``function(x, *options)`` as one call; written to `x` if `inplace`."""
    result = as_one(name, options, lambda x: function(x, *options), [x])
    return assign(name, x, fit_inplace(name, x, result)) if inplace else result


def _samples(*rows, low: float = -5.0, high: float = 5.0):
    """Samples over both sides of every kink, with each row of further arguments."""

    def samples(rng):
        for row in rows or ((),):
            yield Sample((rng.uniform(low, high, (3, 5)), *row))
        yield Sample((np.asarray(rng.uniform(0.5, 0.9)), *(rows[0] if rows else ())))

    return samples


def _errors(*rows):
    def errors():
        for row, match in rows:
            yield BadCall((np.ones(3), *row), ArgumentError, match)

    return errors


# -- like relu ------------------------------------------------------------------------------------


@face(samples=_samples((), (0.2,), (-0.3,)), errors=_errors((("x",), "must be a number")))
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``x`` where it is positive, ``negative_slope * x`` elsewhere; gradient `negative_slope` at 0."""
    slope = _number("leaky_relu", "negative_slope", negative_slope)
    return _applied("leaky_relu", input, inplace, lambda x, s: select(x > 0, x, x * s), slope)


def _prelu_samples(rng):
    yield Sample((rng.normal(size=(2, 3, 2)), rng.normal(size=3)))
    yield Sample((rng.normal(size=(4, 3)), rng.normal(size=1)))
    yield Sample((rng.normal(size=4), rng.normal(size=1)))


def _prelu_errors():
    yield BadCall((np.ones((2, 3)), np.ones(2)), ShapeError, "one slope, or one a channel")
    yield BadCall((np.ones(3), np.ones((2, 2))), ShapeError, "one slope, or one a channel")


@face(samples=_prelu_samples, errors=_prelu_errors)
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """``x`` where it is positive, ``weight * x`` elsewhere: one weight, or one a channel (dimension 1).

    Raises
    ------
    ShapeError
        For another number of weights.
    """
    x, w = float_input("prelu", input), float_input("prelu", weight)
    shape, count = node_of(x).shape, math.prod(node_of(w).shape)
    channels = shape[1] if len(shape) > 1 else 1
    if w.ndim > 1 or count not in (1, channels):
        raise ShapeError(
            f"prelu: one slope, or one a channel ({channels}), is required for an input of shape "
            f"{shape}, got weight {tuple(w.shape)}"
        )
    wide = (count, *(1,) * max(len(shape) - 2, 0)) if shape else ()
    return select(x > 0, x, x * reshape(w, wide))


def _below(x: Tensor) -> Tensor:
    """`x` where it is negative, else 0: an argument that no branch not taken overflows at."""
    return select(x > 0, 0.0, x)


def _elu(x, alpha, scale, steepness):
    return select(x > 0, x * scale, expm1(_below(x) * steepness) * (alpha * scale))


@face(samples=_samples((), (0.5,)), errors=_errors((("x",), "must be a number")))
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` where it is positive, ``alpha (e**x - 1)`` elsewhere."""
    return _applied("elu", input, inplace, _elu, _number("elu", "alpha", alpha), 1.0, 1.0)


@face(samples=_samples())
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """``elu`` with the constants that keep mean 0 and variance 1. Source: Klambauer et al. 2017."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _applied("selu", input, inplace, _elu, alpha, scale, 1.0)


@face(samples=_samples((), (0.5,)), errors=_errors(((0,), "not be 0")))
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` where it is positive, ``alpha (e**(x / alpha) - 1)`` elsewhere."""
    if _number("celu", "alpha", alpha) == 0:
        raise ArgumentError("celu: alpha must not be 0; use relu for a flat negative side")
    return _applied("celu", input, inplace, _elu, alpha, 1.0, 1.0 / alpha)


# -- between two values ---------------------------------------------------------------------------


def _hardtanh(x, low, high):
    # PyTorch, hardtanh_backward: nothing on the bounds.
    held = constant(x).clamp(low, high)
    return select((x <= low) | (x >= high), held, x)


@face(
    samples=_samples((), (-2.0, 1.5)),
    errors=_errors(((1.0, 0.5), "must not be larger"), (("x",), "must be a number")),
)
def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """``x`` between `min_val` and `max_val`, held there; gradient 0 on the bounds.

    Raises
    ------
    ArgumentError
        If `min_val` is the larger.
    """
    low, high = (_number("hardtanh", "min_val and max_val", v) for v in (min_val, max_val))
    if not low <= high:
        raise ArgumentError(
            f"hardtanh: min_val must not be larger than max_val, got {low} and {high}"
        )
    return _held("hardtanh", input, inplace, low, high)


def _held(name: str, input, inplace: bool, low, high) -> Tensor:
    x = tensor_of(name, input)
    if not node_of(x).dtype.is_floating_point:
        low, high = int(low), int(high)
    return _recorded(name, x, inplace, _hardtanh, low, high)


@face(samples=_samples(low=-3.0, high=9.0))
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """``x`` between 0 and 6, held there; gradient 0 at 0 and 6."""
    return _held("relu6", input, inplace, 0.0, 6.0)


@face(samples=_samples(), torch=None)  # whose 1 / 6 in the gradient is a single-precision number
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """``x / 6 + 1 / 2`` between 0 and 1, held there."""

    def function(x):
        held = select(constant(x) <= -3, 0.0, 1.0)
        return select((x <= -3) | (x >= 3), held, x / 6 + 0.5)

    return _applied("hardsigmoid", input, inplace, function)


@face(samples=_samples())
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """0 up to -3, ``x`` from 3 on, ``x (x + 3) / 6`` between; on these points the outer gradients.

    Source: Howard et al. 2019.
    """

    def function(x):
        return select(x <= -3, 0.0, select(x < 3, x * (x + 3) / 6, x))

    return _applied("hardswish", input, inplace, function)


# -- smooth ---------------------------------------------------------------------------------------


@face(samples=_samples())
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``x sigmoid(x)``, also called swish."""
    return _applied("silu", input, inplace, lambda x: x * sigmoid(x))


@face(samples=_samples())
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``x tanh(log(1 + e**x))``. Source: Misra 2019."""
    return _applied("mish", input, inplace, lambda x: x * tanh(_softplus(x)))


@face(
    samples=_samples((), (2.0, 3.0), (-1.0,)),
    errors=_errors(((0,), "not be 0"), (("x",), "must be a number")),
)
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + e**(beta x)) / beta``; ``x`` where ``beta x > threshold``."""
    if _number("softplus", "beta", beta) == 0:
        raise ArgumentError("softplus: beta must not be 0; it divides the logarithm")

    def function(x, beta, threshold):
        y = x if beta == 1 else x * beta
        soft = _softplus(y)
        return select(y > threshold, x, soft if beta == 1 else soft / beta)

    limit = _number("softplus", "threshold", threshold)
    return _applied("softplus", input, False, function, beta, limit)


@face(samples=_samples())
def logsigmoid(input: Tensor) -> Tensor:
    """``log(sigmoid(x))``, accurate in both tails."""
    return _applied("logsigmoid", input, False, lambda x: -_softplus(-x))


@face(samples=_samples())
def softsign(input: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return _recorded("softsign", tensor_of("softsign", input), False, lambda x: x / (1 + x.abs()))


@face(samples=_samples())
def tanhshrink(input: Tensor) -> Tensor:
    """``x - tanh(x)``."""
    return _recorded("tanhshrink", tensor_of("tanhshrink", input), False, lambda x: x - tanh(x))


# -- with a gap -----------------------------------------------------------------------------------


@face(samples=_samples((), (1.5,)), errors=_errors((("x",), "must be a number")))
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 between ``-lambd`` and `lambd`, both included; ``x`` elsewhere."""

    def function(x, lambd):
        return select((x >= -lambd) & (x <= lambd), 0.0, x)

    return _applied("hardshrink", input, False, function, _number("hardshrink", "lambd", lambd))


@face(samples=_samples((), (1.5,)), errors=_errors(((-1,), "not be negative")))
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """``x`` moved by `lambd` towards 0, and 0 where it would pass it."""
    if _number("softshrink", "lambd", lambd) < 0:
        raise ArgumentError(f"softshrink: lambd must not be negative, got {lambd}")

    def function(x, lambd):
        return select(x > lambd, x - lambd, select(x < -lambd, x + lambd, x * 0.0))

    return _applied("softshrink", input, False, function, lambd)


@face(samples=_samples((0.1, 20.0), (-1.0, 0.0)), errors=_errors((("x", 0), "must be a number")))
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``x`` where it is larger than `threshold`, `value` elsewhere."""
    x = tensor_of("threshold", input)
    kind = float if node_of(x).dtype.is_floating_point else int
    numbers = [kind(_number("threshold", "threshold and value", v)) for v in (threshold, value)]

    def function(x, limit, value):
        return select(x <= limit, value, x)

    return _recorded("threshold", x, inplace, function, *numbers)


def _glu_samples(rng):
    yield Sample((rng.normal(size=(2, 6)),))
    yield Sample((rng.normal(size=(4, 3)), 0))


def _glu_errors():
    yield BadCall((np.ones((2, 3)),), ShapeError, "must be even")
    yield BadCall((np.asarray(1.0),), ShapeError, "0-d")
    yield BadCall((np.ones((2, 4)), 2), IndexError, "out of range")


@face(samples=_glu_samples, errors=_glu_errors)
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """``a sigmoid(b)``, a and b the halves of the input along `dim`.

    Raises
    ------
    ShapeError
        If the dimension's size is odd.
    """
    x = float_input("glu", input)
    if not x.ndim:
        raise ShapeError("glu: a 0-d tensor has no halves; give one of at least 1 dimension")
    at = normal_dim("glu", dim, x.ndim)
    if x.shape[at] % 2:
        raise ShapeError(f"glu: the size of dim {dim} must be even, got shape {tuple(x.shape)}")

    def function(x):
        first, second = chunk(x, 2, at)
        return first * sigmoid(second)

    return as_one("glu", at, function, [x])
