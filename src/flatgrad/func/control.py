"""Loops of the graph: scan, map, fori_loop and while_loop.

The functions given are traced once, over placeholders; they become real loops of the compiled program,
with derivatives of any order that are loops as well.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..array.construct import arange
from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..graph.node import Graph, Node, placeholder
from ..ops.declare import cast_node
from ..ops.joining import cat
from ..tensor import Tensor, node_of, wrap
from ..transform.loops import reversible_while, scan_loop
from ..transform.loops import while_loop as record_while
from ..transform.trace import close, intern, quiet
from .traced import Traced, map_nodes, matching_carry, over_the_same, promoted, tensors_of
from .tree import Spec, paths, unflatten

__all__ = ["fori_loop", "map", "scan", "while_loop"]


# -- scan, map, fori_loop -------------------------------------------------------------------------


def scan(
    f: Callable, init, xs=None, length: int | None = None, reverse: bool = False, *, checkpoint=None
):
    """Run `f` over the rows of `xs`, handing a carry from one to the next; a real loop when compiled.

    Parameters
    ----------
    f : callable
        ``f(carry, x) -> (carry, y)``. The carry keeps its structure, shapes and dtypes.
    init : pytree
        The first carry.
    xs : pytree, optional
        Arrays whose first dimension is walked; `x` is a row of each. None gives ``x = None``.
    length : int, optional
        Number of iterations; required without `xs`.
    reverse : bool
        Walk from the last row to the first; `ys` stay in the order of `xs`.
    checkpoint : None, "sqrt" or int
        What reverse mode keeps. None: the carry of every iteration. ``"sqrt"``: about twice the square
        root of their number, and the loop is run once more. An int: at most so many bytes of carries,
        as far as one level of checkpoints allows.

    Returns
    -------
    (carry, ys)
        The last carry, and the results `y` stacked along a new first dimension.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        For rows of different number, or a carry that changes its structure, shape or dtype.

    Examples
    --------
    >>> import flatgrad as fg
    >>> total, parts = fg.scan(lambda c, x: (c + x, c * x), 0.0, fg.tensor([1.0, 2.0, 3.0]))
    >>> total, parts
    (tensor(6.), tensor([0., 2., 9.]))
    """
    carry, carry_spec = tensors_of("scan", "init", init)
    rows, rows_spec = tensors_of("scan", "xs", xs)
    length = _length("scan", rows, rows_spec, length)
    like = [node_of(t) for t in carry]
    slices = [placeholder(-1, n.shape[1:], n.dtype) for n in map_nodes(rows)]
    traced = Traced("scan", "f", f, [*like, *slices], (carry_spec, rows_spec))
    pair = traced.spec
    if pair.kind is not tuple or len(pair.children) != 2:
        raise ArgumentError(
            f"scan: f must return a pair (carry, y), got {pair}; return (carry, None) if there is no y"
        )
    c = pair.children[0].count
    again = promoted(init, like, traced.outputs[:c])
    if again is not None:
        return scan(
            f,
            unflatten(carry_spec, [wrap(n) for n in again]),
            xs,
            length,
            reverse,
            checkpoint=checkpoint,
        )
    matching_carry("scan", traced.outputs[:c], pair.children[0], like, carry_spec)
    graph, fixed = traced.graph()
    if checkpoint is None:
        found = scan_loop(graph, carry, rows, fixed, length, reverse=reverse)
    else:
        inner = _inner_length(checkpoint, length, like)
        found = _in_segments(graph, carry, rows, fixed, length, reverse, inner)
    return unflatten(carry_spec, found[:c]), unflatten(pair.children[1], found[2 * c :])


def _length(name: str, rows: list[Tensor], spec: Spec, length) -> int:
    """The number of rows, which all of `rows` have."""
    for t, path in zip(rows, paths(spec), strict=True):
        shape = node_of(t).shape
        if not shape:
            raise ShapeError(
                f"{name}: xs{path} needs a first dimension to walk along, got a number; close over what "
                "does not change"
            )
        if length is None:
            length = shape[0]
        elif shape[0] != length:
            raise ShapeError(
                f"{name}: all of xs must have the same number of rows, {length}, got {shape[0]} in xs{path}"
            )
    if length is None:
        raise ArgumentError(
            f"{name}: without xs the number of iterations must be given; pass length="
        )
    if isinstance(length, bool) or not isinstance(length, (int, np.integer)) or length < 0:
        raise ArgumentError(f"{name}: length must be an int >= 0, got {length!r}")
    return int(length)


def _inner_length(checkpoint, length: int, like: list[Node]) -> int:
    """Iterations between two kept carries."""
    root = max(round(length**0.5), 1)
    if checkpoint == "sqrt":
        return root
    if (
        isinstance(checkpoint, bool)
        or not isinstance(checkpoint, (int, np.integer))
        or checkpoint <= 0
    ):
        raise ArgumentError(
            f"scan: checkpoint must be None, 'sqrt' or a positive number of bytes, got {checkpoint!r}"
        )
    size = sum(n.dtype.itemsize * int(np.prod(n.shape)) for n in like)
    if size * length <= checkpoint:
        return length
    # n / inner carries outside and inner inside: the smallest inner that fits is the cheapest to rerun.
    for inner in range(2, root + 1):
        if size * (-(-length // inner) + inner) <= checkpoint:
            return inner
    return root


def _in_segments(graph: Graph, carry, rows, fixed, length: int, reverse: bool, inner: int) -> tuple:
    """The loop as a loop over loops of `inner` iterations, and one over what is left."""
    whole, rest = divmod(length, max(inner, 1))
    c, y = len(carry), len(graph.outputs) - len(carry)
    if whole < 2 or inner < 2:
        return scan_loop(graph, carry, rows, fixed, length, reverse=reverse)
    cut = rest if reverse else whole * inner  # the rest runs last
    order = [slice(None, cut), slice(cut, None)]
    blocks = [t[order[1 if reverse else 0]] for t in rows]
    blocks = [t.reshape(whole, inner, *t.shape[1:]) for t in blocks]
    with quiet():
        shapes = [n.shape for n in map_nodes(carry)] + [n.shape[1:] for n in map_nodes(blocks)]
        shapes += [n.shape for n in map_nodes(fixed)]
        state = [
            placeholder(k, shape, node_of(t).dtype)
            for k, (shape, t) in enumerate(zip(shapes, (*carry, *blocks, *fixed), strict=True))
        ]
        handles = [wrap(n) for n in state]
        at = c + len(blocks)
        part = scan_loop(graph, handles[:c], handles[c:at], handles[at:], inner, reverse=reverse)
        segment, _ = close(state, map_nodes([*part[:c], *part[2 * c :]]))
    found = scan_loop(intern(segment), carry, blocks, fixed, whole, reverse=reverse)
    ys = [t.reshape(whole * inner, *t.shape[2:]) for t in found[2 * c :]]
    last = found[:c]
    if rest:
        tail = scan_loop(
            graph, last, [t[order[0 if reverse else 1]] for t in rows], fixed, rest, reverse=reverse
        )
        last = tail[:c]
        ends = tail[2 * c :]
        pairs = zip(ends, ys, strict=True) if reverse else zip(ys, ends, strict=True)
        ys = [cat(p) for p in pairs]
    assert len(ys) == y
    return (*last, *[None] * c, *ys)


def map(f: Callable, xs):
    """`f` of every row of `xs`, results stacked; a real loop when compiled, whose reverse stores nothing.

    Parameters
    ----------
    f : callable
        ``f(x) -> y`` of pytrees.
    xs : pytree
        Arrays whose first dimension is walked.

    Returns
    -------
    pytree
        The results stacked along a new first dimension.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.map(lambda row: row.sum() ** 2, fg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([ 9., 49.])
    """
    rows, rows_spec = tensors_of("map", "xs", xs)
    length = _length("map", rows, rows_spec, None)
    slices = [placeholder(-1, n.shape[1:], n.dtype) for n in map_nodes(rows)]
    traced = Traced("map", "f", f, slices, (rows_spec,))
    graph, fixed = traced.graph()
    return unflatten(traced.spec, scan_loop(graph, [], rows, fixed, length))


def fori_loop(lower, upper, body: Callable, init):
    """``for i in range(lower, upper): carry = body(i, carry)``, as a real loop.

    Parameters
    ----------
    lower, upper : int or integer tensor
        Known bounds make a `scan` (which reverse mode runs backwards for the memory of its carries);
        computed ones make a `while_loop`.
    body : callable
        ``body(i, carry) -> carry``; `i` is an int64 tensor.
    init : pytree

    Returns
    -------
    pytree
        The last carry.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.fori_loop(0, 5, lambda i, c: c * 2 + i, 1)
    tensor(58)
    """
    if isinstance(lower, (int, np.integer)) and isinstance(upper, (int, np.integer)):
        count = max(int(upper) - int(lower), 0)
        steps = arange(int(lower), int(lower) + count, dtype=dtypes.int64)
        return scan(lambda carry, i: (body(i, carry), None), init, steps, count)[0]
    bounds, _ = tensors_of("fori_loop", "bounds", (lower, upper))
    for t, what in zip(bounds, ("lower", "upper"), strict=True):
        if node_of(t).shape or node_of(t).dtype.category != dtypes.INTEGER:
            raise ArgumentError(
                f"fori_loop: {what} must be an integer, got a tensor of shape {tuple(t.shape)} and dtype "
                f"{t.dtype!r}; convert it with .to(flatgrad.int64)"
            )
    first, end = (wrap(cast_node(node_of(t), dtypes.int64)) for t in bounds)
    found = while_loop(
        lambda state: state[0] < end, lambda state: (state[0] + 1, body(*state)), (first, init)
    )
    return found[1]


# -- while_loop -----------------------------------------------------------------------------------


def while_loop(
    cond_fun: Callable,
    body_fun: Callable,
    init,
    *,
    bound: int | None = None,
    memory: int | None = None,
):
    """``while cond_fun(carry): carry = body_fun(carry)``, as a real loop.

    Reverse mode needs the carries of all iterations, whose number is not known. Without a `bound` the
    loop becomes a loop over segments: it keeps the carry at the start of each, and runs a segment again
    when it goes back through it.

    Parameters
    ----------
    cond_fun : callable
        ``cond_fun(carry) -> bool tensor`` without dimensions.
    body_fun : callable
        ``body_fun(carry) -> carry`` of the same structure, shapes and dtypes.
    init : pytree
        The first carry.
    bound : int, optional
        At most so many iterations; more is an error. Reverse mode keeps the carry of each.
    memory : int, optional
        Bytes that reverse mode may keep without a `bound` (64 MB, or less for small carries, if not
        given): `m` carries allow ``(m/2)**2`` iterations.

    Returns
    -------
    pytree
        The last carry.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        If the condition is no single bool, or the carry changes its structure, shape or dtype.
    LoopError
        When it runs, if the bound or the memory is exceeded.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor(3.0, requires_grad=True)
    >>> y = fg.while_loop(lambda v: v < 100.0, lambda v: v * x, x)  # x ** 5
    >>> y, fg.autograd.grad(y, x)[0]
    (tensor(243., grad_fn=<WhileLoopBackward0>), tensor(405.))
    """
    for value, what in ((bound, "bound"), (memory, "memory")):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1
        ):
            raise ArgumentError(f"while_loop: {what} must be a positive int or None, got {value!r}")
    carry, spec = tensors_of("while_loop", "init", init)
    like = map_nodes(carry)
    body = Traced("while_loop", "body_fun", body_fun, like, (spec,))
    again = promoted(init, like, body.outputs)
    if again is not None:
        start = unflatten(spec, [wrap(n) for n in again])
        return while_loop(cond_fun, body_fun, start, bound=bound, memory=memory)
    matching_carry("while_loop", body.outputs, body.spec, like, spec)
    test = Traced("while_loop", "cond_fun", cond_fun, like, (spec,))
    _check_condition(test)
    condition, step, fixed = over_the_same(test, body)
    needs = any(node_of(t).requires_grad for t in (*carry, *fixed))
    if bound is not None:
        found = record_while(condition, step, carry, fixed, bound=int(bound))
    elif needs or memory is not None:
        found = reversible_while(condition, step, carry, fixed, memory)
    else:
        found = record_while(condition, step, carry, fixed)
    return unflatten(spec, found[: len(carry)])


def bounded_loop(cond_fun: Callable, body_fun: Callable, init, bound: int, message: str):
    """`while_loop` whose error says `message` if the condition still holds after `bound` iterations."""
    carry, spec = tensors_of("while_loop", "init", init)
    like = map_nodes(carry)
    body = Traced("while_loop", "body_fun", body_fun, like, (spec,))
    matching_carry("while_loop", body.outputs, body.spec, like, spec)
    test = Traced("while_loop", "cond_fun", cond_fun, like, (spec,))
    condition, step, fixed = over_the_same(test, body)
    found = record_while(condition, step, carry, fixed, bound=bound, partial=message)
    return unflatten(spec, found[: len(carry)])


def _check_condition(test: Traced) -> None:
    if len(test.outputs) != 1 or test.outputs[0].shape != ():
        shapes = [n.shape for n in test.outputs]
        raise ShapeError(
            f"while_loop: cond_fun must return one bool without dimensions, got shapes {shapes}; reduce it "
            "with .any() or .all()"
        )
    if test.outputs[0].dtype is not dtypes.bool_:
        raise DTypeError(
            f"while_loop: cond_fun must return a bool, got {test.outputs[0].dtype!r}; compare (x != 0)"
        )
