"""Recurrences over time: one contraction of the whole input in front, then one loop over the steps.

What does not depend on the state (the input's share of all gates, at all steps) is computed at once. The
rest is a ``scan``, whose derivative is a loop run backwards; there the weights' gradients wait for
the end of the loop and are one contraction over all steps (``transform/stack.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...func.control import scan
from ...graph.op import op_named
from ...ops.declare import elementwise
from ...ops.joining import cat, chunk
from ...ops.selection import relu
from ...tensor import Tensor, node_of
from ..once import as_several
from .dense import linear

__all__: list[str] = []

# Derivatives from the results, as PyTorch's recurrent layers have them: a saturated gate's is zero where
# ``sigmoid`` and ``tanh`` still know its digits, and a step keeps and computes half as much.
_gate = elementwise(
    "gate",
    1,
    numpy=op_named("sigmoid").numpy,
    scalar="sigmoid",
    rule="float",
    partials=(lambda x, out: out * (1 - out),),
    domain=op_named("sigmoid").domain,
    public=False,
    doc="The sigmoid of a recurrent layer's gate.",
)
_squash = elementwise(
    "squash",
    1,
    numpy=op_named("tanh").numpy,
    scalar="tanh",
    rule="float",
    partials=(lambda x, out: 1 - out * out,),
    domain=op_named("tanh").domain,
    public=False,
    doc="The hyperbolic tangent of a recurrent layer's state.",
)


@dataclass(frozen=True)
class Kind:
    """A cell: how many gates its weights have rows for, how many states it carries, and one step.

    ``step(gates, states, weights)``: `gates` is the input's share, `weights` (w_hh, b_hh, w_hr), of which
    the last two may be None; it returns the new states, the output first.
    """

    gates: int
    states: int
    step: object
    folds: bool = True  # whether b_hh is only ever added to the input's share


def _simple(activation):
    def step(gates, states, weights):
        return (activation(gates + linear(states[0], weights[0])),)

    return step


def _lstm(gates, states, weights):
    w_hh, _, w_hr = weights
    h, c = states
    i, f, g, o = chunk(gates + linear(h, w_hh), 4, -1)
    c = _gate(f) * c + _gate(i) * _squash(g)
    h = _gate(o) * _squash(c)
    return (h if w_hr is None else linear(h, w_hr), c)


def _gru(gates, states, weights):
    w_hh, b_hh, _ = weights
    (h,) = states
    r, z, n = chunk(gates, 3, -1)
    hr, hz, hn = chunk(linear(h, w_hh, b_hh), 3, -1)
    z = _gate(z + hz)
    n = _squash(n + _gate(r + hr) * hn)
    return (n + z * (h - n),)


KINDS = {
    "RNN_TANH": Kind(1, 1, _simple(_squash)),
    "RNN_RELU": Kind(1, 1, _simple(relu)),
    "LSTM": Kind(4, 2, _lstm),
    "GRU": Kind(3, 1, _gru, folds=False),
}


@dataclass(frozen=True)
class Layout:
    """What is static about a stack of recurrences.

    bias, projected : whether there are biases, and a projection of the output (of an LSTM).
    """

    mode: str
    layers: int = 1
    directions: int = 1
    bias: bool = True
    projected: bool = False

    @property
    def weights(self) -> int:
        """Tensors of one layer in one direction: w_ih, w_hh, (b_ih, b_hh), (w_hr)."""
        return 2 + 2 * self.bias + self.projected

    def unpacked(self, tensors) -> tuple:
        """(w_ih, b_ih, (w_hh, b_hh, w_hr)) of one layer in one direction, None for what it has not."""
        rest = list(tensors)
        w_ih, w_hh = rest[:2]
        b_ih, b_hh = rest[2:4] if self.bias else (None, None)
        return w_ih, b_ih, (w_hh, b_hh, rest[-1] if self.projected else None)


def _front(kind: Kind, x: Tensor, w_ih, b_ih, weights) -> Tensor:
    """The input's share of the gates, with what biases can be added at once."""
    bias = b_ih
    if b_ih is not None and kind.folds:
        bias = b_ih + weights[1]
    return linear(x, w_ih, bias)


def _one(kind: Kind, x: Tensor, states: list, tensors: tuple, reverse: bool):
    """(output of every step, last states) of one layer in one direction; x has shape (T, B, I)."""
    w_ih, b_ih, weights = tensors
    gates = _front(kind, x, w_ih, b_ih, weights)

    def step(carry, row):
        new = kind.step(row, carry, weights)
        return new, new[0]

    last, y = scan(step, tuple(states), gates, reverse=reverse)
    return y, last


def stack(layout: Layout, x: Tensor, states, weights, masks) -> tuple[Tensor, ...]:
    """(output of every step, last states) of a stack of recurrences, recorded as one call.

    Parameters
    ----------
    layout : Layout
    x : Tensor, shape (T, B, I)
    states : list of Tensor, each of shape (layers * directions, B, H)
    weights : list of Tensor
        Of each layer and direction in turn.
    masks : list of Tensor, shape (T, B, directions * H)
        What the input of each layer but the first is multiplied by (dropout), or none.

    Returns
    -------
    tuple of Tensor
        Output of shape (T, B, directions * H), then the last states, each stacked as `states`.
    """
    kind = KINDS[layout.mode]
    count, width = len(states), layout.weights

    def function(x, *rest):
        starts, rest = rest[:count], rest[count:]
        held, drops = rest[: len(weights)], rest[len(weights) :]
        lasts: list[list] = [[] for _ in range(count)]
        for layer in range(layout.layers):
            if layer and drops:
                x = x * drops[layer - 1]
            ys = []
            for direction in range(layout.directions):
                at = layer * layout.directions + direction
                tensors = layout.unpacked(held[at * width : (at + 1) * width])
                own = [s[at] for s in starts]
                y, last = _one(kind, x, own, tensors, direction == 1)
                ys.append(y)
                for found, value in zip(lasts, last, strict=True):
                    found.append(value)
            x = ys[0] if len(ys) == 1 else cat(ys, -1)
        return (x, *[_stacked(found) for found in lasts])

    tensors = [x, *states, *weights, *masks]
    return as_several(layout.mode.lower(), (layout, bool(masks)), function, tensors)


def _stacked(states: list) -> Tensor:
    rows = [s.reshape(1, *node_of(s).shape) for s in states]
    return rows[0] if len(rows) == 1 else cat(rows, 0)


def cell(layout: Layout, x: Tensor, states, weights) -> tuple[Tensor, ...]:
    """The states after one step, recorded as one call; x has shape (B, I), states (B, H)."""
    kind = KINDS[layout.mode]
    count = len(states)

    def function(x, *rest):
        w_ih, b_ih, held = layout.unpacked(rest[count:])
        return kind.step(_front(kind, x, w_ih, b_ih, held), rest[:count], held)

    return as_several(f"{layout.mode.lower()}_cell", layout, function, [x, *states, *weights])
