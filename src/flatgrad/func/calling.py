"""How a traced function is called: its arguments by position and name, static and donated ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

from ..errors import ArgumentError
from .example import Example
from .tracing import Traced, kind_of
from .tree import flatten, paths, unflatten

__all__ = ["Calling"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Calling:
    """The arguments of one function.

    Attributes
    ----------
    parameters : dict of str to inspect.Parameter
    by_name : tuple of str
        Names of the leading positional parameters; None for those that cannot be given by name.
    static : tuple of str
        Names of the arguments that are part of a signature.
    donate : tuple of int
        Positions of the arguments that are given up.
    """

    def __init__(self, function: Callable, label: str, argnums, argnames, donate):
        self.function, self.label = function, label
        self.parameters = _parameters(function)
        self.by_name = tuple(_leading_names(self.parameters))
        self.static = _static_names(label, self.parameters, argnums, argnames)
        self.donate = _numbers("donate_argnums", donate)

    def example(self, args: tuple, kwargs: dict) -> Example:
        """The function traced for these arguments as a call would trace it."""
        static: tuple = ()
        if self.static:
            args, kwargs, static = self.apart(args, kwargs)
        elif kwargs:
            kwargs = dict(kwargs)
            args = self.in_place(args, kwargs)
        leaves, spec = flatten((args, kwargs))
        found = self.traced(args, kwargs, leaves, spec if kwargs else spec.children[0], static)
        return replace(found, arguments=spec)

    def traced(self, args, kwargs, leaves, spec, static) -> Example:
        """The function traced for leaves of ``(args, kwargs)``, or of ``args`` if nothing goes by name."""
        names = self.names(args, kwargs, spec)
        kinds = [kind_of(self.label, x, n) for x, n in zip(leaves, names, strict=True)]
        traced = Traced(self.label, self.flat(spec, bool(kwargs), static), kinds)
        donated = () if kwargs else self.donated_leaves(spec)
        return Example(traced, names, kinds, leaves, spec, donated)

    def in_place(self, args: tuple, kwargs: dict) -> tuple:
        """`args` and those that follow by name, taken out of `kwargs`: ``f(x=1)`` is ``f(1)``."""
        found = list(args)
        for name in self.by_name[len(args) :]:
            if name not in kwargs:
                break
            found.append(kwargs.pop(name))
        return tuple(found)

    def apart(self, args: tuple, kwargs: dict):
        """(the arguments to trace, by position and keyword; the static ones)."""
        try:
            given = inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.label}: {error}") from None
        given.apply_defaults()
        static = tuple([(n, given.arguments[n]) for n in self.static if n in given.arguments])
        try:
            hash(static)
        except TypeError:
            name, value = next((n, v) for n, v in static if not _hashable(v))
            raise ArgumentError(
                f"{self.label}: the static argument {name} must be hashable, since its value is part of the "
                f"signature, got {type(value).__name__}; give a tuple instead of a list, or do not declare "
                "it static"
            ) from None
        static = tuple([(n, v, type(v)) for n, v in static])  # 1 is not 1.0, nor True
        names = set(self.static)
        left = [(n, v) for n, v in given.arguments.items() if n not in names]
        variadic = {p.name: p.kind for p in self.parameters.values()}
        args, kwargs = [], {}
        for name, value in left:
            kind = variadic[name]
            if kind is inspect.Parameter.VAR_KEYWORD:
                kwargs |= value
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                kwargs |= {f"*{name}": tuple(value)} if value else {}
            else:
                kwargs[name] = value
        return (), kwargs, static

    def donated_leaves(self, spec) -> tuple[int, ...]:
        """Positions, among all leaves, of those of the donated arguments."""
        counts = [child.count for child in spec.children]
        starts = [sum(counts[:k]) for k in range(len(counts))]
        return tuple(
            [starts[k] + j for k in self.donate if k < len(counts) for j in range(counts[k])]
        )

    def flat(self, spec, keywords: bool, static: tuple) -> Callable:
        """The function of the leaves alone."""
        fixed = {n: v for n, v, _ in static}

        def of_leaves(tensors):
            tree = unflatten(spec, tensors)
            args, kwargs = tree if keywords else (tree, {})
            if self.static:
                more = [k for k in kwargs if k.startswith("*")]
                values = {**kwargs, **fixed}
                order = inspect.signature(self.function).parameters
                positional = [p for p in order.values() if p.kind in _POSITIONAL]
                if more:
                    args = [values.pop(p.name) for p in positional]
                    return self.function(*args, *values.pop(more[0]), **values)
                only = [p.name for p in positional if p.kind is inspect.Parameter.POSITIONAL_ONLY]
                return self.function(*[values.pop(n) for n in only], **values)
            return self.function(*args, **kwargs)

        return of_leaves

    def names(self, args, kwargs, spec) -> list[str]:
        positional = [p.name for p in self.parameters.values() if p.kind in _POSITIONAL]
        rest = next(
            (n for n, p in self.parameters.items() if p.kind is inspect.Parameter.VAR_POSITIONAL),
            "args",
        )
        args_spec = spec.children[0] if kwargs else spec
        found: list[str] = []
        for k, child in enumerate(args_spec.children):
            name = positional[k] if k < len(positional) else f"{rest}[{k - len(positional)}]"
            found += paths(child, name)
        if kwargs:
            keywords = spec.children[1]
            for name, child in zip(keywords.context, keywords.children, strict=True):
                found += paths(child, name.lstrip("*"))
        return found


def _parameters(f: Callable) -> dict:
    try:
        return dict(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        return {}


def _leading_names(parameters: dict):
    """Names of the positional parameters; those that cannot be given by name are None."""
    for p in parameters.values():
        if p.kind not in _POSITIONAL:
            return
        yield p.name if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD else None


def _numbers(what: str, numbers) -> tuple[int, ...]:
    numbers = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    for k in numbers:
        if isinstance(k, bool) or not isinstance(k, int) or k < 0:
            raise ArgumentError(f"jit: {what} must be positions from 0, got {k!r}")
    return numbers


def _static_names(label: str, parameters: dict, argnums, argnames) -> tuple[str, ...]:
    """The names of the static arguments."""
    argnames = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    argnums = _numbers("static_argnums", argnums)
    if not argnames and not argnums:
        return ()
    positional = [p.name for p in parameters.values() if p.kind in _POSITIONAL]
    for k in argnums:
        if k >= len(positional):
            raise ArgumentError(
                f"jit: static_argnums has {k}, but {label} has only {len(positional)} positional arguments"
            )
    for name in argnames:
        if name not in parameters:
            raise ArgumentError(
                f"jit: static_argnames has {name!r}, but the arguments of {label} are "
                f"{', '.join(parameters)}"
            )
    return tuple(dict.fromkeys([*[positional[k] for k in argnums], *argnames]))


def _hashable(x) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True
