"""Contractions: register tiles, but loops where they are tiny, and BLAS where matrices outgrow the caches.

Operands are read through their strides. A label that an operand's memory holds in two pieces (heads that were
cut out of a row, say: an index with ``i // n`` and ``i % n``) is walked by two loops, for which everything is
affine again.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

from ..graph.node import Node
from . import ir
from .index import linear
from .ir import Axis, Buffer, Expr
from .layout import Layout, affine, cheapest, copied
from .machine import present
from .nest import Nest, fresh, identity, memory_accumulation, substitute
from .pull import Pull, flat_index
from .tile import Dim, Problem, best, tiled_nest

# Multiply-adds from which register tiles beat loops that LLVM arranges: with short vectors, with vectors of
# four numbers or more times a vector, and two matrices (5 x 5 ones take a quarter of the time).
TILE_WORK, TILE_VECTOR, TILE_MATRIX = 256, 110, 64
WIDE = 4  # numbers


def contraction(pull: Pull, node: Node, buffer: Buffer, accumulate: bool = False) -> list[Nest]:
    """``buffer = a . b``, or ``buffer += a . b``."""
    c = Contraction(pull, node, buffer, accumulate)
    if c.x.kind == "load" and c.y.kind == "load" and node.dtype.is_floating_point:
        rows, cols, inner = (prod(a.extent for a in group) for group in (c.rows, c.cols, c.inner))
        work = rows * cols * inner
        if work >= _least_work(min(rows, cols), node.dtype) and c.strides is not None:
            if work >= present().blas_work:
                call = c.gemm()
                if call is not None:
                    return [call]
            return c.tiled()
    return [c.loops()]


def _least_work(narrow: int, dtype) -> int:
    """From how many multiply-adds on a tile is worth it; `narrow` is the result's smaller extent."""
    if present().exact or present().lanes(dtype) < WIDE:
        return TILE_WORK
    return TILE_MATRIX if narrow > 1 else TILE_VECTOR


