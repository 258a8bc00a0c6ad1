"""Whole-tensor writes (``copy_``, ``fill_``, ``zero_``), and functional forms of writes to a view."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, IndexingError, ShapeError
from ..graph.node import const
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast, normal_dim
from ..tensor import Tensor, method, node_of, wrap
from ..writing import assign, overwrite
from .declare import cast, composite, tensor_of
from .indexing import scalar_value
from .movement import DIAGONAL, SLICE, expand, reshape, view_scatter
from .subscript import _slice_bounds
from .views import diagonal_dims, index_argument, normal_index


@method()
def copy_(self: Tensor, src, non_blocking: bool = False) -> Tensor:
    """Write the values of `src` (broadcast, converted to this dtype) here. Differentiable. Returns self.

    Raises
    ------
    ShapeError
        If `src` does not broadcast to this shape.
    """
    src = tensor_of("copy_", src, 1)
    want, have = node_of(self).shape, node_of(src).shape
    if broadcast("copy_", have, want) != want:
        raise ShapeError(
            f"copy_: the source of shape {have} does not broadcast to this tensor's shape {want}"
        )
    return overwrite("copy_", self, expand(cast(src, self.dtype), *want))


@method()
def fill_(self: Tensor, value) -> Tensor:
    """Write `value`, a number or a 0-d tensor, everywhere. Returns the tensor."""
    value = scalar_value("fill_", self, value)
    return overwrite("fill_", self, expand(value, *node_of(self).shape))


@method()
def zero_(self: Tensor) -> Tensor:
    """Write zeros everywhere. Returns the tensor."""
    return assign("zero_", self, wrap(const(0, self.dtype, node_of(self).shape)))


# -- the base with a view replaced ----------------------------------------------------------------


def _into_view(name: str, x: Tensor, src, view, attrs: tuple, shape: tuple | None = None) -> Tensor:
    """`x` with `src` in the place of ``view(x, *attrs)``, which is seen as `shape`."""
    src = tensor_of(name, src, 1)
    have = view.infer(node_of(x), *attrs)[0]
    want = have if shape is None else shape
    if node_of(src).shape != want:
        raise ShapeError(
            f"{name}: expected src to have a size equal to the slice of self, {want}, got "
            f"{node_of(src).shape}"
        )
    return view_scatter(view, x, cast(reshape(src, have), x.dtype), attrs)


def _one_dim(x: Tensor, dim: int, start: int, step: int, size: int) -> tuple:
    shape = node_of(x).shape
    starts, steps, sizes = [0] * len(shape), [1] * len(shape), list(shape)
    starts[dim], steps[dim], sizes[dim] = start, step, size
    return tuple(starts), tuple(steps), tuple(sizes)


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(3, 4)), rng.normal(size=4), 0, 1)),
        Sample((rng.normal(size=(3, 4)), rng.normal(size=3), 1, -1)),
    ],
    errors=lambda: [
        BadCall((np.ones((3, 4)), np.ones(3), 0, 1), ShapeError, "equal to the slice"),
        BadCall((np.ones((3, 4)), np.ones(4), 0, 3), IndexingError, "out of bounds"),
    ],
)
def select_scatter(input: Tensor, src, dim: int, index: int) -> Tensor:
    """A copy of `input` with `src` in the place of ``input.select(dim, index)``."""
    x = tensor_of("select_scatter", input)
    dim = normal_dim("select_scatter", dim, x.ndim)
    shape = node_of(x).shape
    at = normal_index("select_scatter", index_argument("select_scatter", index), shape[dim], dim)
    without = (*shape[:dim], *shape[dim + 1 :])
    return _into_view("select_scatter", x, src, SLICE, _one_dim(x, dim, at, 1, 1), without)


@composite(
    samples=lambda rng: [
        Sample(
            (rng.normal(size=(5, 2)), rng.normal(size=(2, 2))), {"start": 1, "end": 5, "step": 2}
        ),
        Sample((rng.normal(size=(2, 3)), rng.normal(size=(2, 2)), 1, -2)),
    ],
    errors=lambda: [
        BadCall((np.ones((3, 4)), np.ones((3, 4)), 0, 1), ShapeError, "equal to the slice"),
        BadCall((np.ones(3), np.ones(3), 0, 0, 3, 0), ArgumentError, "greater than zero"),
    ],
)
def slice_scatter(
    input: Tensor,
    src,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """A copy of `input` with `src` in the place of a slice along `dim`."""
    x = tensor_of("slice_scatter", input)
    dim = normal_dim("slice_scatter", dim, x.ndim)
    first, step, size = _slice_bounds(slice(start, end, step), node_of(x).shape[dim])
    return _into_view("slice_scatter", x, src, SLICE, _one_dim(x, dim, first, step, size))


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(3, 4)), rng.normal(size=3))),
        Sample((rng.normal(size=(3, 4)), rng.normal(size=2), -1)),
        Sample((rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3)), 0, 1, 2)),
    ],
    errors=lambda: [
        BadCall((np.ones((3, 4)), np.ones(4)), ShapeError, "equal to the slice"),
        BadCall((np.ones((3, 4)), np.ones(3), 0, 1, 1), ArgumentError, "must differ"),
    ],
)
def diagonal_scatter(input: Tensor, src, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of `input` with `src` in the place of ``input.diagonal(offset, dim1, dim2)``."""
    x = tensor_of("diagonal_scatter", input)
    dims = diagonal_dims("diagonal_scatter", x.ndim, dim1, dim2)
    return _into_view("diagonal_scatter", x, src, DIAGONAL, (offset, *dims))


@method()
def fill_diagonal_(self: Tensor, fill_value, wrap: bool = False) -> Tensor:
    """Write `fill_value` to the main diagonal of a tensor of equal sizes (a matrix: of any). Returns self.

    With `wrap` the diagonal of a tall matrix starts again after each square block and a row of gap.
    """
    shape = node_of(self).shape
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) != 1):
        raise ShapeError(
            f"fill_diagonal_: a matrix, or more dimensions of one size are required, got {shape}"
        )
    step = sum(int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape)))
    size = int(np.prod(shape, dtype=np.int64))
    if not wrap and len(shape) == 2 and shape[0] > shape[1]:
        size = shape[1] * shape[1]
    flat = np.zeros(int(np.prod(shape, dtype=np.int64)), bool)
    flat[:size:step] = True
    self[flat.reshape(shape)] = fill_value
    return self
