"""One stored node as a loop nest over its own axes, before nests are merged.

A ``Nest`` runs ``axes`` from the outside in. At depth ``complete`` stand ``before`` (accumulators are set)
and ``after`` (results are stored); ``leaf`` is the innermost body. Within one iteration of the first
``complete`` axes the nest's result for that iteration is whole, so a reader may join those loops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count

from ..graph import dtypes
from ..graph.node import Node
from . import ir
from .index import axes_in, linear
from .ir import Axis, Buffer, Expr
from .pull import Pull, axes_of, element_rule, flat_index, index_of

_names = count()


def restart_names() -> None:
    """Number names from 0 again: a program's text must not depend on what was compiled before."""
    global _names
    _names = count()


def fresh(stem: str) -> str:
    return f"{stem}{next(_names)}"


@dataclass(eq=False)
class Nest:
    buffer: Buffer
    axes: list[Axis]
    complete: int
    leaf: list
    before: list = field(default_factory=list)
    after: list = field(default_factory=list)
    store_at: Expr | None = None  # where an iteration of the complete axes stores (None: anywhere)
    reads: list = field(default_factory=list)  # (buffer, index) of leaf, before and after
    also: tuple = ()  # further buffers that it writes (a loop's or branch's other results)
    updates: bool = False  # it overwrites a buffer that others read: they come before
    part: bool = False  # other nests of the buffer that say so write other elements

    def __post_init__(self):
        self.axes, drop = [a for a in self.axes if a.extent != 1], self.axes
        self.complete -= sum(a.extent == 1 for a in drop[: self.complete])
        for statement in (*self.before, *self.leaf, *self.after):
            self.reads.extend(reads_of(statement))

    def add_leaf(self, statement) -> None:
        """One more statement of the innermost body."""
        self.leaf.append(statement)
        self.reads.extend(reads_of(statement))


def expressions(statement) -> list[Expr]:
    """The expressions directly in a statement (not in nested bodies)."""
    s = statement
    if isinstance(s, (ir.Let, ir.Set, ir.Accum)):
        return [s.value]
    if isinstance(s, (ir.Store, ir.AccumStore)):
        return [s.at, s.value]
    if isinstance(s, (ir.Check, ir.While, ir.If)):
        return [s.condition]
    if isinstance(s, ir.For):
        return [] if s.stop is None else [s.stop]
    if isinstance(s, ir.Gemm):
        return [x[1] for x in (s.a, s.b, s.c)]
    if isinstance(s, ir.Tile):
        return [s.c[1], *[x[1] for w in s.walks for x in (w.a, w.b)]]
    return []


def loads_of(exprs):
    """The loads in expressions."""
    stack, seen = list(exprs), set()
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.kind == "load":
            yield e
        stack.extend(e.args)


def reads_of(statement) -> list[tuple[Buffer, Expr]]:
    """(buffer, index) of everything a statement reads, nested bodies included."""
    found: dict = {}
    stack = [statement]
    seen: set = set()
    while stack:
        s = stack.pop()
        for body in ir.bodies(s):
            stack.extend(body)
        if isinstance(s, ir.Gemm):
            for (buffer, offset, rs, cs), rows, cols in ((s.a, s.m, s.k), (s.b, s.k, s.n)):
                at = offset + ir.var(Axis(rows, "r")) * rs + ir.var(Axis(cols, "c")) * cs
                found[(buffer, at)] = None
        elif isinstance(s, ir.Tile):
            found.update(dict.fromkeys(s.reads()))
        exprs = expressions(s)
        while exprs:
            e = exprs.pop()
            if e in seen:
                continue
            seen.add(e)
            if e.kind == "load":
                found[(e.arg, e.args[0])] = None
            exprs.extend(e.args)
    return list(found)


# -- nests of each kind ---------------------------------------------------------------------------


