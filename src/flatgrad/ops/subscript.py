"""``x[...]`` and ``x[...] = value`` in all of PyTorch's forms.

A subscript becomes one slice and one reshape (a view), and, for what index tensors and masks name,
one INDEX or INDEX_PUT on that view. Integers select, as in PyTorch: unlike NumPy's they do not count
as index tensors when the place of the indexed dimensions is decided.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, IndexingError, ShapeError
from ..graph import dtypes
from ..graph.modes import modes
from ..graph.node import const
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast, numel
from ..tensor import ALIAS, Tensor, late, method, node_of, record, record_view, wrap
from ..writing import assign, overwrite
from .declare import NUMBERS, cast, composite, tensor_of
from .indexing import INDEX, check_range, expanded, index_leaf, index_put_of
from .masking import positions
from .movement import RESHAPE, SLICE, permute, reshape
from .views import normal_index, unbind

# -- reading a subscript --------------------------------------------------------------------------


class Mask:
    """A bool index: its tensor, and (evaluated when asked) the indices it stands for."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor
        self.ndim = tensor.ndim

    def indices(self) -> list[Tensor]:
        return [index_leaf(k) for k in positions("index", self.tensor)]


def _part(item):
    """One part of a subscript: None, Ellipsis, a slice, an int, an index Tensor or a Mask.

    Raises
    ------
    IndexingError
        For anything that cannot index.
    """
    if item is None or item is Ellipsis or type(item) is slice or type(item) is int:
        return item
    if isinstance(item, (bool, np.bool_)):
        return Mask(late.convert(np.asarray(bool(item))))
    if isinstance(item, (tuple, list, range)):
        try:
            item = np.asarray([k.tolist() if isinstance(k, Tensor) else k for k in item])
        except ValueError as error:
            raise IndexingError(f"index: a list of indices must be rectangular: {error}") from None
        if not item.size:
            item = item.astype(np.int64)
    if isinstance(item, (Tensor, np.ndarray, np.generic)):
        return _tensor_part(item)
    try:
        return item.__index__()
    except (AttributeError, TypeError):
        raise IndexingError(
            "index: only integers, slices (`:`), ellipsis (`...`), None and long, int, byte or bool "
            f"Tensors are valid indices, got {item!r} of type {type(item).__name__}"
        ) from None


def _tensor_part(item):
    if not isinstance(item, Tensor):
        if item.dtype.kind not in "iub":
            raise IndexingError(
                "index: tensors used as indices must be long, int, byte or bool tensors, got "
                f"{item.dtype}; convert with .astype(int)"
            )
        if item.dtype.kind in "iu" and item.dtype != np.uint8:
            item = item.astype(np.int64)
        item = late.convert(np.asarray(item))
    if item.dtype in (dtypes.bool_, dtypes.uint8):
        return Mask(cast(item, dtypes.bool_))
    if item.dtype not in (dtypes.int64, dtypes.int32):
        raise IndexingError(
            "index: tensors used as indices must be long, int, byte or bool tensors, got "
            f"{item.dtype!r}; convert it with .long()"
        )
    # A number is a place, unless it has no value yet, being traced (a loop's counter).
    if not item.ndim and (modes.pending >= 0 or node_of(item).value is not None):
        return item.__index__()
    return cast(item, dtypes.int64)


