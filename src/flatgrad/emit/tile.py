"""The LLVM of register tiles: explicit vectors, so that no vectoriser has to find them.

The accumulators are stack slots of vector type in the entry block, which LLVM promotes to registers. Vectors
of any number of lanes are put together from loads of 1, 2, 4, ... lanes, so nothing is read or written
outside of the arrays; only where the program says so (``Walk.wide``) is a last vector read whole.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir as L

from ..lower import ir
from ..lower.ir import powers, slot_of

I32, I64 = L.IntType(32), L.IntType(64)


# Loops around tiles are what they should be: LLVM need not think about unrolling or vectorising them.
AS_THEY_ARE = (
    ("llvm.loop.unroll.disable",),
    ("llvm.loop.vectorize.width", 1),
    ("llvm.loop.interleave.count", 1),
)


def width(vector) -> int:
    """The lanes of the register for a vector of runs."""
    return slot_of(sum(slot_of(n) for _, n in vector))


class Tiler:
    """Emits one ``ir.Tile``."""

    def __init__(self, emitter, tile: ir.Tile, kind: L.Type):
        self.emitter, self.tile, self.kind, self.b = emitter, tile, kind, emitter.b

    def emit(self) -> None:
        tile, b = self.tile, self.b
        if tile.dot:
            lanes = max(width([(0, n) for _, _, n in w.lanes]) for w in tile.walks)
            types = [L.VectorType(self.kind, lanes)] * len(tile.cols)
        else:
            types = [L.VectorType(self.kind, width(v)) for v in tile.cols]
        with b.goto_entry_block():
            slots = [[b.alloca(t, name="tile") for t in types] for _ in tile.rows]
        for row in slots:
            for slot, t in zip(row, types, strict=True):
                b.store(L.Constant(t, None), slot)
        for walk in tile.walks:
            self.walk(walk, list(walk.axes), slots, types)
        buffer, at = tile.c
        start = self.emitter.pointer(buffer, at)
        for row, offset in zip(slots, tile.rows, strict=True):
            for slot, t, vector in zip(row, types, tile.cols, strict=True):
                value = b.load(slot, typ=t)
                if tile.dot:
                    self.put(self.sum(value), start, offset + vector[0][0])
                else:
                    self.store(value, start, offset, vector)

    def walk(self, walk: ir.Walk, axes, slots, types) -> None:
        if axes:
            self.emitter.loop(
                axes[0],
                axes[0].extent,
                lambda: self.walk(walk, axes[1:], slots, types),
                AS_THEY_ARE,
            )
            return
        self.emitter.memo = {}
        a, b = self.emitter.pointer(*walk.a), self.emitter.pointer(*walk.b)
        step_a, step_b = walk.steps
        if self.tile.dot:
            lanes = types[0].count
            runs_a = [(p, n) for p, _, n in walk.lanes]
            runs_b = [(q, n) for _, q, n in walk.lanes]
            cols = [self.vector(b, v[0][0], runs_b, step_b, lanes, False) for v in walk.cols]
            rows = (self.vector(a, p, runs_a, step_a, lanes, False) for p in walk.rows)
        else:
            cols = [
                self.vector(b, 0, v, step_b, t.count, walk.wide)
                for v, t in zip(walk.cols, types, strict=True)
            ]
            rows = (self.get(a, p) for p in walk.rows)
        for x, row in zip(rows, slots, strict=True):
            spread: dict = {}  # a row's number in vectors of each width
            for slot, t, y in zip(row, types, cols, strict=True):
                if t.count not in spread:
                    spread[t.count] = x if self.tile.dot else self.splat(x, t)
                product = self.b.fmul(spread[t.count], y, flags=self.emitter.products)
                total = self.b.fadd(self.b.load(slot, typ=t), product, flags=self.emitter.sums)
                self.b.store(total, slot)

    # -- memory -----------------------------------------------------------------------------------

    def at(self, start, offset: int):
        if not offset:
            return start
        return self.b.gep(start, [L.Constant(I64, offset)], inbounds=True, source_etype=self.kind)

    def get(self, start, offset: int, kind=None):
        size = self.tile.dtype.itemsize
        return self.b.load(self.at(start, offset), typ=kind or self.kind, align=size)

    def put(self, value, start, offset: int) -> None:
        """Store a number or a vector, or add it to what is there."""
        if self.tile.accumulate:
            before = self.get(start, offset, value.type)
            value = self.b.fadd(before, value, flags=self.emitter.sums)
        self.b.store(value, self.at(start, offset), align=self.tile.dtype.itemsize)

    def vector(self, start, offset: int, runs, step: int, lanes: int, wide: bool):
        """A vector of `lanes` lanes from runs of memory; lanes beyond are 0, or anything if `wide`."""
        if step not in (0, 1, 2):
            return self.gathered(start, offset, runs, step, lanes)
        pieces, place = [], 0
        for at, n in runs:
            whole = wide and step == 1
            lane = place
            for size in [slot_of(n)] if whole else powers(n):
                pieces.append((lane, self.piece(start, offset + at, size, step)))
                at += size * step
                lane += size
            place += slot_of(n)
        if len(pieces) == 1 and pieces[0][1].type == L.VectorType(self.kind, lanes):
            return pieces[0][1]
        result = L.Constant(L.VectorType(self.kind, lanes), None)
        for lane, piece in pieces:
            result = self.insert(result, piece, lane)
        return result

    def piece(self, start, offset: int, size: int, step: int):
        """`size` lanes, a power of two, that lie `step` apart."""
        if size == 1:
            return self.get(start, offset)
        whole = L.VectorType(self.kind, size)
        if step == 0:
            return self.splat(self.get(start, offset), whole)
        if step == 1:
            return self.get(start, offset, whole)
        # Every second element of two loads that meet in one: nothing behind the last is read.
        low = self.get(start, offset, whole)
        high = self.get(start, offset + size - 1, whole)
        half = size // 2
        mask = [2 * k if k < half else size + 2 * (k - half) + 1 for k in range(size)]
        return self.b.shuffle_vector(low, high, _mask(mask))

    def gathered(self, start, offset: int, runs, step: int, lanes: int):
        result = L.Constant(L.VectorType(self.kind, lanes), None)
        place = 0
        for at, n in runs:
            for k in range(n):
                x = self.get(start, offset + at + k * step)
                result = self.b.insert_element(result, x, L.Constant(I32, place + k))
            place += slot_of(n)
        return result

    def insert(self, into, piece, lane: int):
        lanes = into.type.count
        if not isinstance(piece.type, L.VectorType):
            return self.b.insert_element(into, piece, L.Constant(I32, lane))
        n = piece.type.count
        spread = self.b.shuffle_vector(
            piece, L.Constant(piece.type, None), _mask([min(k, n) for k in range(lanes)])
        )
        mask = [lanes + k - lane if lane <= k < lane + n else k for k in range(lanes)]
        return self.b.shuffle_vector(into, spread, _mask(mask))

    def store(self, value, start, offset: int, vector) -> None:
        lane = 0
        for at, n in vector:
            at += offset
            place = lane
            lane += slot_of(n)
            if self.tile.step != 1:
                for k in range(n):
                    x = self.b.extract_element(value, L.Constant(I32, place + k))
                    self.put(x, start, at + k * self.tile.step)
                continue
            for size in powers(n):
                self.put(self.cut(value, place, size), start, at)
                at += size
                place += size

    # -- registers --------------------------------------------------------------------------------

    def cut(self, value, lane: int, size: int):
        if size == value.type.count:
            return value
        if size == 1:
            return self.b.extract_element(value, L.Constant(I32, lane))
        mask = _mask(list(range(lane, lane + size)))
        return self.b.shuffle_vector(value, L.Constant(value.type, None), mask)

    def splat(self, x, t: L.VectorType):
        one = self.b.insert_element(L.Constant(t, None), x, L.Constant(I32, 0))
        first = L.Constant(L.VectorType(I32, t.count), None)
        return self.b.shuffle_vector(one, L.Constant(t, None), first)

    def sum(self, value):
        """The sum of all lanes, by halves."""
        n = value.type.count
        while n > 1:
            n //= 2
            low, high = self.cut(value, 0, n), self.cut(value, n, n)
            value = self.b.fadd(low, high)
        return value


def _mask(lanes) -> L.Constant:
    return _mask_of(tuple(lanes))


@lru_cache(maxsize=1024)
def _mask_of(lanes: tuple) -> L.Constant:
    return L.Constant(L.VectorType(I32, len(lanes)), list(lanes))
