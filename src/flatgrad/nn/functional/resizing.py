"""Images of another size: interpolation along each dimension, and channels exchanged for pixels.

Interpolation is separable: along a dimension every result is a weighted sum of a few elements whose places
are known beforehand. Enlarging by a whole number without weights is an expand, whose gradient is a sum.
"""

from __future__ import annotations

import math

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...graph.op import BadCall, Sample
from ...ops.declare import tensor_of
from ...ops.indexing import INDEX
from ...ops.movement import expand, permute, reshape
from ...tensor import Tensor, node_of, record
from ..once import as_one
from . import adaptive
from .face import face, float_input, sizes_argument

__all__ = ["interpolate", "pixel_shuffle", "pixel_unshuffle"]

# Modes, and the numbers of spatial dimensions that they are for.
_MODES = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "trilinear": (3,),
    "bicubic": (2,),
}
_WEIGHTED = ("linear", "bilinear", "trilinear", "bicubic")


# -- places and weights ---------------------------------------------------------------------------


def _nearest(size: int, out: int, scale: float, exact: bool) -> np.ndarray:
    # In single precision, as PyTorch's: which of two pixels is nearer can depend on it.
    at = np.arange(out, dtype=np.float32) + np.float32(0.5 if exact else 0)
    return np.minimum((at * np.float32(scale)).astype(np.int64), size - 1)


def _cubic(t: np.ndarray) -> np.ndarray:
    """Weights of the four pixels around a place `t` after the second. Source: Keys 1981, a = -0.75."""
    a = -0.75

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)], 1)


def _weighted(size: int, out: int, scale: float, aligned: bool, cubic: bool):
    """(index of each pixel that counts, its weight), both of shape (out, pixels)."""
    if aligned:
        at = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        at = (np.arange(out) + 0.5) * scale - 0.5
        at = at if cubic else np.maximum(at, 0)
    first = np.floor(at).astype(np.int64)
    part = at - first
    taps = np.arange(-1, 3) if cubic else np.arange(2)
    weights = _cubic(part) if cubic else np.stack([1 - part, part], 1)
    return np.clip(first[:, None] + taps, 0, size - 1), weights


def _along(x: Tensor, dim: int, index: np.ndarray, weights: np.ndarray) -> Tensor:
    """Weighted sums of elements along `dim`."""
    behind = (1,) * (x.ndim - dim - 1)
    total = None
    for at, weight in zip(index.T, weights.T, strict=True):
        by = tensor_of("interpolate", weight.astype(x.dtype.np).reshape(-1, *behind))
        term = _taken(x, dim, at) * by
        total = term if total is None else total + term
    return total


def _taken(x: Tensor, dim: int, at: np.ndarray) -> Tensor:
    return record(INDEX, (x, tensor_of("interpolate", np.ascontiguousarray(at))), ((dim,),))


def _repeated(x: Tensor, dim: int, times: int) -> Tensor:
    """Each element along `dim` several times."""
    shape = node_of(x).shape
    wide = (*shape[: dim + 1], times, *shape[dim + 1 :])
    x = expand(reshape(x, (*shape[: dim + 1], 1, *shape[dim + 1 :])), wide)
    return reshape(x, (*shape[:dim], shape[dim] * times, *shape[dim + 1 :]))


# -- interpolate ----------------------------------------------------------------------------------


def _sizes(x: Tensor, size, scale_factor, recompute) -> tuple[tuple, tuple]:
    """(output sizes, distance of two results in the input) of each dimension."""
    have = node_of(x).shape[2:]
    spatial = len(have)
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: one of size and scale_factor must be given, and not both")
    if size is not None:
        if recompute:
            raise ArgumentError("interpolate: recompute_scale_factor needs scale_factor, not size")
        out = sizes_argument("interpolate", "size", size, spatial, 1)
        return out, tuple([i / o for i, o in zip(have, out, strict=True)])
    given = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * spatial
    if len(given) != spatial or not all(isinstance(s, (int, float)) and s > 0 for s in given):
        raise ArgumentError(
            f"interpolate: scale_factor must be a positive number or {spatial} of them, got {scale_factor!r}"
        )
    out = tuple([math.floor(i * s) for i, s in zip(have, given, strict=True)])
    if 0 in out:
        raise ShapeError(
            f"interpolate: Input and output sizes should be greater than 0, got {have} and {out}"
        )
    if recompute:
        return out, tuple([i / o for i, o in zip(have, out, strict=True)])
    return out, tuple([1.0 / s for s in given])


