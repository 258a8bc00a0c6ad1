"""Sums of products over windows. One primitive, bilinear, whose derivatives are itself in another role.

``convolve`` relates three arrays: an image ``x[N, G, C, *I]``, a filter ``w[G, O, C, *K]`` and a result
``y[N, G, O, *Y]``, by the products ``x[n, g, c, i] w[g, o, c, k] y[n, g, o, p]`` of the elements for which
``i = p * stride + k * dilation - padding`` in every spatial dimension. Two of them are given; the third, the
*target*, is the sum of the products of the two over the indices that it lacks:

- "result": ``(x, w) -> y``, the sum over c and k (what networks call a convolution);
- "image": ``(y, w) -> x``, the sum over o and k (a transposed convolution);
- "filter": ``(x, y) -> w``, the sum over n and p.

The derivative of each by either operand is another of the three. There is no padding: zeros around an image
are ``pad``. An image may be larger than its windows reach; what they don't reach meets no product.
"""

from __future__ import annotations

from itertools import product as every
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..errors import ShapeError
from ..tensor import Tensor, make, node_of
from .declare import primitive

# Letters of the roles' leading dimensions; those of a target and its operands are what they share.
ROLES = {"image": "NGC", "filter": "GOC", "result": "NGO"}
# The roles of the operands, in their order, for each target.
OPERANDS = {
    "result": ("image", "filter"),
    "image": ("result", "filter"),
    "filter": ("image", "result"),
}

# Bytes of windows that NumPy's meaning copies at once.
_COPIED = 1 << 22


def reach(windows: int, taps: int, stride: int, dilation: int) -> int:
    """The size of image that `windows` windows of `taps` elements see."""
    return (windows - 1) * stride + (taps - 1) * dilation + 1


def _infer(a, b, target, stride, dilation, sizes, padding):
    shapes = dict(zip(OPERANDS[target], (a.shape, b.shape), strict=True))
    known: dict[str, int] = {}
    for role, shape in shapes.items():
        for letter, size in zip(ROLES[role], shape[:3], strict=True):
            if known.setdefault(letter, size) != size:
                raise ShapeError(
                    f"convolve: dimension {letter} has sizes {known[letter]} and {size} in operands of "
                    f"shapes {a.shape} and {b.shape}; they must be equal"
                )
    return (*[known[letter] for letter in ROLES[target]], *sizes), a.dtype


# -- NumPy ----------------------------------------------------------------------------------------


def _windows(x, stride, dilation, taps, count):
    """The view ``[N, G, C, *K, *Y]`` of an image ``[N, G, C, *I]``."""
    steps = x.strides[3:]
    strides = [s * d for s, d in zip(steps, dilation, strict=True)]
    strides += [s * d for s, d in zip(steps, stride, strict=True)]
    return as_strided(x, (*x.shape[:3], *taps, *count), (*x.strides[:3], *strides), writeable=False)


