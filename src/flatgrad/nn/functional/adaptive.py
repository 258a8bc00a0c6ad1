"""Adaptive pooling: an image cut into a given number of parts, and their largest or mean elements.

Part p of O along I elements is ``[floor(p I / O), ceil((p + 1) I / O))``. Where O divides I the parts are
windows side by side; elsewhere they overlap, and are read through a table of indices.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...graph.op import BadCall, Sample
from ...ops.creation import iota
from ...ops.declare import tensor_of
from ...ops.indexing import INDEX
from ...ops.reduction import ARGMAX, reduce_sum
from ...ops.selection import minimum, select
from ...tensor import Tensor, node_of, record
from ..once import as_one, as_several
from .face import batched, described, face, float_input, sizes_argument
from .pooling import Geometry, distinct, largest, picked, sums

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
]


def _sizes(name: str, x: Tensor, output_size, spatial: int) -> tuple[int, ...]:
    """The output sizes; None keeps the image's."""
    image = node_of(x).shape[-spatial:]
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * spatial
    if len(given) == 1:
        given = tuple(given) * spatial
    if len(given) != spatial:
        raise ArgumentError(
            f"{name}: output_size must be an int or {spatial} ints (None keeps a size), got {output_size}"
        )
    filled = [i if o is None else o for i, o in zip(image, given, strict=True)]
    if 0 in image:
        raise ShapeError(f"{name}: the image must not be empty, got an input of {tuple(x.shape)}")
    return sizes_argument(name, "output_size", filled, spatial, 1)


