"""Making sub-graphs: placeholders, tracing functions, copying a graph onto other inputs."""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager

from ..graph.dtypes import INTEGER
from ..graph.modes import modes
from ..graph.node import CONST, Graph, Node, placeholder, toposort
from ..tensor import ALIAS, DETACH, node_of, wrap

__all__ = [
    "close",
    "close_once",
    "depends_on",
    "intern",
    "is_constant",
    "quiet",
    "rebuild",
    "recorded_anew",
    "settled",
    "trace",
]


@contextmanager
def quiet(grad: bool = False):
    """Record a graph to be kept rather than run: nothing is evaluated on the way."""
    before = modes.grad, modes.inference, modes.anomaly, modes.watch, modes.pending
    modes.grad, modes.inference, modes.anomaly, modes.watch = grad, False, False, False
    modes.pending = -(10**15)
    try:
        yield
    finally:
        modes.grad, modes.inference, modes.anomaly, modes.watch, modes.pending = before


def depends_on(roots, targets: set, stop: set) -> bool:
    """Whether one of `roots` is or needs one of `targets`, not counting ways through `stop`."""
    seen = set(stop)
    stack = [r for r in roots if r not in seen]
    while stack:
        node = stack.pop()
        if node in targets:
            return True
        if node in seen:
            continue
        seen.add(node)
        stack.extend(s for s in node.inputs if s not in seen)
    return False


def rebuild(order, mapping: dict[Node, Node], grad: bool = False) -> dict[Node, Node]:
    """Copy the nodes of `order` onto other inputs; `mapping` (old to new) is extended and returned.

    Constants and other nodes with a value stay as they are. With `grad`, the copies require grad
    where their inputs do.
    """
    for node in order:
        if node in mapping:
            continue
        if not node.inputs or node.value is not None:
            mapping[node] = node
            continue
        inputs = tuple([mapping[s] for s in node.inputs])
        op = node.op
        requires = grad and op.differentiable and any(s.requires_grad for s in inputs)
        if requires and op.outputs == 1:
            requires = node.dtype.is_differentiable
        copy = Node(op, inputs, node.attrs, node.shape, node.dtype, requires)
        copy.where = node.where
        copy.mark = node.mark
        mapping[node] = copy
    return mapping


def trace(function, examples, *, requires_grad=None, name: str = "graph"):
    """Record ``function(*tensors)`` over placeholders.

    Parameters
    ----------
    function : callable
        Takes tensors, returns a tuple of tensors.
    examples : sequence of Node
        Their shapes and dtypes are the placeholders'.
    requires_grad : sequence of bool, optional
        Which placeholders require grad; default none.

    Returns
    -------
    (Graph, list of Node)
        The graph, and the nodes from outside that `function` used: they are the graph's inputs
        after the placeholders.
    """
    flags = requires_grad if requires_grad is not None else [False] * len(examples)
    inputs = [
        placeholder(k, n.shape, n.dtype, flag)
        for k, (n, flag) in enumerate(zip(examples, flags, strict=True))
    ]
    with quiet(grad=any(flags)):
        outputs = function(*[wrap(n) for n in inputs])
    return close(inputs, [node_of(t) for t in outputs], name)


def close(inputs, outputs, name: str = "graph", exact: bool = False) -> tuple[Graph, list[Node]]:
    """A ``Graph`` of `outputs` over `inputs`; what it needs from outside becomes further inputs.

    If `exact`, nodes require grad as they were recorded (some under ``no_grad``, it may be); otherwise
    wherever their inputs do.
    """
    given = set(inputs)
    order = toposort(outputs, stop=lambda n: n in given)
    inside = set(given)
    for node in order:
        if any(s in inside for s in node.inputs):
            inside.add(node)
    captured: dict[Node, Node] = {}
    text: set[Node] = set()
    for node in order:
        if is_constant(node) or (_counts(node) and text.issuperset(node.inputs)):
            text.add(node)

    def capture(node: Node) -> None:
        if node not in inside and node not in captured and node not in text:
            captured[node] = placeholder(
                len(inputs) + len(captured), node.shape, node.dtype, node.requires_grad
            )

    for node in order:
        if node in inside and node not in given:
            for source in node.inputs:
                capture(source)
    for node in outputs:
        capture(node)
    if captured:
        mapping = {n: n for n in inputs} | captured
        copied = [n for n in order if n in inside or n in captured or n in text]
        rebuild(copied, mapping, grad=any(n.requires_grad for n in order))
        if exact:
            _keep_flags(copied, mapping)
        outputs = [mapping[n] for n in outputs]
    return Graph((*inputs, *captured.values()), tuple(outputs), name), list(captured)


def is_constant(node: Node) -> bool:
    """Whether a node from outside is part of the program's text: a number, or counted indices."""
    return node.op is CONST or (node.op.kind == "source" and node.value is None)


