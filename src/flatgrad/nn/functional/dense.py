"""``linear``: the product of a layer's input and its weight."""

from __future__ import annotations

from ...errors import ShapeError
from ...ops.contraction import CONTRACT, same_dtype
from ...tensor import Tensor, make, node_of

__all__ = ["linear"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``.

    Parameters
    ----------
    input : Tensor, shape (*B, in_features)
    weight : Tensor, shape (out_features, in_features) or (in_features,)
    bias : Tensor, shape (out_features,), optional

    Returns
    -------
    Tensor, shape (*B, out_features)

    Raises
    ------
    ShapeError, DTypeError
        If the features or the dtypes differ.
    """
    x, w = node_of(input), node_of(weight)
    have, features = x.shape, w.shape
    if not have or have[-1] != features[-1]:
        raise ShapeError(
            f"linear: the input's last dimension must be {features[-1]} (weight has shape "
            f"{features}), got an input of shape {have}"
        )
    if x.dtype is not w.dtype:
        same_dtype("linear", input, weight)
    rank = len(have)
    result = make(
        CONTRACT, (x, w), _LINEAR[len(features) == 1, rank], have[:-1] + features[:-1], x.dtype
    )
    return result if bias is None else result + bias


def _linear_specs(vector: bool, rank: int) -> tuple:
    rows = tuple(range(rank))
    out = () if vector else (rank,)
    return rows, (*out, rank - 1), rows[:-1] + out


# CONTRACT's attributes of ``linear``: (is the weight a vector, rank of the input) -> specs.
_LINEAR = {(v, r): _linear_specs(v, r) for v in (False, True) for r in range(1, 33)}
