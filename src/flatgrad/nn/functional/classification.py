"""Losses of classes: scores against indices of classes, or against their probabilities."""

from __future__ import annotations

import weakref

from ...errors import ArgumentError, DTypeError, IndexingError, ShapeError
from ...graph import dtypes
from ...graph.node import INPUT, SHARED, pending
from ...ops.along import index_select
from ...ops.creation import iota
from ...ops.declare import cast
from ...ops.logic import eq, ne
from ...ops.movement import reshape
from ...ops.selection import where
from ...ops.statistics import log_softmax, logsumexp
from ...ops.views import unsqueeze
from ...tensor import Tensor, late, node_of
from ..once import as_one
from .losses import check_pair, reduced

__all__ = ["cross_entropy", "nll_loss"]


def _class_dim(input: Tensor) -> int:
    return 0 if input.ndim == 1 else 1


def _check_classes(name: str, input: Tensor, target: Tensor, weight, ignore_index: int) -> tuple:
    """Check indices of classes against scores.

    Returns
    -------
    (int or None, int or None)
        A class to leave out, if a target has (or may have) it; and the number of classes if the
        program has to check the targets, since they have no values yet.
    """
    have, scores = node_of(target).shape, node_of(input).shape
    if not scores:
        raise ShapeError(f"{name}: scores of shape (C,) or (N, C, ...) are required, got a scalar")
    dim = 0 if len(scores) == 1 else 1
    classes = scores[dim]
    wanted = scores[:dim] + scores[dim + 1 :]
    if have != wanted:
        raise ShapeError(
            f"{name}: expected target size {wanted} for an input of shape "
            f"{scores} with classes in dimension {dim}, got {have}"
        )
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ShapeError(
            f"{name}: weight tensor should be defined either for all {classes} classes or no "
            f"classes but got weight tensor of shape: {tuple(weight.shape)}"
        )
    known = node_of(target)
    if known.value is None and any(n.op is INPUT for n in pending([known])):
        return ignore_index, classes
    low, high = _class_range(target)
    if low >= 0 and high < classes:
        return (ignore_index if low <= ignore_index <= high else None), None
    late.evaluate([known])
    values = known.value
    wrong = values[((values < 0) | (values >= classes)) & (values != ignore_index)]
    if wrong.size:
        raise IndexingError(
            f"{name}: Target {wrong[0]} is out of bounds; it must be in [0, {classes - 1}] or be "
            f"ignore_index ({ignore_index})"
        )
    return ignore_index, None


_ranges: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _class_range(target: Tensor) -> tuple[int, int]:
    """Bounds of the classes in `target`.

    A pending selection (``labels[rows]``) is not evaluated: all the labels bound it, and their
    bounds are remembered.
    """
    node = node_of(target)
    while node.value is None and node.op.kind in ("gather", "movement", "alias"):
        node = node.inputs[0]
    found = _ranges.get(node)
    if found is None:
        late.evaluate([node])
        if node.value.size == 0:
            return 0, -1
        if node.mark & SHARED:  # its values may change
            return int(node.value.min()), int(node.value.max())
        found = _ranges[node] = int(node.value.min()), int(node.value.max())
    return found


def _picked(values: Tensor, target: Tensor, dim: int) -> Tensor:
    """``values[..., target, ...]``: one element of dimension `dim` for each target.

    As a sum over the classes, of which all but one are masked: it and its derivative fuse with the
    softmax, where a gather would need a scatter.
    """
    return where(_is_class(values, target, dim), values, 0.0).sum(dim)


def _is_class(values: Tensor, target: Tensor, dim: int) -> Tensor:
    """One-hot, as a mask of the shape of `values`."""
    classes = iota((values.shape[dim],), 0)
    at = reshape(classes, *[-1 if k == dim else 1 for k in range(values.ndim)])
    return eq(unsqueeze(target, dim), at)


def _class_weights(weight: Tensor, target: Tensor) -> Tensor:
    return index_select(weight, 0, reshape(target, -1)).reshape(*target.shape)


def _weighted_mean(losses, counts, reduction: str) -> Tensor:
    """Reduce losses that are 0 where ignored; the mean divides by the sum of `counts`."""
    if reduction == "mean" and counts is not None:
        return losses.sum() / counts.sum()
    return reduced("loss", losses, reduction)


