"""Register tiling: a sum of products with affine indices as loops around small register tiles.

A contraction, a convolution and either of its derivatives are one thing here: output axes, summed axes,
and a stride of each in the two operands and the result. ``best`` chooses which axis runs along the vector,
which two give rows and columns of a tile, and how large tiles are, by counting the machine's steps for
every choice. Two kinds of tile: *outer* ones multiply a number of one operand by a vector of the
other (the output runs along the vector); *dot* ones multiply vector by vector (the sum runs along it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from . import ir
from .ir import Axis, Expr
from .machine import Machine, present
from .nest import Nest


@dataclass(frozen=True)
class Dim:
    """A loop axis: its extent and its strides in operands a and b and in the result c."""

    extent: int
    a: int
    b: int
    c: int
    axis: Axis | None = None

    def swapped(self) -> Dim:
        return replace(self, a=self.b, b=self.a)


@dataclass(frozen=True)
class Problem:
    """``c[c0 + sum out] (+)= sum over inner of a[a0 + ..] * b[b0 + ..]``; a, b, c are (buffer, index)."""

    dtype: object
    out: tuple
    inner: tuple
    a: tuple
    b: tuple
    c: tuple
    accumulate: bool = False

    def swapped(self) -> Problem:
        return replace(
            self,
            out=tuple(d.swapped() for d in self.out),
            inner=tuple(d.swapped() for d in self.inner),
            a=self.b,
            b=self.a,
        )


@dataclass(frozen=True)
class Choice:
    """A way to tile: the axes and the sizes. `cost` in machine steps, `around` the loops left outside."""

    cost: float
    problem: Problem
    dot: bool
    vector: Dim
    row: Dim | None
    rows: int
    col: Dim | None
    cols: int
    vectors: int


def merged(dims) -> list[Dim]:
    """Axes that can be walked as one are one; those of extent 1 go."""
    dims = [d for d in dims if d.extent != 1]
    changed = True
    while changed:
        changed = False
        for outer in dims:
            for inner in dims:
                n = inner.extent
                own = outer.axis or inner.axis  # a loop that others may join stays
                if (
                    outer is not inner
                    and not own
                    and (outer.a, outer.b, outer.c)
                    == (
                        inner.a * n,
                        inner.b * n,
                        inner.c * n,
                    )
                ):
                    new = Dim(outer.extent * n, inner.a, inner.b, inner.c)
                    dims = [d for d in dims if d is not outer and d is not inner] + [new]
                    changed = True
                    break
            if changed:
                break
    return dims


def tiled_nest(problem: Problem) -> Nest:
    """The nest of a problem; the loops that tiles leave around them are its own, so others may join them."""
    if any(d.extent == 0 for d in (*problem.out, *problem.inner)):
        return _zeros(problem)
    machine = present()
    choice = best(problem, machine)
    tiling = Tiling(choice, machine)
    a, b, c = choice.problem.a, choice.problem.b, choice.problem.c
    store_at, axes = c[1], []
    for d in choice.problem.out:
        axis = d.axis or Axis(d.extent, "o")
        store_at = store_at + ir.var(axis) * d.c
        if tiling.takes(d):
            continue
        axes.append(axis)
        at = ir.var(axis)
        a, b, c = _shift(a, at * d.a), _shift(b, at * d.b), _shift(c, at * d.c)
    tiling.p = replace(choice.problem, a=a, b=b, c=c)
    return Nest(c[0], axes, len(axes), tiling.statements(), store_at=store_at)


def _zeros(problem: Problem) -> Nest:
    """Sums of nothing (or no sums at all)."""
    axes = [Axis(d.extent, "o") for d in problem.out]
    buffer, at = problem.c
    for axis, d in zip(axes, problem.out, strict=True):
        at = at + ir.var(axis) * d.c
    nothing = [] if problem.accumulate else [ir.Store(buffer, at, ir.const(0, problem.dtype))]
    return Nest(buffer, axes, len(axes), nothing, store_at=at)


# Tiles of fewer accumulators are not looked at where there can be more: a multiply-add takes several steps
# to finish, in which others can begin.
FEW = 6


# -- choosing -------------------------------------------------------------------------------------


def best(problem: Problem, machine: Machine) -> Choice:
    """The cheapest way to tile."""
    out, inner = tuple(merged(problem.out)), tuple(merged(problem.inner))
    if not any(d.c and bool(d.a) != bool(d.b) for d in out):
        out += (Dim(1, 0, 1, 1),)  # a single number, or a batch of them: a vector of one lane
    problem = replace(problem, out=out, inner=inner)
    found = None
    for p in (problem, problem.swapped()):
        for choice in (*_outer_choices(p, machine), *_dot_choices(p, machine)):
            if found is None or choice.cost < found.cost:
                found = choice
    return found


def _outer_choices(p: Problem, machine: Machine):
    lanes = machine.lanes(p.dtype)
    for v in p.out:
        if v.a or v.b <= 0 or v.c == 0:
            continue
        rows = [d for d in p.out if d.b == 0 and d.a] or [None]
        cols = [d for d in p.out if d is not v and d.a == 0 and d.b] + [None]
        for row in rows:
            for col in cols:
                for m in _sizes(row, 12):
                    for n in _sizes(col, 8 if v.extent > lanes // 2 else 8 * lanes):
                        for k in range(1, 5):
                            count = _vectors(v.extent, lanes, n, k)
                            if count is None or not _fits(m * count + count + 1, machine):
                                continue
                            if m * count < FEW and row and m < row.extent:
                                continue
                            cost = _outer_cost(p, lanes, v, row, m, col, n, k)
                            yield Choice(cost, p, False, v, row, m, col, n, k)


def _sizes(dim: Dim | None, limit: int) -> list[int]:
    if dim is None:
        return [1]
    top = min(dim.extent, limit)
    return [n for n in (1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 24, 32, 48) if n < top] + [top]


def _fits(registers: int, machine: Machine) -> bool:
    return registers <= machine.registers


def _vectors(extent: int, lanes: int, cols: int, k: int) -> int | None:
    """Vectors of a tile of `cols` columns, each `k` vectors along the axis, or None if it can't be."""
    if extent <= lanes // 2:  # several columns share a vector
        each = lanes // ir.slot_of(extent)
        return -(-cols // each) if k == 1 else None
    whole = -(-extent // lanes)
    if k > whole or (cols > 1 and k != whole):
        return None
    return k * cols


def _blocks(extent: int, size: int) -> list[tuple[int, int, int]]:
    """(start, size, how many) of the blocks of an axis: whole ones, then the rest."""
    whole = extent // size
    found = [(0, size, whole)] if whole else []
    if extent % size:
        found.append((whole * size, extent % size, 1))
    return found


def _outer_cost(p: Problem, lanes, v: Dim, row, m, col, n, k) -> float:
    """Steps of all tiles. A step is one vector multiply-add; a load of a whole vector is half of one."""
    depth = prod(d.extent for d in p.inner)
    used = {id(d) for d in (v, row, col) if d is not None}
    around = prod(d.extent for d in p.out if id(d) not in used)
    along = lanes * k if v.extent > lanes // 2 else v.extent
    total, variants = 0.0, 0
    for _, rows, count_r in _blocks(row.extent, m) if row else [(0, 1, 1)]:
        for _, cols, count_c in _blocks(col.extent, n) if col else [(0, 1, 1)]:
            for _, length, count_v in _blocks(v.extent, along):
                vectors, pieces = _layout_cost(length, cols, lanes)
                fma = rows * vectors
                load = pieces * _far(v.b, lanes) + rows
                step = max(fma, 0.5 * load + 0.25 * fma, 4) + 0.5
                lanes_out = length * cols * rows
                store = rows * pieces if v.c == 1 else 2 * lanes_out
                total += count_r * count_c * count_v * (depth * step + 2 * store + 12)
                variants += 1
    return around * total + 150 * variants


def _far(stride: int, lanes: int) -> float:
    """Loads for a vector whose lanes lie `stride` apart: one, two that are shuffled, or one a lane."""
    return {1: 1.0, 2: 3.0}.get(stride, (2 if stride <= 16 else 4) * lanes)


def _layout_cost(length: int, cols: int, lanes: int) -> tuple[int, float]:
    """(vectors, loads) of `cols` columns of `length` lanes."""
    pieces = length // lanes + (length % lanes).bit_count()
    if length > lanes // 2:
        return -(-length // lanes) * cols, pieces * cols
    each = lanes // ir.slot_of(length)
    inserts = (cols if each > 1 else 0) * 0.7
    return -(-cols // each), pieces * cols + inserts


def _dot_choices(p: Problem, machine: Machine):
    lanes = machine.lanes(p.dtype)
    for v in p.inner:
        if v.a <= 0 or v.b <= 0:
            continue
        rows = [d for d in p.out if d.b == 0 and d.a] or [None]
        cols = [d for d in p.out if d.a == 0 and d.b] or [None]
        for row in rows:
            for col in cols:
                for m in _sizes(row, 8):
                    for n in _sizes(col, 9):
                        larger = (row and m < row.extent) or (col and n < col.extent)
                        if m * n < FEW and larger:
                            continue
                        if _fits(m * n + min(m, n) + 1, machine):
                            cost = _dot_cost(p, lanes, v, row, m, col, n)
                            yield Choice(cost, p, True, v, row, m, col, n, 1)


def _dot_cost(p: Problem, lanes, v: Dim, row, m, col, n) -> float:
    others = [d for d in p.inner if d is not v]
    steps = _dot_steps(v, others, lanes)
    used = {id(d) for d in (row, col) if d is not None}
    around = prod(d.extent for d in p.out if id(d) not in used)
    total, variants = 0.0, 0
    for _, rows, count_r in _blocks(row.extent, m) if row else [(0, 1, 1)]:
        for _, cols, count_c in _blocks(col.extent, n) if col else [(0, 1, 1)]:
            work = 0.0
            for count, pieces in steps:
                load = rows * _far(v.a, lanes) + cols * _far(v.b, lanes)
                load *= pieces * (3 if pieces > 1 else 1)
                step = max(rows * cols, 0.5 * load + 0.25 * rows * cols, 4) + 0.5
                work += count * step * STREAMED
            total += count_r * count_c * (work + rows * cols * 5 + 12)
            variants += 1
    return around * total + 150 * variants


# Dot tiles read a vector of memory for few multiply-adds: the second-level cache sets their speed.
STREAMED = 1.4


def _dot_steps(v: Dim, others, lanes: int) -> list[tuple[int, int]]:
    """(how often, loads of one vector) of each walk of a dot tile."""
    rest = prod(d.extent for d in others)
    if v.extent <= lanes // 2 and others:
        wide = max(others, key=lambda d: d.extent)
        each = min(lanes // ir.slot_of(v.extent), wide.extent)
        rest //= wide.extent
        pieces = v.extent.bit_count() * each
        steps = [(rest * (wide.extent // each), pieces)]
        if wide.extent % each:
            steps.append((rest, v.extent.bit_count() * (wide.extent % each)))
        return steps
    steps = [(rest * (v.extent // lanes), 1)] if v.extent >= lanes else []
    if v.extent % lanes:
        steps.append((rest, (v.extent % lanes).bit_count()))
    return steps


# -- building -------------------------------------------------------------------------------------


def _shift(place: tuple, amount: Expr | int) -> tuple:
    return place[0], place[1] + amount


def _blocked(dim: Dim | None, size: int, name: str):
    """For each kind of block of an axis: (loop axis or None, index of the block's start, its size)."""
    if dim is None:
        yield None, ir.index(0), 1
        return
    for start, length, count in _blocks(dim.extent, size):
        if count == 1:
            yield None, ir.index(start), length
        else:
            axis = Axis(count, name)
            yield axis, ir.var(axis) * length + start, length


def _around(axis: Axis | None, body: list) -> list:
    return body if axis is None else [ir.For(axis, body)]


class Tiling:
    """The statements of a choice, for one machine."""

    def __init__(self, choice: Choice, machine: Machine):
        self.choice = choice
        self.p = choice.problem
        self.lanes = machine.lanes(self.p.dtype)

    def takes(self, dim: Dim) -> bool:
        """Whether tiles walk an output axis; a loop around them walks the others."""
        ch = self.choice
        return any(dim is d for d in (ch.row, ch.col, None if ch.dot else ch.vector))

    def statements(self) -> list:
        ch = self.choice
        body: list = []
        for col_axis, col_at, cols in _blocked(ch.col, ch.cols, "col"):
            inner: list = []
            for v_axis, v_at, length in self._along():
                rows: list = []
                for row_axis, row_at, count in _blocked(ch.row, ch.rows, "row"):
                    tile = self._tile(row_at, count, col_at, cols, v_at, length)
                    rows += _around(row_axis, [tile])
                inner += _around(v_axis, rows)
            body += _around(col_axis, inner)
        return body

    def _along(self):
        ch = self.choice
        if ch.dot:
            yield None, ir.index(0), 0
        elif ch.vector.extent <= self.lanes // 2:
            yield None, ir.index(0), ch.vector.extent
        else:
            yield from _blocked(ch.vector, self.lanes * ch.vectors, "vec")

    def _tile(self, row_at, count, col_at, cols, v_at, length) -> ir.Tile:
        ch, p = self.choice, self.p
        row = ch.row or Dim(1, 0, 0, 0)
        col = ch.col or Dim(1, 0, 0, 0)
        v = ch.vector
        a = _shift(p.a, row_at * row.a)
        b = _shift(p.b, col_at * col.b + (v_at * v.b if not ch.dot else 0))
        c = _shift(p.c, row_at * row.c + col_at * col.c + (v_at * v.c if not ch.dot else 0))
        b_rows = tuple(k * row.a for k in range(count))
        c_rows = tuple(k * row.c for k in range(count))
        if ch.dot:
            b_cols = tuple(((k * col.b, 1),) for k in range(cols))
            c_cols = tuple(((k * col.c, 1),) for k in range(cols))
            walks = tuple(self._dot_walks(a, b, b_rows, b_cols))
            return ir.Tile(p.dtype, walks, c, c_rows, c_cols, 1, True, p.accumulate)
        shape = self._vectors(cols, length)
        b_cols = tuple(tuple((k * col.b + e * v.b, n) for k, e, n in vec) for vec in shape)
        c_cols = tuple(tuple((k * col.c + e * v.c, n) for k, e, n in vec) for vec in shape)
        axes, (a, b) = _inner_loops(p.inner, a, b)
        walk = _walk(axes, a, b, b_rows, b_cols, (0, v.b))
        return ir.Tile(p.dtype, (walk,), c, c_rows, c_cols, v.c, False, p.accumulate)

    def _vectors(self, cols: int, length: int) -> list:
        """Vectors as runs (column, element along the axis, lanes)."""
        lanes = self.lanes
        if length <= lanes // 2 and self.choice.col is not None and cols > 1:
            each = lanes // ir.slot_of(length)
            return [
                [(k, 0, length) for k in range(first, min(first + each, cols))]
                for first in range(0, cols, each)
            ]
        return [
            [(k, start, min(lanes, length - start))]
            for k in range(cols)
            for start in range(0, length, lanes)
        ]

    def _dot_walks(self, a, b, rows, cols):
        v, lanes = self.choice.vector, self.lanes
        others = [d for d in self.p.inner if d is not v]
        steps = (v.a, v.b)
        if v.extent <= lanes // 2 and others:
            wide = max(others, key=lambda d: d.extent)
            others = [d for d in others if d is not wide]
            each = min(lanes // ir.slot_of(v.extent), wide.extent)
            for axis, at, size in _blocked(wide, each, "sum"):
                runs = tuple((k * wide.a, k * wide.b, v.extent) for k in range(size))
                yield self._dot_walk(a, b, rows, cols, steps, others, axis, wide, at, runs)
            return
        for start, size, count in _blocks(v.extent, lanes):
            axis = Axis(count, "sum") if count > 1 else None
            at = ir.index(start) if axis is None else ir.var(axis) * lanes
            yield self._dot_walk(a, b, rows, cols, steps, others, axis, v, at, ((0, 0, size),))

    @staticmethod
    def _dot_walk(a, b, rows, cols, steps, others, axis, dim, at, runs) -> ir.Walk:
        axes, (a, b) = _inner_loops(others, a, b)
        if axis is not None:
            axes = (*axes, axis)
        return _walk(axes, _shift(a, at * dim.a), _shift(b, at * dim.b), rows, cols, steps, runs)


def _inner_loops(dims, a, b):
    """Axes over `dims`, far strides outside, and the places that they lead to."""
    ordered = sorted(dims, key=lambda d: (-abs(d.b), -abs(d.a)))
    axes = tuple(Axis(d.extent, "sum") for d in ordered)
    for axis, d in zip(axes, ordered, strict=True):
        a, b = _shift(a, ir.var(axis) * d.a), _shift(b, ir.var(axis) * d.b)
    return axes, (a, b)


def _walk(axes, a, b, rows, cols, steps, lanes=()) -> ir.Walk:
    """A walk whose offsets are not negative (its places move down instead)."""
    low_a = min(rows)
    low_b = min(o for v in cols for o, _ in v)
    rows = tuple(r - low_a for r in rows)
    cols = tuple(tuple((o - low_b, n) for o, n in v) for v in cols)
    return ir.Walk(axes, _shift(a, low_a), _shift(b, low_b), rows, cols, steps, lanes)
