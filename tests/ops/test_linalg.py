"""Linear algebra against NumPy, PyTorch and differences: corners, errors, orders of derivative."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, GradientError, LinAlgError, ShapeError
from support.numeric import array_of, check_gradient, check_orders, gradients


def t64(a, requires_grad=False):
    return fg.tensor(np.asarray(a, np.float64), requires_grad=requires_grad)


def symmetric(x):
    return (x + x.transpose(-1, -2)) * 0.5


# -- determinants ---------------------------------------------------------------------------------


def cofactors(a):
    n = len(a)
    out = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            minor = np.delete(np.delete(a, i, 0), j, 1)
            out[i, j] = (-1) ** (i + j) * np.linalg.det(minor)
    return out


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_det_gradient_of_singular_matrices_is_the_cofactors(rng, rank):
    a = rng.normal(size=(3, rank)) @ rng.normal(size=(rank, 3)) if rank else np.zeros((3, 3))
    (g,) = gradients(fg.linalg.det, [a])
    np.testing.assert_allclose(g, cofactors(a), rtol=1e-10, atol=1e-12)
    if rank >= 2:
        assert np.abs(g).max() > 1e-3


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_second_derivative_of_det_where_it_is_singular(rng, rank):
    a = rng.normal(size=(3, rank)) @ rng.normal(size=(rank, 3))
    w = t64(rng.normal(size=(3, 3)))

    def along(x):
        x = x if x.requires_grad else x.requires_grad_()
        (g,) = fg.autograd.grad(fg.linalg.det(x), x, create_graph=True)
        return (g * w).sum()

    check_gradient(along, a)


def test_third_derivative_of_det(rng):
    w = [t64(rng.normal(size=(3, 3))) for _ in range(2)]

    def second(x):
        x = x if x.requires_grad else x.requires_grad_()
        (g,) = fg.autograd.grad(fg.linalg.det(x), x, create_graph=True)
        (h,) = fg.autograd.grad((g * w[0]).sum(), x, create_graph=True)
        return (h * w[1]).sum()

    check_gradient(second, rng.normal(size=(3, 3)), rtol=1e-5)


def test_slogdet_of_large_and_singular_matrices():
    sign, logarithm = fg.linalg.slogdet(t64(np.eye(400) * 1e10))
    assert sign.item() == 1.0
    np.testing.assert_allclose(logarithm.item(), 400 * np.log(1e10), rtol=1e-14)
    sign, logarithm = fg.slogdet(t64(np.zeros((2, 2))))
    assert (sign.item(), logarithm.item()) == (0.0, -np.inf)
    assert np.isnan(fg.logdet(t64([[0.0, 1.0], [1.0, 0.0]])).item())


# -- errors at evaluation -------------------------------------------------------------------------


def batch(bad):
    a = np.stack([np.eye(3)] * 4)
    a[2] = bad
    return t64(a)


def test_singular_matrices_are_named():
    bad = np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    for call in (fg.linalg.inv, lambda x: fg.linalg.solve(x, t64(np.ones((3, 1))))):
        with pytest.raises(LinAlgError, match=r"batch element 2\).*singular.*element 2|element 3"):
            call(batch(bad)).numpy()
    with pytest.raises(LinAlgError, match="the matrix is singular"):
        fg.inverse(t64(np.zeros((2, 2)))).numpy()


def test_indefinite_matrices_are_named():
    with pytest.raises(LinAlgError, match=r"batch element 2\).*leading minor of order 2"):
        fg.linalg.cholesky(batch(np.diag([1.0, -1.0, 1.0]))).numpy()


def test_nan_does_not_converge():
    for call in (fg.linalg.svdvals, fg.linalg.eigvalsh):
        try:
            value = call(t64(np.full((2, 2), np.nan))).numpy()
        except LinAlgError as error:
            assert "NaN" in str(error)
        else:
            assert np.isnan(value).all()


def test_ex_variants_report_without_raising():
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    inverse, info = fg.linalg.inv_ex(t64(np.stack([np.eye(2), singular])))
    assert info.dtype is fg.int32
    assert info.tolist() == [0, 2]
    np.testing.assert_array_equal(inverse.numpy()[0], np.eye(2))
    assert np.isnan(inverse.numpy()[1]).all()
    factor, info = fg.linalg.cholesky_ex(t64(np.stack([np.diag([4.0, 9.0]), np.diag([1.0, -1.0])])))
    assert info.tolist() == [0, 2]
    np.testing.assert_array_equal(factor.numpy()[0], np.diag([2.0, 3.0]))
    with pytest.raises(LinAlgError):
        fg.linalg.inv_ex(t64(singular), check_errors=True)[0].numpy()


def test_calls_that_cannot_work_raise_at_once():
    with pytest.raises(ShapeError, match="square"):
        fg.linalg.solve(t64(np.ones((2, 3))), t64(np.ones(2)))
    with pytest.raises(ArgumentError, match="ord"):
        fg.linalg.matrix_norm(t64(np.ones((2, 2))), "max")


# -- triangular, Cholesky -------------------------------------------------------------------------


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_solve_triangular(rng, upper, unit, left):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    a = rng.normal(size=(4, 4)) + 3 * np.eye(4)
    b = rng.normal(size=(4, 2) if left else (2, 4))

    def call(a, b):
        return fg.linalg.solve_triangular(a, b, upper=upper, left=left, unitriangular=unit)

    if left:
        expected = scipy_linalg.solve_triangular(a, b, lower=not upper, unit_diagonal=unit)
    else:
        expected = scipy_linalg.solve_triangular(
            a, b.T, trans=1, lower=not upper, unit_diagonal=unit
        ).T
    np.testing.assert_allclose(call(t64(a), t64(b)).numpy(), expected, rtol=1e-12)
    w = t64(rng.normal(size=b.shape))
    check_orders(lambda a, b: (call(a, b) * w).sum(), a, b)


def test_triangular_solution_with_a_zero_diagonal_is_infinite():
    x = fg.linalg.solve_triangular(t64([[0.0]]), t64([[1.0]]), upper=True)
    assert x.item() == np.inf


@pytest.mark.parametrize("upper", [False, True])
def test_cholesky_derivatives(rng, upper):
    a = rng.normal(size=(2, 3, 3))
    a = a @ a.transpose(0, 2, 1) + np.eye(3)
    w = t64(rng.normal(size=(2, 3, 3)))
    check_orders(lambda x: (fg.linalg.cholesky(symmetric(x), upper) * w).sum(), a)


def test_cholesky_gradient_is_pytorchs(rng):
    torch = pytest.importorskip("torch")
    a = rng.normal(size=(3, 3))
    a = a @ a.T + np.eye(3)
    w = rng.normal(size=(3, 3))
    x = torch.tensor(a, requires_grad=True)
    (torch.linalg.cholesky(x) * torch.tensor(w)).sum().backward()
    (g,) = gradients(lambda x: (fg.linalg.cholesky(x) * t64(w)).sum(), [a])
    np.testing.assert_allclose(g, x.grad.numpy(), rtol=1e-10, atol=1e-12)


# -- QR, eigenvalues, singular values -------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2), (2, 2, 3)])
def test_qr_derivatives(rng, shape):
    a = rng.normal(size=shape)
    q, r = fg.linalg.qr(t64(a))
    np.testing.assert_allclose((q @ r).numpy(), a, atol=1e-13)
    wq, wr = t64(rng.normal(size=q.shape)), t64(rng.normal(size=r.shape))

    def both(x):
        q, r = fg.linalg.qr(x)
        return (q * wq).sum() + (r * wr).sum()

    check_orders(both, a)


def test_qr_modes(rng):
    a = rng.normal(size=(4, 2))
    q, r = fg.linalg.qr(t64(a), "complete")
    assert tuple(q.shape) == (4, 4) and tuple(r.shape) == (4, 2)
    np.testing.assert_allclose((q @ r).numpy(), a, atol=1e-13)
    q, r = fg.linalg.qr(t64(a), "r")
    assert tuple(q.shape) == (0,)
    check_gradient(lambda x: (fg.linalg.qr(x, "r").R ** 2 * 0.5)[0, 0], a)
    x = t64(a, True)
    with pytest.raises(GradientError, match="complete"):
        fg.linalg.qr(x, "complete").R.sum().backward()


@pytest.mark.parametrize("uplo", ["L", "U"])
def test_eigh_derivatives(rng, uplo):
    a = rng.normal(size=(2, 3, 3))
    values, vectors = fg.linalg.eigh(symmetric(t64(a)), uplo)
    rebuilt = (vectors * values.reshape(2, 1, 3)) @ vectors.transpose(-1, -2)
    np.testing.assert_allclose(rebuilt.numpy(), (a + a.transpose(0, 2, 1)) / 2, atol=1e-13)
    wl, wv = t64(rng.normal(size=(2, 3))), t64(rng.normal(size=(2, 3, 3)))

    def both(x):  # squares: the sign of an eigenvector is arbitrary
        values, vectors = fg.linalg.eigh(symmetric(x), uplo)
        return (values * wl).sum() + (vectors * vectors * wv).sum()

    check_orders(both, a)


def test_eigh_gradient_is_pytorchs(rng):
    torch = pytest.importorskip("torch")
    a = rng.normal(size=(3, 3))
    a = a + a.T
    w = rng.normal(size=(3, 3))
    x = torch.tensor(a, requires_grad=True)
    (torch.linalg.eigh(x)[1] ** 2 * torch.tensor(w)).sum().backward()
    (g,) = gradients(lambda x: (fg.linalg.eigh(x)[1] ** 2 * t64(w)).sum(), [a])
    np.testing.assert_allclose(g, x.grad.numpy(), rtol=1e-9, atol=1e-10)


def test_eigenvalues_that_are_equal_have_a_gradient():
    (g,) = gradients(lambda x: fg.linalg.eigvalsh(x).sum(), [np.eye(3)])
    np.testing.assert_allclose(g, np.eye(3), atol=1e-14)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2)])
@pytest.mark.parametrize("full", [False, True])
def test_svd_derivatives(rng, shape, full):
    a = rng.normal(size=shape)
    k = min(shape[-2:])
    u, s, vh = fg.linalg.svd(t64(a), full)
    assert u.shape[-1] == (shape[-2] if full else k)
    rebuilt = (u.numpy()[..., :k] * s.numpy()[..., None, :]) @ vh.numpy()[..., :k, :]
    np.testing.assert_allclose(rebuilt, a, atol=1e-13)
    w = t64(rng.normal(size=shape))
    ws = t64(rng.normal(size=(*shape[:-2], k)))

    def invariant(x):  # of the signs of the singular vectors
        u, s, vh = fg.linalg.svd(x, full)
        u, vh = u[..., :k], vh[..., :k, :]
        return (s * ws).sum() + ((u * s.reshape(*s.shape[:-1], 1, k).exp()) @ vh * w).sum()

    check_orders(invariant, a)


def test_empty_matrices():
    assert fg.linalg.det(t64(np.empty((0, 0)))).item() == 1.0
    assert tuple(fg.linalg.inv(t64(np.empty((2, 0, 0)))).shape) == (2, 0, 0)
    assert fg.linalg.svdvals(t64(np.empty((0, 3)))).numpy().shape == (0,)
    assert tuple(fg.linalg.pinv(t64(np.empty((0, 3)))).numpy().shape) == (3, 0)
    assert fg.linalg.matrix_rank(t64(np.empty((2, 0, 3)))).tolist() == [0, 0]


# -- least squares, rank, norms -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3)])
def test_pinv_of_deficient_matrices(rng, shape):
    a = np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1]))
    np.testing.assert_allclose(
        fg.linalg.pinv(t64(a)).numpy(), np.linalg.pinv(a), rtol=1e-9, atol=1e-12
    )
    assert fg.linalg.matrix_rank(t64(a)).item() == 1
    # Along matrices of one rank the pseudo-inverse is smooth.
    w = t64(rng.normal(size=shape[::-1]))
    u, v = rng.normal(size=(shape[0], 1)), rng.normal(size=(1, shape[1]))
    check_orders(lambda u, v: (fg.linalg.pinv(u @ v, rtol=1e-8) * w).sum(), u, v)


def test_lstsq_is_numpys(rng):
    a, b = rng.normal(size=(5, 2)), rng.normal(size=(5, 3))
    found = fg.linalg.lstsq(t64(a), t64(b), driver="gelsd")
    solution, residuals, rank, values = np.linalg.lstsq(a, b)
    np.testing.assert_allclose(found.solution.numpy(), solution, rtol=1e-11)
    np.testing.assert_allclose(found.residuals.numpy(), residuals, rtol=1e-11)
    np.testing.assert_allclose(found.singular_values.numpy(), values, rtol=1e-12)
    assert found.rank.item() == rank == 2


def test_matrix_exp_is_scipys(rng):
    expm = pytest.importorskip("scipy.linalg").expm
    for scale in (1e-8, 0.3, 3.0, 40.0):
        a = rng.normal(size=(2, 4, 4)) * scale
        expected = np.stack([expm(m) for m in a])
        tolerance = 1e-11 * np.abs(expected).max()
        np.testing.assert_allclose(fg.matrix_exp(t64(a)).numpy(), expected, atol=tolerance)


def test_norms_are_safe():
    for scale in (1e200, 1e-200, 5e-324):
        x = np.array([[3.0, 0.0], [0.0, 4.0]]) * scale
        value = fg.linalg.norm(t64(x)).item()
        assert value == np.float64(5.0) * scale
    (g,) = gradients(fg.linalg.norm, [np.zeros((2, 2))])
    np.testing.assert_array_equal(g, np.zeros((2, 2)))


def test_namespace_is_the_registrys():
    from flatgrad.graph.op import PUBLIC

    names = [n for n in PUBLIC if n.startswith("linalg.")]
    assert len(names) > 25
    for name in names:
        assert getattr(fg.linalg, name[7:]) is PUBLIC[name].function


def test_float32_stays_float32():
    a = fg.tensor(np.eye(3, dtype=np.float32) * 2)
    for result in (
        fg.linalg.det(a), fg.linalg.inv(a), fg.linalg.cholesky(a), *fg.linalg.svd(a),
        *fg.linalg.eigh(a), *fg.linalg.qr(a), *fg.linalg.slogdet(a), fg.linalg.pinv(a),
        fg.matrix_exp(a), fg.linalg.solve(a, a),
    ):  # fmt: skip
        assert result.dtype is fg.float32
        assert array_of(result).dtype == np.float32
