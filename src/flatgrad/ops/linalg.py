"""Linear algebra through LAPACK: factorisations and solutions, batched over the leading dimensions.

Each is a primitive of kind "library" whose ``loop`` names the routine; ops/matrices.py has the
public functions. The derivatives are graphs of the same primitives, so there are any number of
them.
Sources: Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008); Murray, "Differentiation of the Cholesky decomposition" (2016).
"""

from __future__ import annotations

import numpy as np

from ..errors import DTypeError, LinAlgError, ShapeError
from ..graph import dtypes
from ..graph.node import leaf
from ..tensor import Tensor, node_of, record, record_outputs, wrap
from .contraction import matmul
from .declare import primitive
from .movement import DIAGONAL, permute, view_scatter
from .reduction import constant, float_only

# -- matrices -------------------------------------------------------------------------------------


def swap(t: Tensor) -> Tensor:
    """The transpose of the last two dimensions."""
    n = t.ndim
    return permute(t, *range(n - 2), n - 1, n - 2)


def diagonal_of(t: Tensor) -> Tensor:
    return record(DIAGONAL, (t,), (0, t.ndim - 2, t.ndim - 1))


def with_diagonal(t: Tensor, diagonal: Tensor) -> Tensor:
    return view_scatter(DIAGONAL, t, diagonal, (0, t.ndim - 2, t.ndim - 1))


def lower(t: Tensor, k: int = 0) -> Tensor:
    """The lower triangle, from the `k`-th diagonal down."""
    return _masked(t, np.tri(*node_of(t).shape[-2:], k, dtype=bool))


def upper(t: Tensor, k: int = 0) -> Tensor:
    """The upper triangle, from the `k`-th diagonal up."""
    return _masked(t, ~np.tri(*node_of(t).shape[-2:], k - 1, dtype=bool))


def _masked(t: Tensor, mask: np.ndarray) -> Tensor:
    from .selection import where

    return where(wrap(leaf(mask, dtypes.bool_)), t, 0.0)


def rows_scaled(t: Tensor, s: Tensor) -> Tensor:
    """``diag(s) @ t``."""
    return t * s.reshape(*s.shape, 1)


def columns_scaled(t: Tensor, s: Tensor) -> Tensor:
    """``t @ diag(s)``."""
    return t * s.reshape(*s.shape[:-1], 1, s.shape[-1])


def matrices(name: str, x: Tensor, square: bool = False) -> Tensor:
    """`x`, checked to be floating matrices.

    Raises
    ------
    ShapeError, DTypeError
        If it is not, or not square where that is asked.
    """
    float_only(name, x)
    shape = node_of(x).shape
    if len(shape) < 2:
        raise ShapeError(
            f"{name}: a tensor of at least 2 dimensions is required (batches of matrices), got "
            f"shape {shape}"
        )
    if square and shape[-1] != shape[-2]:
        raise ShapeError(
            f"{name}: square matrices are required, got {shape[-2]} by {shape[-1]} ({shape}); "
            "use linalg.lstsq or linalg.pinv for others"
        )
    return x


def failing(function, x: np.ndarray) -> tuple:
    """(index, matrix) of the first matrix of a batch on which `function` raises."""
    for at in np.ndindex(*x.shape[:-2]):
        try:
            function(x[at])
        except np.linalg.LinAlgError:
            return at, x[at]
    return (), x.reshape(-1, *x.shape[-2:])[0]


def _where(at: tuple) -> str:
    return f"(batch element {at[0] if len(at) == 1 else at}) " if at else ""


def zero_pivot(matrix: np.ndarray) -> int:
    """The first zero on the diagonal of U in P L U = matrix, from 1; 0 if there is none."""
    from scipy.linalg import get_lapack_funcs

    if not matrix.size:
        return 0
    (getrf,) = get_lapack_funcs(("getrf",), (matrix,))
    return int(getrf(matrix)[2])


def _raise_singular(name: str, x: np.ndarray):
    at, matrix = failing(np.linalg.inv, x)
    raise LinAlgError(
        f"{name}: {_where(at)}the matrix is singular: element {zero_pivot(matrix)} of U's diagonal "
        "is zero; use linalg.pinv or linalg.lstsq"
    )


def raise_unconverged(name: str, function, x: np.ndarray):
    at, matrix = failing(function, x)
    reason = (
        "" if np.isfinite(matrix).all() else ", because the matrix has NaN or infinite elements"
    )
    raise LinAlgError(f"{name}: {_where(at)}the algorithm did not converge{reason}")


def same_shape(x, *attrs):
    return x.shape, x.dtype


# -- inverse, determinant -------------------------------------------------------------------------


def _each(function, x: np.ndarray) -> np.ndarray:
    """`function` of each matrix, NaN where it raises."""
    out = np.full(x.shape, np.nan, x.dtype)
    for at in np.ndindex(*x.shape[:-2]):
        try:
            out[at] = function(x[at])
        except np.linalg.LinAlgError:
            continue
    return out


