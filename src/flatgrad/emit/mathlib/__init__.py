"""Vectorisable scalar functions, written once as loop-IR expressions for float32 and float64.

``FUNCTIONS`` maps a name to its `Definition`; ``expand("exp", (x,))`` is the expression to put in place of
``ir.call("exp", x)``. The same formula is printed for Numba and for C99, so both give the same bits; in C
that need not be reproducible some functions of float64 have a shorter way (`shortcut`).
Imports ``graph`` and ``lower`` only.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...lower.ir import Expr

# Imported for the definitions that they enter into the table.
from . import exponential, gamma, hyperbolic, power, special, trigonometric  # noqa: F401
from .table import FUNCTIONS, Definition

__all__ = ["FUNCTIONS", "Definition", "expand", "shortcut"]


def expand(name: str, args: Sequence[Expr]) -> Expr:
    """The expression of function `name` at `args`, all of one dtype (float32 or float64)."""
    definition = FUNCTIONS[name]
    assert len(args) == definition.arity, (
        f"{name} takes {definition.arity} arguments, got {len(args)}"
    )
    return definition.build(*args)


def shortcut(name: str, args: Sequence[Expr]) -> tuple[Expr, Expr] | None:
    """(a condition, the function's value where it holds) for code that branches; None: there is none."""
    short = FUNCTIONS[name].short
    return None if short is None else short(*args)
