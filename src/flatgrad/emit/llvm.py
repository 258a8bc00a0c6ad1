"""The LLVM table: a loop program as one function of a module.

The module is Numba's where Numba code calls the program (emit/entry.py: an ``@intrinsic`` in an ``@njit``
shell), and our own where Python calls it (emit/native.py). Printing LLVM directly, and not through Numba's
front end, is about ten times faster to compile and says what Python cannot: that buffers don't alias, and
that an accumulation alone may be reassociated. The readable form of the same loops is emit/python.py.

Every pointer is a ``noalias`` argument: inputs are only read, outputs are distinct, slots of the arena
never overlap (lower/plan.py).
"""

from __future__ import annotations

from contextlib import contextmanager

from llvmlite import ir as L

from ..graph import dtypes
from ..graph.dtypes import DType
from ..lower import ir
from ..lower.index import value_range
from ..lower.ir import Axis, Expr
from ..lower.nest import expressions
from .blas import gemm_call
from .llvm_types import I1, I8, I32, I64, PTR, constant, memory_type, opaque, type_of
from .outline import Outlined, pieces
from .threads import parallel_loop
from .tile import Tiler

REDUCE = ("reassoc", "contract")


class Emitter:
    """Emits one loop program as an LLVM function of a module."""

    calls = 0  # of scalar functions in the present body
    doubts: dict  # extrema that a loop is looking for -> whether a NaN was seen
    searching = False  # in a loop of unknown length, and not in a long one inside it

    def __init__(self, module: L.Module, program: ir.Program, name: str):
        self.module = module
        self.program = program
        self.sums = () if program.exact else REDUCE
        self.products = () if program.exact else ("contract",)
        count = len(program.inputs) + len(program.outputs) + len(program.slots)
        self.function = L.Function(module, L.FunctionType(I64, [PTR] * count), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        for arg in self.function.args:
            arg.add_attribute("noalias")
        self.pointers = {}
        args = iter(self.function.args)
        for buffer in (*program.inputs, *program.outputs):
            self.pointers[buffer] = next(args)
        slots = list(args)
        for buffer, slot in program.place.items():
            self.pointers[buffer] = slots[slot]
        self.entry = self.function.append_basic_block("entry")
        self.b = L.IRBuilder(self.entry)
        self.variables: dict = {}  # Set names -> alloca
        self.doubts = {}
        self.values: dict = {}  # Let names and axes -> value
        self.memo: dict = {}

    def emit(self) -> L.Function:
        self.declare_variables(self.program.body)
        for apart, body in pieces(self.program.body):
            if apart:
                made = Outlined(self, body)
                self.b.call(made.function, made.arguments)
            else:
                self.body(body)
        self.b.ret(L.Constant(I64, 0))
        return self.function

    def declare_variables(self, body) -> None:
        """One stack slot a Set variable or local buffer, in the entry block (LLVM makes registers of it)."""
        for s in body:
            for inner in ir.bodies(s):
                self.declare_variables(inner)
            if isinstance(s, ir.Set) and s.name not in self.variables:
                self.variables[s.name] = self.b.alloca(type_of(s.value.dtype), name=s.name)
            elif isinstance(s, ir.Store) and self._is_new_local(s.buffer):
                self.scratch(s.buffer)

    def _is_new_local(self, buffer: ir.Buffer) -> bool:
        return buffer.role == "local" and buffer not in self.pointers

    @contextmanager
    def inside(self, function: L.Function, pointers: dict, values: dict):
        """Emit into another function meanwhile, where buffers and names are these."""
        saved = self.function, self.b, self.pointers, self.variables, self.values, self.memo
        self.function, self.pointers, self.values = function, pointers, values
        self.variables, self.memo = {}, {}
        self.b = L.IRBuilder(function.append_basic_block("entry"))
        try:
            yield
        finally:
            self.function, self.b, self.pointers, self.variables, self.values, self.memo = saved

    def scratch(self, buffer: ir.Buffer) -> None:
        """`buffer` on the stack of the function that is being emitted."""
        place = self.b.alloca(L.ArrayType(memory_type(buffer.dtype), max(buffer.size, 1)))
        place.align = 64
        self.pointers[buffer] = opaque(self.b, place)

    # -- statements ---------------------------------------------------------------------------

    def body(self, body) -> None:
        outer, self.calls = self.calls, 0
        for s in body:
            self.memo = {}
            STATEMENTS[type(s)](self, s)
        self.calls = outer

    def let(self, s: ir.Let) -> None:
        self.values[s.name] = self.expr(s.value)

    def set(self, s: ir.Set) -> None:
        self.b.store(self.expr(s.value), self.variables[s.name])

    def accum(self, s: ir.Accum) -> None:
        slot = self.variables[s.name]
        old = self.b.load(slot, typ=type_of(s.value.dtype))
        if s.name in self.doubts:
            self.b.store(self.number_extremum(s, old), slot)
        else:
            self.b.store(self.combine(s.op, old, s.value), slot)

    def number_extremum(self, s: ir.Accum, old):
        """min or max as if there were no NaN, which is one instruction; whether there was one is noted."""
        b = self.b
        x, doubt = self.expr(s.value), self.doubts[s.name]
        b.store(b.or_(b.load(doubt, typ=I1), b.fcmp_unordered("uno", x, x)), doubt)
        kind = type_of(s.value.dtype)
        name = "llvm.maxnum" if s.op == "max" else "llvm.minnum"
        fn = self.module.declare_intrinsic(name, (kind,), L.FunctionType(kind, [kind, kind]))
        return b.call(fn, [old, x], fastmath=("nnan", "nsz"))

    @contextmanager
    def doubting(self, s: ir.For):
        """Around a loop that finds extrema of floats: afterwards they are NaN if anything was."""
        b = self.b
        found = [x for x in s.body if _is_extremum(x)] if not self.program.exact else []
        kinds = {x.name: type_of(x.value.dtype) for x in found}
        read = {e.arg for e in _parts(s.body) if e.kind == "var"} if kinds else ()
        kinds = {k: v for k, v in kinds.items() if k not in read and s.axis.extent >= SHORT.start}
        for name, kind in kinds.items():
            with b.goto_entry_block():
                self.doubts[name] = b.alloca(I1, name="doubt")
            first = b.load(self.variables[name], typ=kind)
            b.store(b.fcmp_unordered("uno", first, first), self.doubts[name])
        yield
        for name, kind in kinds.items():
            value = b.load(self.variables[name], typ=kind)
            doubt = b.load(self.doubts.pop(name), typ=I1)
            b.store(b.select(doubt, L.Constant(kind, float("nan")), value), self.variables[name])

    def combine(self, op: str, old, value: Expr):
        """``old op value`` of an accumulation: reassociable, and a product may fuse with its sum.

        (Neither in an exact program.)
        """
        b = self.b
        floating = value.dtype.is_floating_point
        if op == "add" and floating and value.kind == "binary" and value.arg == "*":
            x, y = (self.expr(a) for a in value.args)
            return b.fadd(old, b.fmul(x, y, flags=self.products), flags=self.sums)
        x = self.expr(value)
        if op == "add":
            return b.fadd(old, x, flags=self.sums) if floating else b.add(old, x)
        if op == "mul":
            return b.fmul(old, x, flags=self.sums) if floating else b.mul(old, x)
        if op == "or":
            return b.or_(old, x)
        if op == "and":
            return b.and_(old, x)
        return self.extremum(op, old, x, value.dtype)

    def extremum(self, op: str, x, y, dtype: DType):
        """min or max; of floats NaN wins. In exact programs -0 and 0 are equal, and y is the result."""
        if dtype.is_floating_point and self.program.exact:
            wins = self.b.fcmp_ordered(">" if op == "max" else "<", x, y)
            return self.b.select(self.b.or_(wins, self.b.fcmp_unordered("uno", x, x)), x, y)
        if dtype.is_floating_point:
            kind = type_of(dtype)
            name = "llvm.maximum" if op == "max" else "llvm.minimum"
            fn = self.module.declare_intrinsic(name, (kind,), L.FunctionType(kind, [kind, kind]))
            return self.b.call(fn, [x, y])
        predicate = ">" if op == "max" else "<"
        signed = dtype.is_signed
        compare = self.b.icmp_signed if signed else self.b.icmp_unsigned
        return self.b.select(compare(predicate, x, y), x, y)

    def pointer(self, buffer, at: Expr):
        return self.b.gep(
            self.pointers[buffer],
            [self.expr(at)],
            inbounds=True,
            source_etype=memory_type(buffer.dtype),
        )

    def store(self, s: ir.Store) -> None:
        value = self.expr(s.value)
        if s.buffer.dtype.category == dtypes.BOOL:
            value = self.b.zext(value, I8)
        self.b.store(value, self.pointer(s.buffer, s.at), align=s.buffer.dtype.itemsize)

    def accum_store(self, s: ir.AccumStore) -> None:
        at = self.pointer(s.buffer, s.at)
        dtype = s.buffer.dtype
        old = self.b.load(at, typ=memory_type(dtype), align=dtype.itemsize)
        if dtype.category == dtypes.BOOL:
            old = self.b.trunc(old, I1)
        new = self.combine(s.op, old, s.value)
        if dtype.category == dtypes.BOOL:
            new = self.b.zext(new, I8)
        self.b.store(new, at, align=dtype.itemsize)

    def for_(self, s: ir.For) -> None:
        if s.private is not None:
            parallel_loop(self, s)
        else:
            with self.doubting(s):
                self.whole_loop(s)

    def whole_loop(self, s: ir.For) -> None:
        b = self.b
        if s.stop is None:
            self.loop(s.axis, s.axis.extent, lambda: self.body(s.body), _hints(s))
            return
        stop = self.expr(s.stop)
        if value_range(s.stop)[0] >= 1:
            self.loop(s.axis, stop, lambda: self.body(s.body), _hints(s))
            return
        some, none = (self.function.append_basic_block(name) for name in ("some", "none"))
        b.cbranch(b.icmp_signed(">", stop, L.Constant(I64, 0)), some, none)
        b.position_at_end(some)
        self.loop(s.axis, stop, lambda: self.body(s.body), _hints(s))
        b.branch(none)
        b.position_at_end(none)

    def loop(self, axis: Axis, stop, emit, hints=()) -> None:
        """``for axis in range(stop)``, which is at least 1; `emit()` emits an iteration."""
        b = self.b
        if type(stop) is int:
            stop = L.Constant(I64, stop)
        loop = self.function.append_basic_block("loop")
        done = self.function.append_basic_block("done")
        before = b.block
        b.branch(loop)
        b.position_at_end(loop)
        i = b.phi(I64, name=axis.name)
        i.add_incoming(L.Constant(I64, 0), before)
        outer, searching = self.values.get(axis), self.searching
        self.values[axis] = i
        self.searching = searching and axis.extent < SHORT.start
        emit()
        self.searching = searching
        following = b.add(i, L.Constant(I64, 1), flags=("nuw", "nsw"))
        i.add_incoming(following, b.block)
        more = b.icmp_unsigned("<", following, stop)
        back = b.cbranch(more, loop, done)
        if hints:
            back.set_metadata("llvm.loop", LoopHint(self.module, *hints))
        b.position_at_end(done)
        self.values[axis] = outer

    def while_(self, s: ir.While) -> None:
        b = self.b
        test, body, done = (
            self.function.append_basic_block(name) for name in ("test", "body", "done")
        )
        b.branch(test)
        b.position_at_end(test)
        self.body(s.before)
        self.memo = {}
        b.cbranch(self.expr(s.condition), body, done)
        b.position_at_end(body)
        outer, self.searching = self.searching, True
        self.body(s.body)
        self.searching = outer
        b.branch(test)
        b.position_at_end(done)

    def if_(self, s: ir.If) -> None:
        b = self.b
        then, other, done = (
            self.function.append_basic_block(name) for name in ("then", "else", "done")
        )
        b.cbranch(self.expr(s.condition), then, other)
        for block, inner in ((then, s.body), (other, s.orelse)):
            b.position_at_end(block)
            self.body(inner)
            b.branch(done)
        b.position_at_end(done)

    def check(self, s: ir.Check) -> None:
        b = self.b
        bad = self.function.append_basic_block("bad")
        fine = self.function.append_basic_block("fine")
        b.cbranch(self.expr(s.condition), fine, bad)
        b.position_at_end(bad)
        b.ret(L.Constant(I64, s.code))
        b.position_at_end(fine)

    def gemm(self, s: ir.Gemm) -> None:
        """Row-major ``c = a @ b`` is column-major ``c' = b' @ a'``; transposes are BLAS flags."""
        gemm_call(self, s)

    def tile(self, s: ir.Tile) -> None:
        Tiler(self, s, type_of(s.dtype)).emit()

    # -- expressions --------------------------------------------------------------------------

    def expr(self, e: Expr):
        if e.kind == "const":
            return constant(e.arg, e.dtype)
        if e.kind == "var":
            if type(e.arg) is Axis or e.arg in self.values:
                return self.values[e.arg]
            return self.b.load(self.variables[e.arg], typ=type_of(e.dtype))
        found = self.memo.get(e)
        if found is None:
            found = self.memo[e] = EXPRESSIONS[e.kind](self, e)
        return found

    def load(self, e: Expr):
        value = self.b.load(
            self.pointer(e.arg, e.args[0]), typ=memory_type(e.dtype), align=e.dtype.itemsize
        )
        return self.b.trunc(value, I1) if e.dtype.category == dtypes.BOOL else value

    def binary(self, e: Expr):
        x, y = self.expr(e.args[0]), self.expr(e.args[1])
        dtype = e.args[0].dtype
        if e.arg in ir.COMPARISON:
            return self.compare(e.arg, x, y, dtype)
        if dtype.is_floating_point:
            if e.arg in ("min", "max"):
                predicate = "<" if e.arg == "min" else ">"
                return self.b.select(self.b.fcmp_ordered(predicate, x, y), x, y)
            return getattr(self.b, FLOAT_OPS[e.arg])(x, y)
        return self.integer(e, x, y, dtype)

    def compare(self, op: str, x, y, dtype: DType):
        if dtype.is_floating_point:
            if op == "!=":
                return self.b.fcmp_unordered(op, x, y)
            return self.b.fcmp_ordered(op, x, y)
        if dtype.is_signed:
            return self.b.icmp_signed(op, x, y)
        return self.b.icmp_unsigned(op, x, y)

    def integer(self, e: Expr, x, y, dtype: DType):
        b = self.b
        op = e.arg
        if op in INT_OPS:
            # Index arithmetic cannot overflow; saying so lets LLVM see strides.
            flags = ("nsw",) if dtype is dtypes.int64 and op in "+-*" and _is_index(e) else ()
            return (
                getattr(b, INT_OPS[op])(x, y, flags=flags)
                if flags
                else getattr(b, INT_OPS[op])(x, y)
            )
        if op == ">>":
            return b.ashr(x, y) if dtype.is_signed else b.lshr(x, y)
        if op in ("min", "max"):
            return self.extremum(op, x, y, dtype)
        return self.divide(e, x, y, dtype)

    def divide(self, e: Expr, x, y, dtype: DType):
        """Floored ``//`` and ``%``; by zero gives 0, and the one overflow wraps (neither may trap)."""
        b = self.b
        kind = x.type
        zero, one = L.Constant(kind, 0), L.Constant(kind, 1)
        if not dtype.is_signed:
            safe = b.select(b.icmp_unsigned("==", y, zero), one, y)
            result = b.udiv(x, safe) if e.arg == "//" else b.urem(x, safe)
            return b.select(b.icmp_unsigned("==", y, zero), zero, result)
        constant_divisor = e.args[1].kind == "const" and e.args[1].arg > 0
        if constant_divisor and dtype is dtypes.int64 and value_range(e.args[0])[0] >= 0:
            return b.sdiv(x, y) if e.arg == "//" else b.srem(x, y)
        minus = L.Constant(kind, -1)
        is_zero, is_minus = b.icmp_signed("==", y, zero), b.icmp_signed("==", y, minus)
        safe = b.select(b.or_(is_zero, is_minus), one, y)
        q, r = b.sdiv(x, safe), b.srem(x, safe)
        odd = b.and_(b.icmp_signed("!=", r, zero), b.icmp_signed("<", b.xor(r, safe), zero))
        if e.arg == "//":
            floored = b.select(odd, b.sub(q, one), q)
            return b.select(is_zero, zero, b.select(is_minus, b.sub(zero, x), floored))
        floored = b.select(odd, b.add(r, safe), r)
        return b.select(b.or_(is_zero, is_minus), zero, floored)

    def unary(self, e: Expr):
        b = self.b
        x = self.expr(e.args[0])
        if e.arg == "neg":
            return b.fneg(x) if e.dtype.is_floating_point else b.neg(x)
        if e.arg == "not":
            return b.not_(x)
        kind = type_of(e.dtype)
        if e.arg == "abs" and not e.dtype.is_floating_point:
            return b.select(b.icmp_signed("<", x, L.Constant(kind, 0)), b.neg(x), x)
        fn = self.module.declare_intrinsic(
            UNARY_INTRINSICS[e.arg], (kind,), L.FunctionType(kind, [kind])
        )
        return b.call(fn, [x])

    def select(self, e: Expr):
        """A choice; a branch, where an iteration of a search would wait for the condition.

        Line searches and simulations mostly choose what they chose before: a predicted branch lets the
        processor begin the next iteration, a selection waits for the outcome (measured, descents:
        2 to 4 times faster; bisections, 1.3).
        """
        chosen = self.b.select(*[self.expr(a) for a in e.args])
        if self.searching:
            text = L.MetaDataString(self.module, "branch_weights")
            weights = [text, L.Constant(I32, 2000), L.Constant(I32, 1)]
            chosen.set_metadata("prof", self.module.add_metadata(weights))
        return chosen

    def cast(self, e: Expr):
        return self.convert(self.expr(e.args[0]), e.args[0].dtype, e.dtype)

    def convert(self, x, old: DType, new: DType):
        b = self.b
        kind = type_of(new)
        if old.is_floating_point:
            if new.is_floating_point:
                return b.fptrunc(x, kind) if new.itemsize < old.itemsize else b.fpext(x, kind)
            if new.category == dtypes.BOOL:
                return b.fcmp_unordered("!=", x, L.Constant(x.type, 0.0))
            # Through a wide signed integer, as C and NumPy do for the narrow ones.
            wide = kind if new.itemsize >= 4 else I32
            freeze = getattr(b, "freeze", None)
            value = b.fptosi(x, wide)
            value = freeze(value) if freeze is not None else value
            return value if wide is kind else b.trunc(value, kind)
        if new.is_floating_point:
            signed = old.is_signed
            return b.sitofp(x, kind) if signed else b.uitofp(x, kind)
        if new.category == dtypes.BOOL:
            return b.icmp_signed("!=", x, L.Constant(x.type, 0))
        have = 1 if old.category == dtypes.BOOL else old.itemsize * 8
        want = new.itemsize * 8
        if want == have:
            return x
        if want < have:
            return b.trunc(x, kind)
        return b.sext(x, kind) if old.is_signed and old.category != dtypes.BOOL else b.zext(x, kind)

    def bits(self, e: Expr):
        return self.b.bitcast(self.expr(e.args[0]), type_of(e.dtype))

    def fma(self, e: Expr):
        kind = type_of(e.dtype)
        fn = self.module.declare_intrinsic("llvm.fma", (kind,), L.FunctionType(kind, [kind] * 3))
        return self.b.call(fn, [self.expr(a) for a in e.args])

    def call(self, e: Expr):
        if e.arg == "fmod":  # exact for any ratio; a loop inside, which is the C library's business
            return self.b.frem(*[self.expr(a) for a in e.args])
        self.calls += 1
        return self.b.call(self.helper(e), [self.expr(a) for a in e.args])

    def helper(self, e: Expr) -> L.Function:
        """The scalar function `e` calls, emitted once a module and inlined by LLVM into every loop.

        A body of very many calls (an unrolled simulation) is not a loop that LLVM could vectorise: there
        the calls stay calls, and compiling takes no minutes.
        """
        from .mathlib import expand

        kinds = [type_of(a.dtype) for a in e.args]
        inlined = self.calls <= INLINED
        name = f"flatgrad_{e.arg}_{e.args[0].dtype.name}{'' if inlined else '_called'}"
        found = self.module.globals.get(name)
        if found is not None:
            return found
        fn = L.Function(self.module, L.FunctionType(type_of(e.dtype), kinds), name)
        fn.linkage = "internal"
        for attribute in ("alwaysinline" if inlined else "noinline", "nounwind"):
            fn.attributes.add(attribute)
        saved = self.b, self.memo, self.values, self.calls, self.searching
        self.calls, self.searching = 0, False
        self.b = L.IRBuilder(fn.append_basic_block("entry"))
        self.memo = {}
        parameters = [ir.var(f"a{k}", a.dtype) for k, a in enumerate(e.args)]
        self.values = {p.arg: arg for p, arg in zip(parameters, fn.args, strict=True)}
        result = expand(e.arg, parameters)
        self.b.ret(self.expr(result))
        self.b, self.memo, self.values, self.calls, self.searching = saved
        return fn


# Calls of scalar functions that are inlined in one body.
INLINED = 32


# Vectors that one iteration of a loop over polynomials works on at once: their dependency chains are
# long, and a core can overlap several (measured: 1.3 to 2 times faster than LLVM's own choice of 1).
INTERLEAVE = 4

# Elements of such a loop for each of these vectors: with fewer, most of it would be remainder.
EACH = 16

# Innermost loops of these extents stay loops until they are vectorised. LLVM would unroll them first, and
# then compute element by element (measured, softmax of 16 to 64 columns: three times faster). Contractions
# are better unrolled: their accumulators become registers.
SHORT = range(8, 65)


# A loop over lanes becomes vectors first, and is unrolled then: so the lanes end in vector registers.
LANES = [
    ("llvm.loop.unroll.disable",),
    ("llvm.loop.vectorize.followup_all", ("llvm.loop.unroll.full",)),
]


class LoopHint(L.values.MDValue):
    """``llvm.loop`` metadata; LLVM wants its first operand to be itself."""

    def __init__(self, module: L.Module, *hints: tuple):
        nodes = []
        for name, *numbers in hints:
            text = L.MetaDataString(module, name)
            values = [self._value(module, n) for n in numbers]
            nodes.append(module.add_metadata([text, *values]))
        super().__init__(module, nodes, name=str(len(module.metadata)))

    @staticmethod
    def _value(module: L.Module, value):
        """A number, or a hint for the loop that is made of this one."""
        if type(value) is int:
            return L.Constant(I32, value)
        return module.add_metadata([L.MetaDataString(module, value[0])])

    def descr(self, buf) -> None:
        hints = ", ".join(o.get_reference() for o in self.operands)
        buf += (f"distinct !{{ {self.get_reference()}, {hints} }}", "\n")


def _hints(s: ir.For) -> list[tuple]:
    """What LLVM should know of an innermost loop."""
    if any(isinstance(inner, ir.COMPOUND) for inner in s.body):
        return []
    n = s.axis.extent
    calls = _calls_functions(s.body)
    if any(isinstance(x, ir.AccumStore) and x.buffer.role == "local" for x in s.body):
        return LANES
    uneven = (
        n < 2 * SHORT.start and n % SHORT.start
    )  # one vector and a rest: not worth it for cheap bodies
    stay = n in SHORT and (calls or not (uneven or _contracts(s.body)))
    hints = [("llvm.loop.unroll.disable",)] if stay else []
    if n >= SHORT.start and calls:
        count = max(1, min(INTERLEAVE, n // EACH))
        hints.append(("llvm.loop.interleave.count", count))
    return hints


def _calls_functions(body) -> bool:
    return any(e.kind == "call" for e in _parts(body))


def _contracts(body) -> bool:
    """Whether a body is a contraction's: it sums products, or adds to memory."""
    for s in body:
        if isinstance(s, ir.AccumStore):
            return True
        if isinstance(s, ir.Accum) and s.op == "add" and s.value.arg == "*":
            x, y = s.value.args
            if x is not y and x.dtype.is_floating_point:
                return True
    return False


def _parts(body):
    """All expressions in the statements of an innermost body."""
    stack, seen = [e for s in body for e in expressions(s)], set()
    while stack:
        e = stack.pop()
        if e not in seen:
            seen.add(e)
            yield e
            stack.extend(e.args)


def _is_extremum(s) -> bool:
    extremum = isinstance(s, ir.Accum) and s.op in ("max", "min")
    return extremum and s.value.dtype.is_floating_point


def _is_index(e: Expr) -> bool:
    low, high = value_range(e)
    return low > -(2**62) and high < 2**62


FLOAT_OPS = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
INT_OPS = {"+": "add", "-": "sub", "*": "mul", "&": "and_", "|": "or_", "^": "xor", "<<": "shl"}
UNARY_INTRINSICS = {
    "abs": "llvm.fabs",
    "sqrt": "llvm.sqrt",
    "floor": "llvm.floor",
    "ceil": "llvm.ceil",
    "trunc": "llvm.trunc",
    "rint": "llvm.roundeven",
}
STATEMENTS = {
    ir.Let: Emitter.let,
    ir.Set: Emitter.set,
    ir.Accum: Emitter.accum,
    ir.Store: Emitter.store,
    ir.AccumStore: Emitter.accum_store,
    ir.For: Emitter.for_,
    ir.While: Emitter.while_,
    ir.If: Emitter.if_,
    ir.Check: Emitter.check,
    ir.Gemm: Emitter.gemm,
    ir.Tile: Emitter.tile,
}
EXPRESSIONS = {
    "load": Emitter.load,
    "binary": Emitter.binary,
    "unary": Emitter.unary,
    "select": Emitter.select,
    "cast": Emitter.cast,
    "bits": Emitter.bits,
    "fma": Emitter.fma,
    "call": Emitter.call,
}
