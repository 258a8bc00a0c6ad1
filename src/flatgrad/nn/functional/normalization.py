"""Normalisation: elements minus their mean, divided by their deviation, over a batch or within an example."""

from __future__ import annotations

import math

import numpy as np

from ...autograd.modes import no_grad
from ...errors import ArgumentError, DTypeError, ShapeError
from ...graph.node import const
from ...graph.op import BadCall, Sample
from ...ops.convolution import convolve
from ...ops.movement import reshape
from ...ops.reduction import constant, reduce_sum
from ...ops.transcendental import rsqrt
from ...tensor import Tensor, node_of, wrap
from ...writing import assign
from ..once import as_one, as_several
from .face import face, float_input, sizes_argument

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
]


# -- pieces ---------------------------------------------------------------------------------------


def moments(x: Tensor, dims: tuple) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, x - mean, mean of its squares) over `dims`, which stay with size 1."""
    shape = node_of(x).shape
    count = math.prod(shape[d] for d in dims)
    kept = tuple([1 if k in dims else s for k, s in enumerate(shape)])
    mean = reshape(reduce_sum(x, dims), kept) / float(count)
    centred = x - mean
    return mean, centred, reshape(reduce_sum(centred * centred, dims), kept) / float(count)


def _given(name: str, x: Tensor, parameters: dict, shape: tuple) -> list[Tensor]:
    """The parameters that are not None, checked to have `shape` and the dtype of `x`."""
    found = []
    for what, value in parameters.items():
        if value is None:
            continue
        t = float_input(name, value)
        if tuple(t.shape) != shape:
            raise ShapeError(
                f"{name}: {what} must have shape {shape} for an input of {tuple(x.shape)}, got "
                f"{tuple(t.shape)}"
            )
        if t.dtype is not x.dtype:
            raise DTypeError(
                f"{name}: {what} must have the input's dtype, {x.dtype!r}, got {t.dtype!r}; convert "
                "one with .to()"
            )
        found.append(t)
    return found


def _epsilon(name: str, eps) -> float:
    if isinstance(eps, bool) or not isinstance(eps, (int, float)):
        raise ArgumentError(f"{name}: eps must be a number, got {type(eps).__name__}")
    return float(eps)


def _affine(y: Tensor, parameters, has: tuple, shape: tuple) -> Tensor:
    """`y` times the weight plus the bias, as far as there are any, shaped to broadcast."""
    rest = iter(parameters)
    if has[0]:
        y = y * reshape(next(rest), shape)
    return y + reshape(next(rest), shape) if has[1] else y


# -- over the batch -------------------------------------------------------------------------------


def _channels(name: str, x: Tensor, least: int) -> tuple[int, tuple]:
    """(number of channels, the shape in which a value a channel broadcasts)."""
    shape = node_of(x).shape
    if len(shape) < least:
        raise ShapeError(
            f"{name}: an input of at least {least} dimensions, (N, C, ...), is required, got shape {shape}"
        )
    return shape[1], (shape[1], *(1,) * (len(shape) - 2))


def _batch_samples(rng):
    x, c = rng.normal(size=(4, 3)), rng.normal(size=3)
    # Without running statistics: PyTorch refuses to be asked for their gradients.
    yield Sample((x, None, None, c, c + 1, True))
    yield Sample((rng.normal(size=(2, 3, 2, 3)), None, None), {"training": True, "eps": 0.1})
    yield Sample((x, None, None, None, c, True))


def _batch_errors():
    x, c = np.ones((2, 3, 4)), np.ones(3)
    yield BadCall((x, np.ones(2), np.ones(2)), ShapeError, r"running_mean must have shape \(3,\)")
    yield BadCall((x, None, None), ArgumentError, "running_mean and running_var must be given")
    yield BadCall((x, c, None), ArgumentError, "both of running_mean and running_var")
    yield BadCall((x[:1, :, 0], c, c), ArgumentError, "more than 1 value", {"training": True})
    yield BadCall((x[0, 0], c, c), ShapeError, "at least 2 dimensions")
    yield BadCall((x, c, c, c.astype(np.float32)), DTypeError, "must have the input's dtype")
    yield BadCall((x.astype(int), c, c), DTypeError, "floating-point")


@face(samples=_batch_samples, errors=_batch_errors)
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum=0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, mean and variance of each channel.

    Parameters
    ----------
    input : Tensor, shape (N, C, *D), floating
    running_mean, running_var : Tensor, shape (C,), or None
        What is used without `training`. With it they are moved towards the batch's mean and its
        unbiased variance, in place.
    weight, bias : Tensor, shape (C,), optional
    training : bool
        Use the batch's own mean and biased variance.
    momentum : float or Tensor, shape ()
        How far the running statistics are moved, as a part of the way.
    eps : float

    Returns
    -------
    Tensor, shape (N, C, *D)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For parameters of another shape or dtype, one value a channel, or missing statistics.
    """
    x = float_input("batch_norm", input)
    channels, wide = _channels("batch_norm", x, 2)
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(
            "batch_norm: both of running_mean and running_var, or none, are required"
        )
    statistics = {"running_mean": running_mean, "running_var": running_var}
    running = _given("batch_norm", x, statistics, (channels,))
    parameters = _given("batch_norm", x, {"weight": weight, "bias": bias}, (channels,))
    has = (weight is not None, bias is not None)
    eps = _epsilon("batch_norm", eps)
    if training:
        return _batch_training(x, running, parameters, has, wide, momentum, eps)
    if not running:
        raise ArgumentError(
            "batch_norm: running_mean and running_var must be given in evaluation mode; "
            "or use training=True"
        )

    def run(x, mean, var, *parameters):
        scale = rsqrt(reshape(var, wide) + eps)
        return _affine((x - reshape(mean, wide)) * scale, parameters, has, wide)

    return as_one("batch_norm", (has, eps), run, [x, *running, *parameters])


