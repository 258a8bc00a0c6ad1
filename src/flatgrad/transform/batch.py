"""Batching: a graph in, the graph of many items at once out. The third transform, beside both derivatives.

``batched(graph, flags, size)`` takes a closed graph and says which of its inputs are batched; a batched
value has the items along a new first dimension, an unbatched one is the same for all items and is
computed once. There is one rule a *kind* of operation, most of them a shift of the dimensions that its
attributes name; an operation without a rule runs item by item, in a loop of the program.

A rule gets ``(node, values, flags, size)``: the node that is batched, its inputs as tensors, which of them
are batched (at least one), and returns the batched result, or a tuple of them with their flags.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from ..graph.node import CONST, PROJ, Graph, Node, placeholder
from ..graph.op import Op, op_named
from ..ops.convolution import OPERANDS, ROLES
from ..ops.creation import iota
from ..ops.movement import permute, reshape
from ..ops.views import movedim
from ..tensor import Tensor, make, node_of, outputs_of, record, wrap
from .call import derived
from .trace import close, intern, quiet

__all__ = ["RULES", "batched", "everywhere", "to_front"]


class Batched:
    """A batched graph: which of its outputs are batched, and what else it takes, as tensors."""

    def __init__(self, graph: Graph, flags: tuple, extra: list):
        self.graph, self.flags, self.extra = graph, flags, extra


def batched(graph: Graph, flags: tuple, size: int) -> Batched:
    """`graph` for `size` items that differ in the flagged inputs. Kept as long as `graph` lives."""
    return derived(graph, _batch, tuple(flags), size)


def _batch(graph: Graph, flags: tuple, size: int) -> Batched:
    with quiet():
        inputs = [
            placeholder(k, (size, *n.shape) if flag else n.shape, n.dtype)
            for k, (n, flag) in enumerate(zip(graph.inputs, flags, strict=True))
        ]
        known = {n: (wrap(i), flag) for n, i, flag in zip(graph.inputs, inputs, flags, strict=True)}
        for node in graph.order:
            if node not in known:
                known[node] = batch_node(node, known, size)
        results = [known[n] for n in graph.outputs]
        made, captured = close(inputs, [node_of(t) for t, _ in results], graph.name)
    return Batched(intern(made), tuple([f for _, f in results]), [wrap(n) for n in captured])


def batch_node(node: Node, known: dict, size: int):
    """``(tensor, batched?)`` of a node whose inputs are known; pairs of tuples if it has several outputs."""
    if node.op is CONST or node.value is not None or not node.inputs:
        return wrap(node), False
    if node.op is PROJ:
        values, flags = known[node.inputs[0]]
        return values[node.attrs[0]], flags[node.attrs[0]]
    values, flags = zip(*[known[s] for s in node.inputs], strict=True)
    if not any(flags):
        return _as_it_is(node, values)
    found = rule_of(node.op)(node, values, flags, size)
    if node.op.outputs == 1 and type(found) is not tuple:
        return found, True
    return found


def rule_of(op: Op):
    """How a batched node of `op` is recorded."""
    from .batch_control import CONTROL

    return CONTROL.get(op.kind) or RULES.get(op.name) or RULES.get(op.kind) or item_by_item


def _as_it_is(node: Node, values):
    """The node over inputs that are the same for all items."""
    nodes = tuple([node_of(t) for t in values])
    made = make(node.op, nodes, node.attrs, node.shape, node.dtype)
    if node.op.outputs == 1:
        return made, False
    outs = outputs_of(made._node)
    return outs, (False,) * len(outs)


# -- shapes ---------------------------------------------------------------------------------------


def shape_of(t: Tensor) -> tuple:
    return node_of(t).shape


def everywhere(t: Tensor, flag: bool, size: int) -> Tensor:
    """`t` with the items along its first dimension, repeated if it is the same for all."""
    if flag:
        return t
    shape = shape_of(t)
    return record(op_named("expand"), (reshape(t, (1, *shape)),), ((size, *shape),))


def all_everywhere(values, flags, size: int) -> list[Tensor]:
    return [everywhere(t, f, size) for t, f in zip(values, flags, strict=True)]


def to_front(t: Tensor, dim: int) -> Tensor:
    """`t` with dimension `dim` first."""
    return t if dim == 0 else movedim(t, dim, 0)


def _stretched(t: Tensor, flag: bool, rank: int) -> Tensor:
    """A batched operand of lower rank, with 1-dimensions after the items' so that it broadcasts."""
    shape = shape_of(t)
    if not flag or len(shape) - 1 == rank:
        return t
    return reshape(t, (shape[0], *(1,) * (rank - len(shape) + 1), *shape[1:]))


