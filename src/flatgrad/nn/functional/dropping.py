"""Dropout: parts of a layer's input zeroed at random in training."""

from __future__ import annotations

import numpy as np

from ...array.construct import make_leaf
from ...array.random import source_of
from ...errors import ArgumentError, ShapeError
from ...tensor import Tensor

__all__ = ["dropout", "dropout1d", "dropout2d", "dropout3d"]


def _dropped(name: str, input: Tensor, p: float, training: bool, lead: int, generator) -> Tensor:
    """`input` with what stands at each index of its first `lead` dimensions kept or zeroed as one."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"{name}: probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    kind, shape = input.dtype.np, tuple(input.shape)
    own = (*shape[:lead], *(1,) * (len(shape) - lead))
    if p == 1:
        mask = np.zeros(own, kind)
    else:
        keep = source_of(generator).random(own, dtype=np.float32) >= p
        mask = keep * kind.type(1 / (1 - p))
    return input * make_leaf(name, mask)


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator=None
) -> Tensor:
    """Zero each element with probability `p` and divide the others by ``1 - p``.

    The mask is drawn at the call, from `generator` or the default one. Without `training` the input
    is returned.

    Raises
    ------
    ArgumentError
        If `p` is not in [0, 1].
    """
    result = _dropped("dropout", input, p, training, input.ndim, generator)
    return input.copy_(result) if inplace and result is not input else result


# How many of the first dimensions have a mask of their own, by the rank of the input.
_LEADS = {1: {2: 1, 3: 2}, 2: {3: 2, 4: 2}, 3: {4: 1, 5: 2}}


def _dropout_of_channels(spatial: int):
    name, leads = f"dropout{spatial}d", _LEADS[spatial]

    def function(
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        *,
        generator=None,
    ) -> Tensor:
        if input.ndim not in leads:
            wanted = " or ".join([f"{r}D" for r in leads])
            raise ShapeError(f"{name}: Expected {wanted} input, got shape {tuple(input.shape)}")
        result = _dropped(name, input, p, training, leads[input.ndim], generator)
        return input.copy_(result) if inplace and result is not input else result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = """Zero each channel of each example with probability `p`; divide others by ``1 - p``.

    An input has PyTorch's shapes: (N, C, ...), or without N for dropout1d and dropout3d; a 3-dimensional
    one is (N, C, L) for dropout2d.

    Raises
    ------
    ArgumentError, ShapeError
        If `p` is not in [0, 1], or the input has another rank.
    """
    return function


dropout1d, dropout2d, dropout3d = map(_dropout_of_channels, (1, 2, 3))
