"""Solvers that are Python: the user's function, or SciPy's. They see NumPy arrays, and run between
compiled parts of a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, LoopError, ShapeError
from ..graph.dtypes import as_dtype
from ..graph.node import Graph, Node, leaf
from ..transform.call import derived, evaluated_call
from ..transform.implicit import Jacobian
from ..transform.trace import intern, trace
from .solving import Layout
from .tree import Spec, flatten, unflatten

__all__ = ["Hosted", "SciPy"]


def known(array: np.ndarray) -> Node:
    """A node for a copy of `array`."""
    return leaf(np.array(array), as_dtype(array.dtype))


def _matrix(graph: Graph) -> tuple[Graph, list]:
    """The Jacobian of a graph by its first input as a graph, and what it captured."""
    found, captured = trace(lambda x, *rest: (Jacobian(graph, x, rest).matrix(),), graph.inputs)
    return intern(found), captured


class Evaluated:
    """The functions of one problem at known parameters, of NumPy arrays; compiled once that pays.

    It is called with a tree like the unknowns, or with one vector of all of them (as SciPy does), and
    answers in kind. ``jac`` is its derivative: of a root's or fixed point's function the matrix, of an
    objective the gradient; ``hess`` is an objective's matrix of second derivatives.
    """

    def __init__(self, how: Hosted, residual: Graph, operands):
        self.how, self.residual = how, residual
        self.operands = tuple([known(a) for a in operands])

    def vector(self, x) -> np.ndarray:
        """`x`, a tree or a vector, as a vector."""
        kind = self.how.layout.kind.np
        if isinstance(x, np.ndarray) and x.ndim <= 1:
            return np.array(x, kind).reshape(-1)
        leaves, spec = flatten(x)
        if spec != self.how.layout.spec:
            raise ArgumentError(
                f"{self.how.name}: the solver must use unknowns of the structure of x0, "
                f"{self.how.layout.spec}, got {spec}"
            )
        return np.concatenate([np.asarray(a, kind).reshape(-1) for a in leaves])

    def _values(self, graph: Graph, x, extra=()) -> np.ndarray:
        operands = self.operands[: len(graph.inputs) - 1 - len(extra)]
        return evaluated_call(graph, (known(self.vector(x)), *operands, *extra))[0]

    def _in_kind(self, x, values: np.ndarray, layout: Layout):
        return values if isinstance(x, np.ndarray) and x.ndim == 1 else layout.tree(values)

    def __call__(self, x):
        if self.how.objective is not None:
            return float(self._values(self.how.objective, x)[0])
        values = self._values(self.residual, x)
        if self.how.fixed:
            values = self.vector(x) - values
        return self._in_kind(x, values, self.how.result)

    def jac(self, x):
        if self.how.objective is not None:
            return self._in_kind(x, self._values(self.residual, x), self.how.layout)
        found = self.hess(x)
        return np.eye(len(found)) - found if self.how.fixed else found

    def hess(self, x) -> np.ndarray:
        graph, captured = derived(self.residual, _matrix)
        return self._values(graph, x, captured)


@dataclass(frozen=True)
class Hosted:
    """A solver ``function(fun, x0, *params) -> x`` as the operation runs it.

    fixed : `fun` is the function whose fixed point is sought, not the residual.
    objective : the graph of an objective whose gradient the residual is.
    """

    name: str
    function: Callable
    layout: Layout
    result: Layout
    specs: tuple[Spec, ...]
    fixed: bool = False
    objective: Graph | None = None

    def __call__(self, residual: Graph, start: np.ndarray, *operands: np.ndarray) -> np.ndarray:
        fun = Evaluated(self, residual, operands)
        leaves = iter([np.array(a) for a in operands])
        params = [unflatten(s, [next(leaves) for _ in range(s.count)]) for s in self.specs]
        found = fun.vector(self.function(fun, self.layout.tree(np.array(start)), *params))
        if found.shape != start.shape:
            raise ShapeError(
                f"{self.name}: the solver must return {len(start)} unknowns like x0, got {len(found)}"
            )
        if not np.isfinite(found).all():
            raise LoopError(
                f"{self.name}: the solver returned values that are not finite; start nearer to the solution"
            )
        return found


# -- SciPy's --------------------------------------------------------------------------------------

WITHOUT_GRADIENT = {"nelder-mead", "powell", "cobyla", "cobyqa"}
WITH_HESSIAN = {"newton-cg", "dogleg", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr"}


@dataclass(frozen=True)
class SciPy:
    """One of SciPy's methods as a solver. problem : {"root", "fixed_point", "minimize"}."""

    problem: str
    method: str
    tol: float | None
    maxiter: int

    def __call__(self, fun: Evaluated, x0, *params):
        start = fun.vector(x0)
        solve = {"root": self._root, "fixed_point": self._fixed, "minimize": self._minimize}
        try:
            return solve[self.problem](fun, start)
        except ValueError as error:
            if "solver" not in str(error).lower() and "method" not in str(error).lower():
                raise
            raise ArgumentError(
                f"{self.problem}: SciPy has no method {self.method!r} ({error}); see scipy.optimize"
            ) from None

    def _failed(self, reason) -> LoopError:
        return LoopError(
            f"{self.problem}: SciPy's method {self.method!r} found no solution: {reason}; start nearer to "
            "it, or choose another solver"
        )

    def _root(self, fun: Evaluated, start: np.ndarray) -> np.ndarray:
        from scipy.optimize import root

        jac = fun.jac if self.method in ("hybr", "lm") else None
        found = root(fun, start, jac=jac, method=self.method, tol=self.tol)
        if not found.success:
            raise self._failed(found.message)
        return found.x

    def _fixed(self, fun: Evaluated, start: np.ndarray) -> np.ndarray:
        from scipy.optimize import fixed_point

        tol = 1e-12 if self.tol is None else self.tol
        try:
            return fixed_point(fun, start, xtol=tol, maxiter=self.maxiter, method=self.method)
        except RuntimeError as error:
            raise self._failed(error) from None

    def _minimize(self, fun: Evaluated, start: np.ndarray) -> np.ndarray:
        from scipy.optimize import minimize

        name = self.method.lower()
        found = minimize(
            fun,
            start,
            jac=None if name in WITHOUT_GRADIENT else fun.jac,
            hess=fun.hess if name in WITH_HESSIAN else None,
            method=self.method,
            tol=self.tol,
        )
        # "Precision loss" means that the line search sees no difference any more: near the minimum.
        flat = np.abs(fun.jac(found.x)).max() <= 1e-4 * max(1.0, abs(float(found.fun)))
        if not found.success and not (found.status == 2 and flat):
            raise self._failed(found.message)
        return found.x
