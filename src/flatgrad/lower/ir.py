"""The loop IR: typed, static, small. Programs are trees of statements over scalar expressions.

Expressions are immutable and hash-consed, so equal ones are identical (``is``) and shared ones are computed
once. Index arithmetic is int64; ``Expr`` has Python's operators, so index maps and scalar functions
are written as formulas. Types are exact: there is no implicit conversion (``promote`` of an operator's
number to the other side's dtype is the only convenience).

Statements: ``Let Set For While If Store Accum AccumStore Gemm Tile Check``. Printers are tables over these
classes and decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..graph import dtypes
from ..graph.dtypes import DType

# -- expressions ----------------------------------------------------------------------------------

ARITHMETIC = ("+", "-", "*", "/", "//", "%", "min", "max")
BITWISE = ("&", "|", "^", "<<", ">>")
COMPARISON = ("<", "<=", ">", ">=", "==", "!=")
UNARY = ("neg", "not", "abs", "sqrt", "floor", "ceil", "trunc", "rint", "fma")

_table: dict = {}


class Axis:
    """A loop's index: 0 <= axis < extent. Its expression is ``var(axis)``; compared by identity."""

    __slots__ = ("extent", "name")

    def __init__(self, extent: int, name: str = "i"):
        self.extent = extent
        self.name = name

    def __repr__(self):
        return f"{self.name}<{self.extent}"


class Expr:
    """A scalar expression: ``kind``, its dtype, operands and a static argument.

    kind      args            arg
    --------  --------------  ---------------------------------------------------------------
    const     ()              the number (Python bool, int or float)
    var       ()              an Axis (a loop's index), or the name of a Let or Set variable
    load      (index,)        the buffer
    unary     (x,)            one of UNARY; integer "not" is bitwise, bool "not" logical
    binary    (x, y)          one of ARITHMETIC, BITWISE, COMPARISON; "/" floats only; "//" and "%"
                              integers, floored; "min"/"max" integers (and floats without NaN);
                              "&|^" on bools are logical, unsigned shifts on uint, ">>" of int signed
    select    (c, x, y)       None; both sides are evaluated
    cast      (x,)            None; float to int truncates
    bits      (x,)            None; same bits as a dtype of the same size
    call      args            the scalar function's name (see emit/mathlib)
    fma       (x, y, z)       None; x*y+z with one rounding
    """

    __slots__ = ("arg", "args", "dtype", "kind")

    def __new__(cls, kind, dtype, args=(), arg=None):
        number = arg if kind != "const" else (repr(arg), type(arg))
        key = (kind, dtype, args, number)
        found = _table.get(key)
        if found is None:
            found = object.__new__(cls)
            found.kind, found.dtype, found.args, found.arg = kind, dtype, args, arg
            _table[key] = found
        return found

    def __add__(self, other):
        return binary("+", self, other)

    def __radd__(self, other):
        return binary("+", other, self)

    def __sub__(self, other):
        return binary("-", self, other)

    def __rsub__(self, other):
        return binary("-", other, self)

    def __mul__(self, other):
        return binary("*", self, other)

    def __rmul__(self, other):
        return binary("*", other, self)

    def __truediv__(self, other):
        return binary("/", self, other)

    def __rtruediv__(self, other):
        return binary("/", other, self)

    def __floordiv__(self, other):
        return binary("//", self, other)

    def __mod__(self, other):
        return binary("%", self, other)

    def __and__(self, other):
        return binary("&", self, other)

    def __or__(self, other):
        return binary("|", self, other)

    def __xor__(self, other):
        return binary("^", self, other)

    def __lshift__(self, other):
        return binary("<<", self, other)

    def __rshift__(self, other):
        return binary(">>", self, other)

    def __neg__(self):
        return unary("neg", self)

    def __invert__(self):
        return unary("not", self)

    def __lt__(self, other):
        return binary("<", self, other)

    def __le__(self, other):
        return binary("<=", self, other)

    def __gt__(self, other):
        return binary(">", self, other)

    def __ge__(self, other):
        return binary(">=", self, other)

    def eq(self, other):
        return binary("==", self, other)

    def ne(self, other):
        return binary("!=", self, other)

    def __bool__(self):
        raise TypeError("an IR expression has no truth value; use where()")

    def __repr__(self):
        return text(self)


def forget() -> None:
    """Drop the table of known expressions when it has grown large (before a new program)."""
    if len(_table) > 100_000:
        _table.clear()


def const(number, dtype: DType) -> Expr:
    """A literal of `dtype`; the number is converted to what the dtype holds."""
    if dtype.category == dtypes.BOOL:
        number = bool(number)
    elif dtype.category == dtypes.INTEGER:
        number = int(dtype.np.type(int(number)))
    else:
        number = float(dtype.np.type(number))
    return Expr("const", dtype, (), number)


def index(number: int) -> Expr:
    return Expr("const", dtypes.int64, (), int(number))


def var(name: str | Axis, dtype: DType = dtypes.int64) -> Expr:
    return Expr("var", dtype, (), name)


