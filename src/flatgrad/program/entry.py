"""A graph bound to Numba functions of its own: they check their arguments, allocate, run, and raise.

``program(x0, ...)`` returns fresh results, ``fill(x0, ..., y0, ...)`` writes those that have dimensions to
given arrays; results without dimensions are numbers. From Python a call is one
dispatcher call.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from dataclasses import replace

import numpy as np

from ..emit.host import host
from ..errors import UnsupportedError
from ..graph.node import CONST, Graph, Node, placeholder
from ..graph.op import op_named
from ..lower.lowering import has_loops
from ..lower.machine import REPRODUCIBLE
from ..lower.plan import ALIGN, STACK
from ..lower.recompute import lower_within
from ..transform.simplify import simplify
from .budget import budget
from .build import _comment, _compiling, _readable, plain
from .cache import compile_function, load_module

__all__ = ["Entry", "foreign", "given_up", "prepared"]

HEAD = '''"""A flatgrad program: these loops, printed to LLVM inside ``run`` and jitted by Numba.

{comment}
"""
import numpy as np
from numba import carray, cfunc, njit, types
from flatgrad.emit.entry import entry_named
from flatgrad.errors import ArgumentError, IndexingError, LinAlgError, LoopError, ShapeError

run = entry_named("{digest}")
'''

FILL = """

@njit(cache={cache}, nogil=True, error_model="numpy"{inline})
def fill({given}):
{checks}{arena}    {results} = run(({passed}))
{errors}    return {returned}
"""

PROGRAM = """

@njit(cache={cache}, nogil=True, error_model="numpy"{inline})
def program({arguments}):
{checks}{allocate}{arena}    {results} = run(({passed}))
{errors}    return {everything}
"""

CFUNC = """

