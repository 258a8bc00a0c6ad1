"""One C99 function: its face, its arguments, and the file around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...graph import dtypes
from ...lower import ir
from ...lower.ir import Buffer
from ...lower.machine import BASELINE, Machine
from .expressions import bare
from .helpers import head
from .statements import Statements
from .words import Names, bit_pattern, literal, memory_type

__all__ = ["Printed", "source"]

# Beyond so many pointers, arguments are read from the caller's arrays instead of passed on.
PARAMETERS = 120


@dataclass(frozen=True)
class Printed:
    """A program in C99.

    Attributes
    ----------
    text : str
        Self-contained: it includes <stdint.h> and <stddef.h> (and <cblas.h>, if BLAS was allowed).
    inputs, results : list of Buffer
        In the order of ``in`` and ``out``; a result of role "in" is an argument that is updated.
    work : int
        Bytes of scratch memory; 0: pass NULL.
    align : int
        Of `work`, in bytes.
    constants : int
        Bytes of constant arrays.
    ctype : str
        The one element type of all arguments and results, or "void".
    libm : list of str
        Functions that a compiler may take from the C library's libm.
    """

    text: str
    inputs: list[Buffer]
    results: list[Buffer]
    work: int
    align: int
    constants: int
    ctype: str
    libm: list[str]


def source(
    program: ir.Program,
    name: str,
    constants: dict[int, np.ndarray] | None = None,
    *,
    contract: bool = True,
    machine: Machine = BASELINE,
) -> Printed:
    """`program` as the C function `name`: ``int NAME(const T *const *in, T *const *out, void *work)``.

    It returns 0, or k for the program's k-th check. A result whose pointer is NULL is skipped. An argument
    that is updated is updated where it is, if its result's pointer is NULL or the argument's own; otherwise
    it is copied there first.

    Parameters
    ----------
    constants : dict of int to ndarray
        Positions of inputs that are stored in the file.
    contract : bool
        Whether products may be fused with the sums that they are added to.
    machine : Machine
        What the program was lowered for: its alignment.
    """
    return Function(program, name, constants or {}, contract, machine).printed()


class Function:
    """Prints one program."""

    def __init__(self, program, name, constants, contract, machine):
        self.program, self.name, self.align = program, name, machine.align
        self.contract = contract and not program.exact
        self.vectors = machine.vector >= 16  # and some kilobytes of code are nothing, too
        self.constants = {program.inputs[k]: a for k, a in constants.items()}
        self.inputs = [b for b in program.inputs if b not in self.constants]
        self.updated = set(program.updated)
        # a, b and c are a tile's own
        self.words = Names([name, f"{name}_run", "in", "out", "work", "to", "a", "b", "c"])
        self.pointers = {b: self.words.new(b.name) for b in (*program.inputs, *program.outputs)}
        self.pointers |= {b: self.words.new(b.name) for b in program.place}
        self.pointers |= {
            b: f"{self.pointers[b]}.x" for b, a in self.constants.items() if _by_bits(a)
        }
        self.slots = [self.words.new(f"slot{k}") for k in range(len(program.slots))]
        self.used: set[Buffer] = set()

    def printed(self) -> Printed:
        program = self.program
        statements = Statements(program, self.words, self.pointers, set(), self.contract)
        statements.shortcuts = self.contract and self.vectors
        loaded = statements.scopes.loaded
        statements.skipped = {b for b in program.outputs if b not in loaded}
        statements.body(program.body)
        self.used = loaded | _written(program.body)
        stored = [b for b in self.constants if b in loaded]
        arrays = [self.array(b, self.constants[b]) for b in stored]
        run, places, work = self.face(loaded)
        if self.reread(loaded):
            statements.need("apart", dtypes.float64)
        helpers = statements.helpers
        text = "\n".join(
            [
                *[t for (n, _), t in helpers.items() if n == "cblas"],
                head(self.contract, self.vectors),
                *[t for (n, _), t in helpers.items() if n != "cblas"],
                *arrays,
                *run,
                *places,
                *statements.lines,
                "    return 0;",
                "}",
                "",
                *self.entry(loaded),
            ]
        )
        return Printed(
            text=text,
            inputs=self.inputs,
            results=program.results,
            work=work,
            align=self.align,
            constants=sum(self.constants[b].nbytes for b in stored),
            ctype=self.element(),
            libm=["sqrt"] if any(n == "sqrt" for n, _ in helpers) else [],
        )

    def element(self) -> str:
        """The one type of arguments and results, or void."""
        kinds = {memory_type(b.dtype) for b in (*self.inputs, *self.program.results)}
        return kinds.pop() if len(kinds) == 1 else "void"

    def array(self, buffer: Buffer, values: np.ndarray) -> str:
        """A constant array. NaN and infinity are spelled as bits, which share a union with the numbers."""
        name, kind = self.pointers[buffer], memory_type(buffer.dtype)
        flat = values.reshape(-1)
        size = max(flat.size, 1)
        if _by_bits(values):
            name = name.removesuffix(".x")
            bits = 8 * buffer.dtype.itemsize
            words = [bit_pattern(x, buffer.dtype) for x in flat]
            union = (
                f"static const union {{\n    uint{bits}_t bits[{size}];\n    {kind} x[{size}];\n}}"
            )
            return f"{union} {name} = {{{{\n{_lines(words)}\n}}}};\n"
        words = [bare(literal(x, buffer.dtype)) for x in flat.tolist()] or ["0"]
        return f"static const {kind} {name}[{size}] = {{\n{_lines(words)}\n}};\n"

    # -- pointers ---------------------------------------------------------------------------------

    def face(self, loaded: set) -> tuple[list[str], list[str], int]:
        """(the inner function's head, the declarations that it begins with, bytes of scratch memory)."""
        program = self.program
        given = [self.parameter(b) for b in (*self.inputs, *program.outputs)]
        given += [f"char *restrict {s}" for s in self.slots]
        how = "FG_APART" if self.reread(loaded) else "static"
        head = [f"{how} int {self.name}_run({', '.join(given) or 'void'})", "{"]
        places = [
            f"    {self.memory(b, slot)} *const {self.pointers[b]} = (void *){self.slots[slot]};"
            for b, slot in program.place.items()
            if b in self.used
        ]
        idle = [self.pointers[b] for b in (*self.inputs, *program.outputs) if b not in self.used]
        busy = {slot for b, slot in program.place.items() if b in self.used}
        idle += [s for k, s in enumerate(self.slots) if k not in busy]
        places += [f"    (void){x};" for x in idle]
        work = sum(program.slots)
        for b in program.outputs:
            if b in loaded:
                work += self.padded(b)
        return head, places, work

    def reread(self, loaded: set) -> bool:
        """Whether the program reads what it has written to memory."""
        program = self.program
        return bool(program.slots or self.updated or not loaded.isdisjoint(program.outputs))

    def parameter(self, b: Buffer) -> str:
        const = "const " * (b.role == "in" and b not in self.updated)
        return f"{const}{memory_type(b.dtype)} *restrict {self.pointers[b]}"

    def memory(self, buffer: Buffer, slot: int) -> str:
        """The type of a buffer's elements; one that may alias, if its slot holds other types as well."""
        kinds = {b.dtype for b, s in self.program.place.items() if s == slot}
        kind = memory_type(buffer.dtype)
        return kind if len(kinds) == 1 else f"FG_ALIAS {kind}"

    def padded(self, b: Buffer) -> int:
        return -(-max(b.size, 1) * b.dtype.itemsize // self.align) * self.align

    def entry(self, loaded: set) -> list[str]:
        """The extern function, which unpacks pointers."""
        program, t = self.program, self.element()
        lines = [f"int {self.name}(const {t} *const *in, {t} *const *out, void *work)", "{"]
        given = []
        place = sum(program.slots)
        for j, b in enumerate(self.inputs):
            kind = memory_type(b.dtype)
            if b in self.updated:
                lines += self.update(b, j, program.results.index(b))
                given.append(self.pointers[b])
            else:
                given.append(f"(const {kind} *)in[{j}]" if t == "void" else f"in[{j}]")
        for b in program.outputs:
            k, kind = program.results.index(b), memory_type(b.dtype)
            pointer = f"({kind} *)out[{k}]" if t == "void" else f"out[{k}]"
            if b in loaded:  # what others are computed from has a place, even if nobody wants it
                pointer = f"out[{k}] ? {pointer} : ({kind} *)(void *)((char *)work + {place})"
                place += self.padded(b)
            given.append(pointer)
        start = 0
        for size in program.slots:
            given.append(f"(char *)work + {start}")
            start += size
        lines += [f"    (void){x};" for x in ("in", "out", "work")]
        lines += [f"    return {self.name}_run({', '.join(given)});", "}", ""]
        return lines

    def update(self, b: Buffer, j: int, k: int) -> list[str]:
        kind, x = memory_type(b.dtype), self.pointers[b]
        i = self.words.new("i")
        return [
            f"    {kind} *{x} = ({kind} *)in[{j}];",
            f"    if (out[{k}] && (const void *)out[{k}] != (const void *)in[{j}]) {{",
            f"        {kind} *const to = ({kind} *)out[{k}];",
            f"        for (ptrdiff_t {i} = 0; {i} < {b.size}; ++{i})",
            f"            to[{i}] = {x}[{i}];",
            f"        {x} = to;",
            "    }",
        ]


def _written(body) -> set[Buffer]:
    found: set[Buffer] = set()
    for s in body:
        if isinstance(s, (ir.Store, ir.AccumStore)):
            found.add(s.buffer)
        elif isinstance(s, (ir.Tile, ir.Gemm)):
            found.add(s.c[0])
        for inner in ir.bodies(s):
            found |= _written(inner)
    return found


def _by_bits(values: np.ndarray) -> bool:
    """Whether some of these numbers have no literal."""
    return values.dtype.kind == "f" and not np.isfinite(values).all()


def _lines(words: list[str]) -> str:
    """Words in lines of at most eight."""
    rows = [words[k : k + 8] for k in range(0, len(words), 8)]
    return ",\n".join("    " + ", ".join(row) for row in rows)
