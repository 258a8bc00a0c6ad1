"""What a user calls a transformed function with: trees of tensors, arrays and numbers, as tensors.

Arguments that are differentiated (or batched) become tensors; all others reach the function as they are.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor, late, node_of
from .tree import Spec, flatten, paths

__all__ = [
    "as_tensor",
    "chosen_positions",
    "constant_leaves",
    "is_numeric",
    "output_tensors",
    "replaced",
    "same_places",
    "tensors_of",
]


def is_numeric(x) -> bool:
    """Whether a leaf is a tensor, or what can become one: an array or a number."""
    return isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float))


def as_tensor(name: str, x, path: str, what: str) -> Tensor:
    """A leaf as a tensor; arrays and numbers are copied.

    Raises
    ------
    ArgumentError
        If it is none of these.
    """
    if isinstance(x, Tensor):
        return x
    if not is_numeric(x):
        raise ArgumentError(
            f"{name}: {what} must be Tensors, NumPy arrays or numbers (or trees of them), but "
            f"{what}{path} is of type {type(x).__name__}; pass it in another argument, or hold it "
            "in a closure"
        )
    return late.convert(x)


def tensors_of(name: str, tree, what: str) -> tuple[list[Tensor], Spec]:
    """The leaves of `tree` as tensors, and its structure.

    Raises
    ------
    ArgumentError
        If a leaf cannot be a tensor, or if there is none.
    """
    leaves, spec = flatten(tree)
    if not leaves:
        raise ArgumentError(f"{name}: expected {what} to contain at least one Tensor, got {tree!r}")
    if all(isinstance(x, Tensor) for x in leaves):
        return leaves, spec
    places = paths(spec)
    return [as_tensor(name, x, p, what) for x, p in zip(leaves, places, strict=True)], spec


def output_tensors(name: str, tree) -> tuple[list[Tensor], Spec]:
    """What a function returned, as tensors (a constant number or array is accepted).

    Raises
    ------
    ArgumentError
        If there is nothing in it, or something else than numbers.
    """
    leaves, spec = flatten(tree)
    if not leaves:
        raise ArgumentError(
            f"{name}: Expected f to be a function that has non-empty output, got {tree!r}; return "
            "a Tensor, or a tree of them"
        )
    for x, path in zip(leaves, paths(spec), strict=True):
        if not is_numeric(x):
            raise ArgumentError(
                f"{name}: expected f(*args) to return only tensors, got unsupported type "
                f"{type(x).__name__} at output{path}; return it as aux, with has_aux=True"
            )
    return [x if isinstance(x, Tensor) else late.convert(x) for x in leaves], spec


# -- argnums --------------------------------------------------------------------------------------


def chosen_positions(name: str, argnums, count: int) -> tuple[int, ...]:
    """`argnums` (an int or a tuple of them) as positions from 0.

    Raises
    ------
    ArgumentError
        If it is something else, empty, repeated, or beyond the `count` arguments.
    """
    if isinstance(argnums, bool) or not isinstance(argnums, (int, tuple)):
        raise ArgumentError(
            f"{name}: argnums must be int or Tuple[int, ...], got: {type(argnums).__name__}"
        )
    wanted = argnums if isinstance(argnums, tuple) else (argnums,)
    if not wanted:
        raise ArgumentError(f"{name}: argnums must be non-empty; name at least one argument")
    found = []
    for k in wanted:
        if isinstance(k, bool) or not isinstance(k, int):
            raise ArgumentError(f"{name}: argnum must be int, got: {type(k).__name__}")
        if not -count <= k < count:
            raise ArgumentError(
                f"{name}: Got argnum={k}, but only {count} positional inputs; arguments given by "
                "keyword are not differentiated"
            )
        found.append(k % count)
    if len(set(found)) != len(found):
        raise ArgumentError(f"{name}: argnums elements must be unique, got {argnums}")
    return tuple(found)


def replaced(args: tuple, positions: tuple[int, ...], values) -> tuple:
    """`args` with other values at `positions`."""
    new = list(args)
    for k, value in zip(positions, values, strict=True):
        new[k] = value
    return tuple(new)


def constant_leaves(spec: Spec) -> list[bool]:
    """For each leaf whether it is never differentiated by: a module's buffers are not."""
    if spec.kind is None:
        return [False]
    flags = [flag for child in spec.children for flag in constant_leaves(child)]
    variable = getattr(spec.context, "variable_leaves", None)
    if variable is not None:
        flags[variable:] = [True] * (len(flags) - variable)
    return flags


# -- vectors --------------------------------------------------------------------------------------


def same_places(name: str, tree, spec: Spec, like, what: str, of: str) -> list[Tensor]:
    """The leaves of `tree` as tensors: cotangents or tangents `what` of the tensors `like`.

    Raises
    ------
    ArgumentError
        If the structure is not `spec`.
    ShapeError, DTypeError
        If a leaf has not the shape and dtype of its tensor. (Python numbers take the dtype.)
    """
    leaves, found = flatten(tree)
    if found != spec:
        raise ArgumentError(
            f"{name}: Expected {of} and {what} to have the same python structure: {of} have "
            f"{spec}, {what} have {found}"
        )
    out = []
    for x, t, path in zip(leaves, like, paths(spec), strict=True):
        v = as_tensor(name, x, path, what)
        node, need = node_of(v), node_of(t)
        if node.shape != need.shape:
            raise ShapeError(
                f"{name}: {what}{path} must have the shape {need.shape} of its place in {of}, got "
                f"{node.shape}"
            )
        if node.dtype is not need.dtype:
            if not isinstance(x, (bool, int, float)) or isinstance(x, np.generic):
                raise DTypeError(
                    f"{name}: {what}{path} must have the dtype {need.dtype!r} of its place in "
                    f"{of}, got {node.dtype!r}; convert it with .to()"
                )
            v = v.to(need.dtype)
        out.append(v)
    return out