def _side_by_side(image: tuple, sizes: tuple) -> Geometry | None:
    """The parts as windows, if they are equal."""
    if any(i % o for i, o in zip(image, sizes, strict=True)):
        return None
    taps = tuple([i // o for i, o in zip(image, sizes, strict=True)])
    spatial = len(sizes)
    return Geometry(image, taps, taps, (0,) * spatial, (1,) * spatial, sizes)


def _table(image: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(index of each element of each part, lengths); shorter parts repeat their last element."""
    part = np.arange(size)
    start, end = part * image // size, -(-(part + 1) * image // size)
    longest = int((end - start).max())
    return np.minimum(start[:, None] + np.arange(longest), end[:, None] - 1), end - start


def _taken(x: Tensor, dim: int, table: np.ndarray) -> Tensor:
    """`x` with dimension `dim` exchanged for the two of `table`."""
    return record(INDEX, (x, tensor_of("adaptive_pool", table)), ((dim,),))


# -- the mean -------------------------------------------------------------------------------------


def _mean_along(x: Tensor, dim: int, size: int) -> Tensor:
    image = node_of(x).shape[dim]
    if image == size:
        return x
    table, lengths = _table(image, size)
    shape = node_of(x).shape
    seen = _taken(x, dim, table)
    behind = len(shape) - dim - 1
    there = np.arange(table.shape[1]) < lengths[:, None]
    mask = tensor_of("adaptive_pool", there.reshape(*there.shape, *(1,) * behind))
    by = tensor_of("adaptive_pool", lengths.astype(x.dtype.np).reshape(-1, *(1,) * behind))
    return reduce_sum(select(mask, seen, 0.0), (dim + 1,)) / by


def _mean(name: str, spatial: int, input, output_size) -> Tensor:
    x, _ = batched(name, float_input(name, input), spatial)
    sizes = _sizes(name, x, output_size, spatial)
    windows = _side_by_side(node_of(x).shape[-spatial:], sizes)

    def run(x):
        if windows is not None:
            return sums(x, windows) / float(prod(windows.taps))
        for k, size in enumerate(sizes):
            x = _mean_along(x, x.ndim - spatial + k, size)
        return x

    return as_one(name, sizes, run, [x])


# -- the largest ----------------------------------------------------------------------------------


def _largest(name: str, spatial: int, input, output_size, indexed: bool):
    x, _ = batched(name, input, spatial)
    sizes = _sizes(name, x, output_size, spatial)
    image = node_of(x).shape[-spatial:]
    windows = _side_by_side(image, sizes)
    if windows is not None:
        return largest(name, x, windows, indexed)

    def run(x):
        lead, seen = x.ndim - spatial, x
        for k, size in enumerate(sizes):
            seen = _taken(seen, lead + 2 * k, _table(image[k], size)[0])
        dims = tuple(range(lead + 1, lead + 2 * spatial, 2))
        taps = [node_of(seen).shape[d] for d in dims]
        at = _places(record(ARGMAX, (seen,), (dims,)), image, sizes, taps)
        return picked(x, at, spatial), at

    found = as_several(name, sizes, run, [x])
    return (found[0], found[1]) if indexed else found[0]


def _places(at: Tensor, image, sizes, taps) -> Tensor:
    """Where in the flattened image the element is that is number `at` in its part."""
    shape, spatial = node_of(at).shape, len(image)
    found = None
    for k, (i, o, t) in enumerate(zip(image, sizes, taps, strict=True)):
        part = iota(shape, len(shape) - spatial + k)
        tap = (at // prod(taps[k + 1 :])) % t
        last = ((part + 1) * i + (o - 1)) // o - 1
        term = minimum((part * i) // o + tap, last) * prod(image[k + 1 :])
        found = term if found is None else found + term
    return found


# -- faces ----------------------------------------------------------------------------------------

_MEAN = """The means of an image's parts, as many as asked for.

    Parameters
    ----------
    input : Tensor, shape (N, C, {I}) or (C, {I}), floating
    output_size : int or tuple of {n}
        How many parts in each dimension; None for each element on its own.

    Returns
    -------
    Tensor, shape (N, C, *output_size) or (C, *output_size)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For another rank, an empty image, integers, or sizes that are none.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.functional.adaptive_avg_pool{n}d(fg.ones(1, 3, {x}), 1).shape
    flatgrad.Size([1, 3, {e}])
    """

_LARGEST = """The largest elements of an image's parts, as many as asked for; NaN if there is one.

    Parameters
    ----------
    input : Tensor, shape (N, C, {I}) or (C, {I})
    output_size : int or tuple of {n}
        How many parts in each dimension; None for each element on its own.
    return_indices : bool
        Return the places of the elements in the flattened image too, as int64.

    Returns
    -------
    Tensor, shape (N, C, *output_size) or (C, *output_size)
        Gradient: to the first of the largest elements of a part.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For another rank, an empty image, or sizes that are none.
    """

_IMAGES = {1: (7,), 2: (5, 4), 3: (3, 4, 2)}
_PARTS = {1: (3,), 2: (3, 2), 3: (2, 4, 1)}


def _samples(spatial: int, draw, **options):
    def samples(rng):
        yield Sample((draw(rng, 2, 1, *_IMAGES[spatial]), _PARTS[spatial]), dict(options))
        yield Sample((draw(rng, 1, 2, *_IMAGES[spatial]), 1), dict(options))
        if spatial == 2:
            yield Sample((draw(rng, 2, 4, 6), (2, None)), dict(options))
            yield Sample((draw(rng, 2, 2, 3), (5, 4)), dict(options))

    return samples


def _errors(spatial: int):
    def errors():
        x = np.ones((2, 3, *(5,) * spatial))
        yield BadCall((x[0, 0], 2), ShapeError, "unbatched")
        yield BadCall((x, (2,) * (spatial + 1)), ArgumentError, "None keeps a size")
        yield BadCall((x, -1), ArgumentError, "at least 1")
        yield BadCall((x[..., :0], 1), ShapeError, "not be empty")

    return errors


def _normal(rng, *shape):
    return rng.normal(size=shape)


def _mean_face(spatial: int):
    name = f"adaptive_avg_pool{spatial}d"

    def pool(input, output_size) -> Tensor:
        return _mean(name, spatial, input, output_size)

    pool.__name__ = pool.__qualname__ = name
    own = {"samples": _samples(spatial, _normal), "errors": _errors(spatial)}
    return face(name, **own)(described(pool, _MEAN, spatial))


def _largest_face(spatial: int):
    name = f"adaptive_max_pool{spatial}d"

    def pool(input, output_size, return_indices=False):
        return _largest(name, spatial, input, output_size, bool(return_indices))

    pool.__name__ = pool.__qualname__ = name
    samples = _samples(spatial, distinct, return_indices=spatial == 2)
    own = {"samples": samples, "errors": _errors(spatial)}
    return face(name, **own)(described(pool, _LARGEST, spatial))


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(_mean_face, (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = map(_largest_face, (1, 2, 3))
