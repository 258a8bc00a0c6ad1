"""The third tier: a signature whose graph is mostly scalars, run by the generic loops.

The graph is encoded as it is (``flat.Encoder``), without being simplified or compiled: that costs a few
microseconds a node, once. What cannot be said in scalars (an integer, a large array, a library
routine) runs in NumPy between two stretches of the list.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np

from ..errors import FlatgradError
from ..graph import dtypes
from ..graph.dtypes import DType
from ..graph.node import CONST, PROJ, Node
from ..graph.shapes import numel
from ..transform.call import CALL
from . import interpret
from .flat import WIRING, Encoder, loaded, loops

__all__ = [
    "GenericProgram",
    "Unsuited",
    "encode_estimate",
    "opened_size",
    "swept_size",
    "weight",
]

# Seconds that encoding takes for each node; loading the loops from the disk cache, or compiling them.
ENCODE_NODE = 3e-6
LOOPS_START = 0.5

# What compiling a scalar costs, beside a node with dimensions, which becomes a loop.
SCALAR_PART = 0.1

# A list is worth it if at most this part of the nodes has to run in NumPy.
HOST_PART = 0.1


class Unsuited(FlatgradError):
    """Why a graph is not run by the generic loop."""


def encode_estimate(nodes: int) -> float:
    """Seconds until a graph of so many nodes runs in the generic loop."""
    return ENCODE_NODE * nodes + (0.0 if loaded(dtypes.float64) else LOOPS_START)


def opened_size(order) -> int:
    """How many nodes `order` has when the sub-graphs of calls are counted too."""
    count = len(order)
    for node in order:
        if node.op is CALL and node.value is None:
            count += opened_size(node.attrs[0].order)
    return count


def weight(order, scalar: float = SCALAR_PART) -> float:
    """What compiling `order` costs, in nodes with dimensions; scalars are counted in calls too."""
    count = 0.0
    for node in order:
        if node.value is None:
            if node.op is CALL:
                count += scalar * sum([n.shape == () for n in node.attrs[0].order])
            count += scalar if node.shape == () else 1
    return count


def swept_size(order) -> int:
    """How many operations the sweeps among `order` run forward and backward (``sweep.py``)."""
    return sum([len(node.attrs[0]) for node in order if node.op.name == "sweep"])


class Held:
    """An array among a program's values: an input, or what NumPy computed.

    places : where its elements stand if scalars are read from it, else None.
    """

    __slots__ = ("dtype", "index", "places", "shape", "where")

    def __init__(self, index: int, shape: tuple, dtype: DType):
        self.index = index
        self.shape = shape
        self.dtype = dtype
        self.places = None
        self.where = None  # `places` counted from the beginning, flat


class Cells:
    """A value that stands among the list's: its places, counted from the beginning once all are known."""

    __slots__ = ("dtype", "places")

    def __init__(self, places, dtype: DType):
        self.places = places
        self.dtype = dtype


class Host:
    """One node that NumPy runs, after the first `after` operations of the list."""

    __slots__ = ("after", "inputs", "node", "results")

    def __init__(self, node: Node, inputs: list, results, after: int):
        self.node = node
        self.inputs = inputs
        self.results = results
        self.after = after


