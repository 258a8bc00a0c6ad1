"""The public functions of linear algebra: ``flatgrad.linalg.*`` and their top-level names.

Faces of the primitives in ops/linalg.py and ops/decompositions.py, and composites of them. All are
batched over the leading dimensions.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..graph.node import const, leaf
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast
from ..tensor import Tensor, node_of, record, record_outputs, wrap
from .contraction import matmul
from .declare import cast, composite, primitive, tensor_of
from .decompositions import EIGH, PINV, QR, QR_COMPLETE, SVD
from .linalg import (
    CHOLESKY,
    DET,
    SLOGDET,
    SOLVE,
    TRIANGULAR,
    indefinite_order,
    inverse_of,
    lower,
    matrices,
    same_float,
    swap,
    triangular,
    zero_pivot,
)
from .movement import SLICE, view_scatter
from .reduction import constant, reduce_sum
from .scan import narrowed

SlogdetResult = namedtuple("linalg_slogdet", ["sign", "logabsdet"])
InvExResult = namedtuple("linalg_inv_ex", ["inverse", "info"])
CholeskyExResult = namedtuple("linalg_cholesky_ex", ["L", "info"])
QRResult = namedtuple("linalg_qr", ["Q", "R"])
EighResult = namedtuple("linalg_eigh", ["eigenvalues", "eigenvectors"])
SVDResult = namedtuple("linalg_svd", ["U", "S", "Vh"])
OldSVDResult = namedtuple("svd", ["U", "S", "V"])
LstsqResult = namedtuple("linalg_lstsq", ["solution", "residuals", "rank", "singular_values"])


# -- samples --------------------------------------------------------------------------------------


def regular(rng, *shape):
    """Matrices far from singular."""
    x = rng.normal(size=shape)
    k = min(shape[-2:])
    return x + 3.0 * np.eye(*shape[-2:]) if k else x


def _definite(rng, *shape):
    x = rng.normal(size=shape)
    return x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])


def square_samples(rng):
    for shape in [(3, 3), (1, 1), (2, 3, 3), (2, 0, 0), (0, 2, 2), (2, 1, 2, 2)]:
        yield Sample((regular(rng, *shape),))


def _definite_samples(rng):
    for shape in [(3, 3), (1, 1), (2, 3, 3), (0, 2, 2)]:
        yield Sample((_definite(rng, *shape),))


def _rectangular_samples(rng):
    for shape in [(3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 3), (2, 0, 3)]:
        yield Sample((rng.normal(size=shape),))


def _matrix_errors():
    yield BadCall((np.ones(3),), ShapeError, "at least 2 dimensions")
    yield BadCall((np.ones((2, 2), np.int64),), DTypeError, "floating-point")


def square_errors():
    yield from _matrix_errors()
    yield BadCall((np.ones((2, 3)),), ShapeError, "square")


def square(name: str, value) -> Tensor:
    return matrices(name, tensor_of(name, value), square=True)


# -- determinant and inverse ----------------------------------------------------------------------


@composite("det", samples=square_samples, errors=square_errors)
@composite("linalg.det", methods=(), numpy=(np.linalg.det,), samples=square_samples, op=DET)
def det(A: Tensor) -> Tensor:
    """The determinant of square matrices, (*B, n, n) -> (*B).

    The gradient is the matrix of cofactors, right for singular matrices too.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=fg.float64, requires_grad=True)
    >>> fg.linalg.det(x).backward()
    >>> x.grad.round(decimals=12).tolist()
    [[4.0, -2.0], [-2.0, 1.0]]
    """
    return record(DET, (square("linalg.det", A),))


@composite("slogdet", samples=square_samples, errors=square_errors)
@composite(
    "linalg.slogdet", methods=(), numpy=(np.linalg.slogdet,), samples=square_samples, op=SLOGDET
)
def slogdet(A: Tensor):
    """The named tuple ``(sign, logabsdet)`` of determinants; (0, -inf) for singular matrices."""
    return SlogdetResult(*record_outputs(SLOGDET, (square("linalg.slogdet", A),)))


@composite(samples=_definite_samples, errors=square_errors)
def logdet(input: Tensor) -> Tensor:
    """The logarithm of determinants; NaN where they are negative."""
    from .selection import where

    sign, logarithm = slogdet(square("logdet", input))
    return where(sign < 0.0, float("nan"), logarithm)


@composite("inverse", samples=square_samples, errors=square_errors)
@composite("linalg.inv", methods=(), numpy=(np.linalg.inv,), samples=square_samples)
def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices.

    Raises
    ------
    LinAlgError
        When it is evaluated, if a matrix is singular; the message names it.
    """
    return inverse_of(square("linalg.inv", A))


