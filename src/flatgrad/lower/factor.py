"""Linear algebra as loops: small systems, determinants, inverses and Cholesky factors in machine code.

Larger ones run in LAPACK between two compiled parts. Here a matrix is copied to where the result belongs and
worked on in place, one of a batch after the other; what cannot be done raises a flag that becomes the error
at the program's end.
Sources: Golub and Van Loan, "Matrix Computations", 4th edition, algorithms 3.1.1, 3.4.1 and 4.2.2.
"""

from __future__ import annotations

from math import prod

from ..errors import LinAlgError
from ..graph import dtypes
from ..graph.node import Node
from . import ir
from .ir import Axis, Buffer, Expr
from .nest import Nest, fresh
from .pull import axes_of, flat_index, index_of

__all__ = ["FACTORS", "is_small"]

# Matrices of more rows are LAPACK's, whose blocked algorithms are ahead from there on.
SMALL = 96


def is_small(node: Node) -> bool:
    """Whether a library node has loops here."""
    return node.op.name in FACTORS and node.inputs[0].shape[-1] <= SMALL


class Variable:
    """A number that changes."""

    def __init__(self, dtype):
        self.name = fresh("acc")
        self.value = ir.var(self.name, dtype)

    def set(self, value) -> ir.Set:
        return ir.Set(
            self.name, value if isinstance(value, Expr) else ir.const(value, self.value.dtype)
        )

    def add(self, value: Expr) -> ir.Accum:
        return ir.Accum(self.name, "add", value)


class Matrix:
    """A matrix of a batch, in a buffer from `offset` on; it is read and written as ``m[i, j]``."""

    def __init__(self, buffer: Buffer, rows: int, columns: int, batch: Expr):
        self.buffer, self.columns = buffer, columns
        self.offset = batch * (rows * columns)

    def at(self, i, j) -> Expr:
        return self.offset + _index(i) * self.columns + _index(j)

    def __getitem__(self, place) -> Expr:
        return ir.load(self.buffer, self.at(*place))

    def store(self, i, j, value) -> ir.Store:
        return ir.Store(self.buffer, self.at(i, j), value)

    def subtract(self, i, j, value: Expr) -> ir.AccumStore:
        return ir.AccumStore(self.buffer, self.at(i, j), "add", -value)


def _index(i) -> Expr:
    return i if isinstance(i, Expr) else ir.index(i)


def loop(count, body, stop=None) -> ir.For:
    """``for i in range(count)``, or up to `stop`; ``body(i)`` gives the statements."""
    axis = Axis(count, "k")
    return ir.For(axis, body(ir.var(axis)), stop, serial=True)


def named(value: Expr) -> tuple[ir.Let, Expr]:
    let = ir.Let(fresh("t"), value)
    return let, ir.var(let.name, value.dtype)


def copied(pull, node: Node, buffer: Buffer) -> Nest:
    axes = axes_of(node.shape)
    index = index_of(axes)
    at = flat_index(index, node.shape)
    store = ir.Store(buffer, at, pull.element(node, index))
    return Nest(buffer, axes, len(axes), [store], store_at=at)


def batched(shape: tuple, body) -> list:
    """Statements for each matrix of a batch; ``body(b)`` gives those of matrix `b`."""
    count = prod(shape[:-2])
    return [loop(count, body)] if count != 1 else body(ir.index(0))


def worked(buffer: Buffer, statements: list, also=()) -> Nest:
    """A nest of statements that change `buffer` in place."""
    return Nest(buffer, [], 0, statements, also=tuple(also), updates=True)


# -- elimination ----------------------------------------------------------------------------------


def eliminated(w: Matrix, n: int, dtype, carry=None, columns: int = 0, found=None) -> list:
    """P L U of `w` in place, with partial pivoting; the rows of `carry` follow.

    ``found(pivot, moved)`` gives statements for every pivot and whether a row had to be moved.
    """

    def step(k: Expr) -> list:
        best, row = Variable(dtype), Variable(dtypes.int64)

        def look(i: Expr) -> list:
            size = ir.unary("abs", w[k + i, k])
            return [ir.If(size > best.value, [best.set(size), row.set(k + i)], [])]

        pick = [best.set(-1.0), row.set(k), loop(n, look, n - k)]
        let_row, moved = named(row.value)

        def exchange(m: Matrix):
            def of(j: Expr) -> list:
                (one, a), (two, b) = named(m[k, j]), named(m[moved, j])
                return [one, two, m.store(k, j, b), m.store(moved, j, a)]

            return of

        swap = [loop(n, exchange(w))] + ([loop(columns, exchange(carry))] if carry else [])
        let_pivot, pivot = named(w[k, k])

        def below(i: Expr) -> list:
            r = k + 1 + i
            zero = ir.const(0, dtype)
            let, factor = named(ir.where(pivot.eq(0), zero, w[r, k] / pivot))
            rest = loop(
                n, lambda j: [w.subtract(r, k + 1 + j, factor * w[k, k + 1 + j])], n - 1 - k
            )
            out = [let, w.store(r, k, factor), rest]
            if carry:
                out.append(loop(columns, lambda j: [carry.subtract(r, j, factor * carry[k, j])]))
            return out

        found_here = found(pivot, moved.ne(k)) if found else []
        return [
            *pick,
            let_row,
            ir.If(moved.ne(k), swap, []),
            let_pivot,
            *found_here,
            loop(n, below, n - 1 - k),
        ]

    return [loop(n, step)]


