"""Which loops may run on several threads, and what of the arena each thread then has for itself.

A loop of the program's top level qualifies if its iterations write different elements. Fusion guarantees
that a plain store writes an element once, and that what a loop reads of its own results belongs to the
same iteration, so it is enough that every index of a buffer it writes moves with the loop. What is added
to must move by more than one iteration spans. A buffer that only this loop uses, and each iteration anew, is
scratch memory: every thread gets its own.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from . import ir
from .index import build, linear, value_range
from .ir import Buffer
from .nest import expressions, loads_of, reads_of

# Scalar operations that are worth the threads: starting and joining them takes some microseconds.
WORTH = 200_000

# Bytes of scratch memory that a thread may have on its stack.
SCRATCH = 16 * 1024


def mark(body: list) -> list:
    """`body`, whose loops for several threads are marked (``For.private``)."""
    return [
        _marked(s, [x for x in body if x is not s]) if isinstance(s, ir.For) else s for s in body
    ]


def _marked(loop: ir.For, others: list) -> ir.For:
    if loop.serial or loop.stop is not None or loop.axis.extent < 2 or work([loop]) < WORTH:
        return loop
    private = _private(loop, others)
    return loop if private is None else replace(loop, private=private)


def work(body: list, times: int = 1) -> int:
    """About how many scalar operations run."""
    total = 0
    for s in body:
        if isinstance(s, ir.For):
            total += work(s.body, times * s.axis.extent)
        elif isinstance(s, ir.Tile):
            lanes = sum(n for v in s.cols for _, n in v)
            total += sum(
                times * prod(a.extent for a in w.axes) * len(s.rows) * lanes for w in s.walks
            )
        elif isinstance(s, ir.Gemm):
            total += times * s.m * s.n * s.k
        elif isinstance(s, ir.COMPOUND):
            total += sum(work(b, times) for b in ir.bodies(s))
        else:
            total += times * sum(_size(e) for e in expressions(s))
    return total


def _size(e: ir.Expr) -> int:
    """Operations of an expression, those of scalar functions counted as a dozen."""
    seen, stack, total = set(), [e], 0
    while stack:
        x = stack.pop()
        if x in seen or x.kind in ("const", "var"):
            continue
        seen.add(x)
        total += 12 if x.kind == "call" else 1
        stack.extend(x.args)
    return total


def _private(loop: ir.For, others: list) -> tuple | None:
    """The buffers that each thread needs for itself; None if iterations depend on each other."""
    inside, outside = list(_walk(loop.body)), list(_walk(others))
    if any(isinstance(s, (ir.Check, ir.While, ir.If)) for s in inside):
        return None
    names = _names(inside)
    if names & (_names(outside) | _used(outside)) or _used([loop]) & names:
        return None
    uses = _accesses(inside)
    elsewhere = {b for b, _, _ in _accesses(outside)}
    written = dict.fromkeys(b for b, _, how in uses if how)
    scratch: list[Buffer] = []
    axis = ir.var(loop.axis)
    for buffer in written:
        mine = [(linear(at), how) for b, at, how in uses if b is buffer]
        moves = {form[0].get(axis, 0) for form, _ in mine}
        if moves == {0} and buffer.role == "arena" and buffer not in elsewhere:
            scratch.append(buffer)
            continue
        adds = any(how == "add" for _, how in mine)
        if len(moves) != 1 or moves == {0} or (adds and not _apart(mine, axis, *moves)):
            return None
    size = sum(-(-b.size * b.dtype.itemsize // 64) * 64 for b in scratch)
    return tuple(scratch) if size <= SCRATCH else None


def _apart(forms, axis, move: int) -> bool:
    """Whether an iteration stays within the elements by which the next one has moved on."""
    ranges = []
    for (terms, offset), _ in forms:
        rest = {atom: k for atom, k in terms.items() if atom is not axis}
        ranges.append(value_range(build((rest, offset))))
    return max(b for _, b in ranges) - min(a for a, _ in ranges) < abs(move)


def _walk(body: list):
    for s in body:
        yield s
        for inner in ir.bodies(s):
            yield from _walk(inner)


def _names(statements) -> set[str]:
    """The names that statements give a value."""
    return {s.name for s in statements if isinstance(s, (ir.Let, ir.Set, ir.Accum))}


def _used(statements) -> set[str]:
    found, seen = set(), set()
    stack = [e for s in statements for e in expressions(s)]
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.kind == "var" and type(e.arg) is str:
            found.add(e.arg)
        stack.extend(e.args)
    return found


def _accesses(statements) -> list[tuple]:
    """(buffer, index, how): how is "" for reading, "store" and "add" for writing."""
    found = []
    for s in statements:
        if isinstance(s, ir.COMPOUND):
            found += [(e.arg, e.args[0], "") for e in loads_of(expressions(s))]
            continue
        found += [(b, at, "") for b, at in reads_of(s)]
        if isinstance(s, ir.Store):
            found.append((s.buffer, s.at, "store"))
        elif isinstance(s, ir.AccumStore):
            found.append((s.buffer, s.at, "add"))
        elif isinstance(s, ir.Tile):
            found.append((*s.written(), "add" if s.accumulate else "store"))
        elif isinstance(s, ir.Gemm):
            buffer, offset, rs, cs = s.c
            at = offset + ir.var(ir.Axis(s.m, "r")) * rs + ir.var(ir.Axis(s.n, "c")) * cs
            found.append((buffer, at, "add" if s.accumulate else "store"))
    return found
