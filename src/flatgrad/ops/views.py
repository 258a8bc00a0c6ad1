"""Views under PyTorch's names: shapes, orders of dimensions, windows; and what a tensor says of its layout.

Each is a movement primitive or two. A view and its base see each other's writes.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, IndexingError, ShapeError
from ..graph import dtypes
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast, normal_dim, normal_dims, numel, row_major_strides
from ..tensor import ALIAS, DETACH, Tensor, bind, method, node_of, record, record_view, several
from ..writing import reshow
from .declare import alias, composite, tensor_of
from .movement import (
    DIAGONAL,
    PERMUTE,
    RESHAPE,
    SLICE,
    UNFOLD,
    dims_argument,
    expand,
    permute,
    reshape,
    resolve_shape,
    strides_of,
    view_strides,
)


def index_argument(name: str, value, what: str = "index") -> int:
    """An int, or a tensor or NumPy number that is one."""
    try:
        return value.__index__()
    except (AttributeError, TypeError):
        raise ArgumentError(
            f"{name}: {what} must be an int, got {value!r} of type {type(value).__name__}"
        ) from None


def at_least_1d(name: str, t: Tensor) -> None:
    if not t.ndim:
        raise IndexingError(
            f"{name}: a tensor of at least 1 dimension is required, got a 0-d one; reshape it to (1,)"
        )


# -- shapes ---------------------------------------------------------------------------------------


@method()
def view(self: Tensor, *shape) -> Tensor:
    """The same memory under another shape (one size may be -1), or, given a dtype, under that dtype.

    Raises
    ------
    ShapeError
        If the number of elements differs, or if the elements of a view do not lie in such an order.
    DTypeError
        For another dtype than the tensor's: memory is typed here.
    """
    if len(shape) == 1 and isinstance(shape[0], dtypes.DType):
        if shape[0] is not self.dtype:
            raise DTypeError(
                f"view: memory of {self.dtype!r} cannot be seen as {shape[0]!r}; convert with .to()"
            )
        return record_view(ALIAS, self, ())
    have = node_of(self).shape
    sizes = resolve_shape("view", dims_argument("view", shape), numel(have))
    if self._base is not None and view_strides(have, strides_of(self), sizes) is None:
        raise ShapeError(
            f"view: view size {sizes} is not compatible with input tensor's size {have} and stride "
            f"{strides_of(self)} (at least one dimension spans across two contiguous subspaces). Use "
            ".reshape(...) instead."
        )
    return record_view(RESHAPE, self, (sizes,))


@method()
def view_as(self: Tensor, other: Tensor) -> Tensor:
    """``view(other.shape)``."""
    return view(self, *other.shape)


@method()
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """``reshape(other.shape)``."""
    return reshape(self, tuple(other.shape))


def _flatten_samples(rng):
    yield Sample((rng.normal(size=(2, 3, 2)),))
    yield Sample((rng.normal(size=(2, 3, 2)), 1))
    yield Sample((rng.normal(size=(2, 3, 2)), 0, -2))
    yield Sample((rng.normal(size=()),))
    yield Sample((rng.normal(size=(0, 2)),))


def _flatten_errors():
    yield BadCall((np.ones((2, 3)), 1, 0), ArgumentError, "must not come after")
    yield BadCall((np.ones((2, 3)), 2), IndexingError, "out of range")


@composite(samples=_flatten_samples, errors=_flatten_errors)
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim` as one. A view where `reshape` gives one."""
    input = tensor_of("flatten", input)
    rank, shape = input.ndim, node_of(input).shape
    start, end = normal_dim("flatten", start_dim, rank), normal_dim("flatten", end_dim, rank)
    if start > end:
        raise ArgumentError(f"flatten: start_dim {start} must not come after end_dim {end}")
    if not rank:
        return reshape(input, (1,))
    if start == end:
        return input
    return reshape(input, (*shape[:start], numel(shape[start : end + 1]), *shape[end + 1 :]))


