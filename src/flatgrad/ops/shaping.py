"""Copies that rearrange or repeat elements: flips, rolls, triangles, diagonals, repetition."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, IndexingError, ShapeError
from ..graph.node import const
from ..graph.op import BadCall, Sample
from ..graph.shapes import addressable, normal_dim, normal_dims, numel
from ..tensor import ALIAS, Tensor, node_of, record, wrap
from .creation import iota
from .declare import composite, tensor_of
from .joining import reversed_along
from .movement import DIAGONAL, EXPAND, PERMUTE, RESHAPE, dims_argument, rolled, view_scatter
from .views import diagonal_dims, diagonal_offset, index_argument

# -- order ----------------------------------------------------------------------------------------


def _flip_samples(rng):
    yield Sample((rng.normal(size=(2, 3)), (0,)))
    yield Sample((rng.normal(size=(2, 3, 2)), (0, -1)))
    yield Sample((rng.normal(size=(0, 2)), (0,)))
    yield Sample((rng.normal(size=3), ()))


def _flip_errors():
    yield BadCall((np.ones((2, 3)), (0, 0)), ArgumentError, "more than once")
    yield BadCall((np.ones((2, 3)), (2,)), IndexingError, "out of range")


@composite(samples=_flip_samples, errors=_flip_errors, numpy=(np.flip,))
def flip(input: Tensor, *axes, dims=None) -> Tensor:
    """The elements in reversed order along `dims`."""
    t = tensor_of("flip", input)
    if axes and dims is not None:
        raise ArgumentError("flip: dims was given twice, by position and by name; give it once")
    dims = dims_argument("flip", axes if dims is None else (dims,))
    return reversed_along(t, normal_dims("flip", dims, t.ndim) if dims else ())


def _flipper(name: str, dim: int, text: str):
    def function(input: Tensor) -> Tensor:
        t = tensor_of(name, input)
        if t.ndim <= dim:
            raise ShapeError(f"{name}: at least {dim + 1} dimension(s) are required, got {t.ndim}")
        return reversed_along(t, (dim,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    composite(
        numpy=(getattr(np, name),),
        samples=lambda rng: [Sample((rng.normal(size=(2, 3)),))],
        errors=lambda: [BadCall((np.ones(()),), ShapeError, "dimension")],
    )(function)
    return function


fliplr = _flipper("fliplr", 1, "Columns in reversed order.")
flipud = _flipper("flipud", 0, "Rows in reversed order.")


def _roll_samples(rng):
    yield Sample((rng.normal(size=5), 2))
    yield Sample((rng.normal(size=(2, 3)), -1))
    yield Sample((rng.normal(size=(2, 3)), (1, -4), (0, 1)))
    yield Sample((rng.normal(size=(2, 3)), (1, 1), (1, 1)))
    yield Sample((rng.normal(size=(0, 3)), 1, 0))


def _roll_errors():
    yield BadCall((np.ones((2, 3)), (1, 2), (0,)), ArgumentError, "must align")
    yield BadCall((np.ones((2, 3)), (1, 2)), ArgumentError, "must align")
    yield BadCall((np.ones((2, 3)), 1, 2), IndexingError, "out of range")


@composite(samples=_roll_samples, errors=_roll_errors, numpy=(np.roll,))
def roll(input: Tensor, shifts, dims=None) -> Tensor:
    """The elements turned by `shifts` along `dims`; without `dims`, along the flattened tensor."""
    t = tensor_of("roll", input)
    shape = node_of(t).shape
    shifts = dims_argument("roll", (shifts,))
    dims = () if dims is None else dims_argument("roll", (dims,))
    if not dims and len(shifts) == 1:
        flat = rolled(record(RESHAPE, (t,), ((numel(shape),),)), shifts)
        return record(RESHAPE, (flat,), (shape,))
    if len(shifts) != len(dims) or not shifts:
        raise ArgumentError(
            f"roll: shifts and dims must align, got shifts {shifts} and dims {dims}"
        )
    total = [0] * max(t.ndim, 1)
    for shift, dim in zip(shifts, dims, strict=True):
        total[normal_dim("roll", dim, t.ndim)] += shift
    return rolled(t, tuple(total[: t.ndim]))


def _rot90_samples(rng):
    for k in (0, 1, 2, 3, -1, 5):
        yield Sample((rng.normal(size=(2, 3)), k))
    yield Sample((rng.normal(size=(2, 3, 2)), 1, (2, 0)))


def _rot90_errors():
    yield BadCall((np.ones((2, 3)), 1, (0, 0)), ArgumentError, "must differ")
    yield BadCall((np.ones((2, 3)), 1, (0,)), ArgumentError, "2 dims")
    yield BadCall((np.ones(3),), ShapeError, "at least 2")


@composite(samples=_rot90_samples, errors=_rot90_errors, numpy=(np.rot90,))
def rot90(input: Tensor, k: int = 1, dims=(0, 1)) -> Tensor:
    """`k` quarter turns in the plane of `dims`, from the first towards the second."""
    t = tensor_of("rot90", input)
    if len(dims) != 2:
        raise ArgumentError(f"rot90: 2 dims are required, got {tuple(dims)}")
    if t.ndim < 2:
        raise ShapeError(f"rot90: at least 2 dimensions are required, got {t.ndim}")
    first, second = diagonal_dims("rot90", t.ndim, *dims)
    k %= 4
    if k == 0:
        return record(ALIAS, (t,))
    if k == 2:
        return reversed_along(t, (first, second))
    order = list(range(t.ndim))
    order[first], order[second] = second, first
    if k == 1:
        return record(PERMUTE, (reversed_along(t, (second,)),), (tuple(order),))
    return reversed_along(record(PERMUTE, (t,), (tuple(order),)), (second,))


# -- triangles and diagonals ----------------------------------------------------------------------


def _triangle_samples(rng):
    yield Sample((rng.normal(size=(3, 4)),))
    yield Sample((rng.normal(size=(3, 4)), 1))
    yield Sample((rng.normal(size=(2, 3, 3)), -1))
    yield Sample((rng.normal(size=(0, 3)),))


def _triangle(name: str, lower: bool, text: str):
    def function(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
        from .logic import ge, le
        from .scalars import written
        from .selection import select

        t = tensor_of(name, input)
        if t.ndim < 2:
            raise ShapeError(f"{name}: input tensor must have at least 2 dimensions, got {t.ndim}")
        shape = node_of(t).shape[-2:]
        offset = index_argument(name, diagonal, "diagonal")
        beyond = iota(shape, 1) - iota(shape, 0)
        kept = le(beyond, offset) if lower else ge(beyond, offset)
        return written(name, select(kept, t, wrap(const(0, t.dtype))), out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    composite(
        numpy=(getattr(np, name),),
        samples=_triangle_samples,
        errors=lambda: [BadCall((np.ones(3),), ShapeError, "at least 2 dimensions")],
        inplace=True,
    )(function)
    return function


tril = _triangle(
    "tril", True, "The lower triangle, up to `diagonal` above the main one; zeros elsewhere."
)
triu = _triangle(
    "triu", False, "The upper triangle, from `diagonal` above the main one; zeros elsewhere."
)


def _diag_embed_samples(rng):
    yield Sample((rng.normal(size=3),))
    yield Sample((rng.normal(size=(2, 3)), 1))
    yield Sample((rng.normal(size=(2, 3)), -2, 0, 2))


@composite(
    samples=_diag_embed_samples,
    errors=lambda: [BadCall((np.ones(3), 0, 1, 1), ArgumentError, "must differ")],
)
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Zeros with the last dimension of `input` on a diagonal of the new dims `dim1` and `dim2`."""
    t = tensor_of("diag_embed", input)
    if not t.ndim:
        raise ShapeError("diag_embed: a tensor of at least 1 dimension is required, got a 0-d one")
    first, second = diagonal_dims("diag_embed", t.ndim + 1, dim1, dim2)
    shape = list(node_of(t).shape)
    size = shape.pop() + abs(offset)
    for d in sorted((first, second)):
        shape.insert(d, size)
    zeros = wrap(const(0, t.dtype, tuple(shape)))
    return view_scatter(DIAGONAL, zeros, t, (offset, first, second))


