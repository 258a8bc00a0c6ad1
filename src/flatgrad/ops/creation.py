"""Constant arrays of the graph: filled and counted ones, which cost no memory until they are needed."""

from __future__ import annotations

from ..graph.node import Node, const
from ..tensor import Tensor, wrap


def zeros_of(node: Node) -> Tensor:
    """Zeros of a node's shape and dtype."""
    return wrap(const(0, node.dtype, node.shape))


def full_of(node: Node, number) -> Tensor:
    """`number` in a node's shape and dtype."""
    return wrap(const(number, node.dtype, node.shape))