def substituted(a: Matrix, x: Matrix, n: int, columns: int, upper: bool, unit: bool, dtype) -> list:
    """``x = a^-1 x`` for triangular `a`."""

    def row(step: Expr) -> list:
        k = n - 1 - step if upper else step

        def column(j: Expr) -> list:
            total = Variable(dtype)

            def inner(p: Expr) -> list:
                q = k + 1 + p if upper else p
                return [total.add(a[k, q] * x[q, j])]

            rest = x[k, j] - total.value
            return [
                total.set(0.0),
                loop(n, inner, step),
                x.store(k, j, rest if unit else rest / a[k, k]),
            ]

        return [loop(columns, column)]

    return [loop(n, row)]


def _singular(lowering, name: str):
    """Statements that raise a flag for a pivot of zero."""
    flag = lowering.checks.flag(
        lambda: LinAlgError(
            f"{name}: the matrix is singular: a pivot is zero; use linalg.pinv or linalg.lstsq"
        )
    )
    return lambda pivot, moved: [ir.Accum(flag, "or", pivot.eq(0))]


def solve(lowering, pull, node: Node, results: dict) -> list[Nest]:
    """X of A X = B."""
    b = node.inputs[1]
    columns = b.shape[-1]
    return _solved(
        lowering, pull, node, copied(pull, b, results[None]), results[None], columns, node.attrs[0]
    )


def inverse(lowering, pull, node: Node, results: dict) -> list[Nest]:
    buffer = results[None]
    axes = axes_of(node.shape)
    index = index_of(axes)
    at = flat_index(index, node.shape)
    one = ir.where(index[-1].eq(index[-2]), ir.const(1, node.dtype), 0)
    identity = Nest(buffer, axes, len(axes), [ir.Store(buffer, at, one)], store_at=at)
    return _solved(lowering, pull, node, identity, buffer, node.shape[-1], node.attrs[0])


def _solved(lowering, pull, node: Node, start: Nest, buffer: Buffer, columns: int, check) -> list:
    a, dtype = node.inputs[0], node.dtype
    n = a.shape[-1]
    work = lowering.buffer(dtype, a.shape)
    found = _singular(lowering, f"linalg.{node.op.name}") if check else None

    def matrix(b: Expr) -> list:
        w, x = Matrix(work, n, n, b), Matrix(buffer, n, columns, b)
        whole = Variable(dtype)

        def spoiled(pivot, moved):  # NaN everywhere rather than somewhere
            return [whole.set(ir.where(pivot.eq(0), ir.const(float("nan"), dtype), whole.value))]

        out = eliminated(w, n, dtype, x, columns, found or spoiled)
        out += substituted(w, x, n, columns, True, False, dtype)
        if found is None:
            every = loop(
                n, lambda i: [loop(columns, lambda j: [x.store(i, j, x[i, j] + whole.value)])]
            )
            out = [whole.set(0.0), *out, every]
        return out

    return [copied(pull, a, work), start, worked(buffer, batched(a.shape, matrix), (work,))]


def triangular(lowering, pull, node: Node, results: dict) -> list[Nest]:
    a, b = node.inputs
    is_upper, unit = node.attrs
    n, columns = b.shape[-2:]
    work = lowering.buffer(node.dtype, a.shape)

    def matrix(k: Expr) -> list:
        left, x = Matrix(work, n, n, k), Matrix(results[None], n, columns, k)
        return substituted(left, x, n, columns, is_upper, unit, node.dtype)

    starts = [copied(pull, a, work), copied(pull, b, results[None])]
    return [*starts, worked(results[None], batched(a.shape, matrix))]


# -- determinants ---------------------------------------------------------------------------------