@composite(samples=lambda rng: list(_flatten_samples(rng))[:1], numpy=(np.ravel,))
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension, row-major."""
    return (
        reshape(input, (-1,)) if node_of(tensor_of("ravel", input)).shape else reshape(input, (1,))
    )


def _unflatten_errors():
    yield BadCall((np.ones((2, 6)), 1, (4, 2)), ShapeError, "8 elements")
    yield BadCall((np.ones((2, 6)), 1, ()), ArgumentError, "must not be empty")


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 6)), 1, (2, -1))),
        Sample((rng.normal(size=(6, 2)), -2, (3, 2))),
    ],
    errors=_unflatten_errors,
)
def unflatten(input: Tensor, dim: int, sizes) -> Tensor:
    """Dimension `dim` as several of `sizes` (one may be -1). A view."""
    input = tensor_of("unflatten", input)
    shape = node_of(input).shape
    k = normal_dim("unflatten", dim, input.ndim)
    sizes = dims_argument("unflatten", (sizes,))
    if not sizes:
        raise ArgumentError(
            "unflatten: sizes must not be empty; give the sizes of the new dimensions"
        )
    return reshape(input, shape[:k] + resolve_shape("unflatten", sizes, shape[k]) + shape[k + 1 :])


def _squeeze_samples(rng):
    yield Sample((rng.normal(size=(1, 3, 1)),))
    yield Sample((rng.normal(size=(1, 3, 1)), -1))
    yield Sample((rng.normal(size=(1, 3, 1)), 1))
    yield Sample((rng.normal(size=(1, 3, 1)), (0, 1)))
    yield Sample((rng.normal(size=()), 0))


def _squeezed(name: str, t: Tensor, dim) -> tuple[int, ...]:
    dims = () if dim == () else normal_dims(name, dim, t.ndim)
    return tuple(s for k, s in enumerate(node_of(t).shape) if s != 1 or k not in dims)


def _dim_errors():
    yield BadCall((np.ones((2, 3)), 2), IndexingError, "out of range")
    yield BadCall((np.ones((2, 3)), "x"), ArgumentError, "dim must be an int")


@composite(samples=_squeeze_samples, errors=_dim_errors, numpy=(np.squeeze,))
def squeeze(input: Tensor, dim=None) -> Tensor:
    """Dimensions of size 1 (all, or those of `dim`: an int or a tuple) removed. A view."""
    input = tensor_of("squeeze", input)
    return reshape(input, _squeezed("squeeze", input, dim))


def _unsqueeze_samples(rng):
    yield Sample((rng.normal(size=(2, 3)), 0))
    yield Sample((rng.normal(size=(2, 3)), -1))
    yield Sample((rng.normal(size=()), 0))


def _unsqueezed(name: str, t: Tensor, dim) -> tuple[int, ...]:
    shape = node_of(t).shape
    k = normal_dim(name, dim, len(shape), extra=1)
    return (*shape[:k], 1, *shape[k:])


@composite(
    samples=_unsqueeze_samples,
    errors=lambda: [BadCall((np.ones(2), 3), IndexingError, "out of range")],
    numpy=(np.expand_dims,),
)
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dimension of size 1 at position `dim`. A view."""
    input = tensor_of("unsqueeze", input)
    return reshape(input, _unsqueezed("unsqueeze", input, dim))


# -- orders of dimensions -------------------------------------------------------------------------


def _transpose_samples(rng):
    yield Sample((rng.normal(size=(2, 3)), 0, 1))
    yield Sample((rng.normal(size=(2, 3, 4)), -1, 0))
    yield Sample((rng.normal(size=()), 0, -1))


def _swapped(name: str, t: Tensor, dim0, dim1) -> tuple[int, ...]:
    a, b = normal_dim(name, dim0, t.ndim), normal_dim(name, dim1, t.ndim)
    order = list(range(t.ndim))
    if order:
        order[a], order[b] = b, a
    return tuple(order)


