"""torch.autograd.functional: jacobian, hessian, vjp, jvp, hvp, vhp of Python functions of
tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ArgumentError, GradientError, ShapeError
from ..graph.node import const, leaf
from ..graph.op import PUBLIC
from ..graph.shapes import numel
from ..tensor import ALIAS, Tensor, node_of, record, wrap
from ..transform.pushforward import pushforward
from .engine import grad
from .modes import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


# -- arguments and results ------------------------------------------------------------------------


def _tensors(items, name: str, what: str) -> tuple[bool, tuple[Tensor, ...]]:
    """(was it a tuple, a tuple of the tensors)."""
    several = isinstance(items, (tuple, list))
    parts = tuple(items) if several else (items,)
    for k, t in enumerate(parts):
        if not isinstance(t, Tensor):
            which = f" at index {k}" if several else ""
            raise ArgumentError(
                f"{name}: The {what} given to {name} must be either a Tensor or a tuple of "
                "Tensors but "
                f"the given {what}{which} has type {type(t).__name__}"
            )
    return several, parts


def _fresh(inputs, create_graph: bool) -> tuple[Tensor, ...]:
    """Inputs to differentiate by: connected to the user's with `create_graph`, else cut off."""
    out = []
    for t in inputs:
        if create_graph and t.requires_grad:
            out.append(record(ALIAS, (t,)))
        else:
            out.append(t.detach().requires_grad_())
    return tuple(out)


def _apply(func: Callable, inputs, name: str) -> tuple[bool, tuple[Tensor, ...]]:
    return _tensors(func(*inputs), name, "outputs of the user-provided function")


def _finish(parts, create_graph: bool) -> tuple[Tensor, ...]:
    if create_graph:
        return tuple(parts)
    return tuple(t.detach() if t.requires_grad else t for t in parts)


def _plain(several: bool, parts):
    return tuple(parts) if several else parts[0]


def _check_outputs(name: str, outputs, strict: bool) -> None:
    if strict:
        for k, t in enumerate(outputs):
            if not t.requires_grad:
                raise GradientError(
                    f"{name}: Output {k} of the user-provided function does not require "
                    "gradients. The "
                    "outputs must be computed in a differentiable manner from the input when "
                    "running in "
                    "strict mode"
                )


def _zeros(t: Tensor) -> Tensor:
    return wrap(const(0, t.dtype, tuple(t.shape)))


def _vector(v, like, name: str, what: str) -> tuple[Tensor, ...]:
    """`v` as one tensor for each of `like`, of its shape; None is 1 for a single element."""
    if v is None:
        if len(like) != 1 or numel(tuple(like[0].shape)) != 1:
            raise GradientError(
                f"{name}: The vector v can only be None if {what} is a single Tensor with a single "
                "element; give v"
            )
        return (wrap(const(1, like[0].dtype, tuple(like[0].shape))),)
    _, parts = _tensors(v, name, "v")
    if len(parts) != len(like):
        raise ShapeError(
            f"{name}: v is a tuple of invalid length: should be {len(like)} but got {len(parts)}"
        )
    for k, (part, t) in enumerate(zip(parts, like, strict=True)):
        if part.shape != t.shape:
            which = f"Entry {k} in v" if len(like) > 1 else "v"
            raise ShapeError(
                f"{name}: {which} has invalid size: should be {t.shape} but got {part.shape}"
            )
    return parts


def _filled(found, inputs, name: str, strict: bool, what: str) -> list[Tensor]:
    """Zeros where no derivative arrives; an error in strict mode."""
    out = []
    for k, (g, t) in enumerate(zip(found, inputs, strict=True)):
        if g is None:
            if strict:
                raise GradientError(f"{name}: {what.format(k)}. This is not allowed in strict mode")
            g = _zeros(t)
        out.append(g)
    return out


def _check_strict_graph(name: str, parts, strict: bool, create_graph: bool, what: str) -> None:
    if strict and create_graph:
        for k, t in enumerate(parts):
            if not t.requires_grad:
                raise GradientError(
                    f"{name}: The {what} of the user-provided function with respect to input {k} "
                    "is "
                    "independent of the input. This is not allowed in strict mode when "
                    "create_graph=True"
                )


