"""Forward and backward in one program: the nine (and a bare LSTM cell) that are held against hand-fused C.

Each program takes and returns float32 arrays (class numbers are int64); ``SIZES`` has their shapes.
"""

import math
from dataclasses import dataclass

import numpy as np

import flatgrad as fg

F = fg.nn.functional


def cross_entropy(x, target):
    return fg.value_and_grad(F.cross_entropy)(x, target)


def layer_norm(x, w, b, g):
    def forward(x, w, b):
        centred = x - x.mean(1, keepdim=True)
        return centred * fg.rsqrt(centred.square().mean(1, keepdim=True) + 1e-5) * w + b

    return _pulled(forward, g, x, w, b)


def batch_norm(x, w, b, g):
    def forward(x, w, b):
        centred = x - x.mean(0)
        return centred * fg.rsqrt(centred.square().mean(0) + 1e-5) * w + b

    return _pulled(forward, g, x, w, b)


def gelu(x, b, g):
    return _pulled(lambda x, b: F.gelu(x + b), g, x, b)


def logsumexp(x, g):
    return _pulled(lambda x: fg.logsumexp(x, 1), g, x)


def huber(x, y):
    return fg.value_and_grad(F.huber_loss)(x, y)


def cosine(x, y, g):
    def forward(x, y):
        return (x * y).sum(1) * fg.rsqrt((x * x).sum(1) * (y * y).sum(1))

    return _pulled(forward, g, x, y)


def attention(q, k, v, g):
    def forward(q, k, v):
        return fg.softmax(q @ k.T / math.sqrt(q.shape[1]), 1) @ v

    return _pulled(forward, g, q, k, v)


def gates(z, c, gh, gc):
    """An LSTM cell from its four sums on."""
    return _pulled(_cell, (gh, gc), z, c)


def lstm(x, h, c, wx, wh, b, gh, gc):
    def forward(x, h, c, wx, wh, b):
        return _cell(x @ wx.T + h @ wh.T + b, c)

    return _pulled(forward, (gh, gc), x, h, c, wx, wh, b)


def _cell(z, c):
    n = c.shape[1]
    i, f, o = (fg.sigmoid(z[:, k * n : (k + 1) * n]) for k in (0, 1, 3))
    new = f * c + i * fg.tanh(z[:, 2 * n : 3 * n])
    return o * fg.tanh(new), new


def _pulled(forward, cotangents, *primals):
    value, pull = fg.func.vjp(forward, *primals)
    return value, pull(cotangents)


@dataclass(frozen=True)
class Case:
    """`shapes` gives, for the numbers of `sizes`, the shapes of the arguments and then of the results."""

    function: object
    title: str
    shapes: object
    sizes: tuple

    def arguments(self, *sizes) -> list[np.ndarray]:
        rng = np.random.default_rng(5)
        made = [rng.standard_normal(s).astype(np.float32) for s in self.shapes(*sizes)[0]]
        if self.function is cross_entropy:
            made[1] = rng.integers(0, sizes[1], sizes[0])
        return made

    def results(self, *sizes) -> list[np.ndarray]:
        return [np.empty(s, np.float32) for s in self.shapes(*sizes)[1]]


ROWS = ((64, 512), (8, 32))
CASES = {
    "cross_entropy": Case(
        cross_entropy, "softmax cross-entropy", lambda n, m: ([(n, m), (n,)], [(), (n, m)]), ROWS
    ),
    "layer_norm": Case(
        layer_norm,
        "layer norm",
        lambda n, m: ([(n, m), (m,), (m,), (n, m)], [(n, m), (n, m), (m,), (m,)]),
        ROWS,
    ),
    "batch_norm": Case(
        batch_norm,
        "batch norm",
        lambda n, m: ([(n, m), (m,), (m,), (n, m)], [(n, m), (n, m), (m,), (m,)]),
        ROWS,
    ),
    "gelu": Case(
        gelu, "bias and GELU", lambda n, m: ([(n, m), (m,), (n, m)], [(n, m), (n, m), (m,)]), ROWS
    ),
    "logsumexp": Case(
        logsumexp, "logsumexp of rows", lambda n, m: ([(n, m), (n,)], [(n,), (n, m)]), ROWS
    ),
    "huber": Case(huber, "Huber loss", lambda n, m: ([(n, m), (n, m)], [(), (n, m)]), ROWS),
    "cosine": Case(
        cosine,
        "cosine similarity",
        lambda n, m: ([(n, m), (n, m), (n,)], [(n,), (n, m), (n, m)]),
        ROWS,
    ),
    "attention": Case(
        attention,
        "attention of one head",
        lambda t, d: ([(t, d)] * 4, [(t, d)] * 4),
        ((64, 32), (16, 8)),
    ),
    "gates": Case(
        gates,
        "LSTM cell, after its products",
        lambda n, m: ([(n, 4 * m), (n, m), (n, m), (n, m)], [(n, m), (n, m), (n, 4 * m), (n, m)]),
        ((32, 64), (1, 16)),
    ),
    "lstm": Case(
        lstm,
        "LSTM cell",
        lambda n, m: (
            [(n, m)] * 3 + [(4 * m, m)] * 2 + [(4 * m,)] + [(n, m)] * 2,
            [(n, m)] * 5 + [(4 * m, m)] * 2 + [(4 * m,)],
        ),
        ((32, 64), (1, 16)),
    ),
}
