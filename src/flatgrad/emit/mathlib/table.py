"""The table of scalar functions: name, number of arguments, accuracy, and how to build the formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...lower.ir import Expr


@dataclass(frozen=True)
class Definition:
    """A scalar function over the loop IR.

    ulp : the stated bound on the error in units in the last place, (float32, float64); ``absolute_below``
    is the magnitude under which the unit no longer shrinks (functions with zeros that aren't at 0).
    short : (whether there is a shorter way for these arguments, what it gives), for code that branches; it
    keeps to the bound, but last bits are its own.
    """

    name: str
    arity: int
    build: Callable[..., Expr]
    ulp: tuple[float, float]
    absolute_below: float = 0.0
    short: Callable[..., tuple[Expr, Expr] | None] | None = None

    @property
    def doc(self) -> str:
        return self.build.__doc__ or ""


FUNCTIONS: dict[str, Definition] = {}


def define(name: str, arity: int = 1, ulp=(1.0, 1.0), absolute_below: float = 0.0, short=None):
    """Decorator: enter a ``build(x[, y]) -> Expr`` into the table."""

    def enter(build):
        FUNCTIONS[name] = Definition(name, arity, build, ulp, absolute_below, short)
        return build

    return enter
