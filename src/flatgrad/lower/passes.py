"""Passes over loop programs: one explicit ordered list of named, pure functions (``PASSES``).

Each takes and returns a body (a list of statements). They rely on what fusion guarantees: a buffer
element is stored before it is read and, but for accumulations, stored once.
"""

from __future__ import annotations

from collections import Counter

from ..graph import dtypes
from . import ir, parallel
from .body import accesses, drop_dead, rebuffered, walk
from .coalesce import coalesce
from .index import build, linear, value_range
from .inplace import inplace
from .ir import Axis, Buffer, Expr
from .lanes import lanes
from .machine import present
from .nest import expressions, fresh, substitute, substitute_statement
from .spread import spread
from .strip import strip
from .unroll import unroll


def forward(body: list) -> list:
    """A read of what the same iteration stored becomes the variable that was stored."""
    accumulated = {s.buffer for s, _ in walk(body) if isinstance(s, ir.AccumStore)}
    accumulated |= {s.c[0] for s, _ in walk(body) if isinstance(s, (ir.Gemm, ir.Tile))}
    rewritten = Counter(
        s.buffer for s, _ in walk(body) if isinstance(s, ir.Store)
    )  # several stores: parts of a cat, or a base and what is written over it
    keep = accumulated | {b for b, n in rewritten.items() if n > 1}
    return _forward(body, {}, keep)


def _forward(body: list, known: dict, keep: set) -> list:
    out = []
    for s in body:
        if isinstance(s, ir.COMPOUND):
            out.append(_forward_compound(s, known, keep))
            continue
        if known:
            s = substitute_statement(s, known)
        if isinstance(s, ir.Store) and s.buffer not in keep:
            value = s.value
            changes = value.kind == "var" and type(value.arg) is not Axis and _is_set(value, body)
            if changes or value.kind not in ("var", "const"):
                name = fresh("t")
                out.append(ir.Let(name, value))
                value = ir.var(name, value.dtype)
            known[ir.load(s.buffer, s.at)] = value
            s = ir.Store(s.buffer, s.at, value)
        out.append(s)
    return out


def _forward_compound(s, known: dict, keep: set):
    if isinstance(s, ir.While):  # what `before` stores is seen by the condition and the body
        inside = dict(known)
        before = _forward(s.before, inside, keep)
        return ir.While(before, substitute(s.condition, inside), _forward(s.body, inside, keep))
    inner = [_forward(b, dict(known), keep) for b in ir.bodies(s)]
    return ir.with_bodies(s, inner, lambda e: substitute(e, known))


def _is_set(value: Expr, body: list) -> bool:
    """Whether a variable changes later (an accumulator): its value must be kept in a name of its own."""
    return value.arg.startswith(("acc", "best", "arg", "bad"))


def shrink(body: list) -> list:
    """A buffer that lives within one iteration of an outer loop needs room for that iteration only."""
    found: dict[Buffer, list] = {}
    for buffer, at, path in accesses(body):
        if buffer.role == "arena":
            found.setdefault(buffer, []).append((at, path))
    replaced: dict[Buffer, tuple] = {}
    for buffer, uses in found.items():
        common = uses[0][1]
        for _, path in uses[1:]:
            n = 0
            while n < min(len(common), len(path)) and common[n] is path[n]:
                n += 1
            common = common[:n]
        axes = [ir.var(loop.axis) for loop in common if isinstance(loop, ir.For)]
        forms = [linear(at) for at, _ in uses]
        dropped = []
        for axis in axes:
            strides = {form[0].get(axis, 0) for form in forms}
            if len(strides) != 1 or strides == {0}:
                break
            dropped.append(axis)
        if not dropped:
            continue
        low, size = _extent(forms, dropped)
        if size < buffer.size:
            small = Buffer(buffer.name, buffer.dtype, size, "arena")
            replaced[buffer] = _without_axes(small, set(dropped), low)
    return rebuffered(body, replaced) if replaced else body


def _without_axes(small: Buffer, dropped: set, low: int):
    """Where an index is in `small`: the dropped axes removed from it."""

    def place(at: Expr) -> tuple[Buffer, Expr]:
        terms, offset = linear(at)
        return small, build(({a: c for a, c in terms.items() if a not in dropped}, offset - low))

    return place


def _extent(forms, dropped):
    low, high = float("inf"), 0
    for terms, offset in forms:
        rest = build(({a: c for a, c in terms.items() if a not in dropped}, offset))
        a, b = value_range(rest)
        low, high = min(low, a), max(high, b)
    return (0, float("inf")) if low < 0 or high == float("inf") else (low, high - low + 1)


def collapse(body: list) -> list:
    """Two loops that walk memory as one become one (short rows would not vectorise)."""
    out = []
    for s in body:
        if isinstance(s, ir.COMPOUND):
            s = ir.with_bodies(s, [collapse(b) for b in ir.bodies(s)])
        if isinstance(s, ir.For):
            while len(s.body) == 1 and isinstance(s.body[0], ir.For):
                merged = _merged(s)
                if merged is None:
                    break
                s = merged
        out.append(s)
    return out


