"""Hooks on gradients. They live on graph nodes, so they outlast the tensor object."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable

from ..errors import ArgumentError, GradientError
from ..graph.node import DIRECT, LEAF, Node
from ..tensor import ALIAS, Tensor, demand, late, method, node_of, record

__all__ = ["RemovableHandle", "run_hooks", "run_post_hooks"]

_RETAIN = -1  # key of the hook that fills a non-leaf's .grad: it runs last
_numbers = itertools.count()


class RemovableHandle:
    """What registering a hook returns: ``remove()``, or leaving a ``with``, takes it away."""

    def __init__(self, hooks: _Hooks):
        self.id = next(_numbers)
        self._hooks = weakref.ref(hooks)

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc) -> None:
        self.remove()


class _Hooks(dict):
    """A dict of hooks in order of registration that a handle can refer to weakly."""

    __slots__ = ("__weakref__",)


def _hooks_of(node: Node) -> _Hooks:
    if node.hooks is None:
        node.hooks = _Hooks()
        node.mark |= DIRECT
    return node.hooks


def _check_hook(name: str, t: Tensor, hook) -> None:
    if not callable(hook):
        raise ArgumentError(f"{name}: hook must be callable, got {type(hook).__name__}")
    if not t.requires_grad:
        raise GradientError(
            f"{name}: cannot register a hook on a tensor that doesn't require gradient; call "
            "requires_grad_() on it first"
        )


@method()
def register_hook(self, hook: Callable) -> RemovableHandle:
    """Call ``hook(grad)`` whenever this tensor's gradient has been recorded.

    The hook may return a tensor that takes the gradient's place. Hooks run in order of
    registration, on a leaf before its ``.grad`` is accumulated.

    Returns
    -------
    RemovableHandle

    Raises
    ------
    GradientError
        If the tensor does not require grad.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([1.0, 2.0], requires_grad=True)
    >>> handle = x.register_hook(lambda grad: grad * 10)
    >>> x.sum().backward()
    >>> x.grad
    tensor([10., 10.])
    >>> handle.remove()
    """
    _check_hook("register_hook", self, hook)
    hooks = _hooks_of(node_of(self))
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


@method()
def register_post_accumulate_grad_hook(self, hook: Callable) -> RemovableHandle:
    """Call ``hook(tensor)`` after ``backward`` has accumulated into this leaf's ``.grad``.

    Returns
    -------
    RemovableHandle

    Raises
    ------
    GradientError
        If the tensor does not require grad, or is not a leaf.
    """
    _check_hook("register_post_accumulate_grad_hook", self, hook)
    if node_of(self).op is not LEAF:
        raise GradientError(
            "register_post_accumulate_grad_hook: post accumulate grad hooks cannot be registered "
            "on "
            "non-leaf tensors; use register_hook"
        )
    if self._post_hooks is None:
        self._post_hooks = _Hooks()
    handle = RemovableHandle(self._post_hooks)
    self._post_hooks[handle.id] = hook
    return handle


@method()
def retain_grad(self) -> None:
    """Let ``backward`` fill this non-leaf's ``.grad`` too. Does nothing on a leaf.

    Raises
    ------
    GradientError
        If the tensor does not require grad.
    """
    node = node_of(self)
    if not node.requires_grad:
        raise GradientError(
            "retain_grad: can't retain_grad on Tensor that has requires_grad=False; call "
            "requires_grad_() on what it is computed from"
        )
    if node.op is LEAF or self._retains:
        return
    self._retains = True
    _hooks_of(node)[_RETAIN] = _filler(self)


def _filler(t: Tensor) -> Callable:
    ref = weakref.ref(t)

    def fill(g: Tensor) -> None:
        target = ref()
        if target is not None:
            # An alias: what the user writes to .grad must not reach the gradients behind it.
            have = target._grad
            target._grad = record(ALIAS, (g,)) if have is None else have + g
            demand(node_of(target._grad))

    return fill


Tensor.retains_grad = property(
    lambda self: self._retains and node_of(self).op is not LEAF,
    doc="Whether ``backward`` fills this non-leaf's ``.grad``.",
)


def _rebound(t: Tensor, old: Node, new: Node) -> None:
    """A write gave `t` the node `new`: a leaf keeps its hooks, a non-leaf its retain_grad."""
    if old.op is LEAF and new.op is LEAF:
        if new is not old:
            new.hooks = old.hooks
            new.mark |= DIRECT
    elif t._retains and _RETAIN in old.hooks:
        del old.hooks[_RETAIN]
        if new.requires_grad and new.op is not LEAF:
            _hooks_of(new)[_RETAIN] = _filler(t)


late.rebound = _rebound


def run_hooks(node: Node, g: Tensor) -> Tensor:
    """`g` after the node's hooks.

    Raises
    ------
    ArgumentError, GradientError
        If a hook returns something that is no gradient of this node.
    """
    if not node.hooks:
        return g
    for key, hook in list(node.hooks.items()):
        if key != _RETAIN:
            g = _replacement(hook, hook(g), g)
    if _RETAIN in node.hooks:
        node.hooks[_RETAIN](g)
    return g


def _replacement(hook, result, g: Tensor) -> Tensor:
    if result is None:
        return g
    name = getattr(hook, "__name__", type(hook).__name__)
    if not isinstance(result, Tensor):
        raise ArgumentError(
            f"register_hook: hook {name!r} must return a Tensor or None, but returned "
            f"{type(result).__name__}"
        )
    have, need = node_of(result), node_of(g)
    if have.shape != need.shape:
        raise GradientError(
            f"register_hook: hook {name!r} has changed the size of value: a gradient of shape "
            f"{need.shape} is required, it returned {have.shape}"
        )
    if have.dtype is not need.dtype:
        raise GradientError(
            f"register_hook: hook {name!r} has changed the type of value: a gradient of "
            f"{need.dtype!r} "
            f"is required, it returned {have.dtype!r}"
        )
    return result


def run_post_hooks(t: Tensor) -> None:
    """Call the leaf's post-accumulate hooks."""
    for hook in list(t._post_hooks.values()):
        hook(t)
