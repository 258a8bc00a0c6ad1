"""Activations: functions of one element."""

from __future__ import annotations

import math

from ...errors import ArgumentError
from ...ops.selection import relu
from ...ops.statistics import log_softmax, softmax, softmin
from ...ops.transcendental import erf, sigmoid, softplus, tanh
from ...tensor import Tensor

__all__ = [
    "gelu",
    "log_softmax",
    "relu",
    "sigmoid",
    "softmax",
    "softmin",
    "softplus",
    "tanh",
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
