"""A matrix product of the loop IR in the terms of BLAS: transposes and leading dimensions."""

from __future__ import annotations

from dataclasses import dataclass

from ..lower import ir

__all__ = ["Oriented", "oriented"]


@dataclass(frozen=True, slots=True)
class Oriented:
    """Row-major ``c[m, n] = op(a)[m, k] @ op(b)[k, n]``.

    a, b, c : (buffer, index of the first element).
    """

    m: int
    n: int
    k: int
    a: tuple
    b: tuple
    c: tuple
    transposed_a: bool
    transposed_b: bool
    lead_a: int
    lead_b: int
    lead_c: int


def oriented(s: ir.Gemm) -> Oriented:
    a, b, c, m, n = s.a, s.b, s.c, s.m, s.n
    if c[3] != 1 and not (n == 1 and c[2] == 1):
        # The output runs down its columns: compute the transpose of everything.
        a, b, m, n = _transposed(b), _transposed(a), n, m
        c = _transposed(c)
    flip_a, lead_a = _layout(a, m, s.k)
    flip_b, lead_b = _layout(b, s.k, n)
    lead_c = max(c[2], n, 1)
    return Oriented(m, n, s.k, a[:2], b[:2], c[:2], flip_a, flip_b, lead_a, lead_b, lead_c)


def _transposed(operand):
    buffer, offset, rs, cs = operand
    return buffer, offset, cs, rs


def _layout(operand, rows: int, cols: int) -> tuple[bool, int]:
    """(whether it lies transposed, leading dimension) of an operand; not if its rows are contiguous."""
    _, _, rs, cs = operand
    if (cs == 1 or cols == 1) and (rs >= cols or rows == 1):
        return False, max(rs if rows > 1 else cols, cols, 1)
    return True, max(cs if cols > 1 else rows, rows, 1)