def _inv_numpy(x, check):
    try:
        return np.linalg.inv(x)
    except np.linalg.LinAlgError:
        if check:
            _raise_singular("linalg.inv", x)
        return _each(np.linalg.inv, x)


def _inv_pullback(g, out, x, check):
    # d(A^-1) = -A^-1 dA A^-1 (Giles 2.2.3).
    back = swap(out)
    return (-matmul(matmul(back, g), back),)


INV = primitive(
    "inv",
    "library",
    1,
    ("check",),
    infer=same_shape,
    numpy=_inv_numpy,
    pullback=_inv_pullback,
    pushforward=lambda ts, out, x, check: (
        None if ts[0] is None else -matmul(matmul(out, ts[0]), out)
    ),
    loop=("inv",),
    doc="The inverse; NaN for singular matrices unless they are to raise.",
)


def inverse_of(x: Tensor, check: bool = True) -> Tensor:
    return record(INV, (x,), (check,))


def _det_pullback(g, out, x):
    # d det(A) = <cofactors, dA> (Jacobi), which needs no inverse: right for singular matrices too.
    return (record(COFACTOR, (x,)) * g.reshape(*g.shape, 1, 1),)


DET = primitive(
    "det",
    "library",
    1,
    (),
    infer=lambda x: (x.shape[:-2], x.dtype),
    numpy=lambda x: np.asarray(np.linalg.det(x)),
    pullback=_det_pullback,
    loop=("det",),
    doc="The determinant.",
)


def _cofactor_of(x: np.ndarray) -> np.ndarray:
    """det(A) A^-T of a well-conditioned matrix; of others from A = U S V': det(U V) U S* V'."""
    n = len(x)
    if not n:
        return x.copy()
    try:
        inverse, determinant = np.linalg.inv(x), np.linalg.det(x)
        condition = np.abs(inverse).sum(0).max() * np.abs(x).sum(0).max()
        if condition < 1e5 and np.isfinite(determinant) and abs(determinant) > 1e-30:
            return determinant * inverse.T
    except np.linalg.LinAlgError:
        pass
    if not np.isfinite(x).all():
        return np.full_like(x, np.nan)
    u, s, vh = np.linalg.svd(x)
    sign = np.rint(np.linalg.det(u) * np.linalg.det(vh))
    others = np.array([np.prod(np.delete(s, k)) for k in range(n)], x.dtype)
    return sign * (u * others) @ vh


def _cofactor_numpy(x):
    out = np.empty(x.shape, x.dtype)
    for at in np.ndindex(*x.shape[:-2]):
        out[at] = _cofactor_of(x[at])
    return out


def _cofactor_pullback(g, out, x):
    # In the basis of A = U S V' the cofactor of (i, i) changes with each other (j, j), that of
    # (i, j) with (j, i) alone, by the product P[i, j] of the other singular values: no division.
    from .reduction import prod
    from .selection import where

    n = node_of(x).shape[-1]
    from .decompositions import SVD

    u, s, vh = record_outputs(SVD, (x,), (False,))
    sign = (record(DET, (constant(u),)) * record(DET, (constant(vh),))).sign()
    v = swap(vh)
    h = matmul(matmul(swap(u), g), v) * sign.reshape(*sign.shape, 1, 1)
    eye = np.eye(n, dtype=bool)
    pair = wrap(leaf(eye[:, None, :] | eye[None, :, :], dtypes.bool_))
    others = prod(where(pair, 1.0, s.reshape(*s.shape[:-1], 1, 1, n)), -1)
    others = where(wrap(leaf(eye, dtypes.bool_)), 0.0, others)
    diagonal = diagonal_of(h)
    inner = matmul(others, diagonal.reshape(*diagonal.shape, 1)).reshape(diagonal.shape)
    inner = with_diagonal(-others * swap(h), inner)
    return (matmul(matmul(u, inner), vh),)


COFACTOR = primitive(
    "cofactor",
    "library",
    1,
    (),
    infer=same_shape,
    numpy=_cofactor_numpy,
    pullback=_cofactor_pullback,
    loop=("cofactor",),
    doc="The matrix of cofactors, det(A) A^-T, of singular matrices too.",
)


def _slogdet_numpy(x):
    sign, logarithm = np.linalg.slogdet(x)
    return np.asarray(sign, x.dtype), np.asarray(logarithm, x.dtype)


def _slogdet_pullback(g, out, x):
    # d log|det A| = <A^-T, dA> (Giles 2.2.4); the sign is constant.
    if g[1] is None:
        return (None,)
    return (swap(inverse_of(x, False)) * g[1].reshape(*g[1].shape, 1, 1),)


