"""Simplification: calls opened, aliases gone, constants folded, equal nodes made one, exact algebra.

A graph is rebuilt from its inputs up through ``Builder.make``, which knows every node it has made; so
common sub-expressions and dead code need no passes of their own. Every rule is exact: it gives
the same bits for every value, NaN and signed zeros included (``x + 0`` is therefore not a rule).
"""

from __future__ import annotations

import threading
import weakref

import numpy as np

from ..graph.node import CONST, PROJ, Graph, Node, const, placeholder
from ..graph.op import op_named
from ..ops.cost import CALL, scalar_cost
from .trace import intern

__all__ = ["Builder", "simplify"]


class Builder:
    """Makes nodes, each only once."""

    def __init__(self):
        self.known: dict = {}
        self.captured: dict[Node, Node] = {}  # arrays that sub-graphs hold -> placeholders

    def make(self, op, inputs: tuple, attrs: tuple, shape, dtype) -> Node:
        """A node for ``op(*inputs)``: an equal one that exists, a simpler one, or a new one."""
        key = (op, inputs, attrs, shape, dtype)
        found = self.known.get(key)
        if found is None:
            found = self._simpler(op, inputs, attrs, shape, dtype)
            if found is None:
                found = Node(op, inputs, attrs, shape, dtype)
            self.known[key] = found
        return found

    def _simpler(self, op, inputs, attrs, shape, dtype) -> Node | None:
        constant = inputs and op.outputs == 1 and all(n.op is CONST for n in inputs)
        if constant and _folds(op, attrs):
            return _fold(op, inputs, attrs, shape, dtype)
        rule = RULES.get(op.name)
        return None if rule is None else rule(self, inputs, attrs, shape, dtype)

    def capture(self, node: Node) -> Node:
        """A placeholder for an array that is part of a sub-graph."""
        found = self.captured.get(node)
        if found is None:
            found = self.captured[node] = placeholder(-1, node.shape, node.dtype)
        return found

    def op(self, name: str, inputs: tuple, attrs: tuple = ()) -> Node:
        op = op_named(name)
        shape, dtype = op.infer(*inputs, *attrs)
        return self.make(op, inputs, attrs, shape, dtype)


# Elementwise operations that are the same everywhere, though they are dear.
EXACT = ("div", "reciprocal", "remainder", "fmod", "floor_divide", "floor_quotient", "sqrt")


def _folds(op, attrs) -> bool:
    """Whether NumPy has the program's own bits: of functions it has last bits that depend on the machine."""
    if op.kind != "elementwise":
        return op.kind == "movement"
    return op.name in EXACT or scalar_cost(op, attrs) < CALL


def _fold(op, inputs, attrs, shape, dtype) -> Node:
    """A function of constants, once for all elements."""
    if op.kind == "movement":
        return const(inputs[0].attrs[0], dtype, shape)
    with np.errstate(all="ignore"):
        cells = [np.asarray(n.attrs[0]).astype(n.dtype.np) for n in inputs]
        value = np.asarray(op.numpy(*cells, *attrs)).astype(dtype.np)
    return const(value.item(), dtype, shape)


def _is_number(node: Node, number) -> bool:
    return node.op is CONST and node.attrs[0] == number


def _same_shape(node: Node, shape) -> Node | None:
    return node if node.shape == shape else None


def _mul(b, inputs, attrs, shape, dtype):
    for x, k in (inputs, inputs[::-1]):
        if _is_number(k, 1):
            return _same_shape(x, shape)
        if _is_number(k, -1) and dtype.category > 0:
            found = _same_shape(x, shape)
            return None if found is None else b.op("neg", (found,))
    return None


def _div(b, inputs, attrs, shape, dtype):
    return _same_shape(inputs[0], shape) if _is_number(inputs[1], 1) else None


def _sub(b, inputs, attrs, shape, dtype):
    k = inputs[1]
    if _is_number(k, 0) and not np.signbit(k.attrs[0]):
        return _same_shape(inputs[0], shape)
    return None


def _neg(b, inputs, attrs, shape, dtype):
    return inputs[0].inputs[0] if inputs[0].op.name == "neg" else None


def _pow(b, inputs, attrs, shape, dtype):
    x, k = inputs
    if x.shape != shape:
        return None
    if _is_number(k, 1):
        return x
    if _is_number(k, 2):
        return b.op("mul", (x, x))
    if _is_number(k, -1) and dtype.is_floating_point:
        return b.op("div", (const(1, dtype), x))
    return None


def _where(b, inputs, attrs, shape, dtype):
    c, x, y = inputs
    if x is y:
        return _same_shape(x, shape)
    if c.op is CONST:
        return _same_shape(x if c.attrs[0] else y, shape)
    return None


def _cast(b, inputs, attrs, shape, dtype):
    return inputs[0] if inputs[0].dtype is dtype else None


def _reshape(b, inputs, attrs, shape, dtype):
    x = inputs[0]
    if x.shape == shape:
        return x
    if x.op.name == "reshape":
        return b.op("reshape", (x.inputs[0],), (shape,))
    return None


