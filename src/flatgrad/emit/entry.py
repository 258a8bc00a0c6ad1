"""Programs as functions that Numba code calls: an intrinsic that brings its own scalars, constants and arena.

``run((arguments, result arrays, [arena]))`` gives ``(code, results without dimensions...)``.
Arguments without dimensions may be numbers; results without dimensions are returned; arrays that
the program holds are constants of the module; a small arena is on the stack. So a call allocates nothing.
"""

from __future__ import annotations

import weakref

from llvmlite import ir as L

from ..graph import dtypes
from ..lower.plan import ALIGN, STACK
from .llvm import Emitter
from .llvm_types import I8, I64, memory_type

__all__ = ["Offer", "entry_named", "offer"]

# The code of a call whose arrays overlap.
OVERLAP = -1

# Programs of at most so many statements are inlined into their callers.
INLINE = 60


class Offer:
    """What an entry's intrinsic needs to be compiled.

    Attributes
    ----------
    program : ir.Program
    label : str
        How error messages call it.
    arguments : list of str
        How they call its arguments: the first of the program's inputs.
    constants : list of ndarray
        The other inputs.
    guard : str
        If given, whoever inlines the program is not cached on disk by Numba: see `_guard`.
    """

    def __init__(self, program, label: str, arguments: list, constants: list, guard: str = ""):
        self.program = program
        self.label = label
        self.arguments = arguments
        self.constants = constants
        self.guard = guard

    @property
    def filled(self) -> list:
        """The results that have dimensions: the caller gives their arrays."""
        return [b for b in self.program.outputs if b.shape]

    @property
    def returned(self) -> list:
        """The results without dimensions."""
        return [b for b in self.program.outputs if not b.shape]

    @property
    def arena_given(self) -> bool:
        return self.program.arena_bytes > STACK


_offers: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def offer(digest: str, what: Offer) -> None:
    """Let modules that say ``entry_named(digest)`` be compiled, as long as `what` lives."""
    _offers[digest] = what


def entry_named(digest: str):
    """The intrinsic of the offer of this name."""
    from numba import types
    from numba.core.errors import TypingError
    from numba.extending import intrinsic

    offered = _offers[digest]
    # What Numba code may call is compiled whenever a caller is, long after the user let the program go.
    kept = offered if offered.guard else None
    del offered

    @intrinsic
    def run(typingctx, arguments):
        what = kept or _offers[digest]
        expected = [*what.program.inputs[: len(what.arguments)], *what.filled]
        names = [*what.arguments, *[f"out{k}" for k in range(len(what.filled))]]
        for kind, buffer, name in zip(arguments.types, expected, names, strict=False):
            fault = _fault(kind, buffer, name.startswith("out") and buffer in what.filled)
            if fault:
                raise TypingError(f"{what.label}: {name} must be {fault}, got {kind}")
        returned = [_numba(b.dtype) for b in what.returned]
        signature = types.Tuple((types.int64, *returned))(arguments)
        return signature, lambda *given: _emit(what, *given)

    return run


def _numba(dtype):
    from numba.np.numpy_support import from_dtype

    return from_dtype(dtype.np)


def _fault(kind, buffer, written: bool) -> str:
    """What is required, if the Numba type `kind` is not it."""
    from numba import types

    name, rank = buffer.dtype.name, len(buffer.shape)
    if isinstance(kind, types.Array):
        fits = kind.ndim == rank and kind.dtype == _numba(buffer.dtype) and kind.layout == "C"
        if fits and (kind.mutable or not written):
            return ""
    elif not rank and isinstance(kind, (types.Number, types.Boolean)):
        return ""
    if not rank:
        return f"a number or a 0-d array of {name}"
    fix = "" if written else " (numpy.ascontiguousarray makes one)"
    dimensions = "1 dimension" if rank == 1 else f"{rank} dimensions"
    return f"a C-contiguous array of {name} with {dimensions}{fix}"