def _info(function):
    def numpy(x):
        out = np.zeros(x.shape[:-2], np.int32)
        for at in np.ndindex(*out.shape):
            out[at] = function(x[at])
        return out

    return numpy


def _info_op(name, function, doc):
    return primitive(
        name,
        "library",
        1,
        (),
        infer=lambda x: (x.shape[:-2], dtypes.int32),
        numpy=_info(function),
        loop=(name,),
        doc=doc,
    )


ZERO_PIVOT = _info_op("zero_pivot", zero_pivot, "The first zero of U's diagonal, from 1, or 0.")
INDEFINITE = _info_op(
    "indefinite_order", indefinite_order, "The first leading minor that is not positive, or 0."
)


@composite("linalg.inv_ex", methods=(), samples=square_samples, errors=square_errors)
def inv_ex(A: Tensor, *, check_errors: bool = False):
    """The named tuple ``(inverse, info)``: where singular NaN, and info (int32) not 0."""
    x = square("linalg.inv_ex", A)
    return InvExResult(inverse_of(x, check_errors), record(ZERO_PIVOT, (x,)))


# -- equations ------------------------------------------------------------------------------------


def _batched(name: str, a: Tensor, b: Tensor):
    """Two operands with their leading dimensions broadcast."""
    from .movement import expand

    lead = broadcast(name, node_of(a).shape[:-2], node_of(b).shape[:-2])
    return (
        expand(a, *lead, *node_of(a).shape[-2:]),
        expand(b, *lead, *node_of(b).shape[-2:]),
    )