def _permute(b, inputs, attrs, shape, dtype):
    x, dims = inputs[0], attrs[0]
    if dims == tuple(range(len(dims))):
        return x
    if x.op.name == "permute":
        return b.op("permute", (x.inputs[0],), (tuple(x.attrs[0][d] for d in dims),))
    return None


def _expand(b, inputs, attrs, shape, dtype):
    x = inputs[0]
    if x.shape == shape:
        return x
    if x.op.name == "expand":
        return b.op("expand", (x.inputs[0],), (shape,))
    return None


def _reduce(b, inputs, attrs, shape, dtype):
    x, dims = inputs[0], attrs[0]
    if dtype is x.dtype and all(x.shape[d] == 1 for d in dims):
        return b.op("reshape", (x,), (shape,))
    return None


def _slice(b, inputs, attrs, shape, dtype):
    starts, steps, _ = attrs
    x = inputs[0]
    if x.shape == shape and not any(starts) and all(k == 1 for k in steps):
        return x
    return None


RULES = {
    "mul": _mul,
    "div": _div,
    "sub": _sub,
    "neg": _neg,
    "pow": _pow,
    "where": _where,
    "cast": _cast,
    "reshape": _reshape,
    "permute": _permute,
    "expand": _expand,
    "slice": _slice,
    "reduce_sum": _reduce,
    "reduce_prod": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
}


def simplify(inputs: tuple[Node, ...], outputs, order, mapping: dict) -> tuple[Graph, list[Node]]:
    """The graph of `outputs` over `inputs`, simplified.

    Parameters
    ----------
    inputs : tuple of Node
        Placeholders.
    outputs : sequence of Node
        A call among them stands for all its outputs.
    order : iterable of Node
        All nodes the outputs need, each after its inputs.
    mapping : dict
        What nodes of `order` are to be replaced by (known ones by placeholders). It is extended.

    Returns
    -------
    (Graph, list of Node)
        The graph, and the nodes with a value that sub-graphs hold: its inputs after `inputs`.
    """
    builder = Builder()
    copy_into(builder, order, mapping)
    holes = (*inputs, *builder.captured.values())
    made: list[Node] = []
    for node in outputs:
        new = mapping[node]
        made.extend(new) if type(new) is tuple else made.append(new)
    return _settled(Graph(holes, tuple(made), "program")), list(builder.captured)


# Tidying loops uncovers equal nodes, and these loops to merge; it ends by itself, in a few rounds.
ROUNDS = 6


def _settled(graph: Graph) -> Graph:
    """`graph` with its loops tidied and simplified again, until nothing changes."""
    from .tidy import tidy

    for _ in range(ROUNDS):
        changed = tidy(graph)
        if changed is graph:
            break
        mapping = {n: n for n in graph.inputs}
        copy_into(Builder(), changed.order, mapping)
        graph = Graph(graph.inputs, tuple([mapping[n] for n in changed.outputs]), graph.name)
    return graph


def copy_into(builder: Builder, order, mapping: dict) -> None:
    """Rebuild the nodes of `order` with `builder`; `mapping` is extended by every node's new self.

    A call's new self is the tuple of its outputs.
    """
    for node in order:
        if node in mapping:
            continue
        op = node.op
        if op is CONST:
            mapping[node] = const(node.attrs[0], node.dtype, node.shape)
        elif node.value is not None:
            mapping[node] = builder.capture(node)
        elif op.kind == "call":
            graph = node.attrs[0]
            inner = dict(zip(graph.inputs, [mapping[s] for s in node.inputs], strict=True))
            copy_into(builder, graph.order, inner)
            made = tuple(inner[n] for n in graph.outputs)
            mapping[node] = made[0] if op.outputs == 1 else made
        elif op is PROJ and type(mapping[node.inputs[0]]) is tuple:
            mapping[node] = mapping[node.inputs[0]][node.attrs[0]]
        elif op.kind == "alias":
            # op.loop says which input carries the value (the first, unless it is given).
            mapping[node] = mapping[node.inputs[op.loop or 0]]
        elif op.kind == "custom":
            places = [op.loop(node, k) for k in range(len(node.shape))]
            mapping[node] = tuple(mapping[node.inputs[at]] for at in places)
        elif op.kind == "leaf":
            mapping[node] = mapping[node.inputs[0]]
        else:
            sources = tuple([mapping[s] for s in node.inputs])
            attrs = tuple([_opened(a) for a in node.attrs]) if op.outputs == -1 else node.attrs
            mapping[node] = builder.make(op, sources, attrs, node.shape, node.dtype)


_lock = threading.Lock()
_simplified: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _opened(attribute):
    """A loop's or branch's attribute, with the sub-graphs in it simplified."""
    if type(attribute) is tuple:
        return tuple([_opened(a) for a in attribute])
    if type(attribute) is not Graph:
        return attribute
    with _lock:
        found = _simplified.get(attribute)
    if found is None:
        holes = tuple([placeholder(k, n.shape, n.dtype) for k, n in enumerate(attribute.inputs)])
        mapping = dict(zip(attribute.inputs, holes, strict=True))
        made, captured = simplify(holes, attribute.outputs, attribute.order, mapping)
        assert not captured, "a sub-graph of a loop is closed"
        found = intern(made)
        with _lock:
            _simplified[attribute] = found
    return found
