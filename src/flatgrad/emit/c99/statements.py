"""The C99 table of statements."""

from __future__ import annotations

from contextlib import contextmanager

from ...graph import dtypes
from ...lower import ir
from ...lower.ir import Buffer
from ..gemm import oriented
from .expressions import Expressions, bare
from .scopes import Scopes
from .tile import Tiler
from .words import Names, ctype, literal, memory_type

__all__ = ["Statements"]

INDENT = "    "


class Statements(Expressions):
    """Prints the body of a program.

    pointers : buffer -> C name, of what is not local.
    skipped : outputs that are not written if their pointer is NULL.
    """

    def __init__(self, program: ir.Program, names: Names, pointers: dict, skipped: set, contract):
        super().__init__(names)
        self.program = program
        self.contract, self.alone = contract, True
        self.names.update(pointers)
        self.skipped = skipped
        self.guarded: set[Buffer] = set()
        self.scopes = Scopes(program.body)
        self.declared: set[str] = set()  # of the changing variables
        self.lines: list[str] = []
        self.depth = 1

    def line(self, text: str) -> None:
        self.lines.append(INDENT * self.depth + text)

    @contextmanager
    def block(self, head: str):
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    @contextmanager
    def loops(self, axes):
        """Loops inside each other."""
        for axis in axes:
            self.line(self.loop_head(axis, str(axis.extent)))
            self.depth += 1
        yield
        for _ in axes:
            self.depth -= 1
            self.line("}")

    def loop_head(self, axis: ir.Axis, stop: str) -> str:
        i = self.names[axis] = self.words.new(axis.name)
        return f"for (ptrdiff_t {i} = 0; {i} < {stop}; ++{i}) {{"

    # -- lists of statements ----------------------------------------------------------------------

    def body(self, body: list, key: int | None = None, start: int = 0) -> None:
        """A list of statements; what fills an output alone is left out if nobody wants that."""
        key = id(body) if key is None else key
        outer, self.calls = self.calls, 0
        place = 0
        while place < len(body):
            fills, end = self.filling(body, place, key)
            if fills:
                self.values_first(body, place, end, key, start, fills)
            else:
                self.whole(body[place], (key, start + place))
            place = max(end, place + 1)
        self.calls = outer

    def filling(self, body: list, place: int, key: int) -> tuple[dict, int]:
        """From `place` on, statements that only fill outputs, with nothing but values between them.

        ({output: positions}, the end of this part of the list).
        """
        fills: dict[Buffer, list[int]] = {}
        end = place
        for k in range(place, len(body)):
            output = self.only_fills(body[k], key)
            if output is not None:
                fills.setdefault(output, []).append(k)
                end = k + 1
            elif not fills or not isinstance(body[k], ir.Let):
                break
        return fills, end

    def values_first(self, body: list, place: int, end: int, key: int, start: int, fills) -> None:
        """The values of a part of a list, then what fills each output: one question each, not one a line.

        Nobody reads what is filled here, so values may be computed before.
        """
        for k in range(place, end):
            if isinstance(body[k], ir.Let):
                self.whole(body[k], (key, start + k))
        for output, places in fills.items():
            self.guarded.add(output)
            with self.block(f"if ({self.names[output]}) {{"):
                for k in places:
                    self.whole(body[k], (key, start + k))
            self.guarded.discard(output)

    def whole(self, s, here: tuple) -> None:
        """A statement behind the declarations that it is the first to need."""
        for what in self.scopes.before.get(here, ()):
            self.declare(what, s)
        STATEMENTS[type(s)](self, s)

    def declare(self, what, s) -> None:
        if isinstance(what, Buffer):
            name = self.names[what] = self.words.new(what.name)
            self.line(f"{memory_type(what.dtype)} {name}[{max(what.size, 1)}];")
        elif what in self.scopes.read:
            self.names[what] = self.words.new(what)
            if not (isinstance(s, ir.Set) and s.name == what):
                dtype = self.scopes.kinds[what]
                self.declared.add(what)
                self.line(f"{ctype(dtype)} {self.names[what]} = {literal(0, dtype)};")

    def only_fills(self, s, key: int) -> Buffer | None:
        """The one skipped output that a statement writes, if it does nothing else that is seen outside."""
        if not self.skipped or isinstance(s, (ir.Let, ir.Set, ir.Accum, ir.Check)):
            return None
        written: set[Buffer] = set()
        if not self._effects(s, key, written, True) or len(written) != 1:
            return None
        (output,) = written
        return output if output in self.skipped and output not in self.guarded else None

    def _effects(self, s, key: int, written: set, outside: bool) -> bool:
        """Whether a statement only writes to arrays (into `written`) and variables of its own."""
        if isinstance(s, ir.Check):
            return False
        if isinstance(s, (ir.Set, ir.Accum)):
            return not self._declared_in(s.name, key)
        if isinstance(s, (ir.Store, ir.AccumStore)) and not self._is_own(s.buffer, key):
            written.add(s.buffer)
        if isinstance(s, (ir.Tile, ir.Gemm)):
            written.add(s.c[0])
        if len(written) > 1:
            return False
        return all(self._effects(x, key, written, False) for b in ir.bodies(s) for x in b)

    def _is_own(self, buffer: Buffer, key: int) -> bool:
        return buffer.role == "local" and not self._declared_in(buffer, key)

    def _declared_in(self, what, key: int) -> bool:
        """Whether a name is declared in this list, or around it."""
        return what in self.names or any(
            what in found for (k, _), found in self.scopes.before.items() if k == key
        )

    # -- statements -------------------------------------------------------------------------------

    def let(self, s: ir.Let) -> None:
        if s.name not in self.scopes.read:
            return
        self.prepare(s.value)
        text = bare(self.expr(s.value))
        name = self.names[s.name] = self.words.new(s.name)
        self.line(f"const {self.type(s.value)} {name} = {text};")

    def set(self, s: ir.Set) -> None:
        if s.name not in self.scopes.read:
            return
        self.prepare(s.value)
        text = bare(self.expr(s.value))
        kind = "" if s.name in self.declared else f"{ctype(s.value.dtype)} "
        self.declared.add(s.name)
        self.line(f"{kind}{self.names[s.name]} = {text};")

    def accum(self, s: ir.Accum) -> None:
        if s.name in self.scopes.read:
            self.prepare(s.value)
            self.combine(s.op, self.names[s.name], s.value)

    def combine(self, op: str, target: str, value: ir.Expr) -> None:
        """``target = target op value``."""
        dtype = value.dtype
        floating = dtype.is_floating_point
        product = value.kind == "binary" and value.arg == "*" and floating
        if op == "add" and product and self.contract and value not in self.inlined:
            x, y = (bare(self.expr(a)) for a in value.args)
            self.line(f"{target} = {self.need('madd', dtype)}({x}, {y}, {target});")
            return
        x = self.expr(value)
        if op in ("max", "min"):
            if value not in self.inlined and value.kind not in ("var", "const"):
                self.line(f"const {ctype(dtype)} {(name := self.words.new('t'))} = {bare(x)};")
                x = name
            sign = ">" if op == "max" else "<"
            nan = f" | ({target} != {target})" if floating else ""
            old = f"({target} {sign} {x}){nan}"
            self.line(f"{target} = ({old}) ? {target} : {x};")
        elif op in ("or", "and"):
            self.line(f"{target} = {target} {'|' if op == 'or' else '&'} {x};")
        elif floating:
            self.line(f"{target} {'+' if op == 'add' else '*'}= {bare(x)};")
        else:
            sign = "+" if op == "add" else "*"
            text = self.wrapped(f"{target}", sign, x, dtype)
            self.line(f"{target} = {text};")

    def store(self, s: ir.Store) -> None:
        self.prepare(s.at, s.value)
        target = f"{self.names[s.buffer]}[{bare(self.index(s.at))}]"
        with self.guard(s.buffer):
            self.line(f"{target} = {bare(self.expr(s.value))};")

    def accum_store(self, s: ir.AccumStore) -> None:
        self.prepare(s.at, s.value)
        target = f"{self.names[s.buffer]}[{bare(self.index(s.at))}]"
        with self.guard(s.buffer):
            self.combine(s.op, target, s.value)

    @contextmanager
    def guard(self, buffer: Buffer):
        """Around what writes to `buffer`: only if somebody wants it."""
        if buffer in self.skipped and buffer not in self.guarded:
            with self.block(f"if ({self.names[buffer]}) {{"):
                yield
        else:
            yield

    def for_(self, s: ir.For) -> None:
        stop = str(s.axis.extent)
        if s.stop is not None:
            self.prepare(s.stop)
            stop = self.index(s.stop)
        outer, self.alone = self.alone, s.serial
        with self.block(self.loop_head(s.axis, stop)):
            self.body(s.body)
        self.alone = outer

    def while_(self, s: ir.While) -> None:
        outer, self.alone = self.alone, True
        with self.block("for (;;) {"):
            self.body(s.before)
            self.prepare(s.condition)
            self.line(f"if (!{self.expr(s.condition)})")
            self.line(f"{INDENT}break;")
            self.body(s.body, id(s.before), len(s.before) + 1)
        self.alone = outer

    def if_(self, s: ir.If) -> None:
        self.prepare(s.condition)
        with self.block(f"if ({bare(self.expr(s.condition))}) {{"):
            self.body(s.body)
        if s.orelse:
            with self.block("else {"):
                self.body(s.orelse)

    def check(self, s: ir.Check) -> None:
        self.prepare(s.condition)
        self.line(f"if (!{self.expr(s.condition)})")
        self.line(f"{INDENT}return {s.code};")

    def gemm(self, s: ir.Gemm) -> None:
        """Row-major, by CBLAS."""
        g = oriented(s)
        f = s.dtype.name == "float32"
        self.helpers.setdefault(("cblas", dtypes.float64), CBLAS)
        self.prepare(g.a[1], g.b[1], g.c[1])
        a, b, c = (f"{self.names[x[0]]} + {bare(self.index(x[1]))}" for x in (g.a, g.b, g.c))
        one, zero = ("1.0f", "0.0f") if f else ("1.0", "0.0")
        flags = [f"Cblas{'No' * (not t)}Trans" for t in (g.transposed_a, g.transposed_b)]
        args = ["CblasRowMajor", *flags, *map(str, (g.m, g.n, g.k)), one, a, str(g.lead_a), b]
        args += [str(g.lead_b), one if s.accumulate else zero, c, str(g.lead_c)]
        with self.guard(s.c[0]):
            self.line(f"cblas_{'s' if f else 'd'}gemm({', '.join(args)});")

    def tile(self, s: ir.Tile) -> None:
        with self.guard(s.c[0]):
            Tiler(self, s).emit()


CBLAS = "#include <cblas.h>\n"

STATEMENTS = {
    ir.Let: Statements.let,
    ir.Set: Statements.set,
    ir.Accum: Statements.accum,
    ir.Store: Statements.store,
    ir.AccumStore: Statements.accum_store,
    ir.For: Statements.for_,
    ir.While: Statements.while_,
    ir.If: Statements.if_,
    ir.Check: Statements.check,
    ir.Gemm: Statements.gemm,
    ir.Tile: Statements.tile,
}
