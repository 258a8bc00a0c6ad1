"""Budgets of RAM and flash: programs are planned within them, or refused with the figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod

from ..errors import ArgumentError, BudgetError
from .form import Form

__all__ = ["check_flash", "size_of", "within_ram"]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

# How often the arena's budget is lowered because the C needs memory besides the arena.
ROUNDS = 3


def size_of(name: str, size: int | str | None) -> int | None:
    """Bytes of ``65536`` or ``"64K"``.

    Raises
    ------
    ArgumentError
        If it is no size.
    """
    if size is None:
        return None
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+)\s*([KMG]?)(?:i?B)?\s*", size, re.IGNORECASE)
        size = int(match[1]) * _UNITS[match[2].upper()] if match else None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ArgumentError(f'export: {name} must be a number of bytes, or text like "64K"')
    return size


def within_ram(form: Form, limit: int | None, least: int | None, make: Callable):
    """``make(budget)``, a (program, printed) pair, such that a call touches at most `limit` bytes.

    `least` is the budget of the arena that holds anyway.

    Raises
    ------
    BudgetError
        If no recomputation is enough.
    """
    if limit is None:
        return make(least)
    graph = form.graph
    updated = set(form.updates)
    arguments = sum(_bytes(n) for n in graph.inputs[: len(form.names)])
    results = sum(_bytes(n) for n in graph.outputs if n not in updated)
    room = limit - arguments - results
    head = (
        f"export: {form.label} may have {limit} bytes of RAM. Its arguments and state take {arguments} "
        f"of them, its results {results}, "
    )
    if room < 0:
        raise BudgetError(f"{head}which is more already; allow more, or make the batch smaller")
    budget = room if least is None else min(room, least)
    for _ in range(ROUNDS):
        try:
            program, printed = make(budget)
        except BudgetError as error:
            raise BudgetError(f"{head}and {room} are left; {error}") from None
        if printed.work <= room:
            return program, printed
        budget = max(0, min(budget, program.arena_bytes) - (printed.work - room))
    raise BudgetError(
        f"{head}and {room} are left, where {printed.work} are needed; allow {limit + printed.work - room}, "
        "or make the batch smaller"
    )


def check_flash(form: Form, limit: int | None, constants: int) -> None:
    """Refuse constants that are larger than all of flash; code is known to compilers alone.

    Raises
    ------
    BudgetError
    """
    if limit is not None and constants > limit:
        raise BudgetError(
            f"export: the constants (weights) of {form.label} take {constants} bytes, and max_flash is "
            f"{limit}; allow more, or store them as int8 and scale them in the function"
        )


def _bytes(node) -> int:
    return prod(node.shape) * node.dtype.itemsize