SLOGDET = primitive(
    "slogdet",
    "library",
    1,
    (),
    infer=lambda x: ((x.shape[:-2],) * 2, (x.dtype,) * 2),
    numpy=_slogdet_numpy,
    pullback=_slogdet_pullback,
    loop=("slogdet",),
    outputs=2,
    doc="Sign and logarithm of the absolute value of the determinant.",
)


# -- equations ------------------------------------------------------------------------------------


def _solve_numpy(a, b, check):
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        if check:
            _raise_singular("linalg.solve", a)
    out = np.full(b.shape, np.nan, b.dtype)
    for at in np.ndindex(*a.shape[:-2]):
        try:
            out[at] = np.linalg.solve(a[at], b[at])
        except np.linalg.LinAlgError:
            continue
    return out


def _solve_pullback(g, out, a, b, check):
    # A X = B: the cotangent of B solves A' Y = G, that of A is -Y X' (Giles 2.3.1).
    back = solved(swap(a), g, check)
    return (-matmul(back, swap(out)) if a._node.requires_grad else None, back)


SOLVE = primitive(
    "solve",
    "library",
    2,
    ("check",),
    infer=lambda a, b, check: (b.shape, b.dtype),
    numpy=_solve_numpy,
    pullback=_solve_pullback,
    loop=("solve",),
    doc="X of A X = B, for matrices of one batch shape; NaN for singular ones unless they are to raise.",
)


def solved(a: Tensor, b: Tensor, check: bool = True) -> Tensor:
    return record(SOLVE, (a, b), (check,))


def _triangular_numpy(a, b, is_upper, unit):
    out = np.array(b)
    n = a.shape[-1]
    for k in range(n - 1, -1, -1) if is_upper else range(n):
        known = slice(k + 1, n) if is_upper else slice(0, k)
        out[..., k, :] -= (a[..., k : k + 1, known] @ out[..., known, :])[..., 0, :]
        if not unit:
            out[..., k, :] /= a[..., k, k, None]
    return out


def _triangular_pullback(g, out, a, b, is_upper, unit):
    back = triangular(swap(a), g, not is_upper, unit)
    if not a._node.requires_grad:
        return None, back
    whole = -matmul(back, swap(out))
    return (upper(whole, int(unit)) if is_upper else lower(whole, -int(unit))), back


TRIANGULAR = primitive(
    "solve_triangular",
    "library",
    2,
    ("upper", "unit"),
    infer=lambda a, b, is_upper, unit: (b.shape, b.dtype),
    numpy=_triangular_numpy,
    pullback=_triangular_pullback,
    loop=("solve_triangular",),
    doc="X of A X = B for triangular A by substitution; the other triangle is not read.",
)


def triangular(a: Tensor, b: Tensor, is_upper: bool, unit: bool = False) -> Tensor:
    return record(TRIANGULAR, (a, b), (is_upper, unit))


# -- Cholesky -------------------------------------------------------------------------------------


def indefinite_order(matrix: np.ndarray) -> int:
    """The order of the first leading minor that is not positive-definite; 0 if there is none."""
    for k in range(1, len(matrix) + 1):
        try:
            if not np.isfinite(np.linalg.cholesky(matrix[:k, :k])).all():
                return k
        except np.linalg.LinAlgError:
            return k
    return 0


def _cholesky_numpy(x, check):
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        if not check:
            return _each(np.linalg.cholesky, x)
    at, matrix = failing(np.linalg.cholesky, x)
    raise LinAlgError(
        f"linalg.cholesky: {_where(at)}the matrix is not positive-definite: its leading minor of "
        f"order {indefinite_order(matrix)} is not; add a small multiple of the identity, or use "
        "linalg.eigh"
    )


def _cholesky_pullback(g, out, x, check):
    # Murray (2016), equation 10: the symmetric part of L^-T Phi(L' G) L^-1, where Phi takes the
    # lower triangle and half the diagonal.
    inner = matmul(swap(out), g)
    inner = lower(inner) - with_diagonal(inner * 0.0, diagonal_of(inner) * 0.5)
    left = triangular(swap(out), inner, True)
    whole = swap(triangular(swap(out), swap(left), True))
    return ((whole + swap(whole)) * 0.5,)


CHOLESKY = primitive(
    "cholesky",
    "library",
    1,
    ("check",),
    infer=same_shape,
    numpy=_cholesky_numpy,
    pullback=_cholesky_pullback,
    loop=("cholesky",),
    doc="L of A = L L', of the lower triangle of A; the gradient is symmetric.",
)


def same_float(name: str, a: Tensor, b: Tensor) -> None:
    """Raise unless two tensors are floating and of one dtype."""
    float_only(name, a)
    if node_of(a).dtype is not node_of(b).dtype:
        raise DTypeError(
            f"{name}: the operands must have one dtype, got {a.dtype!r} and {b.dtype!r}; convert "
            "one with .to()"
        )