def _solve_samples(rng):
    for sa, sb in [
        ((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (2, 3, 1)), ((2, 2), (3, 2, 1)),
        ((2, 3, 3), (2, 3)), ((3, 1, 2, 2), (2, 2, 2)), ((0, 0), (0, 2)),
    ]:  # fmt: skip
        yield Sample((regular(rng, *sa), rng.normal(size=sb)))
    yield Sample((regular(rng, 2, 2), rng.normal(size=(3, 2))), {"left": False})


def _solve_errors():
    yield BadCall((np.ones((2, 3)), np.ones(2)), ShapeError, "square")
    yield BadCall((np.eye(3), np.ones((2, 2))), ShapeError, "3 rows")
    yield BadCall((np.eye(3), np.ones(3, np.float32)), DTypeError, "one dtype")


@composite("linalg.solve", methods=(), numpy=(np.linalg.solve,), samples=_solve_samples,
           errors=_solve_errors, op=SOLVE)  # fmt: skip
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X of ``A X = B``, or of ``X A = B`` if not `left`.

    Parameters
    ----------
    A : Tensor, shape (*B, n, n)
    B : Tensor, shape (*B, n, k), or (n,) or (*B, n) for vectors
    left : bool

    Returns
    -------
    Tensor
        Of the shape of B, batch dimensions broadcast.

    Raises
    ------
    LinAlgError
        When it is evaluated, if a matrix is singular; the message names it.
    """
    a, b = square("linalg.solve", A), tensor_of("linalg.solve", B, 1)
    same_float("linalg.solve", a, b)
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and node_of(b).shape == node_of(a).shape[:-1])
    if vector:
        b = b.reshape(*b.shape, 1)
    _need_rows("linalg.solve", a, b, left)
    if not left and not vector:
        return swap(solve(swap(a), swap(b)))
    x = record(SOLVE, _batched("linalg.solve", a, b), (True,))
    return x.reshape(node_of(x).shape[:-1]) if vector else x


def _need_rows(name, a, b, left) -> None:
    n = node_of(a).shape[-1]
    if b.ndim < 2 or node_of(b).shape[-2 if left else -1] != n:
        raise ShapeError(
            f"{name}: B must have {n} {'rows' if left else 'columns'}, as A of shape "
            f"{tuple(a.shape)} has, got shape {tuple(b.shape)}"
        )


def _triangular_samples(rng):
    b = rng.normal(size=(3, 2))
    yield Sample((regular(rng, 3, 3), b), {"upper": True})
    yield Sample((regular(rng, 3, 3), b), {"upper": False})
    yield Sample((regular(rng, 3, 3), b), {"upper": False, "unitriangular": True})
    yield Sample((regular(rng, 2, 3, 3), b), {"upper": True})
    yield Sample((regular(rng, 2, 2), b), {"upper": True, "left": False})


@composite("linalg.solve_triangular", methods=(), samples=_triangular_samples, op=TRIANGULAR)
def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X of ``A X = B`` (``X A = B`` if not `left`) for triangular A, of which one triangle is read.

    A zero on the diagonal gives infinities, as in PyTorch; `unitriangular` takes the diagonal as 1.
    """
    name = "linalg.solve_triangular"
    a, b = square(name, A), tensor_of(name, B, 1)
    same_float(name, a, b)
    _need_rows(name, a, b, left)
    if not left:
        return swap(
            solve_triangular(swap(a), swap(b), upper=not upper, unitriangular=unitriangular)
        )
    return triangular(*_batched(name, a, b), bool(upper), bool(unitriangular))


# -- Cholesky -------------------------------------------------------------------------------------


def _cholesky(name: str, A, upper: bool, check: bool) -> Tensor:
    factor = record(CHOLESKY, (square(name, A),), (check,))
    return swap(factor) if upper else factor


@composite("cholesky", samples=_definite_samples, errors=square_errors, differentiable=False)
@composite("linalg.cholesky", methods=(), numpy=(np.linalg.cholesky,), samples=_definite_samples,
           op=CHOLESKY, differentiable=False)  # fmt: skip
def cholesky(A: Tensor, upper: bool = False) -> Tensor:
    """The lower triangular L of ``A = L @ L.T`` (or its transpose, `upper`), of symmetric A > 0.

    The lower triangle of A is read; the gradient is the symmetric one, as in PyTorch.

    Raises
    ------
    LinAlgError
        When it is evaluated, if a matrix is not positive-definite; the message names it and the
        order of the leading minor.
    """
    return _cholesky("linalg.cholesky", A, upper, True)


@composite("linalg.cholesky_ex", methods=(), samples=_definite_samples, errors=square_errors,
           differentiable=False)  # fmt: skip
def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False):
    """The named tuple ``(L, info)``: where it fails NaN, and the minor's order (int32, else 0)."""
    x = square("linalg.cholesky_ex", A)
    factor = _cholesky("linalg.cholesky_ex", x, upper, check_errors)
    return CholeskyExResult(factor, record(INDEFINITE, (x,)))


def _factor_samples(rng):
    yield Sample((rng.normal(size=(3, 2)), regular(rng, 3, 3)))
    yield Sample((rng.normal(size=(3, 2)), regular(rng, 2, 3, 3), True))


@composite(samples=_factor_samples, torch=None)
def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X of ``A X = B`` given the Cholesky factor of A, of which one triangle is read."""
    first = solve_triangular(swap(L) if upper else L, B, upper=False)
    return solve_triangular(L if upper else swap(L), first, upper=True)


def _cholesky_inverse_samples(rng):
    yield Sample((regular(rng, 3, 3),))


@composite(samples=_cholesky_inverse_samples, torch=None)
def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A given its Cholesky factor, of which one triangle is read."""
    t = square("cholesky_inverse", L)
    return cholesky_solve(eye_of(node_of(t).shape[-1], node_of(t).dtype), t, upper)


