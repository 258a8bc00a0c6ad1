"""Tiers: a signature's program is interpreted at first, and compiled once that pays.

The ski-rental rule: when the time spent interpreting a signature exceeds what compiling it would cost,
it is compiled; so no program ever costs more than about twice the better choice.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

import numpy as np

from ..errors import ArgumentError
from ..graph.node import Node, by_seq, placeholder
from ..transform.simplify import simplify
from . import interpret

MODES = ("auto", "always", "never")

# Seconds that compiling takes: a constant and a part for each node (measured:
# benchmarks/bench_compile.py), and what a process pays once to import Numba.
COMPILE_START = 0.12
COMPILE_NODE = 0.003
NUMBA_START = 0.7

# Beyond so many nodes a program stays interpreted: compiling would take longer than it saves.
TOO_LARGE = 4_000

# Signatures that are remembered, and compiled programs that may live (Numba never frees their code).
REMEMBERED = 4096
LIVE_PROGRAMS = 1024


class Settings:
    """Process-wide; see :func:`set_compile`."""

    mode = "auto"


settings = Settings()


class set_compile:
    """Choose when programs are compiled: for good, or within a ``with`` block.

    Parameters
    ----------
    mode : {"auto", "always", "never"}
        ``"auto"`` interprets a signature until compiling it pays, ``"always"`` compiles at the first
        evaluation, ``"never"`` interprets.

    Raises
    ------
    ArgumentError
        For another mode.

    Examples
    --------
    >>> import flatgrad as fg
    >>> with fg.set_compile("never"):
    ...     print(fg.tensor([1.0, 2.0]).sum())
    tensor(3.)
    """

    def __init__(self, mode: str):
        if mode not in MODES:
            raise ArgumentError(
                f"set_compile: mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}"
            )
        self.before = settings.mode
        settings.mode = mode

    def __enter__(self) -> set_compile:
        return self

    def __exit__(self, *exc) -> None:
        settings.mode = self.before


def get_compile() -> str:
    """The mode that :func:`set_compile` set."""
    return settings.mode


class Program:
    """What is known about one signature: how often and how long it ran, and its compiled form.

    Attributes
    ----------
    calls : int
    interpreted_seconds : float
        Total time spent in the interpreter.
    compiled : Compiled or None
    tier : str
        ``"interpreted"`` or ``"compiled"``: what the last call ran.
    reason : str
        Why that tier.
    """

    def __init__(self):
        self.calls = 0
        self.interpreted_seconds = 0.0
        self.compiled = None
        self.tier = ""
        self.reason = ""
        self.nodes = 0
        self._lock = threading.Lock()
        self._numbers: list | None = None  # the last call's number nodes
        self._varied: set[int] = set()  # which of them have changed from call to call
        self._picked: list[int] = []  # which known values the compiled form takes
        self._widths: list | None = None  # outputs of each wanted call, if there is one
        self._captured: list = []  # arrays of sub-graphs, which it takes after them

    def run(self, order, inputs, numbers, outputs) -> list[np.ndarray]:
        """Values of `outputs`, which need the nodes of `order` (in any order)."""
        if numbers != self._numbers:
            self._compare(numbers)
        self.calls += 1
        compiled = self.compiled
        if compiled is None or settings.mode != "auto":
            compiled = self._choose(order, inputs, numbers, outputs)
        if compiled is None:
            return self._interpret(order, outputs)
        self.tier = "compiled"
        known = inputs if not self._varied else inputs + [numbers[k] for k in sorted(self._varied)]
        made = compiled([known[k].value for k in self._picked] + self._captured)
        return made if self._widths is None else self._grouped(made)

    def _grouped(self, made: list) -> list:
        """The values of each output; those of a call are a tuple."""
        values = iter(made)
        return [
            next(values) if n is None else tuple(next(values) for _ in range(n))
            for n in self._widths
        ]

    def _compare(self, numbers: list[Node]) -> None:
        """Numbers that differ from the last call's become inputs; a compiled form without them is void."""
        with self._lock:
            if self._numbers is not None:
                for k, (a, b) in enumerate(zip(self._numbers, numbers, strict=True)):
                    if a is not b and repr(a.attrs[0]) != repr(b.attrs[0]):
                        if k not in self._varied:
                            self._varied = self._varied | {k}
                            self._drop()
            self._numbers = numbers

    def _drop(self) -> None:
        if self.compiled is not None:
            self.compiled = None
            live.count -= 1

    def _interpret(self, order, outputs) -> list[np.ndarray]:
        started = time.perf_counter()
        order.sort(key=by_seq)
        values = {n: n.value for n in order if n.value is not None}
        interpret.run(order, values)
        self.interpreted_seconds += time.perf_counter() - started
        self.tier = "interpreted"
        return [values[n] for n in outputs]

    # -- the choice -------------------------------------------------------------------------------

    def compile_estimate(self) -> float:
        """Seconds that compiling is expected to take."""
        import sys

        start = 0.0 if "numba" in sys.modules else NUMBA_START
        return start + COMPILE_START + COMPILE_NODE * self.nodes

    def _choose(self, order, inputs, numbers, outputs):
        mode = settings.mode
        if mode == "never":
            self.reason = 'set_compile("never")'
            return None
        if self.compiled is not None:
            return self.compiled
        self.nodes = len(order)
        if self.nodes > TOO_LARGE:
            self.reason = f"{self.nodes} nodes are too many to compile (limit {TOO_LARGE})"
            return None
        if not any(n.value is None for n in order):
            return None
        if mode == "auto" and self.interpreted_seconds < self.compile_estimate():
            self.reason = (
                f"interpreting took {self.interpreted_seconds:.3f} s so far, "
                f"compiling would take about {self.compile_estimate():.2f} s"
            )
            return None
        if live.count >= LIVE_PROGRAMS:
            self.reason = f"{live.count} compiled programs live already (limit {LIVE_PROGRAMS})"
            return None
        with self._lock:
            if self.compiled is None:
                self._compile(order, inputs, numbers, outputs)
        self.reason = (
            'set_compile("always")'
            if mode == "always"
            else f"interpreting had taken {self.interpreted_seconds:.2f} s"
        )
        return self.compiled

    def _compile(self, order, inputs, numbers, outputs) -> None:
        from .build import Compiled

        varied = sorted(self._varied)
        holes = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(inputs)]
        mapping: dict[Node, Node] = dict(zip(inputs, holes, strict=True))
        for k in varied:
            cell = placeholder(len(holes), numbers[k].shape, numbers[k].dtype)
            holes.append(cell)
            mapping[numbers[k]] = cell
        order.sort(key=by_seq)
        graph, captured = simplify(tuple(holes), outputs, order, mapping)
        used = set(graph.order)
        count = len(holes)
        self._captured = [n.value for n, h in zip(captured, graph.inputs[count:], strict=True) if h in used]
        self._picked = [k for k, hole in enumerate(holes) if hole in used]
        graph.inputs = tuple(h for h in graph.inputs if h in used)
        widths = [None if n.op.outputs == 1 else len(n.shape) for n in outputs]
        self._widths = widths if any(w is not None for w in widths) else None
        self.compiled = Compiled(graph)
        live.count += 1


class Live:
    count = 0


live = Live()

_programs: OrderedDict = OrderedDict()
_lock = threading.Lock()


def program_for(key) -> Program:
    """The program of a signature; the least recently used are forgotten past a bound."""
    with _lock:
        found = _programs.get(key)
        if found is None:
            found = _programs[key] = Program()
            if len(_programs) > REMEMBERED:
                _, old = _programs.popitem(last=False)
                if old.compiled is not None:
                    live.count -= 1
        else:
            _programs.move_to_end(key)
        return found


def programs() -> list[Program]:
    """All programs that are remembered."""
    with _lock:
        return list(_programs.values())


__all__ = ["Program", "get_compile", "program_for", "programs", "set_compile"]
