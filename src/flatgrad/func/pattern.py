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

from ..graph.node import PROJ, Graph, Node, leaf
from ..graph.op import REGISTRY, Exact
from ..graph.shapes import numel
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
    from scipy import sparse

    opened = inline(Graph(tuple(inputs), tuple(outputs)), inputs)
    walk = Walk(inputs)
    walk.through(Graph(tuple(inputs), tuple(opened)).order)
    blocks = []
    for node in opened:
        p = walk.patterns.get(node)
        blocks.append(walk.empty(numel(node.shape)) if p is None else p)
    whole = sparse.csr_array(sparse.vstack(blocks, format="csr"))
    whole.sort_indices()
    return whole


class Walk:
    """Patterns of the nodes of one graph.

    Attributes
    ----------
    patterns : dict of Node to (csr_array, None, or a tuple of them for a node of several outputs)
    unknown : set of Node
        Those whose values depend on the inputs.
    """

    def __init__(self, inputs):
        from scipy import sparse

        self.sparse = sparse
        self.patterns: dict = {}
        self.unknown: set[Node] = set(inputs)
        self.columns = sum(numel(n.shape) for n in inputs)
        start = 0
        for node in inputs:
            size = numel(node.shape)
            if node.dtype.is_differentiable:
                self.patterns[node] = self.matrix(
                    np.arange(size), np.arange(start, start + size), (size, self.columns)
                )
            start += size

    def through(self, order) -> None:
        """Find the patterns of the nodes of `order`, each after its inputs."""
        for node in order:
            if node in self.unknown:
                continue
            op = node.op
            if node.value is None and (
                op.kind == "input" or any(s in self.unknown for s in node.inputs)
            ):
                self.unknown.add(node)
            if node.value is not None or not op.differentiable:
                continue
            given = [self.patterns.get(s) for s in node.inputs]
            if all(p is None for p in given):
                continue
            if op is PROJ:
                self.patterns[node] = given[0][node.attrs[0]]
                continue
            rule = _BY_NAME.get(op.name) or _BY_KIND.get(op.kind) or _everything
            self.patterns[node] = rule(self, node, given)

    # -- matrices ---------------------------------------------------------------------------------

    def matrix(self, rows, columns, shape):
        """A boolean matrix that is True at the given places."""
        rows, columns = np.ravel(rows), np.ravel(columns)
        found = self.sparse.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)
        found.sum_duplicates()
        return found

    def empty(self, rows: int):
        return self.sparse.csr_array((rows, self.columns), dtype=bool)

    def take(self, p, ids: np.ndarray):
        """The rows of `p` that `ids` names, in that order; -1 names an empty one."""
        if p is None:
            return None
        ids = np.ravel(ids)
        if len(ids) == p.shape[0] and np.array_equal(ids, np.arange(len(ids))):
            return p
        if ids.size and ids.min() < 0:
            here = np.flatnonzero(ids >= 0)
            return self.put(self.take(p, ids[here]), here, len(ids))
        return p[ids]

    def put(self, p, places: np.ndarray, count: int):
        """`count` rows; row ``places[k]`` unites all rows k of `p` with that place."""
        if p is None:
            return None
        places = np.ravel(places)
        return self.matrix(places, np.arange(len(places)), (count, len(places))) @ p

    def union(self, parts):
        """The union of patterns of one shape."""
        found = None
        for p in parts:
            if p is not None and p is not found:
                found = p if found is None else found + p
        return found

    def value(self, node: Node) -> np.ndarray | None:
        """The value of `node` if it does not depend on the inputs."""
        if node in self.unknown:
            return None
        late.evaluate([node])
        return node.value


def numbered(shape) -> np.ndarray:
    """The numbers of the elements of an array of that shape."""
    return np.arange(numel(shape)).reshape(shape)


# -- rules: rule(walk, node, patterns of its inputs) -> pattern -----------------------------------