def determinant(lowering, pull, node: Node, results: dict) -> list[Nest]:
    def product(total, pivot, moved):
        return [total.set(ir.where(moved, -total.value, total.value) * pivot)]

    return _of_pivots(lowering, pull, node, [(results.get(None), 1.0, product)])


def signed_logarithm(lowering, pull, node: Node, results: dict) -> list[Nest]:
    def sign(total, pivot, moved):
        one, zero = ir.const(1, pivot.dtype), ir.const(0, pivot.dtype)
        positive = ir.where(pivot > 0, one, ir.where(pivot < 0, -one, zero))
        side = ir.where(pivot.ne(pivot), pivot, positive)
        return [total.set(ir.where(moved, -total.value, total.value) * side)]

    def logarithm(total, pivot, moved):
        return [total.set(total.value + ir.call("log", ir.unary("abs", pivot)))]

    parts = [(results.get(0), 1.0, sign), (results.get(1), 0.0, logarithm)]
    return _of_pivots(lowering, pull, node, [p for p in parts if p[0] is not None])


def _of_pivots(lowering, pull, node: Node, parts: list) -> list[Nest]:
    """Buffers of one number a matrix, each accumulated over the pivots from a first value."""
    a = node.inputs[0]
    n, dtype = a.shape[-1], a.dtype
    work = lowering.buffer(dtype, a.shape)

    def matrix(b: Expr) -> list:
        totals = [Variable(dtype) for _ in parts]
        out = [t.set(first) for t, (_, first, _) in zip(totals, parts, strict=True)]

        def found(pivot, moved):
            return [
                s
                for t, (_, _, more) in zip(totals, parts, strict=True)
                for s in more(t, pivot, moved)
            ]

        out += eliminated(Matrix(work, n, n, b), n, dtype, found=found)
        return out + [
            ir.Store(buffer, b, t.value) for t, (buffer, _, _) in zip(totals, parts, strict=True)
        ]

    buffers = [buffer for buffer, _, _ in parts]
    nest = Nest(buffers[0], [], 0, batched(a.shape, matrix), also=(*buffers[1:], work))
    return [copied(pull, a, work), nest]


# -- Cholesky -------------------------------------------------------------------------------------


def cholesky(lowering, pull, node: Node, results: dict) -> list[Nest]:
    """L of A = L L'; the rows of U = L' are updated in order, which walks memory, and then transposed."""
    (a,), buffer, dtype = node.inputs, results[None], node.dtype
    n = a.shape[-1]
    flag = None
    if node.attrs[0]:
        flag = lowering.checks.flag(
            lambda: LinAlgError(
                "linalg.cholesky: the matrix is not positive-definite; add a small multiple of the "
                "identity, or use linalg.eigh"
            )
        )
    work = lowering.buffer(dtype, a.shape)

    def matrix(b: Expr) -> list:
        u, out = Matrix(work, n, n, b), Matrix(buffer, n, n, b)
        whole = Variable(dtype)  # 0, or NaN if there is no factor

        def step(k: Expr) -> list:
            let_pivot, pivot = named(u[k, k])
            let_root, root = named(ir.unary("sqrt", pivot))
            if flag is not None:
                check = ir.Accum(flag, "or", ~(pivot > 0))
            else:
                nan = ir.const(float("nan"), dtype)
                check = whole.set(ir.where(pivot > 0, whole.value, nan))

            def below(i: Expr) -> list:
                r = k + 1 + i
                let, factor = named(u[k, r])
                return [let, loop(n, lambda j: [u.subtract(r, r + j, factor * u[k, r + j])], n - r)]

            scale = loop(n, lambda j: [u.store(k, k + j, u[k, k + j] / root)], n - k)
            return [let_pivot, let_root, check, scale, loop(n, below, n - 1 - k)]

        def transposed(i: Expr) -> list:
            zero = ir.const(0, dtype)
            return [
                loop(n, lambda j: [out.store(i, j, ir.where(j <= i, u[j, i], zero) + whole.value)])
            ]

        return [whole.set(0.0), loop(n, step), loop(n, transposed)]

    axes = axes_of(a.shape)
    *batch, i, j = index_of(axes)
    at = flat_index([*batch, i, j], a.shape)
    turned = Nest(
        work, axes, len(axes), [ir.Store(work, at, pull.element(a, [*batch, j, i]))], store_at=at
    )
    return [turned, worked(buffer, batched(a.shape, matrix), (work,))]


# By the name of the operation: (lowering, pull, node, {None or output: buffer}) -> nests.
FACTORS = {
    "solve": solve,
    "inv": inverse,
    "solve_triangular": triangular,
    "det": determinant,
    "slogdet": signed_logarithm,
    "cholesky": cholesky,
}
