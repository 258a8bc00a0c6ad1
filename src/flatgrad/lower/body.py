"""A body as a whole: its statements, what they access, other buffers for its buffers, what is dead in it."""

from __future__ import annotations

from . import ir
from .ir import Axis, Buffer, Expr
from .nest import expressions, loads_of, reads_of, substitute

__all__ = ["accesses", "drop_dead", "rebuffered", "walk"]


def walk(body, path=()):
    """Every statement with the tuple of compound statements around it."""
    for s in body:
        yield s, path
        for inner in ir.bodies(s):
            yield from walk(inner, (*path, s))


def accesses(body):
    """(buffer, index, path) of every read and write."""
    for s, path in walk(body):
        if isinstance(s, ir.COMPOUND):
            for e in loads_of(expressions(s)):
                yield e.arg, e.args[0], path
            continue
        for b, at in reads_of(s):
            yield b, at, path
        if isinstance(s, (ir.Store, ir.AccumStore)):
            yield s.buffer, s.at, path
        elif isinstance(s, ir.Gemm):
            buffer, offset, rs, cs = s.c
            at = offset + ir.var(Axis(s.m, "r")) * rs + ir.var(Axis(s.n, "c")) * cs
            yield buffer, at, path
        elif isinstance(s, ir.Tile):
            yield *s.written(), path


def rebuffered(body, replaced: dict) -> list:
    """`body` with buffers replaced: each by ``place(index) -> (another buffer, the index there)``."""
    memo: dict = {}

    def index(buffer, at):
        return replaced[buffer](at)

    def expr(e: Expr) -> Expr:
        found = memo.get(e)
        if found is None:
            args = tuple([expr(a) for a in e.args])
            if e.kind == "load" and e.arg in replaced:
                small, at = index(e.arg, e.args[0])
                found = ir.load(small, expr(at))
            elif args == e.args:
                found = e
            else:
                found = substitute(e, dict(zip(e.args, args, strict=True)))
            memo[e] = found
        return found

    def statement(s):
        if isinstance(s, ir.COMPOUND):
            return ir.with_bodies(s, [[statement(x) for x in b] for b in ir.bodies(s)], expr)
        if isinstance(s, ir.Gemm):
            ops = []
            for buffer, offset, rs, cs in (s.a, s.b, s.c):
                if buffer in replaced:
                    buffer, offset = index(buffer, offset)
                ops.append((buffer, offset, rs, cs))
            return ir.Gemm(s.dtype, s.m, s.n, s.k, *ops, s.accumulate)
        if isinstance(s, ir.Tile):
            return s.with_places(lambda b, at: index(b, at) if b in replaced else (b, at))
        if isinstance(s, (ir.Store, ir.AccumStore)):
            buffer, at = s.buffer, expr(s.at)
            if buffer in replaced:
                buffer, at = index(buffer, at)
            if isinstance(s, ir.Store):
                return ir.Store(buffer, at, expr(s.value))
            return ir.AccumStore(buffer, at, s.op, expr(s.value))
        if isinstance(s, ir.Check):
            return ir.Check(expr(s.condition), s.code)
        return type(s)(*[expr(x) if isinstance(x, Expr) else x for x in _fields(s)])

    return [statement(s) for s in body]


def _fields(s):
    return [getattr(s, name) for name in s.__slots__]


def drop_dead(body: list) -> list:
    """Stores to the arena that nobody reads, names that nobody uses and loops that do nothing go."""
    while True:
        read: set[Buffer] = set()
        used: set[str] = set()
        for s, _ in walk(body):
            if not isinstance(s, ir.COMPOUND):
                read.update(b for b, _ in reads_of(s))
            if isinstance(s, ir.Gemm):
                read.update((s.a[0], s.b[0]))
            stack = list(expressions(s))
            seen = set()
            while stack:
                e = stack.pop()
                if e in seen:
                    continue
                seen.add(e)
                if e.kind == "load":
                    read.add(e.arg)
                if e.kind == "var" and type(e.arg) is str:
                    if isinstance(s, (ir.Set, ir.Accum)) and s.name == e.arg:
                        continue
                    used.add(e.arg)
                stack.extend(e.args)
        kept = _drop(body, read, used)
        if _count(kept) == _count(body):
            return kept
        body = kept


def _count(body) -> int:
    return sum(1 for _ in walk(body))


def _drop(body, read, used) -> list:
    out = []
    for s in body:
        if isinstance(s, ir.COMPOUND):
            inner = [_drop(b, read, used) for b in ir.bodies(s)]
            runs = not isinstance(s, ir.For) or s.axis.extent
            if runs and (any(inner) if isinstance(s, ir.If) else inner[-1]):
                out.append(ir.with_bodies(s, inner))
            continue
        if isinstance(s, (ir.Store, ir.AccumStore)):
            if s.buffer.role == "arena" and s.buffer not in read:
                continue
        elif isinstance(s, (ir.Gemm, ir.Tile)):
            if s.c[0].role == "arena" and s.c[0] not in read:
                continue
        elif isinstance(s, (ir.Let, ir.Set, ir.Accum)) and s.name not in used:
            continue
        out.append(s)
    return out
