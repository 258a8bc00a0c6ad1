"""Updates in place: the memory of a leaf that an optimiser's step replaces becomes that of its successor.

A graph may say which of its outputs are the next values of which of its inputs (``Graph.updates``). The
program then writes them over these arrays. That is only right while nobody will read the old values
any more: who refers to the leaf's node, and to its array, is counted before every run, and whatever is
still referred to from elsewhere (a recorded computation, a view, a graph kept by ``retain_graph``) is
copied first, and so keeps its values.
"""

from __future__ import annotations

import sys

from ..graph.memory import sole_array
from ..graph.node import FREED, LEAF, SHARED, Node
from ..tensor import late
from .traced import DONATED

__all__ = ["Overwritten", "replaced", "take"]

# Who refers to a leaf that is up for its next value besides recorded nodes: its tensor, the optimiser's
# list of what the step reads, and two lists of this evaluation.
HOLDERS = 4


class _Probe:
    pass


def _count(objects: list, k: int) -> int:
    return sys.getrefcount(objects[k])


# What this says of an object that one list refers to.
_ONE = _count([_Probe()], 0)


def replaced(outputs, results, holes: dict) -> dict[Node, Node]:
    """{simplified output: placeholder of the known leaf that it replaces}.

    Parameters
    ----------
    outputs : list of Node
        What is wanted of the pending graph: calls among them may have updates.
    results : sequence of Node
        Their simplified selves, a call's one after another.
    holes : dict
        Known nodes to their placeholders.
    """
    found: dict[Node, Node] = {}
    start = 0
    for node in outputs:
        for k, at in node.attrs[0].updates if node.op.kind == "call" else ():
            old, new = node.inputs[at], results[start + k]
            fits = old in holes and old.op is LEAF and new.op.kind not in ("input", "const")
            if fits and results.count(new) == 1 and holes[old] not in found.values():
                found[new] = holes[old]
        start += 1 if node.op.outputs == 1 else len(node.shape)
    return found


class Overwritten:
    """A leaf that a program overwrites: who may refer to it in a pending graph of the program's structure.

    Attributes
    ----------
    at : int
        Its position among the known nodes of the evaluation.
    position : int
        Its position among the program's inputs.
    references : int
        How often recorded nodes refer to it.
    readers : list of int
        Those of them, by their place in the walk, whose rule would read its value in a backward pass.
    """

    def __init__(self, at: int, position: int, node: Node, walk: list[Node]):
        self.at, self.position = at, position
        self.references = 0
        self.readers: list[int] = []
        seen = set()
        for k, reader in enumerate(walk):
            if reader.value is not None or node not in reader.inputs or id(reader.inputs) in seen:
                continue
            seen.add(id(reader.inputs))
            self.references += sum(s is node for s in reader.inputs)
            if reader.op.differentiable and node in late.saves(
                reader.op, reader.inputs, reader.attrs
            ):
                self.readers.append(k)

    def is_free(self, inputs: list[Node], walk: list[Node]) -> bool:
        """Whether nothing will read the old value after this evaluation."""
        if inputs[self.at].op is not LEAF or inputs[self.at].mark & SHARED:
            return False
        if _count(inputs, self.at) - _ONE > HOLDERS - 1 + self.references:
            return False
        for k in self.readers:
            if walk[k].requires_grad and not walk[k].mark & FREED:
                return False
        return sole_array(inputs[self.at])


def take(node: Node) -> None:
    """Let a leaf whose memory has been overwritten have no value any more."""
    node.op, node.attrs, node.value = DONATED, ("an optimizer's step",), None