def _batch_training(x, running, parameters, has, wide, momentum, eps) -> Tensor:
    shape = node_of(x).shape
    dims = (0, *range(2, len(shape)))
    count = math.prod(shape) // max(1, shape[1])
    if count == 1:
        raise ArgumentError(
            f"batch_norm: Expected more than 1 value per channel when training, got input size {shape}"
        )
    fixed = not isinstance(momentum, Tensor)
    factor = [] if fixed or not running else [momentum.to(x.dtype)]

    def run(x, *rest):
        mean, centred, var = moments(x, dims)
        y = _affine(centred * rsqrt(var + eps), rest[: len(parameters)], has, wide)
        if not running:
            return (y,)
        old = rest[len(parameters) : len(parameters) + 2]
        part = momentum if fixed else rest[-1]
        new = [constant(mean), constant(var) * (count / (count - 1))]
        moved = [r * (1 - part) + reshape(n, r.shape) * part for r, n in zip(old, new, strict=True)]
        return y, *moved

    options = (has, bool(running), momentum if fixed else None, eps)
    old = [r.detach() if r.requires_grad else r for r in running]
    y, *moved = as_several("batch_norm", options, run, [x, *parameters, *old, *factor])
    with no_grad():
        for r, new in zip(running, moved, strict=True):
            assign("batch_norm", r, new.detach())
    return y


def _instance_samples(rng):
    x, c = rng.normal(size=(2, 3, 4)), rng.normal(size=3)
    yield Sample((x,))
    yield Sample((rng.normal(size=(2, 3, 2, 3)), None, None, c, c + 1), {"eps": 0.1})
    yield Sample((x, None, None, c))


def _instance_errors():
    x, c = np.ones((2, 3, 4)), np.ones(3)
    yield BadCall((x[..., :1],), ArgumentError, "more than 1 spatial element")
    yield BadCall((x, None, None), ArgumentError, "must be given", {"use_input_stats": False})
    yield BadCall((x, None, None, c[:2]), ShapeError, r"weight must have shape \(3,\)")
    yield BadCall((x[0, 0],), ShapeError, "at least 2 dimensions")


