"""How the linear systems behind implicit derivatives are solved: densely, by Krylov methods, by the user.

A *strategy* is a hashable callable ``strategy(jacobian, right, transposed) -> solution`` that records
graph. All but the dense one use products with the Jacobian alone; their solution is an implicit function
itself, whose derivative solves the transposed system in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, LinAlgError
from ..graph.node import Graph, placeholder
from ..ops.linalg import solved, swap
from ..ops.selection import where
from ..tensor import Tensor, node_of, wrap
from ..transform.call import call, derived, evaluated_call, trace_pullback, trace_pushforward
from ..transform.implicit import Jacobian, counting, implicit, zeros
from ..transform.trace import intern, quiet, trace
from .control import bounded_loop

__all__ = ["Iterative", "User", "dense", "strategy"]


def strategy(name: str, linear, symmetric: bool = False) -> Callable:
    """The strategy that an argument `linear` asks for.

    Raises
    ------
    ArgumentError
        If it asks for nothing that is known.
    """
    if linear == "dense":
        return dense
    if linear in ("cg", "gmres"):
        return Iterative(linear, symmetric=symmetric)
    if isinstance(linear, Iterative):
        return linear
    raise ArgumentError(
        f"{name}: linear must be 'dense', 'cg', 'gmres' or a flatgrad.implicit.Iterative, got {linear!r}"
    )


def dense(jacobian: Jacobian, right: Tensor, transposed: bool) -> Tensor:
    """By elimination with the whole matrix."""
    matrix = jacobian.matrix()
    if transposed:
        matrix = swap(matrix)
    return solved(matrix, right.reshape(jacobian.size, 1)).reshape(jacobian.size)


# -- without the matrix ---------------------------------------------------------------------------


def _system(residual: Graph, transposed: bool) -> tuple[Graph, list[Tensor]]:
    """``J v - right`` as a residual of (v, x, operands, extra, right), and `extra`."""
    with quiet():
        state = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(residual.inputs)]
        vector, right = (placeholder(-1, state[0].shape, state[0].dtype) for _ in range(2))
        flags = (True, *(False,) * (len(state) - 1))
        if transposed:
            graph, extra, reached = derived(residual, trace_pullback, flags, (True,))
        else:
            graph, extra, reached = derived(residual, trace_pushforward, flags, ())
        more = [placeholder(-1, node_of(t).shape, node_of(t).dtype) for t in extra]
        given = [wrap(n) for n in (*state, vector, *more)]
        product = call(graph, given)[0] if reached else zeros(wrap(vector))
        out = node_of(product - wrap(right))
    return intern(Graph((vector, *state, *more, right), (out,))), extra


class Products:
    """A strategy that needs products alone."""

    symmetric = False

    def solver(self, system: Graph):
        """(solver, what it reads besides) of the system's residual, see `implicit`."""
        raise AssertionError("a strategy says how it solves")

    def __call__(self, jacobian: Jacobian, right: Tensor, transposed: bool) -> Tensor:
        flip = transposed and not self.symmetric
        graph, extra = derived(jacobian.residual, _system, flip)
        operands = [jacobian.x, *jacobian.operands, *extra, right]
        solver, more = self.solver(graph)
        return implicit(graph, solver, zeros(right), operands, self, more)


@dataclass(frozen=True)
class Iterative(Products):
    """A Krylov method in compiled loops, for systems too large for a matrix.

    Parameters
    ----------
    method : {"cg", "gmres"}
        Conjugate gradients, for symmetric positive definite systems (the Hessian at a minimum); or
        restarted minimal residuals, for all others.
    tol : float, optional
        Relative size of the residual at which it stops (1e-10 in float64, 1e-5 in float32).
    maxiter : int, optional
        More products are an error (ten times the number of unknowns, at least 100).
    restart : int
        Directions that ``"gmres"`` keeps.
    symmetric : bool
        The Jacobian is its own transpose.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.implicit.Iterative("cg", tol=1e-6)
    Iterative(method='cg', tol=1e-06, maxiter=None, restart=30, symmetric=False)
    """

    method: str = "gmres"
    tol: float | None = None
    maxiter: int | None = None
    restart: int = 30
    symmetric: bool = False

    def __post_init__(self):
        if self.method not in _METHODS:
            raise ArgumentError(f"Iterative: method must be 'cg' or 'gmres', got {self.method!r}")

    def solver(self, system: Graph):
        return derived(system, _krylov, self)