def _emit(what: Offer, context, builder, signature, args):
    """LLVM: pointers to everything, the call, and the numbers that it made."""
    from numba import types
    from numba.core import cgutils

    program = what.program
    given = iter(zip(signature.args[0].types, cgutils.unpack_tuple(builder, args[0]), strict=True))

    def pointer(buffer):
        kind, value = next(given)
        if isinstance(kind, types.Array):
            return context.make_array(kind)(context, builder, value).data
        cell = _cell(builder, buffer)
        value = context.cast(builder, value, kind, _numba(buffer.dtype))
        if buffer.dtype.category == dtypes.BOOL:
            value = builder.zext(value, I8)
        builder.store(value, cell)
        return cell

    count = len(what.arguments)
    data = [pointer(b) for b in program.inputs[:count]]
    data += [
        _constant(builder, b, array)
        for b, array in zip(program.inputs[count:], what.constants, strict=True)
    ]
    cells = {}
    for buffer in program.outputs:
        if buffer.shape:
            data.append(pointer(buffer))
        else:
            cells[buffer] = _cell(builder, buffer)
            data.append(cells[buffer])
    if program.slots:
        arena = next(given)[1] if what.arena_given else None
        if arena is None:
            arena = _stack(builder, L.ArrayType(I8, program.arena_bytes), ALIGN)
        else:
            kind = signature.args[0].types[-1]
            arena = _aligned(builder, context.make_array(kind)(context, builder, arena).data)
        offset = 0
        for size in program.slots:
            data.append(
                builder.gep(arena, [L.Constant(I64, offset)], inbounds=True, source_etype=I8)
            )
            offset += size
    overlap = _overlap(builder, program, data, count)
    function = Emitter(builder.module, program, "flatgrad_program").emit()
    if _size(program.body) <= INLINE:
        function.attributes.discard("noinline")
        function.attributes.add("alwaysinline")
    code = _unless(builder, overlap, lambda: builder.call(function, data))
    if what.guard:
        code = builder.or_(code, _guard(builder, what.guard))
    results = [code]
    for buffer, cell in cells.items():
        value = builder.load(cell, typ=memory_type(buffer.dtype))
        if buffer.dtype.category == dtypes.BOOL:
            value = builder.trunc(value, L.IntType(1))
        results.append(value)
    return context.make_tuple(builder, signature.return_type, results)


def _cell(builder, buffer):
    """Stack memory for one number."""
    return _stack(builder, memory_type(buffer.dtype), buffer.dtype.itemsize)


def _stack(builder, kind, align: int):
    """Stack memory of the function as it is. (Numba's own helper fills it with zeros, byte by byte.)"""
    with builder.goto_entry_block():
        memory = builder.alloca(kind)
    memory.align = align
    return memory


def _unless(builder, overlap, call):
    """The code of ``call()``, or OVERLAP in its place."""
    if overlap is None:
        return call()
    before = builder.block
    with builder.if_then(builder.not_(overlap)):
        code = call()
        after = builder.block
    result = builder.phi(I64)
    result.add_incoming(L.Constant(I64, OVERLAP), before)
    result.add_incoming(code, after)
    return result


def _overlap(builder, program, data, count: int):
    """Whether an array to be filled shares memory with an argument or another one; None if none can.

    The program would compute nonsense, since it reads and writes in any order.
    """
    arrays = list(zip((*program.inputs, *program.outputs), data, strict=False))
    first = len(program.inputs)
    updated = [k for k in range(count) if program.inputs[k] in program.updated]
    found = None
    for k in (*updated, *range(first, len(arrays))):
        others = [j for j in range(count) if j != k and (j < k or j not in updated)]
        for j in [*others, *range(first, k)]:
            (a, at_a), (b, at_b) = arrays[j], arrays[k]
            if not (a.shape and b.shape and a.size and b.size):
                continue
            start_a, start_b = builder.ptrtoint(at_a, I64), builder.ptrtoint(at_b, I64)
            end_a = builder.add(start_a, L.Constant(I64, a.size * a.dtype.itemsize))
            end_b = builder.add(start_b, L.Constant(I64, b.size * b.dtype.itemsize))
            both = builder.and_(
                builder.icmp_unsigned("<", start_a, end_b),
                builder.icmp_unsigned("<", start_b, end_a),
            )
            found = both if found is None else builder.or_(found, both)
    return found


def _aligned(builder, data):
    """The first address from `data` on that is a multiple of ALIGN."""
    address = builder.ptrtoint(data, I64)
    up = builder.add(address, L.Constant(I64, ALIGN - 1))
    offset = builder.sub(builder.and_(up, L.Constant(I64, -ALIGN)), address)
    return builder.gep(data, [offset], inbounds=True, source_etype=I8)


def _constant(builder, buffer, array):
    """The address of an array that is part of the machine code."""
    name = f"flatgrad_constant_{buffer.name}"
    found = builder.module.globals.get(name)
    if found is None:
        content = bytearray(array.tobytes()) or bytearray(1)
        kind = L.ArrayType(I8, len(content))
        found = L.GlobalVariable(builder.module, kind, name)
        found.linkage = "internal"
        found.global_constant = True
        found.align = ALIGN
        found.initializer = L.Constant(kind, content)
    return found


def _guard(builder, name: str):
    """Zero, read from memory in a way that Numba notices: it caches on disk nothing that this is a part of.

    A user's cached function is found again as long as its own source file is unchanged; a program that was
    inlined into it would then run on, whatever became of the model. Numba does not cache what refers
    to a global variable of such a name, which it uses itself for addresses of this process.
    """
    name = f"numba.dynamic.globals.flatgrad.{name}"
    found = builder.module.globals.get(name)
    if found is None:
        found = L.GlobalVariable(builder.module, I64, name)
        found.linkage = "linkonce"
        found.initializer = L.Constant(I64, 0)
    return builder.load(found, typ=I64)


def _size(body) -> int:
    """Statements, those of inner loops included."""
    return sum(1 + _size(getattr(s, "body", ())) for s in body)
