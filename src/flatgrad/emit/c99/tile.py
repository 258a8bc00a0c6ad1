"""The C99 of register tiles: accumulators are vectors with names, so that they stay in registers.

A vector of any number of lanes is kept as vectors of 1, 2, 4, ... lanes: nothing is read or written outside
of the arrays, and every lane does what it does in one register.
"""

from __future__ import annotations

from ...lower import ir
from ...lower.ir import powers, slot_of
from .expressions import bare
from .vectors import halved, name_of, vector
from .words import ctype

__all__ = ["Tiler"]


def _pieces(vectors, step: int) -> list[tuple[int, int]]:
    """(offset, lanes) of the pieces of all vectors."""
    found = []
    for runs in vectors:
        for at, n in runs:
            for size in powers(n):
                found.append((at, size))
                at += size * step
    return found


class Tiler:
    """Prints one ``ir.Tile``."""

    def __init__(self, printer, tile: ir.Tile):
        self.p, self.tile, self.f = printer, tile, ctype(tile.dtype)

    def emit(self) -> None:
        with self.p.block("{"):
            if self.tile.dot:
                self.dot()
            else:
                self.outer()

    # -- helpers ----------------------------------------------------------------------------------

    def op(self, name: str, lanes: int, *args: str) -> str:
        """An operation on vectors of `lanes` lanes."""
        given = ", ".join(args)
        if lanes > 1:
            return f"fg_{name}_{self.need(lanes)}({given})"
        if name == "madd" and self.p.contract:
            return f"{self.p.need('madd', self.tile.dtype)}({given})"
        return {"madd": "{0} * {1} + {2}", "add": "{0} + {1}"}[name].format(*args)

    def need(self, lanes: int) -> str:
        dtype, n = self.tile.dtype, name_of(self.tile.dtype, lanes)
        if self.p.contract:
            self.p.need("madd", dtype)
        self.p.helpers.setdefault(("vector", n), vector(dtype, lanes, self.p.contract))
        return n

    def type(self, lanes: int) -> str:
        return f"fg_{self.need(lanes)}" if lanes > 1 else self.f

    def zero(self, lanes: int) -> str:
        zero = "0.0f" if self.f == "float" else "0.0"
        return f"fg_splat_{self.need(lanes)}({zero})" if lanes > 1 else zero

    def get(self, at: str, offset: int, lanes: int, step: int) -> str:
        """`lanes` elements of memory, `step` apart."""
        if lanes == 1:
            return f"{at}[{offset}]"
        if step == 1:
            return f"fg_load_{self.need(lanes)}({at} + {offset})"
        if step == 0:
            return f"fg_splat_{self.need(lanes)}({at}[{offset}])"
        each = ", ".join(f"{at}[{offset + k * step}]" for k in range(lanes))
        return f"fg_make_{self.need(lanes)}({each})"

    def walks(self, step) -> None:
        """The loops of every walk around `step(walk)`."""
        for w in self.tile.walks:
            around = self.p.loops(w.axes) if w.axes else self.p.block("{")
            with around:
                self.p.prepare(w.a[1], w.b[1])
                for name, (buffer, at) in (("a", w.a), ("b", w.b)):
                    where = bare(self.p.index(at))
                    self.p.line(f"const {self.f} *const {name} = {self.p.names[buffer]} + {where};")
                step(w)

    # -- outer products ---------------------------------------------------------------------------

    def outer(self) -> None:
        tile, p = self.tile, self.p
        sizes = [n for _, n in _pieces(tile.cols, tile.step)]
        for r in range(len(tile.rows)):
            for j, n in enumerate(sizes):
                p.line(f"{self.type(n)} c{r}_{j} = {self.zero(n)};")
        self.walks(self.outer_step)
        self.start()
        for r, row in enumerate(tile.rows):
            for j, (at, n) in enumerate(_pieces(tile.cols, tile.step)):
                self.put(f"c{r}_{j}", row + at, n, tile.step)

    def outer_step(self, w: ir.Walk) -> None:
        p = self.p
        pieces = _pieces(w.cols, w.steps[1])
        for j, (at, n) in enumerate(pieces):
            p.line(f"const {self.type(n)} y{j} = {self.get('b', at, n, w.steps[1])};")
        for r, row in enumerate(w.rows):
            widths = sorted({n for _, n in pieces})
            for n in widths:
                p.line(f"const {self.type(n)} x{r}_{n} = {self.get('a', row, n, 0)};")
            for j, (_, n) in enumerate(pieces):
                p.line(f"c{r}_{j} = {self.op('madd', n, f'x{r}_{n}', f'y{j}', f'c{r}_{j}')};")

    def start(self) -> None:
        buffer, at = self.tile.c
        self.p.prepare(at)
        where = bare(self.p.index(at))
        self.p.line(f"{self.f} *const c = {self.p.names[buffer]} + {where};")

    def put(self, value: str, at: int, lanes: int, step: int) -> None:
        """Store a number or a vector's lanes `step` apart, or add them to what is there."""
        p = self.p
        if lanes > 1 and step == 1:
            if self.tile.accumulate:
                value = self.op("add", lanes, self.get("c", at, lanes, 1), value)
            p.line(f"fg_put_{self.need(lanes)}(c + {at}, {value});")
            return
        sign = "+=" if self.tile.accumulate else "="
        for k in range(lanes):
            lane = f"fg_lane_{self.need(lanes)}({value}, {k})" if lanes > 1 else value
            p.line(f"c[{at + k * step}] {sign} {lane};")

    # -- inner products ---------------------------------------------------------------------------

    def dot(self) -> None:
        tile, p = self.tile, self.p
        self.lanes = max(slot_of(sum(slot_of(n) for *_, n in w.lanes)) for w in tile.walks)
        cols = [v[0][0] for v in tile.cols]
        for r in range(len(tile.rows)):
            for j in range(len(cols)):
                p.line(f"{self.type(self.lanes)} c{r}_{j} = {self.zero(self.lanes)};")
        self.walks(self.dot_step)
        self.start()
        for r, row in enumerate(tile.rows):
            done = 0
            for count in self.groups(len(cols)):
                vectors = [f"c{r}_{j}" for j in range(done, done + count)]
                at = [row + x for x in cols[done : done + count]]
                self.put_each(self.sums(vectors), at)
                done += count

    def groups(self, count: int) -> list[int]:
        """Numbers of vectors that are summed together."""
        whole, rest = divmod(count, self.lanes)
        return [self.lanes] * whole + powers(rest)

    def sums(self, vectors: list[str]) -> str:
        """The sums of all lanes of each of a power of two of vectors, as lanes of one vector.

        Each is summed by halves, half sums of two vectors in one: as many additions as half the vectors.
        """
        lanes, done = self.lanes, 1
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [self.half("fold", lanes, done, x, y) for x, y in pairs]
            done *= 2
        (value,) = vectors
        while lanes > done:
            value = self.half("halve", lanes, done, value)
            lanes //= 2
        return value

    def half(self, what: str, lanes: int, parts: int, *vectors: str) -> str:
        """The first halves of the parts of vectors plus the second ones."""
        n = self.need(lanes)
        if lanes == 2 and what == "halve":
            (v,) = vectors
            return f"fg_lane_{n}({v}, 0) + fg_lane_{n}({v}, 1)"
        if lanes > 2:
            self.need(lanes // 2)
        helper = halved(self.tile.dtype, lanes, parts, len(vectors))
        self.p.helpers.setdefault((f"{what}{parts}", n), helper)
        name = self.p.words.new("s")
        kind = self.type(lanes if what == "fold" else lanes // 2)
        self.p.line(f"const {kind} {name} = fg_{what}{parts}_{n}({', '.join(vectors)});")
        return name

    def put_each(self, value: str, at: list[int]) -> None:
        """Store the lanes of a vector at these places."""
        lanes = len(at)
        if at == list(range(at[0], at[0] + lanes)):
            self.put(value, at[0], lanes, 1)
            return
        for k, x in enumerate(at):
            self.put(f"fg_lane_{self.need(lanes)}({value}, {k})", x, 1, 1)

    def dot_step(self, w: ir.Walk) -> None:
        p, kind = self.p, self.type(self.lanes)
        for j, v in enumerate(w.cols):
            runs = [(q, n) for _, q, n in w.lanes]
            p.line(f"const {kind} y{j} = {self.gather('b', v[0][0], runs, w.steps[1])};")
        for r, row in enumerate(w.rows):
            runs = [(q, n) for q, _, n in w.lanes]
            p.line(f"const {kind} x{r} = {self.gather('a', row, runs, w.steps[0])};")
            for j in range(len(w.cols)):
                p.line(f"c{r}_{j} = {self.op('madd', self.lanes, f'x{r}', f'y{j}', f'c{r}_{j}')};")

    def gather(self, at: str, offset: int, runs, step: int) -> str:
        """One vector of runs of memory; each takes a power of two of its lanes, and others are 0."""
        if len(runs) == 1 and runs[0][1] == self.lanes:
            return self.get(at, offset + runs[0][0], self.lanes, step)
        zero = "0.0f" if self.f == "float" else "0.0"
        each: list[str] = []
        for start, n in runs:
            each += [f"{at}[{offset + start + k * step}]" for k in range(n)]
            each += [zero] * (slot_of(n) - n)
        each += [zero] * (self.lanes - len(each))
        return f"fg_make_{self.need(self.lanes)}({', '.join(each)})"