def _interpolate_samples(rng):
    x = rng.normal(size=(1, 2, 3, 4))
    yield Sample((x, (5, 2)))
    yield Sample((x,), {"scale_factor": 2})
    yield Sample((x, (5, 6), None, "bilinear"), {"align_corners": True})
    yield Sample((x,), {"scale_factor": (1.5, 0.6), "mode": "bilinear"})
    yield Sample((x, (4, 7)), {"mode": "bicubic"})
    yield Sample((x[0], 7), {"mode": "linear"})
    yield Sample((x, (2, 3)), {"mode": "area"})
    yield Sample((rng.normal(size=(1, 1, 2, 2, 3)), 3), {"mode": "trilinear"})


def _interpolate_errors():
    x = np.ones((1, 2, 3, 4))
    yield BadCall((x,), ArgumentError, "one of size and scale_factor")
    yield BadCall((x, 5, 2.0), ArgumentError, "and not both")
    yield BadCall((x, 5), ArgumentError, "mode must be one of", {"mode": "cubic"})
    yield BadCall((x, 5), ShapeError, "mode 'linear' is for", {"mode": "linear"})
    yield BadCall((x, 5), ArgumentError, "align_corners", {"align_corners": True})
    yield BadCall((x, (5, 5, 5)), ArgumentError, "one a dimension")
    yield BadCall((x,), ShapeError, "greater than 0", {"scale_factor": 0.1})
    yield BadCall((x[0, 0], 5), ShapeError, "3D, 4D or 5D")