# -- vector products ------------------------------------------------------------------------------


def vjp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """``func(*inputs)`` and ``v^T J``, the cotangents of the inputs.

    Parameters
    ----------
    func : callable
    inputs : Tensor or tuple of Tensor
    v : Tensor or tuple of Tensor, optional
        One an output, of its shape; may be left out for a single element.
    create_graph : bool
        Let the results be differentiable.
    strict : bool
        Raise where an output does not depend on an input, instead of giving zeros.

    Returns
    -------
    (outputs, products)

    Raises
    ------
    ArgumentError, ShapeError, GradientError

    Examples
    --------
    >>> import flatgrad as fg
    >>> from flatgrad.autograd.functional import vjp
    >>> vjp(lambda x: x * x, fg.tensor([1.0, 2.0]), fg.tensor([1.0, 1.0]))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    many_in, inputs = _tensors(inputs, "vjp", "inputs")
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        many_out, outputs = _apply(func, inputs, "vjp")
        _check_outputs("vjp", outputs, strict)
        v = _vector(v, outputs, "vjp", "the user-provided function's result")
        found = _vjp(outputs, inputs, v, create_graph)
        product = _filled(
            found,
            inputs,
            "vjp",
            strict,
            "The output of the user-provided function is independent of input {}",
        )
        _check_strict_graph("vjp", product, strict, create_graph, "vjp")
    return (
        _plain(many_out, _finish(outputs, create_graph)),
        _plain(many_in, _finish(product, create_graph)),
    )


def _vjp(outputs, inputs, v, create_graph: bool, retain: bool = True):
    """Cotangents of `inputs`; outputs without history contribute nothing."""
    pairs = [(t, g) for t, g in zip(outputs, v, strict=True) if t.requires_grad and g is not None]
    if not pairs:
        return [None] * len(inputs)
    return grad(
        [t for t, _ in pairs],
        inputs,
        [g for _, g in pairs],
        retain_graph=retain,
        create_graph=create_graph,
        allow_unused=True,
    )


def jvp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """``func(*inputs)`` and ``J v``, the tangents of the outputs, by forward mode.

    Parameters
    ----------
    func : callable
    inputs : Tensor or tuple of Tensor
    v : Tensor or tuple of Tensor, optional
        One an input, of its shape; may be left out for a single element.
    create_graph : bool
        Let the results be differentiable.
    strict : bool
        Raise where an output does not depend on the inputs, instead of giving zeros.

    Returns
    -------
    (outputs, products)

    Raises
    ------
    ArgumentError, ShapeError, GradientError

    Examples
    --------
    >>> import flatgrad as fg
    >>> from flatgrad.autograd.functional import jvp
    >>> jvp(lambda x: x * x, fg.tensor([1.0, 2.0]), fg.tensor([1.0, 1.0]))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    _, inputs = _tensors(inputs, "jvp", "inputs")
    v = _vector(v, inputs, "jvp", "the input to the user-provided function")
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        many_out, outputs = _apply(func, inputs, "jvp")
        _check_outputs("jvp", outputs, strict)
        found = pushforward([node_of(t) for t in outputs], [node_of(t) for t in inputs], v)
        product = _filled(
            found,
            outputs,
            "jvp",
            strict,
            "Output {} of the user-provided function is independent of the inputs",
        )
        _check_strict_graph("jvp", product, strict, create_graph, "jvp")
    return (
        _plain(many_out, _finish(outputs, create_graph)),
        _plain(many_out, _finish(product, create_graph)),
    )


def _scalar(func: Callable, inputs, name: str, strict: bool) -> Tensor:
    several, outputs = _apply(func, inputs, name)
    _check_outputs(name, outputs, strict)
    if several or numel(tuple(outputs[0].shape)) != 1:
        what = "a tuple" if several else f"a Tensor of shape {tuple(outputs[0].shape)}"
        raise GradientError(
            f"{name}: The Tensor returned by the function given to {name} should contain a single "
            f"element, got {what}; reduce it, for example with sum()"
        )
    return outputs[0]