def eye_of(n: int, dtype) -> Tensor:
    return wrap(leaf(np.eye(n, dtype=dtype.np), dtype))


# -- QR, eigenvalues, singular values -------------------------------------------------------------


def _qr_samples(rng):
    for shape in [(3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 3)]:
        yield Sample((regular(rng, *shape),))
    yield Sample((regular(rng, 2, 3),), {"mode": "complete"})


def _qr_errors():
    yield from _matrix_errors()
    yield BadCall((np.ones((2, 2)), "full"), ArgumentError, "mode")


@composite(
    "linalg.qr",
    methods=("qr",),
    numpy=(np.linalg.qr,),
    samples=_qr_samples,
    errors=_qr_errors,
    op=QR,
)
def qr(A: Tensor, mode: str = "reduced"):
    """The named tuple ``(Q, R)`` of ``A = Q @ R``: Q orthogonal, R upper triangular.

    Parameters
    ----------
    A : Tensor, shape (*B, m, n)
    mode : {"reduced", "complete", "r"}
        Q of shape (*B, m, min(m, n)), or square, or empty (R alone). "complete" has no derivative
        if m > n.
    """
    x = matrices("linalg.qr", tensor_of("linalg.qr", A))
    if mode not in ("reduced", "complete", "r"):
        raise ArgumentError(f'linalg.qr: mode must be "reduced", "complete" or "r", got {mode!r}')
    m, n = node_of(x).shape[-2:]
    if mode == "complete" and m > n:
        return QRResult(*record_outputs(QR_COMPLETE, (x,)))
    if m < n:
        # The factors of the first columns; the other columns of R are theirs in the basis Q.
        q, r = record_outputs(QR, (narrowed(x, x.ndim - 1, 0, m),))
        rest = matmul(swap(q), narrowed(x, x.ndim - 1, m, n - m))
        r = _side_by_side(r, rest)
    else:
        q, r = record_outputs(QR, (x,))
    if mode == "r":
        q = wrap(leaf(np.empty(0, node_of(x).dtype.np), node_of(x).dtype))
    return QRResult(q, r)


def _side_by_side(a: Tensor, b: Tensor) -> Tensor:
    *lead, m, k = node_of(a).shape
    n = node_of(b).shape[-1]
    whole = wrap(const(0, node_of(a).dtype, (*lead, m, k + n)))
    for part, start in ((a, 0), (b, k)):
        starts = (*(0,) * (a.ndim - 1), start)
        attrs = (starts, (1,) * a.ndim, node_of(part).shape)
        whole = view_scatter(SLICE, whole, part, attrs)
    return whole


def _symmetric_samples(rng):
    for shape in [(3, 3), (1, 1), (2, 3, 3), (0, 2, 2)]:
        x = rng.normal(size=shape)
        yield Sample((x + np.swapaxes(x, -1, -2),))


def _eigh_errors():
    yield from square_errors()
    yield BadCall((np.eye(2), "M"), ArgumentError, "UPLO")


def _eigh_parts(name, A, UPLO):
    x = square(name, A)
    if UPLO not in ("L", "U", "l", "u"):
        raise ArgumentError(f'{name}: UPLO must be "L" or "U", got {UPLO!r}')
    return record_outputs(EIGH, (x,), (UPLO.upper(),))


@composite("linalg.eigh", methods=(), numpy=(np.linalg.eigh,), samples=_symmetric_samples,
           errors=_eigh_errors, op=EIGH, differentiable=False, torch=None)  # fmt: skip
def eigh(A: Tensor, UPLO: str = "L"):
    """The named tuple ``(eigenvalues, eigenvectors)`` of symmetric matrices, ascending.

    The triangle `UPLO` is read. The gradient of eigenvectors is not finite where eigenvalues are
    equal; the signs of eigenvectors are arbitrary, and a gradient should not depend on them.
    """
    return EighResult(*_eigh_parts("linalg.eigh", A, UPLO))


