"""``IMPLICIT``: a root that a solver finds; its derivatives come from the residual alone.

With ``F(x, operands) = 0`` the implicit function theorem gives ``J dx = -(tangent of F by the operands)``,
``J`` being the Jacobian of ``F`` by ``x`` at the root: one linear solve a derivative, transposed in
reverse. The rules are graphs over the operation's own result, so there are derivatives of any order.

A solver that is a graph is opened by the compiler like a call; one that is Python runs between two
compiled parts.
"""

from __future__ import annotations

from ..graph import dtypes
from ..graph.node import Graph, const, placeholder
from ..graph.op import Op, register
from ..ops.declare import cast_node
from ..ops.joining import cat, stack
from ..ops.linalg import swap
from ..tensor import Tensor, make, node_of, wrap
from .call import call, derived, trace_pullback, trace_pushforward
from .loops import run_graph, scan_loop
from .trace import intern, quiet

__all__ = ["IMPLICIT", "IMPLICIT_HOST", "Jacobian", "implicit"]

# Up to so many unknowns the columns of a Jacobian are recorded one by one; beyond, by a loop.
UNROLLED = 6


# -- the Jacobian at a root -----------------------------------------------------------------------


class Jacobian:
    """The derivative of ``residual(x, *operands)`` by its first input, a vector, as a linear map.

    Parameters
    ----------
    residual : Graph
        One output, a vector of as many elements as `x`.
    x : Tensor
    operands : sequence of Tensor
    """

    def __init__(self, residual: Graph, x: Tensor, operands):
        self.residual, self.x, self.operands = residual, x, tuple(operands)
        self.size = residual.shapes[0][0]
        self._others = (False,) * len(self.operands)

    def times(self, tangent: Tensor) -> Tensor:
        """``J v``."""
        flags = (True, *self._others)
        graph, extra, reached = derived(self.residual, trace_pushforward, flags, ())
        return self._called(graph, extra, reached, tangent)

    def transposed_times(self, cotangent: Tensor) -> Tensor:
        """``J' w``."""
        flags = (True, *self._others)
        graph, extra, reached = derived(self.residual, trace_pullback, flags, (True,))
        return self._called(graph, extra, reached, cotangent)

    def _called(self, graph: Graph, extra, reached, vector: Tensor) -> Tensor:
        if not reached:
            return zeros(vector)
        return call(graph, [self.x, *self.operands, vector, *extra])[0]

    def matrix(self) -> Tensor:
        """``J`` as a matrix, column by column."""
        kind = node_of(self.x).dtype
        if self.size <= UNROLLED:
            columns = [self.times(unit(k, self.size, kind)) for k in range(self.size)]
            return stack(columns, 1)
        body, extra = derived(self.residual, _column)
        given = [self.x, *self.operands, *extra]
        return swap(scan_loop(body, [], [identity(self.size, kind)], given, self.size)[0])


def zeros(like: Tensor) -> Tensor:
    node = node_of(like)
    return wrap(const(0, node.dtype, node.shape))


def unit(k: int, size: int, kind) -> Tensor:
    """The `k`-th unit vector, of constants that the compiler sees."""
    parts = [(0, k), (1, 1), (0, size - 1 - k)]
    return cat([wrap(const(number, kind, (count,))) for number, count in parts if count])


def counting(size: int) -> Tensor:
    """0, 1, ..., size - 1 without an array from outside: a body of a loop may hold constants alone."""
    return wrap(const(1, dtypes.int64, (size,))).cumsum(0) - 1


def identity(size: int, kind) -> Tensor:
    rows = counting(size)
    return wrap(cast_node(node_of(rows.reshape(size, 1) == rows), kind))


def _column(residual: Graph) -> tuple[Graph, list[Tensor]]:
    """The body of a loop over tangents: (tangent, x, operands, extra) -> ``J v``; and `extra`."""
    count = len(residual.inputs)
    with quiet():
        state = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(residual.inputs)]
        handles = [wrap(n) for n in state]
        tangent = placeholder(count, state[0].shape, state[0].dtype)
        flags = (True, *(False,) * (count - 1))
        graph, extra, reached = derived(residual, trace_pushforward, flags, ())
        more = [placeholder(-1, node_of(t).shape, node_of(t).dtype) for t in extra]
        given = [*handles, wrap(tangent), *[wrap(n) for n in more]]
        out = call(graph, given)[0] if reached else zeros(wrap(tangent))
        body = Graph((tangent, *state, *more), (node_of(out),))
    return intern(body), extra


# -- the operation --------------------------------------------------------------------------------
# inputs: the start, a vector; the residual's operands; what only the solver reads.


def _infer(nodes, solver, residual, linear):
    return residual.shapes[0], residual.dtypes[0]


def _pullback(g, out, inputs, solver, residual: Graph, linear) -> tuple:
    count = len(residual.inputs)
    operands = inputs[1:count]
    wants = [t._node.requires_grad and t._node.dtype.is_differentiable for t in operands]
    graph, extra, reached = derived(residual, trace_pullback, (False, *wants), (True,))
    result: list[Tensor | None] = [None] * len(inputs)
    if reached:
        weights = linear(Jacobian(residual, out, operands), g, True)
        found = call(graph, [out, *operands, -weights, *extra])
        for k, cotangent in zip(reached, found, strict=True):
            result[k] = cotangent
    return tuple(result)


def _pushforward(tangents, out, inputs, solver, residual: Graph, linear):
    count = len(residual.inputs)
    operands, seeds = inputs[1:count], [None, *tangents[1:count]]
    flags = tuple([t is not None for t in seeds])
    graph, extra, reached = derived(residual, trace_pushforward, flags, ())
    if not reached:
        return None
    moved = call(graph, [out, *operands, *[t for t in seeds if t is not None], *extra])[0]
    return linear(Jacobian(residual, out, operands), -moved, False)


def _run(arrays, solver: Graph, residual, linear):
    return run_graph(solver, arrays)[0]


def _run_host(arrays, solver, residual: Graph, linear):
    return solver(residual, *arrays[: len(residual.inputs)])


def _declared(name: str, kind: str, run, doc: str) -> Op:
    return register(
        Op(
            name,
            kind,
            -1,
            ("solver", "residual", "linear"),
            infer=_infer,
            numpy=run,
            pullback=_pullback,
            pushforward=_pushforward,
            doc=doc,
        )
    )


IMPLICIT = _declared("implicit", "call", _run, "The root of a residual, found by a graph.")
IMPLICIT_HOST = _declared(
    "implicit_host", "library", _run_host, "The root of a residual, found by a Python function."
)


def implicit(residual: Graph, solver, start: Tensor, operands, linear, extra=()) -> Tensor:
    """Record a root: the `x` with ``residual(x, *operands) = 0`` that `solver` finds from `start`.

    Parameters
    ----------
    residual : Graph
        Of (x, operands); its output and `x` are vectors of one length and dtype.
    solver : Graph or callable
        A graph of (start, operands, extra), or a hashable callable of the residual and arrays.
    linear : callable
        ``linear(jacobian, right_hand_side, transposed) -> solution``, hashable.
    """
    nodes = tuple([node_of(t) for t in (start, *operands, *extra)])
    op = IMPLICIT if type(solver) is Graph else IMPLICIT_HOST
    attrs = (solver, residual, linear)
    return make(op, nodes, attrs, *_infer(nodes, *attrs))
