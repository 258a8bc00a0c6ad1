"""C99 words: exact literals and safe identifiers. Needs <stdint.h> alone; no libm, no locale."""

from __future__ import annotations

import math
import re

import numpy as np

from ..graph import dtypes
from ..graph.dtypes import DType

KEYWORDS = frozenset(
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
    ]
)
LONGEST = 31  # what C99 promises to tell apart in external names


def identifier(name: str, taken: set[str]) -> str:
    """A C identifier that resembles `name` and is not in `taken`, to which it is added.

    Only ASCII letters, digits and underscores survive, so no name can inject code.
    """
    word = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:LONGEST]
    if not word or word[0].isdigit() or word in KEYWORDS:
        word = f"x_{word}"[:LONGEST]
    found, count = word, 1
    while found in taken:
        count += 1
        end = f"_{count}"
        found = word[: LONGEST - len(end)] + end
    taken.add(found)
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
    if not math.isfinite(number):
        raise ValueError(
            f"literal: {number} has no C99 literal; print bit_pattern() through a union"
        )
    text = number.hex() + ("f" if dtype.itemsize == 4 else "")
    return f"({text})" if text[0] == "-" else text


def bit_pattern(number: float, dtype: DType) -> str:
    """The bits of a floating-point number as an unsigned constant of the same size."""
    width = 8 * dtype.itemsize
    pattern = int(np.array(number, dtype.np).view(f"u{dtype.itemsize}"))
    return f"UINT{width}_C(0x{pattern:0{width // 4}x})"


def _integer(number: int, dtype: DType) -> str:
    width = 8 * dtype.itemsize
    if dtype.np.kind == "u":
        return f"UINT{width}_C({number})"
    if number == -(
        2 ** (width - 1)
    ):  # C has no negative literals: the smallest number's opposite overflows
        return f"(-INT{width}_C({-(number + 1)}) - 1)"
    return f"(-INT{width}_C({-number}))" if number < 0 else f"INT{width}_C({number})"
