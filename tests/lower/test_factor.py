"""Linear algebra as loops equals LAPACK: values, derivatives, errors, inside loops, vmap and Numba code."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import LinAlgError

LA = fg.linalg
SIZES = [0, 1, 2, 5, 17]


def regular(rng, *shape):
    return rng.normal(size=shape) + 2 * np.eye(shape[-1])


def positive(rng, *shape):
    a = rng.normal(size=shape)
    return a @ np.swapaxes(a, -1, -2) + shape[-1] * np.eye(shape[-1])


CASES = {
    "solve": (
        LA.solve,
        np.linalg.solve,
        lambda r, n: (regular(r, n, n), r.normal(size=(n, 3))),
    ),
    "solve_batch": (
        LA.solve,
        np.linalg.solve,
        lambda r, n: (regular(r, 2, 3, n, n), r.normal(size=(2, 3, n, 2))),
    ),
    "inv": (LA.inv, np.linalg.inv, lambda r, n: (regular(r, 4, n, n),)),
    "det": (LA.det, np.linalg.det, lambda r, n: (regular(r, 3, n, n),)),
    "slogdet": (
        lambda a: tuple(LA.slogdet(a)),
        lambda a: tuple(np.linalg.slogdet(a)),
        lambda r, n: (regular(r, 3, n, n),),
    ),
    "cholesky": (LA.cholesky, np.linalg.cholesky, lambda r, n: (positive(r, 2, n, n),)),
    "lower": (
        lambda a, b: LA.solve_triangular(a, b, upper=False),
        lambda a, b: np.linalg.solve(np.tril(a), b),
        lambda r, n: (regular(r, n, n), r.normal(size=(n, 2))),
    ),
    "unit_upper": (
        lambda a, b: LA.solve_triangular(a, b, upper=True, unitriangular=True),
        lambda a, b: np.linalg.solve(np.triu(a, 1) + np.eye(a.shape[-1]), b),
        lambda r, n: (0.3 * regular(r, n, n), r.normal(size=(n, 2))),
    ),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_equals_lapack(name, dtype, rng):
    f, by_numpy, make = CASES[name]
    arguments = [a for n in SIZES for a in make(rng, n)]
    count = len(arguments) // len(SIZES)

    def all_sizes(*xs):  # one program
        return [f(*xs[k : k + count]) for k in range(0, len(xs), count)]

    arguments = [a.astype(dtype) for a in arguments]
    g = fg.compile(all_sizes, *arguments)
    assert g.tier == "compiled"
    _ = g.njit  # all of it is machine code
    found = g(*arguments)
    for k, have in enumerate(found):
        want = by_numpy(*[a.astype(np.float64) for a in arguments[k * count : (k + 1) * count]])
        many = isinstance(have, tuple)
        for h, w in zip(have if many else (have,), want if many else (want,), strict=True):
            assert np.asarray(h).dtype == dtype or not np.ndim(h)
            scale = np.abs(w).max(initial=1.0)
            eps = 1e-12 if dtype == np.float64 else 1e-4
            np.testing.assert_allclose(h, w, rtol=0, atol=eps * scale)


@pytest.mark.parametrize("name", ["solve", "inv", "slogdet", "cholesky", "lower"])
def test_derivatives(name, rng):
    f, _, make = CASES[name]
    xs = [fg.tensor(a, requires_grad=True) for a in make(rng, 3)]

    def of(*xs):
        if name == "cholesky":
            return f(xs[0] + xs[0].mT)
        return f(*xs)[1] if name == "slogdet" else f(*xs)

    with fg.set_compile("always"):
        assert fg.autograd.gradcheck(of, xs, check_forward_ad=True)
        assert fg.autograd.gradgradcheck(of, xs)


def test_determinants_of_singular_matrices():
    a = np.array([[[1.0, 2.0], [2.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    g = fg.compile(lambda a: (LA.det(a), *LA.slogdet(a)), a)
    det, sign, logarithm = g(a)
    np.testing.assert_array_equal(det, [0.0, -1.0, 0.0])
    np.testing.assert_array_equal(sign, [0.0, -1.0, 0.0])
    np.testing.assert_array_equal(logarithm, [-np.inf, 0.0, -np.inf])


def test_pivoting_keeps_what_elimination_alone_would_lose(rng):
    a = np.array([[1e-20, 1.0], [1.0, 1.0]])
    b = np.array([[1.0], [2.0]])
    np.testing.assert_allclose(fg.compile(LA.solve, a, b)(a, b), [[1.0], [1.0]], rtol=1e-15)


@pytest.mark.parametrize("name", ["solve", "inv"])
def test_singular_matrices_raise(name):
    zero, b = np.zeros((3, 3)), np.ones((3, 1))
    f = (lambda a: LA.solve(a, fg.from_numpy(b))) if name == "solve" else LA.inv
    g = fg.compile(f, np.eye(3))
    with pytest.raises(LinAlgError, match=f"linalg.{name}: the matrix is singular"):
        g(zero)
    np.testing.assert_allclose(np.asarray(g(np.eye(3)))[0, 0], 1.0)  # it goes on working

    inside = g.njit

    @numba.njit
    def user(a):
        return inside(a)

    with pytest.raises(LinAlgError, match="the matrix is singular"):
        user(zero)


def test_indefinite_matrices_raise(rng):
    g = fg.compile(LA.cholesky, np.eye(3))
    with pytest.raises(LinAlgError, match="not positive-definite"):
        g(-np.eye(3))
    with pytest.raises(LinAlgError, match="not positive-definite"):
        g(np.full((3, 3), np.nan))


def test_what_is_not_to_raise_is_nan(rng):
    batch = np.stack([np.eye(3), np.zeros((3, 3)), 2 * np.eye(3)])
    g = fg.compile(lambda a: (LA.inv_ex(a)[0], LA.cholesky_ex(a)[0]), batch)
    for have, last in zip(g(batch), (0.5, np.sqrt(2)), strict=True):
        np.testing.assert_allclose(have[0], np.eye(3))
        assert not np.isfinite(have[1]).any() or np.isnan(have[1]).any()
        np.testing.assert_allclose(have[2], last * np.eye(3), rtol=1e-15)


def test_in_loops_branches_and_vmap(rng):
    a, b = regular(rng, 6, 3, 3), rng.normal(size=(3, 1))

    def f(a, b):
        solved = fg.scan(lambda x, m: (LA.solve(m, x), LA.det(m)), b, a)
        inverse = fg.cond(a.sum() > 1e6, lambda m: m, lambda m: LA.inv(m), a[0])
        each = fg.func.vmap(lambda m: LA.solve(m, b))(a)
        return *solved, inverse, each

    g = fg.compile(f, a, b)
    assert g.tier == "compiled"
    _ = g.njit
    x, dets = b, []
    for m in a:
        x = np.linalg.solve(m, x)
        dets.append(np.linalg.det(m))
    for have, want in zip(
        g(a, b), (x, dets, np.linalg.inv(a[0]), np.linalg.solve(a, b[None])), strict=True
    ):
        np.testing.assert_allclose(have, want, rtol=1e-9)


def test_from_many_threads(rng):
    g = fg.compile(LA.solve, np.eye(4), np.ones((4, 1))).njit
    a, b = regular(rng, 200, 4, 4), rng.normal(size=(200, 4, 1))

    @numba.njit(parallel=True)
    def each(a, b, out):
        for k in numba.prange(len(a)):
            out[k] = g(a[k], b[k])

    out = np.empty_like(b)
    each(a, b, out)
    np.testing.assert_allclose(out, np.linalg.solve(a, b), rtol=1e-8)


def test_large_matrices_are_lapacks(rng):
    a, b = regular(rng, 200, 200), rng.normal(size=(200, 1))
    g = fg.compile(LA.solve, a, b)
    np.testing.assert_allclose(g(a, b), np.linalg.solve(a, b), rtol=1e-9)
    with pytest.raises(fg.errors.UnsupportedError, match="solve is run by NumPy"):
        _ = g.njit
