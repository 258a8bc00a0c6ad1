"""The Python table: a loop program as readable source that Numba jits, and that runs as plain Python.

``program.source`` is this text. With ``NUMBA_DISABLE_JIT=1`` it is also what runs, so a debugger steps
through the very loops that are otherwise machine code.
"""

from __future__ import annotations

import math

from ..graph import dtypes
from ..graph.dtypes import DType
from ..lower import ir
from ..lower.ir import Axis, Expr

INDENT = "    "


def number(value, dtype: DType) -> str:
    """An exact literal of `dtype`."""
    if dtype.category == dtypes.BOOL:
        return repr(bool(value))
    if dtype is dtypes.int64:
        return repr(int(value))
    if dtype.category == dtypes.INTEGER:
        return f"np.{dtype.name}({int(value)})"
    if math.isnan(value):
        text = "np.nan"
    elif math.isinf(value):
        text = "np.inf" if value > 0 else "-np.inf"
    else:
        text = repr(float(value))
    return text if dtype is dtypes.float64 and text[-1].isdigit() else f"np.{dtype.name}({text})"


class Printer:
    """Prints one loop program as a Python function over flat arrays."""

    def __init__(self, program: ir.Program, name: str = "program"):
        self.program = program
        self.name = name
        self.lines: list[str] = []
        self.helpers: dict[str, str] = {}
        self.axes: dict[Axis, str] = {}

    def source(self) -> str:
        """The module's text: helpers, then the program."""
        p = self.program
        arguments = [b.name for b in (*p.inputs, *p.outputs)]
        self.line(0, f"def {self.name}({', '.join([*arguments, 'arena'])}):")
        if p.exact:
            self.line(
                1, "# reproducible: the order of operations is as written, and nothing is fused"
            )
        for b in (*p.inputs, *p.outputs):
            shape = "x".join(map(str, b.shape)) or "scalar"
            self.line(1, f"{b.name} = {b.name}.reshape({b.size})  # {b.dtype.name} {shape}")
        starts = [sum(p.slots[:k]) for k in range(len(p.slots))]
        for b, slot in p.place.items():
            size = max(b.size, 1) * b.dtype.itemsize
            start = starts[slot]
            self.line(
                1, f"{b.name} = arena[{start}:{start + size}].view(np.{_memory_name(b.dtype)})"
            )
        self.body(p.body, 1)
        self.line(1, "return 0")
        header = ["import numpy as np", "from flatgrad.emit import runtime as rt", ""]
        return "\n".join([*header, *self.helpers.values(), *self.lines, ""])

    def line(self, depth: int, text: str) -> None:
        self.lines.append(INDENT * depth + text)

    # -- statements -------------------------------------------------------------------------------

    def body(self, body, depth: int) -> None:
        for s in body:
            self.statement(s, depth)

    def statement(self, s, depth: int) -> None:
        if isinstance(s, ir.For):
            self.locals_of(s, depth)
            axis = self.axis(s.axis)
            stop = s.axis.extent if s.stop is None else self.expr(s.stop)
            over = "range" if s.private is None else "rt.prange"
            self.line(depth, f"for {axis} in {over}({stop}):")
            self.body(s.body, depth + 1)
        elif isinstance(s, ir.While):
            self.line(depth, "while True:")
            self.body(s.before, depth + 1)
            self.line(depth + 1, f"if not {self.expr(s.condition)}:")
            self.line(depth + 2, "break")
            self.body(s.body, depth + 1)
        elif isinstance(s, ir.If):
            self.line(depth, f"if {self.expr(s.condition)}:")
            self.body(s.body or [None], depth + 1)
            if s.orelse:
                self.line(depth, "else:")
                self.body(s.orelse, depth + 1)
        elif s is None:
            self.line(depth, "pass")
        elif isinstance(s, (ir.Let, ir.Set)):
            self.line(depth, f"{s.name} = {self.expr(s.value)}")
        elif isinstance(s, ir.Accum):
            self.line(depth, f"{s.name} = {self.combine(s.op, s.name, s.value)}")
        elif isinstance(s, ir.Store):
            self.line(depth, f"{s.buffer.name}[{self.expr(s.at)}] = {self.expr(s.value)}")
        elif isinstance(s, ir.AccumStore):
            target = f"{s.buffer.name}[{self.expr(s.at)}]"
            self.line(depth, f"{target} = {self.combine(s.op, target, s.value)}")
        elif isinstance(s, ir.Check):
            self.line(depth, f"if not {self.expr(s.condition)}:")
            self.line(depth + 1, f"return {s.code}")
        elif isinstance(s, ir.Gemm):
            self.line(depth, self.gemm(s))
        elif isinstance(s, ir.Tile):
            self.tile(s, depth)
        else:
            raise AssertionError(type(s))

    def locals_of(self, loop: ir.For, depth: int) -> None:
        """The small arrays that `loop` is the first to use, in front of it."""
        for s in loop.body:
            if isinstance(s, ir.Store) and s.buffer.role == "local":
                b = s.buffer
                self.line(depth, f"{b.name} = np.empty({b.size}, np.{b.dtype.name})")

    def combine(self, op: str, target: str, value: Expr) -> str:
        if op in ("max", "min"):
            return f"rt.{op}imum({target}, {self.expr(value)})"
        sign = {"add": "+", "mul": "*", "or": "or", "and": "and"}[op]
        text = f"{target} {sign} {self.expr(value)}"
        return wrap_int(text, value.dtype)

    def gemm(self, s: ir.Gemm) -> str:
        def operand(x, rows, cols):
            buffer, offset, rs, cs = x
            return f"rt.matrix({buffer.name}, {self.expr(offset)}, {rows}, {cols}, {rs}, {cs})"

        a, b, c = operand(s.a, s.m, s.k), operand(s.b, s.k, s.n), operand(s.c, s.m, s.n)
        return f"rt.gemm({a}, {b}, {c}, {s.accumulate})"

    def tile(self, s: ir.Tile, depth: int) -> None:
        """A register tile as plain loops over a small array of accumulators."""
        cols = lanes_of(s.cols, s.step)
        shape = [len(s.rows), len(cols), *[_width(s)] * s.dot]
        self.line(depth, f"tile = np.zeros(({', '.join(map(str, shape))}), np.{s.dtype.name})")
        for w in s.walks:
            inner = depth
            for axis in w.axes:
                self.line(inner, f"for {self.axis(axis)} in range({axis.extent}):")
                inner += 1
            a, b = (f"{x[0].name}[{self.expr(x[1])} + " for x in (w.a, w.b))
            self.line(inner, f"for r, p in enumerate({w.rows}):")
            if s.dot:
                self.line(inner + 1, f"for j, q in enumerate({tuple(v[0][0] for v in w.cols)}):")
                self.line(inner + 2, f"for k, u, v in {_places(w)}:")
                self.line(inner + 3, f"tile[r, j, k] += {a}p + u] * {b}q + v]")
            else:
                self.line(inner + 1, f"for j, q in enumerate({lanes_of(w.cols, w.steps[1])}):")
                self.line(inner + 2, f"tile[r, j] += {a}p] * {b}q]")
        c, start = s.c
        if s.dot:
            self.line(depth, "rt.add_lanes(tile)")
        self.line(depth, f"for r, p in enumerate({s.rows}):")
        self.line(depth + 1, f"for j, q in enumerate({cols}):")
        sign = "+=" if s.accumulate else "="
        value = "tile[r, j, 0]" if s.dot else "tile[r, j]"
        self.line(depth + 2, f"{c.name}[{self.expr(start)} + p + q] {sign} {value}")

    # -- expressions ------------------------------------------------------------------------------

    def axis(self, axis: Axis) -> str:
        """A loop's name; two axes of one name get numbers."""
        name = self.axes.get(axis)
        if name is None:
            taken = set(self.axes.values())
            name, k = axis.name, 0
            while name in taken:
                k += 1
                name = f"{axis.name}_{k}"
            self.axes[axis] = name
        return name

    def expr(self, e: Expr) -> str:
        return EXPRESSIONS[e.kind](self, e)

    def const(self, e: Expr) -> str:
        return number(e.arg, e.dtype)

    def var(self, e: Expr) -> str:
        return self.axis(e.arg) if type(e.arg) is Axis else e.arg

    def load(self, e: Expr) -> str:
        return f"{e.arg.name}[{self.expr(e.args[0])}]"

    def binary(self, e: Expr) -> str:
        x, y = self.expr(e.args[0]), self.expr(e.args[1])
        dtype = e.args[0].dtype
        if e.arg in ("min", "max"):
            return f"{e.arg}({x}, {y})"
        if e.arg in ir.COMPARISON:
            return f"({x} {e.arg} {y})"
        if dtype.category == dtypes.INTEGER and e.arg in ("//", "%"):
            if e.args[1].kind == "const" and e.args[1].arg > 0:
                return wrap_int(f"({x} {e.arg} {y})", dtype)
            return f"rt.{'floor_divide' if e.arg == '//' else 'remainder'}({x}, {y})"
        if e.arg == "/":
            return f"rt.divide({x}, {y})"
        return wrap_int(f"({x} {e.arg} {y})", dtype)

    def unary(self, e: Expr) -> str:
        x = self.expr(e.args[0])
        if e.arg == "neg":
            return wrap_int(f"(-{x})", e.dtype)
        if e.arg == "not":
            return f"(not {x})" if e.dtype.category == dtypes.BOOL else wrap_int(f"(~{x})", e.dtype)
        if e.arg == "abs":
            return wrap_int(f"abs({x})", e.dtype)
        return f"np.{e.dtype.name}(np.{e.arg}({x}))"

    def select(self, e: Expr) -> str:
        c, x, y = (self.expr(a) for a in e.args)
        return f"({x} if {c} else {y})"

    def cast(self, e: Expr) -> str:
        x = self.expr(e.args[0])
        if e.dtype.category == dtypes.BOOL:
            return f"({x} != 0)"
        if e.dtype.category == dtypes.INTEGER and e.args[0].dtype.is_floating_point:
            return f"rt.to_{e.dtype.name}({x})"
        return f"np.{e.dtype.name}({x})"

    def bits(self, e: Expr) -> str:
        return f"rt.bits_{e.args[0].dtype.name}({self.expr(e.args[0])})"

    def fma(self, e: Expr) -> str:
        x, y, z = (self.expr(a) for a in e.args)
        return f"({x} * {y} + {z})"

    def call(self, e: Expr) -> str:
        if e.arg == "fmod":
            x, y = (self.expr(a) for a in e.args)
            return f"np.fmod({x}, {y})"
        name = f"{e.arg}_{e.args[0].dtype.name}"
        if name not in self.helpers:
            self.helpers[name] = ""  # reserves the place: helpers stand before their users
            self.helpers[name] = helper_source(self, name, e)
        return f"{name}({', '.join(self.expr(a) for a in e.args)})"


