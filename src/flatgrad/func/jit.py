"""``fg.jit``: a function traced once a signature; then a call is its compiled program."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable
from types import MethodType

import numpy as np

from ..errors import ArgumentError, GradientError
from ..graph import dtypes
from ..graph.memory import sole_array, sole_node
from ..graph.modes import modes
from ..graph.node import INPUT, LEAF, SHARED, Node, leaf, pending
from ..program.tiers import settings
from ..program.traced import DONATED
from ..tensor import Tensor, bind, late, make, node_of, outputs_of, snapshot, user_line, wrap
from ..transform.call import CALL
from .bound import Bound, out_leaves
from .calling import Calling
from .example import Example
from .report import JitReport, SignatureReport, differences
from .tracing import Kind, Traced
from .tree import flatten, unflatten

__all__ = ["JitFunction", "jit"]

_DTYPES = {d.np: d for d in dtypes.ALL}
_NUMBERS = {float: dtypes.float64, int: dtypes.int64, bool: dtypes.bool_}


def jit(
    f: Callable | None = None,
    *,
    static_argnums: int | tuple = (),
    static_argnames: str | tuple = (),
    donate_argnums: int | tuple = (),
    parallel: bool = False,
    reproducible: bool = False,
):
    """`f`, traced and compiled once for each signature of its arguments.

    A signature is the structure of the arguments, the shapes and dtypes of their tensors and arrays, and the
    values of the static ones. A Python number is an input like an array: another one takes no new trace.
    Tensors that `f` reads from outside (parameters of a model that it closes over) are read at every call,
    and derivatives flow to them. The Python code of `f` runs while it is traced, and not again.

    Parameters
    ----------
    f : callable
        Of trees of tensors, arrays and numbers; returns a tree of tensors. Left out, ``jit(...)``
        is a decorator.
    static_argnums, static_argnames : int or tuple of int, str or tuple of str
        Arguments that are part of the signature: any hashable values, `f` gets them as they are.
    donate_argnums : int or tuple of int
        Positional arguments whose tensors the caller gives up: results of their shapes and dtypes are
        written over them, in place, where nothing else shows their memory.
    parallel : bool
        Whether large loops of its programs run on several threads, see ``fg.set_num_threads``. (Calls
        that are recorded become part of a larger program, which runs on one.)
    reproducible : bool
        Whether results have the same bits on every machine, as for :func:`flatgrad.compile`. Derivatives are
        taken inside of it then: ``fg.jit(fg.grad(f), reproducible=True)``.

    Returns
    -------
    JitFunction
        Called like `f`. Its results have values, but for calls that record (grad mode is on and
        something requires grad): those are one node of the graph, computed together with what
        follows. With ``out=`` the results are written to given arrays or tensors. ``explain()``
        tells of every trace.

    Raises
    ------
    TraceError
        From a call, if `f` needs the value of an argument (an ``if`` on it, ``item()``), or writes
        to a tensor from outside.
    ArgumentError
        For arguments that are no data and not static, unhashable static ones, and names `f` has not.
    GradientError
        From a call of a reproducible function whose derivatives may be asked for.
    UnsupportedError
        From a call of one of which NumPy runs a part (``eigh``).

    Examples
    --------
    >>> import flatgrad as fg
    >>> @fg.jit
    ... def f(x, n):
    ...     return (x * n).sum()
    >>> f(fg.tensor([1.0, 2.0]), 3.0), f(fg.tensor([1.0, 2.0]), 4.0)
    (tensor(9.), tensor(12.))
    >>> len(f.explain().signatures)
    1
    >>> fg.grad(f)(fg.tensor([1.0, 2.0]), 3.0)
    tensor([3., 3.])
    """
    options = static_argnums, static_argnames, donate_argnums, bool(parallel), bool(reproducible)
    if f is None:
        return lambda function: JitFunction(function, *options)
    return JitFunction(f, *options)


class Signature:
    """One trace of a function, and what runs it."""

    def __init__(self, traced: Traced, kinds: list[Kind], names: list[str], label: str):
        self.traced, self.kinds, self.names, self.label = traced, kinds, names, label
        self.captured = traced.captured
        self.graph = traced.graph
        self.outputs = [(n.shape, n.dtype) for n in traced.graph.outputs]
        self.shapes, self.dtypes = traced.graph.shapes, traced.graph.dtypes
        self.numbers = [k.number for k in kinds] + [False] * len(self.captured)
        self.calls = 0
        self.recorded = 0
        self.trace_seconds = 0.0
        self.reason = ""
        self.statics: tuple = ()
        self.bare = self.dtypes[0] if traced.spec.kind is None else None  # the one result's dtype
        self.parallel = False
        self.reproducible = False
        self.donated: tuple = ()  # positions among the leaves of the arguments
        self._bounds: dict[bool, Bound] = {}
        self._programs: dict[bool, Callable] = {}
        self._lock = threading.Lock()

    def bound(self) -> Bound:
        never = settings.mode == "never"
        found = self._bounds.get(never)
        if found is None:
            with self._lock:
                found = self._bounds.get(never)
                if found is None:
                    more = [f"captured[{k}]" for k in range(len(self.captured))]
                    names = [*self.names, *more]
                    form = (self.graph, self.numbers, self.label, names)
                    found = Bound.of(*form, self.donated, self.parallel, self.reproducible)
                    self._bounds[never] = found
        return found

    @property
    def program(self) -> Callable:
        """``program(*arrays and numbers)``, compiled when it is first asked for."""
        never = settings.mode == "never"
        found = self._programs.get(never)
        if found is None:
            found = self._programs[never] = self.bound().program
        return found

    @property
    def is_cacheable(self) -> bool:
        """Whether another call may use it: nothing it captured belongs to a trace around it."""
        open_ = [n for n in self.traced.captured_nodes if n.value is None]
        return not any(n.op is INPUT for n in pending(open_))

    def report(self) -> SignatureReport:
        bounds = list(self._bounds.values())
        last = bounds[-1] if bounds else None
        return SignatureReport(
            arguments=tuple(zip(self.names, map(repr, self.kinds), strict=True)),
            statics=self.statics,
            reason=self.reason,
            calls=self.calls,
            recorded=self.recorded,
            trace_seconds=self.trace_seconds,
            compile_seconds=last.compile_seconds if last else 0.0,
            tier=last.tier if last else "recorded",
            tier_reason=last.reason if last else "every call so far was part of a larger graph",
            kernels=last.kernels if last else 0,
            arena=last.arena if last else 0,
            source=last.source if last else "",
        )


class JitFunction:
    """A function compiled for each signature; made by :func:`jit`."""

    def __init__(
        self,
        f: Callable,
        static_argnums,
        static_argnames,
        donate_argnums,
        parallel: bool,
        reproducible: bool,
    ):
        if not callable(f):
            raise ArgumentError(f"jit: a function is required, got {type(f).__name__}")
        functools.update_wrapper(self, f, updated=())
        self._f = f
        self._options = static_argnums, static_argnames, donate_argnums, parallel, reproducible
        self._parallel, self._reproducible = parallel, reproducible
        self.__name__ = getattr(f, "__name__", type(f).__name__)
        self._label = self.__name__ if self.__name__.isidentifier() else "function"
        self._calling = Calling(f, self._label, static_argnums, static_argnames, donate_argnums)
        self._donate = self._calling.donate
        self._owns_out = "out" in self._calling.parameters
        self._signatures: dict[tuple, Signature] = {}
        self._lock = threading.RLock()

    # -- a call -----------------------------------------------------------------------------------

    def __call__(self, *args, **kwargs):
        out = None
        if kwargs and not self._owns_out:
            out = kwargs.pop("out", None)
        static: tuple = ()
        if self._calling.static:
            args, kwargs, static = self._calling.apart(args, kwargs)
        elif kwargs:
            args = self._calling.in_place(args, kwargs)
        leaves, spec = flatten(args) if not kwargs else flatten((args, kwargs))
        key: list = [spec, static, dtypes._default]
        values: list = []  # nodes of tensors, and everything else as it came
        recording = modes.pending < 0
        grad = modes.grad
        for x in leaves:
            if isinstance(x, Tensor):
                node = x._node if x._base is None else node_of(x)
                values.append(node)
                key.append(node.shape)
                key.append(node.dtype)
                if grad and node.requires_grad:
                    recording = True
                continue
            values.append(x)
            if type(x) is np.ndarray:
                key.append(x.shape)
                key.append(_DTYPES.get(x.dtype, x.dtype))
            else:
                key.append(type(x))
        key = tuple(key)
        signature = self._signatures.get(key)
        if signature is None:
            signature = self._new(key, args, kwargs, leaves, spec, static)
        signature.calls += 1
        captured = signature.traced.captured_nodes if signature.captured else ()
        if not recording and grad:
            for node in captured:
                if node.requires_grad:
                    recording = True
        if recording:
            return self._record(signature, values, captured, out)
        if out is None and not self._donate:
            made = signature.program(*_arrays(values, captured))
            if signature.bare is not None:
                return _result(made, signature.bare)
            if len(signature.dtypes) == 1:
                made = (made,)
            return unflatten(signature.traced.spec, map(_result, made, signature.dtypes))
        node = None  # counted as somebody who refers to it
        return self._run_into(signature, args, values, captured, out)

    def _record(self, signature: Signature, values, captured, out):
        """One node for the whole call; its derivatives are calls as well."""
        if out is not None:
            raise GradientError(
                f"{self._label}: out= cannot be given where the call is recorded for derivatives or into "
                "another trace; call it under no_grad(), or leave out= out"
            )
        if self._reproducible and modes.pending >= 0:
            raise GradientError(
                f"{self._label}: a reproducible function does not record, since what follows it would be "
                "part of its program; call it under no_grad(), or take the derivative inside: "
                "fg.jit(fg.grad(f), reproducible=True)"
            )
        signature.recorded += 1
        nodes = []
        for x, kind in zip(values, signature.kinds, strict=True):
            if type(x) is not Node:
                x = leaf(np.array(x, kind.dtype.np, order="C"), kind.dtype)
            nodes.append(x)
        nodes += captured
        if modes.pending >= 0:
            nodes = [snapshot(n) if n.mark & SHARED else n for n in nodes]
        whole = make(CALL, tuple(nodes), (signature.graph,), signature.shapes, signature.dtypes)
        tensors = outputs_of(whole._node)
        return unflatten(signature.traced.spec, tensors)

    # -- results in given memory ------------------------------------------------------------------

    def _run_into(self, signature: Signature, args, values, captured, out):
        bound = signature.bound()
        bound.prepare()
        arrays = self._given(bound, flatten(args)[0] if self._donate else (), values, captured)
        outputs = bound.graph.outputs
        given: list = [None] * len(outputs)
        if out is not None:
            given = out_leaves(self._label, out, outputs, signature.traced.spec, tensors=True)
        buffers = []
        for k, ((shape, dtype), target) in enumerate(zip(signature.outputs, given, strict=True)):
            if not shape or k in bound.updates:
                continue
            fits = isinstance(target, np.ndarray) and target.flags.carray
            if not fits or any(np.may_share_memory(target, a) for a in arrays if _is_array(a)):
                buffers.append(np.empty(shape, dtype.np))
            else:
                buffers.append(target)
        numbers = bound.fill(*arrays, *buffers)
        rest = iter(numbers if type(numbers) is tuple else (numbers,))
        filled = iter(buffers)
        results: list = []
        for k, ((shape, dtype), target) in enumerate(zip(signature.outputs, given, strict=True)):
            at = bound.updates.get(k)
            value = arrays[at] if at is not None else next(filled if shape else rest)
            if isinstance(target, np.ndarray):
                if value is not target:
                    target[...] = value
                results.append(target)
            elif isinstance(target, Tensor):
                bind(target, leaf(np.asarray(value, dtype.np), dtype))
                results.append(target)
            else:
                results.append(_result(value, dtype))
        self._take(args)
        return unflatten(signature.traced.spec, results)

    def _given(self, bound: Bound, leaves, values, captured) -> list:
        """The program's arguments; those that it overwrites have memory that nobody else sees."""
        pending = [x for x in (*values, *captured) if type(x) is Node and x.value is None]
        if pending:
            late.evaluate(pending)
        del pending
        over = bound.updates.values()
        alone = {k for k in over if isinstance(leaves[k], Tensor) and _is_alone(leaves[k])}
        arrays = _arrays(values, captured)
        for k in over:
            if k not in alone:
                arrays[k] = arrays[k].copy()
        return arrays

    def _take(self, args) -> None:
        """Let no donated tensor be used any more."""
        for position in self._donate:
            for t in flatten(args[position])[0] if position < len(args) else ():
                if isinstance(t, Tensor) and t._base is None and t._node.op is LEAF:
                    old = t._node
                    where = f"{self._label} at {user_line()}"
                    bind(t, Node(DONATED, (), (where,), old.shape, old.dtype))

    # -- a new signature --------------------------------------------------------------------------

    def _new(self, key: tuple, args, kwargs, leaves, spec, static) -> Signature:
        with self._lock:
            found = self._signatures.get(key)
            if found is not None:
                return found
            started = time.perf_counter()
            example = self._calling.traced(args, kwargs, leaves, spec, static)
            made = Signature(example.traced, example.kinds, example.names, self._label)
            made.trace_seconds = time.perf_counter() - started
            made.parallel, made.reproducible = self._parallel, self._reproducible
            made.donated = example.donated
            made.statics = tuple([(n, repr(v)) for n, v, _ in static])
            made.reason = differences(made, list(self._signatures.values()))
            if made.is_cacheable:
                self._signatures[key] = made
            return made

    # -- what happened ----------------------------------------------------------------------------

    def explain(self) -> JitReport:
        """Every signature: why it was traced, how often it was called, what its program costs.

        Returns
        -------
        JitReport
            Prints as a table; ``.signatures`` are its rows.
        """
        return JitReport(self._label, [s.report() for s in list(self._signatures.values())])

    def clear(self) -> None:
        """Forget all traces; the next call traces anew."""
        with self._lock:
            self._signatures.clear()

    def __get__(self, instance, owner=None):
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jit {self._label}, {len(self._signatures)} signatures>"

    def __reduce__(self):
        """By name where it is a module's global, as functions are; else the function, to be traced anew."""
        module, name = getattr(self, "__module__", None), getattr(self, "__qualname__", "")
        found = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not self:
            return _again, (self._f, *self._options)
        if module == "__main__":
            # Other processes have another __main__; cloudpickle carries its functions by value.
            try:
                import cloudpickle
            except ImportError:
                return name
            return _loaded, (cloudpickle.dumps(self._f), *self._options)
        return name


