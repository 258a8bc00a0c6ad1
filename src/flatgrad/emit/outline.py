"""Parts of a program as functions of their own.

For threads, which run a range of a loop, and for LLVM, whose time grows faster than a function does: a large
program is cut into pieces of consecutive statements.
"""

from __future__ import annotations

from llvmlite import ir as L

from ..lower import ir
from ..lower.nest import expressions, reads_of
from .llvm_types import I64, PTR

# The size (see ``_size``) of a program that is cut, and of its pieces, at least.
LARGE, PIECE = 150, 30

# Names that are alive for more statements (an error's flag) do not hold a piece together.
LONG = 12


class Outlined:
    """``function(pointers..., values..., [start, stop])`` that runs statements, and what to call it with.

    `ranged`: the one statement is a loop, of which the function runs the iterations from start to stop.
    """

    def __init__(self, emitter, body: list, ranged: bool = False):
        self.emitter, self.loop = emitter, body[0]
        used = {b for s in body for b in buffers_of(s) if b.role != "local"}
        here = {b: p for b, p in emitter.pointers.items() if b in used}
        self.pointers = list(dict.fromkeys(here.values()))
        own = {n for s in body for n in names_of(s)}
        reads = {n for s in body for n in _used(s)} - own
        names = sorted(reads & (emitter.values.keys() | emitter.variables.keys()))
        self.values = [
            emitter.values[n] if n in emitter.values else emitter.b.load(emitter.variables[n])
            for n in names
        ]
        self.function = self._declare(ranged)
        moved = dict(zip(self.pointers, self.function.args, strict=False))
        given = dict(zip(names, self.function.args[len(self.pointers) :], strict=False))
        pointers = {b: moved[p] for b, p in here.items()}
        with emitter.inside(self.function, pointers, given):
            emitter.declare_variables(body)
            if ranged:
                for buffer in self.loop.private:
                    emitter.scratch(buffer)
                self._range()
            else:
                emitter.body(body)
            emitter.b.ret_void()

    @property
    def arguments(self) -> list:
        return [*self.pointers, *self.values]

    def _declare(self, ranged: bool) -> L.Function:
        module = self.emitter.module
        kinds = [PTR] * len(self.pointers) + [v.type for v in self.values] + [I64, I64] * ranged
        name = module.get_unique_name("flatgrad_part")
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


def pieces(body: list) -> list[tuple[bool, list]]:
    """A program's statements in order, in pieces; with each whether it becomes a function.

    A piece cannot fail, and gives no name a value that others read: its results are in memory.
    """
    if sum(map(_size, body)) < LARGE:
        return [(False, body)]
    found: list[tuple[bool, list]] = []
    for may, block in _blocks(body):
        if found and found[-1][0] == may and (not may or sum(map(_size, found[-1][1])) < PIECE):
            found[-1][1].extend(block)
        else:
            found.append((may, list(block)))
    return [(may and sum(map(_size, part)) >= PIECE // 4, part) for may, part in found]


def _blocks(body: list):
    """(whether it may be a function, statements) for the shortest parts that share no names."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for k, s in enumerate(body):
        for name in _given(s) | _used(s):
            first.setdefault(name, k)
            last[name] = k
    block, end, may = [], 0, True
    for k, s in enumerate(body):
        given = _given(s)
        near = [last[n] for n in given if last[n] - first[n] <= LONG]
        end = max([end, *near])
        may = may and len(near) == len(given) and not _stays(s)
        block.append(s)
        if k >= end:
            yield may, block
            block, end, may = [], k + 1, True


def _stays(s) -> bool:
    """Whether a statement is not for a function: it may end the program, or runs on threads already."""
    every = list(statements_of(s))
    if any(isinstance(x, (ir.Check, ir.While)) for x in every):
        return True
    return isinstance(s, ir.For) and s.private is not None


def _size(s) -> int:
    """Statements, tiles counted by their accumulators."""
    return sum(len(x.rows) * len(x.cols) if isinstance(x, ir.Tile) else 1 for x in statements_of(s))


def _given(s) -> set:
    """The names that a statement gives a value, inside too, and the local buffers that it touches."""
    local = {b for b in buffers_of(s) if b.role == "local"}
    return {x.name for x in statements_of(s) if isinstance(x, (ir.Let, ir.Set, ir.Accum))} | local


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
