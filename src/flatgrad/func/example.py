"""A function traced for an example of its arguments: what `compile`, `jit` and `export` begin with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError
from .tracing import Kind, Traced, kind_of
from .tree import Spec, flatten, paths, unflatten

__all__ = ["Example", "traced_example"]


@dataclass
class Example:
    """A function, traced.

    Attributes
    ----------
    traced : Traced
        The function of the leaves alone.
    names, kinds, leaves : list
        Of the arguments: how a user writes them, what they are, their values.
    arguments : Spec
        Their structure.
    donated : tuple of int
        Positions among the leaves.
    """

    traced: Traced
    names: list[str]
    kinds: list[Kind]
    leaves: list
    arguments: Spec
    donated: tuple[int, ...]


def traced_example(caller: str, f: Callable, args: tuple, keywords: dict, donate) -> Example:
    """`f` traced for these arguments; `caller` names the function that the user called.

    Raises
    ------
    TraceError, ArgumentError, DTypeError
        As ``fg.compile``.
    """
    leaves, spec = flatten((args, keywords))
    names = _argument_names(f, spec, len(args))
    kinds = [_kind(x, n) for x, n in zip(leaves, names, strict=True)]

    def flat(tensors):
        given, by_name = unflatten(spec, tensors)
        return f(*given, **by_name)

    traced = Traced(caller, flat, kinds, weak=False)
    return Example(traced, names, kinds, leaves, spec, _donated(caller, donate, spec))


def _donated(name: str, numbers, spec: Spec) -> tuple[int, ...]:
    """Positions, among all leaves, of those of the donated arguments."""
    counts = [child.count for child in spec.children[0].children]
    found: list[int] = []
    for k in (numbers,) if isinstance(numbers, int) else numbers:
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < len(counts):
            raise ArgumentError(
                f"{name}: donate_argnums must be positions of the {len(counts)} arguments, got {k!r}"
            )
        start = sum(counts[:k])
        found += range(start, start + counts[k])
    return tuple(found)


def _kind(x, name: str) -> Kind:
    kind = kind_of("compile", x, name)
    if isinstance(x, np.generic):
        kind.number = True
    return kind


def _argument_names(f: Callable, spec: Spec, count: int) -> list[str]:
    """How a user writes each leaf of ``(args, kwargs)``: ``params['w']``."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
    args = [named[k] if k < len(named) else f"{rest}[{k - len(named)}]" for k in range(count)]
    found: list[str] = []
    for name, child in zip(args, spec.children[0].children, strict=True):
        found += paths(child, name)
    keywords = spec.children[1]
    for name, child in zip(keywords.context, keywords.children, strict=True):
        found += paths(child, name)
    return found
