"""Contractions: loops when small or thin, BLAS when large; operands are read through their strides."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from ..graph.node import Node
from . import ir
from .index import axes_in, linear
from .ir import Axis, Buffer, Expr
from .machine import present
from .nest import Nest, fresh, substitute
from .pull import Pull, flat_index, index_of
from .tile import Dim, Problem, tiled_nest

# Multiply-adds from which register tiles beat loops that LLVM arranges.
TILE_WORK = 256


def contraction(pull: Pull, node: Node, buffer: Buffer, accumulate: bool = False) -> list[Nest]:
    """``buffer = a . b``, or ``buffer += a . b``."""
    a, b = node.inputs
    spec_a, spec_b, spec_out = node.attrs
    sizes = dict(zip(spec_a, a.shape, strict=True)) | dict(zip(spec_b, b.shape, strict=True))
    axes = {label: Axis(size, f"c{label}") for label, size in sizes.items()}
    at = dict(zip(axes, index_of(list(axes.values())), strict=True))
    x = pull.element(a, [at[k] for k in spec_a])
    y = pull.element(b, [at[k] for k in spec_b])
    out = flat_index([at[k] for k in spec_out], node.shape)
    batch = [k for k in spec_out if k in spec_a and k in spec_b]
    rows = [k for k in spec_out if k not in spec_b]
    cols = [k for k in spec_out if k not in spec_a]
    inner = [k for k in spec_a if k not in spec_out]
    if x.kind == "load" and y.kind == "load" and node.dtype.is_floating_point:
        work = prod(sizes[k] for k in rows + cols + inner)
        sa, sb, so = (_strides(e, axes) for e in (x, y, ir.load(buffer, out)))
        if work >= TILE_WORK and sa is not None and sb is not None:
            thin = (
                min(prod(sizes[k] for k in group) for group in (rows, cols)) if rows and cols else 1
            )
            if work >= present().blas_work and thin >= 4:
                groups = (batch, rows, cols, inner)
                nest = _gemm(node, buffer, axes, x, y, out, groups, accumulate)
                if nest is not None:
                    return [nest]
            strides = (sa, sb, so)
            return [_tiled(node, buffer, axes, (x, y, out), strides, (spec_out, inner), accumulate)]
    return [_loops(node, buffer, axes, x, y, out, spec_out, inner, accumulate)]


def _tiled(node, buffer, axes, elements, strides, labels, accumulate) -> Nest:
    """Register tiles, inside loops over the output's axes that they leave."""
    x, y, out = elements
    zero = {ir.var(axis): ir.index(0) for axis in axes.values()}
    batch = [k for k in labels[0] if strides[0][k] and strides[1][k]]

    def dims(group):
        return tuple(
            Dim(axes[k].extent, *(s[k] for s in strides), axis=axes[k] if k in batch else None)
            for k in group
        )

    problem = Problem(
        node.dtype,
        dims(labels[0]),
        dims(labels[1]),
        (x.arg, substitute(x.args[0], zero)),
        (y.arg, substitute(y.args[0], zero)),
        (buffer, substitute(out, zero)),
        accumulate,
    )
    return tiled_nest(problem)


def _strides(e: Expr, axes) -> dict | None:
    """{label: stride} of a load whose index is affine in the axes, else None."""
    form = linear(e.args[0])
    by_axis = {ir.var(axis): label for label, axis in axes.items()}
    own = set(axes.values())
    strides = dict.fromkeys(axes, 0)
    for atom, k in form[0].items():
        if atom in by_axis:
            strides[by_axis[atom]] = k
        elif not own.isdisjoint(axes_in(atom)):
            return None  # anything else is a loop's around this program part: an offset
    return strides


def _merge(labels, strides_list, sizes):
    """One (size, strides) for a group of labels walked as a single index, or None."""
    labels = [k for k in labels if sizes[k] != 1]
    if not labels:
        return 1, [0] * len(strides_list)
    for s in strides_list:
        for outer, inner in pairwise(labels):
            if s[outer] != s[inner] * sizes[inner]:
                return None
    return prod(sizes[k] for k in labels), [s[labels[-1]] for s in strides_list]


def _gemm(node, buffer, axes, x, y, out, groups, accumulate) -> Nest | None:
    batch, rows, cols, inner = groups
    sa, sb = _strides(x, axes), _strides(y, axes)
    if sa is None or sb is None:
        return None
    sizes = {k: axis.extent for k, axis in axes.items()}
    so = _strides(ir.load(buffer, out), axes)
    m, n, k = (
        _merge(rows, (sa, so), sizes),
        _merge(cols, (sb, so), sizes),
        _merge(inner, (sa, sb), sizes),
    )
    if m is None or n is None or k is None:
        return None
    loops = [axes[label] for label in batch]
    zero = {ir.var(axes[label]): ir.index(0) for label in (*rows, *cols, *inner)}

    def operand(load, row, column):
        return load.arg, substitute(load.args[0], zero), row, column

    call = ir.Gemm(
        node.dtype,
        m[0],
        n[0],
        k[0],
        operand(x, m[1][0], k[1][0]),
        operand(y, k[1][1], n[1][0]),
        (buffer, substitute(out, zero), m[1][1], n[1][1]),
        accumulate,
    )
    if not all(
        unit_stride(*op)
        for op in ((call.a, m[0], k[0]), (call.b, k[0], n[0]), (call.c, m[0], n[0]))
    ):
        return None
    return Nest(buffer, loops, len(loops), [call], store_at=out)


def unit_stride(operand, rows: int, cols: int) -> bool:
    """Whether BLAS can read a matrix: one of its strides is 1 and the other spans a row."""
    _, _, rs, cs = operand
    by_rows = (cs == 1 or cols == 1) and (rs >= cols or rows == 1)
    by_cols = (rs == 1 or rows == 1) and (cs >= rows or cols == 1)
    return by_rows or by_cols


def _loops(node, buffer, axes, x, y, out, spec_out, inner, accumulate) -> Nest:
    """Plain loops: accumulate in memory along a contiguous output row, else in a register."""
    value = x & y if node.dtype.category == 0 else x * y
    op = "or" if node.dtype.category == 0 else "add"
    last = next((k for k in reversed(spec_out) if axes[k].extent != 1), None)
    if last is not None and inner and _walks(x, y, axes[last], [axes[k] for k in inner]):
        from .nest import memory_accumulation

        order = [k for k in spec_out if k != last] + inner + [last]
        nest = memory_accumulation(
            buffer, op, [axes[k] for k in order], len(spec_out) - 1, out, value, node.dtype
        )
        if accumulate:
            nest.before.clear()
        return nest
    name = fresh("acc")
    total = ir.var(name, node.dtype)
    from .nest import identity

    return Nest(
        buffer,
        [axes[k] for k in spec_out] + [axes[k] for k in inner],
        len(spec_out),
        [ir.Accum(name, op, value)],
        before=[ir.Set(name, identity(op, node.dtype))],
        after=[
            ir.AccumStore(buffer, out, op, total) if accumulate else ir.Store(buffer, out, total)
        ],
        store_at=out,
    )


def _walks(x: Expr, y: Expr, last: Axis, inner) -> bool:
    """Whether the loop over the output's last axis reads memory in order, and the summed one does not."""

    def step(e, axis):
        if e.kind != "load":
            return 0
        return abs(linear(e.args[0])[0].get(ir.var(axis), 0))

    along = max(step(x, last), step(y, last))
    across = max((step(e, k) for e in (x, y) for k in inner), default=0)
    return (along == 1 and across != 1) or (along == 1 and last.extent >= 8)
