"""Pullbacks of graphs seen before: a training loop differentiates the same structure at every step.

The graph is described by a flat key (operations, attributes, wiring, shapes at its edge). Under
that key a sub-graph is kept that computes the gradients from the forward values it needs and the
seeds; differentiating again records one ``CALL`` of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..graph.modes import modes
from ..graph.node import CONST, FREED, LEAF, PROJ, SHARED, Graph, Node, const, placeholder
from ..tensor import PENDING_LIMIT, late, snapshot, wrap
from ..transform.call import CALL
from ..transform.pullback import pullback
from ..transform.trace import quiet

NODE_LIMIT = 5_000  # larger graphs are differentiated rule by rule
PLAN_LIMIT = 256
VARIANTS = 8  # plans that differ in numbers alone, before one takes the numbers as inputs

_lock = threading.Lock()
_plans: OrderedDict[tuple, Plan] = OrderedDict()
_families: OrderedDict[tuple, tuple[int, Plan | None]] = OrderedDict()


class Plan:
    """A cached pullback.

    Attributes
    ----------
    graph : Graph
        Placeholders for forward nodes and seeds in, gradients out.
    residuals : tuple of int
        Which surveyed nodes the first inputs are.
    captured : tuple of Node
        Arrays that rules brought along (masks): further inputs.
    saved : tuple of int
        Nodes whose rule needs forward values: freed after backward.
    position : list of (int or None)
        For each wanted node the output that is its gradient.
    """

    __slots__ = ("captured", "dtypes", "graph", "position", "residuals", "saved", "shapes")

    def __init__(self, graph: Graph, residuals, captured, saved, position):
        self.graph = graph
        self.captured = captured
        self.residuals = residuals
        self.saved = saved
        self.position = position
        self.shapes = tuple(n.shape for n in graph.outputs)
        self.dtypes = tuple(n.dtype for n in graph.outputs)


class Survey:
    """The differentiable graph below some roots: nodes as discovered, leaves, key, marks."""

    __slots__ = ("index", "key", "leaves", "marks", "nodes")

    def __init__(self, roots):
        self.index = index = dict.fromkeys(roots)
        self.nodes = nodes = list(index)
        for k, node in enumerate(nodes):
            index[node] = k
        self.leaves = leaves = []
        self.key = key = []
        push = key.append
        marks = 0
        for node in nodes:  # grows while it is walked
            marks |= node.mark
            inputs = node.inputs
            if not node.requires_grad:
                if node.op is CONST:
                    push(node)
                else:
                    push(node.shape)
                    push(node.dtype)
            elif node.op is LEAF or not inputs:
                push(None)
                push(node.shape)
                push(node.dtype)
                leaves.append(node)
            else:
                push(node.op)
                push(node.attrs)
                if node.op.arity < 0:
                    push(len(inputs))
                for source in inputs:
                    k = index.get(source)
                    if k is None:
                        index[source] = k = len(nodes)
                        nodes.append(source)
                    push(k)
            if len(nodes) > NODE_LIMIT:
                break
        self.marks = marks


def cached_pullback(survey: Survey, roots, seeds, wanted, *, keep: bool) -> list[Node | None]:
    """Gradient nodes of `wanted`; the forward nodes that gave values are freed unless `keep`.

    Parameters
    ----------
    survey : Survey
        Of `roots`, with no node that has to be visited itself.
    roots : list of Node
    seeds : list of (Node or None)
        None is one.
    wanted : list of Node
    """
    index = survey.index
    targets = tuple([index.get(n) for n in wanted])
    ends = tuple([index[n] for n in roots])
    given = tuple([s is None for s in seeds])
    key = (tuple(survey.key), ends, given, targets)
    last = _latest.pair
    if last is not None and last[0] == key:  # a loop: comparing is cheaper than hashing
        return _record(last[1], survey.nodes, seeds, keep)
    try:
        with _lock:
            plan = _plans.get(key)
            if plan is not None:
                _plans.move_to_end(key)
    except TypeError:  # an attribute that cannot be hashed
        plan = _make_plan(survey, roots, seeds, wanted)
    else:
        if plan is None:
            plan = _new_plan(key, survey, roots, seeds, wanted)
        _latest.pair = key, plan
    return _record(plan, survey.nodes, seeds, keep)


class _Latest(threading.local):
    """The last key and plan of each thread."""

    pair: tuple | None = None


_latest = _Latest()


def _new_plan(key: tuple, survey: Survey, roots, seeds, wanted) -> Plan:
    """The plan for a key not seen before.

    Numbers of the user's text are part of the key, so that rules can look at them (``x**2``). A graph
    that comes with ever new numbers, such as a weight that is annealed, gets one plan for all.
    """
    structure, *rest = key
    general = (tuple([(n.dtype, n.shape) if type(n) is Node else n for n in structure]), *rest)
    with _lock:
        count, plan = _families.get(general, (0, None))
    if plan is not None:
        return plan
    many = count >= VARIANTS
    plan = _make_plan(survey, roots, seeds, wanted, cut_numbers=many)
    with _lock:
        _families[general] = (count + 1, plan if many else None)
        if not many:
            _plans[key] = plan
        for cache in (_plans, _families):
            if len(cache) > PLAN_LIMIT:
                cache.popitem(last=False)
    return plan


def _record(plan: Plan, nodes, seeds, keep: bool) -> list[Node | None]:
    if not plan.shapes:
        return [None] * len(plan.position)
    inputs = [nodes[k] for k in plan.residuals]
    inputs += [snapshot(s) if s.mark & SHARED else s for s in seeds if s is not None]
    inputs += plan.captured
    whole = Node(CALL, tuple(inputs), (plan.graph,), plan.shapes, plan.dtypes)
    if not keep:
        for k in plan.saved:
            nodes[k].mark |= FREED
    shapes, dtypes = plan.shapes, plan.dtypes
    found = [
        None if k is None else Node(PROJ, (whole,), (k,), shapes[k], dtypes[k])
        for k in plan.position
    ]
    modes.pending += len(plan.graph.order)
    if modes.pending > PENDING_LIMIT:
        late.flush(whole)
    return found


def _make_plan(survey: Survey, roots, seeds, wanted, *, cut_numbers: bool = False) -> Plan:
    """Trace the pullback with every forward node cut: rules see placeholders in place of values."""
    with quiet():
        cuts = {
            n: placeholder(k, n.shape, n.dtype, n.requires_grad)
            for k, n in enumerate(survey.nodes)
            if cut_numbers or n.op is not CONST
        }
        handles = {n: wrap(cuts.get(n, n)) for n in survey.nodes}
        starts, given = [], []
        for root, seed in zip(roots, seeds, strict=True):
            if seed is None:
                starts.append(wrap(const(1, root.dtype, root.shape)))
            else:
                given.append(placeholder(-1 - len(given), root.shape, root.dtype))
                starts.append(wrap(given[-1]))
        saved: list[Node] = []
        found = pullback(roots, wanted, starts, saved=saved, handles=handles)
    position: list[int | None] = []
    outputs: list[Node] = []
    for t in found:
        position.append(None if t is None else len(outputs))
        if t is not None:
            outputs.append(t._node)
    order = Graph((), tuple(outputs)).order
    reached = set(order)
    captured = tuple([n for n in order if n.value is not None and n.op is not CONST])
    residuals = [k for k, n in enumerate(survey.nodes) if cuts.get(n) in reached]
    inputs = [cuts[survey.nodes[k]] for k in residuals]
    graph = Graph((*inputs, *given, *captured), tuple(outputs), "pullback")
    return Plan(
        graph, tuple(residuals), captured, tuple([survey.index[n] for n in saved]), position
    )
