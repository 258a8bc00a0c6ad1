"""Masks: selecting, filling and locating elements by a bool tensor.

What decides a shape is evaluated at the call.
"""

from __future__ import annotations

import numpy as np

from ..errors import DTypeError, ShapeError
from ..graph import dtypes
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast, numel
from ..tensor import Tensor, late, node_of, record
from .declare import cast, composite, tensor_of
from .indexing import INDEX, index_leaf, scalar_value
from .movement import expand, reshape
from .scalars import written


def mask_of(name: str, mask) -> Tensor:
    """`mask` as a bool tensor.

    Raises
    ------
    DTypeError
        For another dtype.
    """
    mask = tensor_of(name, mask, 1)
    if mask.dtype is not dtypes.bool_:
        raise DTypeError(
            f"{name}: expected a bool tensor as mask, got {mask.dtype!r}; compare it (mask != 0)"
        )
    return mask


def positions(name: str, mask: Tensor) -> tuple[np.ndarray, ...]:
    """Where `mask` (any dtype) is not zero, one index array a dimension: evaluated now."""
    node = node_of(mask)
    late.evaluate([node])
    return np.nonzero(np.atleast_1d(node.value))


def _masks(rng):
    yield rng.normal(size=(2, 3)), rng.random((2, 3)) > 0.4
    yield rng.normal(size=(2, 3)), np.array([True, False, True])


def _mask_errors(*rest):
    def errors():
        yield BadCall((np.ones((2, 3)), np.ones(3), *rest), DTypeError, "bool")
        yield BadCall((np.ones((2, 3)), np.ones(2, bool), *rest), ShapeError, "broadcast")

    return errors


@composite(
    samples=lambda rng: [
        *[Sample((x, mask, 0.5)) for x, mask in _masks(rng)],
        Sample((rng.normal(size=(2, 3)), np.array([True, False, True]), rng.normal(size=()))),
    ],
    errors=_mask_errors(1.0),
    inplace=True,
)
def masked_fill(input: Tensor, mask, value) -> Tensor:
    """`value` (a number or 0-d tensor) where `mask` holds, `input` elsewhere."""
    from .selection import select

    x, mask = tensor_of("masked_fill", input), mask_of("masked_fill", mask)
    return select(mask, scalar_value("masked_fill", x, value), x)


@composite(
    samples=lambda rng: [Sample((x, mask, rng.normal(size=8))) for x, mask in _masks(rng)],
    errors=_mask_errors(np.ones(6)),
    inplace=True,
)
def masked_scatter(input: Tensor, mask, source) -> Tensor:
    """The elements of `source`, in order, where `mask` holds; `input` elsewhere."""
    from ..graph.op import PUBLIC
    from .selection import select

    x, mask = tensor_of("masked_scatter", input), mask_of("masked_scatter", mask)
    source = reshape(tensor_of("masked_scatter", source, 2), (-1,))
    if source.dtype is not x.dtype:
        raise DTypeError(
            f"masked_scatter: expected self and source to have same dtypes but got {x.dtype!r} and "
            f"{source.dtype!r}"
        )
    shape = broadcast("masked_scatter", node_of(x).shape, node_of(mask).shape)
    x, mask = expand(x, *shape), expand(mask, *shape)
    count = numel(node_of(source).shape)
    if count < numel(shape) and count < len(positions("masked_scatter", mask)[0]):
        raise ShapeError(
            f"masked_scatter: the number of elements of source ({count}) is less than the number of "
            "places where the mask holds"
        )
    if not count:
        return x.clone()
    flat = reshape(mask, (-1,))
    before = PUBLIC["cumsum"].function(cast(flat, dtypes.int64), 0) - 1
    taken = record(INDEX, (source, select(flat, before, 0)), ((0,),))
    return select(mask, reshape(taken, shape), x)


@composite(
    samples=lambda rng: [Sample((x, mask)) for x, mask in _masks(rng)],
    errors=_mask_errors(),
)
def masked_select(input: Tensor, mask, *, out: Tensor | None = None) -> Tensor:
    """The elements where `mask` holds, in one dimension. The mask is evaluated at the call."""
    x, mask = tensor_of("masked_select", input), mask_of("masked_select", mask)
    shape = broadcast("masked_select", node_of(x).shape, node_of(mask).shape)
    at = np.flatnonzero(np.broadcast_to(_value(mask), shape))
    flat = reshape(expand(x, *shape), (-1,))
    return written("masked_select", record(INDEX, (flat, index_leaf(at)), ((0,),)), out)


def _value(t: Tensor) -> np.ndarray:
    node = node_of(t)
    late.evaluate([node])
    return node.value


def _nonzero_samples(rng):
    yield Sample((np.array([[0.0, 1.0], [2.0, 0.0]]),))
    yield Sample((np.array([0, 3, 4]),))
    yield Sample((np.array(2.0),))
    yield Sample((np.zeros((2, 0)),))


@composite(samples=_nonzero_samples, differentiable=False)
def nonzero(input: Tensor, *, out: Tensor | None = None, as_tuple: bool = False):
    """The indices of the elements that are not zero: one row each, or (`as_tuple`) one vector a dimension.

    The tensor is evaluated at the call: its values decide the shape.
    """
    x = tensor_of("nonzero", input)
    if as_tuple:
        return tuple(index_leaf(k) for k in positions("nonzero", x))
    return written("nonzero", index_leaf(np.argwhere(_value(x))), out)


@composite(samples=_nonzero_samples, differentiable=False, numpy=(np.argwhere,))
def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not zero, one row each. Evaluated at the call."""
    return index_leaf(np.argwhere(_value(tensor_of("argwhere", input))))
