"""Solvers' derivatives: closed forms, finite differences, SciPy's solutions, any order, any tier."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import gradcheck, gradgradcheck
from flatgrad.errors import ArgumentError, DTypeError, LoopError, ShapeError

OPTIMIZE = pytest.importorskip("scipy.optimize")


@pytest.fixture(params=["never", "always"])
def tier(request):
    with fg.set_compile(request.param):
        yield request.param


def values(*numbers):
    return fg.tensor(np.array(numbers), requires_grad=True)


# A solver stops within its tolerance: in another tier, from other last bits, at another last bit.
LAST_BITS = 1e-12


def checked(f, *inputs):
    """Derivatives of first and second order, reverse and forward, against differences."""
    assert gradcheck(f, inputs, check_forward_ad=True, nondet_tol=LAST_BITS)
    assert gradgradcheck(f, inputs, nondet_tol=LAST_BITS)


def circle(x, p):
    """Two equations in two unknowns."""
    return fg.stack([x[0] ** 2 + p[0] * x[1] - p[1], x[1] ** 3 + x[0] * p[2] - 1.0])


def rosenbrock(x, p):
    return 100 * (x[1] - p[0] * x[0] ** 2) ** 2 + (p[1] - x[0]) ** 2 + p[2] * x[0] ** 4


START = np.array([1.0, 1.0])
POINT = (0.7, 2.0, 0.3)


# -- root -----------------------------------------------------------------------------------------


def test_square_root(tier):
    a = fg.tensor(np.float64(2.0), requires_grad=True)
    x = fg.implicit.root(lambda x, a: x * x - a, np.float64(1.0), a)
    (first,) = fg.autograd.grad(x, a, create_graph=True)
    (second,) = fg.autograd.grad(first, a, create_graph=True)
    (third,) = fg.autograd.grad(second, a)
    r = np.sqrt(2.0)
    want = [r, 0.5 / r, -0.25 / r**3, 0.375 / r**5]
    found = [t.item() for t in (x, first, second, third)]
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_root_has_the_residual_zero_and_right_derivatives(tier):
    p = values(*POINT)
    x = fg.implicit.root(circle, START, p)
    np.testing.assert_allclose(circle(x, p).detach().numpy(), 0.0, atol=1e-13)
    checked(lambda p: fg.implicit.root(circle, START, p), p)


@pytest.mark.parametrize("solver", ["newton", "hybr", "lm"])
def test_solvers_agree(solver):
    p = values(*POINT)
    x = fg.implicit.root(circle, START, p, solver=solver, tol=1e-12)
    want = OPTIMIZE.root(
        lambda x: [x[0] ** 2 + 0.7 * x[1] - 2, x[1] ** 3 + x[0] * 0.3 - 1], START, tol=1e-12
    )
    np.testing.assert_allclose(x.detach().numpy(), want.x, atol=1e-10)
    checked(lambda p: fg.implicit.root(circle, START, p, solver=solver, tol=1e-12), p)


def test_users_python_solver_sees_arrays():
    seen = []

    def bisection(f, x0, a):
        seen.append((type(x0), type(a), np.shape(f(1.5)), np.shape(f.jac(1.5))))
        return OPTIMIZE.brentq(f, 0.0, 10.0, xtol=1e-14)

    def f(a):
        return fg.implicit.root(lambda x, a: x**3 - a, np.float64(1.0), a, solver=bisection)

    a = fg.tensor(np.float64(8.0), requires_grad=True)
    x = f(a)
    np.testing.assert_allclose(x.item(), 2.0, rtol=1e-12)
    assert seen[0] == (np.ndarray, np.ndarray, (), (1, 1))
    checked(f, a)


def test_users_traceable_solver_is_part_of_the_program():
    def secant(f, x0, a):
        def step(s):
            x, old, at_old, k = s
            here = f(x)
            return x - here * (x - old) / (here - at_old), x, here, k + 1

        done = fg.while_loop(
            lambda s: (s[0] - s[1]).abs() > 1e-10, step, (x0, x0 + 0.1, f(x0 + 0.1), 0), bound=60
        )
        return done[0]

    def f(a):
        return fg.implicit.root(
            lambda x, a: x.exp() - a, np.float64(1.0), a, solver=secant, traceable=True
        )

    a = fg.tensor(np.float64(3.0), requires_grad=True)
    with fg.set_compile("always"):
        np.testing.assert_allclose(f(a).item(), np.log(3.0), rtol=1e-12)
    checked(f, a)


def test_trees_of_unknowns_and_parameters(tier):
    def f(x, p, q):
        return {"sum": x["u"] + x["v"].sum() - p["a"], "rest": x["v"] * x["u"] - q}

    p, q = {"a": values(4.0).sum().detach().requires_grad_()}, values(0.3, 0.5)
    x0 = {"u": np.float64(3.0), "v": np.array([0.2, 0.2])}
    x = fg.implicit.root(f, x0, p, q)
    assert x["u"].shape == () and x["v"].shape == (2,)
    np.testing.assert_allclose((x["u"] + x["v"].sum()).item(), 4.0, rtol=1e-12)

    def whole(a, q):
        x = fg.implicit.root(f, x0, {"a": a}, q)
        return x["u"], x["v"]

    checked(whole, p["a"], q)


def test_what_the_residual_closes_over_is_differentiated(tier):
    a = values(2.0, 3.0)
    x = fg.implicit.root(lambda x: x**2 - a, np.array([1.0, 1.0]))
    (g,) = fg.autograd.grad(x.sum(), a)
    np.testing.assert_allclose(g.numpy(), 0.5 / np.sqrt([2.0, 3.0]), rtol=1e-12)


@pytest.mark.parametrize("linear", ["dense", "gmres"])
def test_many_unknowns(linear):
    n = 20
    rng = np.random.default_rng(0)
    m = fg.tensor(np.eye(n) * 3 + rng.normal(size=(n, n)) * 0.3)
    b = fg.tensor(rng.normal(size=n), requires_grad=True)

    def f(b):
        return fg.implicit.root(
            lambda x, b: m @ x + 0.5 * x.sin() - b, np.zeros(n), b, linear=linear
        )

    x = f(b)
    jacobian = m.numpy() + 0.5 * np.diag(np.cos(x.detach().numpy()))
    weights = rng.normal(size=n)
    (g,) = fg.autograd.grad((x * fg.tensor(weights)).sum(), b)
    np.testing.assert_allclose(g.numpy(), np.linalg.solve(jacobian.T, weights), rtol=1e-8)
    _, t = fg.jvp(f, (b.detach(),), (fg.tensor(weights),))
    np.testing.assert_allclose(t.numpy(), np.linalg.solve(jacobian, weights), rtol=1e-8)


def test_root_inside_a_loop_and_a_loop_inside_a_root(tier):
    def f(a):
        def step(total, k):
            return total + fg.implicit.root(lambda x, c: x**3 + x - c, total, total + a), None

        return fg.scan(step, a, None, length=3)[0]

    a = np.float64(0.8)
    want = a
    for _ in range(3):
        want += np.roots([1, 0, 1, -(want + a)])[2].real
    a = fg.tensor(a, requires_grad=True)
    np.testing.assert_allclose(f(a).item(), want, rtol=1e-10)
    checked(f, a)


def test_float32_keeps_its_dtype(tier):
    a = fg.tensor(2.0, requires_grad=True)
    x = fg.implicit.root(lambda x, a: x**2 - a, 1.0, a)
    assert x.dtype is fg.float32
    np.testing.assert_allclose(x.item(), np.sqrt(2.0), rtol=1e-6)


def test_no_root_is_a_loop_error(tier):
    with pytest.raises(LoopError, match="root: Newton's method did not converge within 50"):
        fg.implicit.root(lambda x: x**2 + 1.0, np.float64(0.3)).item()
    with pytest.raises(LoopError, match="root: SciPy's method 'hybr' found no solution"):
        fg.implicit.root(lambda x: x**2 + 1.0, np.float64(0.3), solver="hybr").item()
    with pytest.raises(LoopError, match="not finite"):
        fg.implicit.root(lambda x: x, 1.0, solver=lambda f, x0: np.nan).item()


# -- fixed_point ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["iterate", "newton", "del2"])
def test_fixed_point(solver):
    p = values(0.3, 0.8)

    def f(p):
        return fg.implicit.fixed_point(
            lambda x, p: p * x.cos(), np.array([0.5, 0.5]), p, solver=solver
        )

    x = f(p)
    xs = x.detach().numpy()
    np.testing.assert_allclose(xs, p.detach().numpy() * np.cos(xs), rtol=1e-10)
    (g,) = fg.autograd.grad(x.sum(), p)
    want = np.cos(xs) / (1 + p.detach().numpy() * np.sin(xs))
    np.testing.assert_allclose(g.numpy(), want, rtol=1e-9)
    checked(f, p)


def test_fixed_point_of_a_traceable_solver():
    def relaxed(f, x0):
        return fg.fori_loop(0, 60, lambda k, x: 0.5 * (x + f(x)), x0)

    def f(a):
        return fg.implicit.fixed_point(
            lambda x: (x * a).cos(), np.float64(0.5), solver=relaxed, traceable=True
        )

    checked(f, fg.tensor(np.float64(0.7), requires_grad=True))


def test_fixed_point_without_contraction():
    with pytest.raises(LoopError, match="fixed_point: the iteration did not settle within 1000"):
        fg.implicit.fixed_point(lambda x: 2 * x + 1, np.float64(0.0)).item()


# -- minimize -------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["newton", "BFGS", "trust-exact", "Nelder-Mead"])
def test_minimize(solver):
    p = values(1.2, 1.0, 0.1)
    tol = 1e-13 if solver == "Nelder-Mead" else None

    def f(p):
        return fg.implicit.minimize(rosenbrock, np.array([-1.2, 1.0]), p, solver=solver, tol=tol)

    x = f(p).detach().numpy()
    near = {"newton": 1e-9}.get(solver, 1e-4)
    u = np.roots([0.4, 0, 2, -2]).real[-1]  # the first unknown's own equation
    np.testing.assert_allclose(x, [u, 1.2 * u * u], atol=near)
    (g,) = fg.autograd.grad(f(p)[0], p)
    np.testing.assert_allclose(
        g.numpy(), [0, 2 / (2 + 1.2 * u**2), -4 * u**3 / (2 + 1.2 * u**2)], atol=near
    )
    if solver == "newton":
        checked(f, p)


def test_minimum_of_many_unknowns_by_conjugate_gradients():
    n = 30
    a = fg.tensor(np.linspace(-1, 1, n), requires_grad=True)

    def f(a, linear):
        return fg.implicit.minimize(
            lambda x: ((x - a) ** 2).sum() + (x[1:] - x[:-1]).cosh().sum(),
            np.zeros(n),
            solver="L-BFGS-B",
            tol=1e-14,
            linear=linear,
        )

    dense, iterative = f(a, "dense"), f(a, "cg")
    weights = fg.tensor(np.cos(np.arange(n)))
    (want,) = fg.autograd.grad((dense * weights).sum(), a)
    (g,) = fg.autograd.grad((iterative * weights).sum(), a)
    np.testing.assert_allclose(g.numpy(), want.numpy(), rtol=1e-8)


def test_minimize_compiled_and_with_a_tree():
    def f(a):
        def objective(x):
            return (x["u"] - a) ** 2 + ((x["v"] - x["u"]) ** 2).sum() + x["u"] ** 4

        x = fg.implicit.minimize(objective, {"u": np.float64(0.0), "v": np.zeros(2)})
        return x["u"], x["v"]

    a = fg.tensor(np.float64(1.5), requires_grad=True)
    want = np.roots([4, 0, 2, -3]).real[-1]
    with fg.set_compile("always"):
        np.testing.assert_allclose(f(a)[0].item(), want, rtol=1e-10)
    checked(f, a)


def test_no_minimum_is_a_loop_error(tier):
    with pytest.raises(LoopError, match="minimize: Newton's method found no minimum within 100"):
        fg.implicit.minimize(lambda x: x**3, np.float64(-1.0)).item()


# -- linear_solve ---------------------------------------------------------------------------------


def systems():
    rng = np.random.default_rng(3)
    a = rng.normal(size=(4, 4))
    return a @ a.T + np.eye(4), rng.normal(size=4)


@pytest.mark.parametrize("solver", ["dense", "cg", "gmres"])
@pytest.mark.parametrize("form", ["matrix", "function", "closure"])
def test_linear_solve(form, solver):
    a, b = (fg.tensor(x, requires_grad=True) for x in systems())

    def f(a, b):
        solve = fg.implicit.linear_solve
        if form == "matrix":
            return solve(a, b, solver=solver)
        if form == "function":
            return solve(lambda x, a: a @ x, b, a, solver=solver)
        return solve(lambda x: a @ x, b, solver=solver)

    def symmetric(a, b):  # differences of one element alone would leave the matrices that cg is for
        return f((a + a.T) / 2, b)

    np.testing.assert_allclose(f(a, b).detach().numpy(), np.linalg.solve(*systems()), rtol=1e-8)
    checked(symmetric if solver == "cg" else f, a, b)


def test_linear_solve_by_the_users_function():
    pytest.importorskip("scipy.sparse.linalg")
    from scipy.sparse.linalg import LinearOperator, gmres

    a, b = systems()
    a = a + np.triu(np.ones((4, 4)))  # not symmetric: the transposed map must be asked for
    calls = []

    def solver(matvec, right):
        calls.append(right)
        operator = LinearOperator((4, 4), matvec=matvec, dtype=right.dtype)
        return gmres(operator, right, rtol=1e-13, atol=0)[0]

    at, bt = (fg.tensor(x, requires_grad=True) for x in (a, b))
    x = fg.implicit.linear_solve(lambda x: at @ x, bt, solver=solver)
    np.testing.assert_allclose(x.detach().numpy(), np.linalg.solve(a, b), rtol=1e-9)
    (g,) = fg.autograd.grad(x[0], bt)
    np.testing.assert_allclose(g.numpy(), np.linalg.inv(a)[0], rtol=1e-9)
    assert len(calls) == 2


def test_gmres_of_a_rotation_and_restarted():
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    x = fg.implicit.linear_solve(fg.tensor(turn), fg.tensor(np.array([1.0, 2.0])), solver="gmres")
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(turn, [1.0, 2.0]), atol=1e-12)
    rng = np.random.default_rng(1)
    a, b = np.eye(40) * 4 + rng.normal(size=(40, 40)) * 0.4, rng.normal(size=40)
    how = fg.implicit.Iterative("gmres", restart=7, tol=1e-12)
    x = fg.implicit.linear_solve(fg.tensor(a), fg.tensor(b), solver=how)
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(a, b), rtol=1e-8)


@pytest.mark.parametrize("n", [1, 3, 8, 40])
def test_compiled_elimination_needs_pivots(n):
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, n))
    a[0, 0] = 0.0 if n > 1 else 2.0
    b = rng.normal(size=(n, 2))
    with fg.set_compile("always"):
        x = fg.implicit.linear_solve(fg.tensor(a), fg.tensor(b))
        np.testing.assert_allclose(x.numpy(), np.linalg.solve(a, b), rtol=1e-9)


def test_singular_matrices_raise(tier):
    x = fg.implicit.linear_solve(fg.ones(2, 2), fg.tensor([1.0, 2.0]))
    with pytest.raises(fg.errors.LinAlgError, match="the matrix is singular"):
        x.numpy()


def test_an_iterative_method_that_does_not_converge(tier):
    a = fg.tensor(np.diag([1.0, -2.0, 3e8, 4e-8]))
    how = fg.implicit.Iterative("cg", maxiter=2)
    with pytest.raises(LoopError, match="cg: the linear system was not solved"):
        fg.implicit.linear_solve(a, fg.tensor(np.ones(4)), solver=how).numpy()


# -- with the other transforms --------------------------------------------------------------------


def test_grad_jacobian_and_hessian():
    p = fg.tensor(np.array(POINT))

    def f(p):
        return fg.implicit.root(circle, START, p)

    reverse, forward = fg.jacrev(f)(p), fg.jacfwd(f)(p)
    np.testing.assert_allclose(reverse.numpy(), forward.numpy(), rtol=1e-11)
    h = fg.hessian(lambda p: f(p).sum())(p).numpy()
    np.testing.assert_allclose(h, h.T, atol=1e-11)
    eps = 1e-5
    steps = eps * np.eye(3)
    near = [fg.grad(lambda p: f(p).sum())(p + fg.tensor(s)).numpy() for s in (*steps, *-steps)]
    np.testing.assert_allclose(h, (np.array(near[:3]) - near[3:]) / (2 * eps), rtol=1e-6, atol=1e-8)


# -- wrong use ------------------------------------------------------------------------------------

WRONG = [
    (lambda: fg.implicit.root(lambda x: x, fg.tensor([1, 2])), DTypeError, "x0 must be floating"),
    (lambda: fg.implicit.root(lambda x: x, ()), ArgumentError, "at least one unknown"),
    (
        lambda: fg.implicit.root(lambda x: x.sum(), fg.ones(3)),
        ShapeError,
        "as many equations as unknowns",
    ),
    (lambda: fg.implicit.root(lambda x: x.long(), fg.ones(3)), DTypeError, "dtype of the unknowns"),
    (lambda: fg.implicit.root(lambda x: x, 1.0, solver=3), ArgumentError, "a name or a callable"),
    (lambda: fg.implicit.root(lambda x: x, 1.0, tol=-1.0), ArgumentError, "tol must be"),
    (lambda: fg.implicit.root(lambda x: x, 1.0, maxiter=0), ArgumentError, "maxiter must be"),
    (lambda: fg.implicit.root(lambda x: x, 1.0, linear="lu"), ArgumentError, "linear must be"),
    (lambda: fg.implicit.root(lambda x: x, 1.0, "text"), ArgumentError, r"params\[0\]"),
    (lambda: fg.implicit.fixed_point(lambda x: x.sum(), fg.ones(2)), ShapeError, "what it takes"),
    (lambda: fg.implicit.minimize(lambda x: x, fg.ones(2)), ShapeError, "one number"),
    (lambda: fg.implicit.linear_solve(fg.ones(2, 3), fg.ones(2)), ShapeError, r"matrix \(n, n\)"),
    (lambda: fg.implicit.linear_solve(lambda x: x[:1], fg.ones(2)), ShapeError, "what it takes"),
    (lambda: fg.implicit.linear_solve(fg.ones(2, 2), fg.ones(2).long()), DTypeError, "one dtype"),
    (lambda: fg.implicit.Iterative("lu"), ArgumentError, "method must be"),
    (
        lambda: fg.implicit.root(lambda x: x, 1.0, solver="nonsense").item(),
        ArgumentError,
        "no method",
    ),
    (
        lambda: (
            fg.implicit.root(lambda x: x, fg.ones(2), solver=lambda f, x0: np.ones(3)).sum().item()
        ),
        ShapeError,
        "must return 2 unknowns",
    ),
]


@pytest.mark.parametrize("call, error, words", WRONG, ids=[w for _, _, w in WRONG])
def test_wrong_use(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("solver", ["newton", "hybr"])
def test_many_roots_at_once(solver, tier):
    def f(a):
        return fg.implicit.root(lambda x, a: x**3 + x - a, np.float64(1.0), a, solver=solver)

    a = fg.tensor(np.array([0.5, 2.0, 3.0]), requires_grad=True)
    roots = fg.vmap(f)(a)
    np.testing.assert_allclose(roots.detach().numpy(), [f(x).item() for x in a], rtol=1e-12)
    slopes = fg.autograd.grad(roots.sum(), a)[0]
    np.testing.assert_allclose(
        slopes.numpy(), 1 / (3 * roots.detach().numpy() ** 2 + 1), rtol=1e-10
    )
