"""Small loops written out, and small arrays as variables: what a filter's or a controller's step is made of.

Scratch memory is the caller's, so neither LLVM nor a C compiler may keep its elements in registers when
their loops are gone. Here they become variables, once every index of a buffer is a number.

It is for small programs: text grows, and with it the time to compile. ``Machine.unroll`` says how far;
exports for processors with large caches ask for it (gcc's code of an extended Kalman filter takes three
quarters of the time), what Numba compiles does not: LLVM gains too little.
"""

from __future__ import annotations

from . import ir
from .ir import Buffer, Expr
from .machine import present
from .nest import expressions, fresh, loads_of, substitute

__all__ = ["unroll"]

SHORT = 7  # iterations of a loop that may be written out; eight fill a vector
FEW = 64  # elements of a buffer that may become variables


def unroll(body: list) -> list:
    """The body with short loops written out and small buffers as variables, if it stays small."""
    room = present().unroll
    if present().parallel or _size(body) > room:
        return body
    return scalars(_Unrolling(room).body(body))


def _size(body: list) -> int:
    """Statements that run straight on, roughly: each with its arithmetic."""
    total = 0
    for s in body:
        total += 1 + sum(_arithmetic(e) for e in expressions(s))
        total += sum(_size(b) for b in ir.bodies(s))
    return total


def _arithmetic(e: Expr) -> int:
    stack, seen, count = [e], set(), 0
    while stack:
        x = stack.pop()
        if x not in seen:
            seen.add(x)
            stack.extend(x.args)
            count += 20 if x.kind == "call" else x.kind != "const"
    return count


class _Unrolling:
    """Loops are written out from the inside, while the whole program has room for it."""

    def __init__(self, room: int):
        self.room = room

    def body(self, body: list) -> list:
        out: list = []
        for s in body:
            if isinstance(s, ir.COMPOUND):
                s = ir.with_bodies(s, [self.body(b) for b in ir.bodies(s)])
            out += self.written_out(s) if self.may(s) else [s]
        return out

    def may(self, s) -> bool:
        if not isinstance(s, ir.For) or s.stop is not None or s.private is not None:
            return False
        if s.axis.extent > SHORT or any(isinstance(x, (ir.For, ir.While)) for x in s.body):
            return False
        return _size(s.body) * s.axis.extent <= self.room

    def written_out(self, loop: ir.For) -> list:
        self.room -= _size(loop.body) * (loop.axis.extent - 1)
        out: list = []
        for k in range(loop.axis.extent):
            out += _copied(loop.body, {ir.var(loop.axis): ir.index(k)})
        return out


def _copied(body: list, mapping: dict) -> list:
    """`body` under a substitution, its names new: each is given a value once."""
    out: list = []
    for s in body:
        if isinstance(s, ir.While):
            out.append(_copied_while(s, dict(mapping)))
            continue
        changed = _changed(s, lambda e: substitute(e, mapping))
        if isinstance(s, ir.COMPOUND):
            inner = [_copied(b, dict(mapping)) for b in ir.bodies(s)]
            changed = ir.with_bodies(changed, inner)
        elif isinstance(s, ir.Let):
            changed.name = fresh("t")
            mapping[ir.var(s.name, s.value.dtype)] = ir.var(changed.name, s.value.dtype)
        out.append(changed)
    return out


def _copied_while(s: ir.While, mapping: dict) -> ir.While:
    """Its condition and its body see the new names of what stands before them."""
    before = _copied(s.before, mapping)
    return ir.While(before, substitute(s.condition, mapping), _copied(s.body, mapping))


def _changed(s, change):
    """A copy of a statement with `change` applied to its own expressions."""
    if isinstance(s, ir.COMPOUND):
        return ir.with_bodies(s, ir.bodies(s), change)
    if isinstance(s, ir.Tile):
        return s.with_places(lambda buffer, at: (buffer, change(at)))
    if isinstance(s, ir.Gemm):
        places = [(b, change(at), *steps) for b, at, *steps in (s.a, s.b, s.c)]
        return ir.Gemm(s.dtype, s.m, s.n, s.k, *places, s.accumulate)
    fields = [getattr(s, name) for name in s.__slots__]
    return type(s)(*[change(x) if isinstance(x, Expr) else x for x in fields])


# -- arrays as variables --------------------------------------------------------------------------


def scalars(body: list) -> list:
    """Small buffers of scratch memory of which every index is a number become a variable an element."""
    names = _Elements()
    names.look(body)
    chosen = names.chosen()
    if not chosen:
        return body
    variables = {
        (b, k): ir.var(fresh("e"), b.dtype) for b in chosen for k in sorted(names.touched[b])
    }
    loads = {ir.load(b, ir.index(k)): v for (b, k), v in variables.items()}
    # A variable that an inner body gives its first value must be known around it.
    first = [
        ir.Set(v.arg, ir.const(0, b.dtype))
        for (b, k), v in variables.items()
        if not names.begins_at_top(b, k)
    ]
    return first + _with_variables(body, variables, loads, {})


class _Elements:
    """Which elements of which buffers are touched, and whether by a number."""

    def __init__(self):
        self.touched: dict[Buffer, dict[int, bool]] = {}
        self.never: set[Buffer] = set()

    def look(self, body: list, top: bool = True) -> None:
        for s in body:
            for e in loads_of(expressions(s)):
                self.touch(e.arg, e.args[0], False)
            if isinstance(s, (ir.Gemm, ir.Tile)):
                places = (s.a, s.b, s.c) if isinstance(s, ir.Gemm) else _places(s)
                self.never.update(p[0] for p in places)
            elif isinstance(s, (ir.Store, ir.AccumStore)):
                self.touch(s.buffer, s.at, top and isinstance(s, ir.Store))
            for inner in ir.bodies(s):
                self.look(inner, False)

    def touch(self, buffer: Buffer, at: Expr, begins: bool) -> None:
        """`begins`: whether this would give a variable its value for all that follows."""
        if buffer.role != "arena":
            return
        found = self.touched.setdefault(buffer, {})
        if at.kind != "const" or buffer.size > FEW:
            self.never.add(buffer)
        else:
            found.setdefault(at.arg, begins)

    def chosen(self) -> list[Buffer]:
        return [b for b in self.touched if b not in self.never]

    def begins_at_top(self, buffer: Buffer, k: int) -> bool:
        return self.touched[buffer][k]


def _places(s: ir.Tile) -> list:
    return [s.c, *[p for w in s.walks for p in (w.a, w.b)]]


def _with_variables(body: list, variables: dict, loads: dict, memo: dict) -> list:
    out = []
    for s in body:
        s = _changed(s, lambda e: substitute(e, loads, memo))
        if isinstance(s, ir.COMPOUND):
            inner = [_with_variables(b, variables, loads, memo) for b in ir.bodies(s)]
            s = ir.with_bodies(s, inner)
        elif isinstance(s, (ir.Store, ir.AccumStore)):
            v = variables.get((s.buffer, s.at.arg)) if s.at.kind == "const" else None
            if v is not None and isinstance(s, ir.Store):
                s = ir.Set(v.arg, s.value)
            elif v is not None:
                s = ir.Accum(v.arg, s.op, s.value)
        out.append(s)
    return out
