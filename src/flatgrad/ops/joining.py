"""Joining, cutting and padding: ``cat`` and ``pad`` are primitives, all else is made of them.

CAT has kind "cat": attrs ``(dim,)``, inputs of one dtype. PAD has kind "pad": attrs ``(low, high, fill)``,
how many elements of the number `fill` (an ``Exact``) stand before and after those of each dimension.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, IndexingError, ShapeError
from ..graph.dtypes import promote_types
from ..graph.node import UNIT, const
from ..graph.op import BadCall, Exact, Sample
from ..graph.shapes import normal_dim
from ..tensor import ALIAS, Tensor, node_of, record, several, wrap
from .declare import alias, cast, composite, linear, primitive, tensor_of
from .movement import SLICE, dims_argument, part_of, reshape
from .scalars import written
from .views import index_argument, part, unsqueeze

# -- cat ------------------------------------------------------------------------------------------


def _cat_infer(nodes, dim):
    shape = nodes[0].shape
    total = sum(n.shape[dim] for n in nodes)
    return (*shape[:dim], total, *shape[dim + 1 :]), nodes[0].dtype


def _cut(t: Tensor, dim: int, start: int, size: int) -> Tensor:
    shape = list(node_of(t).shape)
    starts = [0] * len(shape)
    starts[dim], shape[dim] = start, size
    return record(SLICE, (t,), (tuple(starts), (1,) * len(shape), tuple(shape)))


def _cat_pullback(g, out, inputs, dim):
    found, start = [], 0
    for x in inputs:
        size = x._node.shape[dim]
        part = None
        if x._node.requires_grad:
            starts = tuple([start if k == dim else 0 for k in range(len(x._node.shape))])
            part = part_of(g, starts, (1,) * len(starts), x._node.shape)
        found.append(part)
        start += size
    return tuple(found)


def _cat_pushforward(ts, out, inputs, dim):
    from .creation import zeros_of

    parts = [zeros_of(x._node) if t is None else t for t, x in zip(ts, inputs, strict=True)]
    return record(CAT, tuple(parts), (dim,))


CAT = primitive(
    "cat",
    "cat",
    -1,
    ("dim",),
    infer=_cat_infer,
    numpy=lambda arrays, dim: np.concatenate(arrays, dim),
    pullback=_cat_pullback,
    pushforward=_cat_pushforward,
    doc="Tensors one after the other along a dimension.",
)


def tensors_argument(name: str, tensors) -> list[Tensor]:
    """A non-empty sequence of tensors, in their common dtype.

    Raises
    ------
    ArgumentError
        If it is none.
    """
    if not isinstance(tensors, (tuple, list, Tensor)):
        raise ArgumentError(
            f"{name}: a tuple or list of tensors is required, got {type(tensors).__name__}"
        )
    parts = [tensor_of(name, x, k) for k, x in enumerate(tensors)]
    if not parts:
        raise ArgumentError(f"{name}: expected a non-empty list of Tensors; give at least one")
    dtype = parts[0].dtype
    for x in parts[1:]:
        dtype = promote_types(dtype, x.dtype)
    return [cast(x, dtype) for x in parts]


def _cat_samples(rng):
    def x(*shape):
        return rng.normal(size=shape)

    yield Sample(((x(2, 3), x(4, 3)),))
    yield Sample(((x(2, 3), x(2, 1), x(2, 0)),), {"dim": -1})
    yield Sample(((x(3),),))
    yield Sample(((x(2, 3), x(0)),), {"dim": 1})


def _cat_errors():
    a = np.ones((2, 3))
    yield BadCall(((a, np.ones((2, 4))),), ShapeError, "must match except in dim 0")
    yield BadCall(((a, np.ones(3)),), ShapeError, "same number of dimensions")
    yield BadCall(((np.ones(()), np.ones(())),), ShapeError, "0-d")
    yield BadCall(((),), ArgumentError, "non-empty list")
    yield BadCall(((a, a), 2), IndexingError, "out of range")
    yield BadCall((3,), ArgumentError, "tuple or list of tensors")


@composite(op=CAT, methods=(), samples=_cat_samples, errors=_cat_errors, numpy=(np.concatenate,))
def cat(tensors, dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The tensors one after the other along `dim`, in their common dtype.

    Their other sizes must agree; a 1-d tensor of no elements fits everywhere, as in PyTorch.
    """
    parts = tensors_argument("cat", tensors)
    for k, x in enumerate(parts):
        if not x.ndim:
            raise ShapeError(f"cat: tensor {k} is 0-d and cannot be concatenated; use stack")
    whole = [x for x in parts if node_of(x).shape != (0,)] or parts[:1]
    first = node_of(whole[0]).shape
    dim = normal_dim("cat", dim, len(first))
    for k, x in enumerate(whole):
        shape = node_of(x).shape
        if len(shape) != len(first):
            raise ShapeError(
                f"cat: tensors must have the same number of dimensions, got {first} and {shape}"
            )
        if any(a != b for j, (a, b) in enumerate(zip(first, shape, strict=True)) if j != dim):
            raise ShapeError(
                f"cat: sizes of tensors must match except in dim {dim}, got {first} and {shape} "
                f"for tensor {k}"
            )
    return written("cat", record(CAT, tuple(whole), (dim,)), out)


