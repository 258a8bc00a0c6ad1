"""Functions of matrices: powers, the exponential, norms, the condition, traces and cross products.

Composites of the primitives in ops/linalg.py and ops/decompositions.py.
"""

from __future__ import annotations

from math import inf
from math import prod as product

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import dtypes
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast, normal_dim
from ..tensor import Tensor, node_of, record
from . import statistics
from .contraction import matmul
from .declare import cast, composite, operands, tensor_of
from .decompositions import MATRIX_EXP
from .linalg import diagonal_of, inverse_of, lower, matrices
from .matrices import eye_of, regular, solve, square, square_errors, square_samples, svdvals
from .movement import rolled
from .reduction import amax, amin, reduce_sum, with_keepdim
from .scan import narrowed
from .statistics import p_norm

# -- powers ---------------------------------------------------------------------------------------


def _power_samples(rng):
    for n in (0, 1, 2, 3, 5, -1, -2):
        yield Sample((regular(rng, 2, 2), n))
    yield Sample((regular(rng, 2, 3, 3), 3))


def _power_errors():
    yield BadCall((np.ones((2, 3)), 2), ShapeError, "square")
    yield BadCall((np.eye(2), 0.5), ArgumentError, "int")


@composite("matrix_power", samples=_power_samples, errors=_power_errors)
@composite(
    "linalg.matrix_power", methods=(), numpy=(np.linalg.matrix_power,), samples=_power_samples
)
def matrix_power(A: Tensor, n: int) -> Tensor:
    """The `n`-th power of square matrices by repeated squaring; of the inverse for negative `n`."""
    x = square("linalg.matrix_power", A)
    if isinstance(n, bool) or not isinstance(n, int):
        raise ArgumentError(f"linalg.matrix_power: n must be an int, got {n!r}")
    if n < 0:
        x, n = inverse_of(x), -n
    if n == 0:
        eye = eye_of(node_of(x).shape[-1], node_of(x).dtype)
        return lower(x, -node_of(x).shape[-1]) + eye  # zeros, of which x is an input
    out = None
    while n:
        if n & 1:
            out = x if out is None else matmul(out, x)
        n >>= 1
        if n:
            x = matmul(x, x)
    return out * 1.0


@composite("matrix_exp", samples=square_samples, errors=square_errors)
@composite("linalg.matrix_exp", methods=(), samples=square_samples, op=MATRIX_EXP)
def matrix_exp(A: Tensor) -> Tensor:
    """The exponential of square matrices: scaling, a Pade approximant of degree 13, squaring."""
    return record(MATRIX_EXP, (square("linalg.matrix_exp", A),))


# -- norms ----------------------------------------------------------------------------------------


def _vector_norm_samples(rng):
    for p in (2, 1, 3, 0, inf, -inf):
        yield Sample((rng.normal(size=(2, 3)), p))
        yield Sample((rng.normal(size=(2, 3)), p), {"dim": 1, "keepdim": True})