# -- rules of kinds -------------------------------------------------------------------------------


def _elementwise(node, values, flags, size):
    rank = len(node.shape)
    nodes = [node_of(_stretched(t, f, rank)) for t, f in zip(values, flags, strict=True)]
    return make(node.op, tuple(nodes), node.attrs, (size, *node.shape), node.dtype)


# Movement primitives: attributes for one dimension more in front of an operand of this shape.
SHIFTED = {
    "reshape": lambda size, shape: ((size, *shape),),
    "permute": lambda size, dims: ((0, *[d + 1 for d in dims]),),
    "expand": lambda size, shape: ((size, *shape),),
    "slice": lambda size, starts, steps, shape: ((0, *starts), (1, *steps), (size, *shape)),
    "diagonal": lambda size, offset, dim1, dim2: (offset, dim1 + 1, dim2 + 1),
    "unfold": lambda size, dim, width, step: (dim + 1, width, step),
    "roll": lambda size, shifts: ((0, *shifts),),
}


def _movement(node, values, flags, size):
    t = values[0]
    if node.op.name == "expand":
        t = _stretched(t, True, len(node.shape))
    return record(node.op, (t,), SHIFTED[node.op.name](size, *node.attrs))


def _view_scatter(node, values, flags, size):
    view, attrs = node.attrs
    shifted = SHIFTED[view](size, *attrs)
    return record(node.op, tuple(all_everywhere(values, flags, size)), (view, shifted))


def _reduction(node, values, flags, size):
    return record(node.op, values, (tuple([d + 1 for d in node.attrs[0]]),))


def _contraction(node, values, flags, size):
    spec_a, spec_b, spec_out = node.attrs
    item = max([*spec_a, *spec_b, -1]) + 1
    specs = [(item, *s) if f else s for s, f in zip((spec_a, spec_b), flags, strict=True)]
    return record(node.op, values, (*specs, (item, *spec_out)))


def _window(node, values, flags, size):
    """The items become part of a dimension that the batched operands and the result share alone."""
    target = node.attrs[0]
    roles = [ROLES[r] for r in OPERANDS[target]]
    if all(flags):
        letter = "G"
    else:
        (other,) = [role for role, flag in zip(roles, flags, strict=True) if not flag]
        (letter,) = {"N", "O", "C"} - set(other)
    merged = [
        _merged(t, role.index(letter)) if flag else t
        for t, role, flag in zip(values, roles, flags, strict=True)
    ]
    made = record(node.op, tuple(merged), node.attrs)
    at = ROLES[target].index(letter)
    shape = node.shape
    return to_front(reshape(made, (*shape[:at], size, *shape[at:])), at)


def _merged(t: Tensor, dim: int) -> Tensor:
    """`t`, whose items are in front, with the items and its own dimension `dim` as one."""
    shape = shape_of(t)
    own = shape[1:]
    whole = (*own[:dim], shape[0] * own[dim], *own[dim + 1 :])
    return reshape(movedim(t, 0, dim) if dim else t, whole)


def _along(node, values, flags, size):
    """Operations whose attribute ``dim`` is a dimension of operands of one shape."""
    attrs = tuple(
        [a + 1 if name == "dim" else a for name, a in zip(node.op.attrs, node.attrs, strict=True)]
    )
    whole = tuple(all_everywhere(values, flags, size))
    if node.op.outputs == 1:
        return record(node.op, whole, attrs)
    outs = outputs_of(record(node.op, whole, attrs)._node)
    return outs, (True,) * len(outs)


def _pad(node, values, flags, size):
    low, high, fill = node.attrs
    return record(node.op, values, ((0, *low), (0, *high), fill))


def _same_attributes(node, values, flags, size):
    """Operations that treat what stands before their last dimensions as items already."""
    whole = tuple(all_everywhere(values, flags, size))
    if node.op.outputs == 1:
        return record(node.op, whole, node.attrs)
    outs = outputs_of(record(node.op, whole, node.attrs)._node)
    return outs, (True,) * len(outs)


def _fence(node, values, flags, size):
    return record(node.op, values, ()), flags[0]


# -- reading and writing at indices ---------------------------------------------------------------


def _places(indices, flags, size: int) -> list[Tensor]:
    """Index tensors with the items in front, after one that says which item."""
    whole = all_everywhere(indices, flags, size)
    return [iota(shape_of(whole[0]), 0), *whole]


def _front_order(rank: int, dims) -> list[int]:
    """The order of an array's dimensions (items first) that puts the indexed ones after the items'."""
    indexed = [d + 1 for d in dims]
    return [0, *indexed, *[k for k in range(1, rank) if k not in indexed]]


