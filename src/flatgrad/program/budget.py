"""``fg.memory_budget``: how much scratch memory a compiled program may use."""

from __future__ import annotations

from ..errors import ArgumentError

__all__ = ["budget", "memory_budget"]


class _Setting:
    bytes: int | None = None


budget = _Setting()


class memory_budget:
    """Let compiled programs recompute rather than store, for good or within a ``with`` block.

    What a program needs besides its inputs and results, its arena, stays within the budget: values of the
    forward part that the backward part reads are computed a second time where they don't fit. A
    signature is compiled at its first evaluation while there is a budget. Functions of ``fg.jit`` and
    ``fg.compile`` keep the budget that was set when they were compiled.

    Parameters
    ----------
    bytes : int or None
        None lifts the budget.

    Raises
    ------
    ArgumentError
        If `bytes` is no number of bytes.
    BudgetError
        By the program that cannot keep to it; the message says the least that it needs.

    Examples
    --------
    >>> import flatgrad as fg
    >>> with fg.memory_budget(64 * 1024):
    ...     fg.explain(fg.tensor([1.0, 2.0]).exp().sum()).memory["budget"]
    65536
    """

    def __init__(self, bytes: int | None):
        if bytes is not None and (
            isinstance(bytes, bool) or not isinstance(bytes, int) or bytes < 0
        ):
            raise ArgumentError(
                f"memory_budget: a number of bytes, 0 or more, or None is required, got {bytes!r}"
            )
        self.before = budget.bytes
        budget.bytes = bytes

    def __enter__(self) -> memory_budget:
        return self

    def __exit__(self, *exc) -> None:
        budget.bytes = self.before
