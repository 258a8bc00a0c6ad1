"""CasADi calls exported functions, and takes first and second derivatives of what it builds on them."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, DTypeError
from support.c import STRICT, compiler, run


def f(x, M, s):
    y = M @ fg.sin(x)
    return (y * y).sum() * s, fg.outer(x, y) + s


X = np.array([0.3, -1.2])
M = np.array([[1.0, 2.0], [-0.5, 0.25], [3.0, -1.0]])


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("casadi")
    made = fg.export(f, X, M, 1.5, name="f", path=folder, casadi=True)
    command = compiler()
    run([*command, *STRICT, "-c", made.files["f_casadi.c"], "-o", folder / "wrapper.o"])
    return made, str(made.build(" ".join(command)))


def test_it_is_called_with_columns(library):
    casadi = pytest.importorskip("casadi")
    g = casadi.external("f_casadi", library[1])
    assert (g.name_in(), g.name_out()) == (["x", "M", "s"], ["result_0", "result_1"])
    assert [g.size_in(k) for k in range(3)] == [(2, 1), (3, 2), (1, 1)]
    value, outer = g(X, M, 1.5)
    want = fg.compile(f, X, M, 1.5)(X, M, 1.5)
    assert float(value) == pytest.approx(want[0], rel=1e-13)
    np.testing.assert_allclose(np.array(outer), want[1], rtol=1e-13)


def test_derivatives_are_those_of_the_same_formula(library):
    casadi = pytest.importorskip("casadi")
    g = casadi.external("f_casadi", library[1])
    x, m, s = casadi.MX.sym("x", 2), casadi.MX.sym("M", 3, 2), casadi.MX.sym("s")
    y = m @ casadi.sin(x)
    own = [casadi.sumsqr(y) * s, x @ y.T + s]
    for k in range(2):
        outcome = g(x, m, s)[k]
        weights = casadi.MX(np.arange(1.0, 1 + own[k].numel()).reshape(own[k].shape))
        goals = (
            casadi.sum2(casadi.sum1(outcome * weights)),
            casadi.sum2(casadi.sum1(own[k] * weights)),
        )
        for wrt in (x, m, s):
            # Forward and reverse mode, the Jacobian and the Hessian.
            made = [
                casadi.jacobian(outcome, wrt),
                casadi.jtimes(outcome, wrt, casadi.cos(wrt)),
                casadi.gradient(goals[0], wrt),
            ]
            want = [
                casadi.jacobian(own[k], wrt),
                casadi.jtimes(own[k], wrt, casadi.cos(wrt)),
                casadi.gradient(goals[1], wrt),
            ]
            for a, b in zip(made, want, strict=True):
                compare(casadi, [x, m, s], a, b)
        for wrt in (x, m):
            compare(casadi, [x, m, s], *(casadi.hessian(e, wrt)[0] for e in goals))


def compare(casadi, arguments, a, b):
    a, b = (np.array(casadi.Function("h", arguments, [e])(X, M, 1.5)) for e in (a, b))
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_sparse_jacobians_are_sparse(library):
    """A chain of springs: CasADi sees the bands, and finds its own numbers in them."""
    casadi = pytest.importorskip("casadi")

    def force(x, k):
        stretch = k * fg.sin(x[1:] - x[:-1])
        return fg.cat([stretch, fg.zeros(1, dtype=fg.float64)]) - fg.cat(
            [fg.zeros(1, dtype=fg.float64), stretch]
        )

    made = fg.export(
        force, np.linspace(0, 1, 9), 2.0, name="chain", path=library[0].path / "chain", casadi=True
    )
    g = casadi.external("chain_casadi", str(made.build(" ".join(compiler()))))
    x, k = casadi.MX.sym("x", 9), casadi.MX.sym("k")
    stretch = k * casadi.sin(x[1:] - x[:-1])
    own = casadi.vertcat(stretch, 0) - casadi.vertcat(0, stretch)
    weights = casadi.DM(np.arange(9.0))
    at = np.linspace(0, 1, 9) ** 2, 2.0
    for f, nnz in (
        (lambda y: casadi.jacobian(y, x), 25),
        (lambda y: casadi.hessian(casadi.dot(weights, y), x)[0], 25),
    ):
        made, want = (casadi.Function("h", [x, k], [f(y)]) for y in (g(x, k), own))
        assert made.sparsity_out(0).nnz() == nnz
        np.testing.assert_allclose(np.array(made(*at)), np.array(want(*at)), rtol=1e-12, atol=1e-14)


def test_missing_arguments_are_zeros(library):
    casadi = pytest.importorskip("casadi")
    g = casadi.external("f_casadi", library[1])
    np.testing.assert_array_equal(np.array(g(s=2.0)["result_1"]), np.full((2, 3), 2.0))


def test_a_solver_uses_it(library):
    """IPOPT minimises Rosenbrock's function in ours, with our gradient and Hessian."""
    casadi = pytest.importorskip("casadi")
    folder = library[0].path / "rosen"
    made = fg.export(
        lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
        np.zeros(2),
        name="rosen",
        path=folder,
        casadi="rosen_c",
    )
    g = casadi.external("rosen_c", str(made.build(" ".join(compiler()))))
    x = casadi.MX.sym("x", 2)
    quiet = {"ipopt.print_level": 0, "print_time": False, "ipopt.sb": "yes"}
    solver = casadi.nlpsol("solver", "ipopt", {"x": x, "f": g(x)}, quiet)
    found = solver(x0=[-1.2, 1.0])
    np.testing.assert_allclose(np.array(found["x"]).ravel(), [1, 1], rtol=1e-7)
    assert solver.stats()["iter_count"] < 30  # what exact Hessians need; without them it takes more


def test_what_casadi_cannot_hold_is_refused(tmp_path):
    with pytest.raises(DTypeError, match="CasADi's numbers are float64, and x"):
        fg.export(lambda x: x * 2, np.zeros(3, np.float32), casadi=True, path=tmp_path)
    with pytest.raises(ArgumentError, match="needs an argument and a result"):
        fg.export(lambda: fg.zeros(3, dtype=fg.float64), casadi=True, path=tmp_path)
    with pytest.raises(ArgumentError, match="another name than 'g'"):
        fg.export(lambda x: x * 2, np.zeros(3), casadi="g", name="g", path=tmp_path)
    assert not list(tmp_path.iterdir())
