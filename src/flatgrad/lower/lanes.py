"""Reductions in a fixed number of lanes: the order of additions is the program's, not the compiler's.

A serial sum waits for each addition, and a C compiler may not put additions into another order. Here an
innermost loop that sums (multiplies, searches an extremum) adds iteration ``i`` to lane ``i % L`` of a small
array of ``role="local"``, the lanes are added by halves, and their sum is added to the accumulator. Loops
over L elements of such an array vectorise in any compiler, and give the same bits in all of them.
"""

from __future__ import annotations

from . import ir
from .ir import Axis, Buffer
from .machine import present
from .nest import expressions, fresh, identity, reads_of, substitute_statement

__all__ = ["LEAST", "lanes"]

# Fewer lanes are not worth the loops around them; reproducible programs keep the number that they were
# recorded with.
LEAST = 4
LEAST_EXACT = 8

SPREAD = ("add", "mul", "max", "min")


def lanes(body: list) -> list:
    """`body`, where innermost loops that reduce floats do it in lanes, as far as the machine has them."""
    out: list = []
    for s in body:
        if not isinstance(s, ir.COMPOUND):
            out.append(s)
            continue
        found = _accumulators(s) if isinstance(s, ir.For) else []
        count = _count(s, found) if found else 0
        if count:
            out += _spread(s, found, count)
        else:
            out.append(ir.with_bodies(s, [lanes(b) for b in ir.bodies(s)]))
    return out


def _accumulators(loop: ir.For) -> list[ir.Accum]:
    """What of a loop can be split; nothing if one iteration needs another one."""
    if loop.serial or loop.stop is not None or loop.private is not None:
        return []
    if any(isinstance(s, (*ir.COMPOUND, ir.Set, ir.Check, ir.Gemm, ir.Tile)) for s in loop.body):
        return []
    written = {s.buffer for s in loop.body if isinstance(s, (ir.Store, ir.AccumStore))}
    if any(b in written for s in loop.body for b, _ in reads_of(s)):
        return []
    every = [s for s in loop.body if isinstance(s, ir.Accum)]
    found = [s for s in every if s.op in SPREAD and s.value.dtype.is_floating_point]
    names = [s.name for s in every]
    if len(set(names)) < len(names) or not _read(loop.body).isdisjoint(names):
        return []
    return found


def _read(body: list) -> set[str]:
    """The names that an innermost body reads."""
    stack, seen = [e for s in body for e in expressions(s)], set()
    while stack:
        e = stack.pop()
        if e not in seen:
            seen.add(e)
            stack.extend(e.args)
    return {e.arg for e in seen if e.kind == "var" and type(e.arg) is str}


def _count(loop: ir.For, found: list) -> int:
    """How many lanes: a power of two, twice of which the loop fills at least; 0: leave it."""
    machine = present()
    widest = max((s.value.dtype for s in found), key=lambda d: d.itemsize)
    most = machine.split // widest.itemsize
    half, least = loop.axis.extent // 2, LEAST_EXACT if machine.exact else LEAST
    if machine.lanes(widest) == 1 or min(most, half) < least:
        return 0
    return min(most, 1 << (half.bit_length() - 1))


def _spread(loop: ir.For, found: list, count: int) -> list:
    """The loop in lanes, and their sum."""
    local = {s.name: Buffer(fresh("lanes"), s.value.dtype, count, "local", (count,)) for s in found}
    blocks, rest = divmod(loop.axis.extent, count)
    lane = Axis(count, "lane")
    fill = [ir.Store(local[s.name], ir.var(lane), identity(s.op, s.value.dtype)) for s in found]
    made: list = [ir.For(lane, fill)]
    block = Axis(blocks, loop.axis.name)
    inner = Axis(count, "lane")
    at = ir.var(block) * count + ir.var(inner)
    made.append(ir.For(block, [ir.For(inner, _moved(loop, at, ir.var(inner), local))]))
    if rest:
        inner = Axis(rest, "lane")
        at = ir.var(inner) + blocks * count
        made.append(ir.For(inner, _moved(loop, at, ir.var(inner), local)))
    half = count // 2
    while half:
        low = Axis(half, "lane")
        k = ir.var(low) if half > 1 else ir.index(0)
        step = [
            ir.AccumStore(local[s.name], k, s.op, ir.load(local[s.name], k + half)) for s in found
        ]
        made += [ir.For(low, step)] if half > 1 else step
        half //= 2
    made += [ir.Accum(s.name, s.op, ir.load(local[s.name], ir.index(0))) for s in found]
    return made


def _moved(loop: ir.For, at: ir.Expr, lane: ir.Expr, local: dict) -> list:
    """The body for iteration `at`, its sums in a lane; its names are its own."""
    mapping = {ir.var(loop.axis): at}
    out: list = []
    for s in loop.body:
        new = substitute_statement(s, mapping)
        if isinstance(s, ir.Let):
            name = fresh("v")
            mapping[ir.var(s.name, s.value.dtype)] = ir.var(name, s.value.dtype)
            new = ir.Let(name, new.value)
        elif isinstance(s, ir.Accum) and s.name in local:
            new = ir.AccumStore(local[s.name], lane, s.op, new.value)
        out.append(new)
    return out