def _krylov(system: Graph, how: Iterative) -> tuple:
    size = system.shapes[0][0]
    kind = system.dtypes[0]
    tol = how.tol if how.tol is not None else (1e-10 if kind.itemsize == 8 else 1e-5)
    bound = how.maxiter if how.maxiter is not None else max(10 * size, 100)

    def solution(start: Tensor, *operands: Tensor) -> tuple:
        product = Jacobian(system, start, operands).times
        return (_METHODS[how.method](product, operands[-1], tol, bound, min(how.restart, size)),)

    graph, captured = trace(solution, system.inputs)
    return intern(graph), [wrap(n) for n in captured]


def _message(method: str, bound: int, tol: float) -> str:
    return (
        f"{method}: the linear system was not solved to a relative residual of {tol:g} within {bound} "
        "products; give Iterative a larger maxiter or tol, or solve with linear='dense'"
    )


def _cg(product, right: Tensor, tol: float, bound: int, restart: int) -> Tensor:
    """Conjugate gradients (Hestenes and Stiefel, 1952)."""
    enough = tol * tol * (right * right).sum()

    def step(state):
        x, r, p, rr = state
        q = product(p)
        alpha = rr / (p * q).sum()
        r = r - alpha * q
        new = (r * r).sum()
        return x + alpha * p, r, r + new / rr * p, new

    start = (zeros(right), right, right, (right * right).sum())
    message = _message("cg", bound, tol)
    return bounded_loop(lambda s: ~(s[3] <= enough), step, start, bound, message)[0]


def _gmres(product, right: Tensor, tol: float, bound: int, restart: int) -> Tensor:
    """Minimal residuals over Krylov spaces, as generalised conjugate residuals.

    Where the last step has not made the residual smaller, the next direction is the last product instead of
    the residual, which cannot break down (Jiranek and Rozloznik, "Adaptive version of simpler GMRES", 2010).
    """
    enough = tol * tol * (right * right).sum()
    size = right.shape[0]
    rows = counting(restart)

    def step(state):
        x, r, rr, last, good, directions, products, k = state
        first = k == 0
        directions = where(first, 0.0, directions)
        products = where(first, 0.0, products)
        p = where(first | good, r, last)
        q = product(p)
        whole = (q * q).sum()
        for _ in range(2):  # twice is enough
            shares = products @ q
            p = p - shares @ directions
            q = q - shares @ products
        length = (q * q).sum()
        usable = length > 1e-24 * whole
        scale = where(usable, 1.0 / length.sqrt(), 0.0)
        p, q = p * scale, q * scale
        alpha = (q * r).sum()
        x, r = x + alpha * p, r - alpha * q
        new = (r * r).sum()
        here = (rows == k).reshape(restart, 1)
        directions, products = where(here, p, directions), where(here, q, products)
        k = where((k == restart - 1) | ~usable, 0, k + 1)
        return x, r, new, q, new < 0.9 * rr, directions, products, k

    blank = zeros(right)
    basis = zeros(blank.expand(restart, size))
    start = (blank, right, (right * right).sum(), blank, True, basis, basis, 0)
    message = _message("gmres", bound, tol)
    return bounded_loop(lambda s: ~(s[2] <= enough), step, start, bound, message)[0]


_METHODS = {"cg": _cg, "gmres": _gmres}


# -- by the user's function -----------------------------------------------------------------------


@dataclass(frozen=True)
class User(Products):
    """A Python function ``function(matvec, right) -> solution`` of NumPy arrays."""

    function: Callable
    symmetric: bool = False

    def solver(self, system: Graph):
        return UserSystem(self.function), []


@dataclass(frozen=True)
class UserSystem:
    function: Callable

    def __call__(self, system: Graph, start: np.ndarray, *operands: np.ndarray) -> np.ndarray:
        from ..array.construct import from_numpy

        right = operands[-1]
        fixed = [node_of(from_numpy(a)) for a in operands]

        def matvec(vector) -> np.ndarray:
            vector = np.asarray(vector, right.dtype).reshape(right.shape)
            return evaluated_call(system, (node_of(from_numpy(vector)), *fixed))[0] + right

        found = np.asarray(self.function(matvec, right))
        if found.shape != right.shape:
            raise LinAlgError(
                f"linear_solve: the solver must return an array of shape {right.shape}, got {found.shape}"
            )
        return found.astype(right.dtype)
