"""``backward`` and ``grad``: thin faces over the pullback."""

from __future__ import annotations

from ..graph.node import const
from ..tensor import Tensor, method, node_of, wrap
from ..transform.pullback import differentiable_order, pullback


def _seed(t, g):
    return wrap(const(1, t.dtype, tuple(t.shape))) if g is None else g


def backward(tensors, grad_tensors=None):
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    grads = grad_tensors or [None] * len(tensors)
    roots = [node_of(t) for t in tensors]
    leaves = [n for n in differentiable_order(roots) if n.op.kind == "leaf"]
    found = pullback(roots, leaves, [_seed(t, g) for t, g in zip(tensors, grads, strict=True)])
    for node, g in zip(leaves, found, strict=True):
        holder = node.holder()
        holder.grad = g if holder.grad is None else holder.grad + g


def grad(outputs, inputs, grad_outputs=None):
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    grads = grad_outputs or [None] * len(outputs)
    return tuple(
        pullback(
            [node_of(t) for t in outputs],
            [node_of(t) for t in inputs],
            [_seed(t, g) for t, g in zip(outputs, grads, strict=True)],
        )
    )


method("backward")(lambda self, gradient=None: backward([self], [gradient]))