def pointwise(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """Every element of `node` computed and stored."""
    axes = axes_of(node.shape)
    index = index_of(axes)
    at = flat_index(index, node.shape)
    # The node itself is stored: ask its kind for the element, not the buffer.
    if node.op.kind == "input":
        value = pull.input_element(node, index)
    else:
        value = element_rule(node)(pull, node, tuple(index))
    return [Nest(buffer, axes, len(axes), [ir.Store(buffer, at, value)], store_at=at)]


IDENTITY = {
    "add": 0,
    "mul": 1,
    "max": float("-inf"),
    "min": float("inf"),
    "and": True,
    "or": False,
}


def identity(op: str, dtype) -> Expr:
    """The neutral element of an accumulation."""
    import numpy as np

    number = IDENTITY[op]
    if dtype.category == dtypes.INTEGER and op in ("max", "min"):
        info = np.iinfo(dtype.np)
        number = info.min if op == "max" else info.max
    if dtype.category == dtypes.BOOL and op in ("max", "min"):
        number = op == "min"
    return ir.const(number, dtype)


def reduction(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """A reduction: a scalar accumulator if the last axis vanishes, else accumulation in memory."""
    source = node.inputs[0]
    dims = node.attrs[0]
    op = node.op.loop
    all_axes = axes_of(source.shape)
    index = index_of(all_axes)
    kept = [k for k in range(len(source.shape)) if k not in dims]
    at = flat_index([index[k] for k in kept], node.shape)
    value = pull.element(source, index)
    if op in ("argmax", "argmin"):
        long = math.prod(source.shape[k] for k in dims) >= VECTOR
        if long and source.dtype.category != dtypes.BOOL and not _calls(value):
            pull.bounds.clear()  # of `value`, which is not read: the two loops have axes of their own
            return _two_pass_arg_reduction(pull, node, buffer, op)
        return [_arg_reduction(node, buffer, op, all_axes, kept, dims, at, value)]
    if op == "add" and len(dims) == 1:
        only = _one_term(value, all_axes[dims[0]])
        if only is not None:
            axes = [all_axes[k] for k in kept]
            return [Nest(buffer, axes, len(axes), [ir.Store(buffer, at, only)], store_at=at)]
    inner = [k for k in range(len(source.shape)) if source.shape[k] != 1]
    if inner and inner[-1] in kept:
        return [_memory_reduction(node, buffer, op, all_axes, kept, at, value)]
    name = fresh("acc")
    acc = ir.var(name, node.dtype)
    return [
        Nest(
            buffer,
            [all_axes[k] for k in kept] + [all_axes[k] for k in dims],
            len(kept),
            [ir.Accum(name, op, value)],
            before=[ir.Set(name, identity(op, node.dtype))],
            after=[ir.Store(buffer, at, acc)],
            store_at=at,
        )
    ]


def _one_term(value: Expr, axis: Axis) -> Expr | None:
    """The sum of ``where(axis == k, x, 0)`` over an axis on which k does not depend: x at k."""
    if value.kind != "select" or value.args[2].kind != "const" or value.args[2].arg != 0:
        return None
    test, x, zero = value.args
    if test.kind != "binary" or test.arg != "==":
        return None
    i = ir.var(axis)
    k = next((a for a, b in (test.args, test.args[::-1]) if b is i), None)
    if k is None or axis in axes_in(k):
        return None
    inside = ir.binary("min", ir.binary("max", k, 0), axis.extent - 1)
    # The zeros that are added make a plus of a minus zero.
    return ir.where(k.eq(inside), substitute(x, {i: inside}) + zero, zero)


def _memory_reduction(node, buffer, op, all_axes, kept, at, value) -> Nest:
    complete = 0
    while complete in kept:
        complete += 1
    return memory_accumulation(buffer, op, all_axes, complete, at, value, node.dtype)


def memory_accumulation(buffer, op, axes, complete, at, value, dtype) -> Nest:
    """``buffer[at] op= value`` over `axes`, of which the first `complete` are the result's own."""
    fill: list = [ir.Store(buffer, at, identity(op, dtype))]
    form = linear(at)
    inner = [a for a in axes[complete:] if a.extent != 1 and ir.var(a) in form[0]]
    renamed = {ir.var(a): ir.var(Axis(a.extent, a.name)) for a in inner}
    fill = [substitute_statement(s, renamed) for s in fill]
    for a in reversed(inner):
        fill = [ir.For(renamed[ir.var(a)].arg, fill)]
    leaf = [ir.AccumStore(buffer, at, op, value)]
    return Nest(buffer, axes, complete, leaf, before=fill, store_at=at)


def _arg_reduction(node, buffer, op, all_axes, kept, dims, at, value) -> Nest:
    best, where_ = fresh("best"), fresh("arg")
    dtype = value.dtype
    held = ir.var(best, dtype)
    position = flat_index(
        [index_of([all_axes[k]])[0] for k in dims], [all_axes[k].extent for k in dims]
    )
    new = fresh("new")
    x = ir.var(new, dtype)
    first = position.eq(0)
    if dtype.category == dtypes.BOOL:
        better = (x & ~held) if op == "argmax" else (~x & held)
    else:
        better = (x > held) if op == "argmax" else (x < held)
    if dtype.category >= dtypes.FLOAT:
        better = better | (x.ne(x) & held.eq(held))
    take = fresh("take")
    t = ir.var(take, dtypes.bool_)
    return Nest(
        buffer,
        [all_axes[k] for k in kept] + [all_axes[k] for k in dims],
        len(kept),
        [
            ir.Let(new, value),
            ir.Let(take, better | first),
            ir.Set(where_, ir.where(t, position, ir.var(where_))),
            ir.Set(best, ir.where(t, x, held)),
        ],
        before=[ir.Set(best, ir.const(0, dtype)), ir.Set(where_, ir.index(0))],
        after=[ir.Store(buffer, at, ir.var(where_))],
        store_at=at,
    )


# Elements of a row from which on the place of its extremum is found in two passes.
VECTOR = 8


def _two_pass_arg_reduction(pull: Pull, node: Node, buffer: Buffer, op: str) -> list[Nest]:
    """The extremum, then the first place where it is: two loops that vectorise, where one does not.

    NaN is the extremum of what contains it, and its place is the first NaN's.
    """
    source, dims = node.inputs[0], node.attrs[0]
    kept = [k for k in range(len(source.shape)) if k not in dims]
    count = math.prod(source.shape[k] for k in dims)
    extremum = Buffer(fresh("extremum"), source.dtype, buffer.size, "arena")

    def nest(target: Buffer, how: str, start: Expr, value_at) -> Nest:
        axes = axes_of(source.shape)
        index = index_of(axes)
        at = flat_index([index[k] for k in kept], node.shape)
        name = fresh("acc")
        return Nest(
            target,
            [axes[k] for k in kept] + [axes[k] for k in dims],
            len(kept),
            [ir.Accum(name, how, value_at(index, at))],
            before=[ir.Set(name, start)],
            after=[ir.Store(target, at, ir.var(name, target.dtype))],
            store_at=at,
        )

    def place(index, at):
        x = pull.element(source, index)
        found = x.eq(ir.load(extremum, at))
        if x.dtype.is_floating_point:
            found = found | x.ne(x)
        position = flat_index([index[k] for k in dims], [source.shape[k] for k in dims])
        return ir.where(found, position, ir.index(count))

    how = op.removeprefix("arg")
    value = nest(
        extremum, how, identity(how, source.dtype), lambda index, _: pull.element(source, index)
    )
    return [value, nest(buffer, "min", ir.index(count), place)]


def _calls(e: Expr) -> bool:
    """Whether an expression is too dear to be computed twice."""
    return e.kind == "call" or any(_calls(a) for a in e.args)


def scan(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """A running sum or product along one dimension."""
    source = node.inputs[0]
    dim, down = node.attrs[0], node.attrs[1]
    axes = axes_of(node.shape)
    index = index_of(axes)
    if down:
        index[dim] = (axes[dim].extent - 1) - index[dim]
    at = flat_index(index, node.shape)
    name = fresh("acc")
    acc = ir.var(name, node.dtype)
    value = pull.element(source, index)
    total = acc + value if node.op.loop == "add" else acc * value
    return [
        Nest(
            buffer,
            [a for k, a in enumerate(axes) if k != dim] + [axes[dim]],
            len(axes) - 1,
            [ir.Set(name, total), ir.Store(buffer, at, acc)],
            before=[ir.Set(name, identity(node.op.loop, node.dtype))],
            store_at=at,
        )
    ]


def cat(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """Each input stored into its part of the result."""
    dim = node.attrs[0]
    nests = []
    start = 0
    for source in node.inputs:
        axes = axes_of(source.shape)
        index = index_of(axes)
        value = pull.element(source, index)
        index[dim] = index[dim] + start
        start += source.shape[dim]
        at = flat_index(index, node.shape)
        nests.append(Nest(buffer, axes, 0, [ir.Store(buffer, at, value)], part=True))
    return nests


def written_view(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """The base copied, then the elements of a view of it replaced."""
    base, source = node.inputs
    view, attrs = view_of(node)
    axes = axes_of(source.shape)
    index = index_of(axes)
    at = flat_index(view.loop(list(index), base.shape, *attrs), base.shape)
    write = ir.Store(buffer, at, pull.element(source, index))
    return [*around_view(pull, node, buffer), Nest(buffer, axes, 0, [write])]


def around_view(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """The base copied, where a block of rows is written only what lies before and after it."""
    base, source = node.inputs
    view, attrs = view_of(node)
    if view.name != "slice" or not base.shape or source.shape[1:] != base.shape[1:]:
        return [copy_nest(pull, base, buffer)]
    start, step = attrs[0][0], attrs[1][0]
    if step != 1 or any(attrs[0][1:]) or any(k != 1 for k in attrs[1][1:]):
        return [copy_nest(pull, base, buffer)]
    end = start + source.shape[0]
    nests = []
    for first, rows in ((0, start), (end, base.shape[0] - end)):
        if rows:
            axes = axes_of((rows, *base.shape[1:]))
            index = index_of(axes)
            place = [first + index[0], *index[1:]]
            at = flat_index(place, base.shape)
            nests.append(Nest(buffer, axes, 0, [ir.Store(buffer, at, pull.element(base, place))]))
    return nests


def view_of(node: Node):
    """(the movement op, its attributes) of a node that writes through a view."""
    from ..graph.op import op_named

    if node.op.name == "slice_scatter":
        return op_named("slice"), node.attrs
    return op_named(node.attrs[0]), node.attrs[1]


def fence(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    """A copy of the first input, made after the second is complete."""
    source, after = node.inputs
    nest = copy_nest(pull, source, buffer)
    waits = pull.element(after, index_of(axes_of(after.shape, "w")))
    nest.reads += [(e.arg, e.args[0]) for e in loads_of([waits])]
    return [nest]


def copy_nest(pull: Pull, base: Node, buffer: Buffer) -> Nest:
    """`base` copied into `buffer`; readers wait for the writes that follow."""
    axes = axes_of(base.shape)
    index = index_of(axes)
    at = flat_index(index, base.shape)
    return Nest(buffer, axes, 0, [ir.Store(buffer, at, pull.element(base, index))])


def contraction(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    from .contract import contraction as lower_contraction

    return lower_contraction(pull, node, buffer)


def window(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    from .window import window as lower_window

    return lower_window(pull, node, buffer)


def pad(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    from .window import pad as lower_pad

    return lower_pad(pull, node, buffer)


def scatter(pull: Pull, node: Node, buffer: Buffer) -> list[Nest]:
    from .indexed import scatter as lower_scatter

    return (
        pointwise(pull, node, buffer) if element_rule(node) else lower_scatter(pull, node, buffer)
    )


def substitute(e: Expr, mapping: dict, memo: dict | None = None) -> Expr:
    """`e` with sub-expressions replaced; index arithmetic is simplified again."""
    if memo is None:
        memo = {}
    found = mapping.get(e)
    if found is not None:
        return found
    found = memo.get(e)
    if found is not None:
        return found
    if not e.args:
        result = e
    else:
        args = tuple([substitute(a, mapping, memo) for a in e.args])
        result = e if args == e.args else rebuild(e, args)
    memo[e] = result
    return result


def rebuild(e: Expr, args: tuple) -> Expr:
    if e.kind == "binary":
        return ir.binary(e.arg, *args)
    if e.kind == "select":
        return ir.where(*args)
    return Expr(e.kind, e.dtype, args, e.arg)


def substitute_statement(s, mapping: dict, memo: dict | None = None):
    """A copy of statement `s` under a substitution."""
    if memo is None:
        memo = {}

    def sub(e):
        return substitute(e, mapping, memo)

    if isinstance(s, ir.Let):
        return ir.Let(s.name, sub(s.value))
    if isinstance(s, ir.Set):
        return ir.Set(s.name, sub(s.value))
    if isinstance(s, ir.Accum):
        return ir.Accum(s.name, s.op, sub(s.value))
    if isinstance(s, ir.Store):
        return ir.Store(s.buffer, sub(s.at), sub(s.value))
    if isinstance(s, ir.AccumStore):
        return ir.AccumStore(s.buffer, sub(s.at), s.op, sub(s.value))
    if isinstance(s, ir.COMPOUND):
        inner = [[substitute_statement(x, mapping, memo) for x in b] for b in ir.bodies(s)]
        return ir.with_bodies(s, inner, sub)
    if isinstance(s, ir.Check):
        return ir.Check(sub(s.condition), s.code)
    if isinstance(s, ir.Gemm):
        a, b, c = ((x[0], sub(x[1]), *x[2:]) for x in (s.a, s.b, s.c))
        return ir.Gemm(s.dtype, s.m, s.n, s.k, a, b, c, s.accumulate)
    if isinstance(s, ir.Tile):
        return s.with_places(lambda buffer, at: (buffer, sub(at)))
    raise AssertionError(type(s))


NESTS = {
    "reduction": reduction,
    "scan": scan,
    "cat": cat,
    "slice_scatter": written_view,
    "view_scatter": written_view,
    "contraction": contraction,
    "window": window,
    "pad": pad,
    "scatter": scatter,
    "fence": fence,
}
