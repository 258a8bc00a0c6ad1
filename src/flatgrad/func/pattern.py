"""Structural sparsity: which elements of a recorded result depend on which elements of its inputs.

The pattern of a node is a boolean CSR matrix, a row for each of its elements, a column for each element of
all inputs together; None is an empty one. Patterns are carried through the graph one operation at a time, by
the operation's kind: what moves elements moves rows, what combines them unites rows. Which rows is found
by letting the operation itself move element numbers. Index tensors whose values are known (constants,
captured arrays, what is computed from them) are followed exactly. What is not known here, and an index
that depends on the inputs, counts as if everything depended on everything in reach.
"""

from __future__ import annotations

import numpy as np

from ..graph.node import PROJ, Graph, Node, placeholder, toposort
from ..graph.op import REGISTRY, Exact
from ..graph.shapes import numel
from ..ops.convolution import OPERANDS, ROLES
from ..tensor import late
from ..transform.call import inline

__all__ = ["pattern_of"]

# Elements of the largest matrix that says which elements a scan combines; past it, all along its dimension.
SCAN_LIMIT = 5_000_000
# Nodes that loops are unrolled to; past it, all that a loop computes depends on all that it is given.
UNROLL_LIMIT = 200_000


def pattern_of(inputs, outputs):
    """The pattern of all `outputs` together, one below the other.

    Parameters
    ----------
    inputs : sequence of Node
        Placeholders; nothing else in the graph may be without a value.
    outputs : sequence of Node

    Returns
    -------
    scipy.sparse.csr_array of bool, shape (elements of the outputs, elements of the inputs)
    """
    opened = inline(Graph(tuple(inputs), tuple(outputs)), inputs)
    columns = sum(size_of(n) for n in inputs)
    walk = Walk(columns)
    start = 0
    for node in inputs:
        ids = np.arange(size_of(node))
        walk.give(node, walk.matrix(ids, ids + start, (len(ids), columns)), None)
        start += len(ids)
    whole = walk.one_after_another(walk.through(opened), [size_of(n) for n in opened])
    whole.sort_indices()
    return whole