EXPRESSIONS = {
    "const": Printer.const,
    "var": Printer.var,
    "load": Printer.load,
    "binary": Printer.binary,
    "unary": Printer.unary,
    "select": Printer.select,
    "cast": Printer.cast,
    "bits": Printer.bits,
    "fma": Printer.fma,
    "call": Printer.call,
}


def lanes_of(vectors, step: int) -> tuple:
    """The offset of every lane of `vectors`."""
    return tuple(offset + k * step for runs in vectors for offset, n in runs for k in range(n))


def _places(walk: ir.Walk) -> tuple:
    """(lane, offset in a, offset in b) of what a dot tile's step multiplies."""
    step_a, step_b = walk.steps
    found, lane = [], 0
    for a, b, n in walk.lanes:
        found += [(lane + k, a + k * step_a, b + k * step_b) for k in range(n)]
        lane += ir.slot_of(n)
    return tuple(found)


def _width(tile: ir.Tile) -> int:
    """The lanes of a dot tile: each run takes a power of two, and so do all."""
    return max(ir.slot_of(sum(ir.slot_of(n) for _, _, n in w.lanes)) for w in tile.walks)


def _memory_name(dtype: DType) -> str:
    return "bool_" if dtype.category == dtypes.BOOL else dtype.name


def wrap_int(text: str, dtype: DType) -> str:
    """Integer arithmetic narrower than 64 bits wraps (Numba would widen it)."""
    if dtype.category == dtypes.INTEGER and dtype is not dtypes.int64:
        return f"np.{dtype.name}({text})"
    return text


def helper_source(printer: Printer, name: str, e: Expr) -> str:
    """A scalar function as a Python function, one line a shared sub-expression."""
    from ..lower import passes
    from .mathlib import expand

    parameters = [ir.var(f"a{k}", a.dtype) for k, a in enumerate(e.args)]
    result = expand(e.arg, parameters)
    body = passes.share([ir.Let("result", result)])
    lines = ["@rt.inline", f"def {name}({', '.join(p.arg for p in parameters)}):"]
    for s in body:
        lines.append(f"{INDENT}{s.name} = {printer.expr(s.value)}")
    lines += [f"{INDENT}return result", "", ""]
    return "\n".join(lines)


def source(program: ir.Program, name: str = "program") -> str:
    """The readable form of `program`."""
    return Printer(program, name).source()
