"""The C99 table of scalar expressions.

A statement's expressions are printed inline; what is used twice, is long, or stands behind a choice gets a
``const`` variable in front of the statement (`prepare`). So nothing is computed twice, and both sides of a
choice are plain names, which compilers turn into selections instead of branches.
"""

from __future__ import annotations

import math
from collections import Counter

from ...graph import dtypes
from ...graph.dtypes import DType
from ...lower import ir
from ...lower.index import value_range
from ...lower.ir import Expr
from ..mathlib import expand, shortcut
from .helpers import helper
from .words import Names, bit_pattern, ctype, literal, short

__all__ = ["Expressions", "is_small"]

# Characters of an expression beyond which its parts get names.
LONG = 96

INDENT = "    "

# Calls of scalar functions that are inlined in one list of statements.
INLINED = 32


def is_small(e: Expr) -> bool:
    """Whether an int64 is known to lie in 32 bits: an index, in C a ``ptrdiff_t``."""
    if e.dtype is not dtypes.int64:
        return False
    low, high = value_range(e)
    return low > -(2**31) and high < 2**31


class Expressions:
    """Prints expressions, collecting the helpers that they need.

    `line` receives the variables of `prepare`; `names` maps the program's names and axes to C's.
    """

    def __init__(self, taken):
        self.words = taken  # Names
        self.names: dict = {}
        self.helpers: dict[tuple, str] = {}
        self.inlined: dict[Expr, str] = {}  # of the present statement: its variables
        self.calls = 0

    def line(self, text: str) -> None:
        raise AssertionError("an expression outside of a list of statements")

    # -- variables in front of a statement --------------------------------------------------------

    def prepare(self, *roots: Expr) -> None:
        """Give names to shared parts of `roots`, operands of choices and long texts."""
        self.inlined = {}
        counts, order = _uses(roots)
        chosen = {a for e in order if _chooses(e) for a in e.args[-2:]}
        lengths: dict[Expr, int] = {}
        for e in order:
            size = 12 + sum(min(lengths[a], LONG) for a in e.args)
            if e.kind in ("var", "const"):
                lengths[e] = 8
                continue
            index = is_small(e) and e.kind == "binary"
            shared = counts[e] > 1 and not (index and size < LONG // 2)
            lengths[e] = size
            long = size > LONG and e not in roots
            if shared or (e in chosen and not index) or long:
                self._named(e)
                lengths[e] = 8

    def _named(self, e: Expr) -> None:
        text = self.expr(e)
        name = self.words.new("t")
        self.line(f"const {self.type(e)} {name} = {bare(text)};")
        self.inlined[e] = name

    def type(self, e: Expr) -> str:
        return "ptrdiff_t" if is_small(e) else ctype(e.dtype)

    # -- helpers ----------------------------------------------------------------------------------

    def need(self, name: str, dtype: DType) -> str:
        """The C name of a helper, which is added to the file."""
        if (name, dtype) not in self.helpers:
            needs, text = helper(name, dtype)
            for other, kind in needs:
                self.need(other, kind)
            self.helpers[name, dtype] = text
        return f"fg_{name}_{short(dtype)}"

    # -- expressions ------------------------------------------------------------------------------

    def expr(self, e: Expr) -> str:
        found = self.inlined.get(e)
        return EXPRESSIONS[e.kind](self, e) if found is None else found

    def index(self, e: Expr) -> str:
        """An array's index: arithmetic that cannot overflow, in pointers' width."""
        if e in self.inlined:
            return self.inlined[e]
        if e.kind == "binary" and e.arg in ("+", "-", "*"):
            x, y = (self.index(a) for a in e.args)
            first = e.args[0]
            if e.arg == "+" and first.kind == "binary" and first.arg in ("+", "-", "*"):
                x = bare(x)  # sums go from left to right
            return f"({x} {e.arg} {y})"
        text = self.expr(e)
        return text if is_small(e) else f"(ptrdiff_t){text}"

    def const(self, e: Expr) -> str:
        if e.dtype.is_floating_point and not math.isfinite(e.arg):
            self.need("bits", e.dtype)
            return f"((fg_word_{short(e.dtype)}){{{bit_pattern(e.arg, e.dtype)}}}).x"
        return literal(e.arg, e.dtype)

    def var(self, e: Expr) -> str:
        return self.names[e.arg]

    def load(self, e: Expr) -> str:
        return f"{self.names[e.arg]}[{bare(self.index(e.args[0]))}]"

    def binary(self, e: Expr) -> str:
        x, y = (self.expr(a) for a in e.args)
        dtype = e.args[0].dtype
        if e.arg in ("min", "max"):
            return f"({x} {'<' if e.arg == 'min' else '>'} {y} ? {x} : {y})"
        if e.arg in ir.COMPARISON or dtype.category != dtypes.INTEGER:
            return f"({x} {e.arg} {y})"
        return self.integer(e, x, y, dtype)

    def integer(self, e: Expr, x: str, y: str, dtype: DType) -> str:
        op = e.arg
        small = is_small(e) and all(is_small(a) for a in e.args)
        if op in ("//", "%"):
            sign = "/" if op == "//" else "%"
            if small and value_range(e.args[0])[0] >= 0 and e.args[1].kind == "const":
                return f"({x} {sign} {y})"
            return f"{self.need('floordiv' if op == '//' else 'mod', dtype)}({x}, {y})"
        if small or op in "&|^":
            return f"({x} {op} {y})"
        return self.wrapped(x, op, y, dtype)

    @staticmethod
    def wrapped(x: str, op: str, y: str, dtype: DType) -> str:
        """Integer arithmetic that wraps, which C promises for unsigned numbers alone."""
        kind = ctype(dtype)
        if op == ">>":
            return f"({kind})(({kind}){x} >> {y})"
        if dtype.itemsize < 4:
            unsigned = "(unsigned)" * (op == "<<")  # C shifts no negative numbers
            return f"({kind})({unsigned}{x} {op} {y})"
        other = y if op == "<<" else _unsigned(y, kind)
        return _Wrapped(f"({kind})({_unsigned(x, kind)} {op} {other})")

    def unary(self, e: Expr) -> str:
        x = self.expr(e.args[0])
        if e.dtype.is_floating_point:
            return f"(-{x})" if e.arg == "neg" else f"{self.need(e.arg, e.dtype)}({bare(x)})"
        kind = ctype(e.dtype)
        if e.arg == "not":
            return f"(!{x})" if e.dtype.category == dtypes.BOOL else f"({kind})(~{x})"
        unsigned = f"u{kind}" if e.dtype.is_signed and e.dtype.itemsize >= 4 else "unsigned"
        negative = f"({kind})(0 - ({unsigned}){x})"
        return negative if e.arg == "neg" else f"({x} < 0 ? {negative} : {x})"

    def select(self, e: Expr) -> str:
        c, x, y = (self.expr(a) for a in e.args)
        return f"({c} ? {x} : {y})"

    def cast(self, e: Expr) -> str:
        x, old = self.expr(e.args[0]), e.args[0].dtype
        if e.dtype.category == dtypes.BOOL:
            return f"({x} != 0)"
        kind = ctype(e.dtype)
        if old.is_floating_point and e.dtype.itemsize < 4:
            return f"({kind})(int32_t){x}"  # as NumPy does; C leaves it open
        return f"({kind}){x}"

    def bits(self, e: Expr) -> str:
        """Between a float and the integer of its size; between integers, a cast."""
        x, old = self.expr(e.args[0]), e.args[0].dtype
        if old.is_floating_point:
            self.need("bits", old)
            return f"fg_to_bits_{short(old)}({bare(x)})"
        if e.dtype.is_floating_point:
            self.need("bits", e.dtype)
            return f"fg_from_bits_{short(e.dtype)}({bare(x)})"
        return f"({ctype(e.dtype)}){x}"

    def fma(self, e: Expr) -> str:
        x, y, z = (bare(self.expr(a)) for a in e.args)
        return f"{self.need('fma', e.dtype)}({x}, {y}, {z})"

    def call(self, e: Expr) -> str:
        args = ", ".join(bare(self.expr(a)) for a in e.args)
        if e.arg == "fmod":
            return f"{self.need('fmod', e.dtype)}({args})"
        self.calls += 1
        return f"{self.function(e)}({args})"

    def function(self, e: Expr) -> str:
        """The name of a scalar function of emit/mathlib, which is added to the file.

        A list of very many calls (an unrolled simulation) is no loop that a compiler could vectorise: there
        the calls stay calls, and the code stays small. A number alone may take a shorter way than vectors.
        """
        called = "_called" if self.calls > INLINED else ""
        branches = self.alone and self.shortcuts and shortcut(e.arg, e.args) is not None
        name = f"fg_{e.arg}_{short(e.args[0].dtype)}{'_alone' * branches}{called}"
        if (name, e.dtype) not in self.helpers:
            if called:
                self.need("called", dtypes.float64)
            function = ScalarFunction(self, e, branches)
            text = function.text("FG_CALLED" if called else "FG_INLINE", name)
            self.helpers[name, e.dtype] = text  # behind the helpers that it needs
        return name


class ScalarFunction(Expressions):
    """Prints one scalar function of emit/mathlib."""

    def __init__(self, outer: Expressions, e: Expr, branches: bool):
        super().__init__(Names())
        self.helpers, self.branches = outer.helpers, branches
        self.lines: list[str] = []
        self.indent = INDENT
        self.e = e

    def line(self, text: str) -> None:
        self.lines.append(f"{self.indent}{text}")

    def text(self, how: str, name: str) -> str:
        parameters = [ir.var(f"a{k}", a.dtype) for k, a in enumerate(self.e.args)]
        for p in parameters:
            self.names[p.arg] = self.words.new(p.arg)
        if self.branches:
            self.first(*shortcut(self.e.arg, parameters))
        result = expand(self.e.arg, parameters)
        self.prepare(result)
        given = ", ".join(f"{ctype(p.dtype)} {p.arg}" for p in parameters)
        head = f"{how} {ctype(self.e.dtype)} {name}({given})"
        last = f"    return {bare(self.expr(result))};"
        return "\n".join([head, "{", *self.lines, last, "}", ""])

    def first(self, condition: Expr, value: Expr) -> None:
        """A shorter way, by a branch: there is more to skip than a compiler would dare."""
        self.prepare(condition)
        self.line(f"if ({bare(self.expr(condition))}) {{")
        self.indent *= 2
        self.prepare(value)
        self.line(f"return {bare(self.expr(value))};")
        self.indent = INDENT
        self.line("}")


def _chooses(e: Expr) -> bool:
    """Whether both last operands of `e` are printed more than once, or unconditionally."""
    return e.kind == "select" or (e.kind == "binary" and e.arg in ("min", "max")) or _is_int_abs(e)


def _is_int_abs(e: Expr) -> bool:
    return e.kind == "unary" and e.arg == "abs" and not e.dtype.is_floating_point


def _uses(roots) -> tuple[Counter, list[Expr]]:
    """(how often each part is an operand, all parts with operands first)."""
    counts: Counter = Counter(roots)
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack = [(e, False) for e in reversed(roots)]
    while stack:
        e, done = stack.pop()
        if done:
            order.append(e)
            continue
        if e in seen:
            continue
        seen.add(e)
        counts.update(e.args)
        stack.append((e, True))
        stack += [(a, False) for a in reversed(e.args)]
    return counts, order


class _Wrapped(str):
    """Unsigned arithmetic, cast to the signed type."""

    __slots__ = ()


def _unsigned(text: str, kind: str) -> str:
    """An operand of arithmetic that wraps."""
    if isinstance(text, _Wrapped):
        return text.removeprefix(f"({kind})")
    return f"{text}u" if text.isdigit() else f"(u{kind}){text}"


def bare(text: str) -> str:
    """Without the parentheses around the whole of it."""
    if not text.startswith("("):
        return text
    depth = 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return text[1:-1] if k == len(text) - 1 else text
    return text


EXPRESSIONS = {
    "const": Expressions.const,
    "var": Expressions.var,
    "load": Expressions.load,
    "binary": Expressions.binary,
    "unary": Expressions.unary,
    "select": Expressions.select,
    "cast": Expressions.cast,
    "bits": Expressions.bits,
    "fma": Expressions.fma,
    "call": Expressions.call,
}
