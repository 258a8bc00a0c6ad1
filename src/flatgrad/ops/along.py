"""Whole slices along one dimension, or elements of the flattened tensor, by a vector of indices."""

from __future__ import annotations

import numpy as np

from ..errors import DTypeError, IndexingError, ShapeError
from ..graph import dtypes
from ..graph.node import const
from ..graph.op import BadCall, Sample
from ..graph.shapes import normal_dim, numel
from ..tensor import Tensor, node_of, record, wrap
from .declare import cast, composite, tensor_of
from .indexing import INDEX, index_put_of, index_tensor, scalar_value
from .movement import reshape
from .scalars import written
from .selection import where

# -- along one dimension --------------------------------------------------------------------------


def _vector_index(name: str, x, dim, index) -> tuple[Tensor, int, Tensor]:
    """(x, dim, 1-d index) with x at least 1-d."""
    x = tensor_of(name, x)
    dim = normal_dim(name, dim, x.ndim)
    if not x.ndim:
        x = reshape(x, (1,))
    index = index_tensor(name, index, dim, node_of(x).shape[dim])
    if index.ndim > 1:
        raise IndexingError(
            f"{name}: Index is supposed to be a vector, got shape {tuple(index.shape)}"
        )
    return x, dim, reshape(index, (-1,)) if not index.ndim else index


def _select_samples(rng):
    x = rng.normal(size=(3, 4))
    yield Sample((x, 0, np.array([2, 0, 2])))
    yield Sample((x, -1, np.array([1])))
    yield Sample((x, 1, np.array([], np.int64)))


def _vector_errors(*rest):
    def errors():
        x = np.ones((2, 3))
        yield BadCall((x, 0, np.array([2]), *rest), IndexingError, "out of bounds")
        yield BadCall((x, 0, np.array([[0]]), *rest), IndexingError, "vector")
        yield BadCall((x, 2, np.array([0]), *rest), IndexingError, "out of range")
        yield BadCall((x, 0, np.array([0.0]), *rest), IndexingError, "Expected dtype")

    return errors


@composite(samples=_select_samples, errors=_vector_errors())
def index_select(input: Tensor, dim: int, index, *, out: Tensor | None = None) -> Tensor:
    """The slices along `dim` that a vector of indices names. A copy."""
    shape = tensor_of("index_select", input).shape
    x, dim, at = _vector_index("index_select", input, dim, index)
    result = record(INDEX, (x, at), ((dim,),))
    return written("index_select", result if shape else reshape(result, ()), out)


def _into_samples(rng):
    x = rng.normal(size=(3, 4))
    yield Sample((x, 0, np.array([2, 0]), rng.normal(size=(2, 4))))
    yield Sample((x, -1, np.array([1]), rng.normal(size=(3, 1))))


def _put_vector(name: str, input, dim, index, source, accumulate: bool) -> Tensor:
    shape = tuple(tensor_of(name, input).shape)
    x, dim, at = _vector_index(name, input, dim, index)
    source = tensor_of(name, source, 3)
    if source.dtype is not x.dtype:
        raise DTypeError(
            f"{name}: self and source expected to have the same dtype, got {x.dtype!r} and "
            f"{source.dtype!r}; convert the source with .to()"
        )
    want = (*node_of(x).shape[:dim], node_of(at).shape[0], *node_of(x).shape[dim + 1 :])
    if not source.ndim and numel(want) == 1:
        source = reshape(source, want)
    if node_of(source).shape != want:
        raise ShapeError(
            f"{name}: source must have shape {want} (the input's, with the number of indices at dim "
            f"{dim}), got {tuple(source.shape)}"
        )
    return reshape(index_put_of(x, source, [at], (dim,), accumulate), shape)


@composite(samples=_into_samples, errors=_vector_errors(np.ones((1, 3))), inplace=True)
def index_add(input: Tensor, dim: int, index, source, *, alpha=1) -> Tensor:
    """A copy of `input` with ``alpha * source`` added to the slices along `dim` that `index` names."""
    if alpha != 1:
        source = tensor_of("index_add", source, 3) * alpha
    return _put_vector("index_add", input, dim, index, source, True)


@composite(samples=_into_samples, errors=_vector_errors(np.ones((1, 3))), inplace=True)
def index_copy(input: Tensor, dim: int, index, source) -> Tensor:
    """A copy of `input` with the slices along `dim` that `index` names replaced by those of `source`."""
    return _put_vector("index_copy", input, dim, index, source, False)


@composite(
    samples=lambda rng: [Sample((rng.normal(size=(3, 4)), 1, np.array([2, 0]), 0.5))],
    errors=_vector_errors(1.0),
    inplace=True,
)
def index_fill(input: Tensor, dim: int, index, value) -> Tensor:
    """A copy of `input` with the slices along `dim` that `index` names filled with `value`."""
    x, dim, at = _vector_index("index_fill", input, dim, index)
    value = scalar_value("index_fill", x, value)
    shape = node_of(x).shape
    # By a mask, so that an index named twice counts once in the value's gradient.
    named = index_put_of(
        wrap(const(False, dtypes.bool_, (shape[dim],))),
        wrap(const(True, dtypes.bool_, node_of(at).shape)),
        [at],
        (0,),
        False,
    )
    along = tuple(-1 if k == dim else 1 for k in range(len(shape)))
    filled = where(reshape(named, along), value, x)
    return reshape(filled, tuple(tensor_of("index_fill", input).shape))


# -- flat -----------------------------------------------------------------------------------------


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 3)), np.array([0, 5, -1]))),
        Sample((rng.normal(size=(2, 3)), np.array([[1], [1]]))),
    ],
    errors=lambda: [
        BadCall((np.ones((2, 3)), np.array([6])), IndexingError, "index 6 is out of bounds"),
        BadCall((np.ones((2, 3)), np.array([0.5])), IndexingError, "Expected dtype"),
    ],
    numpy=(np.take,),
)
def take(input: Tensor, index) -> Tensor:
    """The elements at positions `index` of the flattened tensor, in the index's shape."""
    x = reshape(tensor_of("take", input), (-1,))
    at = index_tensor("take", index, 0, node_of(x).shape[0], negative=True)
    return record(INDEX, (x, at), ((0,),))


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 3)), np.array([0, 4]), rng.normal(size=2))),
        Sample((rng.normal(size=(2, 3)), np.array([1, 1]), rng.normal(size=2), True)),
    ],
    errors=lambda: [
        BadCall((np.ones(3), np.array([3]), np.ones(1)), IndexingError, "out of bounds"),
        BadCall((np.ones(3), np.array([0, 1]), np.ones(1)), ShapeError, "same number"),
    ],
    inplace=True,
)
def put(input: Tensor, index, source, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `source` at positions `index` of the flattened tensor."""
    x, source = tensor_of("put", input), tensor_of("put", source, 2)
    flat = reshape(x, (-1,))
    at = index_tensor("put", index, 0, node_of(flat).shape[0], negative=True)
    count = numel(node_of(at).shape)
    if numel(node_of(source).shape) != count:
        raise ShapeError(
            f"put: source and index must have the same number of elements, got "
            f"{numel(node_of(source).shape)} and {count}"
        )
    at, source = reshape(at, (-1,)), cast(reshape(source, (-1,)), x.dtype)
    return reshape(index_put_of(flat, source, [at], (0,), accumulate), tuple(x.shape))
