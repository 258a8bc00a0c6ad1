"""``SCAN`` and ``WHILE``: loops as operations that hold a sub-graph; their derivatives are loops too.

Every loop also offers the *history* of its carries, their values before each iteration, stacked. A
derivative that runs backwards reads it and recomputes one iteration's body at a time, so a ``map`` (no
carries) stores nothing and a ``scan`` stores its carries. A history that nobody reads is never
computed by compiled code, and the primal loop and the one that the derivative reads are one node.
"""

from __future__ import annotations

import numpy as np

from ..errors import LoopError
from ..graph import dtypes
from ..graph.node import Graph, Node, const, placeholder
from ..graph.op import Op, register
from ..graph.shapes import numel
from ..tensor import Tensor, late, make, node_of, outputs_of, wrap
from .call import CALL, derived, inline
from .pullback import pullback
from .pushforward import pushforward
from .trace import close, intern, quiet

__all__ = ["SCAN", "WHILE", "scan_loop", "while_loop"]

# Slots of each level of a reversed while loop's history, unless its carries are large.
SLOTS = 4096
MEMORY = 64 << 20


def stacked(shapes, length: int) -> tuple:
    return tuple([(length, *s) for s in shapes])


# -- SCAN -----------------------------------------------------------------------------------------
# inputs: (stop,) if dynamic; carries; xs; constants.  The body's inputs: carries, rows of xs, constants;
# its outputs: carries, rows of ys.  Outputs: carries, their histories, ys.


def _scan_infer(nodes, body: Graph, carries, xs, length, reverse, dynamic):
    shapes, kinds = body.shapes, body.dtypes
    return (
        (*shapes[:carries], *stacked(shapes[:carries], length), *stacked(shapes[carries:], length)),
        (*kinds[:carries], *kinds[:carries], *kinds[carries:]),
    )


class History:
    """Values of a carry before each iteration; an array once somebody asks."""

    def __init__(self, rows: list, length: int, shape: tuple, dtype, reverse: bool):
        self.rows, self.length, self.shape, self.dtype = rows, length, shape, dtype
        self.reverse = reverse
        self.array: np.ndarray | None = None

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if self.array is None:
            self.array = np.zeros((self.length, *self.shape), self.dtype)
            if self.rows:
                self.array[: len(self.rows)] = self.rows[::-1] if self.reverse else self.rows
            self.rows = []
        return self.array


def run_graph(graph: Graph, arrays) -> list:
    """Values of the outputs of `graph`, node by node."""
    values = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.order:
        if node.value is not None:
            values[node] = node.value
    late.run(graph.order, values)
    return [values[n] for n in graph.outputs]


def _scan_run(arrays, body: Graph, carries, xs, length, reverse, dynamic) -> tuple:
    stop = int(arrays[0]) if dynamic else length
    arrays = arrays[dynamic:]
    state, rows, fixed = arrays[:carries], arrays[carries : carries + xs], arrays[carries + xs :]
    past: list[list] = [[] for _ in range(carries)]
    ys = [np.zeros((length, *n.shape), n.dtype.np) for n in body.outputs[carries:]]
    for t in reversed(range(stop)) if reverse else range(stop):
        for rows_of, value in zip(past, state, strict=True):
            rows_of.append(value)
        results = run_graph(body, [*state, *[np.asarray(x[t]) for x in rows], *fixed])
        state = results[:carries]
        for y, row in zip(ys, results[carries:], strict=True):
            y[t] = row
    histories = [
        History(r, length, n.shape, n.dtype.np, reverse)
        for r, n in zip(past, body.outputs[:carries], strict=True)
    ]
    return (*state, *histories, *ys)


