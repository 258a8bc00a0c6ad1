"""Graphs as plain lists, so that they pickle: to worker processes, and to disk.

A node becomes a row of numbers and attributes; operations go by name. Sub-graphs among the
attributes become lists of their own, each once.
"""

from __future__ import annotations

from ..errors import ArgumentError
from ..graph.node import Graph, Node, const, placeholder
from ..graph.op import REGISTRY, op_named

__all__ = ["pack", "unpack"]

FORMAT = 1


class _Part:
    """A sub-graph among a node's attributes."""

    __slots__ = ("at",)

    def __init__(self, at: int):
        self.at = at

    def __reduce__(self):
        return _Part, (self.at,)


def pack(graph: Graph) -> tuple:
    """`graph` as tuples of names, numbers, dtypes and arrays.

    Raises
    ------
    ArgumentError
        If it holds an operation that only this process knows (a custom function of the user's).
    """
    graphs: list[Graph] = []
    rows: list = []
    _pack(graph, graphs, rows)
    return FORMAT, tuple(rows)


def _pack(graph: Graph, graphs: list, rows: list) -> int:
    """Add `graph` after all that it holds; its place."""
    if graph in graphs:
        return graphs.index(graph)
    number = {n: k for k, n in enumerate(graph.inputs)}
    nodes = []
    for node in graph.order:
        if node in number:
            continue
        number[node] = len(number)
        if REGISTRY.get(node.op.name) is not node.op:
            raise ArgumentError(
                f"pickle: {node.op.name} is an operation of this process alone and cannot be carried to "
                "another; pickle the function that is compiled, and compile it there"
            )
        attrs = tuple([_attribute(a, graphs, rows) for a in node.attrs])
        inputs = tuple([number[s] for s in node.inputs])
        nodes.append((node.op.name, inputs, attrs, node.shape, node.dtype, _array(node)))
    outputs = tuple([number[n] for n in graph.outputs])
    head = tuple([(n.shape, n.dtype) for n in graph.inputs])
    graphs.append(graph)
    rows.append((graph.name, head, tuple(nodes), outputs))
    return len(rows) - 1


def _array(node: Node):
    return None if node.op.kind == "const" else node.value


def _attribute(a, graphs: list, rows: list):
    if type(a) is Graph:
        return _Part(_pack(a, graphs, rows))
    if type(a) is tuple:
        return tuple([_attribute(x, graphs, rows) for x in a])
    return a


def unpack(packed: tuple) -> Graph:
    """The graph that `pack` was given."""
    version, rows = packed
    if version != FORMAT:
        raise ArgumentError(
            f"unpickle: this function was pickled by another version of flatgrad (format {version}, here "
            f"{FORMAT}); compile it anew"
        )
    graphs: list[Graph] = []
    for name, head, nodes, outputs in rows:
        made = [placeholder(k, shape, dtype) for k, (shape, dtype) in enumerate(head)]
        for op_name, inputs, attrs, shape, dtype, value in nodes:
            attrs = tuple([_restored(a, graphs) for a in attrs])
            if op_name == "const":
                made.append(const(attrs[0], dtype, shape))
                continue
            sources = tuple([made[k] for k in inputs])
            made.append(Node(op_named(op_name), sources, attrs, shape, dtype, False, value))
        graphs.append(Graph(tuple(made[: len(head)]), tuple([made[k] for k in outputs]), name))
    return graphs[-1]


def _restored(a, graphs: list):
    if type(a) is _Part:
        return graphs[a.at]
    if type(a) is tuple:
        return tuple([_restored(x, graphs) for x in a])
    return a
