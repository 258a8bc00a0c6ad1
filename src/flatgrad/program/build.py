"""From a graph to something that runs: compiled segments, and library nodes between them.

Nodes whose kind has loops are compiled; a library routine without a compiled form (a
decomposition) runs in NumPy between two compiled segments. Most programs are one segment.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np

from ..emit.host import host
from ..errors import CompileError
from ..graph.node import CONST, PROJ, Graph, Node, placeholder
from ..graph.op import Op
from ..lower import ir
from ..lower.control import CONTROL
from ..lower.lowering import has_loops
from ..lower.machine import Machine
from ..lower.plan import ALIGN, lower_bound
from ..lower.recompute import lower_within
from .native import loaded

_compiling = threading.RLock()


class Segment:
    """One flat compiled function with its arena."""

    def __init__(
        self,
        graph: Graph,
        updates: dict | None = None,
        budget: int | None = None,
        machine: Machine | None = None,
    ):
        self.loops = lower_within(graph, budget, machine=machine or host(), updates=updates)
        self.source = _readable(self.loops)
        self.arenas: list = []
        self.function = None
        self.from_disk = False
        self.code_bytes = 0
        self.outputs = [(b.shape, b.dtype.np) for b in self.loops.outputs]
        every = [*self.loops.inputs, *self.loops.outputs]
        # Where the results are among inputs and outputs, if some are written over inputs.
        self.places = [every.index(b) for b in self.loops.results] if self.loops.updated else None

    def compile(self) -> None:
        """Make machine code of the loops, or load it from the disk cache.

        Under ``NUMBA_DISABLE_JIT=1`` the readable source runs as plain Python.
        """
        if _jit_disabled():
            namespace: dict = {}
            exec(compile(self.source, "<flatgrad program>", "exec"), namespace)
            self.function = namespace["program"]
            return
        code, self.from_disk = loaded(self.source, self.loops)
        self.function, self.code_bytes = code.function(), code.bytes

    def __call__(self, inputs: list) -> list:
        """Run on arrays (C-contiguous, writable); returns fresh outputs, and inputs that were overwritten."""
        empty = np.empty
        out = [empty(shape, dtype) for shape, dtype in self.outputs]
        try:
            arena = self.arenas.pop()
        except IndexError:
            arena = aligned(self.loops.arena_bytes)
        code = self.function(*inputs, *out, arena)
        self.arenas.append(arena)
        if code:
            if code < 0:  # an argument of a subclass of NumPy's array, or a scalar
                return self([np.array(a, subok=False) for a in inputs])
            raise self.loops.checks[code - 1]()
        if self.places is None:
            return out
        every = (*inputs, *out)
        return [every[k] for k in self.places]


def _jit_disabled() -> bool:
    if "numba" in sys.modules:
        return bool(sys.modules["numba"].config.DISABLE_JIT)
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def aligned(size: int) -> np.ndarray:
    """`size` bytes that start at a multiple of ALIGN."""
    memory = np.empty(size + ALIGN, np.uint8)
    start = -memory.ctypes.data % ALIGN
    return memory[start : start + size]


def _readable(loops: ir.Program) -> str:
    from ..emit.python import source

    return source(loops)


def _comment(source: str) -> str:
    return source.replace("\\", "\\\\").replace('"""', "'''")


class Host:
    """A library node that NumPy runs."""

    def __init__(self, node: Node):
        self.op: Op = node.op
        self.attrs = node.attrs
        self.dtype = node.dtype

    def __call__(self, arrays: list):
        op = self.op
        with np.errstate(all="ignore"):
            if op.arity < 0:
                result = op.numpy(tuple(arrays), *self.attrs)
            else:
                result = op.numpy(*arrays, *self.attrs)
        if op.outputs != 1:
            return [tuple(plain(np.asarray(r)) for r in result)]
        return [plain(np.asarray(result, dtype=self.dtype.np))]


def plain(array: np.ndarray) -> np.ndarray:
    """`array` as compiled code wants it: contiguous, aligned, writable."""
    return array if array.flags.carray else array.copy(order="C")


