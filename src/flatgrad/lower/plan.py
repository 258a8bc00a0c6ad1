"""The memory plan: every arena buffer gets a slot; buffers whose lifetimes don't meet share one.

Slots never overlap, which lets the printers declare them as not aliasing. Lifetimes go into loops: a
buffer that an iteration fills anew lives from the first to the last statement of the loop's body that touches
it. Which buffers share is a search: the largest first into the tightest slot, and from there orders
that are mixed a little, until the arena is about as small as the lifetimes allow.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from random import Random

from . import ir
from .body import accesses
from .index import axes_in
from .ir import Buffer
from .machine import present
from .nest import expressions, loads_of

# Bytes; where the scratch memory of programs for the host starts.
ALIGN = 64

# Bytes of arena that a function may have on the stack. Threads of other libraries may have 512 KB in all.
STACK = 32 * 1024

# An arena of this many times the least is good enough; the search gives up after so many buffers looked at.
CLOSE = 1.02
PATIENCE = 4000


def plan(body: list) -> tuple[list[int], dict[Buffer, int]]:
    """(slot sizes in bytes, buffer -> slot)."""
    alive = lifetimes(body)
    need = {b: _aligned(_bytes(b)) for b in alive}
    enough = CLOSE * _peak(alive, need)
    orders = [
        sorted(alive, key=lambda b: (-need[b], alive[b])),
        sorted(alive, key=lambda b: (alive[b][0], -need[b])),
    ]
    best = min((_assigned(order, alive, need) for order in orders), key=lambda p: sum(p[0]))
    mixed = Random(1)
    for _ in range(PATIENCE // max(1, len(alive)) if sum(best[0]) > STACK else 0):
        if sum(best[0]) <= enough:
            break
        order = sorted(alive, key=lambda b: -need[b] * mixed.uniform(0.6, 1.4))
        best = min(best, _assigned(order, alive, need), key=lambda p: sum(p[0]))
    slots, place = best
    return slots, {b: place[b] for b in alive}


def _assigned(order: list, alive: dict, need: dict) -> tuple[list[int], dict[Buffer, int]]:
    """Each buffer of `order` into the slot that grows least, and then into the one it fills best."""
    slots: list[int] = []
    taken: list[list] = []  # the lifetimes in a slot, in order
    place: dict[Buffer, int] = {}
    for buffer in order:
        size, span = need[buffer], alive[buffer]
        best, cost = len(slots), (size, 0)
        for k, have in enumerate(slots):
            if (max(size - have, 0), have) < cost and _fits(taken[k], span):
                best, cost = k, (max(size - have, 0), have)
        if best == len(slots):
            slots.append(0)
            taken.append([])
        slots[best] = max(slots[best], size)
        insort(taken[best], span)
        place[buffer] = best
    return slots, place


def _fits(taken: list, span: tuple) -> bool:
    """Whether `span` meets none of the lifetimes of a slot."""
    k = bisect_left(taken, span)
    before = k == 0 or taken[k - 1][1] < span[0]
    return before and (k == len(taken) or span[1] < taken[k][0])


def _bytes(buffer: Buffer) -> int:
    return buffer.size * buffer.dtype.itemsize


def _aligned(size: int) -> int:
    align = present().align
    return max(-(-size // align) * align, align)


def lower_bound(body: list) -> int:
    """The most bytes of arena that are alive at one statement: no plan can need less."""
    alive = lifetimes(body)
    return _peak(alive, {b: _bytes(b) for b in alive})


def _peak(alive: dict, need: dict) -> int:
    events = sorted(
        event for b, (a, z) in alive.items() for event in ((a, 1, need[b]), (z + 1, 0, -need[b]))
    )
    peak = now = 0
    for _, _, change in events:
        now += change
        peak = max(peak, now)
    return peak


# -- lifetimes ------------------------------------------------------------------------------------


def lifetimes(body: list) -> dict[Buffer, tuple[int, int]]:
    """{arena buffer: (first, last)}, in a numbering of all statements, nested ones included."""
    uses: dict[Buffer, list] = {}
    spans: dict[int, tuple[int, int]] = {}
    _number(body, (), 0, uses, spans)
    return {b: _life(places, spans) for b, places in uses.items()}


def _number(body: list, path: tuple, now: int, uses: dict, spans: dict) -> int:
    """Number statements from `now` on; `uses` has (path, statement, loop axes of the index)."""
    for s in body:
        start = now
        now += 1
        if isinstance(s, ir.COMPOUND):
            found = [(e.arg, e.args[0]) for e in loads_of(expressions(s))]
        else:
            found = [(buffer, at) for buffer, at, _ in accesses([s])]
        for buffer, at in found:
            if buffer.role == "arena":
                uses.setdefault(buffer, []).append((path, s, axes_in(at)))
        for k, inner in enumerate(ir.bodies(s)):
            now = _number(inner, (*path, (s, k)), now, uses, spans)
        spans[id(s)] = start, now - 1
    return now


def _life(places: list, spans: dict) -> tuple[int, int]:
    """From the first to the last statement that touches a buffer, of the innermost body that has them all.

    Into a loop only if no index moves with it: an element is always written before it is read, so what lies
    at the same place in every iteration is written anew by each.
    """
    depth = 0
    while all(depth < len(path) for path, _, _ in places):
        outer, which = places[0][0][depth]
        if any(p[depth][0] is not outer or p[depth][1] != which for p, _, _ in places):
            break
        if isinstance(outer, ir.For) and any(outer.axis in axes for _, _, axes in places):
            break
        depth += 1
    touching = [path[depth][0] if depth < len(path) else s for path, s, _ in places]
    return min(spans[id(s)][0] for s in touching), max(spans[id(s)][1] for s in touching)
