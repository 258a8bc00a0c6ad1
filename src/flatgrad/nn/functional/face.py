"""What the families share: how a function is published, and sizes given as one int or several."""

from __future__ import annotations

from ...errors import ArgumentError, DTypeError, ShapeError
from ...graph.op import PUBLIC
from ...ops.declare import composite, tensor_of
from ...tensor import Tensor, node_of

__all__ = ["batched", "described", "face", "float_input", "frozen", "sizes_argument"]


def face(name: str | None = None, *, samples, errors=None, torch: str | None = "", **more):
    """Publish a function as ``nn.functional.<name>``; returns it as users get it."""

    def publish(function):
        own = name or function.__name__
        peer = f"nn.functional.{own}" if torch == "" else torch
        public = f"nn.functional.{own}"
        composite(public, methods=(), samples=samples, errors=errors, torch=peer, **more)(function)
        return PUBLIC[public].function

    return publish


def described(function, text: str, spatial: int):
    """`function` with the docstring `text` for its number of spatial dimensions: a template.

    ``{n}`` is their number, ``{I}`` the names of an image's sizes, ``{Y}`` and ``{K}`` those of the result's
    and a window's; ``{x}``, ``{h}``, ``{k}`` and ``{e}`` are sizes for an example: 8, 4, 3 and 1 in each.
    """
    letters = "DHW"[3 - spatial :]
    names = {"I": "{}", "Y": "{}_out", "K": "k{}"}
    names = {key: ", ".join([form.format(c) for c in letters]) for key, form in names.items()}
    sizes = {key: ", ".join([size] * spatial) for key, size in zip("xhke", "8431", strict=True)}
    function.__doc__ = text.format(n=spatial, **names, **sizes)
    return function


def sizes_argument(name: str, what: str, value, count: int, least: int) -> tuple[int, ...]:
    """An int for all of `count` dimensions, or one for each; none below `least`.

    Raises
    ------
    ArgumentError
        For another number of values, one that is no int, or one that is too small.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) == 1:
        values *= count
    try:
        found = tuple([v.__index__() for v in values])
    except (AttributeError, TypeError):
        raise ArgumentError(
            f"{name}: {what} must be an int or {count} ints, got {value!r}"
        ) from None
    if len(found) != count:
        raise ArgumentError(
            f"{name}: expected {what} to be a single int or {count} ints, one a dimension, got {value}"
        )
    if min(found, default=least) < least:
        raise ArgumentError(f"{name}: {what} must be at least {least}, got {value}")
    return found


def frozen(value):
    """A list as a tuple, so that it can be part of a key."""
    return tuple(value) if type(value) is list else value


def batched(name: str, input: Tensor, spatial: int) -> tuple[Tensor, bool]:
    """(the input as a tensor, whether it has a batch dimension), of C channels and `spatial` dimensions.

    Raises
    ------
    ShapeError
        If its rank is neither of the two.
    """
    x = tensor_of(name, input)
    rank = len(node_of(x).shape)
    if rank not in (spatial + 1, spatial + 2):
        raise ShapeError(
            f"{name}: Expected {spatial + 1}D (unbatched) or {spatial + 2}D (batched) input, got an input "
            f"of shape {tuple(x.shape)}; reshape it to (N, C, {', '.join('DHW'[3 - spatial :])})"
        )
    return x, rank == spatial + 2


def float_input(name: str, input) -> Tensor:
    """`input` as a tensor of floating-point numbers.

    Raises
    ------
    DTypeError
        If it has others.
    """
    x = tensor_of(name, input)
    if not node_of(x).dtype.is_floating_point:
        raise DTypeError(
            f"{name}: a floating-point tensor is required, got {x.dtype!r}; convert it with .float()"
        )
    return x
