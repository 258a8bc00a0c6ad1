"""Movement: operations that only say where an element comes from. They vanish into index arithmetic.

A movement primitive's ``loop`` is its index map: ``loop(index, in_shape, *attrs)`` gets the output's
index (a list of expressions with Python's operators, ``//`` and ``%`` included) and returns the
input's index list. The same record serves writing through views: VIEW_SCATTER replaces the elements of
its base that a movement primitive would show.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph.node import UNIT
from ..graph.op import REGISTRY, BadCall, Op, Sample
from ..graph.shapes import addressable, broadcast, normal_dim, numel, row_major_strides
from ..tensor import ALIAS, DETACH, Tensor, node_of, record, record_view, root_of
from .declare import cast, composite, linear, primitive, tensor_of


def dims_argument(name: str, args: tuple) -> tuple[int, ...]:
    """``f(2, 3)`` or ``f((2, 3))``: a tuple of ints either way."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = tuple(args[0])
    out = []
    for a in args:
        try:
            out.append(a.__index__())
        except (AttributeError, TypeError):
            raise ArgumentError(
                f"{name}: sizes must be ints, got {a!r} of type {type(a).__name__}"
            ) from None
    return tuple(out)


# -- reshape --------------------------------------------------------------------------------------


def _flat(index, shape):
    flat = 0
    for i, stride in zip(index, row_major_strides(shape), strict=True):
        flat = flat + i * stride
    return flat