def _transpose_errors():
    yield BadCall((np.ones((2, 3)), 0, 2), IndexingError, "out of range")
    yield BadCall((np.ones((2, 3)), 0, 1.5), ArgumentError, "dim must be an int")


@composite(samples=_transpose_samples, errors=_transpose_errors, numpy=(np.swapaxes,))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged. A view."""
    input = tensor_of("transpose", input)
    return permute(input, *_swapped("transpose", input, dim0, dim1))


alias("transpose", "swapaxes", "swapdims")


def _flipped_order(name: str, t: Tensor) -> tuple[int, ...]:
    if t.ndim > 2:
        raise ShapeError(
            f"{name}: a tensor of at most 2 dimensions is required, got {t.ndim}; "
            "use transpose(dim0, dim1), or .mT for the last two"
        )
    return tuple(reversed(range(t.ndim)))


@composite(
    samples=lambda rng: [Sample((rng.normal(size=s),)) for s in ((2, 3), (3,), ())],
    errors=lambda: [BadCall((np.ones((2, 3, 4)),), ShapeError, "at most 2 dimensions")],
)
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or number as it is. A view."""
    input = tensor_of("t", input)
    return permute(input, *_flipped_order("t", input))


def _movedim_samples(rng):
    yield Sample((rng.normal(size=(2, 3, 4)), 0, 2))
    yield Sample((rng.normal(size=(2, 3, 4)), (0, -1), (1, 0)))


def _movedim_errors():
    yield BadCall((np.ones((2, 3)), (0, 1), 0), ArgumentError, "same number")
    yield BadCall((np.ones((2, 3)), (0, 0), (0, 1)), ArgumentError, "once")
    yield BadCall((np.ones((2, 3)), 0, 2), IndexingError, "out of range")


@composite(samples=_movedim_samples, errors=_movedim_errors, numpy=(np.moveaxis,))
def movedim(input: Tensor, source, destination) -> Tensor:
    """The dimensions `source` (an int or a tuple) moved to positions `destination`. A view."""
    input = tensor_of("movedim", input)
    pairs = []
    for dims in (source, destination):
        dims = dims if isinstance(dims, (tuple, list)) else (dims,)
        pairs.append([normal_dim("movedim", d, input.ndim) for d in dims])
    if len(pairs[0]) != len(pairs[1]):
        raise ArgumentError(
            f"movedim: source and destination must have the same number of dims, got {source} and "
            f"{destination}"
        )
    if any(len(set(dims)) != len(dims) for dims in pairs):
        raise ArgumentError(
            f"movedim: each dim may appear once in source and once in destination, got {source} and "
            f"{destination}"
        )
    order = [k for k in range(input.ndim) if k not in pairs[0]]
    for to, k in sorted(zip(pairs[1], pairs[0], strict=True)):
        order.insert(to, k)
    return permute(input, *order)


alias("movedim", "moveaxis")


def _last_two_swapped(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise ShapeError(
            f"mT: a tensor of at least 2 dimensions is required, got {self.ndim}; unsqueeze it first"
        )
    return transpose(self, -2, -1)


Tensor.T = property(
    lambda self: permute(self, *reversed(range(self.ndim))), doc="All dimensions in reversed order."
)
Tensor.H = property(t, doc="The transpose of a matrix.")
Tensor.mT = property(_last_two_swapped, doc="The last two dimensions exchanged.")
Tensor.mH = property(_last_two_swapped, doc="The last two dimensions exchanged (real numbers).")


# -- expansion ------------------------------------------------------------------------------------


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 1)), (2, 3))),
        Sample((rng.normal(size=3), (2, 3))),
        Sample((rng.normal(size=()), (2,))),
    ],
    errors=lambda: [BadCall((np.ones(2), (3,)), ShapeError, "only dimensions of size 1")],
    numpy=(np.broadcast_to,),
)
def broadcast_to(input: Tensor, shape) -> Tensor:
    """`input` expanded to `shape`. A view that cannot be written."""
    return expand(input, *dims_argument("broadcast_to", (shape,)))


