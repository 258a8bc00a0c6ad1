"""``MultiheadAttention``, with PyTorch's parameters."""

from __future__ import annotations

import math

from ..array.construct import empty
from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import dtypes
from ..ops.joining import pad
from ..ops.selection import where
from ..tensor import Tensor, node_of
from . import init
from .functional.attention import Heads, filled, multi_head
from .functional.dropping import dropout as drop_out
from .layers import Linear
from .module import Module
from .parameter import Parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Several attentions over parts of the features, side by side (Vaswani et al. 2017).

    Parameters
    ----------
    embed_dim, num_heads : int
        Each head has ``embed_dim // num_heads`` features.
    dropout : float
        Probability of dropout of the weights, in training.
    bias : bool
    add_bias_kv : bool
        A learned step behind the keys and values.
    add_zero_attn : bool
        A step of zeros behind them.
    kdim, vdim : int, optional
        Features of keys and values; default `embed_dim`.
    batch_first : bool
        Inputs of shape (B, L, E) instead of (L, B, E).

    Attributes
    ----------
    in_proj_weight : Parameter, shape (3 embed_dim, embed_dim)
        Or q_proj_weight, k_proj_weight and v_proj_weight, if `kdim` or `vdim` differ.
    in_proj_bias : Parameter, shape (3 embed_dim,), or None
    out_proj : Linear

    Raises
    ------
    ArgumentError
        If the heads don't divide the features.

    Examples
    --------
    >>> import flatgrad as fg
    >>> attention = fg.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = fg.ones(3, 5, 8)
    >>> output, weights = attention(x, x, x)
    >>> output.shape, weights.shape
    (flatgrad.Size([3, 5, 8]), flatgrad.Size([3, 5, 5]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device=None,
        dtype=None,
    ):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ArgumentError(
                "MultiheadAttention: embed_dim must be divisible by num_heads, and both greater than 0, got "
                f"{embed_dim} and {num_heads}"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.head_dim = embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        joint = self.kdim == self.vdim == embed_dim
        widths = {"q": embed_dim, "k": self.kdim, "v": self.vdim}
        for name, width in widths.items():
            p = None if joint else Parameter(empty(embed_dim, width, dtype=dtype))
            self.register_parameter(f"{name}_proj_weight", p)
        self.register_parameter(
            "in_proj_weight",
            Parameter(empty(3 * embed_dim, embed_dim, dtype=dtype)) if joint else None,
        )
        self.register_parameter(
            "in_proj_bias", Parameter(empty(3 * embed_dim, dtype=dtype)) if bias else None
        )
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, dtype=dtype)
        for name in ("bias_k", "bias_v"):
            p = Parameter(empty(1, 1, embed_dim, dtype=dtype)) if add_bias_kv else None
            self.register_parameter(name, p)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Glorot's uniform weights in front, zero biases."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if self._parameters[name] is not None:
                init.xavier_uniform_(self._parameters[name])
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for p in (self.bias_k, self.bias_v):
            if p is not None:
                init.xavier_normal_(p)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(result, weights).

        Parameters
        ----------
        query : Tensor, shape (L, B, embed_dim), or (L, embed_dim)
        key : Tensor, shape (S, B, kdim)
        value : Tensor, shape (S, B, vdim)
        key_padding_mask : Tensor, shape (B, S), optional
            Bool: True is left out. Otherwise added to the scores.
        need_weights : bool
            Whether the weights are returned; else None.
        attn_mask : Tensor, shape (L, S) or (B num_heads, L, S), optional
            Bool: True is left out. Otherwise added to the scores.
        average_attn_weights : bool
            Weights of shape (B, L, S), their mean over the heads, instead of (B, num_heads, L, S).
        is_causal : bool
            That `attn_mask`, which must be given, is the causal one.

        A step that sees nothing gets zeros.
        """
        shapes = [node_of(t).shape for t in (query, key, value)]
        self._check(shapes)
        batched = len(shapes[0]) == 3
        same = key is query and value is key
        inputs = [query] if same else [query, key, value]
        if not batched:
            inputs = [t.unsqueeze(0) for t in inputs]
        elif not self.batch_first:
            inputs = [t.transpose(0, 1) for t in inputs]
        if is_causal and attn_mask is None:
            raise ArgumentError(
                "MultiheadAttention: Need attn_mask if specifying the is_causal hint; give the causal mask"
            )
        batch, length = node_of(inputs[0]).shape[:2]
        source = node_of(inputs[-1]).shape[1]
        mask = self._mask(attn_mask, key_padding_mask, (batch, length, source), query)
        extra = (self.bias_k is not None) + self.add_zero_attn
        if mask is not None and extra:
            mask = pad(mask, (0, extra))
        drop = []
        if self.training and self.dropout:
            full = filled(1, query, (batch, self.num_heads, length, source + extra))
            drop = [drop_out(full, self.dropout)]
        heads = Heads(
            self.num_heads,
            same,
            self.in_proj_weight is not None,
            self.in_proj_bias is not None,
            self.bias_k is not None,
            self.add_zero_attn,
            mask is not None,
            bool(drop),
            "none" if not need_weights else "mean" if average_attn_weights else "each",
        )
        masks = [] if mask is None else [mask]
        result, *shown = multi_head(heads, inputs, self._weights(), masks, drop)
        weights = shown[0] if shown else None
        if not batched:
            return result.squeeze(0), None if weights is None else weights.squeeze(0)
        return (result if self.batch_first else result.transpose(0, 1)), weights

    def _weights(self) -> list[Tensor]:
        """All parameters there are, in the order of ``multi_head``."""
        front = [self.in_proj_weight]
        if front[0] is None:
            front = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        out = self.out_proj
        rest = [self.in_proj_bias, out.bias, self.bias_k, self.bias_v]
        return [*front, out.weight, *[p for p in rest if p is not None]]

    def _check(self, shapes: list) -> None:
        q, k, v = shapes
        wanted = (self.embed_dim, self.kdim, self.vdim)
        if len(q) not in (2, 3) or not len(q) == len(k) == len(v):
            raise ShapeError(
                "MultiheadAttention: query, key and value must all have 3 dimensions, or 2 without a batch, "
                f"got {q}, {k} and {v}"
            )
        if (q[-1], k[-1], v[-1]) != wanted:
            raise ShapeError(
                f"MultiheadAttention: last dimensions {wanted} (embed_dim, kdim, vdim) are required, got "
                f"{q}, {k} and {v}"
            )
        steps = 1 if self.batch_first and len(k) == 3 else 0
        batch = [s[1 - steps] for s in shapes] if len(q) == 3 else [1] * 3
        if k[steps] != v[steps] or len(set(batch)) != 1:
            raise ShapeError(
                "MultiheadAttention: key and value must have the same steps, and all the same batch, got "
                f"{q}, {k} and {v}"
            )

    def _mask(self, mask, padding, sizes: tuple, like: Tensor) -> Tensor | None:
        """Both masks as one to be added, of a shape that broadcasts to (B, heads, L, S)."""
        batch, length, source = sizes
        found = None
        if mask is not None:
            shape = node_of(mask).shape
            every = (batch * self.num_heads, length, source)
            if shape not in ((length, source), every):
                raise ShapeError(
                    f"MultiheadAttention: attn_mask must have the shape {(length, source)} or {every}, got "
                    f"{shape}"
                )
            found = added(mask, "attn_mask", like)
            if len(shape) == 3:
                found = found.reshape(batch, self.num_heads, length, source)
            else:
                found = found.reshape(1, 1, length, source)
        if padding is not None:
            shape = node_of(padding).shape
            if shape not in ((batch, source), (source,) if batch == 1 else ()):
                raise ShapeError(
                    "MultiheadAttention: key_padding_mask must have the shape "
                    f"{(batch, source)}, got {shape}"
                )
            more = added(padding, "key_padding_mask", like).reshape(batch, 1, 1, source)
            found = more if found is None else found + more
        return found


def added(mask, what: str, like: Tensor) -> Tensor:
    """A mask to be added to the scores: -inf where a bool one is True.

    Raises
    ------
    ArgumentError, DTypeError
        If it is neither bool nor of the scores' dtype.
    """
    if not isinstance(mask, Tensor):
        raise ArgumentError(
            f"MultiheadAttention: {what} must be a Tensor, got {type(mask).__name__}"
        )
    kind = node_of(mask).dtype
    if kind is dtypes.bool_:
        return where(mask, filled(-math.inf, like, ()), filled(0, like, ()))
    if kind is not node_of(like).dtype:
        raise DTypeError(
            f"MultiheadAttention: {what} must be bool or of the input's dtype {like.dtype!r}, got {kind!r}"
        )
    return mask