def _scan_pullback(g, out, inputs, body: Graph, carries, xs, length, reverse, dynamic) -> tuple:
    stop, inputs = inputs[:dynamic], inputs[dynamic:]
    wants = tuple([t._node.requires_grad and t._node.dtype.is_differentiable for t in inputs])
    given = tuple([c is not None for c in g])
    plan = derived(body, _scan_back, carries, xs, wants, given)
    result: list[Tensor | None] = [None] * len(inputs)
    if plan is not None:
        c = carries
        final, past, gys = g[:c], g[c : 2 * c], g[2 * c :]
        starts = [_or_zero(final[k], out[k]) for k in plan.moving]
        sums = [zeros_like(inputs[k]) for k in plan.summed]
        rows = [*[out[c + k] for k in range(c)], *inputs[c : c + xs]]
        rows += [x for x in (*gys, *past) if x is not None]
        found = scan_loop(
            plan.graph,
            [*starts, *sums],
            rows,
            [*inputs[c + xs :], *plan.extra],
            length,
            reverse=not reverse,
            stop=stop[0] if stop else None,
        )
        m, s = len(plan.moving), len(plan.summed)
        for k, t in zip(plan.moving, found[:m], strict=True):
            if wants[k]:
                result[k] = t
        for k, t in zip(plan.summed, found[m : m + s], strict=True):
            result[k] = t
        for k, t in zip(plan.stacked, found[2 * (m + s) :], strict=True):
            result[k] = t
    return (*[None] * dynamic, *result)


def zeros_like(t: Tensor) -> Tensor:
    node = node_of(t)
    return wrap(const(0, node.dtype, node.shape))


def _or_zero(t: Tensor | None, like: Tensor) -> Tensor:
    return zeros_like(like) if t is None else t


class Back:
    """One iteration of a loop run backwards.

    moving : carries whose cotangent is carried; summed : inputs whose cotangent adds up; stacked :
    xs whose cotangent is a row each; extra : further constants, as tensors.
    """

    def __init__(self, graph, moving, summed, stacked, extra):
        self.graph, self.moving, self.summed = graph, moving, summed
        self.stacked, self.extra = stacked, extra


def _scan_back(body: Graph, carries: int, xs: int, wants: tuple, given: tuple) -> Back | None:
    """The body of the reversed loop, or None if no derivative gets anywhere.

    Its carries are cotangents of the carries that matter, and sums for the constants; its xs are the
    histories, the xs, the cotangents of ys and of the histories that are given.
    """
    c = carries
    active = _active(body, c, wants)
    moving = {k for k in range(c) if k in active and (given[k] or given[c + k])}
    while True:
        plan = _scan_back_with(body, c, xs, active, sorted(moving), wants, given)
        more = plan.needs - moving
        if not more:
            break
        moving |= more
    return plan if plan.moving or plan.summed or plan.stacked else None


def _active(body: Graph, carries: int, wants: tuple) -> set[int]:
    """The inputs that depend on something wanted: wanted ones, and carries that come to depend on them."""
    active = {k for k, want in enumerate(wants) if want}
    while True:
        flags = [k in active for k in range(len(body.inputs))]
        reach = reached_outputs(body, flags)
        more = {
            k for k in range(carries) if reach[k] and body.inputs[k].dtype.is_differentiable
        } - active
        if not more:
            return active
        active |= more


def reached_outputs(graph: Graph, flags) -> list[bool]:
    """Which outputs a derivative flows to from the flagged inputs."""
    flows = dict(zip(graph.inputs, flags, strict=True))
    for node in graph.order:
        if node not in flows:
            flows[node] = node.op.differentiable and any(flows[s] for s in node.inputs)
    return [flows[n] for n in graph.outputs]