def _inverse(order) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _index(node, values, flags, size):
    (dims,) = node.attrs
    x, indices = values[0], values[1:]
    if not any(flags[1:]):
        return record(node.op, values, (tuple([d + 1 for d in dims]),))
    lead, inner = dims[0], len(shape_of(indices[0])) - flags[1]
    if not flags[0]:
        whole = all_everywhere(indices, flags[1:], size)
        return to_front(record(node.op, (x, *whole), (dims,)), lead)
    x = permute(x, _front_order(len(shape_of(x)), dims))
    places = _places(indices, flags[1:], size)
    found = record(node.op, (x, *places), (tuple(range(len(dims) + 1)),))
    return _after_lead(found, inner, lead)


def _after_lead(t: Tensor, inner: int, lead: int) -> Tensor:
    """``(items, inner dims, lead dims, rest)`` as ``(items, lead dims, inner dims, rest)``."""
    rank = len(shape_of(t))
    order = [0, *range(1 + inner, 1 + inner + lead), *range(1, 1 + inner)]
    return permute(t, [*order, *range(1 + inner + lead, rank)])


def _index_put(node, values, flags, size):
    dims, accumulate = node.attrs
    base, source = all_everywhere(values[:2], flags[:2], size)
    indices = values[2:]
    if not any(flags[2:]):
        shifted = tuple([d + 1 for d in dims])
        return record(node.op, (base, source, *indices), (shifted, accumulate))
    order = _front_order(len(shape_of(base)), dims)
    places = _places(indices, flags[2:], size)
    lead, inner = dims[0], len(shape_of(places[0])) - 1
    rank = len(shape_of(source))
    turned = [0, *range(1 + lead, 1 + lead + inner), *range(1, 1 + lead)]
    source = permute(source, [*turned, *range(1 + lead + inner, rank)])
    attrs = (tuple(range(len(dims) + 1)), accumulate)
    found = record(node.op, (permute(base, order), source, *places), attrs)
    return permute(found, _inverse(order))


# -- sub-graphs -----------------------------------------------------------------------------------


def _call(node, values, flags, size):
    inner = batched(node.attrs[0], flags, size)
    nodes = tuple([node_of(t) for t in (*values, *inner.extra)])
    graph = inner.graph
    outs = outputs_of(make(node.op, nodes, (graph,), graph.shapes, graph.dtypes)._node)
    return outs, inner.flags


def _custom(node, values, flags, size):
    raise UnsupportedError(
        "vmap: an autograd.Function has a derivative of its own, which says nothing of several items at "
        "once; write it with flatgrad's operations, or call it item by item in a Python loop"
    )


def item_by_item(node, values, flags, size):
    """Any operation: a loop over the items."""
    from .loops import scan_loop

    with quiet():
        given = [placeholder(k, s.shape, s.dtype) for k, s in enumerate(node.inputs)]
        one = Node(node.op, tuple(given), node.attrs, node.shape, node.dtype)
        outs = [wrap(one)] if node.op.outputs == 1 else list(outputs_of(one))
        inputs = [g for g, f in zip(given, flags, strict=True) if f]
        inputs += [g for g, f in zip(given, flags, strict=True) if not f]
        body = intern(Graph(tuple(inputs), tuple([node_of(t) for t in outs])))
    rows = [t for t, f in zip(values, flags, strict=True) if f]
    fixed = [t for t, f in zip(values, flags, strict=True) if not f]
    found = scan_loop(body, [], rows, fixed, size)
    return found[0] if node.op.outputs == 1 else (found, (True,) * len(found))


RULES = {
    "elementwise": _elementwise,
    "movement": _movement,
    "view_scatter": _view_scatter,
    "reduction": _reduction,
    "contraction": _contraction,
    "window": _window,
    "scan": _along,
    "cat": _along,
    "pad": _pad,
    "alias": _same_attributes,
    "fence": _fence,
    "call": _call,
    "custom": _custom,
    # by name, where the kind does not say it
    "index": _index,
    "index_put": _index_put,
    "gather": _along,
    "scatter": _along,
    "implicit": item_by_item,  # each item's solver ends when it ends
    **dict.fromkeys(("sort", "recurrence", "cummax_index", "cummin_index", "mode_index"), _along),
    **dict.fromkeys(
        ("inv", "det", "cofactor", "slogdet", "cholesky", "qr", "qr_complete", "eigh", "svd"),
        _same_attributes,
    ),
    **dict.fromkeys(
        ("solve", "solve_triangular", "pinv", "matrix_exp", "zero_pivot", "indefinite_order"),
        _same_attributes,
    ),
}