def _operands(x, y):
    if not isinstance(x, Expr):
        x = const(x, y.dtype)
    elif not isinstance(y, Expr):
        y = const(y, x.dtype)
    return x, y


def binary(op: str, x, y) -> Expr:
    """``x op y``; a Python number takes the other side's dtype. int64 index arithmetic is simplified."""
    x, y = _operands(x, y)
    if op not in ("<<", ">>"):
        assert x.dtype is y.dtype, f"{op}: {x.dtype!r} and {y.dtype!r} ({x} and {y})"
    if x.dtype is dtypes.int64:
        from .index import simplify_binary

        simple = simplify_binary(op, x, y)
        if simple is not None:
            return simple
    dtype = dtypes.bool_ if op in COMPARISON else x.dtype
    return Expr("binary", dtype, (x, y), op)


def unary(op: str, x: Expr) -> Expr:
    return Expr("unary", x.dtype, (x,), op)


def where(c: Expr, x, y) -> Expr:
    x, y = _operands(x, y)
    assert x.dtype is y.dtype and c.dtype is dtypes.bool_
    return x if x is y else Expr("select", x.dtype, (c, x, y))


def cast(x: Expr, dtype: DType) -> Expr:
    if x.dtype is dtype:
        return x
    finite = x.kind == "const" and not (x.arg != x.arg or x.arg in (float("inf"), -float("inf")))
    if finite and dtype.category >= x.dtype.category:
        return const(x.arg, dtype)
    return Expr("cast", dtype, (x,))


def bits(x: Expr, dtype: DType) -> Expr:
    assert x.dtype.itemsize == dtype.itemsize
    return x if x.dtype is dtype else Expr("bits", dtype, (x,))


def call(name: str, *args: Expr, dtype: DType | None = None) -> Expr:
    """A scalar function of emit/mathlib; its result has the first argument's dtype unless given."""
    return Expr("call", dtype or args[0].dtype, args, name)


def fma(x: Expr, y: Expr, z: Expr) -> Expr:
    return Expr("fma", x.dtype, (x, y, z))


def load(buffer: Buffer, at: Expr) -> Expr:
    return Expr("load", buffer.dtype, (at,), buffer)


# -- buffers --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Buffer:
    """A contiguous array: an input, an output, or a part of the arena.

    role : "in", "out", "arena" or "local"; size in elements. A local buffer is a few numbers in registers or
    on the stack, of the innermost list of statements that has all its uses (lower/lanes.py). `span` is the
    least and greatest element of an array that is known to hold integers between them. Compared by identity.
    """

    name: str
    dtype: DType
    size: int
    role: str
    shape: tuple = ()
    span: tuple[int, int] | None = None

    def __repr__(self):
        return self.name


# -- statements -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Let:
    """``name = value``, once."""

    name: str
    value: Expr


@dataclass(slots=True)
class Set:
    """``name = value`` of a variable that changes (an accumulator, a while loop's carry)."""

    name: str
    value: Expr


@dataclass(slots=True)
class For:
    """``for axis in range(axis.extent)``, or up to `stop` if that is given (at most the extent).

    `serial`: an iteration may need what earlier ones have written, beyond accumulations.
    `private`: if given, iterations may run on several threads, each with these buffers for itself.
    """

    axis: Axis
    body: list
    stop: Expr | None = None
    serial: bool = False
    private: tuple | None = None


@dataclass(slots=True)
class While:
    """Run `before`; while `condition` holds then, run `body` and begin anew.

    Names of `before` are seen in `body`.
    """

    before: list
    condition: Expr
    body: list


@dataclass(slots=True)
class If:
    """`body` if `condition` holds, else `orelse`."""

    condition: Expr
    body: list
    orelse: list


@dataclass(slots=True)
class Store:
    """``buffer[at] = value``."""

    buffer: Buffer
    at: Expr
    value: Expr


@dataclass(slots=True)
class Accum:
    """``name = name op value`` (a scalar accumulator): the one place where arithmetic may be reassociated.

    op : add, mul, max, min, and, or. max and min propagate NaN.
    """

    name: str
    op: str
    value: Expr


@dataclass(slots=True)
class AccumStore:
    """``buffer[at] = buffer[at] op value``."""

    buffer: Buffer
    at: Expr
    op: str
    value: Expr


@dataclass(slots=True)
class Gemm:
    """``c[m, n] (+)= a[m, k] @ b[k, n]`` by BLAS; an operand: (buffer, offset, row stride, column stride)."""

    dtype: DType
    m: int
    n: int
    k: int
    a: tuple
    b: tuple
    c: tuple
    accumulate: bool = False


def powers(n: int) -> list[int]:
    """`n` as a sum of powers of two, the largest first: how a run of lanes is taken apart."""
    return [1 << k for k in reversed(range(n.bit_length())) if n >> k & 1]


def slot_of(n: int) -> int:
    """The least power of two that is at least `n`: the lanes that a run of a dot tile takes."""
    return 1 << (n - 1).bit_length()


