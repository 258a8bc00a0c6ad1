"""The record of one operation, and the registry: the only list of operations there is.

An author writes one ``Op`` through the helpers of ``ops/declare.py``; the public function, the tensor
method, the tests, the docs' row and the printers are derived from the record.

Calling convention of every callable on a record: first the inputs, then the attributes, all
positional, in declared order. ``numpy`` gets arrays, ``infer`` gets nodes (for their shape and
dtype), ``pullback`` and ``pushforward`` get tensors. A variadic op (``cat``) gets its inputs as one
tuple.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One call of a public function, for tests: ``fn(*args, **kwargs)``.

    NumPy arrays among `args` (also inside tuples and lists) become tensors; floating ones are
    differentiated in the gradient checks.
    """

    args: tuple
    kwargs: dict = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadCall:
    """A wrong call of a public function, the error it must raise, and a regex of the message."""

    args: tuple
    error: type
    match: str
    kwargs: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False, slots=True)
class Public:
    """A public function: a primitive's face, or a composite of other operations.

    Attributes
    ----------
    name : str
        ``flatgrad.<name>``.
    function : callable
    op : Op or None
        The primitive behind it; None for a composite.
    methods : tuple of str
        Names under which it is a method of ``Tensor``.
    numpy : tuple
        NumPy functions and ufuncs that record as this one when given tensors.
    samples : callable or None
        ``samples(rng) -> iterable of Sample`` with float64 data.
    errors : callable or None
        ``errors() -> iterable of BadCall``.
    torch : str or None
        Dotted name of the PyTorch peer below ``torch``; None if there is none.
    differentiable : bool
        Whether gradient checks apply.
    """

    name: str
    function: Callable
    op: Any = None
    methods: tuple[str, ...] = ()
    numpy: tuple = ()
    samples: Callable | None = None
    errors: Callable | None = None
    torch: str | None = None
    differentiable: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Op:
    """One operation, declared once. Immutable; compared by identity.

    Attributes
    ----------
    name : str
        Unique name; the public function's name unless `public` is None.
    kind : str
        What the lowering sees: ``elementwise``, ``reduction``, ``movement``, ``gather``, ``scatter``,
        ``cat``, ``contraction``, ``scan``, ``library``, ``source``, or a structural kind of the graph
        itself (``leaf``, ``const``, ``input``, ``alias``, ``call``, ``proj``).
    arity : int
        Number of inputs; -1 if variadic.
    attrs : tuple of str
        Names of the static attributes, in the order in which callables receive them.
    infer : callable
        ``infer(*nodes, *attrs) -> (shape, dtype)``, or a tuple of such pairs if `outputs` > 1.
    numpy : callable
        The meaning: ``numpy(*arrays, *attrs) -> array`` (or a tuple). Views may be returned.
    pullback : callable or None
        ``pullback(g, out, *inputs, *attrs) -> tuple`` of one cotangent (tensor or None) an input.
        With several outputs `g` and `out` are tuples and an entry of `g` may be None.
    pushforward : callable or None
        ``pushforward(tangents, out, *inputs, *attrs) -> tangent``; None derives it from `pullback`.
    loop : Any
        What the kind's lowering needs: a scalar expression, an index map, a combiner, a library call.
    write : callable or None
        For views: ``write(base, source, *attrs) -> base`` with `source` written where the view looks.
    outputs : int
        Number of outputs; anything but 1 makes the node a tuple that ``proj`` nodes read, -1 says
        that it varies (see the node's ``shape``).
    domain : tuple
        For tests, one ``(low, high)`` an input, the open interval samples are drawn from.
    kinks : str
        The convention where the derivative does not exist, in words (docs and tests).
    edges : tuple
        Points (or tuples of points) of the domain's edge that tests must visit.
    doc : str
        The formula, and the source of it.
    differentiable : bool
        False for operations without a derivative (comparisons, indices).
    """

    name: str
    kind: str
    arity: int
    attrs: tuple[str, ...]
    infer: Callable
    numpy: Callable | None
    pullback: Callable | None = None
    pushforward: Callable | None = None
    loop: Any = None
    write: Callable | None = None
    outputs: int = 1
    domain: tuple = ()
    kinks: str = ""
    edges: tuple = ()
    doc: str = ""
    differentiable: bool = True

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self):
        return (op_named, (self.name,))


@dataclass(frozen=True, slots=True, eq=False)
class Exact:
    """A number as an attribute, equal only to what prints the same: 0.0 is not -0.0, 1 is not True.

    Attributes are compared to find a known program, and ``==`` would give one of them the other's.
    """

    number: float | int | bool

    def __eq__(self, other) -> bool:
        return type(other) is Exact and repr(self.number) == repr(other.number)

    def __hash__(self) -> int:
        return hash(repr(self.number))


REGISTRY: dict[str, Op] = {}
PUBLIC: dict[str, Public] = {}


def register(op: Op) -> Op:
    """Add `op` to the registry; a second op of the same name is a bug in flatgrad."""
    if op.name in REGISTRY:
        raise AssertionError(f"operation {op.name!r} is declared twice")
    REGISTRY[op.name] = op
    return op


def op_named(name: str) -> Op:
    return REGISTRY[name]


def publish(public: Public) -> Public:
    """Add a public function; a second one of the same name is a bug in flatgrad."""
    if public.name in PUBLIC:
        raise AssertionError(f"public function {public.name!r} is declared twice")
    PUBLIC[public.name] = public
    return public
