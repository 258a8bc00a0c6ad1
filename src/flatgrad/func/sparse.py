"""Sparse Jacobians and Hessians: pattern from the graph, few passes, results in SciPy's CSR form.

A function is recorded once for each signature of its arguments. Its pattern is read from the graph
(``pattern.py``), columns or rows are coloured (``colouring.py``), and one program computes a pass for each
colour and picks the elements of the pattern. From then on a call runs that program.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from itertools import compress

import numpy as np

from ..autograd.modes import inference_mode
from ..errors import ArgumentError, GradientError
from ..graph.dtypes import float64
from ..graph.node import Graph, Node, const, leaf, placeholder
from ..graph.op import PUBLIC
from ..graph.shapes import numel
from ..ops.indexing import take_along
from ..tensor import Tensor, late, node_of, wrap
from ..transform.call import call, inline
from ..transform.pullback import pullback
from ..transform.pushforward import pushforward
from ..transform.trace import close, quiet, rebuild
from . import colouring
from .arguments import chosen_positions, constant_leaves, is_numeric, output_tensors
from .derivatives import grad
from .frame import Linear, variable_over
from .jacobians import dense_jacobian
from .jacobians import hessian as dense_hessian
from .pattern import pattern_of
from .tracing import Kind, Traced
from .tree import flatten, unflatten

__all__ = ["SparseDerivative", "hessian", "jacobian"]


def jacobian(
    func: Callable, argnums: int | tuple[int, ...] = 0, *, sparse: bool = False
) -> Callable:
    """The function that computes the Jacobian, dense or sparse.

    Parameters
    ----------
    func : callable
        Returns floating-point Tensors (a tree of them).
    argnums : int or tuple of int
        The arguments to differentiate by: trees of Tensors, NumPy arrays or numbers.
    sparse : bool
        Give a SciPy CSR matrix: elements that are zero by `func`'s structure are neither computed
        nor stored.

    Returns
    -------
    callable
        Dense: as :func:`jacrev`'s, by reverse or forward mode, whichever needs fewer passes. Sparse: a
        :class:`SparseDerivative`.

    Raises
    ------
    ArgumentError, GradientError
        When it is called, as :func:`jacrev`.

    Examples
    --------
    >>> import flatgrad as fg
    >>> J = fg.func.jacobian(lambda x: x[1:] * x[:-1], sparse=True)
    >>> J(fg.tensor([1.0, 2.0, 3.0, 4.0])).toarray()
    array([[2., 1., 0., 0.],
           [0., 3., 2., 0.],
           [0., 0., 4., 3.]], dtype=float32)
    """
    if sparse:
        return SparseDerivative("jacobian", func, argnums)
    return dense_jacobian(func, argnums)


def hessian(
    func: Callable, argnums: int | tuple[int, ...] = 0, *, sparse: bool = False
) -> Callable:
    """The function that computes the Hessian, dense or sparse.

    Parameters
    ----------
    func : callable
        Returns a floating-point Tensor; a scalar if `sparse`.
    argnums : int or tuple of int
        The arguments to differentiate by: trees of Tensors, NumPy arrays or numbers.
    sparse : bool
        Give a SciPy CSR matrix, of all elements of the arguments by all of them.

    Returns
    -------
    callable
        Dense: ``jacfwd(jacrev(func, argnums), argnums)``, Tensors of shape ``output.shape + a.shape +
        b.shape``. Sparse: a :class:`SparseDerivative`.

    Raises
    ------
    ArgumentError, GradientError
        When it is called, as :func:`grad`.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.func.hessian(lambda x: (x * x * x).sum())(fg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    >>> H = fg.func.hessian(lambda x: (x[1:] * x[:-1] ** 2).sum(), sparse=True)
    >>> H(fg.tensor([1.0, 2.0, 3.0])).toarray()
    array([[4., 2., 0.],
           [2., 6., 4.],
           [0., 4., 0.]], dtype=float32)
    """
    if not sparse:
        return dense_hessian(func, argnums)
    return SparseDerivative("hessian", func, argnums)


class SparseDerivative:
    """A Jacobian or Hessian in SciPy's CSR form; made by :func:`jacobian` and :func:`hessian`.

    Rows are the elements of the outputs, columns those of the differentiated arguments, in row-major order,
    leaf after leaf. The pattern is the same at every call with arguments of one signature: elements that
    happen to be zero are stored.

    `func` is recorded once for a signature: structure, shapes and dtypes, and the *values* of integer
    and bool arguments (indices decide the pattern). What it prints happens once. Of floating-point
    tensors that it closes over the present values are used at every call.
    """

    LIMIT = 64  # signatures that are remembered

    def __init__(self, name: str, func: Callable, argnums):
        functools.update_wrapper(self, func)
        self._name = name
        self._func = func
        self._argnums = argnums
        self._known: dict = {}
        self._lock = threading.Lock()

    def __call__(self, *args, **kwargs):
        """The matrix at these arguments.

        Returns
        -------
        scipy.sparse.csr_array, shape (elements of the outputs, elements of the arguments)
        """
        plan, given = self._plan(args, kwargs)
        values = plan.values(given)
        node = node_of(values)
        late.evaluate([node])
        return plan.matrix(node.value)

    def values(self, *args, **kwargs) -> Tensor:
        """The elements of the pattern, row by row, as a lazy Tensor of shape (nnz,).

        Derivatives flow through it. :meth:`pattern` says where the elements are.
        """
        plan, given = self._plan(args, kwargs)
        return plan.values(given)

    def pattern(self, *args, **kwargs):
        """Where the matrix is not zero by structure, as a CSR matrix of bool."""
        return self._plan(args, kwargs)[0].pattern.copy()

    def passes(self, *args, **kwargs) -> int:
        """The number of derivative passes that one matrix takes."""
        return self._plan(args, kwargs)[0].passes

    def _plan(self, args: tuple, kwargs: dict) -> tuple[Plan, list[Tensor]]:
        """The plan of the arguments' signature, and their floating-point leaves as tensors."""
        leaves, spec = flatten((args, kwargs))
        tensors = [_tensor(x) for x in leaves]
        key: list = [spec]
        given: list[Tensor] = []
        for x, t in zip(leaves, tensors, strict=True):
            if t is None:
                key.append((type(x), x))
            elif t.dtype.is_differentiable:
                given.append(t)
                key.append((t.shape, t.dtype, type(x) is float))
            else:
                key.append((t.shape, t.dtype, _value(t).tobytes()))
        signature = tuple(key)
        try:
            plan = self._known.get(signature)
        except TypeError:
            raise ArgumentError(
                f"{self._name}: arguments that are no numbers must be hashable, since the pattern "
                "may depend on them; hold them in a closure"
            ) from None
        if plan is None:
            with self._lock:
                plan = self._known.get(signature) or self._make(leaves, tensors, spec)
                self._known[signature] = plan
                if len(self._known) > self.LIMIT:
                    del self._known[next(iter(self._known))]
        return plan, given

    def _make(self, leaves, tensors, spec) -> Plan:
        return Plan(Recorded(self._name, self._func, self._argnums, leaves, tensors, spec))


def _tensor(x) -> Tensor | None:
    """A numeric leaf as a tensor. None for others, and for Python's ints and bools."""
    if isinstance(x, Tensor):
        return x
    if type(x) is float:
        return wrap(leaf(np.asarray(x), float64))
    return late.convert(x) if is_numeric(x) and not isinstance(x, (bool, int)) else None


def _value(t: Tensor) -> np.ndarray:
    node = node_of(t)
    late.evaluate([node])
    return node.value


def _chosen(name: str, argnums, spec) -> tuple[list[int], tuple[int, ...], list[bool]]:
    """Which leaves are differentiated by, which arguments, which of their leaves are variables."""
    args, _ = unflatten(spec, range(spec.count))
    positions = chosen_positions(name, argnums, len(args))
    places, inner = flatten(tuple([args[k] for k in positions]))
    variable = [not fixed for fixed in constant_leaves(inner)]
    return list(compress(places, variable)), positions, variable


class Recorded:
    """The function (of a Hessian its gradient) recorded over placeholders.

    Attributes
    ----------
    given : list of Node
        Placeholders of all floating-point arguments, then of captured tensors.
    captured : list of Tensor
        The floating-point tensors that the function closes over; their present values are used.
    inputs, outputs : lists of Node
        Those of the matrix.
    """

    def __init__(self, name: str, func, argnums, leaves, tensors, spec):
        self.symmetric = name == "hessian"
        floating = [k for k, t in enumerate(tensors) if t is not None and t.dtype.is_differentiable]
        chosen, positions, variable = _chosen(name, argnums, spec)
        for k in chosen:
            if k not in floating:
                t = tensors[k]
                what = type(leaves[k]).__name__ if t is None else repr(t.dtype)
                raise GradientError(
                    f"{name}: only floating-point arguments can be differentiated by, got {what}; "
                    "convert them, or choose other argnums"
                )
        if self.symmetric:
            func = grad(func, positions)

        def function(floats):
            filled = [x if t is None else t for x, t in zip(leaves, tensors, strict=True)]
            for k, t in zip(floating, floats, strict=True):
                filled[k] = t
            args, kwargs = unflatten(spec, filled)
            outputs, _ = output_tensors(name, func(*args, **kwargs))
            return list(compress(outputs, variable)) if self.symmetric else outputs

        kinds = [
            Kind(tuple(tensors[k].shape), tensors[k].dtype, type(leaves[k]) is float)
            for k in floating
        ]
        traced = Traced(name, function, kinds)
        self.given = [placeholder(k, n.shape, n.dtype) for k, n in enumerate(kinds)]
        self.inputs = [self.given[floating.index(k)] for k in chosen]
        self.captured: list[Tensor] = []
        self.outputs = inline(traced.graph, [*self.given, *self._taken(traced)])
        dtypes = {n.dtype for n in (*self.outputs, *self.inputs)}
        if len(dtypes) > 1:
            raise GradientError(
                f"{name}: arguments and outputs of a sparse derivative must be of one "
                "floating-point dtype, got "
                + ", ".join(sorted(d.name for d in dtypes))
                + "; convert them with .to()"
            )
        self.dtype = dtypes.pop()

    def _taken(self, traced: Traced) -> list[Node]:
        """For all that was captured a placeholder, or itself: integers decide the pattern."""
        found = []
        for c in traced.captured:
            node = node_of(c) if isinstance(c, Tensor) else c
            if isinstance(c, Tensor) and node.dtype.is_differentiable:
                self.captured.append(c)
                node = placeholder(len(self.given), node.shape, node.dtype)
                self.given.append(node)
            found.append(node)
        return found

    def forward(self, colours: np.ndarray) -> Tensor:
        """The compressed Jacobian, a row for each colour of the columns."""
        push = Linear(
            lambda seeds: pushforward(self.outputs, self.inputs, seeds), self.inputs, False
        )
        return self._compressed(push, self.inputs, self.outputs, colours)

    def reverse(self, colours: np.ndarray) -> Tensor:
        """The compressed Jacobian, a row for each colour of the rows."""
        with inference_mode(False):
            fresh = [variable_over("jacobian", wrap(n))._node for n in self.inputs]
            mapping = dict(zip(self.inputs, fresh, strict=True))
            rebuild(Graph((), tuple(self.outputs)).order, mapping, grad=True)
        outputs = [mapping[n] for n in self.outputs]
        pull = Linear(lambda seeds: pullback(outputs, fresh, seeds), self.outputs, False)
        return self._compressed(pull, self.outputs, self.inputs, colours)

    def _compressed(self, linear: Linear, seeded, results, colours: np.ndarray) -> Tensor:
        count = int(colours.max()) + 1
        units = np.zeros((count, len(colours)), self.dtype.np)
        units[colours, np.arange(len(colours))] = 1
        ends = np.cumsum([numel(n.shape) for n in seeded])
        seeds = [
            wrap(leaf(np.ascontiguousarray(part).reshape((count, *n.shape)), self.dtype))
            for part, n in zip(np.split(units, ends[:-1], axis=1), seeded, strict=True)
        ]
        parts = []
        for t, n in zip(linear.rows(seeds, count), results, strict=True):
            shape = (count, numel(n.shape))
            parts.append(wrap(const(0, self.dtype, shape)) if t is None else t.reshape(shape))
        return parts[0] if len(parts) == 1 else PUBLIC["cat"].function(parts, 1)


class Plan:
    """What a signature's matrix is computed by.

    Attributes
    ----------
    pattern : csr_array of bool
    passes : int
    graph : Graph
        From the floating-point arguments to the pattern's elements.
    """

    def __init__(self, recorded: Recorded):
        found = pattern_of(recorded.inputs, recorded.outputs)
        if recorded.symmetric:
            found = found + found.T.tocsr()
            found.sort_indices()
        self.pattern = found
        rows = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
        at = rows, found.indices.astype(np.int64)
        with quiet():
            if not found.nnz:
                self.passes = 0
                data = wrap(const(0, recorded.dtype, (0,)))
            else:
                compressed, places = _choose(recorded, found, *at)
                self.passes = compressed.shape[0]
                data = take_along(compressed.reshape(-1), 0, places)
            name = "sparse_hessian" if recorded.symmetric else "sparse_jacobian"
            self.graph, constants = close(recorded.given, [node_of(data)], name)
        self.captured = [*recorded.captured, *[wrap(n) for n in constants]]

    def values(self, given) -> Tensor:
        return call(self.graph, [*given, *self.captured])[0]

    def matrix(self, data: np.ndarray):
        from scipy import sparse

        # The user may change the matrix, so it gets arrays of its own.
        parts = data.copy(), self.pattern.indices.copy(), self.pattern.indptr.copy()
        return sparse.csr_array(parts, shape=self.pattern.shape)


def _choose(recorded: Recorded, pattern, rows: np.ndarray, columns: np.ndarray):
    """(compressed matrix, where its flat elements are those of the pattern), with the fewest passes."""
    colours = colouring.columns(pattern)
    count = int(colours.max()) + 1
    height, width = pattern.shape
    if recorded.symmetric:
        other = colouring.symmetric(pattern)
        if other.max() + 1 < count:
            return recorded.forward(other), _by_symmetry(other, rows, columns, height)
    elif np.bincount(columns).max() < count:
        other = colouring.columns(pattern.T.tocsr())
        if other.max() + 1 < count:
            return recorded.reverse(other), other[rows] * width + columns
    return recorded.forward(colours), colours[columns] * height + rows


def _by_symmetry(colours, rows, columns, height: int) -> np.ndarray:
    """H[i, j] is read in row i if j is alone there with its colour, else as H[j, i]."""
    key = rows * (int(colours.max()) + 1) + colours[columns]
    _, which, counts = np.unique(key, return_inverse=True, return_counts=True)
    alone = counts[which] == 1
    return np.where(alone, colours[columns] * height + rows, colours[rows] * height + columns)
