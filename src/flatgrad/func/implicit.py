"""Solutions of equations as differentiable functions of what is in the equations: ``flatgrad.implicit``.

A solver finds the solution, any solver; the derivative is the implicit function theorem's, one linear
solve, whatever the solver did and however long it took. Solvers of ours are loops of the compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph.node import Graph, placeholder
from ..ops.linalg import solved
from ..tensor import Tensor, node_of, wrap
from ..transform.call import call
from ..transform.implicit import Jacobian, implicit, zeros
from ..transform.trace import close, intern, quiet
from .hosted import Hosted, SciPy
from .linear import Iterative, User, dense, strategy
from .solving import Problem, descent, gradient_of, newton, picard, solver_graph, vector_of
from .traced import tensors_of
from .tree import flatten, map_leaves, unflatten

__all__ = ["Iterative", "fixed_point", "linear_solve", "minimize", "root"]


def _options(name: str, tol, maxiter) -> None:
    if isinstance(maxiter, bool) or not isinstance(maxiter, (int, np.integer)) or maxiter < 1:
        raise ArgumentError(f"{name}: maxiter must be a positive int, got {maxiter!r}")
    number = isinstance(tol, (int, float)) and not isinstance(tol, bool) and tol > 0
    if tol is not None and not number:
        raise ArgumentError(f"{name}: tol must be a positive number or None, got {tol!r}")


def _users_graph(problem: Problem, residual: Graph, solver: Callable, fun: Callable):
    """The user's solver of tensors as a graph of the inputs of `residual`, and what it captured.

    ``fun(x, operands)`` is the user's own function of vectors.
    """
    layout = problem.layout
    with quiet():
        holes = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(residual.inputs)]
        start, *operands = [wrap(n) for n in holes]
        leaves = iter(operands)
        params = [unflatten(s, [next(leaves) for _ in range(s.count)]) for s in problem.specs]

        def function(x):
            return fun(vector_of(tensors_of(problem.name, "x", x)[0]), operands)

        found = solver(function, layout.tree(start), *params)
        tensors, spec = tensors_of(problem.name, "the solver's result", found)
        shapes = tuple([tuple(t.shape) for t in tensors])
        if spec != layout.spec or shapes != layout.shapes:
            raise ShapeError(
                f"{problem.name}: the solver must return unknowns like x0, {layout.spec} of shapes "
                f"{list(layout.shapes)}, got {spec} of shapes {list(shapes)}"
            )
        graph, captured = close(holes, [node_of(vector_of(tensors))])
    return intern(graph), [wrap(n) for n in captured]


def _solution(problem: Problem, residual: Graph, operands, solver, linear):
    """Record the root of `residual`; `solver` is (graph, what it captured) or a host solver."""
    if isinstance(solver, Hosted):
        found = implicit(residual, solver, problem.start, operands, linear)
    else:
        graph, extra = solver
        found = implicit(residual, graph, problem.start, operands, linear, extra)
    return problem.layout.tree(found)


def _check_solver(name: str, solver) -> None:
    if not callable(solver) and not isinstance(solver, str):
        raise ArgumentError(
            f"{name}: solver must be a name or a callable solver(f, x0, *params), got {solver!r}"
        )


def root(
    f: Callable,
    x0,
    *params,
    solver="newton",
    tol: float | None = None,
    maxiter: int = 50,
    linear="dense",
    traceable: bool = False,
):
    """The `x` with ``f(x, *params) = 0``, differentiable by `params` and by what `f` closes over.

    Parameters
    ----------
    f : callable
        ``f(x, *params)`` gives as many numbers as there are unknowns, in any shapes.
    x0 : pytree
        Where the solver starts; floating and of one dtype. Nothing is differentiated by it.
    *params : pytrees
    solver : {"newton"}, name of a method of ``scipy.optimize.root``, or callable
        ``"newton"``: with the exact Jacobian and shorter steps where needed, in machine code. A callable
        ``solver(f, x0, *params) -> x`` sees NumPy arrays: ``f(x)`` is the residual, ``f.jac(x)`` its
        Jacobian as a matrix.
    tol : float, optional
        Newton's last step, relative to ``1 + |x|`` (1e-9 in float64, 3e-5 in float32); SciPy's own.
    maxiter : int
        Iterations of Newton's method; more are an error.
    linear : {"dense", "cg", "gmres"} or Iterative
        How the linear systems of Newton's steps and of the derivatives are solved.
    traceable : bool
        The callable `solver` is written with flatgrad's functions: ``f(x)`` takes and gives tensors, and
        the solver becomes part of the program (loops are :func:`flatgrad.while_loop`).

    Returns
    -------
    pytree
        Like `x0`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If `f` gives another number of equations, or an argument is not as said above.
    LoopError
        When it runs, if the solver does not converge.

    Examples
    --------
    >>> import flatgrad as fg
    >>> a = fg.tensor(2.0, requires_grad=True)
    >>> x = fg.implicit.root(lambda x, a: x**2 - a, 1.0, a)
    >>> x.detach(), fg.autograd.grad(x, a)[0]  # 1 / (2 sqrt(a))
    (tensor(1.4142), tensor(0.3536))
    """
    name = "root"
    _options(name, tol, maxiter)
    _check_solver(name, solver)
    problem = Problem(name, f, x0, params)
    problem.check_residual()
    graph, how = problem.graph, strategy(name, linear)
    result = problem.result_layout
    if solver == "newton":
        chosen = solver_graph(graph, newton, name, tol, int(maxiter), how)
    elif traceable and callable(solver):
        chosen = _users_graph(
            problem, graph, solver, lambda x, rest: result.tree(call(graph, [x, *rest])[0])
        )
    else:
        if isinstance(solver, str):
            solver = SciPy(name, solver, tol, int(maxiter))
        chosen = Hosted(name, solver, problem.layout, result, problem.specs)
    return _solution(problem, graph, problem.operands, chosen, how)


def fixed_point(
    f: Callable,
    x0,
    *params,
    solver="iterate",
    tol: float | None = None,
    maxiter: int = 1000,
    linear="dense",
    traceable: bool = False,
):
    """The `x` with ``x = f(x, *params)``, differentiable by `params` and by what `f` closes over.

    Parameters
    ----------
    f : callable
        ``f(x, *params)`` returns a tree like `x`.
    x0 : pytree
        Where the solver starts; floating and of one dtype. Nothing is differentiated by it.
    *params : pytrees
    solver : {"iterate", "newton"}, name of a method of ``scipy.optimize.fixed_point``, or callable
        ``"iterate"`` applies `f` until nothing changes any more, in machine code; ``"newton"`` and
        callables are as in :func:`root` (`f` of a callable is the function of this problem).
    tol : float, optional
        Last change relative to ``1 + |x|`` (1e-12 in float64, 2e-6 in float32; ``"newton"``: 1e-9, 3e-5).
    maxiter : int
    linear, traceable
        See :func:`root`.

    Returns
    -------
    pytree
        Like `x0`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If `f` does not give what it takes, or an argument is not as said above.
    LoopError
        When it runs, if the solver does not converge.

    Examples
    --------
    >>> import flatgrad as fg
    >>> a = fg.tensor(0.5, requires_grad=True)
    >>> x = fg.implicit.fixed_point(lambda x, a: a * x.cos(), 1.0, a)
    >>> x.detach(), fg.autograd.grad(x, a)[0]
    (tensor(0.4502), tensor(0.7395))
    """
    name = "fixed_point"
    _options(name, tol, maxiter)
    _check_solver(name, solver)

    def residual(x, *given):
        found = f(x, *given)
        check_like(name, found, x)
        return map_leaves(lambda a, b: a - b, x, found)

    problem = Problem(name, residual, x0, params)
    problem.check_residual()
    graph, how = problem.graph, strategy(name, linear)
    if solver == "iterate":
        chosen = solver_graph(graph, picard, name, tol, int(maxiter))
    elif solver == "newton":
        chosen = solver_graph(graph, newton, name, tol, int(maxiter), how)
    elif traceable and callable(solver):
        chosen = _users_graph(
            problem,
            graph,
            solver,
            lambda x, rest: problem.layout.tree(x - call(graph, [x, *rest])[0]),
        )
    else:
        if isinstance(solver, str):
            solver = SciPy(name, solver, tol, int(maxiter))
        chosen = Hosted(name, solver, problem.layout, problem.layout, problem.specs, fixed=True)
    return _solution(problem, graph, problem.operands, chosen, how)


def minimize(
    f: Callable,
    x0,
    *params,
    solver="newton",
    tol: float | None = None,
    maxiter: int = 100,
    linear="dense",
    traceable: bool = False,
):
    """The `x` at which ``f(x, *params)`` is least, differentiable by `params` and by what `f` closes over.

    The derivative is that of the root of the gradient: `f` must be twice differentiable, and its Hessian
    at the minimum regular.

    Parameters
    ----------
    f : callable
        ``f(x, *params)`` returns one number.
    x0 : pytree
        Where the solver starts; floating and of one dtype. Nothing is differentiated by it.
    *params : pytrees
    solver : {"newton"}, name of a method of ``scipy.optimize.minimize``, or callable
        ``"newton"``: with the exact Hessian, raised by a multiple of the identity until steps descend, in
        machine code. A callable ``solver(f, x0, *params) -> x`` sees NumPy arrays: ``f(x)`` is the value,
        ``f.jac(x)`` the gradient, ``f.hess(x)`` the Hessian.
    tol : float, optional
        Newton's last step, relative to ``1 + |x|`` (1e-9 in float64, 3e-5 in float32); SciPy's own.
    maxiter : int
        Iterations of Newton's method; more are an error.
    linear : {"dense", "cg", "gmres"} or Iterative
        How the systems with the Hessian behind derivatives are solved; ``"cg"`` for many unknowns.
    traceable
        See :func:`root`.

    Returns
    -------
    pytree
        Like `x0`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If `f` does not give one number, or an argument is not as said above.
    LoopError
        When it runs, if the solver does not converge.

    Examples
    --------
    >>> import flatgrad as fg
    >>> a = fg.tensor([1.0, 3.0], requires_grad=True)
    >>> x = fg.implicit.minimize(lambda x, a: ((x - a) ** 2).sum() + x**4, 0.0, a)
    >>> x.detach(), fg.autograd.grad(x, a)[0]  # 2 / (4 + 12 x^2)
    (tensor(1.), tensor([0.1250, 0.1250]))
    """
    name = "minimize"
    _options(name, tol, maxiter)
    _check_solver(name, solver)
    problem = Problem(name, f, x0, params)
    problem.check_scalar()
    objective, how = problem.graph, strategy(name, linear, symmetric=True)
    gradient, extra = gradient_of(objective)
    count = len(problem.operands)
    if solver == "newton":
        chosen = solver_graph(gradient, descent, name, tol, int(maxiter), objective)
    elif traceable and callable(solver):
        chosen = _users_graph(
            problem,
            gradient,
            solver,
            lambda x, rest: call(objective, [x, *rest[:count]])[0].reshape(()),
        )
    else:
        if isinstance(solver, str):
            solver = SciPy(name, solver, tol, int(maxiter))
        layout = problem.layout
        chosen = Hosted(name, solver, layout, layout, problem.specs, objective=objective)
    return _solution(problem, gradient, [*problem.operands, *extra], chosen, how)


def linear_solve(A, b, *params, solver="dense", symmetric: bool = False):
    """The `x` with ``A x = b``, differentiable by `A`, `b`, `params` and by what `A` closes over.

    Parameters
    ----------
    A : Tensor, shape (n, n), or callable
        A matrix, or a function ``A(x, *params)`` that is linear in `x` and returns a tree like `x`.
    b : pytree
        The right-hand side: with a matrix, of shape (n,) or (n, m); with a function, a tree like `x`.
    *params : pytrees
    solver : {"dense", "cg", "gmres"}, Iterative, or callable
        ``"dense"`` builds the matrix. ``"cg"`` (symmetric positive definite) and ``"gmres"`` use products
        alone. A callable ``solver(matvec, b) -> x`` sees NumPy vectors; derivatives call it with the
        transposed map.
    symmetric : bool
        ``A`` is its own transpose: derivatives solve with `A` itself.

    Returns
    -------
    pytree
        Like `b`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If shapes, dtypes or arguments are not as said above.
    LoopError
        When it runs, if an iterative method does not converge.

    Examples
    --------
    >>> import flatgrad as fg
    >>> b = fg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x = fg.implicit.linear_solve(lambda x: 2.0 * x + x.sum(), b, solver="cg")
    >>> x.detach(), fg.autograd.grad(x[0], b)[0]
    (tensor([-0.1000,  0.4000,  0.9000]), tensor([ 0.4000, -0.1000, -0.1000]))
    """
    name = "linear_solve"
    how = User(solver, symmetric) if _is_function(solver) else strategy(name, solver, symmetric)
    if symmetric and isinstance(how, Iterative):
        how = replace(how, symmetric=True)
    if not callable(A):
        return _matrix_solve(name, A, b, how, params)

    def residual(x, right, *given):
        found = A(x, *given)
        check_like(name, found, x)
        return map_leaves(lambda a, r: a - r, found, right)

    tensors, spec = tensors_of(name, "b", b)
    problem = Problem(name, residual, b, (unflatten(spec, tensors), *params))
    problem.check_residual()
    chosen = solver_graph(problem.graph, _one_step, how)
    return _solution(problem, problem.graph, problem.operands, chosen, how)


def _is_function(solver) -> bool:
    return callable(solver) and not isinstance(solver, Iterative)


def _one_step(residual: Graph, x: Tensor, operands, how) -> Tensor:
    """The solution of a linear problem, from zero."""
    origin = zeros(x)
    jacobian = Jacobian(residual, origin, operands)
    return how(jacobian, -call(residual, [origin, *operands])[0], False)


def _matrix_solve(name: str, A, b, how, params):
    matrices, _ = tensors_of(name, "A", A)
    columns, _ = tensors_of(name, "b", b)
    shapes = [tuple(t.shape) for t in (*matrices, *columns)]
    square = len(shapes) == 2 and len(shapes[0]) == 2 and shapes[0][0] == shapes[0][1]
    if not square or len(shapes[1]) not in (1, 2) or shapes[1][0] != shapes[0][0]:
        raise ShapeError(
            f"{name}: A must be a function or a matrix (n, n), and b of shape (n,) or (n, m); got shapes "
            f"{shapes}"
        )
    if params:
        raise ArgumentError(f"{name}: params are arguments of a function A; a matrix has none")
    a, right = matrices[0], columns[0]
    if a.dtype is not right.dtype or not a.dtype.is_floating_point:
        raise DTypeError(
            f"{name}: A and b must be floating and of one dtype, got {a.dtype!r} and {right.dtype!r}; "
            "convert one with .to()"
        )
    if how is dense:
        return solved(a, right.reshape(shapes[0][0], -1)).reshape(shapes[1])
    return linear_solve(lambda x, a: a @ x, right, a, solver=_same(how), symmetric=how.symmetric)


def _same(how):
    return how.function if isinstance(how, User) else how


def check_like(name: str, found, x) -> None:
    """Raise unless a function's result has the structure and shapes of its argument."""
    (leaves, spec), (wanted, want) = flatten(found), flatten(x)
    shapes, need = [tuple(np.shape(t)) for t in leaves], [tuple(t.shape) for t in wanted]
    if spec != want or shapes != need:
        raise ShapeError(
            f"{name}: the function must return what it takes, {want} of shapes {need}, got {spec} of "
            f"shapes {shapes}"
        )
