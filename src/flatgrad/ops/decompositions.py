"""Matrix decompositions through LAPACK: QR, eigenvalues, singular values; pseudo-inverse, exp.

Primitives of kind "library", see ops/linalg.py. Sources of the derivatives: Giles (2008); Seeger
et al., "Auto-differentiating linear algebra" (2017); Walter and Lehmann, "Algorithmic
differentiation of linear algebra functions with application in optimum experimental design" (2010);
Golub and Pereyra, "The differentiation of pseudo-inverses" (1973); Higham, "Functions of
Matrices" (2008).
"""

from __future__ import annotations

import numpy as np

from ..errors import GradientError
from ..graph.node import const, leaf
from ..tensor import Tensor, node_of, record, wrap
from .contraction import matmul
from .declare import primitive
from .linalg import (
    columns_scaled,
    diagonal_of,
    lower,
    raise_unconverged,
    rows_scaled,
    same_shape,
    swap,
    triangular,
    with_diagonal,
)
from .movement import SLICE, view_scatter
from .scan import narrowed

# -- QR -------------------------------------------------------------------------------------------


def _qr_infer(x, *mode):
    *batch, m, n = x.shape
    k = m if mode else min(m, n)
    return ((*batch, m, k), (*batch, k, n)), (x.dtype, x.dtype)


def _qr_pullback(g, out, x):
    # Walter and Lehmann, for m >= n:
    # (G_Q + Q copyltu(M)) R^-T with M = R G_R' - G_Q' Q and copyltu(M) = tril(M) + tril(M, -1)'.
    q, r = out
    inner = None
    if g[1] is not None:
        inner = matmul(r, swap(g[1]))
    if g[0] is not None:
        part = matmul(swap(g[0]), q)
        inner = -part if inner is None else inner - part
    whole = matmul(q, lower(inner) + swap(lower(inner, -1)))
    if g[0] is not None:
        whole = whole + g[0]
    return (swap(triangular(r, swap(whole), True)),)


QR = primitive(
    "qr",
    "library",
    1,
    (),
    infer=_qr_infer,
    numpy=lambda x: tuple(np.linalg.qr(x, "reduced")),
    pullback=_qr_pullback,
    loop=("qr",),
    outputs=2,
    doc="Q and R of A = Q R, for matrices with at least as many rows as columns.",
)


def _qr_complete_pullback(g, out, x):
    raise GradientError(
        'linalg.qr: mode="complete" has no derivative for matrices with more rows than '
        'columns, since Q\'s last columns are arbitrary; use mode="reduced"'
    )


QR_COMPLETE = primitive(
    "qr_complete",
    "library",
    1,
    (),
    infer=lambda x: _qr_infer(x, "complete"),
    numpy=lambda x: tuple(np.linalg.qr(x, "complete")),
    pullback=_qr_complete_pullback,
    loop=("qr_complete",),
    outputs=2,
    doc="Q and R of A = Q R with a square Q.",
)


# -- eigenvalues, singular values -----------------------------------------------------------------


def _eigh_numpy(x, uplo):
    try:
        return tuple(np.linalg.eigh(x, uplo))
    except np.linalg.LinAlgError:
        raise_unconverged("linalg.eigh", np.linalg.eigh, x)


def _gaps(values: Tensor) -> Tensor:
    """values[j] - values[i] at (i, j), and 1 on the diagonal."""
    n = values.shape[-1]
    lead = values.shape[:-1]
    gaps = values.reshape(*lead, 1, n) - values.reshape(*lead, n, 1)
    return gaps + wrap(leaf(np.eye(n, dtype=node_of(values).dtype.np), node_of(values).dtype))


def _eigh_pullback(g, out, x, uplo):
    # Giles 3.1, Seeger et al.: V (diag(g) + sym((V' G) / E)) V' with E[i, j] = L[j] - L[i]; the
    # symmetric part, since only symmetric changes of A have a meaning.
    values, vectors = out
    if g[1] is None:
        inner = columns_scaled(vectors, g[0])
    else:
        inner = matmul(swap(vectors), g[1])
        diagonal = diagonal_of(inner) * 0.0 if g[0] is None else g[0]
        inner = inner / _gaps(values)
        inner = matmul(vectors, with_diagonal((inner + swap(inner)) * 0.5, diagonal))
    return (matmul(inner, swap(vectors)),)


EIGH = primitive(
    "eigh",
    "library",
    1,
    ("uplo",),
    infer=lambda x, uplo: ((x.shape[:-1], x.shape), (x.dtype, x.dtype)),
    numpy=_eigh_numpy,
    pullback=_eigh_pullback,
    loop=("eigh",),
    outputs=2,
    doc="Eigenvalues, ascending, and eigenvectors of symmetric matrices; reads one triangle.",
)


def _svd_infer(x, full):
    *batch, m, n = x.shape
    k = min(m, n)
    shapes = ((*batch, m, m if full else k), (*batch, k), (*batch, n if full else k, n))
    return shapes, (x.dtype,) * 3


def _svd_numpy(x, full):
    try:
        return tuple(np.linalg.svd(x, full))
    except np.linalg.LinAlgError:
        raise_unconverged("linalg.svd", np.linalg.svd, x)


def _skew(t: Tensor) -> Tensor:
    return t - swap(t)