@method()
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """``expand(other.shape)``."""
    return expand(self, *other.shape)


@composite(
    samples=lambda rng: [Sample((rng.normal(size=(2, 1)), rng.normal(size=3)))],
    errors=lambda: [BadCall((np.ones(2), np.ones(3)), ShapeError, "do not broadcast")],
    methods=(),
    numpy=(np.broadcast_arrays,),
)
def broadcast_tensors(*tensors) -> tuple[Tensor, ...]:
    """The tensors expanded to their common shape: views that cannot be written."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    tensors = [tensor_of("broadcast_tensors", x, k) for k, x in enumerate(tensors)]
    shape = broadcast("broadcast_tensors", *[node_of(x).shape for x in tensors]) if tensors else ()
    return tuple(expand(x, *shape) for x in tensors)


# -- parts ----------------------------------------------------------------------------------------


def part(t: Tensor, dim: int, start: int, size: int, step: int = 1) -> Tensor:
    """`size` elements along `dim`, from `start` in steps: a view. All arguments are in range."""
    shape = list(node_of(t).shape)
    if not start and step == 1 and size == shape[dim]:
        return record_view(ALIAS, t, ())
    starts, steps = [0] * len(shape), [1] * len(shape)
    starts[dim], steps[dim], shape[dim] = start, step, size
    return record_view(SLICE, t, (tuple(starts), tuple(steps), tuple(shape)))


def picked(t: Tensor, dim: int, index: int) -> Tensor:
    """The elements at one `index` along `dim`, which vanishes: a view."""
    shape = node_of(t).shape
    starts, steps = [0] * len(shape), (1,) * len(shape)
    starts[dim] = index
    one = record_view(SLICE, t, (tuple(starts), steps, (*shape[:dim], 1, *shape[dim + 1 :])))
    return record_view(RESHAPE, one, ((*shape[:dim], *shape[dim + 1 :]),))


def normal_index(name: str, index, size: int, dim: int) -> int:
    """`index` counted from the front.

    Raises
    ------
    IndexingError
        If it is out of range.
    """
    if not -size <= index < size:
        raise IndexingError(
            f"{name}: index {index} is out of bounds for dimension {dim} with size {size}; it must "
            f"be in [{-size}, {size - 1}]"
        )
    return index + size if index < 0 else index


def _narrow_errors():
    x = np.ones((2, 5))
    yield BadCall((x, 1, 3, 3), ShapeError, "exceeds dimension size")
    yield BadCall((x, 1, 6, 0), IndexingError, "start")
    yield BadCall((x, 1, 0, -1), ArgumentError, "must not be negative")
    yield BadCall((np.ones(()), 0, 0, 1), IndexingError, "at least 1 dimension")


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 5)), 1, 1, 3)),
        Sample((rng.normal(size=(2, 5)), -1, -2, 2)),
        Sample((rng.normal(size=5), 0, 5, 0)),
    ],
    errors=_narrow_errors,
)
def narrow(input: Tensor, dim: int, start, length: int) -> Tensor:
    """`length` elements along `dim` from `start` (an int or a 0-d integer tensor). A view."""
    input = tensor_of("narrow", input)
    at_least_1d("narrow", input)
    dim = normal_dim("narrow", dim, input.ndim)
    size = node_of(input).shape[dim]
    start, length = (
        index_argument("narrow", start, "start"),
        index_argument("narrow", length, "length"),
    )
    if length < 0:
        raise ArgumentError(f"narrow: length must not be negative, got {length}")
    if not -size <= start <= size:
        raise IndexingError(
            f"narrow: start {start} is out of range; it must be in [{-size}, {size}]"
        )
    start += size if start < 0 else 0
    if start + length > size:
        raise ShapeError(
            f"narrow: start ({start}) + length ({length}) exceeds dimension size ({size}) of dim {dim}"
        )
    return part(input, dim, start, length)


@composite(
    name="select",
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 3)), 0, 1)),
        Sample((rng.normal(size=(2, 3)), -1, -1)),
    ],
    errors=lambda: [
        BadCall((np.ones((2, 3)), 0, 2), IndexingError, "out of bounds"),
        BadCall((np.ones(()), 0, 0), IndexingError, "at least 1 dimension"),
    ],
)
def select_index(input: Tensor, dim: int, index) -> Tensor:
    """The elements at `index` of `dim`, which vanishes. A view."""
    input = tensor_of("select", input)
    at_least_1d("select", input)
    dim = normal_dim("select", dim, input.ndim)
    index = index_argument("select", index)
    return picked(input, dim, normal_index("select", index, node_of(input).shape[dim], dim))


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 3)),)),
        Sample((rng.normal(size=(2, 3)), -1)),
    ],
    errors=lambda: [BadCall((np.ones(()),), IndexingError, "at least 1 dimension")],
)
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along `dim`, each without it. Views."""
    input = tensor_of("unbind", input)
    at_least_1d("unbind", input)
    dim = normal_dim("unbind", dim, input.ndim)
    return several("unbind", tuple(picked(input, dim, k) for k in range(node_of(input).shape[dim])))


