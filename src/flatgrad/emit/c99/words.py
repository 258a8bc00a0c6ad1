"""C99's words: names of types, exact literals, safe identifiers."""

from __future__ import annotations

import math
import re

import numpy as np

from ...graph import dtypes
from ...graph.dtypes import DType

__all__ = ["Names", "bit_pattern", "ctype", "literal", "memory_type", "short"]

KEYWORDS = frozenset(  # and names that mean something to some compilers
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
        "main",
        "in",
        "out",
        "work",
        "asm",
        "typeof",
        "linux",
        "unix",
    ]
)
LONGEST = 31  # what C99 promises to tell apart in external names

_MEMORY = {
    "float64": "double",
    "float32": "float",
    "bool": "uint8_t",
    "uint8": "uint8_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
}


def memory_type(dtype: DType) -> str:
    """The type of an array's elements."""
    return _MEMORY[dtype.name]


def ctype(dtype: DType) -> str:
    """The type of a variable; truth values are int, as C's comparisons are."""
    return "int" if dtype.category == dtypes.BOOL else _MEMORY[dtype.name]


def short(dtype: DType) -> str:
    """``f64``, ``i32``, ``u8``: for the names of helpers."""
    kind = {"b": "b", "u": "u", "i": "i", "f": "f"}[dtype.np.kind]
    return f"{kind}{8 * dtype.itemsize}"


class Names:
    """C identifiers of one scope; every one is given once."""

    def __init__(self, taken=()):
        self.taken = set(taken)

    def new(self, name: str) -> str:
        """An identifier that resembles `name`.

        Only ASCII letters, digits and underscores survive, so no name can inject code.
        """
        word = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:LONGEST]
        if not word or word[0].isdigit() or word in KEYWORDS or word.startswith("fg_"):
            word = f"x_{word}"[:LONGEST]
        found, count = word, 1
        while found in self.taken:
            count += 1
            end = f"_{count}"
            found = word[: LONGEST - len(end)] + end
        self.taken.add(found)
        return found


def literal(number, dtype: DType) -> str:
    """A constant expression of exactly this finite number, sign of zero included.

    NaN and infinities have no portable literal: print their ``bit_pattern`` through a union.
    """
    if dtype.category == dtypes.BOOL:
        return "1" if number else "0"
    if dtype.category == dtypes.INTEGER:
        return _integer(int(number), dtype)
    number = float(number)
    assert math.isfinite(number), f"{number} has no literal"
    if number == int(number) and abs(number) < 1e6:
        text = repr(number)
    else:
        mantissa, exponent = number.hex().split("p")
        text = f"{mantissa.rstrip('0')}p{exponent}".replace(".p", "p")
    text += "f" * (dtype.itemsize == 4)
    return f"({text})" if text[0] == "-" else text


def bit_pattern(number: float, dtype: DType) -> str:
    """The bits of a floating-point number as an unsigned constant of the same size."""
    width = 8 * dtype.itemsize
    pattern = int(np.array(number, dtype.np).view(f"u{dtype.itemsize}"))
    return f"UINT{width}_C(0x{pattern:0{width // 4}x})"


def _integer(number: int, dtype: DType) -> str:
    if -(2**31) < number < 2**31:  # an int, whatever it meets
        return f"({number})" if number < 0 else str(number)
    width = 8 * dtype.itemsize
    if number == -(2 ** (width - 1)):  # C has no negative literals: the opposite overflows
        return f"(-INT{width}_C({-(number + 1)}) - 1)"
    return f"(-INT{width}_C({-number}))" if number < 0 else f"INT{width}_C({number})"