def _scan_back_with(body, c, xs, active, moving, wants, given) -> Back:
    with quiet():
        state = [placeholder(k, n.shape, n.dtype, k in active) for k, n in enumerate(body.inputs)]
        outs = inline(body, state, grad=True)
        cots = {k: placeholder(-1, outs[k].shape, outs[k].dtype) for k in moving}
        rows = {
            k: placeholder(-1, n.shape, n.dtype) for k, n in enumerate(outs[c:]) if given[2 * c + k]
        }
        past = {k: placeholder(-1, outs[k].shape, outs[k].dtype) for k in range(c) if given[c + k]}
        seeds = [cots.get(k) for k in range(c)] + [rows.get(k) for k in range(len(outs) - c)]
        found = pullback(outs, state, [None if s is None else wrap(s) for s in seeds])
        for k, p in past.items():
            if k in active:
                found[k] = wrap(p) if found[k] is None else found[k] + wrap(p)
        fixed = range(c + xs, len(state))
        summed = [k for k in fixed if wants[k] and found[k] is not None]
        stacked_ = [k for k in range(c, c + xs) if wants[k] and found[k] is not None]
        totals = {k: placeholder(-1, state[k].shape, state[k].dtype) for k in summed}
        results = [_or_zero(found[k], wrap(state[k])) for k in moving]
        results += [wrap(totals[k]) + found[k] for k in summed]
        results += [found[k] for k in stacked_]
        inputs = [*cots.values(), *totals.values(), *state[: c + xs], *rows.values()]
        inputs += [*past.values(), *state[c + xs :]]
        graph, captured = close(inputs, [node_of(t) for t in results])
        back = Back(intern(graph), moving, summed, stacked_, [wrap(n) for n in captured])
        back.needs = {k for k in range(c) if k in active and found[k] is not None}
        return back


def _scan_pushforward(tangents, out, inputs, body: Graph, carries, xs, length, reverse, dynamic):
    stop, inputs, tangents = inputs[:dynamic], inputs[dynamic:], tangents[dynamic:]
    given = tuple([t is not None for t in tangents])
    c = carries
    graph, extra, moving, reached = derived(body, _loop_forward, c, given)
    result: list[Tensor | None] = [None] * len(out)
    if reached:
        starts = [_or_zero(tangents[k], inputs[k]) for k in moving]
        rows = [*inputs[c : c + xs], *[t for t in tangents[c : c + xs] if t is not None]]
        fixed = [*inputs[c + xs :], *[t for t in tangents[c + xs :] if t is not None], *extra]
        found = scan_loop(
            _arranged(graph, c, xs, given, len(moving)),
            [*inputs[:c], *starts],
            rows,
            fixed,
            length,
            reverse=reverse,
            stop=stop[0] if stop else None,
        )
        m = len(moving)
        ys = len(body.outputs) - c
        for at, k in enumerate(moving):
            result[k] = found[c + at]
            result[c + k] = found[2 * c + m + at]
        for at, k in enumerate([k for k in reached if k >= c]):
            result[c + k] = found[2 * (c + m) + ys + at]
    return tuple(result)


def _loop_forward(body: Graph, carries: int, given: tuple):
    """(graph, extra constants, carries that move, outputs that a tangent reaches) of a loop with tangents.

    The graph's outputs: carries, tangents of those that move, ys, tangents of the reached ones.

    Its inputs: those of `body`, then the tangents of the moving carries and of the other given inputs.
    """
    c = carries
    active = sorted(_active(body, c, given))
    with quiet():
        state = [placeholder(k, n.shape, n.dtype, k in active) for k, n in enumerate(body.inputs)]
        outs = inline(body, state, grad=True)
        moving = [k for k in active if k < c]
        seeds = {k: placeholder(-1, state[k].shape, state[k].dtype) for k in active}
        found = pushforward(
            outs, state, [wrap(seeds[k]) if k in seeds else None for k in range(len(state))]
        )
        reached = [k for k, t in enumerate(found) if t is not None or k in moving]
        results = [*outs[:c], *[node_of(_or_zero(found[k], wrap(outs[k]))) for k in moving]]
        results += [*outs[c:], *[node_of(found[k]) for k in reached if k >= c]]
        graph, captured = close([*state, *[seeds[k] for k in active]], results)
    return graph, [wrap(n) for n in captured], moving, reached


def _arranged(graph: Graph, carries: int, xs: int, given: tuple, moving: int) -> Graph:
    """`graph` of ``_loop_forward`` with its inputs in a loop's order: carries, xs, constants."""
    count = len(given)
    state, seeds = graph.inputs[:count], graph.inputs[count:]
    rows = sum(given[carries : carries + xs])
    fixed = sum(given[carries + xs :])
    tangents, rest = seeds[: moving + rows + fixed], seeds[moving + rows + fixed :]
    inputs = (
        *state[:carries],
        *tangents[:moving],
        *state[carries : carries + xs],
        *tangents[moving : moving + rows],
        *state[carries + xs :],
        *tangents[moving + rows :],
        *rest,
    )
    return intern(Graph(inputs, graph.outputs, graph.name))


