"""Losses of values and of probabilities; those of classes are in ``classification``."""

from __future__ import annotations

import warnings

from ...errors import ArgumentError, ShapeError
from ...ops.selection import where
from ...ops.transcendental import log, log1p, softplus
from ...tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]


def reduced(name: str, loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ArgumentError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def check_pair(name: str, input: Tensor, target: Tensor) -> None:
    for role, value in (("input", input), ("target", target)):
        if not isinstance(value, Tensor):
            raise ArgumentError(
                f"{name}: {role} must be a Tensor, got {type(value).__name__}; "
                "convert it with flatgrad.tensor"
            )


def _check_same(name: str, input: Tensor, target: Tensor) -> None:
    check_pair(name, input, target)
    if input.shape != target.shape:
        warnings.warn(
            f"{name}: using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            UserWarning,
            stacklevel=3,
        )


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``(input - target)**2``, its mean or sum.

    Parameters
    ----------
    input, target : Tensor, shape (*S)
    reduction : "none", "mean" or "sum"

    Returns
    -------
    Tensor, shape () or (*S)

    Raises
    ------
    ArgumentError
        For another reduction.
    """
    _check_same("mse_loss", input, target)
    difference = input - target
    return reduced("mse_loss", difference * difference, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``|input - target|``, its mean or sum. Gradient at equality: 0."""
    _check_same("l1_loss", input, target)
    return reduced("l1_loss", (input - target).abs(), reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """``d**2 / 2`` where ``|d| < delta``, else ``delta (|d| - delta / 2)``; d = input - target."""
    if not delta > 0:
        raise ArgumentError(f"huber_loss: delta must be positive, got {delta}")
    _check_same("huber_loss", input, target)
    difference = input - target
    size = difference.abs()
    loss = where(size < delta, 0.5 * difference.square(), delta * (size - 0.5 * delta))
    return reduced("huber_loss", loss, reduction)


def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """``d**2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``; d = input - target."""
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    _check_same("smooth_l1_loss", input, target)
    if beta == 0:
        return l1_loss(input, target, reduction)
    difference = input - target
    size = difference.abs()
    loss = where(size < beta, (0.5 / beta) * difference.square(), size - 0.5 * beta)
    return reduced("smooth_l1_loss", loss, reduction)


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """``-(target log(input) + (1 - target) log(1 - input))`` of probabilities.

    Logarithms are clamped at -100, as PyTorch's; the gradient is 0 where they are.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    check_pair("binary_cross_entropy", input, target)
    if input.shape != target.shape:
        raise ShapeError(
            f"binary_cross_entropy: using a target size ({target.shape}) that is different to the "
            f"input size ({input.shape}); the two must be equal"
        )
    loss = (target - 1) * log1p(-input).clamp(min=-100) - target * log(input).clamp(min=-100)
    return reduced("binary_cross_entropy", loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """:func:`binary_cross_entropy` of ``sigmoid(input)``, accurate for all inputs.

    Parameters
    ----------
    input, target : Tensor, shape (*S)
    weight : Tensor, optional
        Factors of the losses.
    pos_weight : Tensor, optional
        Factors of the positive examples.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    check_pair("binary_cross_entropy_with_logits", input, target)
    if input.shape != target.shape:
        raise ShapeError(
            f"binary_cross_entropy_with_logits: target size ({target.shape}) must be the same as "
            f"input size ({input.shape})"
        )
    tail = softplus(-input)
    if pos_weight is not None:
        tail = ((pos_weight - 1) * target + 1) * tail
    loss = (1 - target) * input + tail
    name = "binary_cross_entropy_with_logits"
    return reduced(name, loss if weight is None else loss * weight, reduction)
