"""A signature's simplified graph, and how a call's known values become its inputs."""

from __future__ import annotations

import numpy as np

from ..graph.node import CONST, Node, placeholder
from ..transform.simplify import simplify
from . import interpret
from .budget import budget
from .overwrite import Overwritten, replaced, take


class Plan:
    """The graph of a signature, simplified once, for interpreting and compiling alike.

    Numbers of the user's text are part of the graph, except the `varied` ones, which are inputs.

    Attributes
    ----------
    graph : Graph
    varied : frozenset of int
        Positions of the numbers that are inputs.
    compiled : Compiled or None
    overwritten : list of Overwritten
        The leaves that the compiled form overwrites.
    """

    def __init__(self, order, inputs, numbers, outputs, varied: frozenset):
        holes = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(inputs)]
        mapping: dict[Node, Node] = dict(zip(inputs, holes, strict=True))
        moving = sorted(varied)
        for k in moving:
            hole = placeholder(len(holes), numbers[k].shape, numbers[k].dtype)
            holes.append(hole)
            mapping[numbers[k]] = hole
        graph, captured = simplify(tuple(holes), outputs, order, mapping)
        used = set(graph.order)
        count = len(inputs)
        self._inputs = [k for k in range(count) if holes[k] in used]
        self._numbers = [k for k, hole in zip(moving, holes[count:], strict=True) if hole in used]
        extra = graph.inputs[len(holes) :]
        self._captured = [n.value for n, h in zip(captured, extra, strict=True) if h in used]
        graph.inputs = tuple(h for h in graph.inputs if h in used)
        self._places = _places(outputs)
        self._constants = {n: n.value for n in graph.order if n.op is CONST}
        self._seen = numbers
        known = dict(zip(inputs, holes[:count], strict=True))
        updates = replaced(outputs, graph.outputs, known)
        self._updates = {n: hole for n, hole in updates.items() if hole in used}
        self.overwritten: list[Overwritten] = []
        self.graph = graph
        self.varied = varied
        self.compiled = None
        self._budget = budget.bytes

    def changed(self, numbers: list[Node]) -> set[int]:
        """Positions of numbers that are not what the graph says."""
        if numbers == self._seen:
            return set()
        found = {k for k in differing(self._seen, numbers) if k not in self.varied}
        if not found:
            self._seen = numbers
        return found

    def arrays(self, inputs, numbers) -> list[np.ndarray]:
        """The values of the graph's inputs in this call."""
        values = [inputs[k].value for k in self._inputs]
        if self._numbers:
            values += [numbers[k].value for k in self._numbers]
        return values + self._captured if self._captured else values

    def made(self):
        """A compiled form of the graph, for `adopt`."""
        from .build import Compiled

        return Compiled(self.graph, self._updates, self._budget)

    def adopt(self, compiled, inputs, walk) -> None:
        """Run by `compiled` from now on; `walk` are the nodes of this call's pending graph."""
        for k in compiled.updated:
            at = self._inputs[k]
            self.overwritten.append(Overwritten(at, k, inputs[at], walk))
        self.compiled = compiled

    def run(self, inputs, numbers, walk) -> list:
        """The values of each wanted node, by the compiled form."""
        free = [o for o in self.overwritten if o.is_free(inputs, walk)]
        arrays = self.arrays(inputs, numbers)
        for o in self.overwritten:
            if o not in free:
                arrays[o.position] = arrays[o.position].copy()
        results = self.grouped(self.compiled(arrays))
        for o in free:
            take(inputs[o.at])
        return results

    def interpret(self, arrays) -> list:
        """Values of the graph's outputs, node by node."""
        values = dict(zip(self.graph.inputs, arrays, strict=True))
        values.update(self._constants)
        interpret.run(self.graph.order, values)
        return [values[n] for n in self.graph.outputs]

    def grouped(self, made: list) -> list:
        """The values of each wanted node; those of a call are a tuple."""
        if self._places is None:
            return made
        return [made[at] if type(at) is int else tuple(made[at]) for at in self._places]


def _places(outputs) -> list | None:
    """Where the values of each wanted node are among all results; None if one each."""
    places: list = []
    at = 0
    for node in outputs:
        if node.op.outputs == 1:
            places.append(at)
            at += 1
        else:
            places.append(slice(at, at + len(node.shape)))
            at += len(node.shape)
    return places if at != len(outputs) or any(type(p) is slice for p in places) else None


def differing(before: list[Node], now: list[Node]) -> set[int]:
    """Positions where two lists of number nodes differ, signed zeros included."""
    return {
        k
        for k, (a, b) in enumerate(zip(before, now, strict=True))
        if a is not b and repr(a.attrs[0]) != repr(b.attrs[0])
    }
