"""Loops on several threads: the body becomes a function of a range, which Numba's thread pool calls.

The pool is Numba's own (``numba_parallel_for`` of whatever threading layer it chose), with as many threads as
``numba.set_num_threads`` says for the calling thread. Iterations are cut into one range a thread.
"""

from __future__ import annotations

from contextlib import contextmanager

from llvmlite import ir as L

from ..lower import ir
from .llvm_types import I64, PTR, opaque
from .outline import Outlined

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
    body = Outlined(emitter, [s], ranged=True)
    task = [a.type for a in body.arguments] + [I64]
    part = _part(emitter, body.function, task, s.axis.extent)
    with b.goto_entry_block():
        cells = [b.alloca(L.ArrayType(I64, len(task))), b.alloca(PTR), b.alloca(I64), b.alloca(I64)]
        data, args, dims, steps = (opaque(b, cell) for cell in cells)
    count = b.call(_declared(emitter, "get_num_threads", I64, []), [])
    most = L.Constant(I64, min(s.axis.extent, MOST))
    count = b.select(b.icmp_signed("<", count, most), count, most)
    for k, value in enumerate([*body.arguments, count]):
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
            b.call(body.function, [*body.arguments, *whole])
    emitter.memo = {}


def _field(b, data, k: int):
    """Where a task's value `k` is: eight bytes each."""
    return b.gep(data, [L.Constant(I64, 8 * k)], inbounds=True, source_etype=L.IntType(8))


def _declared(emitter, name: str, returned, arguments) -> L.Function:
    found = emitter.module.globals.get(name)
    return found or L.Function(emitter.module, L.FunctionType(returned, arguments), name)


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
