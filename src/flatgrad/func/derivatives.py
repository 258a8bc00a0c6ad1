"""torch.func's transforms of functions: grad, vjp, jvp, linearize, and what is made of them.

Thin faces over the graph's pullback and pushforward (``frame.py``). Everything returned is lazy:
a composition of transforms is one program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..errors import ArgumentError, GradientError
from ..graph.node import const
from ..tensor import Tensor, node_of, wrap
from .arguments import (
    as_tensor,
    chosen_positions,
    constant_leaves,
    is_numeric,
    output_tensors,
    replaced,
    same_places,
    tensors_of,
)
from .frame import Frame, Linear, filled, forward_history
from .tree import Spec, flatten, paths, unflatten

__all__ = ["grad", "grad_and_value", "hvp", "jvp", "linearize", "value_and_grad", "vjp"]


# -- shared ---------------------------------------------------------------------------------------


def enter(name: str, args: tuple, argnums) -> tuple[Frame, Spec, tuple]:
    """A frame over the chosen arguments, their structure, and `args` with variables in their places.

    With an int as `argnums` the structure is that one argument's, else that of a tuple of them.
    """
    positions = chosen_positions(name, argnums, len(args))
    chosen = tuple([args[k] for k in positions])
    single = not isinstance(argnums, tuple)
    tensors, spec = tensors_of(name, chosen, "the differentiated arguments")
    at = [p.replace("[0]", f" {positions[0]}", 1) if single else p for p in paths(spec)]
    frame = Frame(name, tensors, constant_leaves(spec), at)
    args = replaced(args, positions, unflatten(spec, frame.tensors))
    return frame, spec.children[0] if single else spec, args


def split_aux(name: str, result, has_aux: bool):
    """(output, aux) of what the function returned.

    Raises
    ------
    ArgumentError
        If `has_aux` and it did not return a pair.
    """
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        what = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise ArgumentError(
            f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True, "
            f"got {what}"
        )
    return result


def leave_tree(frame: Frame, tree):
    """A tree of results as the outside of `frame` sees it."""
    leaves, spec = flatten(tree)
    return unflatten(spec, frame.leave(leaves))


def scalar_output(name: str, output) -> Tensor:
    """The function's output, which must be a floating-point scalar.

    Raises
    ------
    ArgumentError
        If it is no tensor.
    GradientError
        If it has dimensions or no derivative.
    """
    if not is_numeric(output):
        raise ArgumentError(
            f"{name}: Expected f(*args) to return a Tensor, got {type(output).__name__}; return "
            "further results as aux, with has_aux=True"
        )
    output = as_tensor(name, output, "", "output")
    node = node_of(output)
    if node.shape:
        raise GradientError(
            f"{name}: Expected f(*args) to return a scalar Tensor, got tensor with "
            f"{len(node.shape)} dims (shape {node.shape}). Reduce it, for example with sum(); or "
            "maybe you wanted to use vjp or jacrev instead"
        )
    if not node.dtype.is_differentiable:
        raise GradientError(
            f"{name}: f(*args) must return a floating-point Tensor, got {node.dtype!r}; integers "
            "and bools have no derivative"
        )
    return output


def _value_and_grad(name: str, func, args, kwargs, argnums, has_aux: bool):
    frame, spec, args = enter(name, args, argnums)
    output, aux = split_aux(name, frame.run(func, args, kwargs), has_aux)
    output = scalar_output(name, output)
    gradient = frame.filled(frame.pull([output], [wrap(const(1, output.dtype))]))
    value = frame.leave([output])[0]
    return unflatten(spec, gradient), value, leave_tree(frame, aux) if has_aux else None


# -- gradients ------------------------------------------------------------------------------------


def grad(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """The function that computes the gradient of a scalar function.

    Parameters
    ----------
    func : callable
        Returns a floating-point scalar (0-d), or ``(scalar, aux)``.
    argnums : int or tuple of int
        The arguments to differentiate by: trees of Tensors, NumPy arrays or numbers.
    has_aux : bool
        `func` returns ``(output, aux)``; aux is passed on.

    Returns
    -------
    callable
        ``g(*args, **kwargs)`` gives the gradient, of the structure of the argument (a tuple of
        them if `argnums` is one), or ``(gradient, aux)``.

    Raises
    ------
    ArgumentError, GradientError
        When ``g`` is called: argnums beyond the arguments, integer arguments, an output that is no
        scalar.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.func.grad(lambda x: x**3)(2.0)
    tensor(12.)
    >>> fg.func.grad(fg.func.grad(lambda x: x**3))(2.0)
    tensor(12.)
    >>> fg.func.grad(lambda p, x: (p["a"] * x).sum())({"a": fg.ones(2)}, fg.tensor([3.0, 4.0]))
    {'a': tensor([3., 4.])}
    """

    @functools.wraps(func)
    def gradient(*args, **kwargs):
        found, _, aux = _value_and_grad("grad", func, args, kwargs, argnums, has_aux)
        return (found, aux) if has_aux else found

    return gradient


def grad_and_value(
    func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable:
    """The function that computes ``(gradient, value)``; see :func:`grad`.

    With `has_aux` it is ``(gradient, (value, aux))``. :func:`value_and_grad` has the value first.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.func.grad_and_value(lambda x: x**3)(2.0)
    (tensor(12.), tensor(8.))
    """

    @functools.wraps(func)
    def gradient_and_value(*args, **kwargs):
        found, value, aux = _value_and_grad("grad_and_value", func, args, kwargs, argnums, has_aux)
        return found, (value, aux) if has_aux else value

    return gradient_and_value


def value_and_grad(
    func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable:
    """The function that computes ``(value, gradient)``; see :func:`grad`.

    With `has_aux` it is ``((value, aux), gradient)``. This is the order that SciPy's ``jac=True`` wants.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.func.value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 5.0)
    (tensor(10.), (tensor(5.), tensor(2.)))
    """

    @functools.wraps(func)
    def value_and_gradient(*args, **kwargs):
        found, value, aux = _value_and_grad("value_and_grad", func, args, kwargs, argnums, has_aux)
        return (value, aux) if has_aux else value, found

    return value_and_gradient


# -- reverse --------------------------------------------------------------------------------------


def vjp(func: Callable, *primals, has_aux: bool = False):
    """``func(*primals)``, and the function that maps cotangents of its output to those of `primals`.

    Parameters
    ----------
    func : callable
        Returns floating-point Tensors (a tree of them), or ``(output, aux)``.
    *primals : trees of Tensors, NumPy arrays or numbers
    has_aux : bool
        `func` returns ``(output, aux)``; aux is passed on.

    Returns
    -------
    output : tree of Tensor
    vjp_fn : callable
        ``vjp_fn(cotangents)`` takes a tree like `output` and returns a tuple like `primals`. It may
        be called any number of times.
    aux : Any
        Only with `has_aux`.

    Raises
    ------
    ArgumentError, GradientError
        For integer primals or outputs, outputs that are no tensors; from ``vjp_fn`` for cotangents
        of another structure, shape or dtype.

    Examples
    --------
    >>> import flatgrad as fg
    >>> y, pull = fg.func.vjp(lambda x: x * x, fg.tensor([1.0, 2.0]))
    >>> pull(fg.ones(2))
    (tensor([2., 4.]),)
    """
    name = "vjp"
    _need_primals(name, primals)
    frame, spec, args = enter(name, primals, tuple(range(len(primals))))
    result, aux = split_aux(name, frame.run(func, args, {}), has_aux)
    outputs, out_spec = output_tensors(name, result)
    for t, path in zip(outputs, paths(out_spec), strict=True):
        if not t.dtype.is_differentiable:
            raise GradientError(
                f"{name}: All outputs of f must be floating-point Tensors, got output{path} with "
                f"dtype {t.dtype!r}; return it as aux, with has_aux=True"
            )

    def vjp_fn(cotangents):
        given = same_places("vjp_fn", cotangents, out_spec, outputs, "cotangents", "outputs")
        return unflatten(spec, frame.filled(frame.pull(outputs, given)))

    output = unflatten(out_spec, frame.leave(outputs))
    if has_aux:
        return output, vjp_fn, leave_tree(frame, aux)
    return output, vjp_fn


def _need_primals(name: str, primals) -> None:
    if not primals:
        raise ArgumentError(f"{name}: at least one primal is required; {name}(f, x)")


# -- forward --------------------------------------------------------------------------------------


def jvp(func: Callable, primals, tangents, *, strict: bool = False, has_aux: bool = False):
    """``func(*primals)`` and its derivative along `tangents`, by forward mode.

    Parameters
    ----------
    func : callable
        Returns Tensors (a tree of them), or ``(output, aux)``.
    primals : tuple of trees of Tensors, NumPy arrays or numbers
    tangents : tuple of trees
        Of the structure, shapes and dtypes of `primals`.
    strict : bool
        Raise if an output does not depend on the primals, instead of giving zeros.
    has_aux : bool
        `func` returns ``(output, aux)``; aux is passed on.

    Returns
    -------
    output, tangent : tree of Tensor
    aux : Any
        Only with `has_aux`.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, GradientError
        If `primals` is no tuple or has integers, or if `tangents` do not fit.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.func.jvp(lambda x: x * x, (fg.tensor([1.0, 2.0]),), (fg.ones(2),))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    name = "jvp"
    if not isinstance(primals, tuple):
        raise ArgumentError(
            f"{name}: Expected primals to be a tuple, so that f(*primals) is valid; got "
            f"{type(primals).__name__}. Write (x,) for one argument"
        )
    _need_primals(name, primals)
    frame, spec, args = enter(name, primals, tuple(range(len(primals))))
    given = same_places(name, tangents, spec, frame.tensors, "tangents", "primals")
    with forward_history():
        result, aux = split_aux(name, frame.run(func, args, {}), has_aux)
    outputs, out_spec = output_tensors(name, result)
    found = frame.push(outputs, given)
    if strict and None in found:
        path = paths(out_spec)[found.index(None)]
        raise GradientError(
            f"{name}: output{path} of f is independent of the inputs. This is not allowed with "
            "strict=True"
        )
    both = unflatten(out_spec, frame.leave(outputs)), unflatten(out_spec, filled(found, outputs))
    return (*both, leave_tree(frame, aux)) if has_aux else both


