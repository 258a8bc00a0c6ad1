"""Dropout: parts of a layer's input zeroed at random in training."""

from __future__ import annotations

import numpy as np

from ...array.construct import make_leaf
from ...array.random import source_of
from ...errors import ArgumentError
from ...tensor import Tensor

__all__ = ["dropout"]


def dropout(input: Tensor, p: float = 0.5, training: bool = True, *, generator=None) -> Tensor:
    """Zero each element with probability `p` and divide the others by ``1 - p``.

    The mask is drawn at the call, from `generator` or the default one. Without `training` the input
    is returned.

    Raises
    ------
    ArgumentError
        If `p` is not in [0, 1].
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    kind = input.dtype.np
    if p == 1:
        mask = np.zeros(tuple(input.shape), kind)
    else:
        keep = source_of(generator).random(tuple(input.shape), dtype=np.float32) >= p
        mask = keep * kind.type(1 / (1 - p))
    return input * make_leaf("dropout", mask)