@composite("linalg.vector_norm", methods=(), samples=_vector_norm_samples)
def vector_norm(x: Tensor, ord=2, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """``sum(|x|^ord)^(1/ord)`` over `dim` (all by default); see :func:`flatgrad.norm`."""
    t = tensor_of("linalg.vector_norm", x)
    return statistics.vector_norm("linalg.vector_norm", t, ord, dim, keepdim, dtype)


_MATRIX_ORDERS = ("fro", "nuc", inf, -inf, 1, -1, 2, -2)


def _matrix_norm_samples(rng):
    for order in _MATRIX_ORDERS:
        yield Sample((rng.normal(size=(3, 2)), order))
        yield Sample((rng.normal(size=(2, 3, 2)), order), {"dim": (2, 0), "keepdim": True})


def _matrix_norm_errors():
    yield BadCall((np.ones((2, 2)), 3), ArgumentError, "ord")
    yield BadCall((np.ones(2),), ShapeError, "at least 2")
    yield BadCall((np.ones((2, 2)), "fro", (0, 0)), ArgumentError, "two different")


@composite(
    "linalg.matrix_norm", methods=(), samples=_matrix_norm_samples, errors=_matrix_norm_errors
)
def matrix_norm(A: Tensor, ord="fro", dim=(-2, -1), keepdim: bool = False, *, dtype=None) -> Tensor:
    """The norm of matrices in the two dimensions `dim`.

    Parameters
    ----------
    A : Tensor, floating
    ord : {"fro", "nuc", inf, -inf, 1, -1, 2, -2}
        Frobenius; sum of singular values; largest (smallest) sum of a row's magnitudes (inf), of a
        column's (1); largest (smallest) singular value.
    dim : pair of int
    keepdim : bool
    """
    name = "linalg.matrix_norm"
    x = tensor_of(name, A)
    if dtype is not None:
        x = cast(x, dtypes.as_dtype(dtype))
    matrices(name, x)
    if ord not in _MATRIX_ORDERS:
        raise ArgumentError(f"{name}: ord must be one of {_MATRIX_ORDERS}, got {ord!r}")
    dims = [normal_dim(name, d, x.ndim) for d in dim]
    if len(dims) != 2 or dims[0] == dims[1]:
        raise ArgumentError(f"{name}: dim must be two different dimensions, got {dim}")
    both = tuple(sorted(dims))
    if ord == "fro":
        return with_keepdim(p_norm(name, x, 2.0, both), x, both, keepdim)
    rest = [k for k in range(x.ndim) if k not in dims]
    moved = x.permute(*rest, *dims)
    if ord in ("nuc", 2, -2):
        values = svdvals(moved)
        if ord == "nuc":
            out = reduce_sum(values, (values.ndim - 1,))
        else:
            out = (amax if ord == 2 else amin)(values, -1)
    else:
        sums = moved.abs().sum(-1 if abs(ord) == inf else -2)
        out = (amax if ord > 0 else amin)(sums, -1)
    return with_keepdim(out, x, both, keepdim)


def _norm_samples(rng):
    yield Sample((rng.normal(size=(2, 3)),))
    yield Sample((rng.normal(size=(2, 3)), "nuc"))
    yield Sample((rng.normal(size=(2, 3)), 1), {"dim": (0, 1)})
    yield Sample((rng.normal(size=3), 3))
    yield Sample((rng.normal(size=(2, 3)), inf, 1))
    yield Sample((rng.normal(size=(2, 3)), 2))


@composite("linalg.norm", methods=(), samples=_norm_samples)
def norm(A: Tensor, ord=None, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """A vector's or a matrix's norm, as `ord` and `dim` say.

    `ord` None: the 2-norm of the elements over `dim`. Otherwise a matrix norm if `dim` is a pair,
    or None for a tensor of 2 dimensions; a vector norm else.
    """
    x = tensor_of("linalg.norm", A)
    if ord is None:
        return vector_norm(x, 2, dim, keepdim, dtype=dtype)
    pair = isinstance(dim, (tuple, list)) and len(dim) == 2
    if dim is None and x.ndim not in (1, 2):
        raise ShapeError(
            "linalg.norm: with ord and no dim, 1 or 2 dimensions are required, got shape "
            f"{tuple(x.shape)}; give dim"
        )
    if pair or (dim is None and x.ndim == 2) or isinstance(ord, str):
        return matrix_norm(x, ord, dim if pair else (-2, -1), keepdim, dtype=dtype)
    return vector_norm(x, ord, dim, keepdim, dtype=dtype)


def _cond_samples(rng):
    for p in (None, "fro", 1, inf, -2, "nuc"):
        yield Sample((regular(rng, 3, 3), p))
    yield Sample((rng.normal(size=(3, 2)),))


@composite("linalg.cond", methods=(), numpy=(np.linalg.cond,), samples=_cond_samples, torch=None)
def cond(A: Tensor, p=None) -> Tensor:
    """The condition ``norm(A, p) * norm(inv(A), p)``; for None and 2 the singular values' ratio."""
    x = matrices("linalg.cond", tensor_of("linalg.cond", A))
    if p in (None, 2, -2):
        values = svdvals(x)
        last = values.ndim - 1
        largest = narrowed(values, last, 0, 1)
        smallest = narrowed(values, last, node_of(values).shape[-1] - 1, 1)
        ratio = smallest / largest if p == -2 else largest / smallest
        return ratio.reshape(node_of(ratio).shape[:-1])
    inverse = inverse_of(square("linalg.cond", x), False)
    return matrix_norm(x, p) * matrix_norm(inverse, p)


# -- traces, products -----------------------------------------------------------------------------


def _trace_samples(rng):
    for shape in [(3, 3), (2, 4), (0, 2)]:
        yield Sample((rng.normal(size=shape),))


def _trace_errors():
    yield BadCall((np.ones((2, 2, 2)),), ShapeError, "2 dimensions")


@composite(samples=_trace_samples, errors=_trace_errors)
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal; integers in int64."""
    x = tensor_of("trace", input)
    if x.ndim != 2:
        raise ShapeError(f"trace: 2 dimensions are required, got shape {tuple(x.shape)}")
    return diagonal_of(x).sum()


def _cross_samples(rng):
    yield Sample((rng.normal(size=3), rng.normal(size=3)))
    yield Sample((rng.normal(size=(2, 3)), rng.normal(size=(1, 3))))
    yield Sample((rng.normal(size=(3, 2)), rng.normal(size=(3, 2))), {"dim": 0})


def _cross_errors():
    yield BadCall((np.ones(2), np.ones(2)), ShapeError, "size 3")
    yield BadCall((np.ones((2, 3)), np.ones(3)), ShapeError, "as many dimensions")


def _cross(name: str, input, other, dim) -> Tensor:
    a, b = tensor_of(name, input, 0), tensor_of(name, other, 1)
    if a.ndim != b.ndim:
        raise ShapeError(
            f"{name}: operands of as many dimensions are required, got shapes {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    if dim is None:  # the old default: the first dimension of size 3
        dim = next((k for k, s in enumerate(a.shape) if s == 3), -1)
    dim = normal_dim(name, dim, a.ndim)
    if not a.ndim or a.shape[dim] != 3 or b.shape[dim] != 3:
        raise ShapeError(
            f"{name}: vectors of size 3 along dim {dim} are required, got shapes {tuple(a.shape)} "
            f"and {tuple(b.shape)}"
        )
    dtype = operands(name, (a, b))[1]
    a, b = cast(a, dtype), cast(b, dtype)
    broadcast(name, node_of(a).shape, node_of(b).shape)

    def turned(t, by):
        return rolled(t, tuple(-by * (k == dim) for k in range(t.ndim)))

    return turned(a, 1) * turned(b, 2) - turned(a, 2) * turned(b, 1)


@composite("linalg.cross", methods=(), samples=_cross_samples, errors=_cross_errors)
def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross products of vectors of size 3 along `dim`; other dimensions broadcast."""
    return _cross("linalg.cross", input, other, dim)


@composite(samples=_cross_samples, errors=_cross_errors)
def cross(input: Tensor, other: Tensor, dim=None) -> Tensor:
    """The cross products along `dim`, by default the first dimension of size 3."""
    return _cross("cross", input, other, dim)


def _vecdot_samples(rng):
    yield Sample((rng.normal(size=(2, 3)), rng.normal(size=3)))
    yield Sample((rng.normal(size=(3, 2)), rng.normal(size=(3, 2))), {"dim": 0})


@composite("linalg.vecdot", methods=(), samples=_vecdot_samples)
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The inner products of vectors along `dim`; other dimensions broadcast."""
    return (tensor_of("linalg.vecdot", x) * tensor_of("linalg.vecdot", y, 1)).sum(dim)


def _vander_samples(rng):
    yield Sample((rng.normal(size=3),))
    yield Sample((rng.normal(size=(2, 3)),), {"N": 2})


@composite("linalg.vander", methods=(), samples=_vander_samples)
def vander(x: Tensor, *, N=None) -> Tensor:
    """The Vandermonde matrices x[..., i] ** j for j below `N` (the number of elements)."""
    from .movement import expand
    from .scan import exclusive_cumprod

    t = tensor_of("linalg.vander", x)
    if not t.ndim and N is None:
        raise ShapeError("linalg.vander: at least 1 dimension is required, or N; got a 0-d tensor")
    count = t.shape[-1] if N is None else N
    lead = tuple(t.shape) or (1,)
    wide = expand(t.reshape(*lead, 1), *lead, count)
    return exclusive_cumprod(wide, len(lead))


def _tensorsolve_samples(rng):
    yield Sample((regular(rng, 6, 6).reshape(2, 3, 6), rng.normal(size=(2, 3))))


@composite(
    "linalg.tensorsolve", methods=(), numpy=(np.linalg.tensorsolve,), samples=_tensorsolve_samples
)
def tensorsolve(A: Tensor, B: Tensor, dims=None) -> Tensor:
    """X of ``tensordot(A, X, X.ndim) = B``; `dims` of A are moved to its end first."""
    a, b = tensor_of("linalg.tensorsolve", A), tensor_of("linalg.tensorsolve", B, 1)
    if dims is not None:
        moved = [normal_dim("linalg.tensorsolve", d, a.ndim) for d in dims]
        a = a.permute(*[k for k in range(a.ndim) if k not in moved], *moved)
    shape = tuple(a.shape[b.ndim :])
    if product(shape) != product(b.shape):
        raise ShapeError(
            f"linalg.tensorsolve: A must be square when flattened, got shapes {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    return solve(a.reshape(-1, product(shape)), b.reshape(-1)).reshape(shape)


def _tensorinv_samples(rng):
    yield Sample((regular(rng, 6, 6).reshape(2, 3, 6),))
    yield Sample((regular(rng, 4, 4).reshape(4, 2, 2), 1))


@composite("linalg.tensorinv", methods=(), numpy=(np.linalg.tensorinv,), samples=_tensorinv_samples)
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of ``tensordot`` with A, whose first `ind` dimensions are the rows."""
    a = tensor_of("linalg.tensorinv", A)
    rows, columns = tuple(a.shape[:ind]), tuple(a.shape[ind:])
    if ind < 1 or product(rows) != product(columns):
        raise ShapeError(
            f"linalg.tensorinv: A must be square when flattened at ind={ind}, got shape "
            f"{tuple(a.shape)}"
        )
    return inverse_of(a.reshape(product(rows), -1)).reshape(columns + rows)
