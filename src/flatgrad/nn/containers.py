"""Modules that hold others: Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

from collections import OrderedDict

from ..errors import ArgumentError, IndexingError
from ..graph.modes import modes
from ..tensor import Tensor
from .layers import Plain
from .module import Module
from .once import as_one
from .parameter import Parameter


def _position(name: str, index, size: int) -> int:
    try:
        index = index.__index__()
    except AttributeError:
        raise ArgumentError(f"{name}: indices must be ints, got {type(index).__name__}") from None
    if not -size <= index < size:
        raise IndexingError(f"{name}: index {index} is out of range for {size} modules")
    return index % size


class _Sequence(Module):
    """Modules numbered from 0, with a list's methods."""

    def _list(self) -> list:
        return list(self._modules.values())

    def _renumber(self, modules) -> None:
        self._modules.clear()
        for k, module in enumerate(modules):
            self.add_module(str(k), module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __contains__(self, module) -> bool:
        return any(m is module for m in self._modules.values())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._part(list(self._modules.items())[index])
        return self._list()[_position(type(self).__name__, index, len(self))]

    def __setitem__(self, index, module: Module) -> None:
        name = list(self._modules)[_position(type(self).__name__, index, len(self))]
        setattr(self, name, module)

    def __delitem__(self, index) -> None:
        modules = self._list()
        if not isinstance(index, slice):
            index = _position(type(self).__name__, index, len(self))
        del modules[index]
        self._renumber(modules)

    def append(self, module: Module):
        """Add a module at the end. Returns the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules):
        """Add modules at the end. Returns the container."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module):
        """Put a module before `index`."""
        modules = self._list()
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take a module out."""
        module = self[index]
        del self[index]
        return module


class Sequential(_Sequence):
    """Modules called one after the other.

    Parameters
    ----------
    *args : Module, or one OrderedDict of name to Module

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.Sequential(fg.nn.Linear(4, 2), fg.nn.ReLU())
    Sequential(
      (0): Linear(in_features=4, out_features=2, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *args):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], OrderedDict):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for k, module in enumerate(args):
                self.add_module(str(k), module)

    def _part(self, items) -> Sequential:
        return Sequential(OrderedDict(items))

    def forward(self, input):
        """The modules one after the other; a row of plain layers is recorded as one call."""
        layers = self._modules.values()
        if modes.watch or not isinstance(input, Tensor):
            for module in layers:
                input = module(input)
            return input
        row: list = []
        for module in layers:
            kind = module.kind() if isinstance(module, Plain) else None
            if kind is not None:
                row.append((module, kind))
                continue
            input = module(_through(row, input))
            row = []
        return _through(row, input)


def _through(row: list, input):
    """`input` through plain layers: pairs of a layer and its kind.

    A layer is plain if its result depends on its input, its parameters and its kind alone (see
    ``layers.Plain``), so that a trace of it holds for every call.
    """
    if len(row) < 2 or not isinstance(input, Tensor):
        for module, _ in row:
            input = module(input)
        return input
    kinds = tuple([kind for _, kind in row])
    parameters = [p for module, _ in row for p in module._parameters.values() if p is not None]

    def run(x, *given):
        rest = iter(given)
        for layer, *settings in kinds:
            x = layer.compute(x, rest, *settings)
        return x

    return as_one("sequential", kinds, run, [input, *parameters])


class ModuleList(_Sequence):
    """A list of modules; it is not called itself."""

    def __init__(self, modules=None):
        super().__init__()
        self.extend(modules or ())

    def _part(self, items) -> ModuleList:
        return ModuleList(module for _, module in items)

    def __iadd__(self, modules) -> ModuleList:
        return self.extend(modules)


class ModuleDict(Module):
    """Modules by name; it is not called itself."""

    def __init__(self, modules=None):
        super().__init__()
        self.update(modules or {})

    def update(self, modules) -> None:
        """Add modules from a mapping or from pairs."""
        for name, module in modules.items() if hasattr(modules, "items") else modules:
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, name) -> bool:
        return name in self._modules

    def pop(self, name: str) -> Module:
        """Take a module out."""
        return self._modules.pop(name)

    def clear(self) -> None:
        """Take all modules out."""
        self._modules.clear()

    def keys(self):
        """The names."""
        return self._modules.keys()

    def values(self):
        """The modules."""
        return self._modules.values()

    def items(self):
        """(name, module) pairs."""
        return self._modules.items()


class ParameterList(Module):
    """A list of parameters; tensors that are put in become parameters."""

    def __init__(self, values=None):
        super().__init__()
        self.extend(values or ())

    def append(self, value: Tensor) -> ParameterList:
        """Add a parameter at the end. Returns the list."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values) -> ParameterList:
        """Add parameters at the end. Returns the list."""
        for value in values:
            self.append(value)
        return self

    def __iadd__(self, values) -> ParameterList:
        return self.extend(values)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self):
        return iter(self._parameters.values())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return list(self)[_position("ParameterList", index, len(self))]

    def __setitem__(self, index, value: Tensor) -> None:
        name = str(_position("ParameterList", index, len(self)))
        setattr(self, name, _as_parameter(value))

    def __repr__(self) -> str:
        rows = [
            f"  ({k}): Parameter containing: [{p.dtype!r} of size {'x'.join(map(str, p.shape))}]"
            for k, p in self._parameters.items()
        ]
        return "\n".join(["ParameterList(", *rows, ")"])


def _as_parameter(value: Tensor) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)