def _merged(loop: ir.For) -> ir.For | None:
    inner = loop.body[0]
    if loop.stop is not None or inner.stop is not None:
        return None
    if any(isinstance(s, (*ir.COMPOUND, ir.Gemm, ir.Tile, ir.AccumStore)) for s in inner.body):
        return None
    n = inner.axis.extent
    axis = Axis(loop.axis.extent * n, loop.axis.name)
    flat = ir.var(axis)
    mapping = {ir.var(loop.axis): flat // n, ir.var(inner.axis): flat % n}
    memo: dict = {}
    new = [substitute_statement(s, mapping, memo) for s in inner.body]
    for s in new:
        for e in expressions(s):
            if _divides(e):
                return None
    return ir.For(axis, new, serial=loop.serial or inner.serial)


def _divides(e: Expr) -> bool:
    stack, seen = [e], set()
    while stack:
        x = stack.pop()
        if x in seen:
            continue
        seen.add(x)
        if x.dtype is dtypes.int64 and x.kind == "binary" and x.arg in ("//", "%"):
            return True
        stack.extend(x.args)
    return False


def share(body: list) -> list:
    """Expressions used by several statements of one body, or dear ones used twice, get names."""
    out: list = []
    counts: Counter = Counter()
    for s in body:
        if not isinstance(s, ir.COMPOUND):
            seen: set = set()
            for e in expressions(s):
                _count_uses(e, counts, seen)
    named: dict[Expr, Expr] = {}
    for s in body:
        if isinstance(s, ir.COMPOUND):
            out.append(ir.with_bodies(s, [share(b) for b in ir.bodies(s)]))
            named = {}
            continue
        memo: dict = {}
        s = _with_names(s, counts, named, memo, out)
        out.append(s)
        if isinstance(s, (ir.Set, ir.Accum)):
            changed = ir.var(s.name, s.value.dtype)
            named = {e: v for e, v in named.items() if not _mentions(e, changed)}
        elif isinstance(s, (ir.Store, ir.AccumStore)):
            named = {e: v for e, v in named.items() if not _reads(e, s.buffer)}
        elif isinstance(s, (ir.Gemm, ir.Tile)):
            named = {e: v for e, v in named.items() if not _reads(e, s.c[0])}
    return out


def _count_uses(e: Expr, counts: Counter, seen: set) -> None:
    stack = [e]
    while stack:
        x = stack.pop()
        counts[x] += 1
        if x in seen:
            continue
        seen.add(x)
        stack.extend(x.args)


def _worth_a_name(e: Expr) -> bool:
    if e.kind in ("const", "var"):
        return False
    return e.dtype is not dtypes.int64 or e.kind in ("load", "cast", "select")


def _with_names(s, counts, named, memo, out):
    def expr(e: Expr) -> Expr:
        found = named.get(e)
        if found is not None:
            return found
        found = memo.get(e)
        if found is not None:
            return found
        if e.kind == "load":
            result = e
        else:
            args = tuple([expr(a) for a in e.args])
            result = e if args == e.args else Expr(e.kind, e.dtype, args, e.arg)
        if counts[e] > 1 and _worth_a_name(e):
            name = fresh("v")
            out.append(ir.Let(name, result))
            result = named[e] = ir.var(name, e.dtype)
        memo[e] = result
        return result

    if isinstance(s, (ir.Let, ir.Set)):
        return type(s)(s.name, expr(s.value))
    if isinstance(s, ir.Accum):
        return ir.Accum(s.name, s.op, expr(s.value))
    if isinstance(s, ir.Store):
        return ir.Store(s.buffer, s.at, expr(s.value))
    if isinstance(s, ir.AccumStore):
        return ir.AccumStore(s.buffer, s.at, s.op, expr(s.value))
    return s


def _mentions(e: Expr, variable: Expr) -> bool:
    stack, seen = [e], set()
    while stack:
        x = stack.pop()
        if x is variable:
            return True
        if x in seen:
            continue
        seen.add(x)
        stack.extend(x.args)
    return False


def _reads(e: Expr, buffer: Buffer) -> bool:
    stack, seen = [e], set()
    while stack:
        x = stack.pop()
        if x in seen:
            continue
        seen.add(x)
        if x.kind == "load" and x.arg is buffer:
            return True
        stack.extend(x.args)
    return False


PASSES = (forward, drop_dead, inplace, spread, shrink, collapse, strip, share, coalesce)


def run(body: list, dump=None) -> list:
    """All passes in order, and what this machine wants; ``dump(name, body)`` sees the body after each."""
    machine = present()
    steps = PASSES + (parallel.mark,) * machine.parallel + (lanes,) * bool(machine.split)
    steps += (unroll,) * bool(machine.unroll)
    for step in steps:
        body = step(body)
        if dump is not None:
            dump(step.__name__, body)
    return body
