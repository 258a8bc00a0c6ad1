"""The functions behind the layers and losses: composites of operations, under PyTorch's names."""

from __future__ import annotations

import math
import warnings
import weakref
from functools import lru_cache

import numpy as np

from ..array.construct import arange, make_leaf
from ..array.random import source_of
from ..errors import ArgumentError, DTypeError, IndexingError, ShapeError
from ..graph import dtypes
from ..graph.node import INPUT, SHARED, pending
from ..ops.along import index_select
from ..ops.contraction import CONTRACT, same_dtype
from ..ops.declare import cast
from ..ops.logic import eq, ne
from ..ops.movement import reshape
from ..ops.selection import relu, where
from ..ops.statistics import log_softmax, logsumexp, softmax, softmin
from ..ops.transcendental import erf, log, log1p, sigmoid, softplus, tanh
from ..ops.views import unsqueeze
from ..tensor import Tensor, late, make, node_of
from .once import as_one

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "gelu",
    "huber_loss",
    "l1_loss",
    "linear",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "relu",
    "sigmoid",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "tanh",
]


# -- layers ---------------------------------------------------------------------------------------


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``.

    Parameters
    ----------
    input : Tensor, shape (*B, in_features)
    weight : Tensor, shape (out_features, in_features) or (in_features,)
    bias : Tensor, shape (out_features,), optional

    Returns
    -------
    Tensor, shape (*B, out_features)

    Raises
    ------
    ShapeError, DTypeError
        If the features or the dtypes differ.
    """
    x, w = node_of(input), node_of(weight)
    have, features = x.shape, w.shape
    if not have or have[-1] != features[-1]:
        raise ShapeError(
            f"linear: the input's last dimension must be {features[-1]} (weight has shape "
            f"{features}), got an input of shape {have}"
        )
    if x.dtype is not w.dtype:
        same_dtype("linear", input, weight)
    rank = len(have)
    result = make(
        CONTRACT, (x, w), _LINEAR[len(features) == 1, rank], have[:-1] + features[:-1], x.dtype
    )
    return result if bias is None else result + bias


def _linear_specs(vector: bool, rank: int) -> tuple:
    rows = tuple(range(rank))
    out = () if vector else (rank,)
    return rows, (*out, rank - 1), rows[:-1] + out


# CONTRACT's attributes of ``linear``: (is the weight a vector, rank of the input) -> specs.
_LINEAR = {(v, r): _linear_specs(v, r) for v in (False, True) for r in range(1, 33)}


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``x Phi(x)``, Phi the normal distribution function; or its tanh approximation.

    Source: Hendrycks and Gimpel 2016.

    Raises
    ------
    ArgumentError
        If `approximate` is neither "none" nor "tanh".
    """
    if approximate == "none":
        return 0.5 * input * (1 + erf(input * math.sqrt(0.5)))
    if approximate != "tanh":
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
    return 0.5 * input * (1 + tanh(inner))