alias("cat", "concat", "concatenate")


def _stack_samples(rng):
    for shape, dim in (((2, 3), 0), ((2, 3), -1), ((), 0), ((2, 0), 1)):
        yield Sample(((rng.normal(size=shape), rng.normal(size=shape)),), {"dim": dim})


def _stack_errors():
    yield BadCall(((np.ones(2), np.ones(3)),), ShapeError, "equal size")
    yield BadCall(((),), ArgumentError, "non-empty")
    yield BadCall(((np.ones(2),), 2), IndexingError, "out of range")


@composite(methods=(), samples=_stack_samples, errors=_stack_errors, numpy=(np.stack,))
def stack(tensors, dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The tensors, of one shape, along a new dimension at `dim`."""
    parts = tensors_argument("stack", tensors)
    shape = node_of(parts[0]).shape
    for k, x in enumerate(parts):
        if node_of(x).shape != shape:
            raise ShapeError(
                f"stack: stack expects each tensor to be equal size, but got {shape} at entry 0 and "
                f"{node_of(x).shape} at entry {k}"
            )
    dim = normal_dim("stack", dim, len(shape), extra=1)
    return cat([unsqueeze(x, dim) for x in parts], dim, out=out)


def _with_rank(t: Tensor, rank: int) -> Tensor:
    """PyTorch's atleast_1d, 2d and 3d of one tensor."""
    shape = node_of(t).shape
    if len(shape) >= rank:
        return t
    if rank == 3 and len(shape) == 2:
        return reshape(t, (*shape, 1))
    if rank == 3 and len(shape) == 1:
        return reshape(t, (1, *shape, 1))
    return reshape(t, (1,) * (rank - len(shape)) + shape)


def _atleast(rank: int):
    def function(*tensors):
        if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
            return _with_rank(tensor_of(function.__name__, tensors[0]), rank)
        if len(tensors) == 1:
            tensors = tensors[0]
        return tuple(_with_rank(tensor_of(function.__name__, x), rank) for x in tensors)

    function.__name__ = function.__qualname__ = f"atleast_{rank}d"
    function.__doc__ = f"The tensor (or each of several) with at least {rank} dimensions. Views."
    samples = [(), (2,), (2, 3), (2, 1, 3)]
    composite(
        methods=(),
        numpy=(getattr(np, function.__name__),),
        samples=lambda rng: [Sample((rng.normal(size=s),)) for s in samples],
    )(function)
    return function


atleast_1d, atleast_2d, atleast_3d = _atleast(1), _atleast(2), _atleast(3)


def _joiner(name: str, rank: int, dim_of, text: str):
    def function(tensors, *, out: Tensor | None = None) -> Tensor:
        parts = [_with_rank(x, rank) for x in tensors_argument(name, tensors)]
        return cat(parts, dim_of(parts[0].ndim), out=out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    shapes = [(), (2,), (2, 3), (2, 3, 2)]
    composite(
        methods=(),
        numpy=(getattr(np, name),),
        samples=lambda rng: [Sample(((rng.normal(size=s), rng.normal(size=s)),)) for s in shapes],
        errors=lambda: [BadCall(((),), ArgumentError, "non-empty")],
    )(function)
    return function


hstack = _joiner(
    "hstack", 1, lambda rank: min(rank - 1, 1), "Joined along columns (1-d: elements)."
)
vstack = _joiner("vstack", 2, lambda rank: 0, "Joined along rows.")
dstack = _joiner("dstack", 3, lambda rank: 2, "Joined along the third dimension.")
alias("vstack", "row_stack")


def _column_stack_samples(rng):
    yield Sample(((rng.normal(size=3), rng.normal(size=(3, 2))),))
    yield Sample(((rng.normal(size=()), rng.normal(size=())),))


@composite(methods=(), samples=_column_stack_samples, numpy=(np.column_stack,))
def column_stack(tensors, *, out: Tensor | None = None) -> Tensor:
    """Joined along columns; a 1-d tensor is a column."""
    parts = tensors_argument("column_stack", tensors)
    return hstack([reshape(x, (-1, 1)) if x.ndim < 2 else x for x in parts], out=out)


# -- cutting --------------------------------------------------------------------------------------


def _along(name: str, tensor, dim) -> tuple[Tensor, int, int]:
    t = tensor_of(name, tensor)
    if not t.ndim:
        raise ShapeError(f"{name}: a tensor of at least 1 dimension is required, got a 0-d one")
    dim = normal_dim(name, dim, t.ndim)
    return t, dim, node_of(t).shape[dim]


def _split_samples(rng):
    yield Sample((rng.normal(size=(5, 2)), 2))
    yield Sample((rng.normal(size=(2, 5)), (1, 0, 4)), {"dim": -1})
    yield Sample((rng.normal(size=4), 4))


def _split_errors():
    x = np.ones(5)
    yield BadCall((x, (2, 2)), ShapeError, "sum exactly to 5")
    yield BadCall((x, -1), ArgumentError, "must not be negative")
    yield BadCall((x, 0), ArgumentError, "0")
    yield BadCall((x, (6, -1)), ArgumentError, "must not be negative")
    yield BadCall((np.ones(()), 1), ShapeError, "at least 1 dimension")


@composite(samples=_split_samples, errors=_split_errors)
def split(tensor: Tensor, split_size_or_sections, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts along `dim`: of a size (the last may be smaller), or of the sizes listed. Views."""
    t, dim, size = _along("split", tensor, dim)
    sizes = split_size_or_sections
    if not isinstance(sizes, (tuple, list)):
        each = index_argument("split", sizes, "split_size")
        if each < 0:
            raise ArgumentError(f"split: split_size must not be negative, got {each}")
        if each == 0 and size:
            raise ArgumentError(
                f"split: split_size can only be 0 if dimension size is 0, but got dimension size {size}"
            )
        count = max(-(-size // each), 1) if each else 1
        sizes = [min(each, size - k * each) for k in range(count)] if each else [0]
    sizes = [index_argument("split", s, "a size") for s in sizes]
    if any(s < 0 for s in sizes):
        raise ArgumentError(f"split: sizes must not be negative, got {tuple(sizes)}")
    if sum(sizes) != size:
        raise ShapeError(
            f"split: sizes must sum exactly to {size}, the input's size at dim {dim}; "
            f"{tuple(sizes)} sum to {sum(sizes)}"
        )
    return several("split", _cut_at(t, dim, sizes))


def _cut_at(t: Tensor, dim: int, sizes) -> tuple[Tensor, ...]:
    parts, start = [], 0
    for s in sizes:
        parts.append(part(t, dim, start, s))
        start += s
    return tuple(parts)


def split_with_sizes(self: Tensor, split_sizes, dim: int = 0) -> tuple[Tensor, ...]:
    """``split`` with a list of sizes."""
    return split(self, tuple(split_sizes), dim)


Tensor.split_with_sizes = split_with_sizes


@composite(
    samples=lambda rng: [
        Sample((rng.normal(size=(5, 2)), 2)),
        Sample((rng.normal(size=(2, 5)), 4, -1)),
        Sample((rng.normal(size=(0, 2)), 3)),
    ],
    errors=lambda: [BadCall((np.ones(3), 0), ArgumentError, "greater than 0")],
)
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size along `dim` (the last may be smaller). Views."""
    t, dim, size = _along("chunk", input, dim)
    if index_argument("chunk", chunks, "chunks") <= 0:
        raise ArgumentError(f"chunk: `chunks` must be greater than 0, got {chunks}")
    each = -(-size // chunks)
    if not each:
        return several("chunk", tuple(part(t, dim, 0, 0) for _ in range(chunks)))
    return split(t, each, dim)


def _tensor_split_samples(rng):
    yield Sample((rng.normal(size=7), 3))
    yield Sample((rng.normal(size=(2, 7)), (1, 4), -1))
    yield Sample((rng.normal(size=3), (-2, 9)))


def _tensor_split_errors():
    yield BadCall((np.ones(3), 0), ArgumentError, "larger than 0")
    yield BadCall((np.ones(()), 1), ShapeError, "at least 1 dimension")


@composite(samples=_tensor_split_samples, errors=_tensor_split_errors, numpy=(np.array_split,))
def tensor_split(input: Tensor, indices_or_sections, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts along `dim`: so many of nearly equal size, or cut before each of the indices. Views."""
    t, dim, size = _along("tensor_split", input, dim)
    cuts = indices_or_sections
    if isinstance(cuts, (Tensor, np.ndarray)):
        cuts = cuts.tolist()
    if isinstance(cuts, (tuple, list)):
        ends = [slice(0, index_argument("tensor_split", c)).indices(size)[1] for c in cuts]
        starts = [0, *ends]
        pairs = zip(starts, [*ends, size], strict=True)
        return tuple(part(t, dim, a, max(b - a, 0)) for a, b in pairs)
    count = index_argument("tensor_split", cuts, "sections")
    if count <= 0:
        raise ArgumentError(f"tensor_split: number of sections must be larger than 0, got {count}")
    each, more = divmod(size, count)
    return _cut_at(t, dim, [each + (k < more) for k in range(count)])


def _cutter(name: str, least: int, dim_of, text: str):
    def function(input: Tensor, indices_or_sections) -> tuple[Tensor, ...]:
        t = tensor_of(name, input)
        if t.ndim < least:
            raise ShapeError(
                f"{name}: a tensor with at least {least} dimension(s) is required, got {t.ndim}"
            )
        dim = dim_of(t.ndim)
        count, size = indices_or_sections, node_of(t).shape[dim]
        if isinstance(count, int) and (count <= 0 or size % count):
            raise ArgumentError(
                f"{name}: attempted to split along dimension {dim}, but the size {size} is not "
                f"divisible by {count}; use tensor_split for unequal parts"
            )
        return tensor_split(t, indices_or_sections, dim)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    shape = (2, 4, 6)
    composite(
        numpy=(getattr(np, name),),
        samples=lambda rng: [
            Sample((rng.normal(size=shape), 2)),
            Sample((rng.normal(size=shape), (1, 2))),
        ],
        errors=lambda: [
            BadCall((np.ones(()), 1), ShapeError, "at least"),
            BadCall((np.ones(shape), 5), ArgumentError, "not divisible"),
        ],
    )(function)
    return function


hsplit = _cutter("hsplit", 1, lambda rank: min(rank - 1, 1), "Parts along columns (1-d: elements).")
vsplit = _cutter("vsplit", 2, lambda rank: 0, "Parts along rows.")
dsplit = _cutter("dsplit", 3, lambda rank: 2, "Parts along the third dimension.")


# -- pad ------------------------------------------------------------------------------------------


def _padded_shape(shape, low, high):
    return tuple(s + a + b for s, a, b in zip(shape, low, high, strict=True))


def _pad_numpy(x, low, high, fill):
    out = np.full(_padded_shape(x.shape, low, high), fill.number, x.dtype)
    out[tuple(slice(a, a + s) for a, s in zip(low, x.shape, strict=True))] = x
    return out


def _inner(g: Tensor, x: Tensor, low: tuple) -> Tensor:
    shape = x._node.shape
    return record(SLICE, (g,), (low, (1,) * len(shape), shape))


PAD = primitive(
    "constant_pad",
    "pad",
    1,
    ("low", "high", "fill"),
    infer=lambda x, low, high, fill: (_padded_shape(x.shape, low, high), x.dtype),
    numpy=_pad_numpy,
    pullback=lambda g, out, x, low, high, fill: (_inner(g, x, low),),
    pushforward=lambda ts, out, x, low, high, fill: linear(
        ts, lambda t: record(PAD, (t,), (low, high, Exact(0)))
    ),
    doc="`low` elements of the number `fill` before and `high` after those of each dimension.",
)


def unit(shape: tuple, at: tuple, dtype) -> Tensor:
    """1 at one place and 0 elsewhere: what reads another part of it (`part_of`) knows that this is zero."""
    one = wrap(const(1, dtype, (1,) * len(shape)))
    if all(s == 1 for s in shape):
        return one
    after = tuple([s - 1 - k for s, k in zip(shape, at, strict=True)])
    made = record(PAD, (one,), (at, after, Exact(0)))
    made._node.mark |= UNIT
    return made


def _pad_samples(rng):
    yield Sample((rng.normal(size=(2, 3)), (1, 2)))
    yield Sample((rng.normal(size=(2, 3)), (1, 0, 2, 1)), {"value": 0.5})
    yield Sample((rng.normal(size=(2, 4)), (-1, 2)))
    yield Sample((rng.normal(size=(2, 4)), (2, 3)), {"mode": "reflect"})
    yield Sample((rng.normal(size=(1, 2, 4, 3)), (1, 2, 3, 0)), {"mode": "reflect"})
    yield Sample((rng.normal(size=(2, 4)), (2, 5)), {"mode": "replicate"})
    yield Sample((rng.normal(size=(1, 2, 4)), (3, 1)), {"mode": "circular"})


def _pad_errors():
    x = np.ones((2, 3))
    yield BadCall((x, (1,)), ArgumentError, "even")
    yield BadCall((x, (1, 1, 1, 1, 1, 1)), ShapeError, "no more than twice")
    yield BadCall((x, (1, 1), "mirror"), ArgumentError, "mode")
    yield BadCall((x, (3, 0), "reflect"), ShapeError, "less than")
    yield BadCall((x, (4, 0), "circular"), ShapeError, "more than once")
    yield BadCall((x, (-2, -2)), ShapeError, "negative")


@composite(
    op=PAD, methods=(), samples=_pad_samples, errors=_pad_errors, torch="nn.functional.pad"
)  # fmt: skip
def pad(input: Tensor, pad, mode: str = "constant", value=None) -> Tensor:
    """Padding at the ends of the last dimensions.

    Parameters
    ----------
    input : Tensor
    pad : tuple of int
        ``(low, high)`` of the last dimension, then of the one before, ...; negative ones crop.
    mode : str
        ``constant``, ``reflect`` (without the edge), ``replicate`` (the edge) or ``circular``.
    value : number, optional
        What to pad with in mode ``constant``; default 0.

    Raises
    ------
    ArgumentError, ShapeError
        For a wrong number of sizes, an unknown mode, or a padding that the mode has no elements for.
    """
    t = tensor_of("pad", input)
    sizes = dims_argument("pad", (pad,))
    if len(sizes) % 2:
        raise ArgumentError(f"pad: the number of sizes must be even (pairs), got {sizes}")
    if len(sizes) > 2 * t.ndim:
        raise ShapeError(
            f"pad: the number of sizes must be no more than twice the {t.ndim} dimensions, got {sizes}"
        )
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ArgumentError(
            f"pad: mode must be constant, reflect, replicate or circular, got {mode!r}"
        )
    if value is not None and mode != "constant" and value != 0:
        raise ArgumentError(
            f"pad: padding mode {mode!r} doesn't take in value argument, got {value}"
        )
    low, high = [0] * t.ndim, [0] * t.ndim
    for k in range(len(sizes) // 2):
        low[-1 - k], high[-1 - k] = sizes[2 * k], sizes[2 * k + 1]
    t = _cropped(t, low, high)
    low, high = [max(k, 0) for k in low], [max(k, 0) for k in high]
    if not any(low) and not any(high):
        return record(ALIAS, (t,))
    if mode == "constant":
        fill = t.dtype.np.type(0 if value is None else value).item()
        return record(PAD, (t,), (tuple(low), tuple(high), Exact(fill)))
    for dim in range(t.ndim):
        if low[dim] or high[dim]:
            t = _extended(t, dim, low[dim], high[dim], mode)
    return t


def _cropped(t: Tensor, low, high) -> Tensor:
    shape = node_of(t).shape
    for dim, (a, b) in enumerate(zip(low, high, strict=True)):
        if shape[dim] + a + b < 0:
            raise ShapeError(
                f"pad: the padding ({a}, {b}) of dim {dim} gives a negative output size; its size is "
                f"{shape[dim]}"
            )
        if a < 0 or b < 0:
            t = _cut(t, dim, max(-a, 0), max(shape[dim] + min(a, 0) + min(b, 0), 0))
    return t


def _extended(t: Tensor, dim: int, low: int, high: int, mode: str) -> Tensor:
    """Padding along one dimension by elements of the tensor itself."""
    size = node_of(t).shape[dim]
    if mode == "reflect" and max(low, high) >= size:
        raise ShapeError(
            f"pad: in mode reflect the padding must be less than the corresponding dimension, got "
            f"({low}, {high}) at dim {dim} of size {size}"
        )
    if mode == "circular" and max(low, high) > size:
        raise ShapeError(
            f"pad: in mode circular the padding would wrap around more than once, got ({low}, {high}) "
            f"at dim {dim} of size {size}"
        )
    if mode == "replicate" and not size:
        raise ShapeError(f"pad: mode replicate needs an edge, dim {dim} has size 0")
    return cat([*_before(t, dim, low, size, mode), t, *_after(t, dim, high, size, mode)], dim)


def _before(t: Tensor, dim: int, count: int, size: int, mode: str) -> list[Tensor]:
    if mode == "replicate":
        return [_cut(t, dim, 0, 1)] * count
    if mode == "circular":
        return [_cut(t, dim, size - count, count)]
    return [reversed_along(_cut(t, dim, 1, count), (dim,))]


def _after(t: Tensor, dim: int, count: int, size: int, mode: str) -> list[Tensor]:
    if mode == "replicate":
        return [_cut(t, dim, size - 1, 1)] * count
    if mode == "circular":
        return [_cut(t, dim, 0, count)]
    return [reversed_along(_cut(t, dim, size - 1 - count, count), (dim,))]


def reversed_along(t: Tensor, dims) -> Tensor:
    """`t` in reversed order along `dims`: a copy."""
    shape = node_of(t).shape
    starts = tuple(max(s - 1, 0) if k in dims else 0 for k, s in enumerate(shape))
    steps = tuple(-1 if k in dims else 1 for k in range(len(shape)))
    return record(SLICE, (t,), (starts, steps, shape))