def _consumed(item) -> int:
    """How many dimensions a part indexes."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if type(item) is Mask else 1


def _parts(key, rank: int) -> list:
    """The parts of a subscript, with its ellipsis spelled out."""
    parts = [_part(item) for item in (key if type(key) is tuple else (key,))]
    dots = [k for k, item in enumerate(parts) if item is Ellipsis]
    missing = rank - sum(_consumed(item) for item in parts)
    if missing < 0:
        raise IndexingError(
            f"index: too many indices for tensor of dimension {rank}: got {rank - missing}"
        )
    if len(dots) > 1:
        raise IndexingError("index: an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(parts)
    return [*parts[:at], *[slice(None)] * missing, *parts[at + len(dots) :]]


def _slice_bounds(item: slice, size: int) -> tuple[int, int, int]:
    """(start, step, number of elements) of a slice."""
    try:
        step = 1 if item.step is None else item.step.__index__()
        bounds = [k if k is None else k.__index__() for k in (item.start, item.stop)]
    except (AttributeError, TypeError):
        raise IndexingError(
            f"index: slice indices must be integers or None or have an __index__ method, got {item}"
        ) from None
    if step <= 0:
        raise ArgumentError(
            f"index: slice step must be greater than zero, got {step}; use flip for reversed order"
        )
    start, stop, step = slice(*bounds, step).indices(size)
    count = len(range(start, stop, step))
    return (start if count else 0), step, count


def _basic(t: Tensor, parts: list) -> tuple[Tensor, dict]:
    """The view that slices, ints and None make, and ``{dim of the view: index Tensor or Mask}``."""
    shape = node_of(t).shape
    starts, steps, sizes = [], [], []
    final, advanced = [], {}
    for item in parts:
        dim = len(starts)
        if item is None:
            final.append(1)
        elif type(item) is int:
            starts.append(normal_index("index", item, shape[dim], dim))
            steps.append(1)
            sizes.append(1)
        elif type(item) is slice:
            start, step, size = _slice_bounds(item, shape[dim])
            starts.append(start)
            steps.append(step)
            sizes.append(size)
            final.append(size)
        else:
            advanced[len(final)] = item
            over = shape[dim : dim + _consumed(item)]
            _check_part(item, over, dim)
            starts += [0] * len(over)
            steps += [1] * len(over)
            sizes += over
            final += over if type(item) is not Mask or item.ndim else [1]
    view = t
    if any(starts) or tuple(sizes) != shape:
        view = record_view(SLICE, view, (tuple(starts), tuple(steps), tuple(sizes)))
    if tuple(final) != tuple(sizes):
        view = record_view(RESHAPE, view, (tuple(final),))
    return view, advanced


def _check_part(item, over: tuple, dim: int) -> None:
    """Raise if an index tensor's known values, or a mask's shape, do not fit the dimensions `over`."""
    if type(item) is Mask:
        have = node_of(item.tensor).shape
        if have != over:
            raise IndexingError(
                f"index: the shape of the mask {have} does not match the shape of the indexed tensor "
                f"at dimension {dim}, {over}"
            )
    elif node_of(item).value is not None:
        check_range("index", node_of(item).value, dim, over[0])


def _indices(advanced: dict) -> tuple[list[int], list[Tensor]]:
    """Dims and index tensors of one common shape; masks are evaluated."""
    dims: list[int] = []
    found: list[Tensor] = []
    for dim, item in advanced.items():
        new = item.indices() if type(item) is Mask else [item]
        dims += range(dim, dim + len(new))
        found += new
    shapes = [node_of(i).shape for i in found]
    try:
        common = broadcast("index", *shapes)
    except ShapeError:
        raise IndexingError(
            "index: shape mismatch: indexing tensors could not be broadcast together with shapes "
            f"{', '.join(map(str, shapes))}"
        ) from None
    return dims, [expanded(i, common) for i in found]


def _front(view: Tensor, dims: list[int]) -> tuple[Tensor, tuple[int, ...]]:
    """The view with its indexed dims side by side, and where they then are."""
    if dims[-1] - dims[0] == len(dims) - 1:
        return view, tuple(dims)
    rest = [k for k in range(view.ndim) if k not in dims]
    return permute(view, *dims, *rest), tuple(range(len(dims)))


@method("__getitem__")
def getitem(self: Tensor, key) -> Tensor:
    """A view for ints, slices, None and Ellipsis; a copy for index tensors and masks."""
    view, advanced = _basic(self, _parts(key, self.ndim))
    if not advanced:
        return record_view(ALIAS, view, ()) if view is self else view
    dims, indices = _indices(advanced)
    view, at = _front(view, dims)
    return record(INDEX, (view, *indices), (at,))


# -- writing --------------------------------------------------------------------------------------


def _source(value, dtype) -> Tensor:
    """What is written, in the tensor's dtype (converted as ``copy_`` does)."""
    if isinstance(value, (tuple, list)):
        value = np.asarray(value)
    if isinstance(value, (np.generic, *NUMBERS)):
        return wrap(const(value.item() if isinstance(value, np.generic) else value, dtype))
    return cast(tensor_of("index_put", value, 1), dtype)


def _fitted(source: Tensor, shape: tuple) -> Tensor:
    """`source` broadcast to `shape`; leading dimensions of size 1 too many are dropped.

    Raises
    ------
    ShapeError
        If it does not broadcast.
    """
    have = node_of(source).shape
    while len(have) > len(shape) and have[0] == 1:
        have = have[1:]
    if len(have) > len(shape) or broadcast("index_put", have, shape) != shape:
        raise ShapeError(
            f"index_put: shape mismatch: value tensor of shape {node_of(source).shape} cannot be "
            f"broadcast to indexing result of shape {shape}"
        )
    if have != node_of(source).shape:
        source = reshape(source, have)
    return expanded(source, shape)


