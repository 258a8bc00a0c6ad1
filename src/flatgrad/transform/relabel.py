"""A contraction over a dimension that merges turned ones is a contraction over these.

``x.transpose(1, 2).reshape(batch, steps, heads * size) @ w`` reads `x` by ``index // size`` and
``index % size``: no loop over one index walks that. Over heads and sizes, as two labels, all indices are
affine, nothing is copied, and the other operand's dimension is split, which is free.
"""

from __future__ import annotations

from itertools import pairwise

from ..graph.node import Node

__all__ = ["over_parts"]


def over_parts(builder, inputs, attrs, shape, dtype) -> Node | None:
    """The contraction with labels split where an operand merges dimensions, or None if there are none."""
    specs = list(attrs)
    parts = _merged(inputs[0], specs[0]) or _merged(inputs[1], specs[1])
    if parts is None:
        return None
    fresh = max((label for spec in specs for label in spec), default=0) + 1
    names = {}
    for label, sizes in parts.items():
        names[label] = tuple(range(fresh, fresh + len(sizes)))
        fresh += len(sizes)
    operands = []
    for node, spec in zip(inputs, specs[:2], strict=True):
        whole = [parts.get(label, (size,)) for label, size in zip(spec, node.shape, strict=True)]
        new = tuple([n for sizes in whole for n in sizes])
        operands.append(node if new == node.shape else builder.op("reshape", (node,), (new,)))
    relabelled = [
        tuple([n for label in spec for n in names.get(label, (label,))]) for spec in specs
    ]
    made = builder.op("contract", tuple(operands), tuple(relabelled))
    return made if made.shape == shape else builder.op("reshape", (made,), (shape,))


def _merged(node: Node, spec: tuple) -> dict | None:
    """{label: sizes of its parts} of a reshape's dimensions that merge turned ones; None if it has none."""
    if node.op.name != "reshape" or node.inputs[0].op.name != "permute":
        return None
    turned = node.inputs[0]
    order = turned.attrs[0]
    found = {}
    for place, group in _groups(turned.shape, node.shape):
        apart = any(order[a] + 1 != order[b] for a, b in pairwise(group))
        if apart and spec.count(spec[place]) == 1:
            found[spec[place]] = tuple([turned.shape[k] for k in group])
    return found or None


def _groups(old: tuple, new: tuple) -> list:
    """(dimension of `new`, the dimensions of `old` that it merges), if nothing is cut, else nothing."""
    kept = [k for k, n in enumerate(old) if n != 1]
    found = []
    for place, size in enumerate(new):
        group: list[int] = []
        product = 1
        while product < size and kept:
            group.append(kept.pop(0))
            product *= old[group[-1]]
        if product != size:
            return []
        found.append((place, group))
    return found
