"""Functions of short rows, computed for many rows at once.

``for i: for j in range(10): ... exp(...)`` gives the compiler ten elements at a time: one vector and a scalar
rest, or scalars alone; ``for i: total = ...; y[i] = tanh(total)`` gives it one. Where rows don't depend on
each other, a block of them is run in stages instead: the arguments of all its rows go to scratch memory
(which stays in the first-level cache), one long loop computes the function, and the rows go on from there.
(Measured, softmax of 10 columns: two to three times as fast; of 25: five times.)
"""

from __future__ import annotations

from . import ir
from .index import build, linear, value_range
from .ir import Axis, Buffer, Expr
from .nest import expressions, fresh, reads_of, substitute_statement
from .strip import one_call_a_name

# Longer rows are vectorised well enough by themselves, shorter ones as they are unrolled.
ROWS = range(2, 65)
BLOCK = 512  # elements of a block: a few scratch arrays of them fit a 32 KB cache
FEW = 16  # with fewer calls it is not worth it

# A row of so many elements takes long beside a function of one number, which then stays in it: cut into
# stages, whole rows would have to be kept meanwhile. Of shorter rows, a block has so many elements.
LONG = 128
NEAR = 4096


def spread(body: list) -> list:
    """Run loops over rows with functions in them in blocks and stages."""
    out = []
    for s in body:
        if isinstance(s, ir.For) and _worth_it(s) and _independent(s):
            out.extend(_Spread(s).loops())
        elif isinstance(s, ir.COMPOUND):
            out.append(ir.with_bodies(s, [spread(b) for b in ir.bodies(s)]))
        else:
            out.append(s)
    return out


# -- which loops ----------------------------------------------------------------------------------


def _worth_it(loop: ir.For) -> bool:
    if loop.stop is not None or loop.serial:
        return False
    if len(loop.body) < 2 or not any(isinstance(s, ir.For) for s in loop.body):
        return False  # it is innermost itself, or one of those that walk memory as one loop
    most = max(map(_functions, loop.body))
    return most * loop.axis.extent >= FEW and (most > 1 or _width(loop.body) <= LONG)


def _width(body: list) -> int:
    """The elements of a row: what the longest loop in it runs over."""
    return max((s.axis.extent * _width(s.body) for s in body if isinstance(s, ir.For)), default=1)


def _functions(s) -> int:
    """How often a statement of a row calls functions that can be computed for many rows at once."""
    if not isinstance(s, ir.For):
        return int(_calls(s))
    if s.stop is not None or s.serial or s.axis.extent not in ROWS:
        return 0
    plain = all(isinstance(x, (ir.Let, ir.Accum, ir.Store, ir.AccumStore)) for x in s.body)
    return s.axis.extent if plain and any(map(_calls, s.body)) else 0


def _calls(statement) -> bool:
    if isinstance(statement, ir.COMPOUND):
        return False
    return any(e.kind == "call" and e.arg != "fmod" for e in _parts(expressions(statement)))


def _parts(exprs):
    """All expressions in expressions."""
    stack, seen = list(exprs), set()
    while stack:
        e = stack.pop()
        if e not in seen:
            seen.add(e)
            yield e
            stack.extend(e.args)


def _names(statements) -> set[str]:
    """The variables that statements read, nested ones included."""
    exprs = [e for s in _walk(statements) for e in expressions(s)]
    return {e.arg for e in _parts(exprs) if e.kind == "var" and type(e.arg) is str}


def _walk(body):
    for s in body:
        yield s
        for inner in ir.bodies(s):
            yield from _walk(inner)


def _independent(loop: ir.For) -> bool:
    """Whether the rows may be run in stages: none needs what another one has written, but to accumulate."""
    every = list(_walk(loop.body))
    if any(isinstance(s, (ir.If, ir.While, ir.Gemm, ir.Tile, ir.Check)) for s in every):
        return False
    if not _begins_anew(every):
        return False
    stored: dict[Buffer, set] = {}
    for s in every:
        if isinstance(s, (ir.Store, ir.AccumStore)):
            stored.setdefault(s.buffer, set()).add(getattr(s, "op", "store"))
    indices: dict[Buffer, list] = {b: [] for b in stored}
    read = set()
    for s in every:
        for buffer, at in reads_of(s) if not isinstance(s, ir.COMPOUND) else ():
            indices.setdefault(buffer, []).append(at)
            read.add(buffer)
        if isinstance(s, (ir.Store, ir.AccumStore)):
            indices[s.buffer].append(s.at)
    for buffer, how in stored.items():
        shared = not _row_by_row(loop.axis, indices[buffer])
        if shared and (buffer in read or "store" in how or len(how) > 1):
            return False
    return True


def _begins_anew(every: list) -> bool:
    """Whether a row sets all its variables before it reads them; others it may only accumulate in."""
    own = {s.name for s in every if isinstance(s, (ir.Let, ir.Set))}
    outer = {s.name for s in every if isinstance(s, ir.Accum)} - own
    known: set[str] = set()
    for s in every:
        used = _names([s]) if not isinstance(s, ir.COMPOUND) else set()
        if isinstance(s, ir.Accum) and s.name in own:
            used.add(s.name)
        if used & outer or (used & own) - known:
            return False
        if isinstance(s, (ir.Let, ir.Set)):
            known.add(s.name)
    return True


def _row_by_row(axis: Axis, indices: list[Expr]) -> bool:
    """Whether each iteration of `axis` touches a part of its own."""
    row = ir.var(axis)
    strides, low, high = set(), float("inf"), float("-inf")
    for at in indices:
        terms, offset = linear(at)
        strides.add(terms.get(row, 0))
        rest = build(({a: c for a, c in terms.items() if a is not row}, offset))
        first, last = value_range(rest)
        low, high = min(low, first), max(high, last)
    return len(strides) == 1 and high - low < abs(strides.pop())


