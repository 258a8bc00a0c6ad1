"""Tiers: a signature's program is interpreted at first, and compiled once that pays.

The ski-rental rule: when the time spent interpreting a signature exceeds what compiling it would cost,
it is compiled; so no program ever costs more than about twice the better choice. A graph of many scalars
goes to the generic loop in between (`generic.py`), and stays there if it is too large to compile.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict

import numpy as np

from ..errors import ArgumentError
from ..graph.node import Graph, pending
from . import interpret
from .background import Task
from .budget import budget
from .generic import GenericProgram, Unsuited, encode_estimate, opened_size, swept_size, weight
from .live import live
from .plan import Plan, differing
from .traced import without_value

MODES = ("auto", "always", "never", "background")

# Seconds that compiling takes: a constant and a part for each node with dimensions (measured:
# benchmarks/suite/cold/bench_compile.py; scalars cost less: generic.weight), and what a process pays once
# to import LLVM.
COMPILE_START = 0.05
COMPILE_NODE = 0.003
LLVM_START = 0.15

# Beyond this weight a program is not compiled: that would take longer than it saves.
TOO_LARGE = 4_000

# Seconds that interpreting one node takes, and how often a while loop is taken to go around: a graph's
# loops may take longer in one interpreted call than compiling them.
NODE_SECONDS = 3e-6
WHILE_ROUNDS = 100

# From so many nodes on a graph of scalars is run by the generic loop.
GENERIC_FROM = 200

# Signatures that are remembered.
REMEMBERED = 4096


class Settings:
    """Process-wide; see :func:`set_compile`."""

    mode = "auto"


settings = Settings()


class set_compile:
    """Choose when programs are compiled: for good, or within a ``with`` block.

    Parameters
    ----------
    mode : {"auto", "always", "never", "background"}
        ``"auto"`` interprets a signature until compiling it pays, ``"always"`` compiles at the first
        evaluation, ``"never"`` interprets; ``"background"`` is ``"auto"``, but a thread compiles, and
        calls are interpreted until it is done. What it raised is raised by the signature's next evaluation.

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
    interpreted_seconds, looped_seconds : float
        Total time spent in the interpreter, and in the generic loop.
    nodes, size : int
        Of the pending graph; and with the sub-graphs of calls.
    weight : float
        The nodes as compiling counts them.
    generic : GenericProgram or None
    tier : str
        ``"interpreted"``, ``"generic loop"`` or ``"compiled"``: what the last call ran.
    reason : str
        Why that tier.
    """

    def __init__(self):
        self.calls = 0
        self.interpreted_seconds = 0.0
        self.tier = ""
        self.reason = ""
        self.nodes = 0
        self.looping_seconds = 0.0  # what interpreting the loops inside takes, one call
        self.size = 0
        self.weight = 0.0
        self.looped_seconds = 0.0
        self.generic: GenericProgram | None = None
        self._swept = 0  # operations of sweeps among the nodes
        self._unsuited = ""  # why the generic loop can't run it
        self.used = 0  # when it ran last, see `live`
        self._task: Task | None = None  # a compilation in the background
        self._lock = threading.Lock()
        self._plan: Plan | None = None
        self._first: list | None = None  # the first call's numbers
        self._varied: frozenset = frozenset()  # numbers that have changed between calls

    @property
    def compiled(self):
        """The compiled form, or None."""
        return None if self._plan is None else self._plan.compiled

    def run(self, roots, inputs, numbers, outputs, walk) -> list[np.ndarray]:
        """Values of `outputs`, which are the roots and what else is wanted behind them.

        `walk` are the nodes in the order of the signature.
        """
        self.calls += 1
        plan = self._plan
        if plan is not None and plan.changed(numbers):
            plan = self._replan(plan.varied | plan.changed(numbers))
        if plan is None or plan.compiled is None or settings.mode == "never":
            plan = self._choose(roots, inputs, numbers, outputs, walk)
        if plan is None or plan.compiled is None or settings.mode == "never":
            if self._wants_loop():
                results = self._loop(roots, inputs, numbers, outputs)
                if results is not None:
                    return results
            return self._interpret(plan, roots, inputs, numbers, outputs)
        self.tier = "compiled"
        self.used = live.tick()
        return plan.run(inputs, numbers, walk)

    def _replan(self, varied) -> None:
        """Numbers that changed become inputs of the next plan; the old one is void."""
        with self._lock:
            live.remove(self)
            self._plan = self._task = None
            self._varied = self._varied | varied

    def drop(self) -> None:
        """Let the compiled form go; it has to be earned again."""
        with self._lock:
            self._plan = self._task = None
            self.interpreted_seconds = self.looped_seconds = 0.0

    def _interpret(self, plan, roots, inputs, numbers, outputs) -> list[np.ndarray]:
        started = time.perf_counter()
        if plan is None:
            order = pending(roots)
            values = {n: n.value for n in order if n.value is not None}
            interpret.run(order, values)
            results = [values[n] for n in outputs]
        else:
            results = plan.grouped(plan.interpret(plan.arrays(inputs, numbers)))
        self.interpreted_seconds += time.perf_counter() - started
        self.tier = "interpreted"
        if self._swept:
            self.tier = "generic loop"
            self.reason = f"{self._swept} operations forward and backward in one list"
        return results

    def _wants_loop(self) -> bool:
        """Whether this call is to run in the generic loop."""
        if self.size < GENERIC_FROM or self._unsuited or settings.mode == "never":
            return False
        if self.generic is not None:
            return True
        if settings.mode == "always":
            return self.weight > TOO_LARGE
        return self.interpreted_seconds >= encode_estimate(self.size)

    def _loop(self, roots, inputs, numbers, outputs) -> list | None:
        """The results, computed by the generic loop; None if the graph is not for it."""
        generic = self.generic
        if generic is None or not generic.suits(numbers):
            try:
                generic = GenericProgram(pending(roots), inputs, numbers, outputs)
            except Unsuited as error:
                self._unsuited = str(error)
                return None
            self.generic = generic
        started = time.perf_counter()
        results = generic([n.value for n in inputs], numbers)
        self.looped_seconds += time.perf_counter() - started
        self.tier = "generic loop"
        self.reason = f"{generic.reason}; {self.reason}"
        return results

    # -- the choice -------------------------------------------------------------------------------

    @property
    def _spent(self) -> float:
        """Seconds that compiled code could have saved (the loop is about half as fast)."""
        return self.interpreted_seconds + self.looped_seconds / 2

    def compile_estimate(self) -> float:
        """Seconds that compiling is expected to take."""
        start = 0.0 if "llvmlite.binding" in sys.modules else LLVM_START
        return start + COMPILE_START + COMPILE_NODE * self.weight

    def _choose(self, roots, inputs, numbers, outputs, walk) -> Plan | None:
        """The plan to run, compiled if that pays; None for a first or a very large evaluation."""
        if not self.nodes:
            order = pending(roots)
            self.nodes, self.size = len(order), opened_size(order)
            self.weight = weight(order)
            self.looping_seconds = NODE_SECONDS * iterated_nodes(order)
            self._swept = swept_size(order)
        mode = settings.mode
        if mode == "auto" and budget.bytes is not None:
            mode = "always"
        wanted = self._wants_compiling(mode)
        looping = self.weight > TOO_LARGE or self._wants_loop()
        if not wanted and (self.calls == 1 or looping):
            self._first = numbers
            return None
        with self._lock:
            plan = self._plan
            if plan is None:
                if self._first is not None:
                    self._varied = self._varied | differing(self._first, numbers)
                plan = self._plan = Plan(pending(roots), inputs, numbers, outputs, self._varied)
            if wanted and plan.compiled is None:
                compiled = self._made(plan, mode)
                if compiled is not None:
                    self.used = live.tick()
                    live.add(self, compiled.code_bytes)
                    plan.adopt(compiled, inputs, walk)
        return plan

    def _made(self, plan: Plan, mode: str):
        """The compiled form; None while a thread is at it."""
        if self._task is None:
            if mode != "background":
                return plan.made()
            self._task = Task(plan.made)
        task = self._task
        if mode == "background" and not task.done:
            self.reason = "a thread is compiling it"
            return None
        self._task = None
        return task.result()

    def _wants_compiling(self, mode: str) -> bool:
        """Whether this call is to run compiled; the reason is noted."""
        plan = self._plan
        if mode == "never":
            self.reason = 'set_compile("never")'
        elif plan is not None and plan.compiled is not None:
            return True
        elif self.weight > TOO_LARGE:
            self.reason = f"{self.size} nodes are too many to compile"
            if self._unsuited:
                self.reason += f", and the generic loop is not for it: {self._unsuited}"
        elif (
            mode in ("auto", "background")
            and self._spent + self.looping_seconds < self.compile_estimate()
        ):
            self.reason = (
                f"running it took {self._spent:.3f} s so far, "
                f"compiling would take about {self.compile_estimate():.2f} s"
            )
        elif self._task is None and not live.make_room():
            self.reason = (
                f"{live.count} compiled programs of {live.bytes} bytes live already (at most "
                f"{live.most_programs} may, of {live.most_bytes} bytes; see fg.cache)"
            )
        else:
            self.reason = (
                'set_compile("always")'
                if mode == "always"
                else f"running it had taken {self._spent:.2f} s"
                if self._spent
                else f"interpreting its loops would take about {self.looping_seconds:.2f} s"
            )
            return True
        return False


def iterated_nodes(order) -> int:
    """Nodes that interpreting the loops among `order` runs, each as often as its loop goes around."""
    total = 0
    for node in order:
        if node.op.kind in ("loop", "while", "call") and node.value is None:
            graphs = [g for g in node.attrs if type(g) is Graph]
            inner = sum(iterated_nodes(g.order) for g in graphs)
            if node.op.kind != "call":
                rounds = WHILE_ROUNDS if node.op.kind == "while" else node.attrs[3]
                inner = rounds * (inner + sum(len(g.order) for g in graphs))
            total += inner
    return total


_programs: OrderedDict = OrderedDict()
_lock = threading.Lock()


def program_for(key) -> Program:
    """The program of a signature; the least recently used are forgotten past a bound."""
    last = latest.pair
    if last is not None and last[0] == key:  # a loop: comparing is cheaper than hashing
        return last[1]
    found = _look_up(key)
    latest.pair = key, found
    return found


class Latest(threading.local):
    """The last signature and program of each thread."""

    pair: tuple | None = None


latest = Latest()


def _look_up(key) -> Program:
    with _lock:
        found = _programs.get(key)
        if found is None:
            error = without_value(key)
            if error is not None:
                raise error
            found = _programs[key] = Program()
            if len(_programs) > REMEMBERED:
                _, old = _programs.popitem(last=False)
                live.remove(old)
        else:
            _programs.move_to_end(key)
        return found


def programs() -> list[Program]:
    """All programs that are remembered."""
    with _lock:
        return list(_programs.values())


__all__ = ["Program", "get_compile", "program_for", "programs", "set_compile"]
