"""Tier one: node by node in NumPy. The reference meaning of every program."""

from __future__ import annotations

import numpy as np

from ..graph.node import Node


def run_node(node: Node, arrays: list):
    """The value of `node` given its inputs' values: an array of the node's dtype, or a tuple of them."""
    op = node.op
    if op.arity < 0:
        result = op.numpy(tuple(arrays), *node.attrs)
    else:
        result = op.numpy(*arrays, *node.attrs)
    if op.outputs == 1:
        if type(result) is not np.ndarray:
            result = np.asarray(result)
        if result.dtype != node.dtype.np:
            result = result.astype(node.dtype.np)
    return result


def run(order, values: dict) -> None:
    """Evaluate the nodes of `order` that are not yet in `values`, into `values`."""
    with np.errstate(all="ignore"):
        for node in order:
            if node in values:
                continue
            if node.value is not None:  # a user's solver on the way has evaluated it meanwhile
                values[node] = node.value
            else:
                values[node] = run_node(node, [values[s] for s in node.inputs])