# -- stages ---------------------------------------------------------------------------------------


class _Spread:
    """A loop over rows, and the stages that it is cut into."""

    def __init__(self, loop: ir.For):
        self.rows = loop
        extent = loop.axis.extent
        size = BLOCK // max(1, *map(_functions, loop.body))
        size = max(8, min(size, NEAR // _width(loop.body)))
        if extent <= 2 * size:
            size = extent
        elif extent % size:
            size = next((b for b in range(size, size // 2, -1) if extent % b == 0), size)
        self.size = size
        self.block = Axis(-(-extent // size), loop.axis.name + "b")
        self.start = ir.var(self.block) * size if size < extent else ir.index(0)
        left = extent - self.start
        self.stop = ir.binary("min", left, ir.index(size)) if extent % size else None
        self.row = ir.var(Axis(size, "r"))  # the row's number in its block; renamed in every stage

    def loops(self) -> list:
        stages = self.stages(self.rows.body)
        return [ir.For(self.block, stages)] if self.size < self.rows.axis.extent else stages

    def stages(self, body: list) -> list:
        """Loops that run the statements `body` of all rows of a block."""
        at = next((k for k, s in enumerate(body) if _functions(s)), None)
        if at is None:
            return [self.of_rows(body)] if body else []
        s = body[at]
        if isinstance(s, ir.For):
            n = s.axis.extent
            now, calls, later = self.cut(s.body, self.row * n + ir.var(s.axis), n)
            now = [ir.For(s.axis, now)]
            axis = Axis(n, s.axis.name)
            renamed = {ir.var(s.axis): ir.var(axis)}
            later = [ir.For(axis, [substitute_statement(x, renamed) for x in later])]
        else:
            now, calls, later = self.cut([s], self.row, 1)
        now = body[:at] + now
        later = self.carried(now, later + body[at + 1 :])
        return [self.of_rows(now), *calls, *self.stages(later)]

    def of_rows(self, body: list) -> ir.For:
        axis = Axis(self.size, self.rows.axis.name)
        renamed = {ir.var(self.rows.axis): self.start + ir.var(axis), self.row: ir.var(axis)}
        memo: dict = {}
        return ir.For(axis, [substitute_statement(s, renamed, memo) for s in body], self.stop)

    def cut(self, statements: list, at: Expr, n: int):
        """(statements up to the functions, loops that compute them, statements from there on)."""
        now: list = []
        calls: list = []
        later: list = []
        late: set[str] = set()  # names that are known only later
        known: dict[Expr, Expr] = {}
        for s in one_call_a_name(statements):
            ready = not late & _names([s])
            if isinstance(s, ir.Let) and _calls(s) and ready:
                loop, result = self.function(s.value, at, n, now)
                calls.append(loop)
                known[ir.var(s.name, s.value.dtype)] = result
                late.add(s.name)
            elif ready and (not calls or (isinstance(s, ir.Let) and not _loads(s))):
                now.append(s)
            else:
                later.append(s)
                if isinstance(s, ir.Let):
                    late.add(s.name)
        used = _names(later)
        for s in [s for s in now if isinstance(s, ir.Let) and s.name in used]:
            kept = self.scratch(s.value.dtype, n)
            name = ir.var(s.name, s.value.dtype)
            now.append(ir.Store(kept, at, name))
            known[name] = ir.load(kept, at)
        return now, calls, [substitute_statement(s, known) for s in later]

    def function(self, call: Expr, at: Expr, n: int, now: list):
        """(the loop that computes a call for all rows, where its result is); `now` saves its arguments."""
        axis = Axis(self.size * n, "e")
        arguments = []
        target = None
        for x in call.args:
            if x.kind != "const":
                saved = self.scratch(x.dtype, n)
                now.append(ir.Store(saved, at, x))
                x = ir.load(saved, ir.var(axis))
                if saved.dtype is call.dtype:
                    target = saved
            arguments.append(x)
        target = target or self.scratch(call.dtype, n)
        value = Expr("call", call.dtype, tuple(arguments), call.arg)
        stop = None if self.stop is None else self.stop * n
        return ir.For(axis, [ir.Store(target, ir.var(axis), value)], stop), ir.load(target, at)

    def carried(self, now: list, later: list) -> list:
        """`later` with the variables of the row that `now` sets; `now` saves them."""
        accumulated = {s.name for s in _walk(later) if isinstance(s, ir.Accum)}
        needed = _names(later) | accumulated
        changed = {s.name for s in _walk(now) if isinstance(s, ir.Accum)}
        known: dict[Expr, Expr] = {}
        again: list = []
        for s in [s for s in now if isinstance(s, (ir.Let, ir.Set)) and s.name in needed]:
            needed.discard(s.name)
            dtype = s.value.dtype
            if isinstance(s, ir.Set) and s.value.kind == "const" and s.name not in changed:
                now.remove(s)
                again.append(s)
                continue
            kept = self.scratch(dtype, 1)
            now.append(ir.Store(kept, self.row, ir.var(s.name, dtype)))
            value = ir.load(kept, self.row)
            if s.name in accumulated:
                again.append(ir.Set(s.name, value))
            else:
                known[ir.var(s.name, dtype)] = value
        return again + [substitute_statement(s, known) for s in later]

    def scratch(self, dtype, n: int) -> Buffer:
        return Buffer(fresh("s"), dtype, self.size * n, "arena")


def _loads(s) -> bool:
    return any(e.kind == "load" for e in _parts(expressions(s)))
