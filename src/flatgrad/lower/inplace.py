"""A buffer that is only copied into a part of another one is that part: joining arrays moves nothing.

Fusion guarantees that an element is stored before it is read. Where each element of the target is
stored once, nothing touches the part before the copy does; so what is copied may be
computed there in the first place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import ir
from .body import accesses, drop_dead, rebuffered, walk
from .index import build, has_division, linear
from .ir import Axis, Buffer, Expr
from .nest import expressions, loads_of, reads_of

# Bytes of a block that is better computed in the cache, and copied from there into an array of more bytes:
# memory likes long runs (measured, Jacobians of bundle adjustment: 1.2 times faster).
NEAR, FAR = 1 << 16, 1 << 20

# Copies of copies are found in turns; there are as many as parts of parts.
ROUNDS = 8


@dataclass
class Uses:
    """Where a buffer is written, read and copied from: (order, index, path, statement)."""

    writes: list = field(default_factory=list)
    reads: list = field(default_factory=list)
    copies: list = field(default_factory=list)
    blocks: bool = False  # whether a statement over whole blocks (Gemm, Tile) is among them

    @property
    def common(self) -> tuple:
        """The compound statements that all uses are inside of."""
        paths = [path for _, _, path, _ in (*self.writes, *self.reads)]
        shared = paths[0]
        for path in paths[1:]:
            n = 0
            while n < min(len(shared), len(path)) and shared[n] is path[n]:
                n += 1
            shared = shared[:n]
        return shared


def uses_of(body) -> dict[Buffer, Uses]:
    found: dict[Buffer, Uses] = {}
    names: dict[str, Expr] = {}
    for order, (s, path) in enumerate(walk(body)):
        copied = _copied(s, names)
        if isinstance(s, ir.Let) and s.value.kind == "load":
            names[s.name] = s.value
        if copied is not None:
            uses = found.setdefault(copied.arg, Uses())
            uses.copies.append((order, copied.args[0], path, s))
        if isinstance(s, ir.COMPOUND):
            for e in loads_of(expressions(s)):
                found.setdefault(e.arg, Uses()).reads.append((order, e.args[0], path, s))
        elif isinstance(s, (ir.Gemm, ir.Tile)):
            for buffer, at, _ in accesses([s]):
                uses = found.setdefault(buffer, Uses())
                uses.writes.append((order, at, path, s))
                uses.blocks = True
        else:
            for buffer, at in reads_of(s):
                found.setdefault(buffer, Uses()).reads.append((order, at, path, s))
            if isinstance(s, (ir.Store, ir.AccumStore)):
                uses = found.setdefault(s.buffer, Uses())
                uses.writes.append((order, s.at, path, s))
    return found


def _copied(s, names: dict) -> Expr | None:
    """What is read, if `s` stores just that."""
    if not isinstance(s, ir.Store):
        return None
    value = names.get(s.value.arg, s.value) if s.value.kind == "var" else s.value
    return value if value.kind == "load" else None


def inplace(body: list) -> list:
    """`body` without copies of whole buffers into parts of others."""
    for _ in range(ROUNDS):
        places, copies = _chosen(uses_of(body))
        if not places:
            break
        body = drop_dead(rebuffered(_without(body, copies), places))
    return body


def _without(body: list, copies: set) -> list:
    out = []
    for s in body:
        if id(s) in copies:
            continue
        if isinstance(s, ir.COMPOUND):
            s = ir.with_bodies(s, [_without(b, copies) for b in ir.bodies(s)])
            if isinstance(s, ir.For) and not s.body:
                continue
        out.append(s)
    return out


def _chosen(uses: dict[Buffer, Uses]) -> tuple[dict, set]:
    """({buffer: its index in -> (the target, the index there)}, ids of the copies), none of them chained."""
    places: dict = {}
    copies: set = set()
    targets: set[Buffer] = set()
    once: dict[Buffer, bool] = {}
    for buffer, own in uses.items():
        if buffer.role != "arena" or buffer in targets:
            continue
        for order, at, path, s in own.copies:
            target = s.buffer
            if target in places or target.role == "in" or target.dtype is not buffer.dtype:
                continue
            if _staged(buffer, target):
                continue
            if target not in once:
                once[target] = _stored_once(target, uses[target])
            move = _move(buffer, own, order, at, path, s) if once[target] else None
            if move is not None:
                places[buffer] = move
                copies.add(id(s))
                targets.add(target)
                break
    return places, copies


def _staged(buffer: Buffer, target: Buffer) -> bool:
    """Whether `buffer` is a block in the cache, copied in one go into an array that is not."""
    size = buffer.dtype.itemsize
    return buffer.size * size <= NEAR and target.size * size > FAR


def _stored_once(buffer: Buffer, uses: Uses) -> bool:
    """Whether the stores of `buffer` are as many as its elements."""
    depth = len(uses.common) if buffer.role == "arena" else 0
    count = 0
    for _, _, path, s in uses.writes:
        if not isinstance(s, ir.Store):
            return False
        times = 1
        for loop in path[depth:]:
            if not isinstance(loop, ir.For) or loop.stop is not None:
                return False
            times *= loop.axis.extent
        count += times
    return count == buffer.size


def _move(buffer: Buffer, own: Uses, order: int, at: Expr, path: tuple, copy: ir.Store):
    """Where each index of `buffer` is in the target of the copy; None if it cannot be there."""
    terms, offset = linear(at)
    loops = [s for s in path if isinstance(s, ir.For) and ir.var(s.axis) in terms]
    around = path[: len(path) - len(loops)]
    if offset or len(loops) != len(terms) or list(path[len(around) :]) != loops:
        return None
    if any(loop.stop is not None for loop in loops) or own.common[: len(around)] != around:
        return None
    if any(first > order for first, *_ in own.writes):
        return None
    axes = sorted((s.axis for s in loops), key=lambda a: -terms[ir.var(a)])
    if not _row_major(axes, terms, buffer.size):
        return None
    form, base = linear(copy.at)
    there = dict(form)
    outer = {ir.var(s.axis) for s in around if isinstance(s, ir.For)}
    steps = [there.pop(ir.var(a), 0) for a in axes]
    if not there.keys() <= outer or 0 in steps:
        return None
    strides = [terms[ir.var(a)] for a in axes]
    shift = build((there, base))
    if steps == strides:
        return lambda e: (copy.buffer, e + shift)
    if own.blocks or len(own.reads) > 1:  # what is read again stays dense
        return None

    def moved(e: Expr) -> tuple[Buffer, Expr]:
        found = shift
        for axis, stride, step in zip(axes, strides, steps, strict=True):
            found = found + (e // stride % axis.extent) * step
        return copy.buffer, found

    if any(has_division(moved(e)[1]) for _, e, _, _ in own.writes):
        return None
    return moved


def _row_major(axes: list[Axis], terms: dict, size: int) -> bool:
    stride = 1
    for axis in reversed(axes):
        if terms[ir.var(axis)] != stride:
            return False
        stride *= axis.extent
    return stride == size
