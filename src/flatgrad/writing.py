"""Writing in place: a tensor is bound to a new node, its base and all views of that follow.

Autograd's rules for writes are PyTorch's, and checked here.
"""

from __future__ import annotations

import weakref

import numpy as np

from .errors import ArgumentError, DTypeError, GradientError, ShapeError
from .graph.memory import sole_array
from .graph.modes import modes
from .graph.node import INFERENCE, LEAF, SHARED, Node, const, leaf, variable
from .graph.op import Op, register
from .tensor import (
    ALIAS,
    DETACH,
    Tensor,
    bind,
    demand,
    late,
    make,
    node_of,
    record,
    record_view,
    root_of,
    snapshot,
    step,
    wrap,
)

WITH_DATA = register(
    Op(
        "with_data",
        "alias",
        2,
        (),
        infer=lambda x, data: (x.shape, x.dtype),
        numpy=lambda x, data: data,
        pullback=lambda g, out, x, data: (g, None),
        pushforward=lambda ts, out, x, data: ts[0],
        loop=1,
        doc="The value of the second input with the derivative of the first (writes through .data).",
    )
)


OVERWRITE = register(
    Op(
        "overwrite",
        "alias",
        2,
        (),
        infer=lambda x, data: (x.shape, x.dtype),
        numpy=lambda x, data: data,
        pullback=lambda g, out, x, data: (
            wrap(const(0, x.dtype, x._node.shape)),
            g if data._node.requires_grad else None,
        ),
        pushforward=lambda ts, out, x, data: ts[1],
        loop=1,
        doc="The second input; the first, whose history goes on, has the derivative zero.",
    )
)


def overwrite(name: str, t: Tensor, source: Tensor) -> Tensor:
    """Write `source` (of t's shape and dtype) to all of `t`; as in PyTorch what it held gets zeros."""
    if modes.grad and node_of(t).requires_grad and node_of(source).requires_grad:
        check_writable(name, t, source)
        source = record(OVERWRITE, (t, source))
    return assign(name, t, source)


def _with_data(old: Node, node: Node) -> Node:
    return Node(WITH_DATA, (old, node), (), old.shape, old.dtype, True, node.value)


def show_array(t: Tensor, value: np.ndarray) -> None:
    """Let `t` have another value, of its shape and dtype, as the leaf that it was."""
    old = t._node
    node = Node(LEAF, (), (), old.shape, old.dtype, old.requires_grad, value)
    if t._base is None and old.hooks is None and not old.mark & SHARED:
        t._node = node
        node.holder = weakref.ref(t)
        t._writes += 1
    elif t._base is not None or old.mark & SHARED:
        assign("step", t, wrap(node))
    else:
        bind(t, node)


def check_writable(name: str, t: Tensor, source: Tensor | None = None) -> None:
    """Raise PyTorch's error for an in-place operation that autograd cannot follow."""
    if not modes.inference and root_of(t)._node.mark & INFERENCE:
        raise GradientError(
            f"{name}: Inplace update to inference tensor outside InferenceMode is not allowed; write "
            "inside inference_mode(), or to a clone()"
        )
    if not modes.grad:
        return
    base, node = root_of(t), node_of(t)
    cut = _last_detach(t)
    below = (
        not cut and node_of(base).requires_grad
    )  # whether the write would be recorded for the base
    if node.requires_grad and (node.op is LEAF or (below and node_of(base).op is LEAF)):
        what = "a leaf tensor" if node.op is LEAF else "a view of a leaf tensor"
        raise GradientError(
            f"{name}: {what} that requires grad is being used in an in-place operation; "
            "do it under flatgrad.no_grad(), or on a clone()"
        )
    recorded = below or (source is not None and node_of(source).requires_grad)
    if recorded and t._several is not None:
        raise GradientError(
            f"{name}: an output of {t._several} is a view and is being modified inplace. This view is "
            "the output of a function that returns multiple views, which autograd cannot follow; "
            "write to a clone() of it, or through indexing or narrow()"
        )
    if recorded and not all(grad for _, _, grad in t._path[cut:]):
        raise GradientError(
            f"{name}: a view was created in no_grad mode and is being modified inplace with grad mode "
            "enabled: it is ambiguous whether derivatives are wanted; make the view with grad mode "
            "enabled, or write under flatgrad.no_grad()"
        )


def _last_detach(t: Tensor) -> int:
    """How many steps of a view's path lead to its last detach(); 0 if there is none."""
    for k in range(len(t._path), 0, -1):
        if t._path[k - 1][0] is DETACH:
            return k
    return 0