def _chunks(total: int, bytes_each: int):
    """Slices of the N dimension whose windows are few enough to stay in the cache."""
    step = max(1, _COPIED // max(1, bytes_each))
    return [slice(k, k + step) for k in range(0, total, step)]


def _result_numpy(x, w, stride, dilation, count):
    n, groups, channels = x.shape[:3]
    outs, taps = w.shape[1], w.shape[3:]
    inner, places = channels * prod(taps), prod(count)
    y = np.empty((n, groups, outs, places), x.dtype)
    rows = w.reshape(groups, outs, inner)
    seen = _windows(x, stride, dilation, taps, count)
    for part in _chunks(n, groups * inner * places * x.itemsize):
        columns = seen[part].reshape(len(y[part]), groups, inner, places)
        np.matmul(rows, columns, out=y[part])
    return y.reshape(n, groups, outs, *count)


def _image_numpy(y, w, stride, dilation, sizes):
    n, groups, outs = y.shape[:3]
    channels, taps, count = w.shape[2], w.shape[3:], y.shape[3:]
    inner, places = channels * prod(taps), prod(count)
    x = np.zeros((n, groups, channels, *sizes), y.dtype)
    columns = w.reshape(groups, outs, inner).transpose(0, 2, 1)
    for part in _chunks(n, groups * inner * places * y.itemsize):
        made = np.matmul(columns, y[part].reshape(len(y[part]), groups, outs, places))
        made = made.reshape(len(made), groups, channels, *taps, *count)
        for k in every(*map(range, taps)):
            x[(part, ..., *_reached(k, stride, dilation, count))] += made[:, :, :, *k]
    return x


def _reached(tap, stride, dilation, count):
    """Where element `tap` of each window lies in the image, as slices."""
    starts = [k * d for k, d in zip(tap, dilation, strict=True)]
    return [
        slice(a, a + (m - 1) * s + 1, s) if m else slice(0, 0)
        for a, s, m in zip(starts, stride, count, strict=True)
    ]


def _filter_numpy(x, y, stride, dilation, taps):
    n, groups, channels = x.shape[:3]
    outs, count = y.shape[2], y.shape[3:]
    inner, places = channels * prod(taps), prod(count)
    w = np.zeros((groups, outs, inner), x.dtype)
    spatial = len(taps)
    order = (1, 2, *range(3, 3 + spatial), 0, *range(3 + spatial, 3 + 2 * spatial))
    seen = _windows(x, stride, dilation, taps, count)
    for part in _chunks(n, groups * inner * places * x.itemsize):
        length = len(y[part]) * places
        columns = seen[part].transpose(order).reshape(groups, inner, length)
        rows = y[part].reshape(len(y[part]), groups, outs, places).transpose(1, 2, 0, 3)
        w += np.matmul(rows.reshape(groups, outs, length), columns.transpose(0, 2, 1))
    return w.reshape(groups, outs, channels, *taps)


_NUMPY = {"result": _result_numpy, "filter": _filter_numpy}


def _convolve_numpy(a, b, target, stride, dilation, sizes, padding):
    # The image as large as its windows reach, and on to its own end: then there is no border to think of.
    shapes = {r: x.shape[3:] for r, x in zip(OPERANDS[target], (a, b), strict=True)}
    shapes[target] = sizes
    parts = zip(*[shapes[r] for r in ("image", "filter", "result")], stride, dilation, strict=True)
    reached = [reach(p, k, s, d) if p and k else 0 for _, k, p, s, d in parts]
    if target == "image":
        whole = tuple(
            max(r, n + before) for r, n, before in zip(reached, sizes, padding, strict=True)
        )
        x = _image_numpy(a, b, stride, dilation, whole)
        inside = [slice(k, k + n) for k, n in zip(padding, sizes, strict=True)]
        return np.ascontiguousarray(x[(..., *inside)])
    after = [
        max(0, r - n - before) for r, n, before in zip(reached, a.shape[3:], padding, strict=True)
    ]
    if any(padding) or any(after):
        a = np.pad(a, [(0, 0)] * 3 + list(zip(padding, after, strict=True)))
    return _NUMPY[target](a, b, stride, dilation, sizes)


# -- derivatives ----------------------------------------------------------------------------------


def _exchanged(g: Tensor, target: str, lacking: str, other: Tensor, geometry: tuple, sizes: tuple):
    """The cotangent of the operand in the role `lacking`, from the target's and the other operand."""
    at = {target: g, next(r for r in ROLES if r not in (target, lacking)): other}
    first, second = [at[role] for role in OPERANDS[lacking]]
    stride, dilation, padding = geometry
    return convolve(first, second, lacking, stride, dilation, sizes, padding)


def _convolve_pullback(g, out, a, b, target, stride, dilation, sizes, padding):
    # The sum of all products x w y is linear in each: its derivative by one is the sum that lacks it.
    operands, geometry = OPERANDS[target], (stride, dilation, padding)
    found = []
    for t, other, role in zip((a, b), (b, a), operands, strict=True):
        wanted = t._node.requires_grad
        shape = t._node.shape[3:]
        found.append(_exchanged(g, target, role, other, geometry, shape) if wanted else None)
    return tuple(found)


def _convolve_pushforward(ts, out, a, b, *attrs):
    left = None if ts[0] is None else convolve(ts[0], b, *attrs)
    right = None if ts[1] is None else convolve(a, ts[1], *attrs)
    if left is None or right is None:
        return right if left is None else left
    return left + right


CONVOLVE = primitive(
    "convolve",
    "window",
    2,
    ("target", "stride", "dilation", "sizes", "padding"),
    infer=_infer,
    numpy=_convolve_numpy,
    pullback=_convolve_pullback,
    pushforward=_convolve_pushforward,
    doc="The sum of products of two of image, filter and result over the indices the third lacks.",
)


def convolve(
    a: Tensor,
    b: Tensor,
    target: str,
    stride: tuple,
    dilation: tuple,
    sizes: tuple,
    padding: tuple | None = None,
) -> Tensor:
    """The `target` of two operands of one dtype, whose spatial sizes are to be `sizes`.

    Parameters
    ----------
    a, b : Tensor
        In the roles ``OPERANDS[target]``.
    target : "result", "image" or "filter"
    stride, dilation, sizes : tuple of int
        One entry a spatial dimension.
    padding : tuple of int, optional
        How far the first window begins before the image; default 0.
    """
    nodes = (node_of(a), node_of(b))
    attrs = (target, stride, dilation, sizes, padding or (0,) * len(sizes))
    return make(CONVOLVE, nodes, attrs, *_infer(*nodes, *attrs))
