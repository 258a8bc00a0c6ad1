"""Attention: ``scaled_dot_product_attention``, and the multi-head form that the layer runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import ArgumentError, DTypeError, ShapeError
from ...graph import dtypes
from ...graph.node import const
from ...graph.shapes import broadcast
from ...ops.creation import iota
from ...ops.joining import cat, chunk
from ...ops.selection import where
from ...ops.statistics import softmax
from ...tensor import Tensor, node_of, wrap
from ..once import as_one, as_several
from .dense import linear
from .dropping import dropout

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(query key^T scale + mask) value`` (Vaswani et al. 2017).

    Parameters
    ----------
    query : Tensor, shape (*B, L, E)
    key : Tensor, shape (*B, S, E)
    value : Tensor, shape (*B, S, V)
    attn_mask : Tensor, broadcastable to (*B, L, S), optional
        Bool: True takes part. Otherwise added to the scores. A row without a part is all 0.
    dropout_p : float
        Probability of dropout of the weights; it is not turned off in evaluation.
    is_causal : bool
        Step i sees the steps up to i; not with `attn_mask`.
    scale : float, optional
        Default ``1 / sqrt(E)``.
    enable_gqa : bool
        The third last dimension of `key` and `value` may be a divisor of that of `query`: each is used
        for several heads.

    Returns
    -------
    Tensor, shape (*B, L, V)

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
        For shapes that don't fit, other dtypes, or a mask together with `is_causal`.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> fg.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    tensor([[1.0000, 0.0000],
            [0.3302, 0.6698]])
    """
    name = "scaled_dot_product_attention"
    q, k, v = node_of(query).shape, node_of(key).shape, node_of(value).shape
    if min(len(q), len(k), len(v)) < 2 or q[-1] != k[-1] or k[-2] != v[-2]:
        raise ShapeError(
            f"{name}: query (*B, L, E), key (*B, S, E) and value (*B, S, V) are required, got {q}, {k} "
            f"and {v}"
        )
    if is_causal and attn_mask is not None:
        raise ArgumentError(
            f"{name}: Explicit attn_mask should not be set when is_causal=True; leave one out"
        )
    if not 0 <= dropout_p <= 1:
        raise ArgumentError(f"{name}: dropout_p must be between 0 and 1, got {dropout_p}")
    for what, t in (("key", key), ("value", value)):
        if node_of(t).dtype is not node_of(query).dtype:
            raise DTypeError(
                f"{name}: query, key and value must have one dtype, got {query.dtype!r} and {what} of "
                f"{t.dtype!r}"
            )
    if enable_gqa:
        key, value = (_for_heads(name, t, q) for t in (key, value))
    masks = [] if attn_mask is None else [_checked_mask(name, attn_mask, query)]
    drop = []
    if dropout_p:
        batch = _broadcast(q[:-2], node_of(key).shape[:-2])
        drop = [dropout(filled(1, query, (*batch, q[-2], k[-2])), dropout_p)]
    options = is_causal, scale, bool(masks), bool(drop)

    def function(query, key, value, *rest):
        rest = list(rest)
        mask = rest.pop(0) if masks else None
        return attend(query, key, value, mask, rest[0] if drop else None, is_causal, scale)[0]

    return as_one(name, options, function, [query, key, value, *masks, *drop])


def filled(number, like: Tensor, shape: tuple) -> Tensor:
    return wrap(const(number, node_of(like).dtype, shape))


def _broadcast(a: tuple, b: tuple) -> tuple:
    return broadcast("scaled_dot_product_attention", a, b)


