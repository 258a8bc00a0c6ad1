"""Reading and writing by index tensors: four primitives. Subscripts are in ``subscript``.

Index inputs are int64; a negative index counts from the end, one out of range is an IndexingError
when the values are known: at the call if they are, else at evaluation.

INDEX, kind "gather": inputs ``(x, i1, ..., ik)``, attrs ``(dims,)``: k consecutive dims of `x`,
ascending. The index tensors have one common shape B, which takes the place of `dims` in the result:
``out[a, b, c] = x[a, i1[b], ..., ik[b], c]`` with multi-indices a, b, c.

INDEX_PUT, kind "scatter": inputs ``(base, source, i1, ..., ik)``, attrs ``(dims, accumulate)``.
`source` has the shape that INDEX gives. The base, with ``out[a, i1[b], ..., ik[b], c] =
source[a, b, c]`` (``+=`` if `accumulate`) done for each b in row-major order: the last write wins.

GATHER, kind "gather": inputs ``(x, index)``, attrs ``(dim,)``. Of the index's shape and x's rank:
``out[a, j, c] = x[a, index[a, j, c], c]`` where j runs along `dim`. In the other dimensions the index
may be smaller than `x`.

SCATTER, kind "scatter": inputs ``(base, source, index)``, attrs ``(dim, reduce)``; source and index
have one shape. The base, with ``out[a, index[a, j, c], c] = source[a, j, c]`` in row-major order;
`reduce` is "set", or "add", "prod", "amax", "amin", which combine with what is there (the extremes
propagate NaN).
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, IndexingError, ShapeError
from ..graph import dtypes
from ..graph.node import const, leaf
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast, normal_dim, numel
from ..tensor import Tensor, late, node_of, record, wrap
from .creation import zeros_of
from .declare import NUMBERS, cast, composite, linear, primitive, tensor_of
from .movement import SLICE, expand, reshape
from .scalars import written

# -- index values ---------------------------------------------------------------------------------


def check_range(
    name: str, index: np.ndarray, dim: int, size: int, least: int | None = None
) -> None:
    """Raise for an index that is out of range for a dimension.

    Raises
    ------
    IndexingError
        If one is not in ``[least, size)``; `least` is ``-size`` unless given.
    """
    if not index.size:
        return
    least = -size if least is None else least
    low, high = index.min(), index.max()
    if low < least or high >= size:
        bad = low if low < least else high
        raise IndexingError(
            f"{name}: index {bad} is out of bounds for dimension {dim} with size {size}; it must be "
            f"in [{least}, {size - 1}]"
        )


def index_tensor(name: str, index, dim: int, size: int, *, negative: bool = False) -> Tensor:
    """`index` as an int64 tensor whose values, if they are known, are in range.

    Unless `negative`, indices below 0 are out of range; pending ones become so.

    Raises
    ------
    IndexingError
        For another dtype than int32 and int64, or a known value that is out of range.
    """
    from .logic import lt
    from .selection import select

    t = tensor_of(name, index)
    if t.dtype not in (dtypes.int64, dtypes.int32):
        raise IndexingError(
            f"{name}: Expected dtype int32/int64 for index, got {t.dtype!r}; convert it with .long()"
        )
    node = node_of(t)
    if node.value is not None:
        check_range(name, node.value, dim, size, None if negative else 0)
    t = cast(t, dtypes.int64)
    if node.value is None and not negative:
        t = select(lt(t, 0), size, t)
    return t


def index_leaf(array: np.ndarray) -> Tensor:
    """A tensor for indices that flatgrad computed."""
    return wrap(leaf(np.ascontiguousarray(array, np.int64), dtypes.int64))


def known_indices(name: str, value, what: str = "index") -> np.ndarray:
    """Integer values, evaluated now because they decide a shape.

    Raises
    ------
    ArgumentError
        For values that are no integers.
    """
    if isinstance(value, (tuple, list)):
        value = np.asarray(value)
    t = tensor_of(name, value)
    if t.dtype.category != dtypes.INTEGER:
        raise ArgumentError(f"{name}: {what} must be integers (int64 or int32), got {t.dtype!r}")
    node = node_of(t)
    late.evaluate([node])
    return node.value


def scalar_value(name: str, x: Tensor, value) -> Tensor:
    """A number or 0-d tensor in the dtype of `x`.

    Raises
    ------
    ShapeError, DTypeError
        If it has dimensions, or if it is of a higher kind than `x`.
    """
    if isinstance(value, (*NUMBERS, np.generic)):
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and x.dtype.category < dtypes.FLOAT:
            raise DTypeError(
                f"{name}: value {value} cannot be converted to {x.dtype!r}; use an int, or convert the "
                "tensor with .to()"
            )
        return wrap(const(value, x.dtype))
    value = tensor_of(name, value)
    if value.ndim:
        raise ShapeError(
            f"{name}: value must be a number or a 0-d tensor, got shape {tuple(value.shape)}"
        )
    if value.dtype.category > x.dtype.category:
        raise DTypeError(f"{name}: value of {value.dtype!r} cannot be converted to {x.dtype!r}")
    return cast(value, x.dtype)


# -- INDEX and INDEX_PUT --------------------------------------------------------------------------


def _key(name: str, shape, dims, indices) -> tuple:
    for d, index in zip(dims, indices, strict=True):
        check_range(name, index, d, shape[d])
    return (slice(None),) * dims[0] + tuple(indices)


def _index_infer(nodes, dims):
    x, shape = nodes[0], nodes[0].shape
    return (*shape[: dims[0]], *nodes[1].shape, *shape[dims[-1] + 1 :]), x.dtype


def _index_numpy(arrays, dims):
    return arrays[0][_key("index", arrays[0].shape, dims, arrays[1:])]


def _index_pullback(g, out, inputs, dims):
    x, *indices = inputs
    return (index_put_of(zeros_of(x._node), g, indices, dims, True), *[None] * len(indices))


INDEX = primitive(
    "index",
    "gather",
    -1,
    ("dims",),
    infer=_index_infer,
    numpy=_index_numpy,
    pullback=_index_pullback,
    pushforward=lambda ts, out, inputs, dims: linear(
        ts, lambda t: record(INDEX, (t, *inputs[1:]), (dims,))
    ),
    loop="index",
    doc="The elements that index tensors name, in place of the dimensions they index.",
)


def _index_put_numpy(arrays, dims, accumulate):
    base, source, *indices = arrays
    key = _key("index_put", base.shape, dims, indices)
    out = base.copy()
    if accumulate:
        np.add.at(out, key, source)
    else:
        out[key] = source
    return out


def _index_put_pullback(g, out, inputs, dims, accumulate):
    base, source, *indices = inputs
    kept = taken = None
    if base._node.requires_grad:
        kept = g if accumulate else index_put_of(g, zeros_of(source._node), indices, dims, False)
    if source._node.requires_grad:
        # PyTorch: of several writes to one element each gets the gradient, not the last alone.
        taken = record(INDEX, (g, *indices), (dims,))
    return (kept, taken, *[None] * len(indices))


def _index_put_pushforward(ts, out, inputs, dims, accumulate):
    pairs = zip(ts[:2], inputs[:2], strict=True)
    base, source = (zeros_of(x._node) if t is None else t for t, x in pairs)
    return index_put_of(base, source, inputs[2:], dims, accumulate)


INDEX_PUT = primitive(
    "index_put",
    "scatter",
    -1,
    ("dims", "accumulate"),
    infer=lambda nodes, dims, accumulate: (nodes[0].shape, nodes[0].dtype),
    numpy=_index_put_numpy,
    pullback=_index_put_pullback,
    pushforward=_index_put_pushforward,
    loop="index_put",
    doc="The base with elements replaced (or added to) at the places that index tensors name.",
)


def index_put_of(base: Tensor, source: Tensor, indices, dims: tuple, accumulate: bool) -> Tensor:
    """`base` with `source` (of INDEX's result shape) written or added at `indices` of `dims`."""
    if type(accumulate) is not bool:
        raise ArgumentError(f"index_put: accumulate must be a bool, got {accumulate!r}")
    return record(INDEX_PUT, (base, source, *indices), (dims, accumulate))


def expanded(t: Tensor, shape: tuple) -> Tensor:
    """`t` expanded to `shape`; itself if it has it."""
    return t if node_of(t).shape == shape else expand(t, *shape)


def take_along(t: Tensor, dim: int, index: np.ndarray) -> Tensor:
    """The elements of `t` at known indices along `dim`, whose place the index's dimensions take."""
    return record(INDEX, (t, index_leaf(index)), ((dim,),))


def put_along(x: Tensor, g: Tensor, dim: int, index: np.ndarray) -> Tensor:
    """The adjoint of ``take_along`` of `x`."""
    return index_put_of(zeros_of(x._node), g, [index_leaf(index)], (dim,), True)


# -- GATHER and SCATTER ---------------------------------------------------------------------------


def _gather_numpy(x, index, dim):
    check_range("gather", index, dim, x.shape[dim])
    part = tuple(slice(None) if k == dim else slice(n) for k, n in enumerate(index.shape))
    return np.take_along_axis(x[part], index, dim)


def _gather_pullback(g, out, x, index, dim):
    return scatter_of(zeros_of(x._node), g, index, dim, "add"), None


GATHER = primitive(
    "gather",
    "gather",
    2,
    ("dim",),
    infer=lambda x, index, dim: (index.shape, x.dtype),
    numpy=_gather_numpy,
    pullback=_gather_pullback,
    pushforward=lambda ts, out, x, index, dim: linear(
        ts, lambda t: record(GATHER, (t, index), (dim,))
    ),
    loop="gather",
    doc="Along one dimension, the element whose index is given, for each element of the index.",
)

_AT = {
    "add": np.add.at,
    "prod": np.multiply.at,
    "amax": np.maximum.at,
    "amin": np.minimum.at,
}


def _scatter_numpy(base, source, index, dim, reduce):
    check_range("scatter", index, dim, base.shape[dim])
    out = base.copy()
    key = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    key[dim] = index
    if reduce == "set":
        out[tuple(key)] = source
    else:
        _AT[reduce](out, tuple(key), source)
    return out


def _scatter_pullback(g, out, base, source, index, dim, reduce):
    kept = taken = None
    wants_base, wants_source = base._node.requires_grad, source._node.requires_grad
    if reduce in ("amax", "amin"):
        return (*_extreme_pullback(g, out, base, source, index, dim), None)
    if reduce == "prod":
        return (*_product_pullback(g, out, base, source, index, dim), None)
    if wants_base:
        kept = g if reduce == "add" else scatter_of(g, zeros_of(source._node), index, dim, "set")
    if wants_source:
        taken = record(GATHER, (g, index), (dim,))
    return kept, taken, None


def _extreme_pullback(g, out, base, source, index, dim):
    # PyTorch: everybody who holds the extreme gets the same share.
    from .logic import eq

    base_holds = cast(eq(base, out), g.dtype)
    source_holds = cast(eq(source, record(GATHER, (out, index), (dim,))), g.dtype)
    share = g / scatter_of(base_holds, source_holds, index, dim, "add")
    return base_holds * share, source_holds * record(GATHER, (share, index), (dim,))


def _product_pullback(g, out, base, source, index, dim):
    # PyTorch: divide the product by the factor; a factor that is the only zero gets the product of
    # the others, which is computed with 1 in its place.
    from .logic import eq, logical_and
    from .selection import select

    zero = eq(base, 0)
    nonzero_base = select(zero, 1.0, base)
    by_base = g * scatter_of(nonzero_base, source, index, dim, "prod") / nonzero_base
    zero = eq(source, 0)
    zeros = scatter_of(zeros_of(base._node), cast(zero, g.dtype), index, dim, "add")
    only = logical_and(zero, eq(record(GATHER, (zeros, index), (dim,)), 1))
    others = scatter_of(base, select(only, 1.0, source), index, dim, "prod")
    alone = record(GATHER, (g * others, index), (dim,))
    divided = record(GATHER, (g * out, index), (dim,)) / select(zero, 1.0, source)
    return by_base, select(only, alone, divided)


SCATTER = primitive(
    "scatter",
    "scatter",
    3,
    ("dim", "reduce"),
    infer=lambda base, source, index, dim, reduce: (base.shape, base.dtype),
    numpy=_scatter_numpy,
    pullback=_scatter_pullback,
    loop="scatter",
    doc="The base with source elements written, or combined, at the given indices along a dimension.",
)


def scatter_of(base: Tensor, source: Tensor, index: Tensor, dim: int, reduce: str) -> Tensor:
    return record(SCATTER, (base, source, index), (dim, reduce))


# -- gather, scatter and their kin ----------------------------------------------------------------


def _operand(name: str, x, index, dim):
    """(x, index) as tensors of one rank, at least 1, with dim from the front and sizes checked."""
    x, index = tensor_of(name, x), tensor_of(name, index, 2)
    dim = normal_dim(name, dim, x.ndim)
    if x.ndim == 0:
        x = reshape(x, (1,))
    if index.ndim == 0:
        index = reshape(index, (1,))
    have, want = node_of(index).shape, node_of(x).shape
    if numel(have) and len(have) != len(want):
        raise ShapeError(
            f"{name}: Index tensor must have the same number of dimensions as input tensor, got "
            f"{have} for {want}"
        )
    return x, index_tensor(name, index, dim, want[dim]), dim


def _check_index_sizes(name: str, index: Tensor, x: Tensor, dim: int) -> None:
    have, want = node_of(index).shape, node_of(x).shape
    if numel(have) and any(
        a > b for k, (a, b) in enumerate(zip(have, want, strict=True)) if k != dim
    ):
        raise ShapeError(
            f"{name}: Size does not match: index of shape {have} must be no larger than {want} apart "
            f"from dimension {dim}"
        )


def _gather_samples(rng):
    x = rng.normal(size=(3, 4))
    yield Sample((x, 0, rng.integers(0, 3, (2, 4))))
    yield Sample((x, 1, rng.integers(0, 4, (2, 6))))
    yield Sample((x, -1, rng.integers(0, 4, (3, 1))))
    yield Sample((rng.normal(size=()), 0, np.array(0)))
    yield Sample((x, 0, np.zeros((0, 4), np.int64)))


def _gather_errors():
    x = np.ones((2, 3))
    yield BadCall((x, 0, np.full((1, 3), 2)), IndexingError, "index 2 is out of bounds")
    yield BadCall((x, 0, np.full((1, 3), -1)), IndexingError, "index -1 is out of bounds")
    yield BadCall((x, 0, np.ones((1, 3))), IndexingError, "Expected dtype int32/int64")
    yield BadCall((x, 0, np.zeros(3, np.int64)), ShapeError, "same number of dimensions")
    yield BadCall((x, 0, np.zeros((1, 4), np.int64)), ShapeError, "no larger than")
    yield BadCall((x, 2, np.zeros((1, 3), np.int64)), IndexingError, "out of range")


@composite(op=GATHER, samples=_gather_samples, errors=_gather_errors)
def gather(input: Tensor, dim: int, index, *, sparse_grad: bool = False, out=None) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` for dim 0, and so on: elements picked along `dim`."""
    x, at, dim = _operand("gather", input, index, dim)
    _check_index_sizes("gather", at, x, dim)
    if not numel(node_of(at).shape):
        return written("gather", wrap(const(0, x.dtype, node_of(at).shape)), out)
    result = record(GATHER, (x, at), (dim,))
    if tensor_of("gather", index).ndim == 0:
        result = reshape(result, ())
    return written("gather", result, out)


def _take_along_samples(rng):
    x = rng.normal(size=(3, 4))
    yield Sample((x, rng.integers(0, 3, (1, 4)), 0))
    yield Sample((x, rng.integers(0, 4, (3, 2)), 1))
    yield Sample((x, rng.integers(0, 12, 5)))


@composite(
    samples=_take_along_samples,
    errors=lambda: [
        BadCall((np.ones((2, 3)), np.zeros(3, np.int64), 0), ShapeError, "same number of dim"),
        BadCall((np.ones((2, 3)), np.full((1, 3), 5), 0), IndexingError, "out of bounds"),
    ],
    numpy=(np.take_along_axis,),
)
def take_along_dim(input: Tensor, indices, dim: int | None = None, *, out=None) -> Tensor:
    """``gather`` whose index and input broadcast against each other; without `dim`, both flattened."""
    x, index = tensor_of("take_along_dim", input), tensor_of("take_along_dim", indices, 1)
    if dim is None:
        if node_of(index).value is not None:
            check_range("take_along_dim", node_of(index).value, 0, numel(node_of(x).shape), 0)
        return gather(reshape(x, (-1,)), 0, reshape(index, (-1,)), out=out)
    dim = normal_dim("take_along_dim", dim, x.ndim)
    have, want = list(node_of(index).shape), list(node_of(x).shape)
    if len(have) != len(want):
        raise ShapeError(
            f"take_along_dim: input and indices must have the same number of dimensions, got "
            f"{tuple(want)} and {tuple(have)}"
        )
    along_index, along_x = have[dim], want[dim]
    have[dim] = want[dim] = 1
    common = list(broadcast("take_along_dim", tuple(want), tuple(have)))
    if node_of(index).value is not None:
        check_range("take_along_dim", node_of(index).value, dim, along_x, 0)
    common[dim] = along_x
    x = expanded(x, tuple(common))
    common[dim] = along_index
    return gather(x, dim, expanded(index, tuple(common)), out=out)


def _scatter_source(name: str, x: Tensor, index: Tensor, src) -> Tensor:
    """`src` cut to the index's shape, in x's dtype."""
    if type(src) in NUMBERS:
        return wrap(const(src, x.dtype, node_of(index).shape))
    src = tensor_of(name, src, 3)
    if src.dtype is not x.dtype:
        raise DTypeError(
            f"{name}: Expected self.dtype to be equal to src.dtype, got {x.dtype!r} and {src.dtype!r}"
        )
    if src.ndim == 0:
        src = reshape(src, (1,))
    have, want = node_of(src).shape, node_of(index).shape
    if have == want:
        return src
    if len(have) != len(want) or any(a < b for a, b in zip(have, want, strict=True)):
        raise ShapeError(
            f"{name}: Expected index {want} to be no larger than src {have} in every dimension"
        )
    return record(SLICE, (src,), ((0,) * len(want), (1,) * len(want), want))


def _scattered(name: str, input, dim, index, src, reduce: str, include_self: bool = True) -> Tensor:
    x, at, dim = _operand(name, input, index, dim)
    _check_index_sizes(name, at, x, dim)
    if not numel(node_of(at).shape):
        return x.clone()
    source = _scatter_source(name, x, at, src)
    if not include_self:
        x = scatter_of(
            x, wrap(const(_NEUTRAL[reduce](x.dtype), x.dtype, node_of(at).shape)), at, dim, "set"
        )
    result = scatter_of(x, source, at, dim, "add" if reduce == "mean" else reduce)
    if reduce == "mean":
        ones = wrap(const(1, x.dtype, node_of(at).shape))
        start = wrap(const(1, x.dtype, node_of(x).shape))
        if not include_self:
            start = scatter_of(start, zeros_of(ones._node), at, dim, "set")
        count = scatter_of(start, ones, at, dim, "add")
        result = result / count if x.dtype.is_floating_point else result // count
    return reshape(result, tuple(tensor_of(name, input).shape))


def _lowest(dtype):
    return -np.inf if dtype.is_floating_point else np.iinfo(dtype.np).min


def _highest(dtype):
    return np.inf if dtype.is_floating_point else np.iinfo(dtype.np).max


_NEUTRAL = {
    "add": lambda dtype: 0,
    "mean": lambda dtype: 0,
    "prod": lambda dtype: 1,
    "amax": _lowest,
    "amin": _highest,
}


def _scatter_samples(rng):
    x = rng.normal(size=(3, 4))
    columns = np.array([[0, 2, 1], [3, 1, 0]])
    yield Sample((x, 1, columns, rng.normal(size=(2, 3))))
    yield Sample((x, 0, np.array([[0, 1, 2, 0]]), rng.normal(size=(1, 4))))
    yield Sample((x, -1, columns, 1.5))


def _scatter_errors():
    x, at = np.ones((2, 3)), np.zeros((1, 3), np.int64)
    yield BadCall((x, 0, at + 2, np.ones((1, 3))), IndexingError, "index 2 is out of bounds")
    yield BadCall((x, 0, at, np.ones((1, 2))), ShapeError, "no larger than src")
    yield BadCall((x, 0, at, np.ones((1, 3), np.int64)), DTypeError, "self.dtype")
    yield BadCall((x, 0, np.zeros((1, 4), np.int64), np.ones((1, 4))), ShapeError, "no larger than")


@composite(op=SCATTER, samples=_scatter_samples, errors=_scatter_errors, inplace=True)
def scatter(input: Tensor, dim: int, index, src=None, *, value=None, reduce=None) -> Tensor:
    """A copy of `input` with ``out[index[i][j]][j] = src[i][j]`` for dim 0, and so on.

    `src` may be a number; `reduce` may be "add" or "multiply". Where an index repeats, the last in
    row-major order is kept; the gradient goes to each.
    """
    if (src is None) == (value is None):
        raise ArgumentError("scatter: give src or value, and not both")
    kinds = {None: "set", "add": "add", "multiply": "prod"}
    if reduce not in kinds:
        raise ArgumentError(f'scatter: reduce must be "add" or "multiply", got {reduce!r}')
    src = value if src is None else src
    return _scattered("scatter", input, dim, index, src, kinds[reduce])


def _scatter_add_samples(rng):
    x = rng.normal(size=(3, 4))
    yield Sample((x, 1, rng.integers(0, 4, (2, 6)), rng.normal(size=(2, 6))))
    yield Sample((x, 0, np.zeros((5, 3), np.int64), rng.normal(size=(5, 3))))
    yield Sample((rng.normal(size=3), 0, np.array([0, 0, 2]), rng.normal(size=3)))


@composite(samples=_scatter_add_samples, errors=_scatter_errors, inplace=True)
def scatter_add(input: Tensor, dim: int, index, src) -> Tensor:
    """A copy of `input` with ``out[index[i][j]][j] += src[i][j]`` for dim 0, and so on."""
    return _scattered("scatter_add", input, dim, index, src, "add")


def _scatter_reduce_samples(rng):
    x, at = rng.normal(size=(3, 4)), rng.integers(0, 4, (3, 5))
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for include in (True, False):
            yield Sample((x, 1, at, rng.normal(size=(3, 5)), reduce), {"include_self": include})
    source = rng.normal(size=(3, 5))
    source[0, 1] = source[1, 2] = x[2, 2] = 0
    yield Sample((x, 1, at, source, "prod"))


@composite(
    samples=_scatter_reduce_samples,
    errors=lambda: [
        BadCall((np.ones(2), 0, np.zeros(2, np.int64), np.ones(2), "max"), ArgumentError, "reduce"),
        BadCall((np.ones(2), 0, np.array([2]), np.ones(2), "sum"), IndexingError, "out of bounds"),
    ],
    inplace=True,
)
def scatter_reduce(
    input: Tensor, dim: int, index, src, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`src` combined at the indices by "sum", "prod", "mean", "amax" or "amin".

    Without `include_self` the elements of `input` that are written to don't take part. The gradient of
    an extreme is shared by all that hold it.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise ArgumentError(
            f"scatter_reduce: reduce must be sum, prod, mean, amax or amin, got {reduce!r}"
        )
    kind = "add" if reduce == "sum" else reduce
    return _scattered("scatter_reduce", input, dim, index, src, kind, include_self)
