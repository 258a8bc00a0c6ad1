"""Movement: operations that only say where an element comes from. They vanish into index arithmetic.

A movement primitive's ``loop`` is its index map: ``loop(index, in_shape, *attrs)`` gets the output's
index (a list of expressions with Python's operators, ``//`` and ``%`` included) and returns the
input's index list.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph.shapes import broadcast, normal_dim, numel, row_major_strides
from ..tensor import Tensor, node_of, record, record_view
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


@composite(op=RESHAPE)
def reshape(input: Tensor, *shape) -> Tensor:
    """The same elements, in row-major order, under another shape. A view."""
    input = tensor_of("reshape", input)
    have = node_of(input).shape
    if len(shape) == 1 and type(shape[0]) is tuple and shape[0] == have:
        return input
    sizes = resolve_shape("reshape", dims_argument("reshape", shape), numel(have))
    if sizes == have:
        return input
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


@composite(op=PERMUTE)
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
        return input
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


@composite(op=EXPAND)
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
    full = tuple(full)
    if full == have:
        return input
    return record_view(EXPAND, input, (full,))


@composite()
def broadcast_to(input: Tensor, shape) -> Tensor:
    """`input` expanded to `shape`. A view that cannot be written."""
    return expand(input, *shape)


# -- slice ----------------------------------------------------------------------------------------
# attrs: starts and steps, one a dimension, and the resulting shape. Steps may be negative.


def _slice_numpy(x, starts, steps, shape):
    key = []
    for start, step, size in zip(starts, steps, shape, strict=True):
        stop = start + step * size
        key.append(slice(start, None if stop < 0 else stop, step) if size else slice(0, 0))
    return x[tuple(key)]


def _slice_pullback(g, out, x, starts, steps, shape):
    from .creation import zeros_of

    return (record(SLICE_SCATTER, (zeros_of(x._node), g), (starts, steps, shape)),)


SLICE = primitive(
    "slice",
    "movement",
    1,
    ("starts", "steps", "shape"),
    infer=lambda x, starts, steps, shape: (shape, x.dtype),
    numpy=_slice_numpy,
    pullback=_slice_pullback,
    pushforward=lambda ts, out, x, *attrs: linear(ts, lambda t: record_view(SLICE, t, attrs)),
    loop=lambda index, in_shape, starts, steps, shape: [
        start + i * step for i, start, step in zip(index, starts, steps, strict=True)
    ],
    write=lambda base, source, *attrs: record(SLICE_SCATTER, (base, source), attrs),
    doc="Every step-th element from a start, in each dimension.",
)


def _slice_scatter_numpy(base, source, starts, steps, shape):
    out = base.copy()
    _slice_numpy(out, starts, steps, shape)[...] = source
    return out


def _slice_scatter_pullback(g, out, base, source, *attrs):
    from .creation import zeros_of

    return (
        record(SLICE_SCATTER, (g, zeros_of(source._node)), attrs)
        if base._node.requires_grad
        else None,
        record_view(SLICE, g, attrs) if source._node.requires_grad else None,
    )


SLICE_SCATTER = primitive(
    "slice_scatter",
    "slice_scatter",
    2,
    ("starts", "steps", "shape"),
    infer=lambda base, source, starts, steps, shape: (base.shape, base.dtype),
    numpy=_slice_scatter_numpy,
    pullback=_slice_scatter_pullback,
    doc="The base with the elements of a slice replaced by the source's.",
)


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


