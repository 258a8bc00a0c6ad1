"""``Module``: parameters, buffers and submodules by attribute, as PyTorch's."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

from ..autograd.modes import no_grad
from ..errors import ArgumentError
from ..graph.dtypes import as_dtype, float32, float64
from ..graph.node import leaf
from ..optim.optimizer import clear_grads
from ..tensor import Tensor, bind, late, node_of, wrap
from ..writing import assign
from .parameter import Parameter

_Keys = namedtuple("_Keys", ["missing_keys", "unexpected_keys"])


class IncompatibleKeys(_Keys):
    """What :meth:`Module.load_state_dict` found: names missing, and names it did not expect."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()


class Handle:
    """Removes a hook again: ``handle.remove()``, or the end of a ``with`` statement."""

    def __init__(self, hooks: dict, hook):
        self._hooks = hooks
        hooks[id(self)] = hook

    def remove(self) -> None:
        self._hooks.pop(id(self), None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_) -> None:
        self.remove()


class Module:
    """Base of layers and models: override ``__init__`` and ``forward``.

    ``__init__`` calls ``super().__init__()`` first. Assigning a :class:`Parameter` or
    a Module to an attribute registers it.

    Examples
    --------
    >>> import flatgrad as fg
    >>> class Line(fg.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.slope = fg.nn.Parameter(fg.tensor(2.0))
    ...     def forward(self, x):
    ...         return self.slope * x
    >>> line = Line()
    >>> line(fg.tensor([1.0, 2.0]))
    tensor([2., 4.], grad_fn=<MulBackward0>)
    >>> [name for name, _ in line.named_parameters()]
    ['slope']
    """

    training: bool = True

    def __init__(self):
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _transient=set(),
            _forward_hooks={},
            _forward_pre_hooks={},
        )

    def forward(self, *args, **kwargs):
        """What a call computes. Every module defines it."""
        raise ArgumentError(
            f'Module [{type(self).__name__}] is missing the required "forward" function; define '
            "forward(self, ...)"
        )

    def __call__(self, *args, **kwargs):
        if not self._forward_hooks and not self._forward_pre_hooks:
            return self.forward(*args, **kwargs)
        for hook in tuple(self._forward_pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in tuple(self._forward_hooks.values()):
            changed = hook(self, args, result)
            if changed is not None:
                result = changed
        return result

    def register_forward_pre_hook(self, hook) -> Handle:
        """Call ``hook(module, args)`` before forward; what it returns replaces the arguments."""
        return Handle(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook) -> Handle:
        """Call ``hook(module, args, output)`` after forward; its result replaces the output."""
        return Handle(self._forward_hooks, hook)

    # -- attributes -------------------------------------------------------------------------------

    def __setattr__(self, name: str, value) -> None:
        registers = self.__dict__.get("_parameters")
        if registers is None:
            if isinstance(value, (Parameter, Module)):
                kind = "parameters" if isinstance(value, Parameter) else "module"
                raise AttributeError(
                    f"cannot assign {kind} before Module.__init__() call; "
                    f"call super().__init__() first in {type(self).__name__}.__init__"
                )
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._forget(name, self._parameters)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, self._modules)
            self._modules[name] = value
        elif name in self._parameters:
            self._set_existing(self._parameters, name, value, "parameter", "Parameter")
        elif name in self._modules:
            self._set_existing(self._modules, name, value, "child module", "Module")
        elif name in self._buffers and (value is None or isinstance(value, Tensor)):
            self._buffers[name] = value
        elif name in self._buffers:
            self._set_existing(self._buffers, name, value, "buffer", "Tensor")
        else:
            object.__setattr__(self, name, value)

    def _set_existing(self, register: dict, name: str, value, kind: str, wanted: str) -> None:
        if value is not None:
            raise TypeError(
                f"cannot assign {type(value).__name__!r} object to {kind} {name!r} "
                f"({wanted} or None required)"
            )
        register[name] = None

    def _forget(self, name: str, keep: dict) -> None:
        """Take `name` out of wherever it is but `keep`, where it keeps its place."""
        self.__dict__.pop(name, None)
        for register in (self._parameters, self._buffers, self._modules):
            if register is not keep:
                register.pop(name, None)
        self._transient.discard(name)

    def __getattr__(self, name: str):
        for register in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(register, {})
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for register in (self._parameters, self._buffers, self._modules):
            if name in register:
                del register[name]
                self._transient.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self):
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _check_name(self, name: str, register: dict) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name must be a string, got {type(name).__name__}")
        if "." in name or not name:
            raise KeyError(f'the name can\'t be empty or contain ".", got {name!r}')
        if name not in register and hasattr(self, name):
            raise KeyError(f"attribute {name!r} already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or None as a place for one.

        Raises
        ------
        TypeError, KeyError, ArgumentError
            For something else, a name that is taken, or a tensor that was computed.
        """
        self._check_name(name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign {type(param).__name__!r} object to parameter {name!r} "
                "(flatgrad.nn.Parameter or None required)"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is not trained; a `persistent` one is in the state_dict."""
        self._check_name(name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign {type(tensor).__name__!r} object to buffer {name!r} "
                "(Tensor or None required)"
            )
        self._buffers[name] = tensor
        if persistent:
            self._transient.discard(name)
        else:
            self._transient.add(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Alias of :meth:`add_module`."""
        self.add_module(name, module)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under `name`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name(name, self._modules)
        self._modules[name] = module

    def get_submodule(self, target: str) -> Module:
        """The submodule of that dotted name.

        Raises
        ------
        AttributeError
            If there is none.
        """
        module = self
        for name in target.split(".") if target else ():
            module = module._modules.get(name)
            if module is None:
                raise AttributeError(f"{type(self).__name__} has no submodule {target!r}")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of that dotted name."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._parameters.get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no parameter {target!r}")
        return found

    # -- walking ----------------------------------------------------------------------------------

    def named_modules(self, memo: set | None = None, prefix: str = "", remove_duplicate=True):
        """(dotted name, module) of the module itself and all below it, each once."""
        memo = set() if memo is None else memo
        if remove_duplicate and self in memo:
            return
        memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                inner = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, inner, remove_duplicate)

    def modules(self):
        """The module itself and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self):
        """(name, module) of the direct submodules, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self):
        """The direct submodules."""
        for _, module in self.named_children():
            yield module

    def _named(self, register: str, prefix: str, recurse: bool, remove_duplicate: bool):
        seen = set()
        walk = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in walk:
            for name, tensor in module.__dict__[register].items():
                if tensor is None or (remove_duplicate and tensor in seen):
                    continue
                seen.add(tensor)
                yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate=True):
        """(dotted name, parameter) of all parameters, each once."""
        yield from self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True):
        """All parameters, each once."""
        for _, p in self.named_parameters(recurse=recurse):
            yield p

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate=True):
        """(dotted name, tensor) of all buffers, each once."""
        yield from self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True):
        """All buffers, each once."""
        for _, b in self.named_buffers(recurse=recurse):
            yield b

    # -- modes ------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Set training mode (Dropout drops) here and below. Returns the module."""
        if not isinstance(mode, bool):
            raise ArgumentError(f"train: mode must be a bool, got {type(mode).__name__}")
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self) -> Module:
        """Leave training mode. Returns the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Whether the parameters are trained. Returns the module."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the parameters' gradients (or make them zero)."""
        clear_grads(self.parameters(), set_to_none)

    def apply(self, fn) -> Module:
        """Call ``fn(module)`` on every module, children first. Returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self, *args, dtype=None, device=None, non_blocking=False) -> Module:
        """Convert floating-point parameters and buffers to a dtype, in place. Returns the module.

        Raises
        ------
        ArgumentError
            If the dtype is not floating-point.
        """
        for arg in args:
            if isinstance(arg, Tensor):
                dtype = arg.dtype
            elif isinstance(arg, str) and arg.partition(":")[0] == "cpu":
                continue
            elif arg is not None and not isinstance(arg, bool):
                dtype = arg
        if dtype is None:
            return self
        dtype = as_dtype(dtype)
        if not dtype.is_floating_point:
            raise ArgumentError(f"Module.to: a floating-point dtype is required, got {dtype!r}")
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.dtype.is_floating_point and tensor.dtype is not dtype:
                _convert(tensor, dtype)
        return self

    def float(self) -> Module:
        """Parameters and buffers in float32, in place."""
        return self.to(float32)

    def double(self) -> Module:
        """Parameters and buffers in float64, in place."""
        return self.to(float64)

    def cpu(self) -> Module:
        """The module itself: it is on the CPU."""
        return self

    # -- state ------------------------------------------------------------------------------------

    def state_dict(self, destination=None, prefix: str = "", keep_vars: bool = False):
        """All parameters and persistent buffers by dotted name; they share the module's memory."""
        found = OrderedDict() if destination is None else destination
        for name, tensor in self._own_state():
            found[prefix + name] = tensor if keep_vars else tensor.detach()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(found, f"{prefix}{name}.", keep_vars)
        return found

    def _own_state(self):
        for name, p in self._parameters.items():
            if p is not None:
                yield name, p
        for name, b in self._buffers.items():
            if b is not None and name not in self._transient:
                yield name, b

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Copy values from a :meth:`state_dict`.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
        strict : bool
            Raise if names are missing or unexpected.
        assign : bool
            Make the module hold the given values and dtypes, instead of converting into its own.

        Returns
        -------
        (missing_keys, unexpected_keys)

        Raises
        ------
        ArgumentError
            Naming every missing or unexpected key and every size mismatch; nothing is loaded then.
        """
        if not hasattr(state_dict, "keys"):
            raise TypeError(
                "load_state_dict: expected a dict of names to tensors, "
                f"got {type(state_dict).__name__}"
            )
        own = self.state_dict(keep_vars=True)
        missing = [k for k in own if k not in state_dict]
        unexpected = [k for k in state_dict if k not in own]
        errors = _key_errors(missing, unexpected) if strict else []
        for key, tensor in own.items():
            if key in state_dict:
                errors += _misfit(key, tensor, state_dict[key])
        if errors:
            raise ArgumentError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t"
                + "\n\t".join(errors)
            )
        for key, tensor in own.items():
            if key in state_dict:
                _convert(tensor, state_dict[key].dtype if assign else tensor.dtype, state_dict[key])
        return IncompatibleKeys(missing, unexpected)

    # -- printing ---------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What is printed between a module's brackets."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, module in self._modules.items():
            lines.append(f"({name}): " + repr(module).replace("\n", "\n  "))
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        head = [extra] if extra else []
        return f"{type(self).__name__}(\n  " + "\n  ".join(head + lines) + "\n)"


def _key_errors(missing: list, unexpected: list) -> list[str]:
    errors = []
    for kind, keys in (("Missing", missing), ("Unexpected", unexpected)):
        if keys:
            errors.append(
                f"{kind} key(s) in state_dict: " + ", ".join(f'"{k}"' for k in keys) + ". "
            )
    return errors


def _misfit(key: str, tensor: Tensor, value) -> list[str]:
    if not isinstance(value, Tensor):
        return [
            f"{key}: expected a Tensor, got {type(value).__name__}; wrap it with flatgrad.tensor."
        ]
    if value.shape != tensor.shape:
        return [
            f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
            f"the shape in current model is {tensor.shape}."
        ]
    return []


def _convert(tensor: Tensor, dtype, values: Tensor | None = None) -> None:
    """Give `tensor` the values (or its own) in `dtype`, without a trace in any graph."""
    source = node_of(tensor if values is None else values)
    late.evaluate([source])
    target = node_of(tensor)
    array = source.value.astype(dtype.np)
    if dtype is target.dtype:
        with no_grad():
            assign("load_state_dict", tensor, wrap(leaf(array, dtype)))
        return
    grad = tensor.grad
    bind(tensor, leaf(array, dtype, target.requires_grad))
    tensor.grad = None if grad is None else grad.detach().to(dtype)
