"""``fg.compile``: one signature's program, compiled now; NumPy in and out, callable from njit and C."""

from __future__ import annotations

from collections.abc import Callable
from keyword import iskeyword

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, late
from ..transform.carry import pack, unpack
from .bound import Bound, checked, out_leaves
from .example import traced_example
from .lowlevel import low_level_callable
from .numba_names import teach_numba
from .tracing import Kind
from .tree import Spec, flatten, unflatten

__all__ = ["CompiledFunction", "compile"]

_REFUSED = (
    TypeError,
    ShapeError,
)  # what a dispatcher raises for other types, an entry for other shapes


def compile(
    f: Callable,
    *example,
    donate_argnums=(),
    parallel: bool = False,
    reproducible: bool = False,
    **keywords,
) -> CompiledFunction:
    """The program of ``f(*example, **keywords)``, compiled now for these shapes and dtypes.

    Everything that `f` reads besides its arguments (parameters, closures) is fixed: the program has
    the values of this moment. Python numbers are float64, int64 or bool arguments that may change
    from call to call.

    Parameters
    ----------
    f : callable
        Of trees of tensors; ``fg.value_and_grad(loss)``, for example.
    *example, **keywords : trees of arrays, tensors and numbers
        Only their structure, shapes and dtypes matter.
    donate_argnums : int or tuple of int
        Positional arguments whose arrays are given up: results of their shapes and dtypes are written over
        them, in order, and are these arrays. A training step allocates nothing then. Tensors are copied.
    parallel : bool
        Whether large loops run on several threads (``fg.set_num_threads``): those whose iterations write
        different elements, with enough work to be worth it.
    reproducible : bool
        Whether results have the same bits on every machine, and in exported C: see `docs/numerics.md`.
        It costs some speed.

    Returns
    -------
    CompiledFunction
        Called with NumPy arrays it returns NumPy arrays, and floats where a result has no dimensions.
        ``.njit`` and ``.njit_out`` are callable in Numba code, ``.cfunc`` from C.

    Raises
    ------
    TraceError
        If `f` asks for a value of its arguments.
    ArgumentError, DTypeError
        If an example or a result is no data.
    UnsupportedError
        If it is to be reproducible, and NumPy runs a part of it (``eigh``).

    Examples
    --------
    >>> import flatgrad as fg
    >>> import numpy as np
    >>> g = fg.compile(fg.value_and_grad(lambda x: (x * x).sum()), np.zeros(2))
    >>> g(np.array([1.0, 2.0]))
    (5.0, array([2., 4.]))
    >>> out = np.empty(2)
    >>> value, gradient = g(np.array([3.0, 4.0]), out=out)
    >>> out
    array([6., 8.])
    """
    if not callable(f):
        raise ArgumentError(f"compile: a function is required, got {type(f).__name__}")
    label = getattr(f, "__name__", type(f).__name__)
    if not label.isidentifier():
        label = "function"
    made = traced_example("compile", f, example, keywords, donate_argnums)
    traced = made.traced
    held = traced.captured_nodes
    late.evaluate(held)
    given = [k.number for k in made.kinds], label, made.names, made.donated
    bound = Bound.of(traced.graph, *given, bool(parallel), bool(reproducible))
    bound.constants[:0] = [np.asarray(n.value, order="C") for n in held]
    return CompiledFunction(bound, made.kinds, made.arguments, traced.spec)


def parts_of(f: CompiledFunction) -> tuple[Bound, list[Kind], Spec, Spec]:
    """(what it runs, kinds and structure of its arguments, structure of its result)."""
    return f._bound, f._kinds, f._spec, f._result