def assign(name: str, t: Tensor, new: Tensor) -> Tensor:
    """Write `new` (of t's shape and dtype) into `t`, its base and, through it, all views."""
    check_writable(name, t, new)
    if t._base is None:
        _rebind(t, node_of(new))
        return t
    if not _last_detach(t):
        _rebind(root_of(t), node_of(_written_base(name, t, new)))
        return t
    # Through detach() values are written and nothing else: the base keeps its history.
    recorded = node_of(new) if modes.grad and node_of(new).requires_grad else None
    before = modes.grad
    modes.grad = False
    try:
        _rebind(root_of(t), node_of(_written_base(name, t, new)))
    finally:
        modes.grad = before
    if recorded is not None:
        bind(t, Node(ALIAS, (recorded,), (), recorded.shape, recorded.dtype, True, recorded.value))
    return t


def _written_base(name: str, t: Tensor, source: Tensor) -> Tensor:
    """What the base of view `t` becomes when `source` is written to the view."""
    chain = [root_of(t)]
    for op, attrs, grad in t._path[:-1]:
        chain.append(wrap(step(op, node_of(chain[-1]), attrs, grad and modes.grad)))
    for (op, attrs, _), parent in zip(reversed(t._path), reversed(chain), strict=True):
        if op.write is None:
            raise GradientError(
                f"{name}: this view ({op.name}) shows one element several times, so it cannot be "
                "written; clone() it first"
            )
        source = op.write(parent, source, *attrs)
    return source


def _rebind(base: Tensor, node: Node) -> None:
    """Let a tensor with memory of its own show `node`, keeping what autograd knows of it."""
    old = base._node
    if old.mark & SHARED and not sole_array(old):
        late.evaluate([node])
        np.copyto(old.value, node.value)
        kept = _kept(old, node)
        if kept.op is LEAF or not kept.requires_grad:
            node = leaf(old.value, old.dtype, kept.requires_grad)
        else:
            node = Node(ALIAS, (kept,), (), old.shape, old.dtype, True, old.value)
        node.mark |= SHARED
    else:
        node = _kept(old, node)
    if not old.mark & INFERENCE:
        node.mark &= ~INFERENCE  # an ordinary tensor stays one when it is written in that mode
    if node.held or (node.op.kind in ("leaf", "const") and node.holder is not None):
        # Another tensor of the user's shows this node: keep the two apart.
        node = Node(ALIAS, (node,), (), node.shape, node.dtype, node.requires_grad, node.value)
    # Else a parameter updated at each step would drag the whole history of its updates along:
    # what it showed before is held by nobody, so nothing would ask for its value.
    demand(node)
    bind(base, node)


def _kept(old: Node, node: Node) -> Node:
    """`node` as what a tensor that showed `old` shows after a write in place.

    It goes on to require grad: without grad mode with the derivative it had, otherwise with zero. A
    leaf stays a leaf.
    """
    if not old.requires_grad or (node.requires_grad and modes.grad):
        return node
    if old.op is LEAF:
        return variable(node)
    if not modes.grad:
        return _with_data(old, node)
    return Node(OVERWRITE, (old, node), (), old.shape, old.dtype, True, node.value)


def reshow(name: str, t: Tensor, op: Op, attrs: tuple) -> Tensor:
    """Let `t` itself become the view that `op` makes of it (``t_()``, ``squeeze_()``): memory stays."""
    check_writable(name, t)
    if t._base is None and (t._viewed or t._node.mark & SHARED):
        base = wrap(t._node)
        base._writes = t._writes
        t._base, t._path = base, ()
    shape, dtype = op.infer(node_of(t), *attrs)
    node = node_of(t)
    source = snapshot(node) if node.mark & SHARED else node
    if node.op is LEAF and node.requires_grad:
        fresh = variable(Node(op, (source,), attrs, shape, dtype))
    else:
        fresh = Node(op, (source,), attrs, shape, dtype, modes.grad and node.requires_grad)
    if t._base is not None:
        t._path = (*t._path, (op, attrs, modes.grad))
    bind(t, fresh)
    return t


def _data(self: Tensor) -> Tensor:
    """The values without history, as a view: what is written to it, this tensor shows too.

    Assigning replaces the values (of any shape) and leaves ``requires_grad`` and ``grad_fn``
    alone; the memory is not shared with the assigned tensor.
    """
    return record_view(DETACH, self, ())


def _set_data(self: Tensor, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise ArgumentError(
            f"data: a Tensor is required, got {type(value).__name__}; wrap it with flatgrad.tensor"
        )
    new, node = node_of(value), node_of(self)
    if new.dtype is not node.dtype:
        raise DTypeError(
            f"data: values of the tensor's dtype {node.dtype!r} are required, got {new.dtype!r}; "
            "convert them with .to()"
        )
    if node.op is not LEAF and node.requires_grad and new.shape != node.shape:
        raise ShapeError(
            f"data: values of shape {node.shape} are required for a tensor with a grad_fn, got "
            f"{new.shape}; detach() the tensor first"
        )
    new = make(DETACH, (new,), (), new.shape, new.dtype)._node
    if node.requires_grad:
        new = variable(new) if node.op is LEAF else _with_data(node, new)
    self._base, self._path = None, ()
    bind(self, new)


Tensor.data = property(_data, _set_data)
