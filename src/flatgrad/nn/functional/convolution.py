"""Convolutions and transposed convolutions in one to three dimensions, unfold and fold.

All of them are one node of ``ops.convolution`` between movements: channels are cut into groups by a reshape.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from ...graph.op import BadCall, Sample
from ...ops.contraction import same_dtype
from ...ops.convolution import convolve, reach
from ...ops.declare import tensor_of
from ...ops.movement import permute, reshape
from ...tensor import Tensor, node_of
from ..once import as_one
from .face import batched, described, face, frozen, sizes_argument
from .windows import placed, windows

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "unfold",
]


# -- arguments ------------------------------------------------------------------------------------


def _operands(name: str, spatial: int, input, weight, bias):
    """(input, is it batched, weight, bias) as tensors of one dtype and of the ranks they must have."""
    x, many = batched(name, input, spatial)
    given = (x, weight) if bias is None else (x, weight, bias)
    try:
        x, w, *b = same_dtype(name, *given)
    except DTypeError as error:
        raise DTypeError(f"{error} (input, weight and bias)") from None
    if x.dtype.category == 0:
        raise DTypeError(f"{name}: not defined for bool tensors; convert with .to() first")
    if w.ndim != spatial + 2:
        raise ShapeError(
            f"{name}: weight must have {spatial + 2} dimensions, got shape {tuple(w.shape)}"
        )
    if 0 in w.shape[2:]:
        raise ShapeError(f"{name}: kernel sizes must be positive, got weight {tuple(w.shape)}")
    return x, many, w, b[0] if b else None


def _check_groups(name: str, groups) -> int:
    (groups,) = sizes_argument(name, "groups", groups, 1, 1)
    return groups


def _check_bias(name: str, bias: tuple | None, channels: int) -> None:
    if bias is not None and bias != (channels,):
        raise ShapeError(
            f"{name}: expected bias to be 1-dimensional with {channels} elements, one an output "
            f"channel, got shape {bias}"
        )


def _check_channels(name: str, x: tuple, w: tuple, groups: int, channels: int) -> None:
    have = x[1 - len(w)]
    if have != channels:
        raise ShapeError(
            f"{name}: Given groups={groups}, weight of size {w}, expected input {x} to have "
            f"{channels} channels, but got {have} channels instead"
        )


def _around(name: str, padding, taps, stride, dilation) -> tuple[tuple, tuple]:
    """Padding as numbers of zeros (before, after) in each dimension."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ArgumentError(
                f"{name}: padding='same' is not supported for strided convolutions, got stride "
                f"{stride}; give the padding in numbers"
            )
        total = [d * (k - 1) for k, d in zip(taps, dilation, strict=True)]
        return tuple([t // 2 for t in total]), tuple([t - t // 2 for t in total])
    if isinstance(padding, str):
        raise ArgumentError(f"{name}: padding must be 'same', 'valid' or ints, got {padding!r}")
    both = sizes_argument(name, "padding", padding, len(taps), 0)
    return both, both


# -- convolution ----------------------------------------------------------------------------------


def convolution(name, spatial, input, weight, bias, stride, padding, dilation, groups) -> Tensor:
    """The function `name` of PyTorch in `spatial` dimensions."""
    x, many, w, b = _operands(name, spatial, input, weight, bias)
    shapes = [None if t is None else node_of(t).shape for t in (x, w, b)]
    given = (frozen(stride), frozen(padding), frozen(dilation), groups)
    options = many, *_convolution_plan(name, *shapes, *given)
    tensors = [x, w] if b is None else [x, w, b]
    return as_one(name, options, lambda *ts: _convolution(ts, *options), tensors)


@lru_cache(maxsize=1024, typed=True)
def _convolution_plan(name, x, w, b, stride, padding, dilation, groups) -> tuple:
    """(padding before, stride, dilation, groups, sizes of the result) for operands of these shapes."""
    outs, inner, *taps = w
    spatial = len(taps)
    stride = sizes_argument(name, "stride", stride, spatial, 1)
    dilation = sizes_argument(name, "dilation", dilation, spatial, 1)
    groups = _check_groups(name, groups)
    low, high = _around(name, padding, taps, stride, dilation)
    if outs % groups or not outs:
        raise ShapeError(
            f"{name}: expected weight {w} to have at least {groups} output channels, a "
            f"multiple of groups={groups}, got {outs}"
        )
    _check_channels(name, x, w, groups, inner * groups)
    _check_bias(name, b, outs)
    image = [i + a + z for i, a, z in zip(x[-spatial:], low, high, strict=True)]
    seen = [reach(1, k, 1, d) for k, d in zip(taps, dilation, strict=True)]
    if any(i < k for i, k in zip(image, seen, strict=True)):
        raise ShapeError(
            f"{name}: Calculated padded input size per channel: {tuple(image)}. Kernel size: "
            f"{tuple(seen)}. Kernel size can't be greater than actual input size"
        )
    count = [(i - k) // s + 1 for i, k, s in zip(image, seen, stride, strict=True)]
    return low, stride, dilation, groups, tuple(count)


def _convolution(tensors, many, low, stride, dilation, groups, count) -> Tensor:
    x, w, *bias = tensors
    spatial = len(count)
    batch = x.shape[0] if many else 1
    outs, inner = w.shape[:2]
    image = reshape(x, (batch, groups, inner, *x.shape[-spatial:]))
    taps = reshape(w, (groups, outs // groups, inner, *w.shape[2:]))
    y = convolve(image, taps, "result", stride, dilation, count, low)
    return _finished(y, bias, many, outs)


def _finished(y: Tensor, bias, many: bool, channels: int) -> Tensor:
    """``[N, G, O, *Y]`` as ``[N, G * O, *Y]``, or without N, and the bias of each channel added."""
    places = tuple(y.shape[3:])
    y = reshape(y, (*y.shape[: int(many)], channels, *places))
    return y + reshape(bias[0], (channels, *(1,) * len(places))) if bias else y


_DOCUMENT = """The cross-correlation of a {n}-d image with filters, plus a bias.

    Parameters
    ----------
    input : Tensor, shape (N, C, {I}) or (C, {I})
    weight : Tensor, shape (O, C / groups, {K})
    bias : Tensor, shape (O,), optional
    stride, dilation : int or tuple of {n}
        Between windows, and between the elements of one.
    padding : int, tuple of {n}, "same" or "valid"
        Zeros at both ends of each dimension; "same" keeps the sizes (stride 1).
    groups : int
        Channels are cut into as many independent groups.

    Returns
    -------
    Tensor, shape (N, O, {Y}) or (O, {Y})

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For shapes, dtypes or options that do not fit each other.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.functional.conv{n}d(fg.ones(2, 3, {x}), fg.ones(4, 3, {k}), padding=1).shape
    flatgrad.Size([2, 4, {x}])
    """


_SMALL = {1: (5,), 2: (4, 5), 3: (3, 2, 3)}


def _samples(spatial: int):
    image, ones = _SMALL[spatial], (1,) * spatial
    two = (2,) * spatial

    def samples(rng):
        def x(*shape):
            return rng.normal(size=shape)

        yield Sample((x(2, 2, *image), x(3, 2, *two), x(3)))
        yield Sample((x(2, *image), x(2, 1, *two)), {"groups": 2, "padding": 1})
        odd = {"stride": 2, "padding": (1,) * spatial, "dilation": 2 if spatial < 3 else 1}
        yield Sample((x(1, 1, *image), x(2, 1, *two), x(2)), odd)
        if spatial < 3:
            yield Sample((x(1, 1, *image), x(1, 1, *(3, 2)[:spatial])), {"padding": "same"})
            yield Sample((x(1, 4, *image), x(4, 2, *ones), None, 2, "valid", 1, 2))

    return samples


def _errors(spatial: int):
    def errors():
        x, w = np.ones((2, 4, *(5,) * spatial)), np.ones((6, 4, *(3,) * spatial))
        yield BadCall((x[0, 0], w), ShapeError, "unbatched")
        yield BadCall((x, w[0]), ShapeError, "weight must have")
        yield BadCall((x, w.astype(np.float32)), DTypeError, "one dtype")
        yield BadCall((x[:, :3], w), ShapeError, "to have 4 channels, but got 3")
        yield BadCall((x, w, np.ones(5)), ShapeError, "1-dimensional with 6 elements")
        yield BadCall((x, w), ShapeError, "a multiple of groups=4", {"groups": 4})
        yield BadCall((x, w), ArgumentError, "groups must be at least 1", {"groups": 0})
        yield BadCall((x, w), ArgumentError, "stride must be at least 1", {"stride": 0})
        yield BadCall((x, w), ArgumentError, "one a dimension", {"stride": (1,) * (spatial + 1)})
        yield BadCall((x, w), ArgumentError, "padding must be at least 0", {"padding": -1})
        yield BadCall((x, w), ArgumentError, "'same', 'valid'", {"padding": "full"})
        same = {"padding": "same", "stride": 2}
        yield BadCall((x, w), ArgumentError, "not supported for strided", same)
        yield BadCall((x, w), ShapeError, "can't be greater", {"dilation": 3})

    return errors


def _conv(spatial: int):
    name = f"conv{spatial}d"

    def conv(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
        return convolution(name, spatial, input, weight, bias, stride, padding, dilation, groups)

    conv.__name__ = conv.__qualname__ = name
    described(conv, _DOCUMENT, spatial)
    return face(name, samples=_samples(spatial), errors=_errors(spatial))(conv)


conv1d, conv2d, conv3d = _conv(1), _conv(2), _conv(3)


# -- transposed convolution -----------------------------------------------------------------------


def transposed(
    name, spatial, input, weight, bias, stride, padding, output_padding, groups, dilation
) -> Tensor:
    """The transposed function `name` of PyTorch in `spatial` dimensions."""
    x, many, w, b = _operands(name, spatial, input, weight, bias)
    shapes = [None if t is None else node_of(t).shape for t in (x, w, b)]
    given = map(frozen, (stride, padding, output_padding, groups, dilation))
    options = many, *_transposed_plan(name, *shapes, *given)
    tensors = [x, w] if b is None else [x, w, b]
    return as_one(name, options, lambda *ts: _transposed(ts, *options), tensors)


@lru_cache(maxsize=1024, typed=True)
def _transposed_plan(name, x, w, b, stride, padding, output_padding, groups, dilation) -> tuple:
    """(padding, sizes of the result, stride, dilation, groups) for operands of these shapes."""
    ins, outs, *taps = w
    spatial = len(taps)
    stride = sizes_argument(name, "stride", stride, spatial, 1)
    dilation = sizes_argument(name, "dilation", dilation, spatial, 1)
    padding = sizes_argument(name, "padding", padding, spatial, 0)
    extra = sizes_argument(name, "output_padding", output_padding, spatial, 0)
    groups = _check_groups(name, groups)
    if ins % groups or not ins:
        raise ShapeError(
            f"{name}: weight {w} must have a multiple of groups={groups} input channels "
            f"in its first dimension, got {ins}"
        )
    _check_channels(name, x, w, groups, ins)
    _check_bias(name, b, outs * groups)
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= max(s, d):
            raise ArgumentError(
                f"{name}: output padding must be smaller than either stride or dilation, got "
                f"output_padding {extra}, stride {stride}, dilation {dilation}"
            )
    count = x[-spatial:]
    if 0 in count:
        raise ShapeError(f"{name}: the image must not be empty, got an input of {x}")
    whole = tuple(
        [reach(*part) + e for *part, e in zip(count, taps, stride, dilation, extra, strict=True)]
    )
    sizes = tuple([i - 2 * p for i, p in zip(whole, padding, strict=True)])
    if min(sizes) < 1:
        raise ShapeError(
            f"{name}: Given input size per channel: {count}. Calculated output size per channel: "
            f"{sizes}. Output size is too small; use less padding"
        )
    return padding, sizes, stride, dilation, groups


def _transposed(tensors, many, padding, sizes, stride, dilation, groups) -> Tensor:
    x, w, *bias = tensors
    spatial = len(sizes)
    batch = x.shape[0] if many else 1
    ins, outs = w.shape[:2]
    y = reshape(x, (batch, groups, ins // groups, *x.shape[-spatial:]))
    taps = reshape(w, (groups, ins // groups, outs, *w.shape[2:]))
    image = convolve(y, taps, "image", stride, dilation, sizes, padding)
    return _finished(image, bias, many, outs * groups)


_TRANSPOSED = """The transpose of ``conv{n}d`` by its input: each element of an image scatters a filter.

    Parameters
    ----------
    input : Tensor, shape (N, C, {I}) or (C, {I})
    weight : Tensor, shape (C, O / groups, {K})
    bias : Tensor, shape (O,), optional
    stride, dilation : int or tuple of {n}
        Between the filters' places, and between the elements of one.
    padding : int or tuple of {n}
        How much is cut off at both ends of each dimension.
    output_padding : int or tuple of {n}
        How much larger the result is at one end.
    groups : int

    Returns
    -------
    Tensor, shape (N, O, {Y}) or (O, {Y})

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For shapes, dtypes or options that do not fit each other.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.functional.conv_transpose{n}d(fg.ones(2, 3, {x}), fg.ones(3, 4, {k}), padding=1).shape
    flatgrad.Size([2, 4, {x}])
    """


def _transposed_samples(spatial: int):
    image, two = tuple([s - 1 for s in _SMALL[spatial]]), (2,) * spatial

    def samples(rng):
        def x(*shape):
            return rng.normal(size=shape)

        yield Sample((x(2, 2, *image), x(2, 3, *two), x(3)))
        odd = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
        yield Sample((x(2, *image), x(2, 1, *two), x(2)), odd)
        if spatial < 3:
            yield Sample((x(1, 2, *image), x(2, 1, *two), None, 1, 1, 1, 1, 2))

    return samples


def _transposed_errors(spatial: int):
    def errors():
        x, w = np.ones((2, 4, *(5,) * spatial)), np.ones((4, 3, *(3,) * spatial))
        yield BadCall((x[0, 0], w), ShapeError, "unbatched")
        yield BadCall((x, w[:3]), ShapeError, "to have 3 channels, but got 4")
        yield BadCall((x, w, np.ones(4)), ShapeError, "1-dimensional with 3 elements")
        yield BadCall((x, w), ShapeError, "multiple of groups=3", {"groups": 3})
        yield BadCall((x, w), ArgumentError, "smaller than either", {"output_padding": 1})
        yield BadCall((x, w), ShapeError, "too small", {"padding": 4})
        yield BadCall((x, w), ArgumentError, "at least 0", {"output_padding": -1})

    return errors


def _conv_transpose(spatial: int):
    name = f"conv_transpose{spatial}d"

    def conv_transpose(
        input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
    ) -> Tensor:
        return transposed(
            name, spatial, input, weight, bias, stride, padding, output_padding, groups, dilation
        )

    conv_transpose.__name__ = conv_transpose.__qualname__ = name
    described(conv_transpose, _TRANSPOSED, spatial)
    own = {"samples": _transposed_samples(spatial), "errors": _transposed_errors(spatial)}
    return face(name, **own)(conv_transpose)


conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_conv_transpose, (1, 2, 3))


# -- unfold and fold ------------------------------------------------------------------------------


def _unfold_samples(rng):
    yield Sample((rng.normal(size=(2, 2, 4, 5)), (2, 3)))
    yield Sample((rng.normal(size=(1, 1, 4, 5)), 2), {"stride": 2, "padding": 1})
    yield Sample((rng.normal(size=(2, 4, 5)), 2), {"dilation": (2, 1), "padding": (0, 1)})


def _unfold_errors():
    x = np.ones((1, 2, 4, 5))
    yield BadCall((x[0, 0], 2), ShapeError, "unbatched")
    yield BadCall((x, 6), ShapeError, "no window fits")
    yield BadCall((x, 0), ArgumentError, "at least 1")


def _blocks(name: str, image, taps, stride, dilation, padding) -> tuple[int, ...]:
    """How many windows there are in each dimension of a padded image."""
    parts = zip(image, taps, stride, dilation, padding, strict=True)
    count = tuple([(i + 2 * p - reach(1, k, 1, d)) // s + 1 for i, k, s, d, p in parts])
    if min(count) < 1:
        raise ShapeError(
            f"{name}: no window fits: an image of {tuple(image)}, kernel {taps}, dilation {dilation} "
            f"and padding {padding} give {count} windows"
        )
    return count


def _geometry(name: str, kernel_size, dilation, padding, stride):
    return (
        sizes_argument(name, "kernel_size", kernel_size, 2, 1),
        sizes_argument(name, "stride", stride, 2, 1),
        sizes_argument(name, "dilation", dilation, 2, 1),
        sizes_argument(name, "padding", padding, 2, 0),
    )


@face(samples=_unfold_samples, errors=_unfold_errors)
def unfold(input: Tensor, kernel_size, dilation=1, padding=0, stride=1) -> Tensor:
    """The windows of an image as columns.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride : int or tuple of 2

    Returns
    -------
    Tensor, shape (N, C * kH * kW, L) or (C * kH * kW, L)
        L windows, in row-major order.

    Raises
    ------
    ShapeError, ArgumentError
        If no window fits, or an option is none.
    """
    x, many = batched("unfold", input, 2)
    taps, stride, dilation, around = _geometry("unfold", kernel_size, dilation, padding, stride)
    count = _blocks("unfold", x.shape[-2:], taps, stride, dilation, around)
    lead = tuple(x.shape[:-2])
    whole = tuple([i + 2 * p for i, p in zip(x.shape[-2:], around, strict=True)])
    seen = windows(placed(x, around, whole), taps, stride, dilation)
    rank = len(lead)
    columns = permute(seen, (*range(rank), rank + 2, rank + 3, rank, rank + 1))
    rows = lead[-1] * taps[0] * taps[1]
    return reshape(columns, (*lead[: int(many)], rows, count[0] * count[1]))


def _fold_samples(rng):
    yield Sample((rng.normal(size=(2, 8, 12)), (4, 5), 2))
    yield Sample((rng.normal(size=(4, 4)), (4, 4), 2), {"dilation": (1, 2), "stride": (2, 1)})
    yield Sample((rng.normal(size=(1, 4, 9)), (4, 4), 2), {"stride": 2, "padding": 1})


def _fold_errors():
    x = np.ones((1, 8, 12))
    yield BadCall((x[0, 0], (4, 5), 2), ShapeError, "2D .unbatched. or 3D")
    yield BadCall((x, (4, 5), 3), ShapeError, "divisible by the product of kernel_size")
    yield BadCall((x, (4, 4), 2), ShapeError, "expected 9 columns")


@face(samples=_fold_samples, errors=_fold_errors)
def fold(input: Tensor, output_size, kernel_size, dilation=1, padding=0, stride=1) -> Tensor:
    """The sum of overlapping windows: the transpose of :func:`unfold`.

    Parameters
    ----------
    input : Tensor, shape (N, C * kH * kW, L) or (C * kH * kW, L)
    output_size : int or tuple of 2
        The image's sizes (H, W).
    kernel_size, dilation, padding, stride : int or tuple of 2

    Returns
    -------
    Tensor, shape (N, C, H, W) or (C, H, W)

    Raises
    ------
    ShapeError, ArgumentError
        If the rows or columns do not fit the image, or an option is none.
    """
    x = tensor_of("fold", input)
    if x.ndim not in (2, 3):
        raise ShapeError(
            f"fold: Expected 2D (unbatched) or 3D (batched) input, got shape {tuple(x.shape)}"
        )
    taps, stride, dilation, around = _geometry("fold", kernel_size, dilation, padding, stride)
    sizes = sizes_argument("fold", "output_size", output_size, 2, 1)
    count = _blocks("fold", sizes, taps, stride, dilation, around)
    rows, columns = x.shape[-2:]
    inner = taps[0] * taps[1]
    if rows % inner or not rows:
        raise ShapeError(
            f"fold: the input's rows must be divisible by the product of kernel_size {taps}, got "
            f"{rows} in shape {tuple(x.shape)}"
        )
    if columns != count[0] * count[1]:
        raise ShapeError(
            f"fold: expected {count[0] * count[1]} columns, a window each ({count[0]} x {count[1]}), got "
            f"{columns} in shape {tuple(x.shape)}"
        )
    # Each channel's windows meet a filter that is 1 at one element: an image of kH * kW results.
    lead = (*x.shape[:-2], rows // inner)
    y = reshape(x, (prod(lead), 1, inner, *count))
    one_hot = np.eye(inner).reshape(1, inner, 1, *taps)
    pick = tensor_of("fold", one_hot.astype(x.dtype.np))
    image = convolve(y, pick, "image", stride, dilation, sizes, around)
    return reshape(image, (*lead, *sizes))