class Contraction:
    """One contraction being lowered: its axes, and the elements of operands and result at them."""

    def __init__(self, pull: Pull, node: Node, buffer: Buffer, accumulate: bool):
        self.pull, self.node, self.buffer, self.accumulate = pull, node, buffer, accumulate
        a, b = node.inputs
        self.specs = node.attrs
        spec_a, spec_b, _ = self.specs
        sizes = dict(zip(spec_a, a.shape, strict=True)) | dict(zip(spec_b, b.shape, strict=True))
        # The axes that walk a label, the outer one first, with the steps that each takes.
        self.walks = {label: [(Axis(n, f"c{label}"), 1)] for label, n in sizes.items()}
        self._pull_elements()
        while self._split():
            self._pull_elements()
        self._groups()
        places = [self.x, self.y, ir.load(buffer, self.out)]
        strides = [affine(e, self.axes) if e.kind == "load" else None for e in places]
        self.strides = None
        if None not in strides:
            self.strides = [dict(zip(self.axes, s, strict=True)) for s in strides]

    def _pull_elements(self) -> None:
        a, b = self.node.inputs
        spec_a, spec_b, spec_out = self.specs
        at = {label: self._index(label) for label in self.walks}
        self.x = self.pull.element(a, [at[k] for k in spec_a])
        self.y = self.pull.element(b, [at[k] for k in spec_b])
        self.out = flat_index([at[k] for k in spec_out], self.node.shape)

    def _index(self, label) -> Expr:
        total = ir.index(0)
        for axis, step in self.walks[label]:
            if axis.extent != 1:
                total = total + ir.var(axis) * step
        return total

    def _split(self) -> bool:
        """Cut an axis in two where an operand's index divides it by a number; whether one was cut."""
        loads = [e for e in (self.x, self.y) if e.kind == "load"]
        for atom in [atom for e in loads for atom in linear(e.args[0])[0]]:
            if atom.kind != "binary" or atom.arg not in ("//", "%") or atom.args[1].kind != "const":
                continue
            n = atom.args[1].arg
            for walk in self.walks.values():
                for k, (axis, step) in enumerate(walk):
                    if atom.args[0] is ir.var(axis) and n > 1 and axis.extent % n == 0:
                        outer, inner = Axis(axis.extent // n, axis.name), Axis(n, axis.name)
                        walk[k : k + 1] = [(outer, step * n), (inner, step)]
                        return True
        return False

    def _groups(self) -> None:
        spec_a, spec_b, spec_out = self.specs

        def axes(labels):
            return [axis for label in labels for axis, _ in self.walks[label]]

        self.axes = axes(self.walks)
        self.batch = axes([k for k in spec_out if k in spec_a and k in spec_b])
        self.rows = axes([k for k in spec_out if k not in spec_b])
        self.cols = axes([k for k in spec_out if k not in spec_a])
        self.inner = axes([k for k in spec_a if k not in spec_out])
        self.outer = axes(spec_out)

    # -- register tiles ---------------------------------------------------------------------------

    def tiled(self) -> list[Nest]:
        """Register tiles, inside loops over the output's axes that they leave."""
        zero = {ir.var(axis): ir.index(0) for axis in self.axes}
        loads = (self.x, self.y)
        here = [(e.arg, substitute(e.args[0], zero)) for e in loads]
        layouts = [
            [Layout([s[axis] for axis in self.axes], 0.0, lambda nests, place=place: place)]
            for s, place in zip(self.strides, here, strict=False)
        ]
        if best(self._problem(*[side[0].strides for side in layouts]), present()).dot:
            operands = zip(self.node.inputs, self.specs, self.strides, strict=False)
            for side, operand in zip(layouts, operands, strict=True):
                side += self._turned(*operand)
        nests: list[Nest] = []
        problem = cheapest(self._problem, *layouts, nests)
        return [*nests, tiled_nest(problem)]

    def _turned(self, node: Node, spec, strides) -> list[Layout]:
        """Copies of an operand whose innermost dimension is one that the output has."""
        found = []
        for last, label in enumerate(spec):
            is_last = any(strides[axis] == 1 for axis, _ in self.walks[label])
            if label in self.specs[2] and node.shape[last] >= 4 and not is_last:
                made = copied(self.pull, node, last=last)
                by_axis = dict.fromkeys(self.axes, 0)
                for k, stride in zip(spec, made.strides, strict=True):
                    by_axis |= {axis: step * stride for axis, step in self.walks[k]}
                found.append(Layout([by_axis[axis] for axis in self.axes], made.cost, made.place))
        return found

    def _problem(self, sa, sb, a=None, b=None) -> Problem:
        sa, sb = dict(zip(self.axes, sa, strict=True)), dict(zip(self.axes, sb, strict=True))
        sc, zero = self.strides[2], {ir.var(axis): ir.index(0) for axis in self.axes}

        def dims(axes):
            return tuple(
                Dim(x.extent, sa[x], sb[x], sc[x], x if x in self.batch else None) for x in axes
            )

        c = (self.buffer, substitute(self.out, zero))
        out, inner = dims(self.outer), dims(self.inner)
        return Problem(self.node.dtype, out, inner, a, b, c, self.accumulate)

    # -- BLAS -------------------------------------------------------------------------------------

    def gemm(self) -> Nest | None:
        """A BLAS call, inside loops over the batch; None if BLAS can't read the operands."""
        sa, sb, so = self.strides
        m, n, k = (
            _merge(self.rows, (sa, so)),
            _merge(self.cols, (sb, so)),
            _merge(self.inner, (sa, sb)),
        )
        if m is None or n is None or k is None or min(m[0], n[0]) < 4:
            return None
        zero = {ir.var(x): ir.index(0) for x in (*self.rows, *self.cols, *self.inner)}

        def operand(e: Expr, row, column):
            return e.arg, substitute(e.args[0], zero), row, column

        call = ir.Gemm(
            self.node.dtype,
            m[0],
            n[0],
            k[0],
            operand(self.x, m[1][0], k[1][0]),
            operand(self.y, k[1][1], n[1][0]),
            (self.buffer, substitute(self.out, zero), m[1][1], n[1][1]),
            self.accumulate,
        )
        sizes = ((call.a, m[0], k[0]), (call.b, k[0], n[0]), (call.c, m[0], n[0]))
        if not all(unit_stride(*op) for op in sizes):
            return None
        return Nest(self.buffer, self.batch, len(self.batch), [call], store_at=self.out)

    # -- plain loops ------------------------------------------------------------------------------

    def loops(self) -> Nest:
        """Accumulate in memory along a contiguous output row, else in a register."""
        dtype, buffer, out = self.node.dtype, self.buffer, self.out
        logical = dtype.category == 0
        value = self.x & self.y if logical else self.x * self.y
        op = "or" if logical else "add"
        last = next((a for a in reversed(self.outer) if a.extent != 1), None)
        if last is not None and self.inner and _walks(self.x, self.y, last, self.inner):
            order = [a for a in self.outer if a is not last] + self.inner + [last]
            complete = len(self.outer) - 1
            nest = memory_accumulation(buffer, op, order, complete, out, value, dtype)
            if self.accumulate:
                nest.before.clear()
            return nest
        name = fresh("acc")
        total = ir.var(name, dtype)
        store = ir.Store(buffer, out, total)
        return Nest(
            buffer,
            self.outer + self.inner,
            len(self.outer),
            [ir.Accum(name, op, value)],
            before=[ir.Set(name, identity(op, dtype))],
            after=[ir.AccumStore(buffer, out, op, total) if self.accumulate else store],
            store_at=out,
        )


def _merge(axes, strides):
    """One (size, strides) for a group of axes walked as a single index, or None."""
    axes = [a for a in axes if a.extent != 1]
    if not axes:
        return 1, [0] * len(strides)
    for s in strides:
        for outer, inner in pairwise(axes):
            if s[outer] != s[inner] * inner.extent:
                return None
    return prod(a.extent for a in axes), [s[axes[-1]] for s in strides]


def unit_stride(operand, rows: int, cols: int) -> bool:
    """Whether BLAS can read a matrix: one of its strides is 1 and the other spans a row."""
    _, _, rs, cs = operand
    by_rows = (cs == 1 or cols == 1) and (rs >= cols or rows == 1)
    by_cols = (rs == 1 or rows == 1) and (cs >= rows or cols == 1)
    return by_rows or by_cols


def _walks(x: Expr, y: Expr, last: Axis, inner) -> bool:
    """Whether the loop over the output's last axis reads memory in order, and the summed one does not."""

    def step(e, axis):
        if e.kind != "load":
            return 0
        return abs(linear(e.args[0])[0].get(ir.var(axis), 0))

    along = max(step(x, last), step(y, last))
    across = max((step(e, k) for e in (x, y) for k in inner), default=0)
    return (along == 1 and across != 1) or (along == 1 and last.extent >= 8)
