"""What the solvers share: the problem as graphs over one vector of unknowns; solvers that are graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..graph.node import Graph, const, placeholder
from ..ops.declare import cast_node
from ..ops.joining import cat
from ..ops.linalg import solved
from ..ops.selection import where
from ..tensor import Tensor, node_of, wrap
from ..transform.call import call, derived, trace_pullback
from ..transform.implicit import Jacobian, identity
from ..transform.trace import intern, quiet, trace
from .control import bounded_loop
from .traced import Traced, tensors_of
from .tree import Spec, paths, unflatten

__all__ = ["Layout", "Problem", "descent", "gradient_of", "newton", "picard", "solver_graph"]


# -- trees of unknowns as one vector --------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How a tree lies in a vector: hashable, compared by value."""

    spec: Spec
    shapes: tuple
    kind: object = field(compare=False)

    @property
    def size(self) -> int:
        return sum(self._sizes())

    def _sizes(self) -> list[int]:
        return [int(np.prod(s, dtype=np.int64)) for s in self.shapes]

    def tree(self, vector):
        """The tree in a vector, a tensor or an array."""
        leaves, at = [], 0
        for shape, size in zip(self.shapes, self._sizes(), strict=True):
            leaves.append(vector[at : at + size].reshape(shape))
            at += size
        return unflatten(self.spec, leaves)


def vector_of(tensors) -> Tensor:
    """The elements of all `tensors`, one after the other."""
    parts = [t.reshape(-1) for t in tensors]
    return parts[0] if len(parts) == 1 else cat(parts)


def unknowns(name: str, x0) -> tuple[Tensor, Layout]:
    """The start as a vector, and its layout.

    Raises
    ------
    ArgumentError, DTypeError
        If there is nothing in it, or if it is not floating and of one dtype.
    """
    tensors, spec = tensors_of(name, "x0", x0)
    if not tensors or not sum(t.numel() for t in tensors):
        raise ArgumentError(f"{name}: x0 must hold at least one unknown, got {x0!r}")
    kind = node_of(tensors[0]).dtype
    for t, path in zip(tensors, paths(spec), strict=True):
        if not t.dtype.is_differentiable or t.dtype is not kind:
            raise DTypeError(
                f"{name}: x0 must be floating and of one dtype, got {t.dtype!r} in x0{path}; convert it "
                "with .to()"
            )
    return vector_of(tensors), Layout(spec, tuple([tuple(t.shape) for t in tensors]), kind)


