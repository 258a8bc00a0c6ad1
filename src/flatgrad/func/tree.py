"""Pytrees: nested tuples, lists, dicts, dataclasses, named tuples, None and modules, as leaves and a spec.

A *leaf* is whatever is not a container. A ``Spec`` is the containers without their leaves: hashable,
compared by value, so that it can be part of a signature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError

__all__ = ["Spec", "flatten", "map_leaves", "paths", "register", "unflatten"]


class Spec:
    """The structure of a tree: how its leaves are put together again.

    Attributes
    ----------
    kind : type or None
        The container's type; None for a leaf.
    context : Any
        What the container is besides its children (a dict's keys); hashable, compared by ``==``.
    children : tuple of Spec
    count : int
        Number of leaves.
    """

    __slots__ = ("_hash", "children", "context", "count", "kind")

    def __init__(self, kind, context=None, children: tuple = ()):
        self.kind = kind
        self.context = context
        self.children = children
        self.count = 1 if kind is None else sum(c.count for c in children)
        self._hash = hash((kind, context, children))

    def __eq__(self, other) -> bool:
        return (
            type(other) is Spec
            and self._hash == other._hash
            and self.kind is other.kind
            and self.context == other.context
            and self.children == other.children
        )

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self):
        return Spec, (self.kind, self.context, self.children)  # hashes differ between processes

    def __repr__(self) -> str:
        if self.kind is None:
            return "*"
        return repr(unflatten(self, [_STAR] * self.count))


class _Star:
    def __repr__(self) -> str:
        return "*"


_STAR = _Star()
LEAF = Spec(None)


@dataclasses.dataclass(frozen=True)
class Container:
    """How one type comes apart: ``flatten(x) -> (children, context)``, ``unflatten(context, children) -> x``,
    ``names(context, count) -> tuple`` says how a user writes the way to each child."""

    flatten: Callable
    unflatten: Callable
    names: Callable


_containers: dict[type, Container] = {}


def register(kind: type, flatten: Callable, unflatten: Callable, names: Callable | None = None):
    """Let objects of `kind` (subclasses included, if `kind` says so in its own ``_tree_base``) be containers.

    Parameters
    ----------
    kind : type
    flatten : callable
        ``flatten(x) -> (children, context)``; the context is hashable.
    unflatten : callable
        ``unflatten(context, children) -> x``.
    """
    _containers[kind] = Container(flatten, unflatten, names or _numbered)


def _numbered(context, count: int) -> tuple:
    return tuple(f"[{k}]" for k in range(count))


def _keys(items: dict) -> tuple:
    try:
        return tuple(sorted(items))
    except TypeError:
        return tuple(items)


def _field_names(x) -> tuple:
    return tuple(f.name for f in dataclasses.fields(x))


def _make_dataclass(context, children):
    kind, names = context
    new = object.__new__(kind)
    for name, child in zip(names, children, strict=True):
        object.__setattr__(
            new, name, child
        )  # __init__ may convert or check, which traced values can't
    return new


_DATACLASS = Container(
    lambda x: ([getattr(x, n) for n in _field_names(x)], (type(x), _field_names(x))),
    _make_dataclass,
    lambda context, count: tuple(f".{n}" for n in context[1]),
)
_NAMED_TUPLE = Container(
    lambda x: (list(x), type(x)),
    lambda context, children: context(*children),
    lambda context, count: tuple(f".{n}" for n in context._fields),
)

register(tuple, lambda x: (list(x), None), lambda context, children: tuple(children))
register(list, lambda x: (x, None), lambda context, children: list(children))
register(
    dict,
    lambda x: ([x[k] for k in _keys(x)], _keys(x)),
    lambda context, children: dict(zip(context, children, strict=True)),
    lambda context, count: tuple(f"[{k!r}]" for k in context),
)
register(type(None), lambda x: ([], None), lambda context, children: None)


def container(x) -> tuple[type, Container] | None:
    """The registered kind of `x` and how it comes apart; None for a leaf."""
    kind = type(x)
    found = _containers.get(kind)
    if found is not None:
        return kind, found
    if isinstance(x, tuple) and hasattr(kind, "_fields"):
        return kind, _NAMED_TUPLE
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return kind, _DATACLASS
    base = getattr(kind, "_tree_base", None)  # a class whose subclasses are containers as well
    if base is not None and base in _containers:
        return base, _containers[base]
    return None


def _unflatten_one(spec: Spec, children: list):
    kind = spec.kind
    if kind in _containers:
        return _containers[kind].unflatten(spec.context, children)
    named = issubclass(kind, tuple)
    return (_NAMED_TUPLE if named else _DATACLASS).unflatten(spec.context, children)


def flatten(tree) -> tuple[list, Spec]:
    """The leaves of `tree` from left to right, and its structure."""
    if type(tree) is tuple:  # the commonest tree, kept short: a few arguments
        for x in tree:
            if container(x) is not None:
                break
        else:
            return list(tree), _flat_tuple(len(tree))
    leaves: list = []
    return leaves, _flatten(tree, leaves)


_flat_tuples: dict[int, Spec] = {}


def _flat_tuple(count: int) -> Spec:
    found = _flat_tuples.get(count)
    if found is None:
        found = _flat_tuples[count] = Spec(tuple, None, (LEAF,) * count)
    return found


def _flatten(tree, leaves: list) -> Spec:
    known = container(tree)
    if known is None:
        leaves.append(tree)
        return LEAF
    kind, how = known
    children, context = how.flatten(tree)
    return Spec(kind, context, tuple([_flatten(c, leaves) for c in children]))


def unflatten(spec: Spec, leaves) -> Any:
    """The tree of structure `spec` with these leaves.

    Raises
    ------
    ArgumentError
        If their number is not ``spec.count``.
    """
    leaves = list(leaves)
    if len(leaves) != spec.count:
        raise ArgumentError(f"unflatten: {spec} has {spec.count} leaves, got {len(leaves)}")
    return _unflatten(spec, iter(leaves))


def _unflatten(spec: Spec, leaves):
    if spec.kind is None:
        return next(leaves)
    return _unflatten_one(spec, [_unflatten(c, leaves) for c in spec.children])


def map_leaves(function: Callable, tree, *others):
    """`function` of each leaf (and of the leaves of `others` at the same places), in the same structure.

    Raises
    ------
    ArgumentError
        If the structures differ.
    """
    leaves, spec = flatten(tree)
    columns = [leaves]
    for other in others:
        found, same = flatten(other)
        if same != spec:
            raise ArgumentError(
                f"map_leaves: trees of one structure are required: {spec} and {same}"
            )
        columns.append(found)
    return unflatten(spec, [function(*row) for row in zip(*columns, strict=True)])


def paths(spec: Spec, start: str = "") -> list[str]:
    """How a user writes the way to each leaf: ``[0]['bias']``; for error messages."""
    if spec.kind is None:
        return [start]
    how = _containers.get(spec.kind) or (
        _NAMED_TUPLE if issubclass(spec.kind, tuple) else _DATACLASS
    )
    names = how.names(spec.context, len(spec.children))
    return [p for n, c in zip(names, spec.children, strict=True) for p in paths(c, start + n)]