def _diagonal_samples(rng):
    yield Sample((rng.normal(size=(3, 4)),))
    yield Sample((rng.normal(size=(3, 4)), 1))
    yield Sample((rng.normal(size=(3, 4)), -2))
    yield Sample((rng.normal(size=(2, 3, 4)),), {"dim1": 2, "dim2": 0})
    yield Sample((rng.normal(size=(2, 3, 4)), -1, -2, -1))
    yield Sample((rng.normal(size=(2, 2)), 5))


def diagonal_dims(name: str, rank: int, dim1, dim2) -> tuple[int, int]:
    """Two different dims, counted from the front."""
    first, second = normal_dim(name, dim1, rank), normal_dim(name, dim2, rank)
    if first == second:
        raise ArgumentError(f"{name}: dim1 and dim2 must differ, both are {first}")
    return first, second


def diagonal_offset(name: str, offset, rows: int, columns: int) -> int:
    """`offset`, or where it is outside of the matrix the nearest one that is."""
    return max(-rows, min(index_argument(name, offset, "offset"), columns))


def _diagonal_errors():
    yield BadCall((np.ones((2, 3)), 0, 1, 1), ArgumentError, "must differ")
    yield BadCall((np.ones(3),), IndexingError, "out of range")


@composite(op=DIAGONAL, samples=_diagonal_samples, errors=_diagonal_errors, numpy=(np.diagonal,))
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of dims `dim1` and `dim2`, `offset` columns to the right. A view; last dimension."""
    input = tensor_of("diagonal", input)
    dims = diagonal_dims("diagonal", input.ndim, dim1, dim2)
    rows, columns = (node_of(input).shape[d] for d in dims)
    return record_view(DIAGONAL, input, (diagonal_offset("diagonal", offset, rows, columns), *dims))


@method()
def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of `size` elements along `dimension`, every `step`; their elements come last. A view.

    Raises
    ------
    ShapeError, ArgumentError
        If `size` exceeds the dimension, or is negative, or `step` is not positive.
    """
    dim = normal_dim("unfold", dimension, self.ndim)
    have = node_of(self).shape[dim] if self.ndim else 1
    if size < 0 or step <= 0:
        raise ArgumentError(
            f"unfold: size must not be negative and step must be > 0, got size {size} and step {step}"
        )
    if size > have:
        raise ShapeError(
            f"unfold: maximum size for tensor at dimension {dim} is at most {have}, got {size}"
        )
    if not self.ndim:
        return (
            record_view(RESHAPE, self, ((size,),)) if size else part(reshape(self, (1,)), 0, 0, 0)
        )
    return record_view(UNFOLD, self, (dim, size, min(step, have + 1)))  # further on is no window


# -- copies, detached tensors ---------------------------------------------------------------------


