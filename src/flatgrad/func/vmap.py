"""``vmap``: a function of one item as a function of many, by the batching transform."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import wraps

import numpy as np

from ..errors import ArgumentError, IndexingError, ShapeError
from ..graph.dtypes import int64
from ..graph.modes import modes
from ..graph.node import placeholder
from ..ops.joining import cat, stack
from ..ops.views import movedim, narrow, select_index
from ..tensor import Tensor, node_of, wrap
from ..transform.batch import batched, everywhere
from ..transform.call import inline
from ..transform.trace import close_once, intern, quiet, recorded_anew, settled
from .arguments import as_tensor, output_tensors
from .tracing import undo_writes
from .tree import Spec, flatten, paths, unflatten

__all__ = ["vmap"]

RANDOMNESS = ("error", "different", "same")


def vmap(
    func: Callable,
    in_dims=0,
    out_dims=0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable:
    """`func` of one item, for many at once: one recorded graph, without a loop where there need be none.

    Parameters
    ----------
    func : callable
        Takes and returns trees of tensors; it is traced once, with one item's shapes.
    in_dims : int, None, or a tree of them
        For each argument (or a tree like it) the dimension that holds the items; None for what is the same
        for all. A tuple has one entry a positional argument.
    out_dims : int, None, or a tree of them
        Where the results have the items.
    randomness : {"error", "different", "same"}
        What drawing random numbers in `func` means: it is refused; each item draws its own (`func` then
        runs once an item); all items get the same.
    chunk_size : int, optional
        So many items at a time, one chunk after the other.

    Returns
    -------
    callable
        Takes the same arguments with items. Arguments given by keyword have them at dimension 0.

    Raises
    ------
    ShapeError, IndexingError, ArgumentError
        When called: for items of different number, a dimension that an argument does not have, structures
        that don't fit, or a result that is no tensor.
    TraceError
        If `func` needs the value of a tensor (``if x > 0``): use `flatgrad.where` or `flatgrad.cond`.

    Examples
    --------
    >>> import flatgrad as fg
    >>> rows = fg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> fg.vmap(lambda a, b: (a * b).sum(), in_dims=(0, None))(rows, fg.tensor([10.0, 1.0]))
    tensor([12., 34.])
    >>> fg.vmap(fg.grad(lambda x: (x**3).sum()))(rows)
    tensor([[ 3., 12.],
            [27., 48.]])
    """
    if randomness not in RANDOMNESS:
        raise ArgumentError(
            f"vmap: Only allowed values for randomness are 'error', 'different', or 'same', got "
            f"{randomness!r}"
        )
    if chunk_size is not None and (
        isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size <= 0
    ):
        raise ArgumentError(
            f"vmap: chunk_size should be None or greater than 0, got {chunk_size!r}"
        )

    @wraps(func)
    def function(*args, **kwargs):
        items = Items(func, in_dims, args, kwargs)
        if randomness == "different":
            return items.one_by_one(out_dims)
        if chunk_size is None or chunk_size >= items.size:
            return items.at_once(out_dims, randomness)
        chunks = [
            items.part(start, min(chunk_size, items.size - start))
            for start in range(0, items.size, chunk_size)
        ]
        return _joined([c.at_once(out_dims, randomness) for c in chunks], out_dims)

    return function


class Items:
    """The arguments of a vmapped call: leaves, the dimension of each that holds the items, their number."""

    def __init__(self, func: Callable, in_dims, args: tuple, kwargs: dict):
        self.func = func
        leaves, self.spec = flatten((args, kwargs))
        self.where = [p for child in self.spec.children for p in paths(child)]
        if not leaves:
            raise ArgumentError(
                "vmap: received no inputs; there must be at least one argument to map over"
            )
        self.dims = _in_dims(in_dims, args, kwargs)
        self.leaves = [self._leaf(k, x) for k, x in enumerate(leaves)]
        self.size = self._count()

    def _leaf(self, k: int, x):
        dim = self.dims[k]
        if dim is None:
            return x
        t = as_tensor("vmap", x, self.where[k], "args")
        rank = t.ndim
        if not -rank <= dim < rank:
            raise IndexingError(
                f"vmap: Got in_dim={dim} for an input of {rank} dimensions at args{self.where[k]}; "
                + (f"it must be in [{-rank}, {rank - 1}], or " if rank else "it must be ")
                + "None for what is the same for all items"
            )
        self.dims[k] = dim % rank
        return t

    def _count(self) -> int:
        sizes = {
            self.where[k]: tuple(x.shape)[self.dims[k]]
            for k, x in enumerate(self.leaves)
            if self.dims[k] is not None
        }
        if not sizes:
            raise ArgumentError(
                "vmap: at least one input must have items, but in_dims is None for all; give the dimension "
                "that holds the items"
            )
        if len(set(sizes.values())) > 1:
            raise ShapeError(
                "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                f"{list(sizes.values())} for args {', '.join(sizes)}; check in_dims"
            )
        return next(iter(sizes.values()))

    def part(self, start: int, count: int) -> Items:
        """The items from `start` on, `count` of them."""
        new = object.__new__(Items)
        new.func, new.spec, new.where, new.dims = self.func, self.spec, self.where, self.dims
        new.size = count
        new.leaves = [
            x if d is None else narrow(x, d, start, count)
            for x, d in zip(self.leaves, self.dims, strict=True)
        ]
        return new

    # -- running ----------------------------------------------------------------------------------

    def at_once(self, out_dims, randomness: str):
        """The results of all items, by a graph of one item that is batched."""
        mapped = [k for k, d in enumerate(self.dims) if d is not None]
        moved = [movedim(self.leaves[k], self.dims[k], 0) for k in mapped]
        with quiet(grad=True), _drawing(randomness), _writes_stay_inside():
            holes = []
            since = placeholder(-1, (), int64).seq
            leaves = list(self.leaves)
            for k, t in zip(mapped, moved, strict=True):
                n = node_of(t)
                holes.append(placeholder(-1, n.shape[1:], n.dtype, n.dtype.is_differentiable))
                leaves[k] = wrap(holes[-1])
            args, kwargs = unflatten(self.spec, leaves)
            outs, spec = output_tensors("vmap", self.func(*args, **kwargs))
            graph, captured = close_once(holes, [node_of(t) for t in outs])
            del outs, leaves, args, kwargs
        one = intern(settled(graph))
        flags = (True,) * len(holes) + (False,) * len(captured)
        many = batched(one, flags, self.size)
        captured = recorded_anew(captured, since, modes.grad)
        given = [*[node_of(t) for t in moved], *captured, *[node_of(t) for t in many.extra]]
        found = [wrap(n) for n in inline(many.graph, given, grad=modes.grad)]
        places = _out_dims(out_dims, spec)
        results = [
            self._placed(t, flag, dim)
            for t, flag, dim in zip(found, many.flags, places, strict=True)
        ]
        return unflatten(spec, results)

    def _placed(self, t: Tensor, flag: bool, dim):
        if dim is None:
            if flag:
                raise ArgumentError(
                    "vmap: a result differs from item to item, so it cannot be returned with out_dims=None; "
                    "give the dimension where its items are to be"
                )
            return t
        whole = everywhere(t, flag, self.size)
        rank = whole.ndim
        if not -rank <= dim < rank:
            raise IndexingError(
                f"vmap: Dimension out of range for out_dims: expected [{-rank}, {rank - 1}], got {dim}"
            )
        return movedim(whole, 0, dim)

    def one_by_one(self, out_dims):
        """The results of the items, each computed by a call of its own."""
        rows = []
        for k in range(self.size):
            leaves = [
                x if d is None else select_index(x, d, k)
                for x, d in zip(self.leaves, self.dims, strict=True)
            ]
            args, kwargs = unflatten(self.spec, leaves)
            rows.append(output_tensors("vmap", self.func(*args, **kwargs)))
        if not rows:
            return self.at_once(out_dims, "same")
        spec = rows[0][1]
        columns = zip(*[found for found, _ in rows], strict=True)
        places = _out_dims(out_dims, spec)
        whole = [
            c[0] if d is None else movedim(stack(c), 0, d)
            for c, d in zip(columns, places, strict=True)
        ]
        return unflatten(spec, whole)


@contextmanager
def _drawing(randomness: str):
    before = modes.may_draw
    modes.may_draw = before and randomness != "error"
    try:
        yield
    finally:
        modes.may_draw = before


# -- in_dims and out_dims -------------------------------------------------------------------------


@contextmanager
def _writes_stay_inside():
    """A write to a tensor from outside is taken back, and raises: it would be one write, of no item."""
    since = placeholder(-1, (), int64).seq
    written, modes.written = modes.written, []
    try:
        yield
    finally:
        inside, modes.written = modes.written, written
        undo_writes("vmap", inside, since)


def _is_dim(x) -> bool:
    return x is None or (isinstance(x, (int, np.integer)) and not isinstance(x, bool))


def _in_dims(in_dims, args: tuple, kwargs: dict) -> list:
    """A dimension (or None) for each leaf of the arguments."""
    if not _is_dim(in_dims) and not isinstance(in_dims, (tuple, list)):
        raise ArgumentError(
            "vmap: expected in_dims to be int or a (potentially nested) tuple matching the structure of "
            f"inputs, got {type(in_dims).__name__}"
        )
    if isinstance(in_dims, (tuple, list)) and len(in_dims) != len(args):
        raise ArgumentError(
            f"vmap: in_dims is not compatible with the structure of inputs: it has {len(in_dims)} entries "
            f"for {len(args)} positional arguments; give one an argument"
        )
    each = tuple(in_dims) if isinstance(in_dims, (tuple, list)) else (in_dims,) * len(args)
    found: list = []
    for dims, arg in zip(each, args, strict=True):
        found += _spread("in_dims", dims, arg)
    for name in sorted(kwargs):
        found += _spread("in_dims", 0, kwargs[name])
    return found


def _spread(what: str, dims, tree) -> list:
    """`dims`, a tree whose leaves may stand for whole sub-trees of `tree`, leaf by leaf."""
    leaves, spec = flatten(tree)
    return _spread_over(what, dims, spec) if leaves or not _is_dim(dims) else []


def _spread_over(what: str, dims, spec: Spec) -> list:
    if _is_dim(dims):
        return [None if dims is None else int(dims)] * spec.count
    if spec.kind is None:
        raise ArgumentError(
            f"vmap: {what} is not compatible with the structure of the values: {dims!r} stands for one "
            "tensor; give an int or None"
        )
    parts, given = _children(dims)
    if parts is None or len(parts) != len(spec.children) or given.context != spec.context:
        raise ArgumentError(
            f"vmap: {what} is not compatible with the structure of the values: {dims!r} for {spec}; give an "
            "int, None, or a tree of the same structure"
        )
    return [
        d
        for part, child in zip(parts, spec.children, strict=True)
        for d in _spread_over(what, part, child)
    ]


def _children(dims):
    """The entries of a container of dimensions and its structure; None is a dimension, not a container."""
    from .tree import container

    known = container(dims)
    if known is None:
        return None, None
    kind, how = known
    children, context = how.flatten(dims)
    return children, Spec(kind, context)


def _out_dims(out_dims, spec: Spec) -> list:
    if _is_dim(out_dims):
        return [out_dims] * spec.count
    if spec.kind is None and isinstance(out_dims, (tuple, list)) and len(out_dims) == 1:
        return _out_dims(out_dims[0], spec)
    return _spread_over("out_dims", out_dims, spec)


def _joined(chunks: list, out_dims):
    """The results of chunks, one after the other along the items."""
    spec = flatten(chunks[0])[1]
    columns = zip(*[flatten(c)[0] for c in chunks], strict=True)
    places = _out_dims(out_dims, spec)
    whole = [c[0] if d is None else cat(c, d) for c, d in zip(columns, places, strict=True)]
    return unflatten(spec, whole)