class Walk:
    """Patterns of the nodes of one graph, or of several copies of it at once (the iterations of a map).

    With several copies a pattern has the rows of one copy after those of another, or, if it is the same
    for all of them, the rows of one. So have element numbers, and known values along a first dimension.

    Attributes
    ----------
    columns, copies : int
    patterns : dict of Node to (csr_array, None, or a tuple of them for a node of several outputs)
    values : dict of Node to (ndarray, bool)
        Known values, and whether each copy has its own.
    unknown : set of Node
        Those whose values depend on the inputs.
    """

    def __init__(self, columns: int, copies: int = 1):
        from scipy import sparse

        self.sparse = sparse
        self.columns = columns
        self.copies = copies
        self.patterns: dict = {}
        self.values: dict = {}
        self.unknown: set[Node] = set()

    def through(self, outputs) -> list:
        """Find the patterns of all nodes that `outputs` need; those of the outputs are returned."""
        for node in toposort(outputs):
            if node in self.patterns or node in self.values:
                continue
            op = node.op
            if node.value is not None:
                continue
            if op.kind == "input" or any(s in self.unknown for s in node.inputs):
                self.unknown.add(node)
            given = [self.patterns.get(s) for s in node.inputs]
            if not op.differentiable or all(p is None for p in given):
                continue
            if op is PROJ:
                self.patterns[node] = given[0][node.attrs[0]]
                continue
            rule = _BY_NAME.get(op.name) or _BY_KIND.get(op.kind) or _everything
            self.patterns[node] = rule(self, node, given)
        return [self.patterns.get(n) for n in outputs]

    def give(self, node: Node, pattern, value) -> None:
        """Say what an input is: what it depends on, or what its value is."""
        if pattern is not None:
            self.patterns[node] = pattern
        if value is None or pattern is not None:
            self.unknown.add(node)
        else:
            self.values[node] = value

    # -- matrices ---------------------------------------------------------------------------------

    def matrix(self, rows, columns, shape):
        """A boolean matrix that is True at the given places."""
        rows, columns = np.ravel(rows), np.ravel(columns)
        found = self.sparse.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)
        found.sum_duplicates()
        return found

    def empty(self, rows: int):
        return self.sparse.csr_array((rows, self.columns), dtype=bool)

    def _each(self, ids: np.ndarray, size: int) -> np.ndarray:
        """Numbers of elements of one copy as those of all copies, of `size` elements each."""
        start = np.arange(self.copies)[:, None] * size
        return np.where(ids < 0, -1, ids + start).ravel()

    def take(self, p, ids: np.ndarray, size: int):
        """The rows of `p`, of `size` elements, that `ids` names, in that order; -1 names an empty one."""
        if p is None:
            return None
        own = ids.ndim == 2
        if p.shape[0] == size and not own and np.array_equal(ids, np.arange(size)):
            return p
        ids = ids.ravel() if p.shape[0] == size else self._each(ids, size)
        if ids.size and ids.min() < 0:
            here = np.flatnonzero(ids >= 0)
            return self.matrix(here, np.arange(len(here)), (len(ids), len(here))) @ p[ids[here]]
        return p[ids]

    def put(self, p, places: np.ndarray, count: int):
        """`count` elements; that numbered ``places[k]`` unites all rows k of `p` with that place."""
        if p is None:
            return None
        size = places.shape[-1]
        if p.shape[0] == size and places.ndim == 2:
            p = self.spread(p, size)
        if p.shape[0] != size:
            places, count = self._each(places, count), count * self.copies
        return self.matrix(places, np.arange(len(places)), (count, len(places))) @ p

    def spread(self, p, size: int):
        """The pattern of all copies, though it is the same for each."""
        return p if p.shape[0] != size else p[np.tile(np.arange(size), self.copies)]

    def union(self, parts, size: int):
        """The union of patterns of `size` elements."""
        parts = [p for p in parts if p is not None]
        if len({p.shape[0] for p in parts}) > 1:
            parts = [self.spread(p, size) for p in parts]
        found = None
        for p in parts:
            if p is not found:
                found = p if found is None else found + p
        return found

    def one_after_another(self, parts, sizes):
        """Patterns of several parts as that of all of them."""
        parts = [self.empty(n) if p is None else p for p, n in zip(parts, sizes, strict=True)]
        whole = sum(sizes)
        if any(p.shape[0] != n for p, n in zip(parts, sizes, strict=True)):
            parts = [self.spread(p, n) for p, n in zip(parts, sizes, strict=True)]
            order, start = [], 0
            for n in sizes:
                ids = np.arange(n * self.copies).reshape(self.copies, n)
                order.append(ids + start)
                start += n * self.copies
            return self._stack(parts)[np.concatenate(order, 1).ravel()]
        return self._stack(parts) if whole else self.empty(0)

    def _stack(self, parts):
        return self.sparse.csr_array(self.sparse.vstack(parts, format="csr"))

    # -- values -----------------------------------------------------------------------------------

    def value(self, node: Node) -> tuple[np.ndarray, bool] | None:
        """The value of `node` if it does not depend on the inputs, and whether each copy has its own."""
        if node in self.unknown:
            return None
        found = self.values.get(node)
        if found is None:
            known = self.values
            order = toposort([node], stop=lambda n: n in known or n.value is not None)
            sources = {n: known[n] for n in order if n in known}
            if any(own for _, own in sources.values()):
                rows = [self._run(order, node, sources, t) for t in range(self.copies)]
                found = np.stack(rows), True
            else:
                found = self._run(order, node, sources, 0), False
            self.values[node] = found
        return found

    def _run(self, order, node: Node, sources: dict, copy: int) -> np.ndarray:
        values = {n: n.value for n in order if n.value is not None}
        values.update({n: v[copy] if own else v for n, (v, own) in sources.items()})
        late.run(order, values)
        return np.asarray(values[node])

    def numbers(self, function, nodes) -> np.ndarray | None:
        """``function(*values of nodes)``, element numbers: for each copy if a value is; else flat."""
        given = [self.value(n) for n in nodes]
        if any(g is None for g in given):
            return None
        if not any(own for _, own in given):
            return function(*[v for v, _ in given]).ravel()
        rows = [
            function(*[v[t] if own else v for v, own in given]).ravel() for t in range(self.copies)
        ]
        return np.stack(rows)


