"""NumPy's functions on tensors: the values NumPy gives, as recorded operations with derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import UnsupportedError
from flatgrad.graph.op import PUBLIC
from flatgrad.numpy_face.table import RENAMED
from flatgrad.numpy_face.ufuncs import declared

A = np.array([[1.5, -2.0, 0.25], [3.0, 0.5, -1.1]])
B = np.array([[0.5, 1.0, 2.0], [4.0, 0.25, 1.0]])
V = np.array([0.3, -1.2, 2.0])
P = np.array([0.2, 0.5, 0.9])
M = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 5.0]])
W = np.array([1.0, 2.0, 3.0])

UFUNCS = [
    np.sin, np.cos, np.tan, np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p, np.sqrt,
    np.cbrt, np.square, np.arcsin, np.arccos, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh,
    np.arctanh, np.abs, np.fabs, np.negative, np.positive, np.reciprocal, np.sign, np.floor, np.ceil,
    np.trunc, np.rint, np.deg2rad, np.rad2deg, np.radians, np.degrees, np.isnan, np.isfinite, np.isinf,
    np.signbit, np.logical_not, np.conjugate,
]  # fmt: skip
BINARY_UFUNCS = [
    np.add, np.subtract, np.multiply, np.divide, np.true_divide, np.power, np.float_power,
    np.maximum, np.minimum, np.fmax, np.fmin, np.arctan2, np.hypot, np.logaddexp, np.logaddexp2,
    np.copysign, np.remainder, np.mod, np.fmod, np.floor_divide, np.heaviside, np.equal, np.not_equal,
    np.less, np.less_equal, np.greater, np.greater_equal, np.logical_and, np.logical_or,
    np.logical_xor,
]  # fmt: skip


def as_arrays(result):
    if isinstance(result, (tuple, list)):
        return [a for r in result for a in as_arrays(r)]
    return [result.detach().numpy() if isinstance(result, fg.Tensor) else np.asarray(result)]


def same(ours, theirs, tensors: bool = True) -> None:
    if tensors:
        assert any(
            isinstance(t, fg.Tensor) for t in (ours if isinstance(ours, (tuple, list)) else [ours])
        )
    got, want = as_arrays(ours), as_arrays(theirs)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and g.dtype.kind == w.dtype.kind, (g.dtype, w.dtype)
        np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_unary_ufunc(ufunc):
    same(ufunc(fg.tensor(P)), ufunc(P))


@pytest.mark.parametrize("ufunc", BINARY_UFUNCS, ids=lambda f: f.__name__)
def test_binary_ufunc_with_an_array_on_either_side(ufunc):
    for x, y in (
        (fg.tensor(P), B),
        (P, fg.tensor(B)),
        (fg.tensor(P), fg.tensor(B)),
        (fg.tensor(P), 2.0),
    ):
        plain = [v.numpy() if isinstance(v, fg.Tensor) else v for v in (x, y)]
        same(ufunc(x, y), ufunc(*plain))


def test_integer_ufuncs():
    i, j = np.array([6, -7, 5]), np.array([1, 2, 3])
    for ufunc in (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift):
        same(ufunc(fg.tensor(i), j), ufunc(i, j))
    same(np.invert(fg.tensor(i)), np.invert(i))
    same(np.divmod(fg.tensor(i), j), np.divmod(i, j))
    same(np.modf(fg.tensor(V)), np.modf(V))


def test_every_declared_ufunc_reaches_its_operation():
    ufuncs = [f for p in PUBLIC.values() for f in p.numpy if isinstance(f, np.ufunc)]
    assert len(ufuncs) > 70
    assert len(set(ufuncs)) == len(ufuncs), "a ufunc is declared for two operations"
    assert all(declared(f) is not None for f in ufuncs)


CALLS = {
    "sum": lambda x: np.sum(x),
    "sum_axis": lambda x: np.sum(x, axis=0, keepdims=True),
    "sum_axes": lambda x: np.sum(x, (0, 1)),
    "sum_dtype": lambda x: (
        np.sum(x, dtype=np.float32).astype(np.float32)
        if isinstance(x, np.ndarray)
        else np.sum(x, dtype=np.float32)
    ),
    "prod": lambda x: np.prod(x, axis=1),
    "mean": lambda x: np.mean(x, axis=-1),
    "mean_all": lambda x: np.mean(x),
    "var": lambda x: np.var(x, axis=0),
    "var_ddof": lambda x: np.var(x, axis=1, ddof=1, keepdims=True),
    "std": lambda x: np.std(x),
    "max": lambda x: np.max(x, axis=0),
    "amax": lambda x: np.amax(x),
    "min": lambda x: np.min(x, axis=1, keepdims=True),
    "ptp": lambda x: np.ptp(x, axis=0),
    "all": lambda x: np.all(x > 0, axis=0),
    "any": lambda x: np.any(x > 0),
    "argmax": lambda x: np.argmax(x, axis=1),
    "argmin": lambda x: np.argmin(x),
    "count_nonzero": lambda x: np.count_nonzero(x, axis=0),
    "nansum": lambda x: np.nansum(x, axis=0),
    "nanmean": lambda x: np.nanmean(x, axis=0),
    "median": lambda x: np.median(x, axis=1),
    "quantile": lambda x: np.quantile(x, 0.3, axis=1),
    "percentile": lambda x: np.percentile(x, 30, axis=0),
    "average": lambda x: np.average(x, axis=1, weights=W),
    "cov": lambda x: np.cov(x),
    "corrcoef": lambda x: np.corrcoef(x),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "cumsum_flat": lambda x: np.cumsum(x),
    "cumprod": lambda x: np.cumprod(x, axis=0),
    "diff": lambda x: np.diff(x, axis=1),
    "trapezoid": lambda x: np.trapezoid(x, dx=0.5),
    "reshape": lambda x: np.reshape(x, (3, 2)),
    "reshape_inferred": lambda x: np.reshape(x, -1),
    "ravel": lambda x: np.ravel(x),
    "transpose": lambda x: np.transpose(x),
    "transpose_axes": lambda x: np.transpose(x[None], (2, 0, 1)),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x: np.moveaxis(x, 0, -1),
    "squeeze": lambda x: np.squeeze(x[None], axis=0),
    "expand_dims": lambda x: np.expand_dims(x, (0, 3)),
    "broadcast_to": lambda x: np.broadcast_to(x, (4, 2, 3)),
    "broadcast_arrays": lambda x: np.broadcast_arrays(x, W),
    "atleast_3d": lambda x: np.atleast_3d(x),
    "atleast_2d": lambda x: np.atleast_2d(x[0]),
    "concatenate": lambda x: np.concatenate([x, x], axis=1),
    "concatenate_mixed": lambda x: np.concatenate((x, B)),
    "concatenate_flat": lambda x: np.concatenate((x, B), axis=None),
    "stack": lambda x: np.stack([x, B], axis=-1),
    "vstack": lambda x: np.vstack([x[0], W]),
    "hstack": lambda x: np.hstack([x, B]),
    "dstack": lambda x: np.dstack([x, B]),
    "column_stack": lambda x: np.column_stack([x[:, 0], B]),
    "append": lambda x: np.append(x, B, axis=0),
    "split": lambda x: np.split(x, 3, axis=1),
    "array_split": lambda x: np.array_split(x, 2, axis=1),
    "split_at": lambda x: np.split(x, [1], axis=1),
    "flip": lambda x: np.flip(x),
    "fliplr": lambda x: np.fliplr(x),
    "roll": lambda x: np.roll(x, 1, axis=1),
    "roll_flat": lambda x: np.roll(x, 2),
    "tile": lambda x: np.tile(x, (2, 1)),
    "repeat": lambda x: np.repeat(x, 2, axis=1),
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2))),
    "pad_value": lambda x: np.pad(x, 1, constant_values=3.0),
    "tril": lambda x: np.tril(x),
    "triu": lambda x: np.triu(x, k=1),
    "diag": lambda x: np.diag(x[0]),
    "diagonal": lambda x: np.diagonal(x, offset=1),
    "trace": lambda x: np.trace(x),
    "meshgrid": lambda x: np.meshgrid(x[0], W),
    "where": lambda x: np.where(x > 0, x, 0.0),
    "where_array": lambda x: np.where(A > 0, x, B),
    "select": lambda x: np.select([x > 1, x > 0], [x, x * 2], 0.0),
    "clip": lambda x: np.clip(x, -1.0, 1.0),
    "clip_min": lambda x: np.clip(x, 0.0, None),
    "clip_keyword": lambda x: np.clip(x, min=0.0),
    "take": lambda x: np.take(x, [2, 0], axis=1),
    "take_flat": lambda x: np.take(x, [5, 0]),
    "take_along_axis": lambda x: np.take_along_axis(x, np.argsort(A, axis=1), axis=1),
    "sort": lambda x: np.sort(x, axis=1),
    "argsort": lambda x: np.argsort(x, axis=0),
    "argsort_flat": lambda x: np.argsort(x, axis=None),
    "sort_flat": lambda x: np.sort(x, axis=None),
    "take_along_flat": lambda x: np.take_along_axis(x, np.array([5, 0]), axis=None),
    "nonzero": lambda x: np.nonzero(x > 0),
    "where_indices": lambda x: np.where(x > 0),
    "argwhere": lambda x: np.argwhere(x > 0),
    "flatnonzero": lambda x: np.flatnonzero(x > 0),
    "unique": lambda x: np.unique(x),
    "searchsorted": lambda x: np.searchsorted(W, x),
    "round": lambda x: np.round(x, 1),
    "around": lambda x: np.around(x),
    "fix": lambda x: np.fix(x),
    "nan_to_num": lambda x: np.nan_to_num(x),
    "sinc": lambda x: np.sinc(x),
    "real": lambda x: np.real(x),
    "copy": lambda x: np.copy(x),
    "zeros_like": lambda x: np.zeros_like(x),
    "ones_like": lambda x: np.ones_like(x),
    "full_like": lambda x: np.full_like(x, 2.0),
    "isclose": lambda x: np.isclose(x, A),
    "dot": lambda x: np.dot(x, W),
    "dot_matrix": lambda x: np.dot(x, B.T),
    "dot_left": lambda x: np.dot(W, x.T),
    "matmul": lambda x: np.matmul(x, B.T),
    "matmul_left": lambda x: B.T @ x,
    "vdot": lambda x: np.vdot(x, B),
    "inner": lambda x: np.inner(x, B),
    "outer": lambda x: np.outer(x, W),
    "tensordot": lambda x: np.tensordot(x, B, axes=([1], [1])),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, B),
    "kron": lambda x: np.kron(x, B),
    "cross": lambda x: np.cross(x, B),
    "add_reduce": lambda x: np.add.reduce(x),
    "maximum_reduce": lambda x: np.maximum.reduce(x, axis=None),
    "logaddexp_reduce": lambda x: np.logaddexp.reduce(x, axis=1),
    "add_accumulate": lambda x: np.add.accumulate(x, axis=1),
    "multiply_outer": lambda x: np.multiply.outer(x, W),
    "rot90": lambda x: np.rot90(x, 3),
    "flipud": lambda x: np.flipud(x),
    "atleast_1d": lambda x: np.atleast_1d(x[0, 0]),
    "hsplit": lambda x: np.hsplit(x, 3),
    "vsplit": lambda x: np.vsplit(x, 2),
    "matrix_transpose": lambda x: np.linalg.matrix_transpose(x),
    "polyval": lambda x: np.polyval(x[0], W),
    "cumprod_flat": lambda x: np.cumprod(x),
    "full_like_shape": lambda x: np.full_like(x, 1.5, shape=(2,)),
    "bincount": lambda x: np.bincount(np.argmax(x, axis=1), minlength=4),
    "isposinf": lambda x: np.isposinf(x),
    "maximum_accumulate": lambda x: np.maximum.accumulate(x, axis=1),
    "sum_of_number": lambda x: np.float64(2.0) * x + np.array(3.0) - np.float32(0.5),
    "linalg.cross": lambda x: np.linalg.cross(x, B),
    "linalg.outer": lambda x: np.linalg.outer(x[0], W),
    "linalg.vector_norm": lambda x: np.linalg.vector_norm(x, axis=1),
    "empty_like": lambda x: np.shape(np.empty_like(x)) == (2, 3) and x,
    "array_left": lambda x: (A * x + 2 * x) / B - B + x**2,
}
MATRIX_CALLS = {
    "linalg.norm": lambda m: np.linalg.norm(m),
    "linalg.norm_axis": lambda m: np.linalg.norm(m, axis=1, keepdims=True),
    "linalg.norm_ord": lambda m: np.linalg.norm(m, 1),
    "linalg.det": lambda m: np.linalg.det(m),
    "linalg.slogdet": lambda m: tuple(np.linalg.slogdet(m)),
    "linalg.inv": lambda m: np.linalg.inv(m),
    "linalg.solve": lambda m: np.linalg.solve(m, W),
    "linalg.solve_left": lambda m: np.linalg.solve(M, m),
    "linalg.cholesky": lambda m: np.linalg.cholesky(m),
    "linalg.eigvalsh": lambda m: np.linalg.eigvalsh(m),
    "linalg.svd_values": lambda m: np.linalg.svd(m, compute_uv=False),
    "linalg.qr_r": lambda m: np.abs(np.linalg.qr(m)[1]),
    "linalg.matrix_power": lambda m: np.linalg.matrix_power(m, 3),
    "linalg.pinv": lambda m: np.linalg.pinv(m),
    "linalg.multi_dot": lambda m: np.linalg.multi_dot([m, M, m]),
    "linalg.trace": lambda m: np.linalg.trace(m),
    "linalg.svd": lambda m: np.dot(np.linalg.svd(m)[0] * np.linalg.svd(m)[1], np.linalg.svd(m)[2]),
    "linalg.eigh": lambda m: np.dot(np.linalg.eigh(m)[1] ** 2, np.linalg.eigh(m)[0]),
    "linalg.svdvals": lambda m: np.linalg.svdvals(m),
    "linalg.matrix_rank": lambda m: np.linalg.matrix_rank(m),
    "linalg.qr": lambda m: np.dot(np.linalg.qr(m)[0], np.linalg.qr(m)[1]),
}
ALL_CALLS = [(k, f, A) for k, f in CALLS.items()] + [(k, f, M) for k, f in MATRIX_CALLS.items()]
INTEGER_RESULTS = {
    "all", "any", "argmax", "argmin", "count_nonzero", "argsort", "nonzero", "where_indices", "argwhere",
    "flatnonzero", "searchsorted", "isclose", "zeros_like", "ones_like", "full_like", "round", "around",
    "fix", "unique", "full_like_shape", "bincount", "argsort_flat", "isposinf", "linalg.matrix_rank",
}  # fmt: skip


@pytest.mark.parametrize(("name", "call", "data"), ALL_CALLS, ids=[c[0] for c in ALL_CALLS])
def test_function_as_numpy(name, call, data):
    same(call(fg.tensor(data)), call(data))


@pytest.mark.parametrize(
    ("name", "call", "data"),
    [c for c in ALL_CALLS if c[0] not in INTEGER_RESULTS and c[0] != "sum_dtype"],
    ids=[c[0] for c in ALL_CALLS if c[0] not in INTEGER_RESULTS and c[0] != "sum_dtype"],
)
def test_function_records_its_derivative(name, call, data):
    """The directional derivative against central differences through NumPy itself."""
    rng = np.random.default_rng(3)
    direction = rng.normal(size=data.shape)
    if data is M:
        direction = direction + direction.T
    x = fg.tensor(data, requires_grad=True)
    outputs = call(x)
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    outputs = [y for y in outputs if y.requires_grad]
    assert outputs
    (g,) = fg.autograd.grad([fg.sum(y * y) for y in outputs], x)
    h = 1e-6

    def loss(at):
        return np.sum([np.sum(a * a) for a in as_arrays(call(at))])

    want = (loss(data + h * direction) - loss(data - h * direction)) / (2 * h)
    assert abs(want) > 1e-3
    np.testing.assert_allclose(np.sum(g.numpy() * direction), want, rtol=1e-6)


def test_scalars_that_are_not_recorded():
    x = fg.tensor(A)
    assert np.shape(x) == (2, 3) and np.ndim(x) == 2 and np.size(x) == 6
    assert np.allclose(x, A) and np.array_equal(x, A) and not np.array_equal(x, A + 1)
    assert not np.iscomplexobj(x)


def test_lists_of_tensors_and_numbers():
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    y = np.stack([x[0] * 2, x[1]]) + np.concatenate([[0.0], x[1:]])
    (g,) = fg.autograd.grad(np.sum(y), x)
    assert g.tolist() == [2.0, 2.0]
    assert np.add(x, [1.0, 1.0]).tolist() == [2.0, 3.0]


def test_ufunc_arguments():
    x = fg.tensor(P)
    assert np.sin(x, dtype=np.float32).dtype is fg.float32
    out = fg.zeros(3, dtype=fg.float64)
    assert np.sin(x, out=out) is out
    np.testing.assert_array_equal(out.numpy(), np.sin(P))
    array = P.copy()
    array += fg.tensor(W)
    np.testing.assert_array_equal(array, P + W)
    assert type(array) is np.ndarray
    with pytest.raises(TypeError, match="requires grad and can't be written into an array"):
        array += fg.tensor(W, requires_grad=True)
    np.testing.assert_array_equal(array, P + W)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: np.sin(x, where=[True, False, True]), "numpy.sin with where="),
        (lambda x: np.nextafter(x, 1.0), "numpy.nextafter"),
        (lambda x: np.frexp(x), "numpy.frexp"),
        (lambda x: np.add.at(x, [0], 1.0), "numpy.add.at"),
        (lambda x: np.add.reduceat(x, [0]), "numpy.add.reduceat"),
        (lambda x: np.subtract.reduce(x), "numpy.subtract.reduce"),
        (lambda x: np.fft.fft(x), "numpy.fft.fft|numpy.fft"),
        (lambda x: np.interp(0.5, x, x), "numpy.interp"),
        (lambda x: np.sum(x, where=x > 0), "numpy.sum with where="),
        (lambda x: np.reshape(x, (3, 1), order="F"), "order='F'"),
        (lambda x: np.pad(x, 1, mode="reflect"), "numpy.pad with mode"),
        (lambda x: np.linalg.eig(x), "numpy.linalg.eig"),
    ],
)
def test_unsupported_functions_say_so(call, name):
    with pytest.raises(UnsupportedError, match=name) as raised:
        call(fg.tensor(P, requires_grad=True))
    assert isinstance(raised.value, TypeError)
    assert "detach" in str(raised.value)


def test_strangers_have_their_turn():
    class Other:
        __array_ufunc__ = None

        def __radd__(self, other):
            return "mine"

    assert fg.tensor(P) + Other() == "mine"
    with pytest.raises(TypeError):
        np.add(fg.tensor(P), object())


def test_every_row_of_the_table_names_functions_that_exist():
    for name, (target, parameters) in RENAMED.items():
        found = np
        for part in name.split("."):
            found = getattr(found, part)
        names = [p.partition("=")[0] for p in parameters.split()]
        assert len(set(names)) == len(names), name
        assert target in PUBLIC, name


def test_minimize_with_jac():
    from scipy.optimize import minimize

    def value_and_grad(x):
        t = fg.tensor(x, requires_grad=True)
        y = np.sum(100.0 * (t[1:] - t[:-1] ** 2) ** 2 + (1.0 - t[:-1]) ** 2)
        return y.item(), fg.autograd.grad(y, t)[0].numpy()

    found = minimize(value_and_grad, np.zeros(5), jac=True)
    np.testing.assert_allclose(found.x, np.ones(5), rtol=1e-4)


def test_mixed_precision_promotes():
    x = fg.tensor([1.0, 2.0])
    assert np.matmul(x, np.ones(2)).dtype is fg.float64
    assert np.dot(np.ones((2, 2)), x).dtype is fg.float64
    assert (np.ones(2) * x).dtype is fg.float64
