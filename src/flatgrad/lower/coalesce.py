"""Two buffers become one where the second is written over the first as the first is read for the last time.

``y[i] = f(b[i])`` needs no memory of its own for ``b`` if nobody reads ``b`` afterwards: what computes
``b`` then writes to ``y``'s memory. So the exponentials of a softmax lie where the result goes, and a sum
with a bias where the product lay.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import ir
from .body import accesses, drop_dead, rebuffered
from .index import build, linear, value_range
from .ir import Buffer, Expr
from .nest import expressions, loads_of, reads_of


@dataclass
class Use:
    """One access: the compound statements around it, its place in each of their bodies, the index."""

    path: tuple
    order: tuple
    at: Expr
    writes: bool
    statement: object

    @property
    def top(self) -> int:
        return self.order[0]


def coalesce(body: list) -> list:
    """`body` with fewer arena buffers, as far as results can be written over what they are computed from."""
    uses = _uses(body)
    merged: dict[Buffer, Buffer] = {}
    for target in sorted(uses, key=lambda b: uses[b][0].order):
        store = _only_store(target, uses[target])
        if store is None:
            continue
        for buffer, places in uses.items():
            if not _may_hold(buffer, target) or places[-1].top != store.top:
                continue
            if _in_place([u for u in places if u.top == store.top], store):
                merged[buffer] = target
                uses[target] = uses.pop(buffer) + uses[target]
                break
    if not merged:
        return body
    body = rebuffered(body, {b: _placed(_end(b, merged)) for b in merged})
    return drop_dead(_without_idle(body, {_end(b, merged) for b in merged}))


def _end(buffer: Buffer, merged: dict) -> Buffer:
    while buffer in merged:
        buffer = merged[buffer]
    return buffer


def _placed(target: Buffer):
    return lambda at: (target, at)


def _without_idle(body: list, buffers: set) -> list:
    """`body` without stores of what is there already: copies, before the two buffers became one."""
    out: list = []
    held: dict[Expr, Expr] = {}  # names of what these buffers hold
    for s in body:
        if isinstance(s, ir.COMPOUND):
            s = ir.with_bodies(s, [_without_idle(b, buffers) for b in ir.bodies(s)])
            held = {}
            if isinstance(s, ir.For) and not s.body:
                continue
        elif isinstance(s, ir.Let) and s.value.kind == "load" and s.value.arg in buffers:
            held[ir.var(s.name, s.value.dtype)] = s.value
        elif isinstance(s, ir.Store) and s.buffer in buffers:
            if held.get(s.value, s.value) is ir.load(s.buffer, s.at):
                continue
            held = {name: load for name, load in held.items() if load.arg is not s.buffer}
        elif isinstance(s, (ir.AccumStore, ir.Gemm, ir.Tile)):
            held = {}
        out.append(s)
    return out


def _uses(body: list) -> dict[Buffer, list[Use]]:
    """All accesses of each buffer, in program order."""
    found: dict[Buffer, list[Use]] = {}

    def walk(statements: list, path: tuple, order: tuple) -> None:
        for k, s in enumerate(statements):
            place = (*order, k)
            if isinstance(s, ir.COMPOUND):
                for e in loads_of(expressions(s)):
                    add(e.arg, Use(path, place, e.args[0], False, s))
                for inner in ir.bodies(s):
                    walk(inner, (*path, s), place)
                continue
            for buffer, at in reads_of(s):
                add(buffer, Use(path, place, at, False, s))
            if isinstance(s, (ir.Store, ir.AccumStore)):
                add(s.buffer, Use(path, place, s.at, True, s))
            elif isinstance(s, (ir.Gemm, ir.Tile)):
                for buffer, at, _ in accesses([s]):
                    add(buffer, Use(path, place, at, buffer is s.c[0], s))

    def add(buffer: Buffer, use: Use) -> None:
        found.setdefault(buffer, []).append(use)

    walk(body, (), ())
    return found


def _only_store(buffer: Buffer, uses: list[Use]) -> Use | None:
    """The plain store that is a result's first use and its only write."""
    first = uses[0]
    plain = first.writes and isinstance(first.statement, ir.Store)
    if buffer.role == "in" or not plain or any(u.writes for u in uses[1:]):
        return None
    return first


def _may_hold(buffer: Buffer, target: Buffer) -> bool:
    same = buffer.dtype is target.dtype and buffer.size == target.size
    return same and buffer is not target and buffer.role == "arena"


def _in_place(uses: list[Use], store: Use) -> bool:
    """Whether what a store overwrites is read before it or by it, and by nothing else.

    The loops that hold all of this divide the buffer into parts, one an iteration. Within an iteration, other
    statements come first; the store's own body reads just the element that it overwrites.
    """
    every = [*uses, store]
    if any(not isinstance(s, ir.For) or s.serial for u in every for s in u.path):
        return False
    depth = min(len(u.path) for u in every)
    while any(a is not b for u in uses for a, b in zip(u.path[:depth], store.path, strict=False)):
        depth -= 1
    if not _divided([s.axis for s in store.path[:depth]], [u.at for u in every]):
        return False
    own = linear(store.at)[0]
    if any(ir.var(s.axis) not in own for s in store.path if s.axis.extent != 1):
        return False
    for u in uses:
        if u.order[depth] > store.order[depth]:
            return False
        if u.order[depth] == store.order[depth]:
            together = u.order[:-1] == store.order[:-1] and u.order[-1] <= store.order[-1]
            if not together or u.at is not store.at:
                return False
    return True


def _divided(axes: list, indices: list[Expr]) -> bool:
    """Whether each iteration of the loops over `axes` touches a part of its own, the same for all indices."""
    moves = [tuple(linear(at)[0].get(ir.var(a), 0) for a in axes) for at in indices]
    if len(set(moves)) != 1:
        return False
    low, high = float("inf"), float("-inf")
    outer = {ir.var(a) for a in axes}
    for at in indices:
        terms, offset = linear(at)
        first, last = value_range(
            build(({t: c for t, c in terms.items() if t not in outer}, offset))
        )
        low, high = min(low, first), max(high, last)
    reach = high - low
    for step, extent in sorted((abs(m), a.extent) for m, a in zip(moves[0], axes, strict=True)):
        if step <= reach and extent != 1:
            return False
        reach += step * (extent - 1)
    return True
