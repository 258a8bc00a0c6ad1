"""What an exported function takes and gives, by name, shape and type: all that its files say about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from ..graph.dtypes import DType
from . import names

__all__ = ["Layout", "Slot", "layout_of"]

_C = {
    "float64": "double",
    "float32": "float",
    "bool": "uint8_t",
    "uint8": "uint8_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
}


@dataclass(frozen=True)
class Slot:
    """One argument or result.

    Attributes
    ----------
    name : str
        As the user writes it: ``params['w']``.
    word : str
        The part of a macro's name.
    number : bool
        Whether Python gives, or gets, a number rather than an array.
    updates : int or None
        Of a result: the argument that it is written over.
    """

    name: str
    word: str
    shape: tuple
    dtype: DType
    number: bool = False
    updates: int | None = None

    @property
    def ctype(self) -> str:
        return _C[self.dtype.name]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.ctype} {names.line(self.name)}{list(self.shape) if self.shape else ''}"


@dataclass(frozen=True)
class Layout:
    """The face of one exported function.

    Attributes
    ----------
    name, macro : str
        Its identifier in C and Python, and the prefix of its macros.
    label : str
        What the user called the function.
    ctype : str
        The one element type, or ``"void"``.
    work, align, constants : int
        Bytes.
    errors : list of (str, str)
        What status k > 0 means: a word and a sentence.
    """

    name: str
    label: str
    arguments: list[Slot]
    results: list[Slot]
    ctype: str
    work: int
    align: int
    constants: int
    errors: list[tuple[str, str]] = field(default_factory=list)
    digest: str = ""
    reproducible: bool = False

    @property
    def macro(self) -> str:
        return self.name.upper()

    @property
    def state(self) -> int:
        """Bytes of the arguments that are updated in place."""
        return sum(self.arguments[k].bytes for k in self.updated)

    @property
    def updated(self) -> dict[int, int]:
        """{argument: result}"""
        return {r.updates: k for k, r in enumerate(self.results) if r.updates is not None}

    @property
    def input_bytes(self) -> int:
        """Bytes of the arguments that are only read."""
        return sum(a.bytes for k, a in enumerate(self.arguments) if k not in self.updated)

    @property
    def output_bytes(self) -> int:
        """Bytes of the results that are not written over an argument."""
        return sum(r.bytes for r in self.results if r.updates is None)

    @property
    def ram(self) -> int:
        """Bytes of all memory that a call touches, its stack aside."""
        return self.input_bytes + self.state + self.output_bytes + self.work

    @property
    def prototype(self) -> str:
        t = self.ctype
        return f"int {self.name}(const {t} *const *in, {t} *const *out, void *work)"


def layout_of(form, printed, checks, name: str, digest: str, reproducible: bool) -> Layout:
    """The face of a printed program (`printed`) of a traced function (`form`)."""
    taken: set[str] = set()
    arguments = [
        Slot(n, names.macro(n, taken), k.shape, k.dtype, k.number)
        for n, k in zip(form.names, form.kinds, strict=True)
    ]
    taken = set()
    results = []
    places = {b: k for k, b in enumerate(printed.inputs)}
    for path, node, buffer in zip(form.paths, form.graph.outputs, printed.results, strict=True):
        updates = places[buffer] if buffer.role == "in" else None
        word = names.macro(path, taken)
        results.append(Slot(path, word, node.shape, node.dtype, not node.shape, updates))
    errors = []
    for make in checks:
        error = make()
        word = type(error).__name__.removesuffix("Error").upper() or "RUN"
        errors.append((word, str(error)))
    return Layout(
        name=name,
        label=form.label,
        arguments=arguments,
        results=results,
        ctype=printed.ctype,
        work=printed.work,
        align=printed.align,
        constants=printed.constants,
        errors=errors,
        digest=digest,
        reproducible=reproducible,
    )
