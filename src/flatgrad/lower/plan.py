"""The memory plan: every arena buffer gets a slot; buffers whose lifetimes don't meet share one.

Slots never overlap, which lets the printers declare them as not aliasing. Greedy best fit over
top-level statements: a buffer lives from the first to the last statement that touches it.
"""

from __future__ import annotations

from .ir import Buffer
from .passes import accesses

ALIGN = 64

# Bytes of arena that a function may have on the stack. Threads of other libraries may have 512 KB in all.
STACK = 32 * 1024


def plan(body: list) -> tuple[list[int], dict[Buffer, int]]:
    """(slot sizes in bytes, buffer -> slot)."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for k, statement in enumerate(body):
        for buffer, _, _ in accesses([statement]):
            if buffer.role == "arena":
                first.setdefault(buffer, k)
                last[buffer] = k
    slots: list[int] = []
    free_at: list[int] = []  # the statement from which a slot is free
    place: dict[Buffer, int] = {}
    for buffer in sorted(first, key=lambda b: (first[b], -b.size)):
        need = _aligned(buffer.size * buffer.dtype.itemsize)
        open_slots = [k for k, at in enumerate(free_at) if at < first[buffer]]
        best = min(open_slots, key=lambda k: _misfit(slots[k], need), default=None)
        if best is None or (slots[best] < need and len(open_slots) == 0):
            slots.append(need)
            free_at.append(last[buffer])
            place[buffer] = len(slots) - 1
        else:
            slots[best] = max(slots[best], need)
            free_at[best] = last[buffer]
            place[buffer] = best
    return slots, place


def _misfit(have: int, need: int) -> int:
    """Growing a slot costs as much memory as it grows; too large a slot costs little."""
    return (need - have) * 4 if have < need else have - need


def _aligned(size: int) -> int:
    return max(-(-size // ALIGN) * ALIGN, ALIGN)


def lower_bound(body: list) -> int:
    """The most bytes of arena that are alive at one statement: no plan can need less."""
    span: dict[Buffer, list[int]] = {}
    for k, statement in enumerate(body):
        for buffer, _, _ in accesses([statement]):
            if buffer.role == "arena":
                span.setdefault(buffer, [k, k])[1] = k
    peak = 0
    for k in range(len(body)):
        alive = [b for b, (a, z) in span.items() if a <= k <= z]
        peak = max(peak, sum(b.size * b.dtype.itemsize for b in alive))
    return peak
