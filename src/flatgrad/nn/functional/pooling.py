"""Pooling: the largest or the mean element of windows.

Windows side by side are a reshape, and pooling them is a reduction over some of its dimensions, so
nothing is copied. Sums of overlapping windows are a convolution with ones; of overlapping windows
the largest element is gathered, so that its gradient is one scatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from ...graph.dtypes import int64
from ...graph.node import const
from ...graph.op import BadCall, Sample
from ...ops.convolution import convolve, reach
from ...ops.creation import iota
from ...ops.declare import tensor_of
from ...ops.elementwise import remainder
from ...ops.first import first_max
from ...ops.indexing import GATHER
from ...ops.movement import reshape
from ...ops.reduction import ARGMAX, reduce_sum
from ...ops.selection import relu, sign
from ...tensor import Tensor, node_of, record, wrap
from ..once import as_one, as_several
from .face import batched, described, face, float_input, frozen, sizes_argument
from .windows import placed, tiles, windows

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]


@dataclass(frozen=True)
class Geometry:
    """Windows over the last dimensions of an image."""

    image: tuple[int, ...]
    taps: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    count: tuple[int, ...]

    @property
    def tiled(self) -> bool:
        """Whether they lie side by side."""
        return self.taps == self.stride and all(d == 1 for d in self.dilation)

    @property
    def whole(self) -> tuple[int, ...]:
        """How much of a padded image the windows reach over."""
        parts = zip(self.count, self.taps, self.stride, self.dilation, strict=True)
        return tuple([reach(*p) for p in parts])

    def seen(self, x: Tensor, fill) -> tuple[Tensor, tuple[int, ...]]:
        """(the windows of `x`, the dimensions that hold a window's elements)."""
        x = placed(x, self.padding, self.whole, fill)
        if self.tiled:
            return tiles(x, self.taps)
        found = windows(x, self.taps, self.stride, self.dilation)
        return found, tuple(range(found.ndim - len(self.taps), found.ndim))


def geometry(name, x, spatial, kernel_size, stride, padding, dilation, ceil_mode) -> Geometry:
    """The windows that arguments of PyTorch's mean.

    Raises
    ------
    ArgumentError, ShapeError
        If there are none.
    """
    given = map(frozen, (kernel_size, stride, padding, dilation))
    return _geometry(name, node_of(x).shape, spatial, *given, bool(ceil_mode))


@lru_cache(maxsize=1024, typed=True)
def _geometry(name, shape, spatial, kernel_size, stride, padding, dilation, ceil_mode) -> Geometry:
    taps = sizes_argument(name, "kernel_size", kernel_size, spatial, 1)
    stride = taps if stride is None or stride == () else stride
    stride = sizes_argument(name, "stride", stride, spatial, 1)
    padding = sizes_argument(name, "padding", padding, spatial, 0)
    dilation = sizes_argument(name, "dilation", dilation, spatial, 1)
    image = shape[-spatial:]
    count = []
    for i, k, s, p, d in zip(image, taps, stride, padding, dilation, strict=True):
        if 2 * p > (k - 1) * d + 1:
            raise ArgumentError(
                f"{name}: pad should be at most half of effective kernel size, got padding={padding}, "
                f"kernel_size={taps}, dilation={dilation}"
            )
        room = i + 2 * p - reach(1, k, 1, d)
        n = -(-room // s) + 1 if ceil_mode else room // s + 1
        if ceil_mode and (n - 1) * s >= i + p:
            n -= 1  # a window must begin inside the image, or before it
        count.append(n)
    if min(count) < 1 or 0 in shape[-spatial - 1 :]:
        raise ShapeError(
            f"{name}: Given input size {shape}, calculated output size {tuple(count)}. Output "
            "size is too small; an image with channels and a kernel that fits are required"
        )
    return Geometry(image, taps, stride, padding, dilation, tuple(count))


# -- the largest element --------------------------------------------------------------------------


def largest(name: str, x: Tensor, windows: Geometry, indexed: bool):
    """The largest elements of windows; with their places in the flattened image if `indexed`."""
    kind = node_of(x).dtype
    if kind.category == 0:
        raise DTypeError(f"{name}: not defined for bool tensors; convert with .to() first")
    fill = -np.inf if kind.is_floating_point else int(np.iinfo(kind.np).min)

    def run(x):
        seen, dims = windows.seen(x, fill)
        if windows.tiled and not indexed:
            return (first_max(seen, dims),)
        at = places(record(ARGMAX, (seen,), (dims,)), windows)
        return (first_max(seen, dims) if windows.tiled else picked(x, at, len(windows.taps))), at

    found = as_several(name, (windows, indexed), run, [x])
    return (found[0], found[1]) if indexed else found[0]


def places(at: Tensor, windows: Geometry) -> Tensor:
    """Where in the flattened image the element is that is number `at` in its window."""
    taps, image = windows.taps, windows.image
    shape, spatial = node_of(at).shape, len(taps)
    lead = len(shape) - spatial
    found = None
    for k in range(spatial):
        tap = (at // prod(taps[k + 1 :])) % taps[k] if spatial > 1 else at
        here = iota(shape, lead + k) * windows.stride[k] + tap * windows.dilation[k]
        if windows.padding[k]:
            # All are -inf: the first, which is padding. The first in the image counts, as in PyTorch.
            here = here - windows.padding[k]
            here = here.where(here >= 0, remainder(here, windows.dilation[k]))
        term = here * prod(image[k + 1 :])
        found = term if found is None else found + term
    return found


def picked(x: Tensor, at: Tensor, spatial: int) -> Tensor:
    """The elements of images that indices into their flattened last dimensions name."""
    shape, out = node_of(x).shape, node_of(at).shape
    lead, inner = prod(shape[:-spatial]), prod(shape[-spatial:])
    flat = reshape(at, (lead, prod(out[-spatial:])))
    return reshape(record(GATHER, (reshape(x, (lead, inner)), flat), (1,)), out)


def _max_pool(name, spatial, input, indexed, *options) -> Tensor | tuple[Tensor, Tensor]:
    x, _ = batched(name, input, spatial)
    return largest(name, x, geometry(name, x, spatial, *options), bool(indexed))


_MAX = """The largest element of each window; NaN if there is one.

    Parameters
    ----------
    input : Tensor, shape (N, C, {I}) or (C, {I})
    kernel_size, stride, padding, dilation : int or tuple of {n}
        The stride is by default the kernel size. Nothing that is padding is ever chosen.
    ceil_mode : bool
        Let windows reach over the end.
    return_indices : bool
        Return the places of the elements in the flattened image too, as int64.

    Returns
    -------
    Tensor, shape (N, C, {Y}) or (C, {Y})
        Gradient: to the first of the largest elements of a window.

    Raises
    ------
    ShapeError, ArgumentError
        For an image without windows, or options that do not fit.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.functional.max_pool{n}d(fg.ones(1, 3, {x}), 2).shape
    flatgrad.Size([1, 3, {h}])
    """

_SMALL = {1: (7,), 2: (5, 4), 3: (3, 4, 2)}


def distinct(rng, *shape) -> np.ndarray:
    """Numbers of which no two are close, so that differences see no kink."""
    return rng.permutation(prod(shape)).reshape(shape) / 4.0 + rng.uniform(0, 0.1)


def _max_samples(spatial: int):
    image = _SMALL[spatial]

    def samples(rng):
        yield Sample((distinct(rng, 2, 1, *image), 2))
        yield Sample((distinct(rng, 2, *image), 2, 1), {"padding": 1})
        yield Sample((distinct(rng, 1, 1, *image), 2), {"ceil_mode": True, "padding": 1})
        if spatial < 3:
            yield Sample((distinct(rng, 1, 2, *image), (3, 2)[:spatial]), {"return_indices": True})
            options = {"stride": 1, "dilation": 2, "return_indices": True, "padding": 1}
            yield Sample((distinct(rng, 1, 2, *image), 2), options)

    return samples


def _window_errors(spatial: int):
    x = np.ones((2, 3, *(5,) * spatial))
    yield BadCall((x[0, 0], 2), ShapeError, "unbatched")
    yield BadCall((x, 6), ShapeError, "Output size is too small")
    yield BadCall((x, 2), ArgumentError, "at most half", {"padding": 2})
    yield BadCall((x, 0), ArgumentError, "kernel_size must be at least 1")
    yield BadCall((x, 2, 0), ArgumentError, "stride must be at least 1")
    yield BadCall((x, (2,) * (spatial + 1)), ArgumentError, "one a dimension")


def _max_errors(spatial: int):
    def errors():
        yield from _window_errors(spatial)
        x = np.ones((2, 3, *(5,) * spatial), bool)
        yield BadCall((x, 2), DTypeError, "not defined for bool")

    return errors


def _max_face(spatial: int):
    name = f"max_pool{spatial}d"

    def max_pool(
        input,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        return_indices=False,
    ):
        options = (kernel_size, stride, padding, dilation, ceil_mode)
        return _max_pool(name, spatial, input, return_indices, *options)

    max_pool.__name__ = max_pool.__qualname__ = name
    own = {"samples": _max_samples(spatial), "errors": _max_errors(spatial)}
    return face(name, **own)(described(max_pool, _MAX, spatial))


max_pool1d, max_pool2d, max_pool3d = map(_max_face, (1, 2, 3))


# -- back to where it was -------------------------------------------------------------------------

_UNPOOL = """Zeros, and the input's elements at the places that ``max_pool{n}d`` found: in part its inverse.

    Parameters
    ----------
    input, indices : Tensor, shape (N, C, {I}) or (C, {I}); indices int64
        What ``max_pool{n}d`` returned with ``return_indices=True``. Of several elements for one place the
        last counts.
    kernel_size, stride, padding : int or tuple of {n}
        As given to it.
    output_size : tuple of int, optional
        The sizes of its input, where several are possible.

    Returns
    -------
    Tensor, shape (N, C, {Y}) or (C, {Y})

    Raises
    ------
    ShapeError, ArgumentError
        For shapes, sizes or options that do not fit; for a place outside when the value is needed.
    """


def _unpooled_sizes(name, have, kernel_size, stride, padding, output_size) -> tuple[int, ...]:
    spatial = len(have)
    taps = sizes_argument(name, "kernel_size", kernel_size, spatial, 1)
    stride = sizes_argument(name, "stride", taps if stride is None else stride, spatial, 1)
    padding = sizes_argument(name, "padding", padding, spatial, 0)
    parts = zip(have, taps, stride, padding, strict=True)
    usual = tuple([(h - 1) * s + k - 2 * p for h, k, s, p in parts])
    if output_size is None:
        return usual
    wanted = sizes_argument(name, "output_size", tuple(output_size)[-spatial:], spatial, 1)
    if any(not u - s < w < u + s for w, u, s in zip(wanted, usual, stride, strict=True)):
        raise ShapeError(
            f"{name}: output_size must differ from {usual} by less than the stride {stride} in each "
            f"dimension, got {tuple(output_size)}"
        )
    return wanted


def _unpool_samples(spatial: int):
    def samples(rng):
        count = 3**spatial
        places = np.stack([rng.permutation(4**spatial)[:count] for _ in range(2)])
        at = places.reshape(1, 2, *(3,) * spatial)
        yield Sample((rng.normal(size=at.shape), at, 2, 1))
        yield Sample((rng.normal(size=at[0].shape), at[0], 2), {"output_size": (7,) * spatial})

    return samples


def _unpool_errors(spatial: int):
    def errors():
        x = np.ones((1, 2, *(3,) * spatial))
        at = np.zeros(x.shape, np.int64)
        yield BadCall((x, at[:, :1], 2), ShapeError, "the shape of the input")
        yield BadCall((x, x, 2), DTypeError, "int64")
        yield BadCall(
            (x, at, 2), ShapeError, "less than the stride", {"output_size": (9,) * spatial}
        )

    return errors


def _unpool_face(spatial: int):
    name = f"max_unpool{spatial}d"

    def unpool(input, indices, kernel_size, stride=None, padding=0, output_size=None) -> Tensor:
        x, _ = batched(name, input, spatial)
        at = tensor_of(name, indices, 1)
        if at.dtype is not int64:
            raise DTypeError(
                f"{name}: indices must be int64, got {at.dtype!r}; convert with .long()"
            )
        shape = node_of(x).shape
        if node_of(at).shape != shape:
            raise ShapeError(
                f"{name}: indices must have the shape of the input, {shape}, got {tuple(at.shape)}"
            )
        have = shape[-spatial:]
        out = _unpooled_sizes(name, have, kernel_size, stride, padding, output_size)
        lead = shape[:-spatial]
        rows, count = prod(lead), prod(have)
        zeros = wrap(const(0, x.dtype, (rows, prod(out))))
        filled = zeros.scatter(1, reshape(at, (rows, count)), reshape(x, (rows, count)))
        return reshape(filled, (*lead, *out))

    unpool.__name__ = unpool.__qualname__ = name
    own = {"samples": _unpool_samples(spatial), "errors": _unpool_errors(spatial)}
    return face(name, **own)(described(unpool, _UNPOOL, spatial))


max_unpool1d, max_unpool2d, max_unpool3d = map(_unpool_face, (1, 2, 3))


# -- the mean -------------------------------------------------------------------------------------


def sums(x: Tensor, windows: Geometry) -> Tensor:
    """The sum of each window."""
    if windows.tiled:
        return reduce_sum(*windows.seen(x, 0))
    shape, spatial = node_of(x).shape, len(windows.taps)
    lead = shape[:-spatial]
    ones = wrap(const(1, x.dtype, (1, 1, 1, *windows.taps)))
    image = reshape(x, (prod(lead), 1, 1, *windows.image))
    options = (windows.stride, windows.dilation, windows.count, windows.padding)
    return reshape(convolve(image, ones, "result", *options), (*lead, *windows.count))


def _divisors(windows: Geometry, include_pad: bool, like: Tensor) -> Tensor | float:
    """How many elements each window has: those in the image, or those before the padding's end."""
    counts = np.ones((), like.dtype.np)
    parts = zip(
        windows.count, windows.stride, windows.padding, windows.taps, windows.image, strict=True
    )
    for n, s, p, k, i in parts:
        start = np.arange(n) * s - p
        end = np.minimum(start + k, i + p)
        if not include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, i)
        counts = np.multiply.outer(counts, (end - start).astype(like.dtype.np))
    if (counts == counts.flat[0]).all():
        return float(counts.flat[0])
    return tensor_of("avg_pool", counts)


def _avg_pool(name, spatial, input, kernel_size, stride, padding, ceil_mode, include, divisor):
    x, _ = batched(name, float_input(name, input), spatial)
    found = geometry(name, x, spatial, kernel_size, stride, padding, 1, ceil_mode)
    if divisor is not None and (not isinstance(divisor, int) or divisor == 0):
        raise ArgumentError(f"{name}: divisor_override must be an int, not zero, got {divisor!r}")
    options = (found, bool(include), divisor)

    def run(x):
        by = _divisors(found, bool(include), x) if divisor is None else float(divisor)
        return sums(x, found) / by

    return as_one(name, options, run, [x])


_AVG = """The mean of each window.

    Parameters
    ----------
    input : Tensor, shape (N, C, {I}) or (C, {I}), floating
    kernel_size, stride, padding : int or tuple of {n}
        The stride is by default the kernel size.
    ceil_mode : bool
        Let windows reach over the end.
    count_include_pad : bool
        Divide by the number of elements with the zeros of the padding, or without.{more}

    Returns
    -------
    Tensor, shape (N, C, {Y}) or (C, {Y})

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For an image without windows, integers, or options that do not fit.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.functional.avg_pool{n}d(fg.ones(1, 3, {x}), 2).shape
    flatgrad.Size([1, 3, {h}])
    """
_OVERRIDE = """
    divisor_override : int, optional
        Divide by this instead."""


def _avg_samples(spatial: int):
    image = _SMALL[spatial]

    def samples(rng):
        def x(*lead):
            return rng.normal(size=(*lead, *image))

        yield Sample((x(2, 1), 2))
        yield Sample((x(2), 2, 1), {"padding": 1, "count_include_pad": False})
        yield Sample((x(1, 1), 2), {"ceil_mode": True, "padding": 1})
        if spatial == 2:
            yield Sample((x(1, 2), (3, 2), (1, 2)), {"divisor_override": 3})

    return samples


def _avg_errors(spatial: int):
    def errors():
        yield from _window_errors(spatial)
        x = np.ones((2, 3, *(5,) * spatial))
        yield BadCall((x.astype(int), 2), DTypeError, "floating-point")
        if spatial > 1:
            yield BadCall((x, 2), ArgumentError, "not zero", {"divisor_override": 0})

    return errors


def _avg_face(spatial: int):
    name = f"avg_pool{spatial}d"

    def avg_pool1d(
        input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True
    ) -> Tensor:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad)
        return _avg_pool(name, spatial, input, *options, None)

    def avg_pool(
        input,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ) -> Tensor:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad)
        return _avg_pool(name, spatial, input, *options, divisor_override)

    function = avg_pool1d if spatial == 1 else avg_pool
    function.__name__ = function.__qualname__ = name
    text = _AVG.replace("{more}", _OVERRIDE if spatial > 1 else "")
    own = {"samples": _avg_samples(spatial), "errors": _avg_errors(spatial)}
    return face(name, **own)(described(function, text, spatial))