@composite("linalg.eigvalsh", methods=(), numpy=(np.linalg.eigvalsh,), samples=_symmetric_samples,
           errors=_eigh_errors, differentiable=False)  # fmt: skip
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of symmetric matrices, ascending; with a gradient everywhere."""
    return _eigh_parts("linalg.eigvalsh", A, UPLO)[0]


@composite("linalg.svd", methods=(), numpy=(np.linalg.svd,), samples=_rectangular_samples,
           errors=_matrix_errors, op=SVD, differentiable=False, torch=None)  # fmt: skip
def svd(A: Tensor, full_matrices: bool = True):
    """The named tuple ``(U, S, Vh)`` of ``A = U @ diag(S) @ Vh``, S descending.

    Parameters
    ----------
    A : Tensor, shape (*B, m, n)
    full_matrices : bool
        Square U and Vh; False: their first min(m, n) columns and rows alone. No derivative flows
        through the others.

    Returns
    -------
    SVDResult
        Gradients of U and Vh are not finite where singular values are equal (or 0, if A is not
        square); their signs are arbitrary, and a gradient should not depend on them.
    """
    x = matrices("linalg.svd", tensor_of("linalg.svd", A))
    return SVDResult(*record_outputs(SVD, (x,), (bool(full_matrices),)))


@composite(
    "svd", samples=_rectangular_samples, errors=_matrix_errors, differentiable=False, torch=None
)
def old_svd(input: Tensor, some: bool = True, compute_uv: bool = True):
    """The named tuple ``(U, S, V)`` of ``input = U @ diag(S) @ V.T``; see ``linalg.svd``."""
    u, s, vh = svd(input, not some)
    if not compute_uv:
        u, vh = constant(u) * 0.0, constant(vh) * 0.0
    return OldSVDResult(u, s, swap(vh))


@composite("linalg.svdvals", methods=(), samples=_rectangular_samples, errors=_matrix_errors)
def svdvals(A: Tensor) -> Tensor:
    """The singular values, descending; with a gradient where they differ."""
    return svd(A, False).S


# -- least squares --------------------------------------------------------------------------------


def _number(name: str, value, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, Tensor):
        if value.ndim:
            raise ArgumentError(
                f"{name}: a tolerance must be one number for all matrices, got a tensor of shape "
                f"{tuple(value.shape)}; call it on parts of the batch"
            )
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentError(f"{name}: a tolerance must be a number, got {value!r}")
    return float(value)


def _tolerances(name, x: Tensor, atol, rtol) -> tuple[float, float]:
    """PyTorch's defaults: rtol max(m, n) eps, but 0 if atol is given and positive."""
    absolute = _number(name, atol, 0.0)
    eps = float(np.finfo(node_of(x).dtype.np).eps)
    default = 0.0 if absolute > 0.0 else max(node_of(x).shape[-2:]) * eps
    return absolute, _number(name, rtol, default)


@composite("pinverse", samples=_rectangular_samples, errors=_matrix_errors)
@composite(
    "linalg.pinv", methods=(), numpy=(np.linalg.pinv,), samples=_rectangular_samples, op=PINV
)
def pinv(A: Tensor, rtol=None, *, atol=None, hermitian: bool = False) -> Tensor:
    """The Moore-Penrose inverse, (*B, m, n) -> (*B, n, m).

    Singular values up to ``max(atol, rtol * the largest)`` count as 0; `rtol` is max(m, n) times
    the dtype's precision by default. `hermitian` symmetrises A from its lower triangle.
    """
    x = matrices("linalg.pinv", tensor_of("linalg.pinv", A), square=hermitian)
    if hermitian:
        x = lower(x) + swap(lower(x, -1))
    return record(PINV, (x,), _tolerances("linalg.pinv", x, atol, rtol))