class Problem:
    """The user's function over (vector of unknowns, parameters, what it captured), traced.

    Attributes
    ----------
    start : Tensor, shape (n,)
    layout : Layout
        Of the unknowns.
    graph : Graph
    operands : list of Tensor
    specs : tuple of Spec
        Of the parameters.
    result : Spec
    """

    def __init__(self, name: str, function: Callable, x0, params):
        self.name = name
        self.start, self.layout = unknowns(name, x0)
        given = [tensors_of(name, f"params[{k}]", p) for k, p in enumerate(params)]
        self.specs = tuple([spec for _, spec in given])
        tensors = [t for leaves, _ in given for t in leaves]
        traced = self._trace(function, tensors)
        kind = traced.outputs[0].dtype if traced.outputs else self.layout.kind
        better = dtypes.promote_types(self.layout.kind, kind)
        if better is kind and kind is not self.layout.kind:
            # The function computes in float64: so do the unknowns, if they were numbers.
            self.start = wrap(cast_node(node_of(self.start), kind))
            self.layout = Layout(self.layout.spec, self.layout.shapes, kind)
            traced = self._trace(function, tensors)
        self.result = traced.spec
        self.shapes = [n.shape for n in traced.outputs]
        self.kinds = [n.dtype for n in traced.outputs]
        with quiet(grad=True):
            whole = node_of(vector_of([wrap(n) for n in traced.outputs])) if self.shapes else None
        self.graph, captured = traced.graph([] if whole is None else [whole])
        self.parameters = len(tensors)
        self.operands = [*tensors, *captured]

    def _trace(self, function: Callable, tensors) -> Traced:
        layout = self.layout

        def flat(vector, *params):
            return function(layout.tree(vector), *params)

        like = [node_of(self.start), *[node_of(t) for t in tensors]]
        return Traced(self.name, "the function", flat, like, (_ONE, *self.specs))

    def check_residual(self) -> None:
        """Raise unless the function gives as many numbers as there are unknowns, of their dtype."""
        found = sum(int(np.prod(s, dtype=np.int64)) for s in self.shapes)
        if found != self.layout.size:
            raise ShapeError(
                f"{self.name}: as many equations as unknowns are required, {self.layout.size}, got "
                f"{found} (shapes {self.shapes}); minimise a sum of squares instead"
            )
        self._check_dtype()

    @property
    def result_layout(self) -> Layout:
        """How the function's result lies in a vector."""
        return Layout(self.result, tuple(self.shapes), self.layout.kind)

    def check_scalar(self) -> None:
        """Raise unless the function gives one number of the unknowns' dtype."""
        if len(self.shapes) != 1 or self.shapes[0] != ():
            raise ShapeError(
                f"{self.name}: the function must return one number, got shapes {self.shapes}; sum it"
            )
        self._check_dtype()

    def _check_dtype(self) -> None:
        for kind in self.kinds:
            if kind is not self.layout.kind:
                raise DTypeError(
                    f"{self.name}: the function must return the dtype of the unknowns, "
                    f"{self.layout.kind!r}, got {kind!r}; convert x0 or the result with .to()"
                )


_ONE = Spec(None)


def gradient_of(graph: Graph) -> tuple[Graph, list[Tensor]]:
    """The gradient of a graph of one number, (1,), by its first input; and further inputs it needs."""
    return derived(graph, _gradient)


def _gradient(graph: Graph) -> tuple[Graph, list[Tensor]]:
    flags = (True, *(False,) * (len(graph.inputs) - 1))
    back, extra, reached = derived(graph, trace_pullback, flags, (True,))
    with quiet():
        state = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(graph.inputs)]
        more = [placeholder(-1, node_of(t).shape, node_of(t).dtype) for t in extra]
        one = const(1, graph.dtypes[0], graph.shapes[0])
        if reached:
            found = node_of(call(back, [wrap(n) for n in (*state, one, *more)])[0])
        else:
            found = const(0, state[0].dtype, state[0].shape)
    return intern(Graph((*state, *more), (found,))), extra


# -- solvers as graphs ----------------------------------------------------------------------------


def tolerance(tol: float | None, kind, double: float, single: float) -> float:
    return (double if kind.itemsize == 8 else single) if tol is None else float(tol)


def largest(t: Tensor) -> Tensor:
    return t.abs().amax()


def solver_graph(graph: Graph, make: Callable, *how) -> tuple[Graph, list[Tensor]]:
    """``make(graph, start, operands, *how)`` as a graph, and what it captured."""
    return derived(graph, _solver_graph, make, how)


def _solver_graph(graph: Graph, make: Callable, how: tuple):
    found, captured = trace(lambda x, *rest: (make(graph, x, rest, *how),), graph.inputs)
    return intern(found), [wrap(n) for n in captured]


