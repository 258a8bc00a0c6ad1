"""Operations without a compiled form, which NumPy runs between compiled segments."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.graph.node import const
from flatgrad.program.build import Compiled, Host
from flatgrad.tensor import Tensor, late, node_of, wrap
from support.programs import graph_of

MATRIX = np.array([[3.0, 0.5, -0.2], [0.1, 2.0, 0.7], [-0.4, 0.3, 1.5]])
# More rows than those for which linear algebra is loops.
LARGE = np.cos(np.arange(10_000.0)).reshape(100, 100) + 50 * np.eye(100)

FUNCTIONS = {
    "inv": lambda x: fg.linalg.inv(x * 2).exp().sum(),
    "inv of a constant": lambda x: (fg.linalg.inv(fg.full((3, 3), 0.5, dtype=fg.float64)
                                                 + fg.eye(3, dtype=fg.float64)) @ x).tanh().sum(),
    "solve for a constant": lambda x: fg.linalg.solve(
        x, fg.ones(3, 2, dtype=fg.float64)).square().sum(),
    "cholesky": lambda x: fg.linalg.cholesky(x @ x.mT + 1.0).sin().sum(),
    "eigh": lambda x: fg.linalg.eigh(x + x.mT)[0].square().mul(x[0]).sum(),
    "svd": lambda x: (fg.linalg.svd(x.exp())[1] * x[1]).sum(),
    "slogdet": lambda x: fg.linalg.slogdet(x * x + fg.eye(3, dtype=fg.float64))[1] * 2,
    "sort": lambda x: (fg.sort((x * 3).sin(), -1).values * x).sum(),
    "two in a row": lambda x: (fg.linalg.inv(fg.linalg.cholesky(x @ x.mT)) * x).sum(),
    "used twice": lambda x: (lambda y: (y * y).sum() + y.exp().sum())(fg.linalg.inv(x + 1)),
}  # fmt: skip


def values(function, mode: str) -> list[np.ndarray]:
    """The result, its gradient, and the gradient of the gradient's weighted sum."""
    with fg.set_compile(mode):
        x = fg.tensor(MATRIX, requires_grad=True)
        y = function(x)
        (g,) = fg.autograd.grad(y, x, create_graph=True)
        weights = fg.tensor(np.linspace(-1, 1, 9).reshape(3, 3))
        (h,) = fg.autograd.grad((g * weights).sum(), x)
        late.evaluate([node_of(t) for t in (y, g, h)])  # all of it as one program
        return [node_of(t).value for t in (y, g, h)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_parts_around_a_library_routine(name):
    interpreted = values(FUNCTIONS[name], "never")
    for a, b in zip(interpreted, values(FUNCTIONS[name], "always"), strict=True):
        assert np.isfinite(a).all() and np.abs(a).max() > 1e-6
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)


def test_a_program_alternates():
    """One routine between two compiled segments, which is read by both and by the result."""

    def function(x: Tensor):
        y = fg.linalg.inv(x * 2)
        return y.exp() + y, y

    program = Compiled(graph_of(function, LARGE))
    kinds = ["host" if type(step) is Host else "loops" for step, _, _ in program.steps]
    assert kinds == ["loops", "host", "loops"]
    inverse = np.linalg.inv(LARGE * 2)
    for _ in range(2):  # the second call finds nothing of the first
        total, y = program([LARGE])
        np.testing.assert_allclose(total, np.exp(inverse) + inverse, rtol=1e-12)
        np.testing.assert_allclose(y, inverse, rtol=1e-12)


def test_constants_of_a_library_routine_are_kept():
    """A routine may read a constant that no compiled segment makes."""

    def function(x: Tensor):
        return fg.linalg.solve(x, wrap(const(1.0, fg.float64, (100, 2))))

    program = Compiled(graph_of(function, LARGE))
    assert [type(step) for step, _, _ in program.steps] == [Host]
    for matrix in (LARGE, LARGE + 1):
        (found,) = program([matrix])
        np.testing.assert_allclose(found, np.linalg.solve(matrix, np.ones((100, 2))), rtol=1e-12)