def _svd_pullback(g, out, x, full):
    # Seeger et al., section 3.3, Giles 3.2. With E[i, j] = S[j]^2 - S[i]^2:
    # U [ (skew(U'G_U) / E) S + S (skew(V'G_V) / E) + diag(G_S) ] V', and for U (likewise V) that
    # is not square the part of G_U outside U's columns, divided by S.
    u, s, vh = out
    gu, gs, gvh = g
    k = node_of(s).shape[-1]
    if full:  # the columns beyond the k-th are arbitrary: no derivative goes through them
        rank = x.ndim
        u, vh = narrowed(u, rank - 1, 0, k), narrowed(vh, rank - 2, 0, k)
        gu = None if gu is None else narrowed(gu, rank - 1, 0, k)
        gvh = None if gvh is None else narrowed(gvh, rank - 2, 0, k)
    if gu is None and gvh is None:
        return (matmul(columns_scaled(u, gs), vh),)
    m, n = node_of(x).shape[-2:]
    squares = s * s
    gaps = _gaps(squares)
    inner = None
    if gu is not None:
        inner = columns_scaled(_skew(matmul(swap(u), gu)) / gaps, s)
    if gvh is not None:
        part = rows_scaled(_skew(matmul(vh, swap(gvh))) / gaps, s)
        inner = part if inner is None else inner + part
    if gs is not None:
        inner = with_diagonal(inner, gs + diagonal_of(inner))
    whole = matmul(matmul(u, inner), vh)
    if gu is not None and m > k:
        outside = columns_scaled(gu - matmul(u, matmul(swap(u), gu)), 1.0 / s)
        whole = whole + matmul(outside, vh)
    if gvh is not None and n > k:
        outside = rows_scaled(gvh - matmul(matmul(gvh, swap(vh)), vh), 1.0 / s)
        whole = whole + matmul(u, outside)
    return (whole,)


SVD = primitive(
    "svd",
    "library",
    1,
    ("full",),
    infer=_svd_infer,
    numpy=_svd_numpy,
    pullback=_svd_pullback,
    loop=("svd",),
    outputs=3,
    doc="U, S, V' of A = U diag(S) V', S descending.",
    kinks="U and V have no derivative where singular values are equal, or zero if A is not square.",
)


def _pinv_numpy(x, atol, rtol):
    if not x.size:
        return np.zeros((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)
    u, s, vh = _svd_numpy(x, False)
    cutoff = np.maximum(atol, rtol * s[..., :1])
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > cutoff)
    return np.swapaxes(vh, -1, -2) * inverse[..., None, :] @ np.swapaxes(u, -1, -2)


def _pinv_pullback(g, out, x, atol, rtol):
    # Golub and Pereyra: dP = -P dA P + P P' dA' (1 - A P) + (1 - P A) dA' P' P.
    p, pt, gt = out, swap(out), swap(g)
    first = matmul(matmul(pt, g), pt)
    second = matmul(matmul(gt, p), pt)
    third = matmul(pt, matmul(p, gt))
    second = second - matmul(x, matmul(p, second))
    third = third - matmul(matmul(third, p), x)
    return (second + third - first,)


PINV = primitive(
    "pinv",
    "library",
    1,
    ("atol", "rtol"),
    infer=lambda x, atol, rtol: ((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype),
    numpy=_pinv_numpy,
    pullback=_pinv_pullback,
    loop=("pinv",),
    doc="The Moore-Penrose inverse; singular values to max(atol, rtol * the largest) count as 0.",
)


# -- exponential ----------------------------------------------------------------------------------

# Coefficients of the Pade approximant of degree 13 of exp, and the 1-norm up to which it has the
# precision of float64: Higham, "The scaling and squaring method for the matrix exponential" (2005).
_PADE = (
    64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000,
    10559470521600, 670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
)  # fmt: skip
_PADE_NORM = 5.371920351148152


def _exp_of(x: np.ndarray) -> np.ndarray:
    norm = np.abs(x).sum(0).max(initial=0.0)
    if not np.isfinite(norm):
        return np.full_like(x, np.nan)
    squarings = max(0, int(np.ceil(np.log2(norm / _PADE_NORM)))) if norm > 0 else 0
    a = x.astype(np.float64) / 2.0**squarings
    one = np.eye(len(a))
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    c = _PADE
    odd = a6 @ (c[13] * a6 + c[11] * a4 + c[9] * a2) + c[7] * a6 + c[5] * a4 + c[3] * a2
    odd = a @ (odd + c[1] * one)
    even = a6 @ (c[12] * a6 + c[10] * a4 + c[8] * a2) + c[6] * a6 + c[4] * a4 + c[2] * a2
    even = even + c[0] * one
    out = np.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        out = out @ out
    return out.astype(x.dtype)


def _exp_numpy(x):
    out = np.empty(x.shape, x.dtype)
    for at in np.ndindex(*x.shape[:-2]):
        out[at] = _exp_of(x[at])
    return out


def _exp_pullback(g, out, x):
    # The derivative along E is the upper right block of exp([[A, E], [0, A]]) (Higham,
    # section 3.1); its adjoint is the derivative at A' along G.
    return (_exp_derivative(swap(x), g),)


def _exp_derivative(x: Tensor, along: Tensor) -> Tensor:
    shape = node_of(x).shape
    n, lead = shape[-1], (0,) * (len(shape) - 2)
    steps = (1,) * len(shape)
    whole = wrap(const(0, node_of(x).dtype, (*shape[:-2], 2 * n, 2 * n)))
    for part, row, column in ((x, 0, 0), (along, 0, n), (x, n, n)):
        whole = view_scatter(SLICE, whole, part, ((*lead, row, column), steps, shape))
    return record(SLICE, (record(MATRIX_EXP, (whole,)),), ((*lead, 0, n), steps, shape))


MATRIX_EXP = primitive(
    "matrix_exp",
    "library",
    1,
    (),
    infer=same_shape,
    numpy=_exp_numpy,
    pullback=_exp_pullback,
    loop=("matrix_exp",),
    doc="The exponential of matrices.",
)
