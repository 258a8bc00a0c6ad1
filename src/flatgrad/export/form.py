"""A user's function, of any kind, as what export needs of it: one prepared graph, names and examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, FlatgradError, UnsupportedError
from ..func.bound import checked
from ..func.compile import CompiledFunction, parts_of
from ..func.example import Example, traced_example
from ..func.jit import JitFunction, example_of
from ..func.tracing import Kind
from ..func.tree import Spec, flatten, paths
from ..graph import dtypes
from ..graph.node import CONST, Graph, leaf
from ..program import interpret
from ..program.entry import foreign, given_up, prepared
from ..tensor import Tensor, late, node_of

__all__ = ["Form", "form_of"]


@dataclass
class Form:
    """A traced function.

    Attributes
    ----------
    graph : Graph
        Prepared: simplified, every output a node of its own; its last inputs are `constants`.
    names, kinds : list
        Of the arguments' leaves.
    arguments : Spec
        The structure of ``(args, keywords)``.
    result : Spec
    paths : list of str
        How a user writes the way to each result.
    donated : tuple of int
        Positions among the leaves.
    examples : list of ndarray
        The arguments' values.
    recorded : (Graph, list of Node)
        The function as it was traced, from which derivatives can be taken, and what it captured.
    reproducible : bool
        Whether ``fg.compile`` or ``fg.jit`` made it so.
    """

    label: str
    graph: Graph
    constants: list[np.ndarray]
    names: list[str]
    kinds: list[Kind]
    arguments: Spec
    result: Spec
    donated: tuple[int, ...]
    examples: list[np.ndarray]
    recorded: tuple[Graph, list]
    reproducible: bool = False

    @property
    def paths(self) -> list[str]:
        return paths(self.result, "result")

    @property
    def updates(self) -> dict:
        """{output: the argument that it is written over}."""
        return given_up(self.graph, self.donated)

    @property
    def stored(self) -> dict[int, np.ndarray]:
        """{position of an input: the constant that it is}."""
        return dict(enumerate(self.constants, len(self.names)))

    @property
    def spans(self) -> dict[int, tuple]:
        """{position of a constant of integers: its least and greatest element}."""
        return {
            k: (int(a.min()), int(a.max()))
            for k, a in self.stored.items()
            if a.dtype.kind in "iu" and a.size
        }

    def values(self, arguments: list) -> list[np.ndarray]:
        """The results by the interpreter, the reference meaning of every program."""
        graph = self.graph
        values = dict(zip(graph.inputs, [*arguments, *self.constants], strict=True))
        values.update({n: n.value for n in graph.order if n.op is CONST})
        interpret.run(graph.order, values)
        return [np.array(values[n], n.dtype.np, order="C") for n in graph.outputs]

    def attempt(self, arguments: list) -> tuple[list | None, FlatgradError | None]:
        """(results, None), or (None, the error that these arguments raise)."""
        try:
            return self.values(arguments), None
        except FlatgradError as error:
            return None, error


def form_of(f: Callable, example: tuple, keywords: dict, donate_argnums=()) -> Form:
    """`f` traced for these arguments.

    Raises
    ------
    ArgumentError, TraceError, DTypeError
        As ``fg.compile``.
    UnsupportedError
        If part of it is run by NumPy.
    """
    if not callable(f):
        raise ArgumentError(f"export: a function is required, got {type(f).__name__}")
    if isinstance(f, CompiledFunction):
        form = _of_compiled(f, example, keywords, donate_argnums)
    elif isinstance(f, JitFunction):
        form = _of_jit(f, example, keywords, donate_argnums)
    else:
        form = _whole(_label(f), traced_example("export", f, example, keywords, donate_argnums))
    node = foreign(form.graph)
    if node is not None:
        raise UnsupportedError(
            f"export: {form.label} uses {node.op.name} of {list(node.inputs[0].shape)}, which NumPy runs: it "
            "has no loops that C could have. Compute it before, and pass its result as an argument"
        )
    return form


def _label(f) -> str:
    return getattr(f, "__name__", type(f).__name__)


def _of_jit(f: JitFunction, example: tuple, keywords: dict, donate) -> Form:
    """The trace that a call with these arguments would run."""
    if donate != ():
        raise ArgumentError(
            "export: this function is a fg.jit one, whose own donate_argnums count; declare it there"
        )
    made, reproducible = example_of(f, example, keywords)
    form = _whole(_label(f), made)
    form.reproducible = reproducible
    return form


def _whole(label: str, made: Example) -> Form:
    traced = made.traced
    held = traced.captured_nodes
    late.evaluate(held)
    graph, constants = prepared(traced.graph)
    constants = [np.asarray(n.value, order="C") for n in held] + constants
    values = [_value(x, k) for x, k in zip(made.leaves, made.kinds, strict=True)]
    form = graph, constants, made.names, made.kinds, made.arguments, traced.spec, made.donated
    return Form(label, *form, values, (traced.graph, held))


def _of_compiled(f: CompiledFunction, example: tuple, keywords: dict, donate) -> Form:
    if donate != ():
        raise ArgumentError(
            "export: this function is compiled, and its own donate_argnums count; declare them in fg.compile"
        )
    bound, kinds, arguments, result = parts_of(f)
    if example or keywords:
        found, spec = flatten((example, keywords))
        if spec != arguments:
            raise ArgumentError(
                f"export: {bound.label} was compiled for arguments of another structure; give it arguments "
                "like those that it was compiled for, or none"
            )
        for x, kind, name in zip(found, kinds, bound.names, strict=True):
            checked("export", x, kind, name)
        values = [_value(x, k) for x, k in zip(found, kinds, strict=True)]
    else:
        made = np.random.default_rng(0)
        values = [_sample(made, k) for k in kinds]
    form = bound.graph, bound.constants, bound.names, kinds, arguments, result, bound.donated
    held = [leaf(a, dtypes.as_dtype(a.dtype)) for a in bound.constants]
    return Form(bound.label, *form, values, (bound.graph, held), bound.reproducible)


def _value(x, kind: Kind) -> np.ndarray:
    if isinstance(x, Tensor):
        node = node_of(x)
        late.evaluate([node])
        x = node.value
    return np.array(x, kind.dtype.np, order="C").reshape(kind.shape)


def _sample(made: np.random.Generator, kind: Kind) -> np.ndarray:
    """Numbers for the stored vectors of a function whose example nobody gave."""
    if kind.dtype.is_floating_point:
        return np.asarray(made.standard_normal(kind.shape), kind.dtype.np)
    return np.zeros(kind.shape, kind.dtype.np)
