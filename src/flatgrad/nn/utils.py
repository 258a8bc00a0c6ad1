"""Helpers over parameters: clipping of gradients, parameters as one vector."""

from __future__ import annotations

import math

from ..array.construct import tensor
from ..array.convert import value_of
from ..autograd.modes import no_grad
from ..errors import ArgumentError, GradientError
from ..graph.node import leaf
from ..graph.shapes import numel
from ..ops.declare import cast
from ..ops.joining import cat
from ..ops.movement import reshape
from ..tensor import Tensor, node_of, wrap
from ..writing import assign

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "parameters_to_vector",
    "vector_to_parameters",
]


def _with_grads(parameters) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in parameters if p.grad is not None]


def clip_grad_norm_(
    parameters, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients so that their common norm is at most `max_norm`; in place.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without gradient are passed over.
    max_norm : float
    norm_type : float
        The p of the p-norm; ``inf`` for the largest absolute value.
    error_if_nonfinite : bool

    Returns
    -------
    Tensor, shape ()
        The norm before.

    Raises
    ------
    GradientError
        If the norm is not finite and `error_if_nonfinite` is given.
    """
    found = _with_grads(parameters)
    if not found:
        return tensor(0.0)
    with no_grad():
        total = _total_norm([p.grad for p in found], float(norm_type))
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise GradientError(
                f"clip_grad_norm_: the total norm of order {norm_type} is {total.item()}, so the "
                "gradients cannot be clipped; find the first bad value with "
                "flatgrad.autograd.detect_anomaly()"
            )
        scale = (float(max_norm) / (total + 1e-6)).clamp(max=1.0)
        for p in found:
            p.grad.mul_(scale.to(p.grad.dtype))
    return total


def _total_norm(grads: list[Tensor], p: float) -> Tensor:
    if p == math.inf:
        total = grads[0].abs().max()
        for g in grads[1:]:
            total = total.maximum(g.abs().max())
        return total
    if p <= 0:
        raise ArgumentError(f"clip_grad_norm_: norm_type must be positive, got {p}")
    powers = [(g * g).sum() if p == 2 else (g.abs() ** p).sum() for g in grads]
    total = powers[0]
    for power in powers[1:]:
        total = total + power
    return total.sqrt() if p == 2 else total ** (1 / p)


def clip_grad_value_(parameters, clip_value: float) -> None:
    """Clamp every element of the gradients to [-clip_value, clip_value]; in place."""
    limit = float(clip_value)
    with no_grad():
        for p in _with_grads(parameters):
            p.grad.clamp_(-limit, limit)


def parameters_to_vector(parameters) -> Tensor:
    """All parameters in row-major order, one after the other, as a vector; differentiable."""
    return cat([reshape(p, -1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters) -> None:
    """Write the parts of a vector into the parameters, in order.

    Raises
    ------
    ArgumentError
        If it is no vector with as many elements as the parameters have together.
    """
    parameters = list(parameters)
    count = sum(numel(node_of(p).shape) for p in parameters)
    if not isinstance(vec, Tensor) or tuple(vec.shape) != (count,):
        raise ArgumentError(
            f"vector_to_parameters: a vector of {count} elements is required, got "
            f"{tuple(vec.shape) if isinstance(vec, Tensor) else type(vec).__name__}"
        )
    start, values = 0, value_of(vec)
    with no_grad():
        for p in parameters:
            size = numel(node_of(p).shape)
            part = wrap(leaf(values[start : start + size].reshape(p.shape), vec.dtype))
            assign("vector_to_parameters", p, cast(part, p.dtype))
            start += size
