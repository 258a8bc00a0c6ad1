"""A traced graph bound to what runs it: machine code entries where all of it has some, steps otherwise.

Every form has one calling convention: arguments as arrays and numbers in, results flat out; those
without dimensions are numbers, a single result is not in a tuple.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from ..errors import ArgumentError, DTypeError, GradientError, ShapeError, UnsupportedError
from ..graph.node import CONST, Graph
from ..lower.machine import REPRODUCIBLE
from ..program import interpret
from ..program.build import Compiled, plain
from ..program.entry import Entry, foreign, given_up, prepared
from ..program.generic import GenericProgram, Unsuited, weight
from ..program.tiers import TOO_LARGE, settings
from ..tensor import Tensor, late, node_of
from .tracing import Kind
from .tree import Spec, flatten

# What a scalar weighs here: a first call shall not wait for more than two or three seconds.
PATIENT = 0.4

__all__ = ["Bound", "checked", "checked_out", "out_leaves"]


class Bound:
    """A graph, ready to run.

    Attributes
    ----------
    graph : Graph
        Prepared; its last inputs are the constants.
    tier : {"compiled", "generic loop", "interpreted", "plain Python"}
    reason : str
    entry : Entry or None
        None if not all of the program is machine code.
    compile_seconds : float
    updates : dict
        {position of a result: position of the argument whose array it is}; known once it is prepared.
    """

    def __init__(
        self,
        graph: Graph,
        constants: list,
        numbers,
        label: str,
        names: list[str],
        donated=(),
        parallel: bool = False,
        reproducible: bool = False,
    ):
        self.graph, self.constants = graph, constants
        self.donated = tuple(donated)
        self.parallel = parallel
        self.reproducible = reproducible
        self.updates: dict[int, int] = {}
        self.numbers, self.label, self.names = tuple(numbers), label, names
        self.entry: Entry | None = None
        self.steps: Compiled | GenericProgram | None = None
        self.compile_seconds = 0.0
        self._lock = threading.RLock()
        self.single = len(graph.outputs) == 1
        self.tier, self.reason = self._choice()

    @classmethod
    def of(
        cls,
        graph: Graph,
        numbers,
        label: str,
        names: list[str],
        donated=(),
        parallel: bool = False,
        reproducible: bool = False,
    ) -> Bound:
        """`graph` simplified and bound; `names` are its arguments', further inputs included.

        Results may be written over the arguments at the positions `donated`; large loops of a
        `parallel` one run on several threads.
        """
        ready, constants = prepared(graph)
        return cls(ready, constants, numbers, label, names, donated, parallel, reproducible)

    def _choice(self) -> tuple[str, str]:
        if self.reproducible:
            return self._reproducible_choice()
        if settings.mode == "never":
            return "interpreted", 'set_compile("never")'
        if not _numba_compiles():
            return "interpreted", "Numba is missing, or switched off by NUMBA_DISABLE_JIT"
        order = self.graph.order
        if weight(order, PATIENT) > TOO_LARGE:
            return "generic loop", f"{len(order)} nodes are too many to compile at the first call"
        return "compiled", "a traced function is compiled at its first call"

    def _reproducible_choice(self) -> tuple[str, str]:
        """Always the loops: NumPy adds in an order of its own."""
        node = foreign(self.graph)
        if node is not None:
            raise UnsupportedError(
                f"{self.label}: reproducible=True needs a program that is all loops, and {node.op.name} is "
                "run by NumPy, whose bits depend on the machine; leave it out, or reproducible=True"
            )
        if _numba_compiles():
            return "compiled", "reproducible=True"
        return "plain Python", "reproducible=True, and Numba is switched off by NUMBA_DISABLE_JIT"

    def prepare(self) -> None:
        """Compile, if that is the tier and it has not been done."""
        if self.tier == "interpreted" or self.entry is not None or self.steps is not None:
            return
        with self._lock:
            if self.entry is not None or self.steps is not None:
                return
            started = time.perf_counter()
            if self.tier == "generic loop":
                self._enter_loop()
            elif self.tier == "plain Python":
                self.steps = Compiled(self.graph, machine=REPRODUCIBLE)
            elif foreign(self.graph) is None:
                form = (self.graph, self.constants, self.numbers, self.label, self.names)
                updates = given_up(self.graph, self.donated)
                entry = Entry(*form, updates, self.parallel, self.reproducible)
                _ = entry.program
                loops = entry.loops
                self.updates = {
                    k: loops.inputs.index(b)
                    for k, b in enumerate(loops.results)
                    if b in loops.updated
                }
                self.entry = entry
            else:
                self.steps = Compiled(self.graph)
            self.compile_seconds = time.perf_counter() - started

    def _enter_loop(self) -> None:
        graph = self.graph
        try:
            self.steps = GenericProgram(graph.order, graph.inputs, (), graph.outputs)
            self.reason = f"{self.steps.reason}; {self.reason}"
        except Unsuited as error:
            self.tier = "interpreted"
            self.reason += f", and the generic loop is not for it: {error}"

    def need_entry(self, what: str) -> Entry:
        """The machine code.

        Raises
        ------
        UnsupportedError
            If there is none, and why.
        """
        self.prepare()
        if self.entry is not None:
            return self.entry
        node = foreign(self.graph)
        why = (
            f"{node.op.name} is run by NumPy and has no machine code"
            if node is not None
            else self.reason
        )
        raise UnsupportedError(
            f"{self.label}: .{what} needs a program that is all machine code, and {why}; call the "
            "function itself from Python"
        )

    # -- running ----------------------------------------------------------------------------------

    @property
    def program(self):
        """``program(*arguments)``: fresh results."""
        self.prepare()
        return self.entry.program if self.entry is not None else self._run

    @property
    def fill(self):
        """``fill(*arguments, *arrays)``: results that have dimensions are written to `arrays`.

        The others are returned: None, a number or a tuple of them.
        """
        self.prepare()
        return self.entry.fill if self.entry is not None else self._fill

    def _values(self, arguments) -> list:
        dtypes = [n.dtype.np for n in self.graph.inputs]
        arrays = [np.asarray(a, d) for a, d in zip(arguments, dtypes, strict=False)]
        arrays += self.constants
        if self.steps is not None:
            made = self.steps(arrays)
        else:
            values = dict(zip(self.graph.inputs, arrays, strict=True))
            values.update({n: n.value for n in self.graph.order if n.op is CONST})
            interpret.run(self.graph.order, values)
            made = [values[n] for n in self.graph.outputs]
        taken = {id(a) for a in arrays}
        results = []
        for value, node in zip(map(np.asarray, made), self.graph.outputs, strict=True):
            if not node.shape:
                results.append(value.item())
                continue
            mine = value.flags.owndata and value.flags.carray and id(value) not in taken
            results.append(value if mine else value.copy())
            taken.add(id(value))
        return results

    def _run(self, *arguments):
        made = self._values(arguments)
        return made[0] if self.single else tuple(made)

    def _fill(self, *given):
        count = len(self.names)
        made = self._values(given[:count])
        arrays = iter(given[count:])
        numbers = []
        for value, node in zip(made, self.graph.outputs, strict=True):
            if node.shape:
                next(arrays)[...] = value
            else:
                numbers.append(value)
        return tuple(numbers) if len(numbers) > 1 else numbers[0] if numbers else None

    # -- what it is -------------------------------------------------------------------------------

    @property
    def kernels(self) -> int:
        if self.entry is not None:
            return len(self.entry.loops.body)
        return 0 if self.steps is None else sum(len(s.loops.body) for s in self.steps.segments)

    @property
    def arena(self) -> int:
        """Bytes of scratch memory a call needs."""
        if self.entry is not None:
            return self.entry.loops.arena_bytes
        return 0 if self.steps is None else self.steps.memory["arena"]

    @property
    def source(self) -> str:
        """The readable loops."""
        if self.entry is not None:
            return self.entry.source
        return "" if self.steps is None else self.steps.source

    @property
    def from_disk(self) -> bool:
        form = self.entry or self.steps
        return form is not None and form.from_disk


def _numba_compiles() -> bool:
    try:
        import numba
    except ImportError:
        return False
    return not numba.config.DISABLE_JIT


# -- arguments ------------------------------------------------------------------------------------


def checked(label: str, x, kind: Kind, name: str):
    """An argument as the program takes it: a number, or a C-contiguous array that can be written.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, GradientError
        If it is not of the kind that the program was made for.
    """
    if isinstance(x, Tensor):
        node = node_of(x)
        if node.requires_grad:
            raise GradientError(
                f"{label}: {name} requires grad, and a compiled function does not record; give "
                f"{name}.detach(), or use fg.jit, which does"
            )
        late.evaluate([node])
        x = node.value
    if kind.number and isinstance(x, (bool, int, float, np.generic)):
        return _number(label, x, kind, name)
    if isinstance(x, (bool, int, float)):
        x = np.asarray(_number(label, x, kind, name), kind.dtype.np)
    if isinstance(x, np.generic):
        x = np.asarray(x)
    if not isinstance(x, np.ndarray):
        raise ArgumentError(
            f"{label}: {name} must be an array of {kind}, got {type(x).__name__}; convert it with "
            "numpy.asarray"
        )
    if x.shape != kind.shape:
        raise ShapeError(
            f"{label}: {name} must have the shape {kind.shape} that the program was compiled for, got "
            f"{x.shape}; compile another one for this shape"
        )
    if x.dtype != kind.dtype.np:
        raise DTypeError(
            f"{label}: {name} must have the dtype {kind.dtype.name} that the program was compiled "
            f"for, got {x.dtype}; convert it with astype, or compile another one"
        )
    return x.item() if kind.number else plain(x)


def _number(label: str, x, kind: Kind, name: str):
    if kind.shape:
        raise ShapeError(f"{label}: {name} must have the shape {kind.shape}, got the number {x!r}")
    if isinstance(x, (float, np.floating)) and not kind.dtype.is_floating_point:
        raise DTypeError(
            f"{label}: {name} must be of {kind.dtype.name}, got {x!r}; convert it, or compile for a float"
        )
    return kind.dtype.np.type(x).item()


def checked_out(label: str, out, node, name: str) -> np.ndarray:
    """An array to be filled.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If it cannot take that result.
    """
    if not isinstance(out, np.ndarray):
        raise ArgumentError(f"{label}: {name} must be a NumPy array, got {type(out).__name__}")
    if out.shape != node.shape:
        raise ShapeError(
            f"{label}: {name} must have the result's shape {node.shape}, got {out.shape}; make it with "
            f"numpy.empty({node.shape}, '{node.dtype.name}')"
        )
    if out.dtype != node.dtype.np:
        raise DTypeError(
            f"{label}: {name} must have the result's dtype {node.dtype.name}, got {out.dtype}; make it "
            f"with numpy.empty({node.shape}, '{node.dtype.name}')"
        )
    if not out.flags.writeable:
        raise ArgumentError(f"{label}: {name} is read-only; give an array that can be written")
    return out


def out_leaves(label: str, out, nodes, result: Spec, *, tensors: bool = False) -> list:
    """What `out` gives for each result: an array, None, or (if `tensors`) a Tensor.

    `out` is a tree like the result, with None for results that are not to be written, or the array
    for the one result that has dimensions.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        If it is neither, or an array cannot take its result.
    """
    arrays = [k for k, n in enumerate(nodes) if n.shape]
    found: list = [None] * len(nodes)
    if isinstance(out, (np.ndarray, Tensor)) and len(arrays) == 1:
        found[arrays[0]] = out
    else:
        leaves = _with_none(out)
        if len(leaves) != len(nodes):
            raise ArgumentError(
                f"{label}: out must be like the result, {result}, with arrays or None; got {len(leaves)} "
                f"of them for {len(nodes)} results"
            )
        found = leaves
    many = len(nodes) > 1
    for k, (target, node) in enumerate(zip(found, nodes, strict=True)):
        if target is not None:
            name = f"out[{k}]" if many else "out"
            if tensors and isinstance(target, Tensor):
                _check_tensor(label, target, node, name)
            else:
                checked_out(label, target, node, name)
    return found


def _with_none(out) -> list:
    """The leaves of `out`, None being one."""
    if isinstance(out, dict):
        return [x for k in flatten(out)[1].context for x in _with_none(out[k])]
    if isinstance(out, (tuple, list)):
        return [x for o in out for x in _with_none(o)]
    return [None] if out is None else flatten(out)[0]


def _check_tensor(label: str, t: Tensor, node, name: str) -> None:
    have = node_of(t)
    if have.shape != node.shape:
        raise ShapeError(
            f"{label}: {name} must have the result's shape {node.shape}, got {have.shape}"
        )
    if have.dtype is not node.dtype:
        raise DTypeError(
            f"{label}: {name} must have the result's dtype {node.dtype!r}, got {have.dtype!r}"
        )
    if have.requires_grad or t._base is not None:
        raise GradientError(
            f"{label}: {name} must be a tensor of its own that does not require grad; give "
            f"flatgrad.empty({node.shape})"
        )
