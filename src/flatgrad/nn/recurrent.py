"""``RNN``, ``LSTM``, ``GRU`` and their cells, with PyTorch's parameters. The loops are in ``functional``."""

from __future__ import annotations

import math
import warnings

from ..array.construct import empty, ones, zeros
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor, node_of
from . import init
from .functional.dropping import dropout
from .functional.recurrence import KINDS, Layout, cell, stack
from .module import Module
from .parameter import Parameter

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


def _positive(owner: str, **numbers) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ArgumentError(f"{owner}: {name} must be a positive int, got {value!r}")


def _uniform(module: Module, size: int) -> None:
    bound = 1 / math.sqrt(size)
    for p in module.parameters():
        init.uniform_(p, -bound, bound)


def _check_input(owner: str, x, ranks: tuple, features: int, like: Tensor) -> tuple:
    """The shape of an input that fits.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError
    """
    if not isinstance(x, Tensor):
        raise ArgumentError(
            f"{owner}: the input must be a Tensor, got {type(x).__name__}; sequences of different length "
            "are padded to one, or run one by one"
        )
    shape = node_of(x).shape
    if len(shape) not in ranks:
        wanted = " or ".join(f"{r}D" for r in ranks)
        raise ShapeError(f"{owner}: Expected input to be {wanted}, got {len(shape)}D {shape}")
    if shape[-1] != features:
        raise ShapeError(
            f"{owner}: the input's last dimension must be input_size {features}, got an input of shape "
            f"{shape}"
        )
    _check_dtype(owner, "input", x, like)
    return shape


def _check_dtype(owner: str, what: str, x: Tensor, like: Tensor) -> None:
    if node_of(x).dtype is not node_of(like).dtype:
        raise DTypeError(
            f"{owner}: the {what} must have the weights' dtype {like.dtype!r}, got {x.dtype!r}; convert "
            "it with .to()"
        )


def _check_state(owner: str, what: str, state, shape: tuple, like: Tensor) -> None:
    if not isinstance(state, Tensor):
        raise ArgumentError(f"{owner}: {what} must be a Tensor, got {type(state).__name__}")
    if node_of(state).shape != shape:
        raise ShapeError(f"{owner}: Expected {what} of shape {shape}, got {node_of(state).shape}")
    _check_dtype(owner, what, state, like)