def _for_heads(name: str, t: Tensor, q: tuple) -> Tensor:
    """`t` with each of its heads repeated, so that it has those of the query."""
    shape = node_of(t).shape
    if len(q) < 3 or len(shape) < 3 or not shape[-3] or q[-3] % shape[-3]:
        raise ShapeError(
            f"{name}: with enable_gqa the number of heads must divide the query's {q}, got {shape}"
        )
    return t.repeat_interleave(q[-3] // shape[-3], -3)


def _checked_mask(name: str, mask, query: Tensor) -> Tensor:
    if not isinstance(mask, Tensor):
        raise ArgumentError(f"{name}: attn_mask must be a Tensor, got {type(mask).__name__}")
    kind = node_of(mask).dtype
    if kind is not dtypes.bool_ and kind is not node_of(query).dtype:
        raise DTypeError(
            f"{name}: attn_mask must be bool or of the query's dtype {query.dtype!r}, got {kind!r}"
        )
    return mask


def attend(q, k, v, mask, drop, causal: bool, scale: float | None) -> tuple[Tensor, Tensor]:
    """(result, weights) of checked operands; `drop` is what the weights are multiplied by."""
    size = node_of(q).shape[-1]
    q = q * (1 / math.sqrt(size) if scale is None else scale)
    scores = q @ k.transpose(-2, -1)
    rows, cols = node_of(scores).shape[-2:]
    nothing = filled(-math.inf, q, ())
    if causal:
        scores = where(iota((rows, cols), 0) >= iota((rows, cols), 1), scores, nothing)
    if mask is not None:
        is_bool = node_of(mask).dtype is dtypes.bool_
        scores = where(mask, scores, nothing) if is_bool else scores + mask
    weights = softmax(scores, -1)
    if mask is not None:  # a row that sees nothing is 0 rather than NaN
        weights = where((scores == nothing).all(-1, keepdim=True), filled(0, q, ()), weights)
    shown = weights if drop is None else weights * drop
    return shown @ v, shown


# -- many heads -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heads:
    """What is static about a multi-head attention.

    same : whether query, key and value are one tensor; joint : whether their weights are one matrix.
    """

    count: int
    same: bool
    joint: bool
    bias: bool
    extra_row: bool  # bias_k and bias_v
    zero_row: bool
    mask: bool
    drop: bool
    shown: str  # "none", "each" or "mean": what is returned of the weights


def multi_head(heads: Heads, inputs, weights, mask, drop) -> tuple[Tensor, ...]:
    """(result of shape (B, L, E), weights if wanted), recorded as one call.

    Parameters
    ----------
    heads : Heads
    inputs : list of Tensor
        Query, key and value of shape (B, L or S, *), or one for all of them.
    weights : list of Tensor
        The matrices of the projections in front (one or three), that behind; then, if there are,
        biases of both; then bias_k and bias_v.
    mask : list of Tensor
        None or one: added to the scores (B, heads, L, S).
    drop : list of Tensor
        None or one: what the weights are multiplied by.
    """

    def function(*tensors):
        rest = list(tensors)
        given = [rest.pop(0) for _ in inputs]
        held = [rest.pop(0) for _ in weights]
        query, key, value = _projected(heads, given, held)
        out = held[1 if heads.joint else 3]
        bias = held[3 if heads.joint else 5] if heads.bias else None
        key, value = _with_rows(heads, key, value, held)
        q, k, v = (_by_heads(t, heads.count) for t in (query, key, value))
        masks = rest.pop(0) if heads.mask else None
        found, shown = attend(q, k, v, masks, rest[0] if heads.drop else None, False, None)
        batch, count, length, size = node_of(found).shape
        found = found.transpose(1, 2).reshape(batch, length, count * size)
        result = linear(found, out, bias)
        if heads.shown == "none":
            return (result,)
        return result, (shown.mean(1) if heads.shown == "mean" else shown)

    return as_several("multi_head", heads, function, [*inputs, *weights, *mask, *drop])


def _projected(heads: Heads, given, held) -> list[Tensor]:
    """Query, key and value after the projections in front."""
    if heads.joint:
        bias = held[2] if heads.bias else None
        if heads.same:
            return list(chunk(linear(given[0], held[0], bias), 3, -1))
        biases = chunk(bias, 3) if heads.bias else [None] * 3
        return [linear(x, w, b) for x, w, b in zip(given, chunk(held[0], 3), biases, strict=True)]
    biases = chunk(held[4], 3) if heads.bias else [None] * 3
    given = given * 3 if heads.same else given
    return [linear(x, w, b) for x, w, b in zip(given, held[:3], biases, strict=True)]


def _with_rows(heads: Heads, key: Tensor, value: Tensor, held) -> list[Tensor]:
    """Keys and values with the learned step, and the step of zeros, behind the others."""
    found = []
    batch, _, size = node_of(key).shape
    for k, t in enumerate((key, value)):
        rows = [t]
        if heads.extra_row:
            rows.append(held[k - 2].expand(batch, 1, size))
        if heads.zero_row:
            rows.append(filled(0, t, (batch, 1, size)))
        found.append(t if len(rows) == 1 else cat(rows, 1))
    return found


def _by_heads(t: Tensor, count: int) -> Tensor:
    """(B, L, E) -> (B, heads, L, E / heads)."""
    batch, length, size = node_of(t).shape
    return t.reshape(batch, length, count, size // count).transpose(1, 2)
