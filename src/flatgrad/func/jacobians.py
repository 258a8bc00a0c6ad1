"""Jacobians and Hessians of functions: batched pullbacks and pushforwards over a basis."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..errors import ArgumentError, GradientError
from ..graph.node import const, leaf
from ..graph.op import PUBLIC
from ..graph.shapes import numel
from ..tensor import Tensor, node_of, wrap
from .arguments import output_tensors
from .derivatives import enter, leave_tree, split_aux
from .frame import Linear, forward_history
from .tree import paths, unflatten

__all__ = ["hessian", "jacfwd", "jacrev"]


class Recorded:
    """A function recorded over variables, and its Jacobian block by block.

    Attributes
    ----------
    outputs : list of Tensor
    out_spec, in_spec : Spec
    """

    def __init__(self, name: str, func, args, kwargs, argnums, has_aux: bool):
        self.frame, self.in_spec, args = enter(name, args, argnums)
        with forward_history():
            result, self.aux = split_aux(name, self.frame.run(func, args, kwargs), has_aux)
        self.outputs, self.out_spec = output_tensors(name, result)
        for t, path in zip(self.outputs, paths(self.out_spec), strict=True):
            if not t.dtype.is_differentiable:
                raise GradientError(
                    f"{name}: All outputs of f must be floating-point Tensors, got output{path} "
                    f"with dtype {t.dtype!r}; return it as aux, with has_aux=True"
                )
        self.grad = bool(self.frame.outside(self.outputs))

    @property
    def inputs(self) -> list[Tensor]:
        return self.frame.tensors

    def reverse(self, chunk: int | None) -> list[list[Tensor]]:
        """``table[output][input]``, a pass for each element of the outputs."""
        table = []
        for out in self.outputs:
            pull = Linear(lambda g, out=out: self._pull(out, g), [out], self.grad)
            rows = passes(pull, out, chunk)
            table.append(
                [
                    _zeros(out, t) if r is None else r.reshape((*out.shape, *t.shape))
                    for r, t in zip(rows, self.inputs, strict=True)
                ]
            )
        return table

    def _pull(self, out: Tensor, cotangents) -> list[Tensor | None]:
        return self.frame.spread(self.frame.pull([out], cotangents))

    def forward(self, chunk: int | None) -> list[list[Tensor]]:
        """``table[output][input]``, a pass for each element of the inputs."""
        columns = [self._column(k, chunk) for k in range(len(self.inputs))]
        return [list(row) for row in zip(*columns, strict=True)]

    def _column(self, k: int, chunk: int | None) -> list[Tensor]:
        t = self.inputs[k]
        if k not in self.frame.places:
            return [_zeros(out, t) for out in self.outputs]
        push = Linear(lambda v: self._push(k, v), [t], self.grad)
        rows = passes(push, t, chunk)
        column = []
        for r, out in zip(rows, self.outputs, strict=True):
            if r is None:
                column.append(_zeros(out, t))
                continue
            r = r.reshape((numel(node_of(t).shape), numel(node_of(out).shape)))
            column.append(r.permute(1, 0).reshape((*out.shape, *t.shape)))
        return column

    def _push(self, k: int, tangents) -> list[Tensor | None]:
        vectors: list[Tensor | None] = [None] * len(self.inputs)
        vectors[k] = tangents[0]
        return self.frame.push(self.outputs, vectors)

    def tree(self, table):
        """The blocks in the outputs' structure, each block in the inputs'."""
        rows = [unflatten(self.in_spec, self.frame.leave(row)) for row in table]
        return unflatten(self.out_spec, rows)

    def count(self) -> tuple[int, int]:
        """Elements of the outputs and of the variables."""
        out = sum(numel(node_of(t).shape) for t in self.outputs)
        return out, sum(numel(n.shape) for n in self.frame.nodes)


def _zeros(out: Tensor, t: Tensor) -> Tensor:
    return wrap(const(0, out.dtype, (*out.shape, *t.shape)))


def passes(linear: Linear, t: Tensor, chunk: int | None) -> list[Tensor | None]:
    """The images of the unit vectors of `t`, stacked; `chunk` of them at a time."""
    shape = node_of(t).shape
    count = numel(shape)
    if not count or not linear.reached:
        return [None] * linear.count
    if count == 1:
        return linear([wrap(const(1, t.dtype, shape))])
    if chunk is None:
        return linear.images(shape, t.dtype)
    parts = []
    for start in range(0, count, chunk):
        size = min(chunk, count - start)
        units = np.eye(size, count, start, dtype=t.dtype.np).reshape((size, *shape))
        parts.append(linear.rows([wrap(leaf(units, t.dtype))], size))
    if len(parts) == 1:
        return parts[0]
    cat = PUBLIC["cat"].function
    return [None if column[0] is None else cat(list(column)) for column in zip(*parts, strict=True)]


def check_chunk(name: str, chunk_size) -> None:
    """Refuse a chunk size that is no positive int.

    Raises
    ------
    ArgumentError
    """
    if chunk_size is None:
        return
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size <= 0:
        raise ArgumentError(
            f"{name}: `chunk_size` should be an int greater than 0, or None for all rows at once; "
            f"got {chunk_size!r}"
        )


def _transform(name: str, func, argnums, has_aux: bool, build) -> Callable:
    @functools.wraps(func)
    def jacobian(*args, **kwargs):
        recorded = Recorded(name, func, args, kwargs, argnums, has_aux)
        found = recorded.tree(build(recorded))
        return (found, leave_tree(recorded.frame, recorded.aux)) if has_aux else found

    return jacobian


def dense_jacobian(func: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """:func:`jacrev` or :func:`jacfwd`, whichever takes fewer passes."""

    def shorter(recorded: Recorded):
        outputs, inputs = recorded.count()
        return recorded.reverse(None) if outputs < inputs else recorded.forward(None)

    return _transform("jacobian", func, argnums, False, shorter)


def jacrev(
    func: Callable,
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable:
    """The function that computes the Jacobian by reverse mode: a pass an output element, batched.

    Parameters
    ----------
    func : callable
        Returns floating-point Tensors (a tree of them), or ``(output, aux)``.
    argnums : int or tuple of int
        The arguments to differentiate by: trees of Tensors, NumPy arrays or numbers.
    has_aux : bool
        `func` returns ``(output, aux)``; aux is passed on.
    chunk_size : int, optional
        Rows that are computed together; default all. Smaller ones need less memory.

    Returns
    -------
    callable
        ``J(*args, **kwargs)``: the structure of the output, holding that of the argument (a tuple of them
        if `argnums` is one), holding Tensors of shape ``output.shape + argument.shape``.

    Raises
    ------
    ArgumentError, GradientError
        For a wrong `chunk_size`; from ``J`` for argnums beyond the arguments, integer arguments
        or outputs.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.func.jacrev(lambda x: x * x)(fg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    check_chunk("jacrev", chunk_size)
    return _transform("jacrev", func, argnums, has_aux, lambda r: r.reverse(chunk_size))


def jacfwd(
    func: Callable,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    *,
    chunk_size: int | None = None,
    randomness: str = "error",
) -> Callable:
    """The function that computes the Jacobian by forward mode: a pass an input element, batched.

    Parameters and result are those of :func:`jacrev`; `randomness` is accepted for PyTorch's signature
    (all passes share one recording of `func`, so random numbers are the same in all of them).

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.func.jacfwd(lambda x: x * x)(fg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    check_chunk("jacfwd", chunk_size)
    if randomness not in ("error", "different", "same"):
        raise ArgumentError(
            "jacfwd: randomness must be 'error', 'different' or 'same', got " + repr(randomness)
        )
    return _transform("jacfwd", func, argnums, has_aux, lambda r: r.forward(chunk_size))


def hessian(func: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """The function that computes the Hessian: ``jacfwd(jacrev(func, argnums), argnums)``.

    Parameters
    ----------
    func : callable
        Returns floating-point Tensors (a tree of them).
    argnums : int or tuple of int

    Returns
    -------
    callable
        ``H(*args, **kwargs)``: Tensors of shape ``output.shape + a.shape + b.shape``.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.func.hessian(lambda x: (x * x * x).sum())(fg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)
