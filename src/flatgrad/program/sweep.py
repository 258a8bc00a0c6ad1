"""The reverse pass of many scalars as one operation.

Rule by rule, a pullback records two or three nodes for each node that it passes. Where a graph has
thousands of scalars, ``SWEEP`` is recorded instead: its operands are what the scalars are computed from
and the cotangents that arrive, its results the cotangents that leave, and its meaning is the generic
loop run forward and then backward over the flat list. Its own derivatives are those of the graph
that the rules would have recorded, which is made when somebody asks.
"""

from __future__ import annotations

import hashlib

import numpy as np

from ..graph import dtypes
from ..graph.modes import modes
from ..graph.node import CONST, DIRECT, FREED, INFERENCE, Graph, Node, const, leaf, placeholder
from ..graph.op import Op, register
from ..graph.shapes import numel
from ..tensor import ALIAS, make, node_of, outputs_of, wrap
from ..transform.assemble import add, total
from ..transform.call import CALL
from ..transform.carry import pack, unpack
from ..transform.pullback import pullback
from ..transform.trace import close, quiet
from .flat import ELEMENTS, REARRANGED, WIRING, Encoder, loaded
from .tiers import settings

__all__ = ["SWEEP", "Sweep", "sections"]

# From so many differentiable nodes on it is looked for scalars, and from so many of them they are swept.
# (Fewer can be compiled, forward and backward as one program.)
SWEEP_FROM = 4_000

# Seconds a node that the rules take, and seconds to wait for before the loops are loaded or compiled.
RULE_NODE = 2e-5
PATIENCE = 1.0


class Waited:
    """Time spent on what the loops could have done, in this process."""

    seconds = 0.0


def sections(order: list[Node], reaching: set, through: set, wanted: set) -> list:
    """`order` cut into lists of nodes, to be differentiated by their rules, and sweeps of scalars.

    Parameters
    ----------
    order : list of Node
        Differentiable nodes, each after its inputs.
    reaching, through : set of Node
        Those that lead to a wanted node, and those of them whose rules must run.
    wanted : set of Node
    """
    if len(order) < SWEEP_FROM or not _worth_loading(len(order)):
        return [order]
    dtype = order[-1].dtype
    if dtype not in (dtypes.float32, dtypes.float64):
        return [order]
    suits = Suits(dtype, reaching)
    stages: dict[Node, int] = {}
    cut: dict[int, list[Node]] = {}
    for node in order:
        stage = 0
        for source in node.inputs:
            s = stages.get(source)
            if s is not None and s > stage:
                stage = s
        # Scalars have odd stages, others even ones, never less than those of what they read; so each
        # stage is a section, and sections in ascending order are a topological order.
        scalar = node in through and node not in wanted and suits(node)
        if scalar != (stage & 1 == 1):
            stage += 1
        stages[node] = stage
        cut.setdefault(stage, []).append(node)
    found: list = []
    for stage in sorted(cut):
        nodes = cut[stage]
        sweep = Sweep.of(dtype, nodes, reaching) if stage & 1 and len(nodes) >= SWEEP_FROM else None
        found.append(nodes if sweep is None else sweep)
    return found


def _worth_loading(nodes: int) -> bool:
    """Whether the loops are there, or the rules have taken so long that loading them pays."""
    if settings.mode == "never":
        return False
    if not loaded(dtypes.float64):
        Waited.seconds += RULE_NODE * nodes
        if Waited.seconds < PATIENCE:
            return False
    import numba

    return not numba.config.DISABLE_JIT


class Suits:
    """Whether a node can be part of a sweep: a few floats of one type that the list can compute."""

    def __init__(self, dtype, reaching: set):
        from ..emit.opcodes import table

        self.dtype = dtype
        self.reaching = reaching
        self.table = table(dtype)

    def __call__(self, node: Node) -> bool:
        op = node.op
        if node.dtype is not self.dtype or node.hooks or node.mark & (DIRECT | FREED | INFERENCE):
            return False
        if op.kind == "elementwise":
            kinds = tuple([s.dtype for s in node.inputs])
            code = self.table.find(op, node.attrs, kinds)
            if code is None or (node.shape != () and numel(node.shape) > ELEMENTS):
                return False
            wanted = tuple([s in self.reaching for s in node.inputs])
            return code.reverse_for(wanted) is not None
        if op is ALIAS or op.kind in WIRING:
            small = all(numel(s.shape) <= REARRANGED for s in node.inputs)
            same = all(s.dtype is self.dtype for s in node.inputs)
            return small and same and numel(node.shape) <= REARRANGED
        if op.name == "reduce_sum" or op.kind == "contraction":
            same = all(s.dtype is self.dtype for s in node.inputs)
            return same and all(numel(s.shape) <= ELEMENTS for s in node.inputs)
        return False


