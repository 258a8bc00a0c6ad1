"""A loop as a function of its own.

For threads, which run a part of it, and for LLVM, whose time grows faster than a function does.
"""

from __future__ import annotations

from collections import Counter

from llvmlite import ir as L

from ..lower import ir
from ..lower.nest import expressions, reads_of
from .llvm import I64, PTR

# The size (see ``_size``) of a program that is cut into functions, and of a loop that becomes one.
LARGE, WORTH = 150, 6


class Outlined:
    """``function(pointers..., values..., [start, stop])`` that runs a loop, and what to call it with."""

    def __init__(self, emitter, s: ir.For, ranged: bool = False):
        self.emitter, self.loop = emitter, s
        used = buffers_of(s)
        here = {b: p for b, p in emitter.pointers.items() if b in used}
        self.pointers = list(dict.fromkeys(here.values()))
        own = names_of(s)
        names = sorted((_used(s) - own) & (emitter.values.keys() | emitter.variables.keys()))
        self.values = [
            emitter.values[n] if n in emitter.values else emitter.b.load(emitter.variables[n])
            for n in names
        ]
        self.function = self._declare(ranged)
        moved = dict(zip(self.pointers, self.function.args, strict=False))
        given = dict(zip(names, self.function.args[len(self.pointers) :], strict=False))
        pointers = {b: moved[p] for b, p in here.items()}
        with emitter.inside(self.function, pointers, given):
            for buffer in s.private or ():
                emitter.scratch(buffer)
            emitter.declare_variables(s.body)
            self._range() if ranged else emitter.whole_loop(s)
            emitter.b.ret_void()

    @property
    def arguments(self) -> list:
        return [*self.pointers, *self.values]

    def _declare(self, ranged: bool) -> L.Function:
        module = self.emitter.module
        kinds = [PTR] * len(self.pointers) + [v.type for v in self.values] + [I64, I64] * ranged
        name = module.get_unique_name("flatgrad_loop")
        fn = L.Function(module, L.FunctionType(L.VoidType(), kinds), name)
        fn.linkage = "internal"
        fn.attributes.add("noinline")
        fn.attributes.add("nounwind")
        for arg in fn.args[: len(self.pointers)]:
            arg.add_attribute("noalias")
        return fn

    def _range(self) -> None:
        """The iterations from `start` to `stop`, the function's last arguments."""
        emitter, s = self.emitter, self.loop
        start, stop = self.function.args[-2:]
        counter = ir.Axis(s.axis.extent, s.axis.name)

        def iteration():
            i = emitter.values[counter]
            emitter.values[s.axis] = emitter.b.add(start, i, flags=("nuw", "nsw"))
            emitter.body(s.body)

        emitter.loop(counter, emitter.b.sub(stop, start), iteration)


def apart(body: list) -> frozenset[int]:
    """The loops among a large program's statements that become functions of their own (their ids).

    They cannot fail, and give no name a value that others read: their results are in memory.
    """
    sizes = {id(s): _size(s) for s in body}
    if sum(sizes.values()) < LARGE:
        return frozenset()
    loops = [s for s in body if isinstance(s, ir.For) and s.private is None]
    loops = [s for s in loops if sizes[id(s)] >= WORTH]
    touched = Counter(n for s in body for n in _touched(s))
    return frozenset(
        id(s)
        for s in loops
        if not any(isinstance(x, (ir.Check, ir.While)) for x in statements_of(s))
        and all(touched[n] == 1 for n in _given(s))
    )


def _size(s) -> int:
    """Statements, tiles counted by their accumulators."""
    return sum(len(x.rows) * len(x.cols) if isinstance(x, ir.Tile) else 1 for x in statements_of(s))


def _given(s) -> set[str]:
    """The names that a statement gives a value, inside too."""
    return {x.name for x in statements_of(s) if isinstance(x, (ir.Let, ir.Set, ir.Accum))}


def _touched(s) -> set[str]:
    return _given(s) | _used(s)


def statements_of(s):
    yield s
    for body in ir.bodies(s):
        for inner in body:
            yield from statements_of(inner)


def names_of(s) -> set[str]:
    """The names that a loop sets for itself."""
    return {x.name for x in statements_of(s) if isinstance(x, (ir.Let, ir.Set))}


def buffers_of(s) -> set:
    found = set()
    for inner in statements_of(s):
        if not isinstance(inner, ir.COMPOUND):
            found.update(b for b, _ in reads_of(inner))
        else:
            found.update(e.arg for e in _all(inner) if e.kind == "load")
        if isinstance(inner, (ir.Store, ir.AccumStore)):
            found.add(inner.buffer)
        elif isinstance(inner, (ir.Gemm, ir.Tile)):
            found.add(inner.c[0])
    return found


def _all(s):
    """The expressions directly in a statement, and their parts."""
    stack, seen = list(expressions(s)), set()
    while stack:
        e = stack.pop()
        if e not in seen:
            seen.add(e)
            yield e
            stack.extend(e.args)


def _used(s) -> set[str]:
    """The names that a loop reads."""
    return {
        e.arg
        for inner in statements_of(s)
        for e in _all(inner)
        if e.kind == "var" and type(e.arg) is str
    }
