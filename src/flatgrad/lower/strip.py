"""Strip-mining: a long loop over many costly functions runs in strips, a few functions at a time.

One loop body with ten inlined polynomials is one long dependency chain: too large for the processor to
overlap iterations, and for the compiler to interleave them. Cut into stages that each run over a strip
of elements, with the values between in small scratch buffers that stay in the first-level cache, every
stage keeps the vector units busy. (Measured, ten functions over 10^6 float32: about twice as fast.)
"""

from __future__ import annotations

from . import ir
from .ir import Axis, Buffer, Expr
from .nest import expressions, fresh, substitute_statement

STRIP = 1024  # elements: several float64 scratch strips fit a 32 KB cache
CALLS = 4  # functions a stage
LONG = 4 * STRIP  # shorter loops stay as they are


def strip(body: list) -> list:
    """Cut long innermost loops with many function calls into strips and stages."""
    out = []
    for s in body:
        if isinstance(s, ir.For) and _worth_it(s):
            s = _strip_loop(s)
        elif isinstance(s, ir.COMPOUND):
            s = ir.with_bodies(s, [strip(b) for b in ir.bodies(s)])
        out.append(s)
    return out


def _worth_it(loop: ir.For) -> bool:
    if loop.axis.extent < LONG or loop.stop is not None or loop.serial:
        return False
    if any(isinstance(s, (*ir.COMPOUND, ir.Gemm, ir.Tile, ir.AccumStore)) for s in loop.body):
        return False
    return _calls(loop.body) > CALLS


def _calls(statements) -> int:
    seen: set = set()
    stack = [e for s in statements for e in expressions(s)]
    count = 0
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        count += e.kind == "call"
        stack.extend(e.args)
    return count


def _strip_loop(loop: ir.For) -> ir.For:
    extent = loop.axis.extent
    block = Axis(-(-extent // STRIP), loop.axis.name + "b")
    inner = Axis(STRIP, loop.axis.name)
    stop = None if extent % STRIP == 0 else ir.binary("min", _rest(extent, block), STRIP)
    stages = _stages(one_call_a_name(loop.body))
    bodies = _with_scratch(stages, inner)
    loops = []
    for body in bodies:
        memo: dict = {}
        stage_axis = Axis(STRIP, inner.name)
        here = ir.var(stage_axis)
        renamed = {ir.var(loop.axis): _start(block) + here, ir.var(inner): here}
        loops.append(
            ir.For(stage_axis, [substitute_statement(s, renamed, memo) for s in body], stop)
        )
    return ir.For(block, loops)


def _start(block: Axis) -> Expr:
    return ir.var(block) * STRIP


def _rest(extent: int, block: Axis) -> Expr:
    return extent - ir.var(block) * STRIP


def one_call_a_name(body: list) -> list:
    """The body with every function call in a ``Let`` of its own."""
    out: list = []
    named: dict[Expr, Expr] = {}

    def visit(e: Expr) -> Expr:
        found = named.get(e)
        if found is not None:
            return found
        args = tuple([visit(a) for a in e.args])
        result = e if args == e.args else Expr(e.kind, e.dtype, args, e.arg)
        if e.kind == "call":
            name = fresh("f")
            out.append(ir.Let(name, result))
            result = ir.var(name, e.dtype)
        named[e] = result
        return result

    for s in body:
        mapping = {e: visit(e) for e in expressions(s)}
        out.append(substitute_statement(s, mapping))
    return out


def _stages(body: list) -> list[list]:
    """The body cut after every few calls."""
    stages: list[list] = [[]]
    count = 0
    for s in body:
        calls = _calls([s])
        if calls and count + calls > CALLS:
            stages.append([])
            count = 0
        count += calls
        stages[-1].append(s)
    return stages


def _with_scratch(stages: list[list], inner: Axis) -> list[list]:
    """Values that a later stage needs go through a strip of scratch memory."""
    dtypes = {s.name: s.value.dtype for stage in stages for s in stage if isinstance(s, ir.Let)}
    made = [{s.name for s in stage if isinstance(s, ir.Let)} for stage in stages]
    used = [_names(stage) for stage in stages]
    at = ir.var(inner)
    scratch: dict[str, Buffer] = {}
    bodies = []
    for k, stage in enumerate(stages):
        mapping = {}
        for name in sorted(used[k] - made[k]):
            if name in scratch:
                mapping[ir.var(name, dtypes[name])] = ir.load(scratch[name], at)
        memo: dict = {}
        body = [substitute_statement(s, mapping, memo) for s in stage]
        later = set().union(*used[k + 1 :]) if k + 1 < len(stages) else set()
        for name in sorted(made[k] & later):
            buffer = Buffer("s" + name, dtypes[name], STRIP, "arena")
            scratch[name] = buffer
            body.append(ir.Store(buffer, at, ir.var(name, dtypes[name])))
        bodies.append(body)
    return bodies


def _names(stage: list) -> set[str]:
    found, seen = set(), set()
    stack = [e for s in stage for e in expressions(s)]
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.kind == "var" and type(e.arg) is str:
            found.add(e.arg)
        stack.extend(e.args)
    return found
