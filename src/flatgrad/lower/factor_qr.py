"""QR as loops: Householder's reflections, with the signs that LAPACK gives.

Sources: Golub and Van Loan, "Matrix Computations", 4th edition, algorithms 5.1.1 and 5.2.1; the sign of a
reflection is that of LAPACK's `larfg`: a column that is zero below its diagonal is not reflected.
"""

from __future__ import annotations

from ..graph.node import Node
from . import ir
from .factor import SMALL, Matrix, Variable, batched, copied, loop, named, worked
from .ir import Buffer, Expr
from .nest import Nest

__all__ = ["QR", "is_small_qr"]


def is_small_qr(node: Node) -> bool:
    """Whether a library node is a QR that has loops here."""
    return node.op.name in QR and max(node.inputs[0].shape[-2:]) <= SMALL


def factored(lowering, pull, node: Node, results: dict) -> list[Nest]:
    """Q and R, as far as they are picked."""
    (a,) = node.inputs
    m, n = a.shape[-2:]
    columns = node.shape[0][-1]  # of Q, and rows of R
    count, dtype = min(m, n), a.dtype
    work = lowering.buffer(dtype, a.shape)
    taus, diagonal = (lowering.buffer(dtype, (max(count, 1),)) for _ in range(2))
    sums = lowering.buffer(dtype, (max(n, columns, 1),))

    def matrix(b: Expr) -> list:
        w = Matrix(work, m, n, b)

        def step(k: Expr) -> list:
            made, tau = reflection(w, k, m, taus, diagonal, dtype)
            return [*made, *reflected(w, k, tau, w, k + 1, m, n, sums)]

        out = [loop(count, step)]
        if 0 in results:
            out += orthogonal(w, Matrix(results[0], m, columns, b), m, columns, count, taus, sums)
        if 1 in results:
            r = Matrix(results[1], columns, n, b)
            out.append(loop(columns, lambda i: [loop(n, lambda j: [upper(r, i, j, w)])]))
        return out

    def upper(r: Matrix, i: Expr, j: Expr, w: Matrix) -> ir.Store:
        on = ir.load(diagonal, ir.binary("min", i, ir.index(max(count - 1, 0))))
        above = ir.where(j > i, w[i, j], ir.const(0, dtype))
        return r.store(i, j, ir.where(j.eq(i), on, above))

    first, *rest = results.values()
    scratch = (work, taus, diagonal, sums)
    return [copied(pull, a, work), worked(first, batched(a.shape, matrix), (*rest, *scratch))]


def reflection(w: Matrix, k: Expr, m: int, taus: Buffer, diagonal: Buffer, dtype) -> tuple:
    """1 - tau v v' that clears column `k`; v replaces it, from its 1 on the diagonal on.

    Norms are scaled by the largest element, so squares neither overflow nor vanish.
    """
    one, zero = ir.const(1, dtype), ir.const(0, dtype)
    largest, total = Variable(dtype), Variable(dtype)

    def look(i: Expr) -> list:
        let, size = named(ir.unary("abs", w[k + 1 + i, k]))
        return [let, ir.If(size > largest.value, [largest.set(size)], [])]

    below = m - 1 - k
    let_scale, scale = named(ir.where(largest.value > 0, largest.value, one))

    def square(i: Expr) -> list:
        let, part = named(w[k + 1 + i, k] / scale)
        return [let, total.add(part * part)]

    let_alpha, alpha = named(w[k, k])
    let_clean, clean = named(total.value.eq(0))  # not where there is NaN
    let_norm, norm = named(scale * ir.unary("sqrt", total.value))
    size = ir.unary("abs", alpha)
    let_high, high = named(ir.where(size > norm, size, norm))
    let_low, low = named(ir.where(size > norm, norm, size))
    let_ratio, ratio = named(low / ir.where(clean, one, high))
    let_length, length = named(high * ir.unary("sqrt", one + ratio * ratio))
    let_beta, beta = named(ir.where(clean, alpha, ir.where(alpha < 0, length, -length)))
    let_tau, tau = named(ir.where(clean, zero, (beta - alpha) / ir.where(clean, one, beta)))
    let_divisor, divisor = named(ir.where(clean, one, alpha - beta))
    statements = [
        *(largest.set(0.0), total.set(0.0), loop(m, look, below)),
        *(let_scale, loop(m, square, below), let_alpha, let_clean, let_norm, let_high, let_low),
        *(let_ratio, let_length, let_beta, let_tau, let_divisor),
        loop(m, lambda i: [w.store(k + 1 + i, k, w[k + 1 + i, k] / divisor)], below),
        w.store(k, k, one),
        ir.Store(taus, k, tau),
        ir.Store(diagonal, k, beta),
    ]
    return statements, tau


def reflected(
    w: Matrix, k: Expr, tau: Expr, x: Matrix, first: Expr, m: int, n: int, sums: Buffer
) -> list:
    """Columns of `x` from `first` to `n`, reflected by column `k` of `w`, row by row."""
    rows, width = m - k, n - first

    def gather(i: Expr) -> list:
        let, v = named(w[k + i, k])
        return [
            let,
            loop(n, lambda j: [ir.AccumStore(sums, j, "add", v * x[k + i, first + j])], width),
        ]

    def spread(i: Expr) -> list:
        let, v = named(tau * w[k + i, k])
        return [let, loop(n, lambda j: [x.subtract(k + i, first + j, v * ir.load(sums, j))], width)]

    clear = loop(n, lambda j: [ir.Store(sums, j, ir.const(0, sums.dtype))], width)
    return [clear, loop(m, gather, rows), loop(m, spread, rows)]


def orthogonal(
    w: Matrix, q: Matrix, m: int, columns: int, count: int, taus: Buffer, sums: Buffer
) -> list:
    """Q: the reflections, last one first, of the identity's columns."""
    one = ir.const(1, sums.dtype)

    def step(t: Expr) -> list:
        k = count - 1 - t
        let, tau = named(ir.load(taus, k))
        return [let, *reflected(w, k, tau, q, k, m, columns, sums)]

    identity = loop(
        m, lambda i: [loop(columns, lambda j: [q.store(i, j, ir.where(i.eq(j), one, 0))])]
    )
    return [identity, loop(count, step)]


QR = {"qr": factored, "qr_complete": factored}