SCAN = register(
    Op(
        "scan_loop",
        "loop",
        -1,
        ("body", "carries", "xs", "length", "reverse", "dynamic"),
        infer=_scan_infer,
        numpy=_scan_run,
        pullback=_scan_pullback,
        pushforward=_scan_pushforward,
        outputs=-1,
        doc="A loop of known length over a sub-graph, with carries and stacked inputs and outputs.",
    )
)


def scan_loop(body: Graph, carries, xs, fixed, length: int, *, reverse=False, stop=None) -> tuple:
    """Record a loop: tensors (carries, histories of the carries, ys)."""
    given = [*([] if stop is None else [stop]), *carries, *xs, *fixed]
    nodes = tuple([node_of(t) for t in given])
    attrs = (body, len(carries), len(xs), length, reverse, stop is not None)
    return outputs_of(make(SCAN, nodes, attrs, *_scan_infer(nodes, *attrs))._node)


# -- WHILE ----------------------------------------------------------------------------------------
# inputs: carries; constants.  condition and body take both.  Outputs: carries, the number of iterations,
# and with a bound the histories of the carries, and stacked ys (further outputs of the body; residuals.py
# alone makes them, so the derivatives need not know).  `partial`: True if to reach the bound is no error;
# a text is what the error says.


def _while_infer(nodes, condition, body: Graph, carries, bound, partial):
    shapes, kinds = body.shapes, body.dtypes
    past = stacked(shapes, bound) if bound else ()
    return (
        (*shapes[:carries], (), *past),
        (*kinds[:carries], dtypes.int64, *(kinds if bound else ())),
    )


def _while_run(arrays, condition: Graph, body: Graph, carries, bound, partial) -> tuple:
    state, fixed = list(arrays[:carries]), arrays[carries:]
    past: list[list] = [[] for _ in body.outputs]  # of carries, and after them ys
    count = 0
    while run_graph(condition, [*state, *fixed])[0]:
        if bound and count == bound:
            if partial is True:
                break
            raise over_bound(bound, partial)
        if bound:
            for rows, value in zip(past[:carries], state, strict=True):
                rows.append(value)
        results = run_graph(body, [*state, *fixed])
        for rows, value in zip(past[carries:], results[carries:], strict=True):
            rows.append(value)
        state = results[:carries]
        count += 1
    histories = [
        History(r, bound, n.shape, n.dtype.np, False)
        for r, n in zip(past, body.outputs, strict=True)
    ]
    return (*state, np.asarray(count), *(histories if bound else ()))


def over_bound(bound: int, message: str | bool = False) -> LoopError:
    return LoopError(
        message
        or f"while_loop: the loop was given a bound of {bound} iterations and its condition still holds "
        "after them; give a larger bound"
    )


def _while_pullback(g, out, inputs, condition, body: Graph, carries, bound, partial) -> tuple:
    c = carries
    if not bound:
        # Nothing of its history was kept: run it again as a loop of loops that keep theirs.
        again = derived(body, _reversible, condition, c)
        return CALL.pullback(g[:c], out[:c], inputs, again)
    wants = tuple([t._node.requires_grad and t._node.dtype.is_differentiable for t in inputs])
    final, past = g[:c], g[c + 1 :]
    given = (*[x is not None for x in final], *[x is not None for x in past])
    plan = derived(body, _scan_back, c, 0, wants, given)
    result: list[Tensor | None] = [None] * len(inputs)
    if plan is not None:
        starts = [_or_zero(final[k], out[k]) for k in plan.moving]
        sums = [zeros_like(inputs[k]) for k in plan.summed]
        rows = [*out[c + 1 :], *[x for x in past if x is not None]]
        found = scan_loop(
            plan.graph,
            [*starts, *sums],
            rows,
            [*inputs[c:], *plan.extra],
            bound,
            reverse=True,
            stop=out[c],
        )
        for k, t in zip((*plan.moving, *plan.summed), found, strict=False):
            if wants[k]:
                result[k] = t
    return tuple(result)


