"""Branches of the graph: cond and switch; checkpoint, a function whose inner values are not kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np

from ..errors import ArgumentError
from ..graph import dtypes
from ..ops.declare import cast_node
from ..tensor import Tensor, node_of, wrap
from ..transform.branch import branch
from ..transform.checkpoint import checkpointed
from .traced import Traced, map_nodes, over_the_same, tensors_of
from .tree import unflatten

__all__ = ["checkpoint", "cond", "switch"]

# -- cond, switch ---------------------------------------------------------------------------------


def cond(pred, true_fn: Callable, false_fn: Callable, *operands):
    """``true_fn(*operands) if pred else false_fn(*operands)``, as a real branch.

    Parameters
    ----------
    pred : bool or bool tensor without dimensions
        A Python bool chooses at once, and nothing of the other branch is recorded.
    true_fn, false_fn : callable
        Functions of the operands, whose results have the same structure, shapes and dtypes.
    operands : pytrees

    Returns
    -------
    pytree
        The chosen function's result. Derivatives flow through the chosen branch alone.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor(-2.0)
    >>> fg.cond(x > 0, lambda x: x.log(), lambda x: x * 3, x)
    tensor(-6.)
    """
    if isinstance(pred, (bool, np.bool_)):
        return (true_fn if pred else false_fn)(*operands)
    tensors, _ = tensors_of("cond", "pred", pred)
    if len(tensors) != 1 or node_of(tensors[0]).shape != () or tensors[0].dtype is not dtypes.bool_:
        given = [(tuple(t.shape), t.dtype) for t in tensors]
        raise ArgumentError(
            f"cond: pred must be one bool without dimensions, got {given}; reduce it with .any() or "
            ".all(), or choose element by element with flatgrad.where"
        )
    index = wrap(cast_node(node_of(tensors[0]), dtypes.int64))
    return _switch("cond", index, ((false_fn, "false_fn"), (true_fn, "true_fn")), operands)


def switch(index, branches, *operands):
    """``branches[index](*operands)``, as a real branch; the index is clamped to the branches there are.

    Parameters
    ----------
    index : int or integer tensor without dimensions
    branches : sequence of callable
        Functions of the operands, whose results have the same structure, shapes and dtypes.
    operands : pytrees

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.switch(fg.tensor(1), [lambda x: x, lambda x: x * x, lambda x: -x], 3.0)
    tensor(9.)
    """
    branches = list(branches)
    if not branches:
        raise ArgumentError("switch: at least one branch is required, got none")
    if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
        return branches[min(max(int(index), 0), len(branches) - 1)](
            *_as_tensors("switch", operands)
        )
    tensors, _ = tensors_of("switch", "index", index)
    if (
        len(tensors) != 1
        or node_of(tensors[0]).shape != ()
        or tensors[0].dtype.category != dtypes.INTEGER
    ):
        given = [(tuple(t.shape), t.dtype) for t in tensors]
        raise ArgumentError(
            f"switch: index must be one integer without dimensions, got {given}; convert "
            "it with .to(flatgrad.int64)"
        )
    chosen = wrap(cast_node(node_of(tensors[0]), dtypes.int64))
    named = [(f, f"branches[{k}]") for k, f in enumerate(branches)]
    return _switch("switch", chosen, named, operands)


def _as_tensors(name: str, operands) -> tuple:
    tensors, spec = tensors_of(name, "operands", tuple(operands))
    return unflatten(spec, tensors)


def _switch(name: str, index: Tensor, branches, operands):
    tensors, spec = tensors_of(name, "operands", tuple(operands))
    like = map_nodes(tensors)
    traces = [Traced(name, what, f, like, spec.children) for f, what in branches]
    first, (_, what) = traces[0], branches[0]
    for trace, (_, other) in zip(traces[1:], branches[1:], strict=True):
        have = [(n.shape, n.dtype) for n in trace.outputs]
        want = [(n.shape, n.dtype) for n in first.outputs]
        if trace.spec != first.spec or have != want:
            raise ArgumentError(
                f"{name}: all branches must return the same structure, shapes and dtypes: {what} returns "
                f"{first.spec} of {want}, {other} returns {trace.spec} of {have}; convert one with reshape() "
                "or .to()"
            )
    *graphs, fixed = over_the_same(*traces)
    return unflatten(first.spec, branch(tuple(graphs), index, [*tensors, *fixed]))


# -- checkpoint -----------------------------------------------------------------------------------


def checkpoint(f: Callable) -> Callable:
    """`f`, whose inner values reverse mode computes again instead of keeping them.

    A training step of many layers needs the memory of one layer, if each is a checkpoint, for the time of
    one more forward pass.

    Parameters
    ----------
    f : callable
        A function of pytrees of tensors; traced at each call.

    Returns
    -------
    callable
        With the same arguments and results.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([1.0, 2.0], requires_grad=True)
    >>> layer = fg.checkpoint(lambda x: (x * x).exp().sum())
    >>> fg.autograd.grad(layer(x), x)
    (tensor([  5.4366, 218.3926]),)
    """

    @wraps(f)
    def function(*args, **kwargs):
        tensors, spec = tensors_of("checkpoint", "arguments", (args, kwargs))
        like = map_nodes(tensors)
        traced = Traced("checkpoint", "f", lambda both: f(*both[0], **both[1]), like, (spec,))
        graph, captured = traced.graph()
        return unflatten(traced.spec, checkpointed(graph, [*tensors, *captured]))

    return function