@face(samples=_instance_samples, errors=_instance_errors)
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum=0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``batch_norm`` of each example by itself: mean and variance of each channel of each example.

    Parameters
    ----------
    input : Tensor, shape (N, C, *D), floating
    running_mean, running_var : Tensor, shape (C,), or None
        Moved towards the mean over the batch of what the examples have, in place.
    weight, bias : Tensor, shape (C,), optional
    use_input_stats : bool
        False uses the running statistics.
    momentum, eps : float

    Returns
    -------
    Tensor, shape (N, C, *D)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For parameters of another shape or dtype, one element a channel, or missing statistics.
    """
    x = float_input("instance_norm", input)
    channels, wide = _channels("instance_norm", x, 2)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ArgumentError(
                "instance_norm: running_mean and running_var must be given if use_input_stats=False"
            )
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    shape = node_of(x).shape
    count = math.prod(shape[2:])
    if count == 1:
        raise ArgumentError(
            "instance_norm: Expected more than 1 spatial element when training, got input size "
            f"{shape}"
        )
    statistics = {"running_mean": running_mean, "running_var": running_var}
    _given("instance_norm", x, statistics, (channels,))
    parameters = _given("instance_norm", x, {"weight": weight, "bias": bias}, (channels,))
    has = (weight is not None, bias is not None)
    eps = _epsilon("instance_norm", eps)

    def run(x, *parameters):
        mean, centred, var = moments(x, tuple(range(2, len(shape))))
        y = _affine(centred * rsqrt(var + eps), parameters, has, wide)
        means = [constant(mean).mean(0), constant(var).mean(0) * (count / (count - 1))]
        return y, *[reshape(m, (channels,)) for m in means]

    y, *seen = as_several("instance_norm", (has, eps), run, [x, *parameters])
    with no_grad():
        for old, new in zip((running_mean, running_var), seen, strict=True):
            if old is not None:
                old.copy_(old * (1 - momentum) + new * momentum)
    return y


# -- within an example ----------------------------------------------------------------------------


def _group_samples(rng):
    c = rng.normal(size=4)
    yield Sample((rng.normal(size=(2, 4, 3)), 2))
    yield Sample((rng.normal(size=(2, 4)), 2, c, c + 1, 0.1))
    yield Sample((rng.normal(size=(1, 4, 2, 2)), 1, c))


def _group_errors():
    x = np.ones((2, 4, 3))
    yield BadCall((x, 3), ShapeError, "divisible by num_groups")
    yield BadCall((x, 0), ArgumentError, "at least 1")
    yield BadCall((x, 2, np.ones(3)), ShapeError, r"weight must have shape \(4,\)")
    yield BadCall((x[0, 0], 2), ShapeError, "at least 2 dimensions")


@face(samples=_group_samples, errors=_group_errors)
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised over groups of channels of each example; weight and bias are the channels'.

    Parameters
    ----------
    input : Tensor, shape (N, C, *D), floating
    num_groups : int
        A divisor of C.
    weight, bias : Tensor, shape (C,), optional
    eps : float

    Returns
    -------
    Tensor, shape (N, C, *D)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For parameters of another shape or dtype, or groups that don't divide the channels.
    """
    x = float_input("group_norm", input)
    channels, wide = _channels("group_norm", x, 2)
    if not isinstance(num_groups, int) or num_groups < 1:
        raise ArgumentError(f"group_norm: num_groups must be at least 1, got {num_groups!r}")
    if channels % num_groups:
        raise ShapeError(
            f"group_norm: the number of channels must be divisible by num_groups={num_groups}, got "
            f"{channels} in shape {tuple(x.shape)}"
        )
    parameters = _given("group_norm", x, {"weight": weight, "bias": bias}, (channels,))
    has = (weight is not None, bias is not None)
    eps = _epsilon("group_norm", eps)

    def run(x, *parameters):
        shape = node_of(x).shape
        grouped = reshape(x, (shape[0], num_groups, channels // num_groups, *shape[2:]))
        _, centred, var = moments(grouped, tuple(range(2, grouped.ndim)))
        return _affine(reshape(centred * rsqrt(var + eps), shape), parameters, has, wide)

    return as_one("group_norm", (num_groups, has, eps), run, [x, *parameters])


def _layer_samples(rng):
    c = rng.normal(size=3)
    yield Sample((rng.normal(size=(2, 3)), (3,)))
    yield Sample((rng.normal(size=(4, 3)), (3,), c, c + 1, 0.1))
    w = rng.normal(size=(2, 3))
    yield Sample((rng.normal(size=(2, 2, 3)), (2, 3), w, w + 1))


def _layer_errors():
    x = np.ones((2, 3))
    yield BadCall((x, (4,)), ShapeError, r"end with normalized_shape \(4,\)")
    yield BadCall((x, (3,), np.ones(2)), ShapeError, r"weight must have shape \(3,\)")
    yield BadCall((x, ()), ArgumentError, "at least one")
    yield BadCall((x.astype(int), (3,)), DTypeError, "floating-point")


def _normalized(name: str, x: Tensor, sizes) -> tuple[int, ...]:
    sizes = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    if not sizes or not all(isinstance(s, int) for s in sizes):
        raise ArgumentError(f"{name}: normalized_shape must be ints, at least one, got {sizes}")
    if tuple(x.shape[-len(sizes) :]) != sizes:
        raise ShapeError(
            f"{name}: the input's shape must end with normalized_shape {sizes}, got {tuple(x.shape)}"
        )
    return sizes


@face(samples=_layer_samples, errors=_layer_errors)
def layer_norm(
    input: Tensor,
    normalized_shape,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised over the last dimensions, those of `normalized_shape`.

    Parameters
    ----------
    input : Tensor, shape (*B, *normalized_shape), floating
    normalized_shape : int or tuple of int
    weight, bias : Tensor, shape normalized_shape, optional
    eps : float

    Returns
    -------
    Tensor, shape (*B, *normalized_shape)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For another shape or dtype.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.functional.layer_norm(fg.tensor([[1.0, 3.0]]), (2,))
    tensor([[-1.0000,  1.0000]])
    """
    x = float_input("layer_norm", input)
    sizes = _normalized("layer_norm", x, normalized_shape)
    parameters = _given("layer_norm", x, {"weight": weight, "bias": bias}, sizes)
    has = (weight is not None, bias is not None)
    eps = _epsilon("layer_norm", eps)

    def run(x, *parameters):
        _, centred, var = moments(x, tuple(range(x.ndim - len(sizes), x.ndim)))
        return _affine(centred * rsqrt(var + eps), parameters, has, sizes)

    return as_one("layer_norm", (sizes, has, eps), run, [x, *parameters])


def _rms_samples(rng):
    c = rng.normal(size=3)
    yield Sample((rng.normal(size=(2, 3)), (3,)))
    yield Sample((rng.normal(size=(4, 3)), (3,), c, 0.1))
    yield Sample((rng.normal(size=(2, 2, 3)), (2, 3)))


@face(samples=_rms_samples, errors=_layer_errors)
def rms_norm(
    input: Tensor, normalized_shape, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """``x / sqrt(mean(x**2) + eps) * weight`` over the last dimensions. Source: Zhang, Sennrich 2019.

    Parameters
    ----------
    input : Tensor, shape (*B, *normalized_shape), floating
    normalized_shape : int or tuple of int
    weight : Tensor, shape normalized_shape, optional
    eps : float, optional
        By default the dtype's spacing at 1.

    Returns
    -------
    Tensor, shape (*B, *normalized_shape)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For another shape or dtype.
    """
    x = float_input("rms_norm", input)
    sizes = _normalized("rms_norm", x, normalized_shape)
    parameters = _given("rms_norm", x, {"weight": weight}, sizes)
    eps = float(np.finfo(x.dtype.np).eps) if eps is None else _epsilon("rms_norm", eps)

    def run(x, *parameters):
        dims = tuple(range(x.ndim - len(sizes), x.ndim))
        size = reduce_sum(x * x, dims) / float(math.prod(sizes))
        scale = reshape(rsqrt(size + eps), (*x.shape[: dims[0]], *(1,) * len(dims)))
        return _affine(x * scale, parameters, (bool(parameters), False), sizes)

    return as_one("rms_norm", (sizes, eps), run, [x, *parameters])


def _response_samples(rng):
    yield Sample((rng.normal(size=(2, 5, 3)), 3))
    yield Sample((rng.normal(size=(1, 4, 2, 2)), 2, 0.5, 0.6, 2.0))


def _response_errors():
    yield BadCall((np.ones((2, 3)), 2), ShapeError, "at least 3 dimensions")
    yield BadCall((np.ones((2, 3, 4)), 0), ArgumentError, "at least 1")
    yield BadCall((np.ones((2, 3, 4)), 2, "x"), ArgumentError, "must be numbers")


@face(samples=_response_samples, errors=_response_errors)
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """``x / (k + alpha mean(x**2))**beta``, the mean over `size` neighbouring channels.

    Channels before the first and after the last count as 0. Source: Krizhevsky et al. 2012.

    Parameters
    ----------
    input : Tensor, shape (N, C, *D), floating
    size : int
    alpha, beta, k : float

    Returns
    -------
    Tensor, shape (N, C, *D)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For another rank or dtype, or options that are none.
    """
    x = float_input("local_response_norm", input)
    shape = node_of(x).shape
    if len(shape) < 3:
        raise ShapeError(
            f"local_response_norm: an input of at least 3 dimensions is required, got shape {shape}"
        )
    (size,) = sizes_argument("local_response_norm", "size", size, 1, 1)
    if not all(isinstance(v, (int, float)) for v in (alpha, beta, k)):
        raise ArgumentError("local_response_norm: alpha, beta and k must be numbers")

    def run(x):
        rows = (shape[0], 1, 1, shape[1], math.prod(shape[2:]))
        ones = wrap(const(1, x.dtype, (1, 1, 1, size, 1)))
        sides = ((1, 1), (1, 1), rows[3:], (size // 2, 0))
        around = reshape(convolve(reshape(x * x, rows), ones, "result", *sides), shape)
        return x / (around * (alpha / size) + k) ** beta

    return as_one("local_response_norm", (size, alpha, beta, k), run, [x])


def _normalize_samples(rng):
    yield Sample((rng.normal(size=(2, 3)),))
    yield Sample((rng.normal(size=(2, 3, 2)), 3.0, -1))
    yield Sample((rng.normal(size=3), 1.0, 0))


def _normalize_errors():
    yield BadCall((np.ones((2, 3)), 2.0, 2), IndexError, "out of range")
    yield BadCall((np.ones(3, int),), DTypeError, "floating-point")


@face(samples=_normalize_samples, errors=_normalize_errors)
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """The input divided by its p-norm along `dim`, or by `eps` where that is larger."""
    x = float_input("normalize", input)
    return x / x.norm(p, dim, keepdim=True).clamp(min=_epsilon("normalize", eps))
