"""Loops on several threads: the body becomes a function of a range, which Numba's thread pool calls.

The pool is Numba's own (``numba_parallel_for`` of whatever threading layer it chose), with as many threads as
``numba.set_num_threads`` says for the calling thread. Iterations are cut into one range a thread.
"""

from __future__ import annotations

from contextlib import contextmanager

from llvmlite import ir as L

from ..lower import ir
from ..lower.nest import expressions
from .llvm import I64, PTR, opaque


# Ranges that a loop is cut into at most.
MOST = 256


def is_parallel(program: ir.Program) -> bool:
    """Whether any of a program's loops runs on several threads."""
    return any(isinstance(s, ir.For) and s.private is not None for s in program.body)


@contextmanager
def provided(program: ir.Program):
    """Start Numba's threads and make them known to LLVM, before such a program is compiled or loaded."""
    if is_parallel(program):
        from numba.np.ufunc.parallel import _launch_threads

        _launch_threads()
    yield


def parallel_loop(emitter, s: ir.For) -> None:
    """``for axis in range(extent)`` by all threads of the pool."""
    b = emitter.b
    pointers = list(dict.fromkeys(emitter.pointers.values()))
    own = {x.name for x in _statements(s) if isinstance(x, (ir.Let, ir.Set))}
    names = sorted((_used(s) - own) & (emitter.values.keys() | emitter.variables.keys()))
    values = [
        emitter.values[n] if n in emitter.values else b.load(emitter.variables[n]) for n in names
    ]
    body = _body(emitter, s, pointers, names, values)
    task = [PTR] * len(pointers) + [v.type for v in values] + [I64]
    part = _part(emitter, body, task, s.axis.extent)
    with b.goto_entry_block():
        cells = [b.alloca(L.ArrayType(I64, len(task))), b.alloca(PTR), b.alloca(I64), b.alloca(I64)]
        data, args, dims, steps = (opaque(b, cell) for cell in cells)
    count = b.call(_declared(emitter, "get_num_threads", I64, []), [])
    most = L.Constant(I64, min(s.axis.extent, MOST))
    count = b.select(b.icmp_signed("<", count, most), count, most)
    for k, value in enumerate([*pointers, *values, count]):
        b.store(value, _field(b, data, k))
    b.store(L.Constant(PTR, None), args)
    b.store(count, dims)
    b.store(L.Constant(I64, 1), steps)
    run = _declared(emitter, "numba_parallel_for", L.VoidType(), [PTR] * 5 + [I64] * 3)
    with b.if_else(b.icmp_signed(">", count, L.Constant(I64, 1))) as (several, one):
        with several:
            none, single = L.Constant(I64, 0), L.Constant(I64, 1)
            b.call(run, [part, args, dims, steps, data, none, single, count])
        with one:
            whole = [L.Constant(I64, 0), L.Constant(I64, s.axis.extent)]
            b.call(body, [*pointers, *values, *whole])
    emitter.memo = {}


def _field(b, data, k: int):
    """Where a task's value `k` is: eight bytes each."""
    return b.gep(data, [L.Constant(I64, 8 * k)], inbounds=True, source_etype=L.IntType(8))


def _declared(emitter, name: str, returned, arguments) -> L.Function:
    found = emitter.module.globals.get(name)
    return found or L.Function(emitter.module, L.FunctionType(returned, arguments), name)


def _body(emitter, s: ir.For, pointers, names, values) -> L.Function:
    """``body(pointers..., values..., start, stop)``: some iterations, with scratch memory of their own."""
    kinds = [PTR] * len(pointers) + [v.type for v in values] + [I64, I64]
    name = emitter.module.get_unique_name("flatgrad_range")
    fn = L.Function(emitter.module, L.FunctionType(L.VoidType(), kinds), name)
    fn.linkage = "internal"
    fn.attributes.add("noinline")
    fn.attributes.add("nounwind")
    for arg in fn.args[: len(pointers)]:
        arg.add_attribute("noalias")
    moved = dict(zip(pointers, fn.args, strict=False))
    given = dict(zip(names, fn.args[len(pointers) :], strict=False))
    with emitter.inside(fn, {b: moved[p] for b, p in emitter.pointers.items()}, given):
        for buffer in s.private:
            emitter.scratch(buffer)
        emitter._declare_variables(s.body)
        b = emitter.b
        start, stop = fn.args[-2:]
        counter = ir.Axis(s.axis.extent, s.axis.name)

        def iteration():
            emitter.values[s.axis] = b.add(start, emitter.values[counter], flags=("nuw", "nsw"))
            emitter.body(s.body)

        emitter.loop(counter, b.sub(stop, start), iteration)
        b.ret_void()
    return fn


def _part(emitter, body, task, extent: int) -> L.Function:
    """What a thread is given: the ranges ``args[0], args[0] + 1, ...`` (``dims[0]`` of them)."""
    name = emitter.module.get_unique_name("flatgrad_part")
    kind = L.FunctionType(L.VoidType(), [PTR] * 4)
    fn = L.Function(emitter.module, kind, name)
    fn.linkage = "internal"
    fn.attributes.add("nounwind")
    args, dims, _, data = fn.args
    b = L.IRBuilder(fn.append_basic_block("entry"))
    fields = [b.load(_field(b, data, k), typ=kind) for k, kind in enumerate(task)]
    ranges, whole = fields.pop(), L.Constant(I64, extent)
    first = b.ptrtoint(b.load(args, typ=PTR), I64)
    last = b.add(first, b.load(dims, typ=I64))
    start = b.sdiv(b.mul(first, whole), ranges)
    stop = b.sdiv(b.mul(last, whole), ranges)
    with b.if_then(b.icmp_signed("<", start, stop)):
        b.call(body, [*fields, start, stop])
    b.ret_void()
    return fn


def _statements(s):
    yield s
    for body in ir.bodies(s):
        for inner in body:
            yield from _statements(inner)


def _used(s: ir.For) -> set[str]:
    """The names that a loop reads."""
    found, seen = set(), set()
    stack = [e for inner in _statements(s) for e in expressions(inner)]
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.kind == "var" and type(e.arg) is str:
            found.add(e.arg)
        stack.extend(e.args)
    return found
