"""A module taken apart and put together: its tensors as a tree's leaves, and copies with other tensors.

A copy holds what the module holds, other tensors in the given places, and copies of its
submodules; the module itself is not touched, so several threads may call one module's copies at once.
"""

from __future__ import annotations

from ..func.tree import register
from ..tensor import Tensor
from .module import Module

__all__ = ["Structure", "with_tensors"]


class Structure:
    """What a module is besides its tensors' values. Equal for the same module in the same mode.

    Attributes
    ----------
    module : Module
    names : tuple of (tuple of str)
        Each leaf's dotted names; a tied parameter has several.
    variable_leaves : int
        The leaves before this number are parameters, the others buffers.
    """

    __slots__ = ("_key", "module", "names", "variable_leaves")

    def __init__(self, module: Module, names: tuple, variable_leaves: int):
        self.module = module
        self.names = names
        self.variable_leaves = variable_leaves
        modes = tuple([m.training for m in module.modules()])
        self._key = (id(module), names, variable_leaves, modes)

    def __eq__(self, other) -> bool:
        return type(other) is Structure and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _named(module: Module, kind: str) -> dict[Tensor, list[str]]:
    """Each parameter or buffer once, with all its names."""
    found: dict[Tensor, list[str]] = {}
    for name, tensor in getattr(module, kind)(remove_duplicate=False):
        found.setdefault(tensor, []).append(name)
    return found


def _flatten(module: Module):
    parameters = _named(module, "named_parameters")
    both = {**parameters, **_named(module, "named_buffers")}
    names = tuple([tuple(n) for n in both.values()])
    return list(both), Structure(module, names, len(parameters))


def _unflatten(structure: Structure, leaves) -> Module:
    values = {}
    for names, leaf in zip(structure.names, leaves, strict=True):
        values.update(dict.fromkeys(names, leaf))
    return with_tensors(structure.module, values)


def with_tensors(module: Module, values: dict) -> Module:
    """A copy of `module` with `values` (by dotted name) in the place of its parameters and buffers."""
    twins: dict[int, object] = {}
    for _, inner in module.named_modules():
        twins[id(inner)] = object.__new__(type(inner))
    tensors: dict[int, object] = {}
    for name, value in values.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        register = owner._parameters if last in owner._parameters else owner._buffers
        tensors[id(register[last])] = value
    for path, inner in module.named_modules(remove_duplicate=False):
        twin = twins[id(inner)]
        if not twin.__dict__:
            _fill(twin, inner, {**twins, **tensors})
        prefix = f"{path}." if path else ""
        for register in ("_parameters", "_buffers"):
            own = twin.__dict__[register]
            own.update({k: values[prefix + k] for k in own if prefix + k in values})
    return twins[id(module)]


def _fill(twin, inner: Module, replacements: dict[int, object]) -> None:
    for name, value in inner.__dict__.items():
        if name in ("_parameters", "_buffers"):
            twin.__dict__[name] = dict(value)
        else:
            twin.__dict__[name] = _exchanged(value, replacements)


def _exchanged(value, replacements: dict[int, object]):
    """`value` with modules and tensors replaced, in plain lists, tuples and dicts of them too."""
    found = replacements.get(id(value))
    if found is not None:
        return found
    if type(value) in (list, tuple):
        return type(value)([_exchanged(v, replacements) for v in value])
    if type(value) is dict:
        return {k: _exchanged(v, replacements) for k, v in value.items()}
    return value


Module._tree_base = Module
Module._with_tensors = with_tensors
register(
    Module, _flatten, _unflatten, lambda context, count: tuple(f".{n[0]}" for n in context.names)
)