@method("__setitem__")
def setitem(self: Tensor, key, value) -> None:
    """Write `value` (a tensor, array or number, broadcast and converted) to a part of the tensor."""
    view, advanced = _basic(self, _parts(key, self.ndim))
    source = _source(value, self.dtype)
    if not advanced:
        overwrite("index_put_", view, _fitted(source, node_of(view).shape))
        return
    if len(advanced) == 1 and _write_masked(view, advanced, source):
        return
    dims, indices = _indices(advanced)
    view, at = _front(view, dims)
    shape = INDEX.infer((node_of(view), *map(node_of, indices)), at)[0]
    new = index_put_of(view, _fitted(source, shape), indices, at, False)
    assign("index_put_", view, new)


def _write_masked(view: Tensor, advanced: dict, source: Tensor) -> bool:
    """Write through one mask without counting it, if the source does not depend on the count."""
    from .selection import select

    ((dim, mask),) = advanced.items()
    if type(mask) is not Mask or not mask.ndim:
        return False
    shape = node_of(view).shape
    behind = shape[dim + mask.ndim :]
    if numel(node_of(source).shape) == 1:
        source = reshape(source, ())
    if source.ndim > len(behind):
        return False
    source = _fitted(source, behind) if source.ndim else source
    wide = reshape(mask.tensor, (*node_of(mask.tensor).shape, *[1] * len(behind)))
    assign("index_put_", view, select(wide, source, view))
    return True


# -- index_put, iteration -------------------------------------------------------------------------


def _index_put_samples(rng):
    x = rng.normal(size=(3, 4))
    yield Sample((x, (np.array([0, 2]), np.array([1, 3])), rng.normal(size=2)))
    yield Sample((x, (np.array([2]),), rng.normal(size=4)))
    yield Sample((x, (np.array([0, 0, 2]),), rng.normal(size=(3, 4)), True))
    yield Sample((x, (x > 0,), rng.normal(size=())))


def _index_put_errors():
    x, at = np.ones((2, 3)), np.array([0, 1])
    yield BadCall((x, (at, at, at), np.ones(2)), IndexingError, "too many indices")
    yield BadCall((x, (at + 1,), np.ones(3)), IndexingError, "out of bounds")
    yield BadCall((x, (at,), np.ones(2)), ShapeError, "shape")


def is_position(t: Tensor) -> bool:
    """Whether an index is one integer."""
    return not t.ndim and t.dtype is not dtypes.bool_


@composite(samples=_index_put_samples, errors=_index_put_errors, inplace=True)
def index_put(input: Tensor, indices: tuple, values, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `values` written (or added) at ``input[indices]``."""
    x = tensor_of("index_put", input)
    values = tensor_of("index_put", values, 2)
    if values.dtype is not x.dtype:
        raise ArgumentError(
            "index_put: Index put requires the source and destination dtypes match, got "
            f"{x.dtype!r} for the destination and {values.dtype!r} for the source"
        )
    # A 0-d index would select: as a vector it says where, and all of the input is kept.
    at = [i.reshape(1) if isinstance(i, Tensor) and is_position(i) else i for i in indices]
    view, advanced = _basic(x, _parts(tuple(at), x.ndim))
    if not advanced:
        raise IndexingError("index_put: at least one index tensor is required")
    dims, found = _indices(advanced)
    moved, at = _front(view, dims)
    shape = INDEX.infer((node_of(moved), *map(node_of, found)), at)[0]
    new = index_put_of(moved, _fitted(values, shape), found, at, accumulate)
    if moved is view:
        return new
    rest = [k for k in range(x.ndim) if k not in dims]
    order = [*dims, *rest]
    return permute(new, *[order.index(k) for k in range(x.ndim)])


@method("__iter__")
def _iterate(self: Tensor):
    """The slices along the first dimension, as views."""
    if not self.ndim:
        raise TypeError("iteration over a 0-d tensor; use .item(), or reshape it to (1,)")
    return iter(unbind(self, 0))


@method("__contains__")
def _contains(self: Tensor, element) -> bool:
    """Whether an element equals the number or (broadcast) tensor."""
    if not isinstance(element, (Tensor, np.ndarray, np.generic, *NUMBERS)):
        raise ArgumentError(
            f"__contains__: only Tensors, arrays and numbers are supported, got {type(element).__name__}"
        )
    found = self == element
    node = node_of(found)
    late.evaluate([node])
    return bool(node.value.any())