class Sweep:
    """A list of scalar operations with what it reads and what is asked of it. Compared by structure.

    Attributes
    ----------
    nodes : list of Node
        What is differentiated, each after its inputs.
    fronts : list of Node
        What they read from outside. Those among `asked` get cotangents.
    """

    def __init__(self, encoder: Encoder, nodes, scope: dict, fronts: list[Node], reaching: set):
        self.nodes = nodes
        self.fronts = fronts
        self.asked = [k for k, n in enumerate(fronts) if n in reaching]
        self.shapes = tuple([fronts[k].shape for k in self.asked])
        self.dtypes = tuple([fronts[k].dtype for k in self.asked])
        self.tape = encoder.tape()
        self.seeded: list[Node] = []
        self._linear = encoder.table.linear
        self._scope = scope
        self._final = encoder.final
        self._read = [encoder.final(scope[n]).ravel() for n in fronts]
        self._seeds: list[np.ndarray] = []
        self._graph = None
        self._key = b""

    @classmethod
    def of(cls, dtype, nodes: list[Node], reaching: set) -> Sweep | None:
        """The sweep over `nodes`; None if one of them can't be encoded."""
        encoder = Encoder(dtype)
        scope: dict[Node, object] = {}
        fronts: list[Node] = []
        for node in nodes:
            places = []
            for source in node.inputs:
                p = scope.get(source)
                if p is None:
                    if source.op is CONST:
                        p = encoder.constant(source.attrs[0], source.shape)
                    else:
                        p = scope[source] = encoder.room(source.shape)
                        fronts.append(source)
                places.append(p)
            if node.op is ALIAS:
                found = places[0]
            else:
                found = encoder.encode(node, places, tuple([s in reaching for s in node.inputs]))
            if found is None:
                return None
            scope[node] = found
        return cls(encoder, nodes, scope, fronts, reaching)

    def __len__(self) -> int:
        return len(self.tape)

    # Two sweeps of one structure are the same attribute of a program; their numbers are an operand.

    @property
    def key(self) -> bytes:
        if not self._key:
            tape = self.tape
            digest = hashlib.sha256(repr((tape.dtype, tape.front, self.asked)).encode())
            for array in (tape.codes, tape.reverse, *tape.operands, *self._read, *self._seeds):
                digest.update(repr(len(array)).encode())
                digest.update(np.ascontiguousarray(array))
            digest.update(tape.constants[0])
            self._key = digest.digest()
        return self._key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other) -> bool:
        return type(other) is Sweep and self.key == other.key

    # -- recording ------------------------------------------------------------------------------

    def pull(self, cots: dict, saved: list | None) -> None:
        """Take the cotangents of the nodes out of `cots`, and add those of what they read."""
        seeds = []
        for node in self.nodes:
            g = total(cots.pop(node, None))
            if g is not None:
                self.seeded.append(node)
                seeds.append(node_of(g))
        if not seeds:
            return
        self._seeds = [self._final(self._scope[n]).ravel() for n in self.seeded]
        self._scope, self._final = {}, None
        numbers = self.tape.constants[1]
        inputs = (*self.fronts, *seeds, leaf(numbers, self.tape.dtype))
        if saved is not None:
            saved.extend([n for n in self.nodes if n.op.name not in self._linear])
        found = outputs_of(make(SWEEP, inputs, (self,), self.shapes, self.dtypes)._node)
        if not (modes.grad or modes.forward or modes.pending < 0):
            self.nodes = self.fronts = ()  # nobody will differentiate it: the graph may go
        for k, g in zip(self.asked, found, strict=True):
            cots[inputs[k]] = add(cots.get(inputs[k]), g)

    # -- the meaning ----------------------------------------------------------------------------

    def run(self, arrays) -> tuple[np.ndarray, ...]:
        """The cotangents of what is asked for: forward over the list, and back."""
        tape = self.tape
        values = tape.arena()
        count = len(self._read)
        for where, array in zip(self._read, arrays[:count], strict=True):
            values[where] = array.ravel()
        values[tape.constants[0]] = arrays[-1]
        tape.forward(values)
        cotangents = np.zeros(tape.size, tape.dtype.np)
        for where, g in zip(self._seeds, arrays[count:-1], strict=True):
            np.add.at(cotangents, where, g.ravel())
        tape.backward(values, cotangents)
        tape.release(values)
        return tuple(
            [
                cotangents[self._read[k]].reshape(shape)
                for k, shape in zip(self.asked, self.shapes, strict=True)
            ]
        )

    # -- the same, rule by rule -----------------------------------------------------------------

    @property
    def graph(self):
        """(Graph, further inputs): what the rules record for the nodes, over the operands."""
        if self._graph is None:
            self._graph = self._record()
        return self._graph

    def _record(self):
        with quiet(grad=True):
            region = self._region()
            holes = region.inputs
            seeds = [
                placeholder(len(holes) + k, n.shape, n.dtype) for k, n in enumerate(region.outputs)
            ]
            numbers = placeholder(
                len(holes) + len(seeds), self.tape.constants[1].shape, self.tape.dtype
            )
            found = pullback(
                region.outputs,
                [holes[k] for k in self.asked],
                [wrap(s) for s in seeds],
                sweeping=False,
            )
            results = [
                const(0, d, s) if t is None else node_of(t)
                for t, s, d in zip(found, self.shapes, self.dtypes, strict=True)
            ]
            graph, captured = close([*holes, *seeds, numbers], results, "sweep")
        return graph, [wrap(n) for n in captured]

    def _region(self) -> Graph:
        """The nodes over placeholders for what they read, as a graph of those that got cotangents."""
        asked = set(self.asked)
        holes = [placeholder(k, n.shape, n.dtype, k in asked) for k, n in enumerate(self.fronts)]
        copies = dict(zip(self.fronts, holes, strict=True))
        for node in self.nodes:
            sources = tuple([copies.get(s, s) for s in node.inputs])
            copies[node] = Node(node.op, sources, node.attrs, node.shape, node.dtype, True)
        return Graph(tuple(holes), tuple([copies[n] for n in self.seeded]), "sweep")

    # -- to another process ---------------------------------------------------------------------

    def __reduce__(self):
        state = {name: getattr(self, name) for name in _CARRIED}
        return _restored, (pack(self._region()), state)