def _everything(walk: Walk, node: Node, given):
    """Each element of each output depends on all that the inputs depend on."""
    row = walk.union([_one_row(walk, p) for p in given])
    if node.op.outputs == 1:
        return walk.take(row, np.zeros(numel(node.shape), int))
    return tuple(
        walk.take(row, np.zeros(numel(shape), int)) if dtype.is_differentiable else None
        for shape, dtype in zip(node.shape, node.dtype, strict=True)
    )


def _one_row(walk: Walk, p):
    if type(p) is tuple:
        return walk.union([_one_row(walk, q) for q in p])
    return None if p is None else walk.put(p, np.zeros(p.shape[0], int), 1)


def _elementwise(walk: Walk, node: Node, given):
    parts = []
    for source, p in zip(node.inputs, given, strict=True):
        if p is not None and source.shape != node.shape:
            p = walk.take(p, np.broadcast_to(numbered(source.shape), node.shape))
        parts.append(p)
    return walk.union(parts)


def _alias(walk: Walk, node: Node, given):
    size = numel(node.shape)
    return walk.union([p for p in given if p is not None and p.shape[0] == size])


def _movement(walk: Walk, node: Node, given):
    return walk.take(given[0], node.op.numpy(numbered(node.inputs[0].shape), *node.attrs))


def _pad(walk: Walk, node: Node, given):
    low, high, _ = node.attrs
    ids = node.op.numpy(numbered(node.inputs[0].shape), low, high, Exact(-1))
    return walk.take(given[0], ids)


def _cat(walk: Walk, node: Node, given):
    ids = [numbered(s.shape) for s in node.inputs]
    parts, start = [], 0
    for source, p in zip(node.inputs, given, strict=True):
        size = numel(source.shape)
        parts.append(walk.empty(size) if p is None else p)
        ids[len(parts) - 1] += start
        start += size
    whole = walk.sparse.vstack(parts, format="csr")
    return walk.take(walk.sparse.csr_array(whole), np.concatenate(ids, node.attrs[0]))


def _reduction(walk: Walk, node: Node, given):
    shape, dims = node.inputs[0].shape, node.attrs[0]
    return walk.put(given[0], _along(shape, dims), numel(node.shape))


def _along(shape, dims) -> np.ndarray:
    """For each element of an array of `shape` the number of its place once `dims` are reduced."""
    kept = [1 if d in dims else n for d, n in enumerate(shape)]
    return np.broadcast_to(numbered(kept), shape)


def _mixed(walk: Walk, p, shape, dims):
    """`p` of an array of `shape`, all elements along `dims` united."""
    if p is None:
        return None
    places = _along(shape, dims)
    count = int(places.max()) + 1 if places.size else 0
    return walk.take(walk.put(p, places, count), places)


def _contraction(walk: Walk, node: Node, given):
    *specs, spec_out = node.attrs
    parts = []
    for source, p, spec in zip(node.inputs, given, specs, strict=True):
        if p is None:
            continue
        dropped = [d for d, label in enumerate(spec) if label not in spec_out]
        places = _along(source.shape, dropped)
        kept = [label for label in spec if label in spec_out]
        shape = [source.shape[spec.index(label)] for label in kept]
        p = walk.put(p, places, numel(shape))
        ids = numbered(shape).transpose([kept.index(k) for k in spec_out if k in kept])
        at = tuple(slice(None) if label in kept else None for label in spec_out)
        parts.append(walk.take(p, np.broadcast_to(ids[at], node.shape)))
    return walk.union(parts)


def _scan(walk: Walk, node: Node, given):
    dim, reverse = node.attrs
    return walk.union([_running(walk, p, node.shape, dim, reverse) for p in given])