def _counts(node: Node) -> bool:
    """Whether a node is arithmetic on indices, which loops have for nothing."""
    if node.value is not None or node.op.kind not in ("elementwise", "movement", "alias"):
        return False
    return bool(node.inputs) and node.dtype.category <= INTEGER


def _keep_flags(order, mapping: dict[Node, Node]) -> None:
    """Let the copies of recorded nodes require grad where these do: the mode decided it, not the inputs."""
    for node in order:
        if node.inputs and mapping[node] is not node and mapping[node].inputs:
            mapping[node].requires_grad = node.requires_grad


def close_once(inputs, outputs) -> tuple[Graph, list[Node]]:
    """``close``, where nodes from outside that compute the same come in as one.

    A loop's body that says ``x[1:]`` of an outer `x` four times needs it, and sums its cotangent, once.
    """
    graph, captured = close(inputs, outputs, exact=True)
    same = _equal_nodes(captured)
    kept = list(dict.fromkeys(same.values()))
    if len(kept) == len(captured):
        return graph, captured
    holes = graph.inputs[len(inputs) :]
    hole = {n: h for n, h in zip(captured, holes, strict=True) if same[n] is n}
    mapping = {h: hole[same[n]] for n, h in zip(captured, holes, strict=True)}
    mapping.update((n, n) for n in inputs)
    rebuild(graph.order, mapping)
    _keep_flags(graph.order, mapping)
    new = (*inputs, *[hole[n] for n in kept])
    return Graph(new, tuple([mapping[n] for n in graph.outputs]), graph.name), kept


def recorded_anew(captured: list[Node], since: int, grad: bool) -> list[Node]:
    """Captured nodes that were recorded while tracing (their number is at least `since`), recorded outside.

    A trace's gradients mark as requiring grad what they differentiate by. Outside, nodes require grad if
    what they are made of does.
    """
    order = toposort(captured, stop=lambda n: n.seq < since)
    mapping = {n: n for n in order if n.seq < since}
    for node in order:
        if node.op is ALIAS and node not in mapping:
            mapping[node] = mapping[node.inputs[0]]
        rebuild((node,), mapping, grad)
        if not node.requires_grad and any(s.requires_grad for s in node.inputs):
            mapping[node].requires_grad = False  # under no_grad
    return [mapping[n] for n in captured]


def _equal_nodes(nodes) -> dict[Node, Node]:
    """Each of `nodes` with the first of them that computes the same."""
    known: dict = {}
    first: dict[Node, Node] = {}
    for node in toposort(nodes, stop=lambda n: n.value is not None):
        if not node.inputs or node.value is not None or node.op.kind in ("leaf", "custom"):
            first[node] = node
            continue
        key = (node.op, tuple([first[s] for s in node.inputs]), node.attrs, node.requires_grad)
        first[node] = known.setdefault(key, node)
    wanted: dict[Node, Node] = {}
    return {n: wanted.setdefault(first[n], n) for n in nodes}


def settled(graph: Graph) -> Graph:
    """A user's traced function without marks of what requires grad.

    Who calls a sub-graph decides what is differentiated. What the user recorded under ``no_grad`` is
    cut by an explicit detach, so that no derivative ever flows through it.
    """
    inputs = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(graph.inputs)]
    mapping = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.order:
        rebuild((node,), mapping)
        cut = node.inputs and node.op.differentiable and not node.requires_grad
        if cut and node.op.outputs == 1 and any(s.requires_grad for s in node.inputs):
            new = mapping[node]
            if new.dtype.is_differentiable:
                mapping[node] = Node(DETACH, (new,), (), new.shape, new.dtype)
    return Graph(tuple(inputs), tuple([mapping[n] for n in graph.outputs]), graph.name)


# -- graphs as values -----------------------------------------------------------------------------

_lock = threading.Lock()
_interned: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def intern(graph: Graph) -> Graph:
    """The one graph of this structure: the same object for every (settled) graph that says the same.

    Graphs are attributes of loops and branches, and attributes are compared to find a known program: a
    loop whose body is traced at every call must not look new every time.
    """
    number: dict[Node, int] = {n: k for k, n in enumerate(graph.inputs)}
    key: list = [tuple([(n.shape, n.dtype) for n in graph.inputs])]
    for node in graph.order:
        if node in number:
            continue
        number[node] = len(number)
        if node.op is CONST:
            key.append((repr(node.attrs[0]), type(node.attrs[0]), node.dtype, node.shape))
        elif node.value is not None or (not node.inputs and node.op.kind in ("input", "leaf")):
            key.append(node)  # an array: only itself is the same
        else:
            wiring = tuple([number[s] for s in node.inputs])
            key.append((node.op, node.attrs, wiring, node.shape, node.dtype))
    key.append(tuple([number[n] for n in graph.outputs]))
    found = tuple(key)
    with _lock:
        return _interned.setdefault(found, graph)