def vhp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """``func(*inputs)`` and ``v^T H`` of a function with a scalar result. Arguments as in
    :func:`vjp`."""
    return _hessian_product("vhp", func, inputs, v, create_graph, strict)


def hvp(func: Callable, inputs, v=None, create_graph: bool = False, strict: bool = False):
    """``func(*inputs)`` and ``H v`` of a function with a scalar result, forward mode over reverse.

    Arguments as in :func:`vjp`; `v` has the inputs' shapes.

    Examples
    --------
    >>> import flatgrad as fg
    >>> from flatgrad.autograd.functional import hvp
    >>> hvp(lambda x: (x * x * x).sum(), fg.tensor([1.0, 2.0]), fg.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    return _hessian_product("hvp", func, inputs, v, create_graph, strict)


def _hessian_product(name: str, func: Callable, inputs, v, create_graph: bool, strict: bool):
    many_in, inputs = _tensors(inputs, name, "inputs")
    v = _vector(v, inputs, name, "the input to the user-provided function")
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        output = _scalar(func, inputs, name, strict)
        gradient = _vjp(
            (output,), inputs, (wrap(const(1, output.dtype, tuple(output.shape))),), True
        )
        gradient = _filled(
            gradient,
            inputs,
            name,
            strict,
            "The output of the user-provided function is independent of input {}",
        )
        _check_strict_graph(name, gradient, strict, True, "jacobian")
        if name == "vhp":
            found = _vjp(gradient, inputs, v, create_graph)
        else:
            found = pushforward([node_of(t) for t in gradient], [node_of(t) for t in inputs], v)
        product = _filled(
            found,
            inputs,
            name,
            strict,
            "The gradient of the user-provided function is independent of input {}",
        )
    return _finish((output,), create_graph)[0], _plain(many_in, _finish(product, create_graph))


# -- whole matrices -------------------------------------------------------------------------------


def _unit(t: Tensor, position: int) -> Tensor:
    array = np.zeros(tuple(t.shape), t.dtype.np)
    array.flat[position] = 1
    return wrap(leaf(array, t.dtype))


def _stacked(rows, shape) -> Tensor:
    """Tensors stacked along a first dimension, then given `shape`."""
    return PUBLIC["stack"].function(rows).reshape(shape)


def jacobian(
    func: Callable,
    inputs,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
):
    """The Jacobian of ``func`` at `inputs`.

    Parameters
    ----------
    func : callable
        Returns a Tensor or a tuple of them.
    inputs : Tensor or tuple of Tensor
    create_graph : bool
        Let the Jacobian be differentiable.
    strict : bool
        Raise where an output does not depend on an input, instead of giving zeros.
    vectorize : bool
        Record one differentiation of all rows rather than one a row (in reverse mode; not with `strict`).
    strategy : str
        ``"reverse-mode"`` costs a pass an output element, ``"forward-mode"`` one an input element.

    Returns
    -------
    Tensor or nested tuple of Tensor
        ``J[i][j]`` of shape ``outputs[i].shape + inputs[j].shape``; a level of tuples vanishes
        where `func` returns, or `inputs` is, one tensor.

    Raises
    ------
    ArgumentError, GradientError

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.autograd.functional.jacobian(lambda x: x * x, fg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise ArgumentError(
            'jacobian: Expected strategy to be either "forward-mode" or "reverse-mode", got '
            f"{strategy!r}"
        )
    if strict and strategy == "forward-mode":
        raise ArgumentError("jacobian: strict=True is not supported with strategy='forward-mode'")
    many_in, inputs = _tensors(inputs, "jacobian", "inputs")
    with enable_grad():
        inputs = _fresh(inputs, create_graph)
        many_out, outputs = _apply(func, inputs, "jacobian")
        _check_outputs("jacobian", outputs, strict)
        if strategy == "forward-mode":
            build = _forward_rows
        else:
            build = _rows_at_once if vectorize and not strict else _reverse_rows
        table = build(outputs, inputs, create_graph, strict)
    table = [_plain(many_in, _finish(row, create_graph)) for row in table]
    return _plain(many_out, table)


def _reverse_rows(outputs, inputs, create_graph: bool, strict: bool):
    table = []
    for o, out in enumerate(outputs):
        columns: list[list[Tensor]] = [[] for _ in inputs]
        for j in range(numel(tuple(out.shape))):
            found = _vjp((out,), inputs, (_unit(out, j),), create_graph)
            filled = _filled(
                found,
                inputs,
                "jacobian",
                strict,
                f"Output {o} of the user-provided function is independent of input {{}}",
            )
            _check_strict_graph("jacobian", filled, strict, create_graph, "jacobian")
            for column, g in zip(columns, filled, strict=True):
                column.append(g)
        table.append(
            [
                _stacked(column, (*out.shape, *t.shape)) if column else _empty(out, t)
                for column, t in zip(columns, inputs, strict=True)
            ]
        )
    return table


def _rows_at_once(outputs, inputs, create_graph: bool, strict: bool):
    table = []
    for out in outputs:
        size = numel(tuple(out.shape))
        if not out.requires_grad or not size:
            table.append([_empty(out, t) for t in inputs])
            continue
        units = wrap(leaf(np.eye(size, dtype=out.dtype.np), out.dtype)).reshape(size, *out.shape)
        found = grad(
            out,
            inputs,
            units,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            is_grads_batched=True,
        )
        table.append(
            [
                _empty(out, t) if g is None else g.reshape((*out.shape, *t.shape))
                for g, t in zip(found, inputs, strict=True)
            ]
        )
    return table


def _forward_rows(outputs, inputs, create_graph: bool, strict: bool):
    table: list[list[Tensor]] = [[] for _ in outputs]
    nodes = [node_of(t) for t in outputs]
    for t in inputs:
        columns: list[list[Tensor]] = [[] for _ in outputs]
        for i in range(numel(tuple(t.shape))):
            found = pushforward(nodes, [node_of(t)], [_unit(t, i)])
            for column, tangent, out in zip(columns, found, outputs, strict=True):
                column.append(_zeros(out) if tangent is None else tangent)
        for row, column, out in zip(table, columns, outputs, strict=True):
            if not column:
                row.append(_empty(out, t))
                continue
            whole = _stacked(column, (len(column), numel(tuple(out.shape))))
            row.append(whole.permute(1, 0).reshape((*out.shape, *t.shape)))
    return table


def _empty(out: Tensor, t: Tensor) -> Tensor:
    return wrap(const(0, out.dtype, (*out.shape, *t.shape)))


def hessian(
    func: Callable,
    inputs,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
):
    """The Hessian of a function with a scalar result.

    Parameters
    ----------
    func : callable
    inputs : Tensor or tuple of Tensor
    create_graph, strict, vectorize : bool
        As in :func:`jacobian`.
    outer_jacobian_strategy : str
        How the gradient is differentiated: ``"reverse-mode"`` or ``"forward-mode"``.

    Returns
    -------
    Tensor or nested tuple of Tensor
        ``H[i][j]`` of shape ``inputs[i].shape + inputs[j].shape``.

    Raises
    ------
    ArgumentError, GradientError

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.autograd.functional.hessian(lambda x: (x * x * x).sum(), fg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    many_in, inputs = _tensors(inputs, "hessian", "inputs")

    def gradient(*args):
        output = _scalar(func, args, "hessian", strict)
        one = wrap(const(1, output.dtype, tuple(output.shape)))
        found = _filled(
            _vjp((output,), args, (one,), True),
            args,
            "hessian",
            strict,
            "The output of the user-provided function is independent of input {}",
        )
        _check_strict_graph("hessian", found, strict, True, "jacobian")
        return tuple(found)

    table = jacobian(
        gradient,
        inputs,
        create_graph=create_graph,
        strict=strict,
        vectorize=vectorize,
        strategy=outer_jacobian_strategy,
    )
    if many_in:
        return table
    return table[0][0]
