"""Initial values, in place and without gradient, under PyTorch's names.

Formulas: Glorot and Bengio 2010 (xavier), He et al. 2015 (kaiming), Saxe et al. 2013 (orthogonal).
"""

from __future__ import annotations

import math

import numpy as np

from ..array.random import source_of
from ..autograd.modes import no_grad
from ..errors import ArgumentError, ShapeError
from ..graph.dtypes import as_dtype
from ..graph.node import leaf
from ..tensor import Tensor, wrap
from ..writing import assign

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through a nonlinearity.

    Parameters
    ----------
    nonlinearity : str
        "linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
    param : float, optional
        The negative slope of leaky_relu (0.01).

    Raises
    ------
    ArgumentError
        For another name.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        known = ", ".join(sorted([*_GAINS, "leaky_relu"]))
        raise ArgumentError(
            f"calculate_gain: unsupported nonlinearity {nonlinearity!r}; supported are {known}"
        )
    return _GAINS[nonlinearity]


def _write(name: str, tensor: Tensor, values) -> Tensor:
    array = np.ascontiguousarray(np.broadcast_to(values, tuple(tensor.shape)), tensor.dtype.np)
    with no_grad():
        return assign(name, tensor, wrap(leaf(array.copy(), as_dtype(array.dtype))))


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator=None) -> Tensor:
    """Fill from the uniform distribution over [a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator=None) -> Tensor:
    """Fill from the normal distribution."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator=None,
) -> Tensor:
    """Fill from the normal distribution restricted to [a, b]; values outside are drawn again."""
    rng = source_of(generator)
    values = mean + std * rng.standard_normal(tuple(tensor.shape))
    if not a < b or mean < a - 4 * std or mean > b + 4 * std:
        raise ArgumentError(
            f"trunc_normal_: [a, b] = [{a}, {b}] must be within 4 std of the mean, {mean}"
        )
    while True:
        outside = (values < a) | (values > b)
        count = int(outside.sum())
        if not count:
            return _write("trunc_normal_", tensor, values)
        values[outside] = mean + std * rng.standard_normal(count)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one number."""
    return _write("constant_", tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return _write("ones_", tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return _write("zeros_", tensor, 0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: a tensor of 2 dimensions is required, got {tuple(tensor.shape)}")
    return _write("eye_", tensor, np.eye(*tensor.shape))


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """(inputs, outputs) of one unit, each times the size of the receptive field."""
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise ShapeError(
            f"{name}: fan in and fan out need a tensor of at least 2 dimensions, got {shape}"
        )
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator=None) -> Tensor:
    """Uniform over +-gain sqrt(6 / (fan_in + fan_out))."""
    bound = gain * math.sqrt(6.0 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator=None) -> Tensor:
    """Normal with standard deviation gain sqrt(2 / (fan_in + fan_out))."""
    std = gain * math.sqrt(2.0 / sum(_fans("xavier_normal_", tensor)))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"{name}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = _fans(name, tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity="leaky_relu", generator=None
) -> Tensor:
    """Uniform over +-gain sqrt(3 / fan); `a` is leaky_relu's slope."""
    if 0 in tensor.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity="leaky_relu", generator=None
) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan); `a` is leaky_relu's slope."""
    if 0 in tensor.shape:
        return tensor
    return normal_(
        tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator
    )


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator=None) -> Tensor:
    """Fill with a (semi-)orthogonal matrix, uniformly drawn; later dimensions are flattened."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"orthogonal_: at least 2 dimensions are required, got {tuple(tensor.shape)}"
        )
    if 0 in tensor.shape:
        return tensor
    rows = tensor.shape[0]
    cols = math.prod(tensor.shape[1:])
    draw = source_of(generator).standard_normal((max(rows, cols), min(rows, cols)))
    q, r = np.linalg.qr(draw)
    q = q * np.sign(np.diag(r))  # makes the distribution uniform
    values = gain * (q if rows >= cols else q.T)
    return _write("orthogonal_", tensor, values.reshape(tuple(tensor.shape)))
