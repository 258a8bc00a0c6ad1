"""Making sub-graphs: placeholders, tracing functions, copying a graph onto other inputs."""

from __future__ import annotations

from contextlib import contextmanager

from ..graph.modes import modes
from ..graph.node import CONST, Graph, Node, placeholder, toposort
from ..tensor import node_of, wrap

__all__ = ["close", "depends_on", "quiet", "rebuild", "trace"]


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


def close(inputs: list[Node], outputs: list[Node], name: str = "graph") -> tuple[Graph, list[Node]]:
    """A ``Graph`` of `outputs` over `inputs`; what it needs from outside becomes further inputs."""
    given = set(inputs)
    order = toposort(outputs, stop=lambda n: n in given)
    inside = set(given)
    for node in order:
        if any(s in inside for s in node.inputs):
            inside.add(node)
    captured: dict[Node, Node] = {}

    def capture(node: Node) -> None:
        if node not in inside and node not in captured and node.op is not CONST:
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
        copied = [n for n in order if n in inside or n in captured or n.op is CONST]
        rebuild(copied, mapping, grad=any(n.requires_grad for n in order))
        outputs = [mapping[n] for n in outputs]
    return Graph((*inputs, *captured.values()), tuple(outputs), name), list(captured)
