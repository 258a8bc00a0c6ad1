"""Transformer layers and stacks of them, with PyTorch's parameters (Vaswani et al. 2017)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

from ..array.construct import full
from ..errors import ArgumentError
from ..tensor import Tensor
from .attention import MultiheadAttention
from .containers import ModuleList
from .functional.activation import gelu, relu
from .layers import Dropout, Linear
from .module import Module
from .normalization import LayerNorm

__all__ = [
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "causal_mask",
]


_ACTIVATIONS = {"relu": relu, "gelu": gelu}


def causal_mask(size: int, dtype=None) -> Tensor:
    """``(size, size)``: 0 up to the diagonal, -inf behind it; step i sees the steps up to i.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.causal_mask(2)
    tensor([[0., -inf],
            [0., 0.]])
    """
    return full((size, size), -math.inf, dtype=dtype).triu(1)


def _activation(owner: str, given) -> Callable:
    found = _ACTIVATIONS.get(given, given) if isinstance(given, str) else given
    if not callable(found):
        raise ArgumentError(
            f"{owner}: activation should be relu or gelu, or a function, got {given!r}"
        )
    return found


class _Layer(Module):
    """What encoder and decoder layers share: the attention to themselves and the feed-forward part."""

    def __init__(
        self,
        d_model,
        nhead,
        dim_feedforward,
        dropout,
        activation,
        batch_first,
        norm_first,
        bias,
        dtype,
    ):
        super().__init__()
        options = {"dropout": dropout, "bias": bias, "batch_first": batch_first, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, **options)
        if self._crosses:
            self.multihead_attn = MultiheadAttention(d_model, nhead, **options)
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, dtype=dtype)
        self.norm_first = norm_first
        self.activation = _activation(type(self).__name__, activation)

    _crosses = False

    def _norms(self, count: int, d_model, eps, bias, dropout, dtype) -> None:
        for k in range(1, count + 1):
            setattr(self, f"norm{k}", LayerNorm(d_model, eps=eps, bias=bias, dtype=dtype))
        for k in range(1, count + 1):
            setattr(self, f"dropout{k}", Dropout(dropout))

    def _attend(self, x: Tensor, mask, padding, causal: bool, drop: Dropout) -> Tensor:
        given = {"attn_mask": mask, "key_padding_mask": padding, "is_causal": causal}
        return drop(self.self_attn(x, x, x, need_weights=False, **given)[0])

    def _feed(self, x: Tensor, drop: Dropout) -> Tensor:
        return drop(self.linear2(self.dropout(self.activation(self.linear1(x)))))

    def _around(self, x: Tensor, norm: LayerNorm, part: Callable) -> Tensor:
        """`part` with its residual connection and its norm, before or behind."""
        return x + part(norm(x)) if self.norm_first else norm(x + part(x))


class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself, then a feed-forward network, each with a residual and a norm.

    Parameters
    ----------
    d_model, nhead, dim_feedforward : int
    dropout : float
        In training, of the attention's weights, of both parts' results and of the hidden layer.
    activation : "relu", "gelu" or callable
    layer_norm_eps : float
    batch_first : bool
        Inputs of shape (B, T, d_model) instead of (T, B, d_model).
    norm_first : bool
        Norms before the parts instead of behind.
    bias : bool

    Examples
    --------
    >>> import flatgrad as fg
    >>> layer = fg.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> layer(fg.ones(3, 5, 8), src_mask=fg.nn.causal_mask(5), is_causal=True).shape
    flatgrad.Size([3, 5, 8])
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation="relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device=None,
        dtype=None,
    ):
        options = (dropout, activation, batch_first, norm_first, bias, dtype)
        super().__init__(d_model, nhead, dim_feedforward, *options)
        self._norms(2, d_model, layer_norm_eps, bias, dropout, dtype)

    def forward(
        self, src: Tensor, src_mask=None, src_key_padding_mask=None, is_causal: bool = False
    ) -> Tensor:
        """The sequence after the layer; masks as of :class:`MultiheadAttention`."""

        def attend(x):
            return self._attend(x, src_mask, src_key_padding_mask, is_causal, self.dropout1)

        x = self._around(src, self.norm1, attend)
        return self._around(x, self.norm2, lambda x: self._feed(x, self.dropout2))


class TransformerDecoderLayer(_Layer):
    """An encoder layer with an attention to another sequence, `memory`, between its parts.

    Parameters as of :class:`TransformerEncoderLayer`.
    """

    _crosses = True

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation="relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device=None,
        dtype=None,
    ):
        options = (dropout, activation, batch_first, norm_first, bias, dtype)
        super().__init__(d_model, nhead, dim_feedforward, *options)
        self._norms(3, d_model, layer_norm_eps, bias, dropout, dtype)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask=None,
        memory_mask=None,
        tgt_key_padding_mask=None,
        memory_key_padding_mask=None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The sequence after the layer; masks as of :class:`MultiheadAttention`."""

        def attend(x):
            return self._attend(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal, self.dropout1)

        def cross(x):
            given = {"attn_mask": memory_mask, "key_padding_mask": memory_key_padding_mask}
            given["is_causal"] = memory_is_causal
            found, _ = self.multihead_attn(x, memory, memory, need_weights=False, **given)
            return self.dropout2(found)

        x = self._around(tgt, self.norm1, attend)
        x = self._around(x, self.norm2, cross)
        return self._around(x, self.norm3, lambda x: self._feed(x, self.dropout3))


class _Stack(Module):
    def __init__(self, layer: Module, num_layers: int, norm: Module | None):
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def _through(self, x: Tensor, *args, **options) -> Tensor:
        for layer in self.layers:
            x = layer(x, *args, **options)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """Copies of an encoder layer in a row, then `norm` if there is one.

    Parameters
    ----------
    encoder_layer : TransformerEncoderLayer
    num_layers : int
    norm : Module, optional
    enable_nested_tensor, mask_check : bool
        Kept for PyTorch's sake.

    Examples
    --------
    >>> import flatgrad as fg
    >>> layer = fg.nn.TransformerEncoderLayer(8, 2, 16)
    >>> fg.nn.TransformerEncoder(layer, 2)(fg.ones(5, 3, 8)).shape
    flatgrad.Size([5, 3, 8])
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ):
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self, src: Tensor, mask=None, src_key_padding_mask=None, is_causal: bool | None = None
    ) -> Tensor:
        """The sequence after all layers; masks as of :class:`MultiheadAttention`."""
        causal = bool(is_causal) and mask is not None
        return self._through(src, mask, src_key_padding_mask, is_causal=causal)


class TransformerDecoder(_Stack):
    """Copies of a decoder layer in a row, then `norm` if there is one.

    Parameters
    ----------
    decoder_layer : TransformerDecoderLayer
    num_layers : int
    norm : Module, optional
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None):
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask=None,
        memory_mask=None,
        tgt_key_padding_mask=None,
        memory_key_padding_mask=None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The sequence after all layers; masks as of :class:`MultiheadAttention`."""
        return self._through(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            bool(tgt_is_causal) and tgt_mask is not None,
            memory_is_causal and memory_mask is not None,
        )