def linearize(func: Callable, *primals):
    """``func(*primals)``, and the function that maps tangents of `primals` to those of the output.

    The derivative is recorded once; what it needs of the function's values is computed once. Cheaper than
    :func:`jvp` for many tangents at one point.

    Parameters
    ----------
    func : callable
        Returns Tensors (a tree of them).
    *primals : trees of Tensors, NumPy arrays or numbers

    Returns
    -------
    output : tree of Tensor
    jvp_fn : callable
        ``jvp_fn(*tangents)``: one tree a primal.

    Raises
    ------
    ArgumentError, GradientError
        For integer primals; from ``jvp_fn`` for tangents of another structure, shape or dtype.

    Examples
    --------
    >>> import flatgrad as fg
    >>> y, push = fg.func.linearize(fg.sin, fg.tensor(0.0))
    >>> push(fg.tensor(2.0))
    tensor(2.)
    """
    name = "linearize"
    _need_primals(name, primals)
    frame, spec, args = enter(name, primals, tuple(range(len(primals))))
    with forward_history():
        outputs, out_spec = output_tensors(name, frame.run(func, args, {}))
    linear = Linear(
        lambda tangents: frame.push(outputs, tangents),
        frame.tensors,
        bool(frame.outside(outputs)),
    )

    def jvp_fn(*tangents):
        given = same_places("jvp_fn", tangents, spec, frame.tensors, "tangents", "primals")
        return unflatten(out_spec, frame.leave(filled(linear(given), outputs)))

    return unflatten(out_spec, frame.leave(outputs)), jvp_fn


# -- second derivatives ---------------------------------------------------------------------------


def hvp(func: Callable, primals, tangents):
    """The gradient of a scalar function, and its Hessian times `tangents`: forward over reverse.

    Parameters
    ----------
    func : callable
        Returns a floating-point scalar.
    primals : tuple of trees of Tensors, NumPy arrays or numbers
        The arguments; anything but a tuple is the one argument.
    tangents : tuple of trees, or tree
        Of the structure, shapes and dtypes of `primals`.

    Returns
    -------
    gradient, product : tuple of trees, or tree
        Both like `primals`.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, GradientError
        As :func:`grad` and :func:`jvp`.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x, v = fg.tensor([1.0, 2.0]), fg.tensor([1.0, 1.0])
    >>> fg.func.hvp(lambda x: (x * x * x).sum(), x, v)
    (tensor([ 3., 12.]), tensor([ 6., 12.]))
    """
    if isinstance(primals, tuple):
        return jvp(grad(func, tuple(range(len(primals)))), primals, tangents)
    return jvp(grad(func), (primals,), (tangents,))