def numbered(shape) -> np.ndarray:
    """The numbers of the elements of an array of that shape."""
    return np.arange(numel(shape)).reshape(shape)


def size_of(node: Node) -> int:
    return numel(node.shape)


# -- rules: rule(walk, node, patterns of its inputs) -> pattern -----------------------------------


def _everything(walk: Walk, node: Node, given):
    """Each element of each output depends on all that the inputs depend on."""
    rows = []
    for source, p in zip(node.inputs, given, strict=True):
        parts = zip(p, source.shape, strict=True) if type(p) is tuple else [(p, source.shape)]
        rows += [walk.put(q, np.zeros(numel(shape), int), 1) for q, shape in parts]
    return _outputs(walk, node, walk.union(rows, 1), 1)


def _outputs(walk: Walk, node: Node, p, size: int):
    """Each output, cut into as many equal parts as `p` has elements, has their rows."""

    def output(shape, dtype):
        count = numel(shape)
        if not dtype.is_differentiable:
            return None
        return walk.take(p, np.arange(count) * size // max(1, count), size)

    if node.op.outputs == 1:
        return output(node.shape, node.dtype)
    return tuple(output(*sd) for sd in zip(node.shape, node.dtype, strict=True))


def _elementwise(walk: Walk, node: Node, given):
    parts = []
    for source, p in zip(node.inputs, given, strict=True):
        if p is not None and source.shape != node.shape:
            ids = np.broadcast_to(numbered(source.shape), node.shape).ravel()
            p = walk.take(p, ids, size_of(source))
        parts.append(p)
    return walk.union(parts, size_of(node))


def _first(walk: Walk, node: Node, given):
    return given[0]


def _second(walk: Walk, node: Node, given):
    return given[1]


def _movement(walk: Walk, node: Node, given):
    (source,) = node.inputs
    ids = node.op.numpy(numbered(source.shape), *node.attrs)
    return walk.take(given[0], ids.ravel(), size_of(source))


def _pad(walk: Walk, node: Node, given):
    (source,), (low, high, _) = node.inputs, node.attrs
    ids = node.op.numpy(numbered(source.shape), low, high, Exact(-1))
    return walk.take(given[0], ids.ravel(), size_of(source))


def _cat(walk: Walk, node: Node, given):
    sizes = [size_of(s) for s in node.inputs]
    starts = np.cumsum([0, *sizes])
    ids = [numbered(s.shape) + start for s, start in zip(node.inputs, starts, strict=False)]
    whole = walk.one_after_another(given, sizes)
    return walk.take(whole, np.concatenate(ids, node.attrs[0]).ravel(), sum(sizes))


def _reduction(walk: Walk, node: Node, given):
    return walk.put(given[0], _along(node.inputs[0].shape, node.attrs[0]), size_of(node))


def _along(shape, dims) -> np.ndarray:
    """For each element of an array of `shape` the number of its place once `dims` are reduced."""
    kept = [1 if d in dims else n for d, n in enumerate(shape)]
    return np.broadcast_to(numbered(kept), shape).ravel()


def _mixed(walk: Walk, p, shape, dims):
    """`p` of an array of `shape`, all elements along `dims` united."""
    places = _along(shape, dims)
    count = int(places.max(initial=-1)) + 1
    return walk.take(walk.put(p, places, count), places, count)


def _contraction(walk: Walk, node: Node, given):
    *specs, spec_out = node.attrs
    parts = []
    for source, p, spec in zip(node.inputs, given, specs, strict=True):
        if p is None:
            continue
        dropped = [d for d, label in enumerate(spec) if label not in spec_out]
        kept = [label for label in spec if label in spec_out]
        shape = [source.shape[spec.index(label)] for label in kept]
        p = walk.put(p, _along(source.shape, dropped), numel(shape))
        ids = numbered(shape).transpose([kept.index(k) for k in spec_out if k in kept])
        at = tuple(slice(None) if label in kept else None for label in spec_out)
        parts.append(walk.take(p, np.broadcast_to(ids[at], node.shape).ravel(), numel(shape)))
    return walk.union(parts, size_of(node))


def _window(walk: Walk, node: Node, given):
    """A convolution: image and result are linked by windows, either is linked to a filter as a whole."""
    target, stride, dilation, _, padding = node.attrs
    roles, letters = OPERANDS[target], ROLES[target]
    parts = []
    for source, p, role in zip(node.inputs, given, roles, strict=True):
        if p is None:
            continue
        own, linked = ROLES[role], "filter" not in (role, target)
        kept = [d for d, letter in enumerate(own) if letter in letters]
        kept += range(3, len(source.shape)) if linked else ()
        shape = [source.shape[d] for d in kept]
        dropped = [d for d in range(len(source.shape)) if d not in kept]
        p = walk.put(p, _along(source.shape, dropped), numel(shape))
        ids = numbered(shape)[tuple(slice(None) if a in own else None for a in letters)]
        if linked:
            taps = node.inputs[roles.index("filter")].shape[3:]
            geometry = (source.shape[3:], node.shape[3:], stride, dilation, padding)
            seen = [_seen(ids, tap, target, *geometry) for tap in np.ndindex(*taps)]
        else:
            seen = [ids.reshape(*ids.shape[:3], *(1,) * len(stride))]
        for found in seen:
            ids = np.broadcast_to(found, node.shape).ravel()
            parts.append(walk.take(p, ids, numel(shape)))
    return walk.union(parts, size_of(node))


def _seen(ids, tap, target, have, want, stride, dilation, padding) -> np.ndarray:
    """What each element of an image or a result meets in the other through one of the filter; or -1."""
    for dim, (k, n, m, s, d, before) in enumerate(
        zip(tap, have, want, stride, dilation, padding, strict=True), 3
    ):
        if target == "result":
            at = np.arange(m) * s + k * d - before
            there = (at >= 0) & (at < n)
        else:
            far = np.arange(m) + before - k * d
            at = far // s
            there = (far % s == 0) & (at >= 0) & (at < n)
        wide = there.reshape(-1, *(1,) * (ids.ndim - dim - 1))
        ids = np.where(wide, np.take(ids, np.clip(at, 0, n - 1), dim), -1)
    return ids


def _scan(walk: Walk, node: Node, given):
    """Each element depends on those before it along a dimension (after it if reverse), and on itself."""
    dim, reverse = node.attrs
    shape, size = node.shape, size_of(node)
    p = walk.union(given, size)
    length = shape[dim] if shape else 1
    copies = p.shape[0] // max(1, size)
    if size * length * copies > SCAN_LIMIT:
        return _mixed(walk, p, shape, (dim,))
    ids = np.moveaxis(numbered(shape), dim, -1).reshape(-1, length) if shape else numbered((1, 1))
    later, earlier = np.tril_indices(length)
    if reverse:
        later, earlier = earlier, later
    start = np.arange(copies)[:, None, None] * size
    places = ids[:, later] + start, ids[:, earlier] + start
    return walk.matrix(*places, (p.shape[0], p.shape[0])) @ p


def _sort(walk: Walk, node: Node, given):
    return _mixed(walk, given[0], node.inputs[0].shape, (node.attrs[0],)), None


def _index(walk: Walk, node: Node, given):
    source, dims = node.inputs[0], node.attrs[0]
    ids = walk.numbers(
        lambda *indices: node.op.numpy((numbered(source.shape), *indices), dims), node.inputs[1:]
    )
    if ids is not None:
        return walk.take(given[0], ids, size_of(source))
    kept = numbered([n for d, n in enumerate(source.shape) if d not in dims])
    p = walk.put(given[0], _along(source.shape, dims), kept.size)
    at = (slice(None),) * dims[0] + (None,) * len(node.inputs[1].shape)
    return walk.take(p, np.broadcast_to(kept[at], node.shape).ravel(), kept.size)


def _gather(walk: Walk, node: Node, given):
    (source, index), dim = node.inputs, node.attrs[0]
    ids = walk.numbers(lambda i: node.op.numpy(numbered(source.shape), i, dim), [index])
    p = given[0]
    if ids is None:
        p = _mixed(walk, p, source.shape, (dim,))
        zeros = np.zeros(index.shape, int)
        ids = node.op.numpy(numbered(source.shape), zeros, dim).ravel()
    return walk.take(p, ids, size_of(source))


def _written(walk: Walk, node: Node, given, places: np.ndarray, keeps: bool):
    """The base with the source written (added if `keeps`) at the elements numbered `places`."""
    base, source = given[:2]
    count = size_of(node)
    if base is not None and not keeps:
        ids = np.tile(np.arange(count), (*places.shape[:-1], 1))
        np.put_along_axis(ids, places.reshape(*ids.shape[:-1], -1), -1, -1)
        base = walk.take(base, ids.reshape(*places.shape[:-1], count), count)
    return walk.union([base, walk.put(source, places, count)], count)


def _index_put(walk: Walk, node: Node, given):
    dims, accumulate = node.attrs
    numbers = REGISTRY["index"].numpy
    places = walk.numbers(lambda *i: numbers((numbered(node.shape), *i), dims), node.inputs[2:])
    if places is None:
        return _everything(walk, node, given)
    return _written(walk, node, given, places, accumulate)


def _scatter(walk: Walk, node: Node, given):
    dim, reduce = node.attrs
    numbers = REGISTRY["gather"].numpy
    places = walk.numbers(lambda i: numbers(numbered(node.shape), i, dim), node.inputs[2:])
    if places is None:
        return _everything(walk, node, given)
    return _written(walk, node, given, places, reduce != "set")


def _view_scatter(walk: Walk, node: Node, given):
    view, attrs = node.attrs
    places = REGISTRY[view].numpy(numbered(node.shape), *attrs).ravel()
    return _written(walk, node, given, places, False)


def _matrices(walk: Walk, node: Node, given):
    """Operations on the last two dimensions: the matrices of a batch don't mix."""
    count = numel(node.inputs[0].shape[:-2])
    rows = []
    for source, p in zip(node.inputs, given, strict=True):
        size = size_of(source)
        rows.append(walk.put(p, np.arange(size) * count // max(1, size), count))
    return _outputs(walk, node, walk.union(rows, count), count)


# -- loops and branches ---------------------------------------------------------------------------


def _loop(walk: Walk, node: Node, given):
    """A scan of known length: all iterations of a map at once, else one by one while that is cheap."""
    body, carries, xs, length, reverse, dynamic = node.attrs
    if dynamic or (carries and length * len(body.order) > UNROLL_LIMIT):
        return _everything(walk, node, given)
    parts = [(p, walk.value(s), s) for p, s in zip(given, node.inputs, strict=True)]
    if not carries and walk.copies == 1:
        return _map(walk, body, parts[:xs], parts[xs:], length)
    state = [(p, v) for p, v, _ in parts[:carries]]
    fixed = [(p, v) for p, v, _ in parts[carries + xs :]]
    histories: list[list] = [[None] * length for _ in range(carries)]
    stacks: list[list] = [[None] * length for _ in body.outputs[carries:]]
    for t in reversed(range(length)) if reverse else range(length):
        for history, (p, _) in zip(histories, state, strict=True):
            history[t] = p
        rows = [_row(walk, *part, t) for part in parts[carries : carries + xs]]
        found = _inside(walk, body, [*state, *rows, *fixed])
        state = [(p, None) for p in found[:carries]]
        for stack, p in zip(stacks, found[carries:], strict=True):
            stack[t] = p
    columns = [
        walk.one_after_another(stack, [numel(shape)] * length) if any(_there(stack)) else None
        for stack, shape in zip([*histories, *stacks], body.shapes, strict=True)
    ]
    return (*[p for p, _ in state], *columns)


def _there(stack):
    return [p is not None for p in stack]


def _row(walk: Walk, p, value, node: Node, t: int):
    size = numel(node.shape[1:])
    p = walk.take(p, np.arange(t * size, (t + 1) * size), size_of(node))
    if value is None:
        return p, None
    array, own = value
    return p, (array[:, t] if own else array[t], own)


def _map(walk: Walk, body: Graph, rows, fixed, length: int):
    """Iterations that depend on nothing of one another are copies of one graph."""
    if not length:
        return tuple([None] * len(body.outputs))
    given = [(p, None if v is None else (v[0], True)) for p, v, _ in rows]
    found = _inside(walk, body, [*given, *[(p, v) for p, v, _ in fixed]], length)
    return tuple(
        None if p is None else _all(p, length, numel(shape))
        for p, shape in zip(found, body.shapes, strict=True)
    )


def _all(p, copies: int, size: int):
    return p if p.shape[0] == copies * size else p[np.tile(np.arange(size), copies)]


def _inside(walk: Walk, graph: Graph, parts, copies: int | None = None) -> list:
    """Patterns of the outputs of `graph`, given (pattern, value) of each of its inputs."""
    inner = Walk(walk.columns, copies or walk.copies)
    inputs = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(graph.inputs)]
    for node, (p, value) in zip(inputs, parts, strict=True):
        inner.give(node, p, value)
    return inner.through(inline(graph, inputs))


def _branches(walk: Walk, node: Node, given):
    """The union of all branches; the chosen one alone if the index is known."""
    (graphs,) = node.attrs
    index = walk.value(node.inputs[0])
    if index is not None and not index[1]:
        graphs = (graphs[min(max(int(index[0]), 0), len(graphs) - 1)],)
    parts = [(p, walk.value(s)) for p, s in zip(given[1:], node.inputs[1:], strict=True)]
    found = [_inside(walk, graph, parts) for graph in graphs]
    return tuple(
        walk.union(column, numel(shape))
        for column, shape in zip(zip(*found, strict=True), graphs[0].shapes, strict=True)
    )


_BY_KIND = {
    "elementwise": _elementwise,
    "alias": _first,
    "fence": _first,
    "movement": _movement,
    "pad": _pad,
    "cat": _cat,
    "reduction": _reduction,
    "contraction": _contraction,
    "window": _window,
    "scan": _scan,
    "view_scatter": _view_scatter,
    "loop": _loop,
    "branch": _branches,
}
_BY_NAME = {
    "overwrite": _second,
    "index": _index,
    "gather": _gather,
    "index_put": _index_put,
    "scatter": _scatter,
    "recurrence": _scan,
    "sort": _sort,
    **dict.fromkeys(
        (
            *("inv", "det", "cofactor", "slogdet", "solve", "solve_triangular", "cholesky", "qr"),
            *("qr_complete", "eigh", "svd", "pinv", "matrix_exp"),
        ),
        _matrices,
    ),
}