class CompiledFunction:
    """A program of one signature; made by :func:`compile`.

    Calling it with ``out=`` fills given arrays: `out` is the one array if one result has
    dimensions, or a tree like the result with the arrays (None, or any number, where a result has
    no dimensions).

    Attributes
    ----------
    njit : Numba dispatcher
        ``results = g.njit(*arguments)`` in ``@njit`` code, from any thread, without the GIL: a tuple of all
        leaves of the result, or the bare one.
    njit_out : Numba dispatcher
        ``g.njit_out(*arguments, *arrays)`` fills an array for each result that has dimensions, in order, and
        returns those that have none. It allocates nothing if the program's ``arena`` is at most 32 KB.
    cfunc : Numba CFunc
        A C function ``int64_t f(const T0 *x0, ..., R0 *y0, ...)``: a pointer to each argument, then
        to each result, row-major; it returns 0, or the number of a run-time error (an index out of range).
    tier, source, arena : str, str, int
        ``"compiled"`` or ``"interpreted"``; the readable loops; bytes of scratch memory a call uses.
    """

    __slots__ = (
        "_arrays",
        "_bound",
        "_fill",
        "_flat_out",
        "_kinds",
        "_label",
        "_program",
        "_result",
        "_spec",
        "_value_first",
    )

    def __init__(self, bound: Bound, kinds: list[Kind], spec: Spec, result: Spec):
        self._bound, self._kinds, self._spec, self._result = bound, kinds, spec, result
        self._label = bound.label
        nodes = bound.graph.outputs
        self._arrays = [k for k, n in enumerate(nodes) if n.shape]
        self._value_first = len(nodes) == 2 and self._arrays == [1]  # a value and its gradient
        args, keywords = spec.children
        leaf = [c.kind is None for c in args.children]
        flat_in = all(leaf) and not keywords.children
        plain = result.kind is None or (
            result.kind is tuple and all(c.kind is None for c in result.children)
        )
        # A tuple of one leaf comes back bare from the program.
        self._flat_out = plain and not (result.kind is tuple and bound.single)
        self._program = bound.program
        self._fill = None  # machine code for arrays, once it was asked for
        if bound.entry is not None:
            teach_numba(CompiledFunction)
        if bound.entry is not None and flat_in and self._flat_out and kinds:
            self.__class__ = _direct_class(tuple(bound.names))

    def __call__(self, *args, out=None, **keywords):
        if out is None:
            return self._call(args, keywords)
        return self._call_into(args, keywords, out)

    # -- the long way: every argument checked -----------------------------------------------------

    def _arguments(self, args: tuple, keywords: dict) -> list:
        leaves, spec = flatten((args, keywords))
        if spec != self._spec:
            raise ArgumentError(
                f"{self._label}: arguments of the structure {_call_text(self._spec)} are required, got "
                f"{_call_text(spec)}; compile another one for these"
            )
        bound = self._bound
        found = [
            checked(self._label, x, kind, name)
            for x, kind, name in zip(leaves, self._kinds, bound.names, strict=True)
        ]
        for k in bound.updates.values():
            if isinstance(leaves[k], Tensor):  # its value does not change
                found[k] = found[k].copy()
        return found

    def _call(self, args: tuple, keywords: dict):
        made = self._program(*self._arguments(args, keywords))
        return self._tree(made)

    def _tree(self, made):
        if self._flat_out:
            return made
        return unflatten(self._result, [made] if self._bound.single else made)

    def _call_into(self, args: tuple, keywords: dict, out):
        if self._bound.updates:
            raise ArgumentError(
                f"{self._label}: results are written over the donated arguments; leave out= out"
            )
        arguments = self._arguments(args, keywords)
        nodes = self._bound.graph.outputs
        targets = out_leaves(self._label, out, nodes, self._result)
        given = [
            np.empty(nodes[k].shape, nodes[k].dtype.np) if targets[k] is None else targets[k]
            for k in self._arrays
        ]
        direct = [self._usable(a, arguments) for a in given]
        for k, a in enumerate(direct):
            if any(np.may_share_memory(a, b) for b in direct[:k]):
                raise ArgumentError(
                    f"{self._label}: two arrays of out= share memory; give each result its own"
                )
        fill = self._bound.fill
        if self._value_first or len(self._arrays) == len(nodes):
            self._fill = fill
        numbers = fill(*arguments, *direct)
        for a, d in zip(given, direct, strict=True):
            if a is not d:
                a[...] = d
        rest = iter(() if numbers is None else numbers if type(numbers) is tuple else (numbers,))
        arrays = iter(given)
        leaves = [next(arrays if n.shape else rest) for n in nodes]
        for k, target in enumerate(targets):
            if target is not None and target is not leaves[k]:
                target[...] = leaves[k]
                leaves[k] = target
        return unflatten(self._result, leaves)

    def _usable(self, out: np.ndarray, arguments: list) -> np.ndarray:
        """`out`, or another array where the program cannot write to it directly."""
        apart = not any(
            isinstance(a, np.ndarray) and np.may_share_memory(out, a) for a in arguments
        )
        return out if out.flags.carray and apart else np.empty(out.shape, out.dtype)

    # -- other callers ----------------------------------------------------------------------------

    @property
    def njit(self):
        return self._bound.need_entry("njit").njit

    @property
    def njit_out(self):
        return self._bound.need_entry("njit_out").njit_out

    @property
    def cfunc(self):
        return self._bound.need_entry("cfunc").cfunc

    def low_level_callable(self, *fixed, signature: str | None = None):
        """A ``scipy.LowLevelCallable`` of the first arguments; the last ones are `fixed`.

        Parameters
        ----------
        *fixed : arrays or numbers of float64
            Values of the last arguments. They are handed over as user data, so one program serves many.
        signature : str, optional
            ``"double (double)"`` for a function of one number, ``"double (int, double *)"`` for one
            of several numbers or of one vector; found from the arguments if not given.

        Returns
        -------
        scipy.LowLevelCallable

        Raises
        ------
        ArgumentError, DTypeError
            If the arguments or the result don't fit such a function.

        Examples
        --------
        >>> import flatgrad as fg
        >>> from scipy.integrate import quad
        >>> g = fg.compile(lambda x, a: fg.exp(-a * x * x), 0.0, 0.0)
        >>> round(quad(g.low_level_callable(2.0), 0, 1)[0], 6)
        0.598144
        """
        self._bound.need_entry("low_level_callable")
        return low_level_callable(self._bound.entry, self._kinds, fixed, signature)

    @property
    def tier(self) -> str:
        return self._bound.tier

    @property
    def reason(self) -> str:
        """Why that tier."""
        return self._bound.reason

    @property
    def source(self) -> str:
        return self._bound.source

    @property
    def arena(self) -> int:
        return self._bound.arena

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{n}: {k}" for n, k in zip(self._bound.names, self._kinds, strict=True)
        )
        return f"<compiled {self._label}({arguments}), {self.tier}>"

    def __reduce__(self):
        bound = self._bound
        return _restored, (
            pack(bound.graph),
            bound.constants,
            bound.label,
            bound.names,
            [(k.shape, k.dtype, k.number) for k in self._kinds],
            self._spec,
            self._result,
            bound.donated,
            bound.parallel,
            bound.reproducible,
        )