def _class_losses(per_class, target, weight, kind, which, reduction, also=None):
    """Losses ``per_class(target)`` of class indices, weighted, without the ignored, reduced.

    `which` is what `_check_classes` says. `also`, a loss of every row that has no class, is
    treated in the same way and returned second.
    """
    ignored, classes = which
    target = cast(target, dtypes.int64)
    counts = kept = None
    if ignored is not None:
        kept = ne(target, ignored)
        target = where(kept, target, 0)
        counts = cast(kept, kind)
    if classes is not None:  # read from a table, which checks the index and changes nothing
        at = index_select(iota((classes,), 0), 0, reshape(target, -1))
        target = reshape(at, *target.shape)
    losses = per_class(target)
    if weight is not None:
        counts = _class_weights(weight, target)
        if ignored is not None:
            counts = where(kept, counts, 0.0)
        losses = losses * counts
    if ignored is not None:
        losses = where(kept, losses, 0.0)
        also = None if also is None else where(kept, also, 0.0)
    result = _weighted_mean(losses, counts, reduction)
    if also is None:
        return result
    return result, _weighted_mean(also, counts, reduction)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """``-input[n, target[n]]`` of log probabilities.

    Parameters
    ----------
    input : Tensor, shape (C,) or (N, C, *D), floating
    target : Tensor, shape () or (N, *D), integer
        Classes; those equal to `ignore_index` count nothing.
    weight : Tensor, shape (C,), optional
    reduction : "none", "mean" (by the sum of the weights) or "sum"

    Returns
    -------
    Tensor, shape () or that of `target`

    Raises
    ------
    ShapeError, IndexingError, DTypeError
        For shapes that do not fit, classes out of range, a target that is not integer.
    """
    check_pair("nll_loss", input, target)
    if target.dtype.category != dtypes.INTEGER:
        raise DTypeError(
            f"nll_loss: integer classes are required, got a target of {target.dtype!r}; "
            "convert it with .long()"
        )
    which = _check_classes("nll_loss", input, target, weight, ignore_index)
    dim = _class_dim(input)

    def loss(input, target, weight=None):
        def at_target(classes):
            return -_picked(input, classes, dim)

        return _class_losses(at_target, target, weight, input.dtype, which, reduction)

    tensors = [input, target] if weight is None else [input, target, weight]
    return as_one("nll_loss", (which, reduction), loss, tensors)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``logsumexp(input) - input[target]``: the negative log of the softmax at the target.

    Parameters
    ----------
    input : Tensor, shape (C,) or (N, C, *D), floating
        Scores of C classes.
    target : Tensor, shape () or (N, *D), integer; or the shape of `input`, floating
        Classes, or probabilities of classes.
    weight : Tensor, shape (C,), optional
    ignore_index : int
        Classes of this number count nothing.
    reduction : "none", "mean" (by the sum of the weights) or "sum"
    label_smoothing : float
        How much of the target is spread evenly over the classes, in [0, 1].

    Returns
    -------
    Tensor, shape () or (N, *D)

    Raises
    ------
    ShapeError, IndexingError, ArgumentError
        For shapes that do not fit, classes out of range, smoothing out of range.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.functional.cross_entropy(fg.zeros(2, 4), fg.tensor([0, 3]))
    tensor(1.3863)
    """
    check_pair("cross_entropy", input, target)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(
            f"cross_entropy: label_smoothing must be between 0.0 and 1.0, got {label_smoothing}"
        )
    if target.dtype.is_floating_point:
        return _probability_loss(input, target, weight, reduction, label_smoothing)
    which = _check_classes("cross_entropy", input, target, weight, ignore_index)
    options = (which, reduction, float(label_smoothing))

    def loss(input, target, weight=None):
        return _index_loss(input, target, weight, *options)

    tensors = [input, target] if weight is None else [input, target, weight]
    return as_one("cross_entropy", options, loss, tensors)


def _index_loss(input, target, weight, which, reduction, label_smoothing) -> Tensor:
    dim = _class_dim(input)
    top = logsumexp(input, dim)

    def at_target(classes):
        return top - _picked(input, classes, dim)

    common = (at_target, target, weight, input.dtype, which, reduction)
    if not label_smoothing:
        return _class_losses(*common)
    logs = log_softmax(input, dim)
    if weight is not None:
        logs = logs * _along(weight, input)
    exact, even = _class_losses(*common, also=-logs.sum(dim))
    share = label_smoothing / input.shape[dim]
    return (1 - label_smoothing) * exact + share * even


def _along(weight: Tensor, input: Tensor) -> Tensor:
    """Weights of classes, shaped to multiply `input`."""
    dim = _class_dim(input)
    return reshape(weight, *[-1 if k == dim else 1 for k in range(input.ndim)])


def _probability_loss(input, target, weight, reduction, label_smoothing) -> Tensor:
    if target.shape != input.shape:
        raise ShapeError(
            "cross_entropy: class probabilities need the shape of the input, "
            f"{tuple(input.shape)}, got {tuple(target.shape)}"
        )
    dim = _class_dim(input)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[dim]
    terms = log_softmax(input, dim) * target
    if weight is not None:
        terms = terms * _along(weight, input)
    losses = -terms.sum(dim)
    if reduction == "mean":
        return losses.sum() / max(1, losses.shape.numel())
    return reduced("cross_entropy", losses, reduction)