class _Recurrent(Module):
    """A stack of recurrences: parameters, checks, and the layout that `functional` runs."""

    modes: tuple[str, ...] = ()

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype=None,
    ):
        super().__init__()
        name = type(self).__name__
        _positive(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ArgumentError(
                f"{name}: dropout should be a number in range [0, 1] representing the probability of an "
                f"element being zeroed, got {dropout!r}"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout "
                f"expects num_layers greater than 1, but got dropout={dropout} and num_layers=1",
                UserWarning,
                stacklevel=3,
            )
        if not 0 <= proj_size < hidden_size:
            raise ArgumentError(
                f"{name}: proj_size has to be at least 0 and smaller than hidden_size {hidden_size}, got "
                f"{proj_size}"
            )
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional, self.proj_size = dropout, bidirectional, proj_size
        gates = KINDS[mode].gates * hidden_size
        for layer in range(num_layers):
            for suffix in self._suffixes:
                width = input_size if layer == 0 else self._out * len(self._suffixes)
                shapes = {"weight_ih": (gates, width), "weight_hh": (gates, self._out)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for kind, shape in shapes.items():
                    setattr(self, f"{kind}_l{layer}{suffix}", Parameter(empty(*shape, dtype=dtype)))
        self.reset_parameters()

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    @property
    def _out(self) -> int:
        """Numbers in one direction's output."""
        return self.proj_size or self.hidden_size

    @property
    def _layout(self) -> Layout:
        return Layout(
            self.mode, self.num_layers, len(self._suffixes), self.bias, self.proj_size > 0
        )

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction."""
        kinds = ["weight_ih", "weight_hh", *["bias_ih", "bias_hh"] * self.bias]
        kinds += ["weight_hr"] * (self.proj_size > 0)
        return [
            [getattr(self, f"{kind}_l{layer}{suffix}") for kind in kinds]
            for layer in range(self.num_layers)
            for suffix in self._suffixes
        ]

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform over +-1 / sqrt(hidden_size)."""
        _uniform(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Does nothing: there is no GPU whose memory would have to be arranged."""

    def _sizes(self) -> tuple[int, ...]:
        """The width of each state."""
        return (self._out, self.hidden_size)[: KINDS[self.mode].states]

    def _run(self, input: Tensor, hx) -> tuple[Tensor, list[Tensor]]:
        """(output, last states) for the user's input and states (None, or a list)."""
        name = type(self).__name__
        like = self.weight_ih_l0
        shape = _check_input(name, input, (2, 3), self.input_size, like)
        batched = len(shape) == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        steps, batch = node_of(x).shape[:2]
        if not steps:
            raise ShapeError(f"{name}: Expected sequence length to be larger than 0, got {shape}")
        count = self.num_layers * len(self._suffixes)
        wanted = [(count, *[batch] * batched, size) for size in self._sizes()]
        if hx is None:
            states = [zeros(count, batch, size, dtype=like.dtype) for size in self._sizes()]
        else:
            for what, state, s in zip(("hx", "cx"), hx, wanted, strict=False):
                _check_state(name, what, state, s, like)
            states = hx if batched else [s.unsqueeze(1) for s in hx]
        masks = []
        if self.training and self.dropout:
            width = len(self._suffixes) * self._out
            full = ones(steps, batch, width, dtype=like.dtype)
            masks = [dropout(full, self.dropout) for _ in range(self.num_layers - 1)]
        weights = [p for group in self.all_weights for p in group]
        y, *last = stack(self._layout, x, list(states), weights, masks)
        if not batched:
            return y.squeeze(1), [s.squeeze(1) for s in last]
        return (y.transpose(0, 1) if self.batch_first else y), last

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        usual = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False}
        usual |= {"dropout": 0.0, "bidirectional": False}
        parts += [f"{n}={getattr(self, n)}" for n, v in usual.items() if getattr(self, n) != v]
        return ", ".join(parts)


class RNN(_Recurrent):
    """``h = tanh(W_ih x + b_ih + W_hh h + b_hh)`` over the steps of a sequence (Elman 1990).

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    nonlinearity : "tanh" or "relu"
    bias : bool
    batch_first : bool
        Input and output of shape (B, T, ...) instead of (T, B, ...); states keep theirs.
    dropout : float
        Probability of dropout of the input of every layer but the first, in training.
    bidirectional : bool
        A second recurrence of each layer runs from the last step to the first.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 : Parameter
        Of layer 0, and so on; with ``_reverse`` of the second direction. Uniform over
        +-1 / sqrt(hidden_size).

    Raises
    ------
    ArgumentError
        For sizes that are no positive ints, and numbers out of range.

    Examples
    --------
    >>> import flatgrad as fg
    >>> rnn = fg.nn.RNN(3, 4)
    >>> output, last = rnn(fg.ones(5, 2, 3))
    >>> output.shape, last.shape
    (flatgrad.Size([5, 2, 4]), flatgrad.Size([1, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device=None,
        dtype=None,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        options = (num_layers, bias, batch_first, dropout, bidirectional, 0, dtype)
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, *options)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(output of every step, last state).

        Parameters
        ----------
        input : Tensor, shape (T, B, input_size) or (T, input_size)
        hx : Tensor, shape (num_layers * directions, B, hidden_size), optional
            The first state; zeros if not given.
        """
        y, last = self._run(input, None if hx is None else [hx])
        return y, last[0]


class GRU(_Recurrent):
    """A gated recurrent unit over the steps of a sequence (Cho et al. 2014, PyTorch's form).

    ``r = sigmoid(..)``, ``z = sigmoid(..)``, ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``,
    ``h = (1 - z) n + z h``; rows of the weights in the order r, z, n. Parameters as of :class:`RNN`.

    Examples
    --------
    >>> import flatgrad as fg
    >>> output, last = fg.nn.GRU(3, 4, bidirectional=True)(fg.ones(5, 2, 3))
    >>> output.shape, last.shape
    (flatgrad.Size([5, 2, 8]), flatgrad.Size([2, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device=None,
        dtype=None,
    ):
        options = (num_layers, bias, batch_first, dropout, bidirectional, 0, dtype)
        super().__init__("GRU", input_size, hidden_size, *options)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(output of every step, last state), as of :meth:`RNN.forward`."""
        y, last = self._run(input, None if hx is None else [hx])
        return y, last[0]


class LSTM(_Recurrent):
    """Long short-term memory over the steps of a sequence (Hochreiter and Schmidhuber 1997).

    ``c = f c + i g``, ``h = o tanh(c)``, with i, f, o sigmoids and g a tanh of
    ``W_ih x + b_ih + W_hh h + b_hh``, rows of the weights in the order i, f, g, o.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As of :class:`RNN`.
    proj_size : int
        If not 0, ``h`` is multiplied by a matrix ``weight_hr`` of so many rows.

    Examples
    --------
    >>> import flatgrad as fg
    >>> output, (h, c) = fg.nn.LSTM(3, 4, num_layers=2)(fg.ones(5, 2, 3))
    >>> output.shape, h.shape, c.shape
    (flatgrad.Size([5, 2, 4]), flatgrad.Size([2, 2, 4]), flatgrad.Size([2, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device=None,
        dtype=None,
    ):
        options = (num_layers, bias, batch_first, dropout, bidirectional, proj_size, dtype)
        super().__init__("LSTM", input_size, hidden_size, *options)

    def forward(self, input: Tensor, hx: tuple | None = None) -> tuple[Tensor, tuple]:
        """(output of every step, (last h, last c)).

        Parameters
        ----------
        input : Tensor, shape (T, B, input_size) or (T, input_size)
        hx : (Tensor, Tensor), optional
            The first h, of shape (num_layers * directions, B, proj_size or hidden_size), and c, of
            shape (num_layers * directions, B, hidden_size); zeros if not given.
        """
        y, last = self._run(input, _pair("LSTM", hx))
        return y, tuple(last)


def _pair(owner: str, hx) -> list | None:
    if hx is None:
        return None
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise ArgumentError(f"{owner}: hx must be a pair (h, c), got {type(hx).__name__}")
    return list(hx)


# -- cells ----------------------------------------------------------------------------------------


class _Cell(Module):
    def __init__(self, mode: str, input_size: int, hidden_size: int, bias: bool, dtype):
        super().__init__()
        _positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._mode = mode
        gates = KINDS[mode].gates * hidden_size
        self.weight_ih = Parameter(empty(gates, input_size, dtype=dtype))
        self.weight_hh = Parameter(empty(gates, hidden_size, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(gates, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform over +-1 / sqrt(hidden_size)."""
        _uniform(self, self.hidden_size)

    def _run(self, input: Tensor, hx) -> tuple[Tensor, ...]:
        name, like = type(self).__name__, self.weight_ih
        shape = _check_input(name, input, (1, 2), self.input_size, like)
        wanted = (*shape[:-1], self.hidden_size)
        if hx is None:
            hx = [zeros(*wanted, dtype=like.dtype) for _ in range(KINDS[self._mode].states)]
        for what, state in zip(("hx", "cx"), hx, strict=False):
            _check_state(name, what, state, wanted, like)
        weights = [self.weight_ih, self.weight_hh]
        weights += [self.bias_ih, self.bias_hh] if self.bias else []
        return cell(Layout(self._mode, bias=self.bias), input, list(hx), weights)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of an :class:`RNN`: ``h = cell(x, h)``, x of shape (B, input_size) or (input_size,)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device=None,
        dtype=None,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(
                f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}"
            )
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._run(input, None if hx is None else [hx])[0]

    def extra_repr(self) -> str:
        usual = self.nonlinearity == "tanh"
        return super().extra_repr() + ("" if usual else f", nonlinearity={self.nonlinearity}")


class GRUCell(_Cell):
    """One step of a :class:`GRU`: ``h = cell(x, h)``."""

    def __init__(self, input_size: int, hidden_size: int, bias=True, device=None, dtype=None):
        super().__init__("GRU", input_size, hidden_size, bias, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._run(input, None if hx is None else [hx])[0]


class LSTMCell(_Cell):
    """One step of an :class:`LSTM`: ``h, c = cell(x, (h, c))``."""

    def __init__(self, input_size: int, hidden_size: int, bias=True, device=None, dtype=None):
        super().__init__("LSTM", input_size, hidden_size, bias, dtype)

    def forward(self, input: Tensor, hx: tuple | None = None) -> tuple[Tensor, Tensor]:
        return tuple(self._run(input, _pair("LSTMCell", hx)))