def dropout(input: Tensor, p: float = 0.5, training: bool = True, *, generator=None) -> Tensor:
    """Zero each element with probability `p` and divide the others by ``1 - p``.

    The mask is drawn at the call, from `generator` or the default one. Without `training` the input
    is returned.

    Raises
    ------
    ArgumentError
        If `p` is not in [0, 1].
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    kind = input.dtype.np
    if p == 1:
        mask = np.zeros(tuple(input.shape), kind)
    else:
        keep = source_of(generator).random(tuple(input.shape), dtype=np.float32) >= p
        mask = keep * kind.type(1 / (1 - p))
    return input * make_leaf("dropout", mask)


# -- losses ---------------------------------------------------------------------------------------


def _reduced(name: str, loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ArgumentError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def _check_pair(name: str, input: Tensor, target: Tensor) -> None:
    for role, value in (("input", input), ("target", target)):
        if not isinstance(value, Tensor):
            raise ArgumentError(
                f"{name}: {role} must be a Tensor, got {type(value).__name__}; "
                "convert it with flatgrad.tensor"
            )


def _check_same(name: str, input: Tensor, target: Tensor) -> None:
    _check_pair(name, input, target)
    if input.shape != target.shape:
        warnings.warn(
            f"{name}: using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            UserWarning,
            stacklevel=3,
        )


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``(input - target)**2``, its mean or sum.

    Parameters
    ----------
    input, target : Tensor, shape (*S)
    reduction : "none", "mean" or "sum"

    Returns
    -------
    Tensor, shape () or (*S)

    Raises
    ------
    ArgumentError
        For another reduction.
    """
    _check_same("mse_loss", input, target)
    difference = input - target
    return _reduced("mse_loss", difference * difference, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``|input - target|``, its mean or sum. Gradient at equality: 0."""
    _check_same("l1_loss", input, target)
    return _reduced("l1_loss", (input - target).abs(), reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """``d**2 / 2`` where ``|d| < delta``, else ``delta (|d| - delta / 2)``; d = input - target."""
    if not delta > 0:
        raise ArgumentError(f"huber_loss: delta must be positive, got {delta}")
    _check_same("huber_loss", input, target)
    size = (input - target).abs()
    loss = where(size < delta, 0.5 * size * size, delta * (size - 0.5 * delta))
    return _reduced("huber_loss", loss, reduction)


def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """``d**2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``; d = input - target."""
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    _check_same("smooth_l1_loss", input, target)
    if beta == 0:
        return l1_loss(input, target, reduction)
    size = (input - target).abs()
    loss = where(size < beta, (0.5 / beta) * size * size, size - 0.5 * beta)
    return _reduced("smooth_l1_loss", loss, reduction)


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """``-(target log(input) + (1 - target) log(1 - input))`` of probabilities.

    Logarithms are clamped at -100, as PyTorch's; the gradient is 0 where they are.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    _check_pair("binary_cross_entropy", input, target)
    if input.shape != target.shape:
        raise ShapeError(
            f"binary_cross_entropy: using a target size ({target.shape}) that is different to the "
            f"input size ({input.shape}); the two must be equal"
        )
    loss = (target - 1) * log1p(-input).clamp(min=-100) - target * log(input).clamp(min=-100)
    return _reduced("binary_cross_entropy", loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """:func:`binary_cross_entropy` of ``sigmoid(input)``, accurate for all inputs.

    Parameters
    ----------
    input, target : Tensor, shape (*S)
    weight : Tensor, optional
        Factors of the losses.
    pos_weight : Tensor, optional
        Factors of the positive examples.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    _check_pair("binary_cross_entropy_with_logits", input, target)
    if input.shape != target.shape:
        raise ShapeError(
            f"binary_cross_entropy_with_logits: target size ({target.shape}) must be the same as "
            f"input size ({input.shape})"
        )
    tail = softplus(-input)
    if pos_weight is not None:
        tail = ((pos_weight - 1) * target + 1) * tail
    loss = (1 - target) * input + tail
    name = "binary_cross_entropy_with_logits"
    return _reduced(name, loss if weight is None else loss * weight, reduction)


# -- classification -------------------------------------------------------------------------------


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
    classes = _counted(values.shape[dim])
    at = reshape(classes, *[-1 if k == dim else 1 for k in range(values.ndim)])
    return eq(unsqueeze(target, dim), at)


@lru_cache(maxsize=64)
def _counted(count: int) -> Tensor:
    return arange(count)


def _class_weights(weight: Tensor, target: Tensor) -> Tensor:
    return index_select(weight, 0, reshape(target, -1)).reshape(*target.shape)


def _weighted_mean(losses, counts, reduction: str) -> Tensor:
    """Reduce losses that are 0 where ignored; the mean divides by the sum of `counts`."""
    if reduction == "mean" and counts is not None:
        return losses.sum() / counts.sum()
    return _reduced("loss", losses, reduction)


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
        at = index_select(_counted(classes), 0, reshape(target, -1))
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
    _check_pair("nll_loss", input, target)
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
    _check_pair("cross_entropy", input, target)
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
    return _reduced("cross_entropy", losses, reduction)