def newton(residual: Graph, x: Tensor, operands, name: str, tol, maxiter: int, linear) -> Tensor:
    """Newton's method; a step that does not make the residual smaller is halved."""
    kind = residual.dtypes[0]
    tol = tolerance(tol, kind, 1e-9, 3e-5)

    def value(x: Tensor) -> Tensor:
        return call(residual, [x, *operands])[0]

    def step(state):
        x, f, _ = state
        dx = linear(Jacobian(residual, x, operands), -f, False)
        done = largest(dx) <= tol * (1.0 + largest(x))
        size = (f * f).sum()

        def too_long(s):
            t, _, new = s
            return ~done & (t > 1e-3) & ~((new * new).sum() <= (1.0 - 1e-4 * t) * size)

        def halved(s):
            t = s[0] * 0.5
            nearer = x + t * dx
            return t, nearer, value(nearer)

        one = wrap(const(1, kind))
        start = (one, x + dx, value(x + dx))
        _, x, f = bounded_loop(too_long, halved, start, 64, f"{name}: a step had no end")
        return x, f, done

    message = (
        f"{name}: Newton's method did not converge within {maxiter} iterations; start nearer to the "
        "solution, raise maxiter, or choose another solver"
    )
    start = (x, value(x), wrap(const(False, dtypes.bool_)))
    return bounded_loop(lambda s: ~s[2], step, start, maxiter, message)[0]


def picard(residual: Graph, x: Tensor, operands, name: str, tol, maxiter: int) -> Tensor:
    """``x = f(x)`` until it changes no more; the residual is ``x - f(x)``."""
    tol = tolerance(tol, residual.dtypes[0], 1e-12, 2e-6)

    def step(state):
        x, _ = state
        change = call(residual, [x, *operands])[0]
        return x - change, largest(change) <= tol * (1.0 + largest(x))

    message = (
        f"{name}: the iteration did not settle within {maxiter} steps; raise maxiter, start nearer, or "
        "use solver='newton'"
    )
    start = (x, wrap(const(False, dtypes.bool_)))
    return bounded_loop(lambda s: ~s[1], step, start, maxiter, message)[0]


def descent(gradient: Graph, x: Tensor, rest, name: str, tol, maxiter: int, objective: Graph):
    """Newton's method for minima: the Hessian is raised by a multiple of the identity until steps descend.

    (Levenberg and Marquardt's rule, with the ratio of achieved and predicted decrease.)
    """
    kind = gradient.dtypes[0]
    tol = tolerance(tol, kind, 1e-9, 3e-5)
    operands = rest[: len(objective.inputs) - 1]
    eye = identity(gradient.shapes[0][0], kind)
    noise = 10.0 * float(np.finfo(kind.np).eps)

    def value(x: Tensor) -> Tensor:
        return call(objective, [x, *operands])[0].sum()

    def step(state):
        x, f, g, raised, _ = state
        hessian = Jacobian(gradient, x, rest).matrix()
        scale = largest(hessian) + float(np.finfo(kind.np).tiny)
        matrix = hessian + raised * scale * eye
        dx = solved(matrix, -g.reshape(-1, 1), check=False).reshape(-1)  # NaN does not descend
        new = x + dx
        at_new = value(new)
        expected = -(g * dx).sum() - 0.5 * (dx * (hessian @ dx)).sum()
        descends = ((g * dx).sum() <= 0) & (expected >= 0)
        good = descends & (f - at_new >= 1e-4 * expected - noise * (1.0 + f.abs()))
        well = good & (f - at_new >= 0.5 * expected)
        less = where(raised > 1e-6, raised * 0.1, 0.0)
        more = where(raised > 0, raised * 10.0, 1e-3)
        done = good & (raised == 0) & (largest(dx) <= tol * (1.0 + largest(x)))
        raised = where(good, where(well | (raised < 1e-2), less, raised), more)
        x = where(good, new, x)
        return x, where(good, at_new, f), call(gradient, [x, *rest])[0], raised, done

    message = (
        f"{name}: Newton's method found no minimum within {maxiter} iterations; start nearer to it, raise "
        "maxiter, or choose one of SciPy's methods (solver='BFGS')"
    )
    zero, false = wrap(const(0, kind)), wrap(const(False, dtypes.bool_))
    start = (x, value(x), call(gradient, [x, *rest])[0], zero, false)
    return bounded_loop(lambda s: ~s[4], step, start, maxiter, message)[0]