_CARRIED = ("asked", "shapes", "dtypes", "tape", "_read", "_seeds", "_linear")


def _restored(packed: tuple, state: dict) -> Sweep:
    graph = unpack(packed)
    sweep = object.__new__(Sweep)
    sweep.fronts, sweep.seeded = list(graph.inputs), list(graph.outputs)
    inputs = set(graph.inputs)
    sweep.nodes = [n for n in graph.order if n not in inputs and n.op is not CONST]
    sweep._scope, sweep._final, sweep._graph, sweep._key = {}, None, None, b""
    for name, value in state.items():
        setattr(sweep, name, value)
    return sweep


def _pullback(g, out, inputs, sweep: Sweep) -> tuple:
    graph, captured = sweep.graph
    return CALL.pullback(g, out, (*inputs, *captured), graph)[: len(inputs)]


def _pushforward(tangents, out, inputs, sweep: Sweep) -> tuple:
    graph, captured = sweep.graph
    given = (*tangents, *[None] * len(captured))
    return CALL.pushforward(given, out, (*inputs, *captured), graph)


SWEEP = register(
    Op(
        "sweep",
        "library",
        -1,
        ("sweep",),
        infer=lambda nodes, sweep: (sweep.shapes, sweep.dtypes),
        numpy=lambda arrays, sweep: sweep.run(arrays),
        pullback=_pullback,
        pushforward=_pushforward,
        outputs=-1,
        doc="The cotangents of what many scalars were computed from, given theirs.",
    )
)