_DIRECT = """
class Direct(CompiledFunction):
    __slots__ = ()

    def __call__(self, {names}, *, out=None):
        if out is None:
            try:
                return self._program({names})
            except REFUSED:
                pass  # what is wrong is told, or put right, on the long way
            return self._call(({names},), {{}})
        fill = self._fill
        if fill is not None:
            try:
                if self._value_first:
                    return fill({names}, out), out
                if type(out) is tuple:
                    fill({names}, *out)
                else:
                    fill({names}, out)
                return out
            except REFUSED:
                pass
        return self._call_into(({names},), {{}}, out)
"""
_direct: dict[tuple, type] = {}


def _direct_class(names: tuple) -> type:
    """The class of functions that hand these arguments straight to machine code, which checks them.

    Written for its arguments: collecting any arguments into a tuple takes as long as the program runs.
    """
    usable = all(n.isidentifier() and not iskeyword(n) and n not in ("self", "out") for n in names)
    if not usable or len(set(names)) < len(names):
        names = tuple([f"x{k}" for k in range(len(names))])
    if names not in _direct:
        namespace = {"CompiledFunction": CompiledFunction, "REFUSED": _REFUSED}
        exec(_DIRECT.format(names=", ".join(names)), namespace)
        made = _direct[names] = namespace["Direct"]
        made.__name__ = made.__qualname__ = "CompiledFunction"
        made.__module__ = __name__
    return _direct[names]


def _restored(
    graph, constants, label, names, kinds, spec, result, donated, parallel, reproducible
) -> CompiledFunction:
    kinds = [Kind(*k) for k in kinds]
    numbers = [k.number for k in kinds]
    graph = unpack(graph)
    bound = Bound(graph, constants, numbers, label, names, donated, parallel, reproducible)
    return CompiledFunction(bound, kinds, spec, result)


def _call_text(spec: Spec) -> str:
    args, keywords = spec.children
    parts = [repr(c) for c in args.children]
    parts += [f"{k}={c!r}" for k, c in zip(keywords.context, keywords.children, strict=True)]
    return f"({', '.join(parts)})"