def _diag_samples(rng):
    yield Sample((rng.normal(size=3),))
    yield Sample((rng.normal(size=3), -1))
    yield Sample((rng.normal(size=(3, 4)), 1))


@composite(
    samples=_diag_samples,
    errors=lambda: [BadCall((np.ones((2, 2, 2)),), ShapeError, "1 or 2 dimensions")],
    numpy=(np.diag,),
)
def diag(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Of a matrix a diagonal (a copy); of a vector the matrix that has it as a diagonal."""
    from .scalars import written

    t = tensor_of("diag", input)
    if t.ndim == 1:
        return written("diag", diag_embed(t, diagonal), out)
    if t.ndim != 2:
        raise ShapeError(f"diag: a tensor of 1 or 2 dimensions is required, got {t.ndim}")
    offset = diagonal_offset("diag", diagonal, *node_of(t).shape)
    return written("diag", record(DIAGONAL, (t,), (offset, 0, 1)), out)


@composite(
    samples=lambda rng: [Sample((rng.normal(size=s),)) for s in ((2, 2), (), (3,))],
    numpy=(np.diagflat,),
)
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix that has all elements of `input` on a diagonal."""
    t = tensor_of("diagflat", input)
    return diag_embed(record(RESHAPE, (t,), ((numel(node_of(t).shape),),)), offset)


# -- repetition -----------------------------------------------------------------------------------


def _repeat_samples(rng):
    yield Sample((rng.normal(size=(2, 3)), (2, 3)))
    yield Sample((rng.normal(size=3), (2, 1)))
    yield Sample((rng.normal(size=()), (3,)))
    yield Sample((rng.normal(size=(2, 3)), (0, 1)))


def repeated(t: Tensor, counts: tuple) -> Tensor:
    """`t` repeated `counts` times along each dimension; leading dimensions may be new."""
    shape = (1,) * (len(counts) - t.ndim) + node_of(t).shape
    final = addressable("repeat", tuple(c * s for c, s in zip(counts, shape, strict=True)))
    inner = tuple(k for s in shape for k in (1, s))
    outer = tuple(k for c, s in zip(counts, shape, strict=True) for k in (c, s))
    t = record(RESHAPE, (t,), (inner,))
    return record(RESHAPE, (record(EXPAND, (t,), (outer,)),), (final,))


@composite(name="tile", samples=_repeat_samples, numpy=(np.tile,))
def tile(input: Tensor, *dims) -> Tensor:
    """The tensor repeated along each dimension; missing leading counts are 1."""
    t = tensor_of("tile", input)
    counts = dims_argument("tile", dims)
    _check_counts("tile", counts)
    return repeated(t, (1,) * (t.ndim - len(counts)) + counts)


def _check_counts(name: str, counts) -> None:
    if any(c < 0 for c in counts):
        raise ArgumentError(f"{name}: counts must not be negative, got {tuple(counts)}")


def repeat(self: Tensor, *sizes) -> Tensor:
    """The tensor repeated `sizes` times along each dimension (at least one count a dimension).

    Raises
    ------
    ShapeError, ArgumentError
        For too few counts, or negative ones.
    """
    counts = dims_argument("repeat", sizes)
    _check_counts("repeat", counts)
    if len(counts) < self.ndim:
        raise ShapeError(
            f"repeat: number of dimensions of repeat dims can not be smaller than number of dimensions "
            f"of tensor: got {counts} for shape {tuple(self.shape)}; use tile"
        )
    return repeated(self, counts)


Tensor.repeat = repeat


def _interleave_samples(rng):
    yield Sample((rng.normal(size=(2, 3)), 2))
    yield Sample((rng.normal(size=(2, 3)), 2, 1))
    yield Sample((rng.normal(size=(2, 3)), np.array([1, 2]), 0))
    yield Sample((rng.normal(size=3), np.array([0, 2, 1])))


def _interleave_errors():
    yield BadCall((np.ones(3), np.array([1, 2])), ShapeError, "same size")
    yield BadCall((np.ones(3), np.array([1.0, 2, 3])), ArgumentError, "int")
    yield BadCall((np.ones(3), -1), ArgumentError, "negative")


@composite(samples=_interleave_samples, errors=_interleave_errors, numpy=(np.repeat,))
def repeat_interleave(
    input: Tensor, repeats, dim: int | None = None, *, output_size=None
) -> Tensor:
    """Each element repeated along `dim` (default: of the flattened tensor), `repeats` times or each its own.

    A tensor of `repeats` is evaluated at the call: it decides the shape.
    """
    from .indexing import known_indices, take_along

    t = tensor_of("repeat_interleave", input)
    if dim is None:
        t, dim = record(RESHAPE, (t,), ((numel(node_of(t).shape),),)), 0
    dim = normal_dim("repeat_interleave", dim, t.ndim)
    if not t.ndim:
        t = record(RESHAPE, (t,), ((1,),))
    shape = node_of(t).shape
    if isinstance(repeats, (Tensor, np.ndarray, list, tuple)):
        counts = known_indices("repeat_interleave", repeats, "repeats")
    else:
        counts = np.asarray(index_argument("repeat_interleave", repeats, "repeats"))
    _check_counts("repeat_interleave", counts.reshape(-1).tolist())
    if counts.size == 1:
        count = int(counts.reshape(-1)[0])
        wide = (*shape[: dim + 1], count, *shape[dim + 1 :])
        final = (*shape[:dim], shape[dim] * count, *shape[dim + 1 :])
        addressable("repeat_interleave", final)
        one = record(RESHAPE, (t,), ((*shape[: dim + 1], 1, *shape[dim + 1 :]),))
        return record(RESHAPE, (record(EXPAND, (one,), (wide,)),), (final,))
    if counts.shape != (shape[dim],):
        raise ShapeError(
            f"repeat_interleave: repeats must have the same size as input along dim {dim}, got "
            f"{counts.shape} and {shape[dim]}"
        )
    return take_along(t, dim, np.repeat(np.arange(shape[dim]), counts))