@cfunc(types.int64({types}), cache=False, error_model="numpy")
def pointer({pointers}):
{views}{arena}    {results} = run(({passed}))
{stores}    return code
"""


def prepared(graph: Graph) -> tuple[Graph, list[np.ndarray]]:
    """`graph` simplified, every output a node of its own; arrays that it holds are further inputs."""
    holes = tuple([placeholder(k, n.shape, n.dtype) for k, n in enumerate(graph.inputs)])
    mapping = dict(zip(graph.inputs, holes, strict=True))
    found, held = simplify(holes, graph.outputs, graph.order, mapping)
    outputs: list[Node] = []
    for node in found.outputs:
        if node.op.kind in ("input", "const") or node in outputs:
            node = Node(op_named("cast"), (node,), (node.dtype,), node.shape, node.dtype)
        outputs.append(node)
    return Graph(found.inputs, tuple(outputs), graph.name), [plain(n.value) for n in held]


def given_up(graph: Graph, positions) -> dict[Node, int]:
    """{output: position of the input that it is written over}, for inputs that the caller gives up.

    Each such input is for the first output of its shape and dtype that has none yet.
    """
    found: dict[Node, int] = {}
    for k in positions:
        hole = graph.inputs[k]
        for node in graph.outputs:
            same = node.shape == hole.shape and node.dtype is hole.dtype
            if same and node.shape and node not in found and graph.outputs.count(node) == 1:
                found[node] = k
                break
    return found


def foreign(graph: Graph) -> Node | None:
    """A node of `graph` that has no machine code, if there is one."""
    for node in graph.order:
        if node.op is not CONST and not has_loops(node):
            return node
    return None


# Dispatchers for Python by their programs' hashes: several entries may be the same program.
_ready: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


class Pooled:
    """A function whose last argument is an arena too large for the stack, kept from call to call.

    Fresh memory of megabytes is mapped page by page as it is touched, which can take longer than the program.
    As many arenas are kept as calls ran at once.
    """

    def __init__(self, function, size: int):
        self.function = function
        self.size = size + ALIGN
        self.arenas: list[np.ndarray] = []

    def __call__(self, *arguments):
        try:
            arena = self.arenas.pop()
        except IndexError:
            arena = np.empty(self.size, np.uint8)
        try:
            return self.function(*arguments, arena)
        finally:
            self.arenas.append(arena)


# Bytes of a result from which on NumPy allocates it: NumPy asks for large pages, Numba does not, and mapping
# small ones as they are touched can take longer than the program.
LARGE = 1 << 22


class Roomy:
    """A program for Python whose results NumPy allocates."""

    def __init__(self, fill, results):
        self.fill = fill
        self.kinds = [(b.shape, b.dtype.np) if b.shape else None for b in results]

    def __call__(self, *arguments):
        arrays = [np.empty(*kind) for kind in self.kinds if kind is not None]
        found = self.fill(*arguments, *arrays)
        if len(arrays) == len(self.kinds):
            return arrays[0] if len(arrays) == 1 else tuple(arrays)
        numbers = iter(found if type(found) is tuple else (found,))
        filled = iter(arrays)
        return tuple([next(numbers) if kind is None else next(filled) for kind in self.kinds])


class Entry:
    """The functions of one graph, each compiled when it is first asked for.

    Parameters
    ----------
    graph : Graph
        Prepared. Its last inputs are the constants.
    constants : list of ndarray
    numbers : sequence of bool
        Which arguments come as numbers rather than arrays.
    label : str
        How errors call it.
    names : list of str
        How errors call the arguments.
    updates : dict, optional
        {output: position of the argument that it is written over}: see `lower`.
    parallel : bool
        Whether large loops run on several threads.
    reproducible : bool
        The same bits on every machine.

    Raises
    ------
    UnsupportedError
        If a node has no machine code.
    """

    def __init__(
        self,
        graph: Graph,
        constants,
        numbers,
        label: str,
        names,
        updates=None,
        parallel: bool = False,
        reproducible: bool = False,
    ):
        node = foreign(graph)
        if node is not None:
            raise UnsupportedError(
                f"{label}: {node.op.name} is run by NumPy, so this program is not all machine code and "
                "cannot be called from compiled code; call it from Python"
            )
        self.graph = graph
        self.constants = list(constants)
        self.numbers = tuple(numbers)
        self.label, self.names = label, list(names)
        self.from_disk = False
        self._lock = threading.RLock()
        self._made: dict = {}
        with _compiling:
            machine = replace(REPRODUCIBLE, parallel=parallel) if reproducible else host(parallel)
            how = {"machine": machine, "updates": updates, "spans": self._spans()}
            self.loops = lower_within(graph, budget.bytes, **how)
            self.source = _readable(self.loops)

    @property
    def arguments(self) -> list:
        return self.loops.inputs[: len(self.names)]

    def _spans(self) -> dict:
        """{position of a constant array of integers: its least and greatest element}."""
        return {
            k: (int(array.min()), int(array.max()))
            for k, array in enumerate(self.constants, len(self.names))
            if array.dtype.kind in "iu" and array.size
        }

    # -- the functions ----------------------------------------------------------------------------

    @property
    def program(self):
        """``program(x0, ...)``, for Python: compiled for the graph's dtypes and no others."""
        results = self.loops.results
        large = any(b.size * b.dtype.itemsize >= LARGE for b in self.loops.outputs)
        if large and results == self.loops.outputs:
            return Roomy(self.fill, results)
        return self._get("program", PROGRAM, self._types)

    @property
    def fill(self):
        """``fill(x0, ..., y0, ...)``, for Python. (Numba takes longer to return an array than to fill it.)"""
        return self._get("fill", FILL, self._filled_types)

    @property
    def njit(self):
        """``program`` for Numba code, which inlines it. Nothing that contains it is cached on disk."""
        return self._get("program", PROGRAM, None)

    @property
    def njit_out(self):
        """``fill`` for Numba code."""
        return self._get("fill", FILL, None)

    @property
    def cfunc(self):
        """A Numba cfunc of pointers: arguments, then results. It returns 0 or an error's number."""
        return self._get("pointer", CFUNC, None)

    def _get(self, function: str, template: str, types):
        """A function, made once; `types` gives its signature, None leaves it to whoever calls it."""
        key = function, types is None
        found = self._made.get(key)
        if found is not None:
            return found
        with self._lock:
            if key not in self._made:
                signature = types() if types is not None else None
                self._made[key] = self._make(function, template, signature)
            return self._made[key]

    def _make(self, function: str, template: str, signature):
        from ..emit import blas, threads
        from ..emit.entry import Offer, offer

        names = self.names
        what = Offer(self.loops, self.label, names, self.constants)
        text = self._text(template, what, cached=signature is not None)
        digest = hashlib.sha256(text.encode())
        digest.update(self.source.encode())
        for array in self.constants:
            digest.update(array.tobytes())
        name = digest.hexdigest()
        if signature is None and function != "pointer":
            what.guard = name
        self._made["offer", name] = what  # the intrinsic asks for it when Numba specializes later
        offer(name, what)
        head = HEAD.format(comment=_comment(self.source), digest=name)
        with _compiling, blas.provided(), threads.provided(self.loops):
            if signature is None:
                return getattr(load_module(head + text, "entry"), function)
            made = _ready.get(name)
            if made is None:
                made, hit = compile_function(head + text, "entry", function, signature)
                self.from_disk = self.from_disk or hit
                made.disable_compile()
                _ready[name] = made
            # What is remembered is what its module keeps alive: a wrapper would be forgotten before it.
            if what.arena_given:
                made = Pooled(made, self.loops.arena_bytes)
            return made

    def _filled_types(self) -> tuple:
        return self._types(filled=True)

    def _types(self, filled: bool = False) -> tuple:
        """Numba's types of what Python gives: arguments, results to be filled, an arena."""
        from numba import types
        from numba.np.numpy_support import from_dtype

        def array(buffer):
            return types.Array(from_dtype(buffer.dtype.np), len(buffer.shape), "C")

        numbers = zip(self.arguments, self.numbers, strict=True)
        found = [from_dtype(b.dtype.np) if number else array(b) for b, number in numbers]
        if filled:
            found += [array(b) for b in self.loops.outputs if b.shape]
        if self.loops.arena_bytes > STACK:
            found.append(types.Array(types.uint8, 1, "C"))
        return tuple(found)

    # -- text -------------------------------------------------------------------------------------

    def _text(self, template: str, what, cached: bool) -> str:
        inputs = [b.name for b in self.arguments]
        outputs = self.loops.outputs
        arrays = [b.name for b in what.filled]
        arena = ["arena"] * what.arena_given
        passed = " ".join(f"{name}," for name in [*inputs, *arrays, *arena])
        given = arena if cached else []  # from Python: see Pooled
        returned = [b.name for b in what.returned]
        checks = _shape_checks(self.label, zip(self.arguments, self.names, strict=True))
        if template is FILL:
            checks += _shape_checks(self.label, [(b, f"out{k}") for k, b in enumerate(what.filled)])
        return template.format(
            cache=cached,
            inline="" if cached or what.arena_given else ", forceinline=True",
            arguments=", ".join([*inputs, *given]),
            given=", ".join([*inputs, *arrays, *given]),
            checks=checks,
            allocate="".join(
                f"    {b.name} = np.empty({_shape(b)}, np.{_numpy_name(b)})\n" for b in what.filled
            ),
            arena=f"    arena = np.empty({self.loops.arena_bytes + ALIGN}, np.uint8)\n"
            if what.arena_given and not given
            else "",
            results=", ".join(["code", *returned]) + ("," if not returned else ""),
            passed=passed,
            errors=self._errors(),
            returned=_tuple(returned),
            everything=_tuple([b.name for b in self.loops.results]),
            types=", ".join(
                f"types.CPointer(types.{_numba_name(b)})" for b in (*self.arguments, *outputs)
            ),
            pointers=", ".join(f"p_{b.name}" for b in (*self.arguments, *outputs)),
            views="".join(
                f"    {b.name} = carray(p_{b.name}, {_shape(b)})\n"
                if b.shape
                else f"    {b.name} = p_{b.name}[0]\n"
                for b in (*self.arguments, *what.filled)
            ),
            stores="".join(f"    p_{name}[0] = {name}\n" for name in returned),
        )

    def _errors(self) -> str:
        lines = ["    if code != 0:\n"]
        for k, make in enumerate(self.loops.checks):
            error = make()
            lines.append(f"        if code == {k + 1}:\n")
            lines.append(f"            raise {type(error).__name__}({str(error)!r})\n")
        text = (
            f"{self.label}: an array to be filled overlaps an argument or another one; give each result "
            "memory of its own"
        )
        lines.append(f"        raise ArgumentError({text!r})\n")
        return "".join(lines)


def _shape(buffer) -> str:
    return f"({', '.join(map(str, buffer.shape))}{',' if len(buffer.shape) == 1 else ''})"


def _numpy_name(buffer) -> str:
    return buffer.dtype.np.name + ("_" if buffer.dtype.np.name == "bool" else "")


def _numba_name(buffer) -> str:
    return "boolean" if buffer.dtype.np.name == "bool" else buffer.dtype.np.name


def _tuple(names: list) -> str:
    if not names:
        return "None"
    return names[0] if len(names) == 1 else f"({', '.join(names)})"


def _shape_checks(label: str, pairs) -> str:
    lines = []
    for buffer, name in pairs:
        if not buffer.shape:
            continue
        wrong = " or ".join(f"{buffer.name}.shape[{k}] != {n}" for k, n in enumerate(buffer.shape))
        text = (
            f"{label}: {name} must have the shape {buffer.shape} that the program was compiled for"
        )
        lines.append(f"    if {wrong}:\n        raise ShapeError({text!r})\n")
    return "".join(lines)