def _reshape_loop(index, in_shape, shape):
    flat = _flat(index, shape)
    out = []
    for size, stride in zip(in_shape, row_major_strides(in_shape), strict=True):
        out.append((flat // stride) % size)
    return out


def _reshape_infer(x, shape):
    return shape, x.dtype


RESHAPE = primitive(
    "reshape",
    "movement",
    1,
    ("shape",),
    infer=_reshape_infer,
    numpy=lambda x, shape: x.reshape(shape),
    pullback=lambda g, out, x, shape: (reshape(g, x._node.shape),),
    pushforward=lambda ts, out, x, shape: linear(ts, lambda t: reshape(t, shape)),
    loop=_reshape_loop,
    write=lambda base, source, shape: reshape(source, base._node.shape),
    doc="The same elements in row-major order under another shape.",
)
_PLAIN = (RESHAPE, ALIAS, DETACH)  # views that leave a row-major layout row-major


def _reshape_samples(rng):
    yield Sample((rng.normal(size=(2, 6)), (3, 4)))
    yield Sample((rng.normal(size=(2, 3)), (-1,)))
    yield Sample((rng.normal(size=(2, 3, 2)), (3, -1)))
    yield Sample((rng.normal(size=()), (1, 1)))
    yield Sample((rng.normal(size=(0, 3)), (3, 0)))


def _reshape_errors():
    x = np.ones((2, 3))
    yield BadCall((x, (4,)), ShapeError, "has 4 elements, the tensor has 6")
    yield BadCall((x, (-1, -1)), ShapeError, "only one size")
    yield BadCall((x, (-1, 4)), ShapeError, "not a multiple of 4")
    yield BadCall((x, (-2, 3)), ShapeError, "negative")
    yield BadCall((x, (2.0, 3)), ArgumentError, "must be ints")


def resolve_shape(name: str, sizes: tuple, count: int) -> tuple[int, ...]:
    """Replace one -1 in `sizes` so that the product is `count`.

    Raises
    ------
    ShapeError
        If it cannot be.
    """
    unknown = [k for k, s in enumerate(sizes) if s == -1]
    if len(unknown) > 1:
        raise ShapeError(f"{name}: only one size can be inferred (-1), got {sizes}")
    if any(s < -1 for s in sizes):
        raise ShapeError(f"{name}: sizes must not be negative (but one -1), got {sizes}")
    if unknown:
        rest = numel([s for s in sizes if s != -1])
        if rest == 0 or count % rest:
            raise ShapeError(
                f"{name}: shape {sizes} is invalid for a tensor of {count} elements; "
                f"{count} is not a multiple of {rest}"
            )
        sizes = tuple(count // rest if s == -1 else s for s in sizes)
    if numel(sizes) != count:
        raise ShapeError(
            f"{name}: shape {sizes} has {numel(sizes)} elements, the tensor has {count}; "
            "the two must agree (one size may be -1)"
        )
    return sizes


def strides_of(t: Tensor) -> tuple[int, ...]:
    """PyTorch's strides of `t`, in elements: row-major for a tensor of its own, derived for a view."""
    if all(op in _PLAIN for op, _, _ in t._path):
        return _stored_strides(t._node.shape)
    base = root_of(t)
    seen = _ghost(base._node.shape, _stored_strides(base._node.shape))
    for op, attrs, _ in t._path:
        if op is RESHAPE:
            seen = _ghost(attrs[0], view_strides(seen.shape, seen.strides, attrs[0]))
        else:
            seen = op.numpy(seen, *attrs)
    return seen.strides


_CELL = np.zeros(1, np.int8)


def _ghost(shape, strides):
    """An array of that layout, whose elements are never touched: NumPy derives the layout of its views."""
    return np.lib.stride_tricks.as_strided(_CELL, shape, strides, writeable=False)


def _stored_strides(shape) -> tuple[int, ...]:
    return row_major_strides(tuple(max(s, 1) for s in shape))


def view_strides(shape, strides, new) -> tuple[int, ...] | None:
    """The strides under which memory of that layout shows the shape `new`; None if there are none.

    Dimensions that lie in memory as one block are merged, and each block is cut into sizes of `new`.
    """
    if 0 in shape:
        return tuple(strides) if tuple(shape) == tuple(new) else _stored_strides(new)
    out = [0] * len(new)
    at = len(new) - 1
    block, step = 1, (strides[-1] if shape else 1)
    for k in range(len(shape) - 1, -1, -1):
        block *= shape[k]
        if k and (shape[k - 1] == 1 or strides[k - 1] == block * step):
            continue
        filled = 1
        while at >= 0 and (filled < block or new[at] == 1):
            out[at] = filled * step
            filled *= new[at]
            at -= 1
        if filled != block:
            return None
        if k:
            block, step = 1, strides[k - 1]
    for k in range(at, -1, -1):
        out[k] = out[k + 1] * new[k + 1] if k + 1 < len(new) else 1
    return tuple(out)


@composite(op=RESHAPE, numpy=(np.reshape,), samples=_reshape_samples, errors=_reshape_errors)
def reshape(input: Tensor, *shape) -> Tensor:
    """The same elements, in row-major order, under another shape; one size may be -1.

    A view where PyTorch gives one; a copy of a view whose elements don't lie in order (``x.T``).
    """
    input = tensor_of("reshape", input)
    have = node_of(input).shape
    sizes = resolve_shape("reshape", dims_argument("reshape", shape), numel(have))
    if sizes == have:
        return record_view(ALIAS, input, ())
    if input._base is not None and view_strides(have, strides_of(input), sizes) is None:
        return record(RESHAPE, (input,), (sizes,))
    return record_view(RESHAPE, input, (sizes,))


# -- permute --------------------------------------------------------------------------------------


def _inverse(dims):
    out = [0] * len(dims)
    for k, d in enumerate(dims):
        out[d] = k
    return tuple(out)


PERMUTE = primitive(
    "permute",
    "movement",
    1,
    ("dims",),
    infer=lambda x, dims: (tuple(x.shape[d] for d in dims), x.dtype),
    numpy=lambda x, dims: x.transpose(dims),
    pullback=lambda g, out, x, dims: (permute(g, _inverse(dims)),),
    pushforward=lambda ts, out, x, dims: linear(ts, lambda t: permute(t, dims)),
    loop=lambda index, in_shape, dims: [index[k] for k in _inverse(dims)],
    write=lambda base, source, dims: permute(source, _inverse(dims)),
    doc="The dimensions in another order.",
)


def _permute_samples(rng):
    yield Sample((rng.normal(size=(2, 3, 4)), (2, 0, 1)))
    yield Sample((rng.normal(size=(2, 3)), (-1, 0)))
    yield Sample((rng.normal(size=()), ()))


def _permute_errors():
    x = np.ones((2, 3))
    yield BadCall((x, (0,)), ShapeError, "2 dims are required")
    yield BadCall((x, (0, 0)), ArgumentError, "each dim must appear once")
    yield BadCall((x, (0, 2)), IndexError, "out of range")


@composite(op=PERMUTE, samples=_permute_samples, errors=_permute_errors)
def permute(input: Tensor, *dims) -> Tensor:
    """The dimensions in another order. A view."""
    input = tensor_of("permute", input)
    rank = input.ndim
    order = dims_argument("permute", dims)
    if len(order) != rank:
        raise ShapeError(
            f"permute: {rank} dims are required, one for each of the tensor's, got {order}"
        )
    order = tuple(normal_dim("permute", d, rank) for d in order)
    if len(set(order)) != rank:
        raise ArgumentError(f"permute: each dim must appear once, got {order}")
    if order == tuple(range(rank)):
        return record_view(ALIAS, input, ())
    return record_view(PERMUTE, input, (order,))


# -- expand ---------------------------------------------------------------------------------------


def _expand_loop(index, in_shape, shape):
    lead = len(shape) - len(in_shape)
    return [0 if size == 1 else index[k + lead] for k, size in enumerate(in_shape)]


def _expand_pullback(g, out, x, shape):
    from .declare import sum_to

    return (sum_to(g, x._node.shape),)


EXPAND = primitive(
    "expand",
    "movement",
    1,
    ("shape",),
    infer=lambda x, shape: (shape, x.dtype),
    numpy=lambda x, shape: np.broadcast_to(x, shape),
    pullback=_expand_pullback,
    pushforward=lambda ts, out, x, shape: linear(ts, lambda t: expand(t, shape)),
    loop=_expand_loop,
    doc="Dimensions of size 1 repeated, without copying.",
)


def _expand_samples(rng):
    yield Sample((rng.normal(size=(2, 1)), (2, 3)), {})
    yield Sample((rng.normal(size=3), (2, -1)))
    yield Sample((rng.normal(size=()), (2, 2)))
    yield Sample((rng.normal(size=(1, 2)), (0, 2)))


def _expand_errors():
    yield BadCall((np.ones((2, 3)), (3,)), ShapeError, "at least one size a dimension")
    yield BadCall((np.ones((2, 3)), (4, 3)), ShapeError, "only dimensions of size 1")
    yield BadCall((np.ones(3), (-1, 3)), ShapeError, "not allowed for the new leading")


@composite(op=EXPAND, samples=_expand_samples, errors=_expand_errors, torch=None)
def expand(input: Tensor, *sizes) -> Tensor:
    """Dimensions of size 1 repeated to `sizes` (-1 keeps one). A view that cannot be written."""
    input = tensor_of("expand", input)
    have = node_of(input).shape
    sizes = dims_argument("expand", sizes)
    lead = len(sizes) - len(have)
    if lead < 0:
        raise ShapeError(
            f"expand: {len(sizes)} sizes {sizes} for a tensor of {len(have)} dimensions {have}; "
            "give at least one size a dimension"
        )
    full = []
    for k, size in enumerate(sizes):
        old = have[k - lead] if k >= lead else None
        if size == -1 and old is None:
            raise ShapeError(f"expand: -1 is not allowed for the new leading dimension {k}")
        if size == -1:
            size = old
        if size < 0 or (old is not None and old != 1 and old != size):
            raise ShapeError(
                f"expand: size {size} of dimension {k} does not fit the tensor's {old} (shape {have}); "
                "only dimensions of size 1 can be expanded"
            )
        full.append(size)
    full = addressable("expand", tuple(full))
    if full == have:
        return record_view(ALIAS, input, ())
    return record_view(EXPAND, input, (full,))


# -- slice ----------------------------------------------------------------------------------------
# attrs: starts and steps, one a dimension, and the resulting shape. Steps may be negative.


def _slice_numpy(x, starts, steps, shape):
    key = []
    for start, step, size in zip(starts, steps, shape, strict=True):
        stop = start + step * size
        key.append(slice(start, None if stop < 0 else stop, step) if size else slice(0, 0))
    return x[tuple(key)]


def part_of(t: Tensor, starts: tuple, steps: tuple, shape: tuple) -> Tensor | None:
    """A slice of `t`. Of a Jacobian's direction it is zero (None), or a direction again."""
    node = t._node
    if node.mark & UNIT and all(k == 1 for k in steps):
        from .joining import unit

        at = [k - start for k, start in zip(node.attrs[0], starts, strict=True)]
        if any(not 0 <= k < size for k, size in zip(at, shape, strict=True)):
            return None
        return unit(shape, tuple(at), node.dtype)
    return record(SLICE, (t,), (starts, steps, shape))


def _slice_pullback(g, out, x, starts, steps, shape):
    return (scatter_into_zeros(SLICE, x, g, (starts, steps, shape)),)


SLICE = primitive(
    "slice",
    "movement",
    1,
    ("starts", "steps", "shape"),
    infer=lambda x, starts, steps, shape: (shape, x.dtype),
    numpy=_slice_numpy,
    pullback=_slice_pullback,
    pushforward=lambda ts, out, x, *attrs: linear(ts, lambda t: part_of(t, *attrs)),
    loop=lambda index, in_shape, starts, steps, shape: [
        start + i * step for i, start, step in zip(index, starts, steps, strict=True)
    ],
    write=lambda base, source, *attrs: view_scatter(SLICE, base, source, attrs),
    doc="Every step-th element from a start, in each dimension.",
)


# -- diagonal -------------------------------------------------------------------------------------
# The diagonal is the last dimension of the result; the other dimensions keep their order.


def _diagonal_infer(x, offset, dim1, dim2):
    rest = tuple(s for k, s in enumerate(x.shape) if k not in (dim1, dim2))
    rows, columns = x.shape[dim1], x.shape[dim2]
    length = min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)
    return (*rest, max(length, 0)), x.dtype


def _diagonal_loop(index, in_shape, offset, dim1, dim2):
    rest = iter(index[:-1])
    at = {dim1: index[-1] + max(-offset, 0), dim2: index[-1] + max(offset, 0)}
    return [at[k] if k in at else next(rest) for k in range(len(in_shape))]


DIAGONAL = primitive(
    "diagonal",
    "movement",
    1,
    ("offset", "dim1", "dim2"),
    infer=_diagonal_infer,
    numpy=lambda x, offset, dim1, dim2: x.diagonal(offset, dim1, dim2),
    pullback=lambda g, out, x, *attrs: (scatter_into_zeros(DIAGONAL, x, g, attrs),),
    pushforward=lambda ts, out, x, *attrs: linear(ts, lambda t: record(DIAGONAL, (t,), attrs)),
    loop=_diagonal_loop,
    write=lambda base, source, *attrs: view_scatter(DIAGONAL, base, source, attrs),
    doc="A diagonal of two dimensions, as the last dimension.",
)


# -- unfold ---------------------------------------------------------------------------------------
# Windows along one dimension: their number takes its place, their elements are the last dimension.


def _unfold_infer(x, dim, size, step):
    count = (x.shape[dim] - size) // step + 1
    return (*x.shape[:dim], count, *x.shape[dim + 1 :], size), x.dtype


def _unfold_numpy(x, dim, size, step):
    shape, strides = list(x.shape), list(x.strides)
    shape[dim] = (shape[dim] - size) // step + 1
    stride = strides[dim]
    strides[dim] = stride * step
    return np.lib.stride_tricks.as_strided(
        x, (*shape, size), (*strides, stride), writeable=x.flags.writeable
    )


def _unfold_loop(index, in_shape, dim, size, step):
    at = list(index[:-1])
    at[dim] = at[dim] * step + index[-1]
    return at


def _unfold_pullback(g, out, x, dim, size, step):
    if step >= size:
        return (scatter_into_zeros(UNFOLD, x, g, (dim, size, step)),)
    from .indexing import put_along

    count = g._node.shape[dim]
    at = np.arange(count)[:, None] * step + np.arange(size)
    windows = tuple(range(x.ndim))
    return (put_along(x, permute(g, *windows[: dim + 1], x.ndim, *windows[dim + 1 :]), dim, at),)


def _unfold_write(base, source, dim, size, step):
    if step < size:
        raise ArgumentError(
            f"unfold: windows of size {size} and step {step} show one element several times, so they "
            "cannot be written; clone() them first"
        )
    return view_scatter(UNFOLD, base, source, (dim, size, step))


UNFOLD = primitive(
    "unfold",
    "movement",
    1,
    ("dim", "size", "step"),
    infer=_unfold_infer,
    numpy=_unfold_numpy,
    pullback=_unfold_pullback,
    pushforward=lambda ts, out, x, *attrs: linear(ts, lambda t: record(UNFOLD, (t,), attrs)),
    loop=_unfold_loop,
    write=_unfold_write,
    doc="All windows of a size along a dimension, in steps.",
)


# -- roll -----------------------------------------------------------------------------------------

ROLL = primitive(
    "roll",
    "movement",
    1,
    ("shifts",),
    infer=lambda x, shifts: (x.shape, x.dtype),
    numpy=lambda x, shifts: np.roll(x, shifts, tuple(range(x.ndim))),
    pullback=lambda g, out, x, shifts: (rolled(g, tuple(-s for s in shifts)),),
    pushforward=lambda ts, out, x, shifts: linear(ts, lambda t: rolled(t, shifts)),
    loop=lambda index, in_shape, shifts: [
        (i + (size - shift)) % size if shift else i
        for i, size, shift in zip(index, in_shape, shifts, strict=True)
    ],
    doc="Each dimension turned: element i goes to (i + shift) mod size. 0 <= shift < size.",
)


def rolled(t: Tensor, shifts: tuple) -> Tensor:
    """`t` with each dimension turned by its entry of `shifts`, any ints."""
    shape = node_of(t).shape
    turned = tuple(s % size if size else 0 for s, size in zip(shifts, shape, strict=True))
    return record(ROLL, (t,), (turned,))


# -- writing through views ------------------------------------------------------------------------


def _view_scatter_numpy(base, source, view, attrs):
    out = base.copy(order="C")
    seen = REGISTRY[view].numpy(out, *attrs)
    if not seen.flags.writeable:  # NumPy shows diagonals read-only
        seen.flags.writeable = True
    seen[...] = source
    return out


def _view_scatter_pullback(g, out, base, source, view, attrs):
    from .creation import zeros_of

    kept = taken = None
    if base._node.requires_grad:
        kept = record(VIEW_SCATTER, (g, zeros_of(source._node)), (view, attrs))
    if source._node.requires_grad:
        taken = record(REGISTRY[view], (g,), attrs)
    return kept, taken


def _view_scatter_pushforward(ts, out, base, source, view, attrs):
    from .creation import zeros_of

    base_t, source_t = (
        zeros_of(x._node) if t is None else t for t, x in zip(ts, (base, source), strict=True)
    )
    return record(VIEW_SCATTER, (base_t, source_t), (view, attrs))


VIEW_SCATTER = primitive(
    "view_scatter",
    "view_scatter",
    2,
    ("view", "view_attrs"),
    infer=lambda base, source, view, attrs: (base.shape, base.dtype),
    numpy=_view_scatter_numpy,
    pullback=_view_scatter_pullback,
    pushforward=_view_scatter_pushforward,
    doc="The base, its elements that the movement primitive `view` shows replaced by the source's.",
)


def view_scatter(view: Op, base: Tensor, source: Tensor, attrs: tuple) -> Tensor:
    """`base` with the elements that ``view(base, *attrs)`` shows replaced by those of `source`."""
    return record(VIEW_SCATTER, (base, source), (view.name, attrs))


def scatter_into_zeros(view: Op, x: Tensor, g: Tensor, attrs: tuple) -> Tensor:
    """The adjoint of a view of `x` that shows no element twice."""
    from .creation import zeros_of

    return view_scatter(view, zeros_of(x._node), g, attrs)


# -- writing --------------------------------------------------------------------------------------


def fit_inplace(name: str, t: Tensor, result: Tensor, *, exact: bool = False) -> Tensor:
    """`result` converted so that it can take the place of `t`'s values.

    Raises
    ------
    ShapeError
        If `result` does not broadcast to t's shape.
    DTypeError
        If its kind is higher than t's (a float result cannot be stored in an integer tensor).
    """
    target, have = node_of(t), node_of(result)
    if have.dtype.category > target.dtype.category:
        raise DTypeError(
            f"{name}: the result is {have.dtype!r} and can't be stored in a tensor of "
            f"{target.dtype!r}; convert the tensor first with .to()"
        )
    if have.shape != target.shape:
        if exact or broadcast(name, have.shape, target.shape) != target.shape:
            raise ShapeError(
                f"{name}: the result has shape {have.shape}, which does not fit the tensor's "
                f"{target.shape}"
            )
        result = expand(result, target.shape)
    return cast(result, target.dtype)