@dataclass(slots=True)
class Walk:
    """One walk over the summed elements of a ``Tile``: its loops, and where they read.

    a, b : (buffer, index of the first element); rows : offsets in a, one a row of the tile;
    cols : vectors in b, each a tuple of runs (offset, lanes); steps : between the lanes of a run, in
    (a, b). `lanes`, of a dot tile: the runs (offset in a, offset in b, lanes) that one step takes, and
    each of `cols` is ((offset, 1),). ``wide``: b may be read to the end of the last vector.
    """

    axes: tuple
    a: tuple
    b: tuple
    rows: tuple
    cols: tuple
    steps: tuple
    lanes: tuple = ()
    wide: bool = False


@dataclass(slots=True)
class Tile:
    """``c[row, col] (+)= sum of a[row] * b[col]`` over `walks`, with its accumulators in registers.

    c : (buffer, index of the first element); rows : offsets in c, one a row; cols : vectors, each a tuple of
    runs (offset, lanes), `step` apart. A dot tile multiplies vectors of a and b and sums their lanes.
    Sums may be reassociated, as in ``Accum``.
    """

    dtype: DType
    walks: tuple
    c: tuple
    rows: tuple
    cols: tuple
    step: int = 1
    dot: bool = False
    accumulate: bool = False

    def reads(self):
        """(buffer, index) of what it reads, as expressions that take every value."""
        for w in self.walks:
            spans = _span(w.rows), _span([o for v in w.cols for o, _ in v])
            if self.dot:
                ends = [(p + (n - 1) * w.steps[0], q + (n - 1) * w.steps[1]) for p, q, n in w.lanes]
                reach = max(p for p, _ in ends), max(q for _, q in ends)
            else:
                last = max(o + (n - 1) * w.steps[1] for v in w.cols for o, n in v)
                reach = 0, last - max(o for v in w.cols for o, _ in v)
            for (buffer, at), span, more in zip((w.a, w.b), spans, reach, strict=True):
                yield buffer, at + var(Axis(span + more, "t"))

    def written(self) -> tuple:
        """(buffer, index) of what it writes."""
        last = max(o + (n - 1) * self.step for v in self.cols for o, n in v)
        return self.c[0], self.c[1] + var(Axis(max(self.rows) + last + 1, "t"))

    def with_places(self, change) -> Tile:
        """A copy whose (buffer, index) pairs went through `change`."""
        walks = tuple(
            Walk(w.axes, change(*w.a), change(*w.b), w.rows, w.cols, w.steps, w.lanes, w.wide)
            for w in self.walks
        )
        return Tile(
            self.dtype,
            walks,
            change(*self.c),
            self.rows,
            self.cols,
            self.step,
            self.dot,
            self.accumulate,
        )


def _span(offsets) -> int:
    return max(offsets) + 1


@dataclass(slots=True)
class Check:
    """Stop the program with error `code` if `condition` does not hold."""

    condition: Expr
    code: int


@dataclass(slots=True)
class Program:
    """Flat loops with their buffers, ready to print.

    slots : sizes in bytes of the arena's disjoint slots; place : buffer -> slot. Buffers whose
    lifetimes do not meet may share a slot; two slots never overlap, so printers may say noalias.
    results : the buffer of each result in order: an output, or an input that is overwritten.
    recomputed : how many values are computed twice to save memory.
    exact : printers may not put arithmetic into another order, nor fuse it: ``reproducible=True``.
    """

    inputs: list
    outputs: list
    body: list
    slots: list
    place: dict
    checks: list
    results: list = field(default_factory=list)
    recomputed: int = 0
    exact: bool = False

    @property
    def updated(self) -> list:
        """The inputs that the program overwrites."""
        return [b for b in self.results if b.role == "in"]

    @property
    def arena_bytes(self) -> int:
        return sum(self.slots)


COMPOUND = (For, While, If)


def bodies(s) -> tuple:
    """The statement lists inside a statement."""
    if isinstance(s, For):
        return (s.body,)
    if isinstance(s, While):
        return (s.before, s.body)
    if isinstance(s, If):
        return (s.body, s.orelse)
    return ()


def with_bodies(s, new, change=lambda e: e):
    """A compound statement with other statement lists inside; `change` is applied to its own expressions."""
    if isinstance(s, For):
        return For(s.axis, new[0], None if s.stop is None else change(s.stop), s.serial, s.private)
    if isinstance(s, While):
        return While(new[0], change(s.condition), new[1])
    return If(change(s.condition), new[0], new[1])


# -- text for people ------------------------------------------------------------------------------


def text(e: Expr) -> str:
    """A short, readable form of an expression."""
    if e.kind == "const":
        return repr(e.arg)
    if e.kind == "var":
        return e.arg.name if type(e.arg) is Axis else e.arg
    if e.kind == "load":
        return f"{e.arg.name}[{text(e.args[0])}]"
    if e.kind == "binary":
        return f"({text(e.args[0])} {e.arg} {text(e.args[1])})"
    name = e.arg if e.kind in ("unary", "call") else e.kind
    return f"{name}({', '.join(text(a) for a in e.args)})"