class GenericProgram:
    """The program of one signature over the generic loops.

    Parameters
    ----------
    order : sequence of Node
        The pending graph, each node after its inputs.
    inputs, numbers, outputs : sequence of Node
        As `evaluate.signature` gives them.

    Raises
    ------
    Unsuited
        If too much of the graph is not scalars of one float type.
    """

    # As build.Compiled: it has no program of its own.
    segments = ()
    source = ""
    from_disk = True

    def __init__(self, order, inputs, numbers, outputs):
        import numba

        if numba.config.DISABLE_JIT:
            raise Unsuited("NUMBA_DISABLE_JIT is set")
        started = time.perf_counter()
        self._encoder = encoder = Encoder(_main_dtype(order))
        self.dtype = encoder.dtype
        self._held: list[Held] = []
        self._fixed: list[tuple[Held, np.ndarray]] = []  # arrays that sub-graphs hold
        self._hosts: list[Host] = []
        self._seen = list(numbers)
        self._numbers: list = []
        self._nodes = 0
        scope: dict = {}
        for node in inputs:
            scope[node] = self._hold(node.shape, node.dtype)
        self._given = [scope[node] for node in inputs]
        for node in numbers:
            if node not in scope:
                scope[node] = self._number(node)
            self._numbers.append(scope[node])
        self._open(order, scope)
        if len(self._hosts) > HOST_PART * self._nodes:
            common = Counter(h.node.op.name for h in self._hosts).most_common(1)[0][0]
            raise Unsuited(
                f"{len(self._hosts)} of {self._nodes} nodes are not {self.dtype.name} scalars "
                f"({common}, for one)"
            )
        outside = set(numbers)
        self._assumed = [k for k, n in enumerate(numbers) if n in encoder.looked_at & outside]
        self._results = [self._result(scope[node], node) for node in outputs]
        self._finish()
        loops(self.dtype)
        self.encode_seconds = time.perf_counter() - started
        self._lock = threading.Lock()

    # -- encoding -------------------------------------------------------------------------------

    def _hold(self, shape, dtype) -> Held:
        held = Held(len(self._held), shape, dtype)
        self._held.append(held)
        return held

    def _number(self, node: Node):
        """A number of the user's text: an element of its own, filled in at each call."""
        if not self._encoder.holds(node.dtype):
            return self._hold(node.shape, node.dtype)
        place = self._encoder.room(())
        return place if node.shape == () else np.full(node.shape, place)

    def _open(self, order, scope: dict) -> None:
        """Encode the nodes of a graph whose inputs' places are in `scope`, and add theirs."""
        for node in order:
            if node in scope:
                continue
            self._nodes += 1
            op = node.op
            if op is CONST:
                scope[node] = self._constant(node)
            elif node.value is not None:
                scope[node] = self._array(node)
            elif op is CALL:
                graph = node.attrs[0]
                inner = dict(zip(graph.inputs, [scope[s] for s in node.inputs], strict=True))
                self._open(graph.order, inner)
                scope[node] = tuple([inner[n] for n in graph.outputs])
            elif op is PROJ:
                scope[node] = scope[node.inputs[0]][node.attrs[0]]
            elif op.kind == "alias":
                scope[node] = scope[node.inputs[op.loop or 0]]
            elif op.kind == "custom":
                places = [op.loop(node, k) for k in range(len(node.shape))]
                scope[node] = tuple([scope[node.inputs[at]] for at in places])
            elif op.kind == "leaf":
                scope[node] = scope[node.inputs[0]]
            else:
                scope[node] = self._scalars(node, scope) if op.outputs == 1 else None
                if scope[node] is None:
                    scope[node] = self._host(node, scope)

    def _constant(self, node: Node):
        if self._encoder.holds(node.dtype):
            return self._encoder.constant(node.attrs[0], node.shape)
        return self._array(node)

    def _array(self, node: Node) -> Held:
        held = self._hold(node.shape, node.dtype)
        self._fixed.append((held, node.value))
        return held

    def _scalars(self, node: Node, scope: dict):
        """The places of a node's elements, computed by the list; None if NumPy must."""
        places = []
        rearranges = node.op.kind in WIRING
        for source in node.inputs:
            p = scope[source]
            if type(p) is Held:
                if not self._encoder.holds(p.dtype) or numel(p.shape) > (
                    65_536 if rearranges else 64
                ):
                    return None
                if p.places is None:
                    p.places = self._encoder.room(p.shape)
                p = p.places
            places.append(p)
        return self._encoder.encode(node, places)

    def _host(self, node: Node, scope: dict):
        sources = [scope[s] for s in node.inputs]
        if node.op.outputs == 1:
            results = self._hold(node.shape, node.dtype)
        else:
            results = tuple([self._hold(s, d) for s, d in zip(node.shape, node.dtype, strict=True)])
        inputs = [self._result(p, s) for p, s in zip(sources, node.inputs, strict=True)]
        bare = Node(node.op, (), node.attrs, node.shape, node.dtype)
        self._hosts.append(Host(bare, inputs, results, len(self._encoder.codes)))
        return results

    def _result(self, place, node: Node):
        """Where the value of `node` is read from, for `_read`."""
        if type(place) is tuple:
            return tuple([_cells(p, d) for p, d in zip(place, node.dtype, strict=True)])
        return _cells(place, node.dtype)

    def _finish(self) -> None:
        """Count all places from the beginning; the encoder and the graph are let go."""
        encoder = self._encoder
        self.tape = encoder.tape()
        for held in self._held:
            if held.places is not None:
                held.where = encoder.final(held.places).ravel()
        self._numbers = [
            p if type(p) is Held else int(np.ravel(encoder.final(p))[0]) if np.size(p) else None
            for p in self._numbers
        ]
        for result in (*self._results, *[r for host in self._hosts for r in host.inputs]):
            for cells in result if type(result) is tuple else (result,):
                if type(cells) is Cells:
                    cells.places = encoder.final(cells.places)
        del self._encoder

    # -- running --------------------------------------------------------------------------------

    def suits(self, numbers) -> bool:
        """Whether numbers that decided the encoding are what they were."""
        if numbers == self._seen:
            return True
        return all(
            numbers[k] is self._seen[k] or repr(numbers[k].attrs[0]) == repr(self._seen[k].attrs[0])
            for k in self._assumed
        )

    def __call__(self, given: list, numbers=()) -> list:
        """The outputs' values, given the inputs' arrays and the nodes of the numbers."""
        tape = self.tape
        values = tape.arena()
        arrays: list = [None] * len(self._held)
        for held, array in zip(self._given, given, strict=True):
            self._put(held, array, arrays, values)
        for held, array in self._fixed:
            self._put(held, array, arrays, values)
        for place, node in zip(self._numbers, numbers, strict=True):
            if type(place) is int:
                values[place] = node.attrs[0]
            elif place is not None:
                arrays[place.index] = node.value
        done = 0
        for host in self._hosts:
            if host.after > done:
                tape.forward(values, done, host.after)
                done = host.after
            self._run(host, arrays, values)
        tape.forward(values, done)
        results = [self._read(r, arrays, values) for r in self._results]
        tape.release(values)
        return results

    def _put(self, held: Held, array, arrays: list, values) -> None:
        arrays[held.index] = array
        if held.where is not None:
            values[held.where] = array.ravel()

    def _run(self, host: Host, arrays: list, values) -> None:
        with np.errstate(all="ignore"):
            sources = [self._read(r, arrays, values) for r in host.inputs]
            found = interpret.run_node(host.node, sources)
        if type(host.results) is Held:
            self._put(host.results, found, arrays, values)
        else:
            for held, array in zip(host.results, found, strict=True):
                self._put(held, np.asarray(array), arrays, values)

    def _read(self, result, arrays: list, values):
        if type(result) is Held:
            return arrays[result.index]
        if type(result) is tuple:
            return tuple([self._read(r, arrays, values) for r in result])
        found = np.asarray(values[result.places])
        return found if result.dtype is self.dtype else np.asarray(found != 0)

    # -- what explain says ----------------------------------------------------------------------

    @property
    def reason(self) -> str:
        text = f"{len(self.tape)} operations on {self.dtype.name} scalars in one list"
        swept = swept_size([host.node for host in self._hosts])
        if swept:
            text += f", {swept} forward and backward in another"
        elif self._hosts:
            text += f", {len(self._hosts)} nodes of other kinds in NumPy"
        return text

    @property
    def memory(self) -> dict:
        """Bytes: the list, and the values of one call."""
        return {"list": self.tape.bytes, "arena": self.tape.size * self.tape.dtype.itemsize}


def _cells(place, dtype: DType):
    return place if type(place) is Held else Cells(place, dtype)


def _main_dtype(order) -> DType:
    """The float type that most of the results have."""
    count: Counter = Counter()
    for node in order:
        if node.op is CALL and node.value is None:
            count.update(_main_dtypes(node.attrs[0].order))
    count.update(_main_dtypes(order))
    if not count:
        raise Unsuited("no node has a float32 or float64 result")
    return count.most_common(1)[0][0]


def _main_dtypes(order) -> list:
    floats = (dtypes.float32, dtypes.float64)
    return [n.dtype for n in order if n.value is None and n.dtype in floats]
