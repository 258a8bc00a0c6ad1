"""Reverse mode: a graph in, the graph of its cotangents out."""

from __future__ import annotations

from ..graph.node import PROJ, Node
from ..tensor import Tensor, wrap

__all__ = ["differentiable_order", "pullback"]


def differentiable_order(roots) -> list[Node]:
    """The nodes that derivatives flow through from `roots`, each after its inputs. Iterative."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(r, False) for r in roots if r.requires_grad]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        if not node.op.differentiable or node.op.kind in ("leaf", "input"):
            order.append(node)
            continue
        stack.append((node, True))
        for source in node.inputs:
            if source.requires_grad and source not in seen:
                stack.append((source, False))
    return order


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Sum of two cotangents; None is zero."""
    if a is None:
        return b
    return a if b is None else a + b


def pullback(outputs, inputs, cotangents, visit=None) -> list[Tensor | None]:
    """Cotangents of `inputs` given those of `outputs`, as newly recorded graph.

    Parameters
    ----------
    outputs, inputs : sequence of Node
    cotangents : sequence of (Tensor or None)
        One an output, of its shape and dtype; None is zero.
    visit : callable, optional
        ``visit(node, g) -> g`` sees each node's whole cotangent before its rule runs
        (hooks, anomaly detection).

    Returns
    -------
    list of (Tensor or None)
        One an input; None where no derivative reaches it.
    """
    wanted = set(inputs)
    order = differentiable_order(outputs)
    reaching = _reaching(order, wanted)
    cots: dict[Node, Tensor | list] = {}
    for node, g in zip(outputs, cotangents, strict=True):
        if g is not None and node in reaching:
            cots[node] = add(cots.get(node), g)
    done: dict[Node, Tensor | None] = {}
    handles: dict[Node, Tensor] = {}
    for node in reversed(order):
        g = cots.pop(node, None)
        if g is None or node not in reaching:
            continue
        if visit is not None and type(g) is not list:
            g = visit(node, g)
        if node in wanted:
            done[node] = g
        if node.inputs and node.op.differentiable:
            _apply_rule(node, g, cots, reaching, handles)
    return [done.get(node) for node in inputs]


def _reaching(order, wanted) -> set[Node]:
    reaching = set()
    for node in order:
        if node in wanted or any(s in reaching for s in node.inputs):
            reaching.add(node)
    return reaching


def _handle(node: Node, handles: dict) -> Tensor:
    """A tensor for `node` that leaves the user's own handle on it alone."""
    t = handles.get(node)
    if t is None:
        holder = node.holder
        t = wrap(node)
        node.holder = holder
        handles[node] = t
    return t


def _apply_rule(node: Node, g, cots: dict, reaching: set, handles: dict) -> None:
    if node.op is PROJ:
        whole = node.inputs[0]
        parts = cots.get(whole)
        if parts is None:
            parts = cots[whole] = [None] * whole.op.outputs
        parts[node.attrs[0]] = add(parts[node.attrs[0]], g)
        return
    inputs = [_handle(s, handles) for s in node.inputs]
    if node.op.outputs > 1:
        out = tuple(_projections(node))
        g = tuple(g)
    else:
        out = _handle(node, handles)
    if node.op.arity < 0:
        grads = node.op.pullback(g, out, tuple(inputs), *node.attrs)
    else:
        grads = node.op.pullback(g, out, *inputs, *node.attrs)
    for source, grad in zip(node.inputs, grads, strict=True):
        if grad is not None and source in reaching:
            cots[source] = add(cots.get(source), grad)


def _projections(node: Node):
    for k, (shape, dtype) in enumerate(zip(node.shape, node.dtype, strict=True)):
        requires = node.requires_grad and dtype.is_differentiable
        yield wrap(Node(PROJ, (node,), (k,), shape, dtype, requires))
