"""Rows of a table by number: ``embedding``."""

from __future__ import annotations

from ...array.construct import ones, zeros
from ...autograd.modes import no_grad
from ...errors import ArgumentError, DTypeError, ShapeError
from ...graph import dtypes
from ...ops.along import index_select
from ...ops.logic import ne
from ...ops.selection import where
from ...ops.statistics import vector_norm
from ...tensor import Tensor, node_of

__all__ = ["embedding"]


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Row ``input[...]`` of `weight` in place of each number.

    Parameters
    ----------
    input : Tensor, shape (*S), int32 or int64
    weight : Tensor, shape (V, D)
    padding_idx : int, optional
        The row of this number gets no gradient.
    max_norm : float, optional
        Rows that are looked up and whose norm is larger are scaled to it, **in place**.
    norm_type : float
        The p of that norm.
    scale_grad_by_freq : bool
        Divide each row's gradient by how often it was looked up.
    sparse : bool
        Must be False: gradients are dense.

    Returns
    -------
    Tensor, shape (*S, D)

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        For a number that is out of range (`padding_idx` included), no table, or numbers that are no ints.

    Examples
    --------
    >>> import flatgrad as fg
    >>> table = fg.tensor([[0.0, 1.0], [2.0, 3.0]])
    >>> fg.nn.functional.embedding(fg.tensor([1, 0, 1]), table)
    tensor([[2., 3.],
            [0., 1.],
            [2., 3.]])
    """
    shape = node_of(weight).shape
    if len(shape) != 2:
        raise ShapeError(f"embedding: 'weight' must be 2-D, got shape {shape}")
    if node_of(input).dtype not in (dtypes.int32, dtypes.int64):
        raise DTypeError(
            f"embedding: the numbers of rows must be int32 or int64, got {input.dtype!r}; convert them "
            "with .long()"
        )
    if sparse:
        raise ArgumentError("embedding: gradients are dense; leave sparse=False")
    padding_idx = padding_row("embedding", padding_idx, shape[0])
    if max_norm is not None:
        _renormalise(input, weight, max_norm, norm_type)
    rows = index_select(weight, 0, input.reshape(-1))
    if scale_grad_by_freq:
        rows = _same_with_gradient(
            rows, 1 / index_select(_counts(input, weight), 0, input.reshape(-1))
        )
    rows = rows.reshape(*node_of(input).shape, shape[1])
    if padding_idx is None:
        return rows
    return where(ne(input, padding_idx).unsqueeze(-1), rows, rows.detach())


def padding_row(name: str, index: int | None, rows: int) -> int | None:
    """`index` counted from the start."""
    if index is None:
        return None
    if not -rows <= index < rows:
        raise ArgumentError(
            f"{name}: padding_idx must be within the {rows} rows of the table, got {index}"
        )
    return index % rows


def _counts(input: Tensor, weight: Tensor) -> Tensor:
    """How often each row is looked up, of shape (V, 1)."""
    flat = input.reshape(-1).long()
    each = ones(node_of(flat).shape[0], dtype=weight.dtype)
    return (
        zeros(node_of(weight).shape[0], dtype=weight.dtype).scatter_add(0, flat, each).unsqueeze(1)
    )


def _same_with_gradient(rows: Tensor, factor: Tensor) -> Tensor:
    """`rows`, whose gradient is multiplied by `factor`."""
    scaled = rows * factor
    return rows.detach() + (scaled - scaled.detach())


def _renormalise(input: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    with no_grad():
        norms = vector_norm("embedding", weight.detach(), norm_type, 1, True)
        large = (_counts(input, weight) > 0) & (norms > max_norm)
        weight.copy_(where(large, weight * (max_norm / (norms + 1e-7)), weight))