@composite(samples=lambda rng: [Sample((rng.normal(size=s),)) for s in ((2, 3), (), (0,))])
def clone(input: Tensor, *, memory_format=None) -> Tensor:
    """A copy with memory of its own; derivatives flow through it."""
    return record(ALIAS, (tensor_of("clone", input),))


@composite(
    samples=lambda rng: [Sample((rng.normal(size=s),)) for s in ((2, 3), (), (0,))],
    differentiable=False,
)
def detach(input: Tensor) -> Tensor:
    """The values without history, as a view: writes are seen both ways, derivatives stop here."""
    return record_view(DETACH, tensor_of("detach", input), ())


@method()
def detach_(self: Tensor) -> Tensor:
    """Let the tensor itself forget its history: it becomes a leaf without gradient.

    Raises
    ------
    ArgumentError
        For a view, whose base has the history.
    """
    if self._base is not None:
        raise ArgumentError("detach_: Can't detach views in-place. Use detach() instead.")
    bind(self, record(DETACH, (self,))._node)
    return self


@method()
def contiguous(self: Tensor, memory_format=None) -> Tensor:
    """The tensor itself if its elements lie in row-major order, otherwise a copy."""
    return self if is_contiguous(self) else record(ALIAS, (self,))


# -- what a tensor says of itself -----------------------------------------------------------------


@method()
def size(self: Tensor, dim=None):
    """The shape, or one size of it."""
    if dim is None:
        return self.shape
    if not self.ndim:
        raise IndexingError("size: a 0-d tensor has no dimension; use .shape")
    return self.shape[normal_dim("size", dim, self.ndim)]


@method("dim", "ndimension")
def dim(self: Tensor) -> int:
    """The number of dimensions."""
    return self.ndim


@method("numel", "nelement")
def _numel(self: Tensor) -> int:
    """The number of elements."""
    return numel(self._node.shape)


@method()
def stride(self: Tensor, dim=None):
    """Elements of memory between neighbours, for each dimension or for one."""
    strides = strides_of(self)
    return strides if dim is None else strides[normal_dim("stride", dim, self.ndim)]


@method()
def is_contiguous(self: Tensor, memory_format=None) -> bool:
    """Whether the elements lie in row-major order."""
    shape = self._node.shape
    if 0 in shape:
        return True
    pairs = zip(shape, strides_of(self), row_major_strides(shape), strict=True)
    return all(have == want or s == 1 for s, have, want in pairs)


@method("__len__")
def _length(self: Tensor) -> int:
    if not self.ndim:
        raise TypeError("len: a 0-d tensor has no length; reshape it to (1,)")
    return self._node.shape[0]


@method("is_same_size")
def is_same_size(self: Tensor, other: Tensor) -> bool:
    """Whether the shapes agree."""
    return self.shape == other.shape


# -- in place: the tensor itself under another shape or order -------------------------------------


def _reshaped(name: str, t: Tensor, shape: tuple) -> Tensor:
    return reshow(name, t, RESHAPE, (shape,))


@method()
def squeeze_(self: Tensor, dim=None) -> Tensor:
    """In-place :func:`flatgrad.squeeze`. Returns the tensor."""
    return _reshaped("squeeze_", self, _squeezed("squeeze_", self, dim))


@method()
def unsqueeze_(self: Tensor, dim: int) -> Tensor:
    """In-place :func:`flatgrad.unsqueeze`. Returns the tensor."""
    return _reshaped("unsqueeze_", self, _unsqueezed("unsqueeze_", self, dim))


@method("transpose_", "swapaxes_", "swapdims_")
def transpose_(self: Tensor, dim0: int, dim1: int) -> Tensor:
    """In-place :func:`flatgrad.transpose`. Returns the tensor."""
    return reshow("transpose_", self, PERMUTE, (_swapped("transpose_", self, dim0, dim1),))


@method()
def t_(self: Tensor) -> Tensor:
    """In-place :func:`flatgrad.t`. Returns the tensor."""
    return reshow("t_", self, PERMUTE, (_flipped_order("t_", self),))
