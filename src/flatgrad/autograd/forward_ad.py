"""torch.autograd.forward_ad: dual tensors, by the pushforward.

A dual tensor is a variable of its own, noted with its tangent at its level. Nothing is carried along with
what is computed from it: ``unpack_dual`` asks the recorded graph for the tangent, as new graph.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..errors import ArgumentError, DTypeError, GradientError, ShapeError
from ..graph.modes import modes
from ..graph.node import Node
from ..tensor import ALIAS, Tensor, node_of, record
from ..transform.pushforward import pushforward

__all__ = [
    "UnpackedDualTensor",
    "dual_level",
    "enter_dual_level",
    "exit_dual_level",
    "make_dual",
    "unpack_dual",
]


class UnpackedDualTensor(NamedTuple):
    """What :func:`unpack_dual` returns: ``(primal, tangent)``; tangent is None for no dual tensor."""

    primal: Tensor
    tangent: Tensor | None


class _Levels(threading.local):
    """The levels of this thread: for each one its dual tensors' nodes and tangents.

    An unpacked primal is noted with None: what is computed from it has no tangent.
    """

    def __init__(self):
        self.stack: list[dict[Node, Tensor | None]] = []
        self.before = False


_levels = _Levels()


def enter_dual_level() -> int:
    """Enter a level, in which dual tensors can be made. Returns its number.

    Raises
    ------
    GradientError
        If one is entered: levels do not nest (take ``flatgrad.func.jvp``, which does).
    """
    if _levels.stack:
        raise GradientError(
            "enter_dual_level: Nested forward mode AD is not supported at the moment; take "
            "flatgrad.func.jvp, which nests"
        )
    _levels.before, modes.forward = modes.forward, True
    _levels.stack.append({})
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Leave the level; its dual tensors are ordinary ones from then on.

    Raises
    ------
    GradientError
        If it is not the last one that was entered.
    """
    if not _levels.stack or level not in (None, len(_levels.stack) - 1):
        raise GradientError(
            "exit_dual_level: Trying to exit a forward AD level that was not the last one that was "
            "created. This is not supported; with dual_level(): is the safe form"
        )
    _levels.stack.pop()
    modes.forward = _levels.before


class dual_level:
    """A level for the time of a ``with`` statement.

    Examples
    --------
    >>> import flatgrad as fg
    >>> import flatgrad.autograd.forward_ad as fwAD
    >>> x, v = fg.tensor([1.0, 2.0]), fg.tensor([1.0, 0.5])
    >>> with fwAD.dual_level():
    ...     y = fwAD.make_dual(x, v) ** 2
    ...     print(fwAD.unpack_dual(y).tangent)
    tensor([2., 2.])
    """

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc) -> None:
        exit_dual_level()


def _check_level(name: str, level: int | None) -> None:
    if level is not None and level != len(_levels.stack) - 1:
        raise GradientError(f"{name}: level {level} is not entered; leave level out")


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor of the value of `tensor` that carries `tangent`.

    Parameters
    ----------
    tensor, tangent : Tensor, shape (*S), float
    level : int, optional

    Returns
    -------
    Tensor, shape (*S)
        Derivatives of reverse mode flow on to `tensor` and `tangent`.

    Raises
    ------
    GradientError
        Outside of a level.
    ArgumentError, ShapeError, DTypeError
        If one is no floating-point tensor, or if their shapes or dtypes differ.
    """
    _check_level("make_dual", level)
    if not _levels.stack:
        raise GradientError(
            "make_dual: Trying to create a dual Tensor for forward AD but no level exists, make "
            "sure to enter_dual_level() first, or use with dual_level():"
        )
    for what, t in (("primal", tensor), ("tangent", tangent)):
        if not isinstance(t, Tensor):
            raise ArgumentError(
                f"make_dual: {what} must be a Tensor, got {type(t).__name__}; wrap it with "
                "flatgrad.tensor"
            )
        if not t.dtype.is_differentiable:
            raise ArgumentError(
                f"make_dual: Expected {what} to be floating point, but got: {t.dtype!r}; convert "
                "it with .to(flatgrad.float32)"
            )
    if tensor.shape != tangent.shape:
        raise ShapeError(
            "make_dual: Trying to set a forward gradient that has a different size than that of "
            f"the original Tensor: tangent {tuple(tangent.shape)}, primal {tuple(tensor.shape)}; "
            "they must be equal"
        )
    if tensor.dtype is not tangent.dtype:
        raise DTypeError(
            "make_dual: the tangent must have the primal's dtype "
            f"{tensor.dtype!r}, got {tangent.dtype!r}; convert it with .to()"
        )
    if unpack_dual(tensor).tangent is not None:
        raise GradientError(
            "make_dual: the tensor has a tangent at this level already; unpack_dual it first"
        )
    dual = record(ALIAS, (tensor,))
    node = dual._node
    node.value = node.inputs[0].value
    _levels.stack[-1][node] = tangent
    return dual


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value and the tangent of a tensor that was computed from dual ones.

    Parameters
    ----------
    tensor : Tensor, shape (*S)
    level : int, optional

    Returns
    -------
    UnpackedDualTensor
        ``(primal, tangent)``; the tangent is None if no dual tensor is behind it, and outside of a
        level.

    Raises
    ------
    ArgumentError
        If `tensor` is no tensor.
    """
    if not isinstance(tensor, Tensor):
        raise ArgumentError(f"unpack_dual: a Tensor is required, got {type(tensor).__name__}")
    _check_level("unpack_dual", level)
    duals = _levels.stack[-1] if _levels.stack else {}
    if not duals:
        return UnpackedDualTensor(tensor, None)
    first = next(iter(duals)).seq
    node = node_of(tensor)
    tangent = pushforward([node], list(duals), list(duals.values()), first)[0]
    if tangent is None:
        return UnpackedDualTensor(tensor, None)
    primal = record(ALIAS, (tensor,))
    duals[primal._node] = None
    return UnpackedDualTensor(primal, tangent)