def example_of(f: JitFunction, args: tuple, kwargs: dict) -> tuple[Example, bool]:
    """(what a call with these arguments would trace, whether its program is reproducible)."""
    return f._calling.example(args, kwargs), f._reproducible


def _again(f, *options) -> JitFunction:
    return JitFunction(f, *options)


def _loaded(pickled: bytes, *options) -> JitFunction:
    import pickle

    return JitFunction(pickle.loads(pickled), *options)


# -- arguments ------------------------------------------------------------------------------------


def _is_alone(t: Tensor) -> bool:
    """Whether nothing but `t`, and the list of this call's arguments, refers to its memory."""
    if t._base is not None or t._viewed or t._node.op is not LEAF or t._node.mark & SHARED:
        return False
    return sole_array(t._node) and sole_node(t, besides=1)


def _is_array(x) -> bool:
    return isinstance(x, np.ndarray)


def _arrays(values: list, captured) -> list:
    """What the program takes: contiguous arrays that may be written, and numbers."""
    found = []
    for x in (*values, *captured):
        if type(x) is Node:
            if x.value is None:
                late.evaluate([n for n in (*values, *captured) if type(n) is Node])
            x = x.value
        elif type(x) in _NUMBERS:
            found.append(x)
            continue
        elif type(x) is not np.ndarray or not x.dtype.isnative:
            x = np.asarray(x)
            x = x.astype(_of(x.dtype)) if x.dtype not in _DTYPES else x
        found.append(x if x.flags.carray else x.copy(order="C"))
    return found


def _of(dtype):
    return dtypes.as_dtype(dtype.newbyteorder("=")).np


def _result(value, dtype) -> Tensor:
    if type(value) is not np.ndarray:
        value = np.array(value, dtype.np)
    return wrap(leaf(value, dtype))