avg_pool1d, avg_pool2d, avg_pool3d = map(_avg_face, (1, 2, 3))


# -- the norm -------------------------------------------------------------------------------------


_LP = """The p-norm of each window: ``sum(x**p) ** (1 / p)``, for even p.

    As PyTorch's: powers keep their sign (odd p), and what is negative in sum counts as 0.

    Parameters
    ----------
    input : Tensor, shape (N, C, {I}) or (C, {I}), floating
    norm_type : float
        The power p.
    kernel_size, stride : int or tuple of {n}
    ceil_mode : bool

    Returns
    -------
    Tensor, shape (N, C, {Y}) or (C, {Y})

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For an image without windows, integers, or options that do not fit.
    """


def _lp_samples(spatial: int):
    def samples(rng):
        x = rng.uniform(0.5, 2.0, (1, 2, *_SMALL[spatial]))
        yield Sample((x, 2, 2))
        yield Sample((x[0], 3.0, 2, 1), {"ceil_mode": True})

    return samples


def _lp_errors(spatial: int):
    def errors():
        x = np.ones((2, 3, *(5,) * spatial))
        yield BadCall((x[0, 0], 2, 2), ShapeError, "unbatched")
        yield BadCall((x, 2, 6), ShapeError, "too small")
        yield BadCall((x, "2", 2), ArgumentError, "norm_type must be a number")
        yield BadCall((x, 0, 2), ArgumentError, "not zero")

    return errors


def _lp_face(spatial: int):
    name = f"lp_pool{spatial}d"

    def lp_pool(input, norm_type, kernel_size, stride=None, ceil_mode=False) -> Tensor:
        if not isinstance(norm_type, (int, float)) or norm_type == 0:
            raise ArgumentError(f"{name}: norm_type must be a number, not zero, got {norm_type!r}")
        x = float_input(name, input)
        mean = _avg_pool(name, spatial, x**norm_type, kernel_size, stride, 0, ceil_mode, True, None)
        taps = prod(sizes_argument(name, "kernel_size", kernel_size, spatial, 1))
        return (sign(mean) * relu(mean.abs()) * taps) ** (1.0 / norm_type)

    lp_pool.__name__ = lp_pool.__qualname__ = name
    own = {"samples": _lp_samples(spatial), "errors": _lp_errors(spatial)}
    return face(name, **own)(described(lp_pool, _LP, spatial))


lp_pool1d, lp_pool2d, lp_pool3d = map(_lp_face, (1, 2, 3))