def _running(walk: Walk, p, shape, dim: int, reverse: bool):
    """Each element depends on those before it along `dim` (after it if `reverse`), and on itself."""
    if p is None:
        return None
    size = numel(shape)
    length = shape[dim] if shape else 1
    if size * length > SCAN_LIMIT:
        return _mixed(walk, p, shape, (dim,))
    ids = np.moveaxis(numbered(shape), dim, -1).reshape(-1, length) if shape else numbered((1, 1))
    later, earlier = np.tril_indices(length)
    if reverse:
        later, earlier = earlier, later
    return walk.matrix(ids[:, later], ids[:, earlier], (size, size)) @ p


def _sort(walk: Walk, node: Node, given):
    return _mixed(walk, given[0], node.inputs[0].shape, (node.attrs[0],)), None


def _index(walk: Walk, node: Node, given):
    source, dims = node.inputs[0], node.attrs[0]
    indices = [walk.value(s) for s in node.inputs[1:]]
    if all(i is not None for i in indices):
        return walk.take(given[0], node.op.numpy((numbered(source.shape), *indices), dims))
    places = _along(source.shape, dims)
    p = walk.put(given[0], places, numel(source.shape) // max(1, _size(source.shape, dims)))
    first = dims[0]
    kept = numbered([n for d, n in enumerate(source.shape) if d not in dims])
    at = (slice(None),) * first + (None,) * len(node.inputs[1].shape)
    return walk.take(p, np.broadcast_to(kept[at], node.shape))


def _size(shape, dims) -> int:
    return numel([shape[d] for d in dims])


def _gather(walk: Walk, node: Node, given):
    source, dim = node.inputs[0], node.attrs[0]
    index = walk.value(node.inputs[1])
    if index is not None:
        return walk.take(given[0], node.op.numpy(numbered(source.shape), index, dim))
    anywhere = _mixed(walk, given[0], source.shape, (dim,))
    zeros = np.zeros(node.inputs[1].shape, int)
    return walk.take(anywhere, node.op.numpy(numbered(source.shape), zeros, dim))


def _written(walk: Walk, node: Node, base, source, places, keeps: bool):
    """`base` with `source` written (added if `keeps`) at the elements numbered `places`."""
    count = numel(node.shape)
    if base is not None and not keeps:
        ids = np.arange(count)
        ids[np.ravel(places)] = -1
        base = walk.take(base, ids)
    return walk.union([base, walk.put(source, places, count)])


def _index_put(walk: Walk, node: Node, given):
    dims, accumulate = node.attrs
    indices = [walk.value(s) for s in node.inputs[2:]]
    if any(i is None for i in indices):
        return _everything(walk, node, given)
    places = REGISTRY["index"].numpy((numbered(node.shape), *indices), dims)
    return _written(walk, node, given[0], given[1], places, accumulate)


def _scatter(walk: Walk, node: Node, given):
    dim, reduce = node.attrs
    index = walk.value(node.inputs[2])
    if index is None:
        return _everything(walk, node, given)
    places = REGISTRY["gather"].numpy(numbered(node.shape), index, dim)
    return _written(walk, node, given[0], given[1], places, reduce != "set")


def _view_scatter(walk: Walk, node: Node, given):
    view, attrs = node.attrs
    places = REGISTRY[view].numpy(numbered(node.shape), *attrs)
    return _written(walk, node, given[0], given[1], places, False)


def _matrices(walk: Walk, node: Node, given):
    """Operations on the last two dimensions: the matrices of a batch don't mix."""
    batch = node.inputs[0].shape[:-2]
    count = numel(batch)
    row = walk.union(
        [
            walk.put(p, np.arange(numel(s.shape)) * count // max(1, numel(s.shape)), count)
            for s, p in zip(node.inputs, given, strict=True)
            if p is not None
        ]
    )
    single = node.op.outputs == 1
    shapes = (node.shape,) if single else node.shape
    parts = tuple(
        walk.take(row, np.arange(numel(shape)) * count // max(1, numel(shape))) for shape in shapes
    )
    return parts[0] if single else parts


# -- loops and branches ---------------------------------------------------------------------------


def _loop(walk: Walk, node: Node, given):
    """A scan of known length, unrolled for as long as that is cheap."""
    body, carries, xs, length, reverse, dynamic = node.attrs
    if dynamic or length * len(body.order) > UNROLL_LIMIT:
        return _everything(walk, node, given)
    parts = [_Part(p, s) for p, s in zip(given, node.inputs, strict=True)]
    state, rows, fixed = parts[:carries], parts[carries : carries + xs], parts[carries + xs :]
    histories: list[list] = [[None] * length for _ in range(carries)]
    stacks: list[list] = [[None] * length for _ in body.outputs[carries:]]
    for t in reversed(range(length)) if reverse else range(length):
        for history, part in zip(histories, state, strict=True):
            history[t] = part.pattern
        step = [*state, *[r.row(walk, t) for r in rows], *fixed]
        found = _inside(walk, body, step)
        state = [_Part(p, None, True) for p in found[:carries]]
        for stack, p in zip(stacks, found[carries:], strict=True):
            stack[t] = p
    columns = [
        _stacked(walk, stack, shape)
        for stack, shape in zip([*histories, *stacks], body.shapes, strict=True)
    ]
    return (*[part.pattern for part in state], *columns)


class _Part:
    """What a sub-graph gets for one of its inputs: a pattern, and the node if its value is known."""

    def __init__(self, pattern, node: Node | None, unknown: bool = False):
        self.pattern, self.node, self.unknown = pattern, node, unknown
        self.at: int | None = None

    def row(self, walk: Walk, t: int) -> _Part:
        size = numel(self.node.shape[1:])
        ids = np.arange(t * size, (t + 1) * size)
        part = _Part(walk.take(self.pattern, ids), self.node)
        part.at = t
        return part

    def value(self, walk: Walk) -> np.ndarray | None:
        if self.unknown or self.node is None:
            return None
        value = walk.value(self.node)
        return value if value is None or self.at is None else value[self.at]


def _inside(walk: Walk, graph: Graph, parts) -> list:
    """Patterns of the outputs of `graph`, given those of its inputs."""
    inner = Walk(())
    inner.columns = walk.columns
    known = []
    for node, part in zip(graph.inputs, parts, strict=True):
        value = part.value(walk)
        if value is not None and part.pattern is None:
            known.append(leaf(np.asarray(value), node.dtype))
            continue
        known.append(node)
        inner.unknown.add(node)
        if part.pattern is not None:
            inner.patterns[node] = part.pattern
    outputs = inline(graph, known)
    inner.through(Graph(tuple(known), tuple(outputs)).order)
    return [inner.patterns.get(n) for n in outputs]


def _stacked(walk: Walk, rows, shape):
    if all(p is None for p in rows):
        return None
    size = numel(shape)
    whole = walk.sparse.vstack([walk.empty(size) if p is None else p for p in rows], format="csr")
    return walk.sparse.csr_array(whole)


def _branches(walk: Walk, node: Node, given):
    """The union of all branches; the chosen one alone if the index is known."""
    (graphs,) = node.attrs
    index = walk.value(node.inputs[0])
    if index is not None:
        graphs = (graphs[min(max(int(index), 0), len(graphs) - 1)],)
    parts = [_Part(p, s) for p, s in zip(given[1:], node.inputs[1:], strict=True)]
    found = [_inside(walk, graph, parts) for graph in graphs]
    return tuple(walk.union(column) for column in zip(*found, strict=True))


_BY_KIND = {
    "elementwise": _elementwise,
    "alias": _alias,
    "movement": _movement,
    "pad": _pad,
    "cat": _cat,
    "reduction": _reduction,
    "contraction": _contraction,
    "scan": _scan,
    "view_scatter": _view_scatter,
    "loop": _loop,
    "branch": _branches,
}
_BY_NAME = {
    "overwrite": lambda walk, node, given: given[1],
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