class Compiled:
    """A graph as a list of steps over numbered values.

    Parameters
    ----------
    graph : Graph
    updates : dict, optional
        {output: input}: if the program is one segment, the output is written over the input's array.
    budget : int, optional
        Bytes that the arena of a segment may have: see ``fg.memory_budget``.
    machine : Machine, optional
        What it is lowered for, if not the host.

    Attributes
    ----------
    updated : list of int
        Positions of the inputs that are overwritten. Whoever calls the program owns their arrays.
    """

    def __init__(
        self,
        graph: Graph,
        updates: dict | None = None,
        budget: int | None = None,
        machine: Machine | None = None,
    ):
        self.graph = graph
        self.budget = budget
        self.machine = machine
        self._updates = updates or {}
        self.updated: list[int] = []
        self.steps: list = []  # (segment or host, input slots, output slots)
        self.constants: list = []  # (slot, array) that library nodes read
        started = time.perf_counter()
        with _compiling:
            self._assemble()
            self.lower_seconds = time.perf_counter() - started
            for segment in self.segments:
                segment.compile()
        self.compile_seconds = time.perf_counter() - started

    @property
    def segments(self) -> list[Segment]:
        return [step for step, _, _ in self.steps if type(step) is Segment]

    @property
    def code_bytes(self) -> int:
        """Size of the machine code."""
        return sum(s.code_bytes for s in self.segments)

    @property
    def from_disk(self) -> bool:
        return all(s.from_disk for s in self.segments)

    @property
    def source(self) -> str:
        """The readable loops, as Python that Numba can jit."""
        return "\n\n".join(s.source for s in self.segments)

    @property
    def memory(self) -> dict:
        """Bytes: inputs, outputs, the arena, and the least arena that lifetimes allow.

        Under a budget also the budget, and how many values are computed twice.
        """
        segments = self.segments
        found = {
            "inputs": _bytes(self.graph.inputs),
            "outputs": _bytes(dict.fromkeys(self.graph.outputs)),
            "arena": sum(s.loops.arena_bytes for s in segments),
            "lower_bound": sum(lower_bound(s.loops.body) for s in segments),
        }
        if self.budget is not None:
            found["budget"] = self.budget
            found["recomputed"] = sum(s.loops.recomputed for s in segments)
        return found

    def _assemble(self) -> None:
        level = _levels(self.graph)
        slots: dict[Node, int] = {n: k for k, n in enumerate(self.graph.inputs)}
        outputs = set(self.graph.outputs)
        if max(level.values(), default=0):
            self._updates = {}
        for stage in range(max(level.values(), default=0) + 1):
            members = [
                n
                for n in self.graph.order
                if level[n] == stage
                and n.op.kind != "input"
                and (n.op is not CONST or n in outputs)
            ]
            if stage % 2:
                for node in members:
                    self._host(node, slots)
            elif members:
                self._segment(members, level, outputs, slots)
        self.count = len(slots)
        self.results = [slots[n] for n in self.graph.outputs]
        self.direct = self._one_segment()

    def _one_segment(self) -> Segment | None:
        """The segment that takes the graph's inputs and makes its outputs as they are, if it is so."""
        if len(self.steps) != 1 or self.constants:
            return None
        step, inputs, outs = self.steps[0]
        if inputs == list(range(len(self.graph.inputs))) and outs == self.results:
            return step
        return None

    def _host(self, node: Node, slots: dict) -> None:
        if node.op is PROJ:
            self.steps.append((_pick(node.attrs[0]), [slots[node.inputs[0]]], [len(slots)]))
        else:
            for s in node.inputs:
                if s not in slots:  # a constant: the same array at every call
                    self.constants.append((len(slots), plain(s.value)))
                    slots[s] = len(slots)
            self.steps.append((Host(node), [slots[s] for s in node.inputs], [len(slots)]))
        slots[node] = len(slots)

    def _segment(self, members, level, outputs, slots) -> None:
        """Compile `members`: values of earlier stages come in, what later ones read goes out."""
        inside = set(members)
        known: dict[Node, Node] = {}
        for node in members:
            for s in node.inputs:
                if s not in inside and s not in known and s.op is not CONST:
                    known[s] = placeholder(len(known), s.shape, s.dtype)
        mapping: dict[Node, Node] = dict(known)
        for node in members:
            for s in node.inputs:
                mapping.setdefault(s, s)
            mapping[node] = Node(
                node.op, tuple(mapping[s] for s in node.inputs), node.attrs, node.shape, node.dtype
            )
        wanted = [
            n
            for n in members
            if n in outputs or any(level.get(r, -1) > level[n] for r in self._readers(n))
        ]
        wanted = [n for n in wanted if n not in slots]
        if not wanted:
            return
        graph = Graph(tuple(known.values()), tuple(mapping[n] for n in wanted))
        start = len(slots)
        position = {s: k for k, s in enumerate(known)}
        updates = {mapping[n]: position[s] for n, s in self._updates.items()}
        segment = Segment(graph, updates, self.budget, self.machine)
        inputs = [slots[s] for s in known]
        self.updated += [inputs[segment.loops.inputs.index(b)] for b in segment.loops.updated]
        self.steps.append((segment, inputs, list(range(start, start + len(wanted)))))
        for node in wanted:
            slots[node] = len(slots)

    def _readers(self, node: Node):
        if not hasattr(self, "_read_by"):
            self._read_by: dict = {}
            for n in self.graph.order:
                for s in n.inputs:
                    self._read_by.setdefault(s, []).append(n)
        return self._read_by.get(node, ())

    def __call__(self, arrays: list) -> list:
        """Values of the graph's outputs for arrays of its inputs' shapes and dtypes."""
        if self.direct is not None:
            return self.direct([a if a.flags.carray else a.copy(order="C") for a in arrays])
        arrays = [plain(a) for a in arrays]
        values = arrays + [None] * (self.count - len(arrays))
        for k, array in self.constants:
            values[k] = array
        for step, inputs, outs in self.steps:
            for k, value in zip(outs, step([values[k] for k in inputs]), strict=True):
                values[k] = value
        return [values[k] for k in self.results]


def _pick(index: int):
    return lambda arrays: [arrays[0][index]]


def _bytes(nodes) -> int:
    return sum(int(np.prod(n.shape, dtype=np.int64)) * n.dtype.itemsize for n in nodes)


def _levels(graph: Graph) -> dict[Node, int]:
    """Even stages are compiled, odd ones run in NumPy; each node as early as its inputs allow."""
    level: dict[Node, int] = {}
    for node in graph.order:
        before = max((level[s] for s in node.inputs), default=0)
        if node.op.kind in ("input", "const"):
            level[node] = 0
        elif has_loops(node):
            level[node] = before + before % 2
        elif node.op.kind in ("library", "window", "proj", *CONTROL):
            level[node] = before if before % 2 else before + 1
        else:
            raise CompileError(f"build: a node of kind {node.op.kind!r} cannot be compiled")
    return level