def _while_pushforward(tangents, out, inputs, condition, body: Graph, carries, bound, partial):
    c = carries
    given = tuple([t is not None for t in tangents])
    graph, extra, moving, reached = derived(body, _loop_forward, c, given)
    result: list[Tensor | None] = [None] * len(out)
    if reached:
        starts = [_or_zero(tangents[k], inputs[k]) for k in moving]
        fixed = [*inputs[c:], *[t for t in tangents[c:] if t is not None], *extra]
        m = len(moving)
        whole = _arranged(graph, c, 0, given, m)
        test = derived(condition, _ignoring, c, whole)
        found = while_loop(test, whole, [*inputs[:c], *starts], fixed, bound=bound, partial=partial)
        for at, k in enumerate(moving):
            result[k] = found[c + at]
            if bound:
                result[c + 1 + k] = found[2 * c + m + 1 + at]
    return tuple(result)


def _ignoring(condition: Graph, carries: int, whole: Graph) -> Graph:
    """`condition` over the inputs of `whole`, which has tangents between and after its own."""
    count = len(condition.inputs)
    mine = condition.inputs
    extra = [placeholder(-1, n.shape, n.dtype) for n in whole.inputs]
    moving = len(whole.outputs) - carries
    inputs = [*mine[:carries], *extra[carries : carries + moving], *mine[carries:]]
    inputs += extra[count + moving :]
    return intern(Graph(tuple(inputs), condition.outputs, condition.name))


WHILE = register(
    Op(
        "while_loop",
        "while",
        -1,
        ("condition", "body", "carries", "bound", "partial"),
        infer=_while_infer,
        numpy=_while_run,
        pullback=_while_pullback,
        pushforward=_while_pushforward,
        outputs=-1,
        doc="A loop that runs while a condition on its carries holds.",
    )
)


def while_loop(condition: Graph, body: Graph, carries, fixed, *, bound=0, partial=False) -> tuple:
    """Record a while loop: tensors (carries, number of iterations, histories if there is a bound)."""
    nodes = tuple([node_of(t) for t in (*carries, *fixed)])
    attrs = (condition, body, len(carries), bound, partial)
    return outputs_of(make(WHILE, nodes, attrs, *_while_infer(nodes, *attrs))._node)


def _reversible(body: Graph, condition: Graph, carries: int) -> Graph:
    """The carries of a while loop of unknown length, as a graph that can be run backwards."""
    with quiet():
        state, handles = _stand_ins(body)
        found = reversible_while(condition, body, handles[:carries], handles[carries:])
        return intern(close(state, [node_of(t) for t in found])[0])


def _stand_ins(graph: Graph) -> tuple[list[Node], list[Tensor]]:
    state = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(graph.inputs)]
    return state, [wrap(n) for n in state]


def reversible_while(
    condition: Graph, body: Graph, carries, fixed, memory: int | None = None
) -> tuple:
    """Record a while loop of unknown length that can be run backwards: a loop over bounded loops.

    The outer loop keeps the carries at the start of every segment, the inner one those of one
    segment while that is run again: memory of order ``sqrt(n)`` for `n` iterations, and one more
    forward pass. Returns the carries.
    """
    c = len(carries)
    nodes = [node_of(t) for t in carries]
    size = sum(n.dtype.itemsize * numel(n.shape) for n in nodes)
    slots = max((memory or MEMORY) // (2 * max(size, 1)), 2)
    if memory is None:
        slots = min(slots, SLOTS)
    with quiet():
        state, handles = _stand_ins(body)
        inner = while_loop(condition, body, handles[:c], handles[c:], bound=slots, partial=True)
        segment = intern(close(state, [node_of(t) for t in inner[:c]])[0])
    return while_loop(condition, segment, carries, fixed, bound=slots)[:c]