@face(samples=_interpolate_samples, errors=_interpolate_errors)
def interpolate(
    input: Tensor,
    size=None,
    scale_factor=None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """An image of another size.

    Parameters
    ----------
    input : Tensor, shape (N, C, *D), one to three spatial dimensions, floating
    size : int or tuple of int, optional
        The spatial sizes of the result.
    scale_factor : float or tuple of float, optional
        Or how many times the input's they are.
    mode : str
        "nearest", "nearest-exact", "linear" (one dimension), "bilinear", "bicubic" (two), "trilinear"
        (three) or "area".
    align_corners : bool, optional
        Let the outer pixels' centres stay where they are, in the modes with weights.
    recompute_scale_factor : bool, optional
        Use the quotient of the sizes in the place of `scale_factor`.

    Returns
    -------
    Tensor, shape (N, C, *D')

    Raises
    ------
    ShapeError, ArgumentError, DTypeError
        For sizes or modes that do not fit the input.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.functional.interpolate(fg.tensor([[[1.0, 3.0]]]), size=4, mode="linear").tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """
    x = float_input("interpolate", input)
    rank = len(node_of(x).shape)
    if rank not in (3, 4, 5) or 0 in node_of(x).shape[2:]:
        raise ShapeError(
            "interpolate: a 3D, 4D or 5D input (N, C, ...) with pixels is required, got shape "
            f"{tuple(x.shape)}"
        )
    if mode not in _MODES:
        raise ArgumentError(f"interpolate: mode must be one of {tuple(_MODES)}, got {mode!r}")
    if rank - 2 not in _MODES[mode]:
        raise ShapeError(
            f"interpolate: mode {mode!r} is for {_MODES[mode][0]} spatial dimensions, got {rank - 2} in "
            f"shape {tuple(x.shape)}"
        )
    if align_corners is not None and mode not in _WEIGHTED:
        raise ArgumentError(
            f"interpolate: align_corners can only be set with the modes {_WEIGHTED}, got {mode!r}"
        )
    out, scales = _sizes(x, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return getattr(adaptive, f"adaptive_avg_pool{rank - 2}d")(x, out)

    def run(x):
        for dim, (size, scale) in enumerate(zip(out, scales, strict=True), 2):
            x = _resized(x, dim, size, scale, mode, bool(align_corners))
        return x

    return as_one("interpolate", (out, scales, mode, bool(align_corners)), run, [x])


def _resized(x: Tensor, dim: int, out: int, scale: float, mode: str, aligned: bool) -> Tensor:
    size = node_of(x).shape[dim]
    if size == out and scale == 1:
        return x
    if mode in _WEIGHTED:
        return _along(x, dim, *_weighted(size, out, scale, aligned, mode == "bicubic"))
    if out % size == 0 and scale * out == size:
        return _repeated(x, dim, out // size)
    return _taken(x, dim, _nearest(size, out, scale, mode == "nearest-exact"))


# -- channels and pixels --------------------------------------------------------------------------


def _shuffle_samples(rng):
    yield Sample((rng.normal(size=(1, 8, 2, 3)), 2))
    yield Sample((rng.normal(size=(9, 1, 2)), 3))


def _shuffle_errors():
    yield BadCall((np.ones((1, 6, 2, 2)), 2), ShapeError, "divisible by the square")
    yield BadCall((np.ones((2, 2)), 2), ShapeError, "at least 3 dimensions")
    yield BadCall((np.ones((1, 4, 2, 2)), 0), ArgumentError, "at least 1")


def _image(name: str, input, factor) -> tuple[Tensor, tuple, int]:
    x = tensor_of(name, input)
    shape = node_of(x).shape
    if len(shape) < 3:
        raise ShapeError(
            f"{name}: at least 3 dimensions (..., C, H, W) are required, got shape {shape}"
        )
    (factor,) = sizes_argument(name, "the factor", factor, 1, 1)
    return x, shape, factor


@face(samples=_shuffle_samples, errors=_shuffle_errors)
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """``(*B, C r r, H, W)`` as ``(*B, C, H r, W r)``: channels become pixels. Source: Shi et al. 2016."""
    x, shape, r = _image("pixel_shuffle", input, upscale_factor)
    *lead, channels, height, width = shape
    if channels % (r * r):
        raise ShapeError(
            f"pixel_shuffle: the channels must be divisible by the square of upscale_factor={r}, got "
            f"{channels} in shape {shape}"
        )
    n, rest = len(lead), channels // (r * r)
    x = reshape(x, (*lead, rest, r, r, height, width))
    x = permute(x, (*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return reshape(x, (*lead, rest, height * r, width * r))


def _unshuffle_samples(rng):
    yield Sample((rng.normal(size=(1, 2, 4, 6)), 2))
    yield Sample((rng.normal(size=(1, 3, 6)), 3))


def _unshuffle_errors():
    yield BadCall((np.ones((1, 1, 3, 4)), 2), ShapeError, "divisible by downscale_factor")
    yield BadCall((np.ones((2, 2)), 2), ShapeError, "at least 3 dimensions")


@face(samples=_unshuffle_samples, errors=_unshuffle_errors)
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """``(*B, C, H r, W r)`` as ``(*B, C r r, H, W)``: the inverse of :func:`pixel_shuffle`."""
    x, shape, r = _image("pixel_unshuffle", input, downscale_factor)
    *lead, channels, height, width = shape
    if height % r or width % r:
        raise ShapeError(
            f"pixel_unshuffle: height and width must be divisible by downscale_factor={r}, got shape {shape}"
        )
    n = len(lead)
    x = reshape(x, (*lead, channels, height // r, r, width // r, r))
    x = permute(x, (*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return reshape(x, (*lead, channels * r * r, height // r, width // r))