def _lstsq_samples(rng):
    for sa, sb in [((4, 2), (4, 1)), ((2, 3), (2, 2)), ((2, 3, 3), (2, 3, 2)), ((5, 2), (5,))]:
        yield Sample((rng.normal(size=sa), rng.normal(size=sb)))


def _lstsq_errors():
    yield BadCall((np.ones((3, 2)), np.ones((2, 2))), ShapeError, "3 rows")
    yield BadCall((np.ones(3), np.ones(3)), ShapeError, "at least 2 dimensions")


@composite("linalg.lstsq", methods=(), samples=_lstsq_samples, errors=_lstsq_errors, torch=None)
def lstsq(A: Tensor, B: Tensor, rcond=None, *, driver=None):
    """The named tuple ``(solution, residuals, rank, singular_values)`` of min |A X - B|.

    Parameters
    ----------
    A : Tensor, shape (*B, m, n)
    B : Tensor, shape (*B, m, k), or (m,)
    rcond : float, optional
        Singular values up to rcond times the largest count as 0.
    driver : {"gelsy", "gels", "gelsd", "gelss"}, optional
        What is returned besides the solution, the rest being empty: "gelsy" (the default) the
        rank, "gels" the residuals, the others all. The solution is always the one of least norm,
        by singular values.

    Returns
    -------
    LstsqResult
        residuals are the columns' squared errors, if m > n.
    """
    name = "linalg.lstsq"
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise ArgumentError(
            f'{name}: driver must be "gels", "gelsy", "gelsd" or "gelss", got {driver!r}'
        )
    a, b = matrices(name, tensor_of(name, A)), tensor_of(name, B, 1)
    same_float(name, a, b)
    vector = b.ndim == 1
    if vector:
        b = b.reshape(-1, 1)
    m, n = node_of(a).shape[-2:]
    if b.ndim < 2 or node_of(b).shape[-2] != m:
        raise ShapeError(
            f"{name}: B must have {m} rows, as A of shape {tuple(a.shape)} has, got "
            f"{tuple(b.shape)}"
        )
    atol, rtol = _tolerances(name, a, None, rcond)
    values = svdvals(a)
    solution = matmul(record(PINV, (a,), (atol, rtol)), b)
    nothing = wrap(leaf(np.empty(0, node_of(a).dtype.np), node_of(a).dtype))
    residuals, rank = nothing, _rank(values, atol, rtol)
    if m > n and driver not in (None, "gelsy"):
        error = matmul(a, solution) - b
        residuals = reduce_sum(error * error, (error.ndim - 2,))
    if vector:
        solution = solution.reshape(node_of(solution).shape[:-1])
    if driver == "gels":
        rank = wrap(leaf(np.empty(0, np.int64), dtypes.int64))
    if driver not in ("gelsd", "gelss"):
        values = nothing
    return LstsqResult(solution, residuals, rank, values)


def _rank(values: Tensor, atol: float, rtol: float) -> Tensor:
    values = constant(values)
    if not node_of(values).shape[-1]:
        return reduce_sum(cast(values, dtypes.int64), (values.ndim - 1,))
    cutoff = narrowed(values, values.ndim - 1, 0, 1) * rtol
    above = (values > cutoff) & (values > atol)
    return reduce_sum(cast(above, dtypes.int64), (values.ndim - 1,))


@composite("linalg.matrix_rank", methods=(), numpy=(np.linalg.matrix_rank,),
           samples=_rectangular_samples, errors=_matrix_errors, differentiable=False)  # fmt: skip
def matrix_rank(A: Tensor, tol=None, *, atol=None, rtol=None, hermitian: bool = False) -> Tensor:
    """The number of singular values above ``max(atol, rtol * the largest)`` (int64)."""
    x = matrices("linalg.matrix_rank", tensor_of("linalg.matrix_rank", A), square=hermitian)
    if hermitian:
        x = lower(x) + swap(lower(x, -1))
    if tol is not None:
        atol, rtol = tol, 0.0
    return _rank(svdvals(x), *_tolerances("linalg.matrix_rank", x, atol, rtol))
