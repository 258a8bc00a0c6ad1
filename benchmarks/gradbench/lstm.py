"""lstm: gradient of the loss of a layered LSTM with diagonal weights over a text, by all weights."""

from __future__ import annotations

from itertools import pairwise

import native
import numpy as np

import flatgrad as fg

SIZES = {
    "l=2,c=1024": {"layers": 2, "c": 1024},
    "l=2,c=4096": {"layers": 2, "c": 4096},
    "l=4,c=1024": {"layers": 4, "c": 1024},
}
QUICK = {"layers": 2, "c": 8}

BITS = 14


def inputs(layers: int, c: int) -> tuple:
    """main (2 layers, 4 bits), extra (3, bits), hidden and cell state (layers, bits), sequence (c, bits)."""
    rng = np.random.default_rng(1)
    b = BITS
    main, extra = 0.5 * rng.standard_normal((2 * layers, 4 * b)), 0.5 * rng.standard_normal((3, b))
    hidden, cell = 0.1 * rng.standard_normal((2, layers, b))
    return main, extra, hidden, cell, rng.integers(0, 2, (c, b)).astype(np.float64)


def step(m, main, extra, state, x):
    """(new state, prediction) of one character; `m` has sigmoid, tanh, exp, log."""
    hidden, cell = state
    x = x * extra[0]
    new_hidden, new_cell = [], []
    for k in range(len(main) // 2):
        (wf, wi, wo, wc), (bf, bi, bo, bc) = (
            main[2 * k].reshape(4, -1),
            main[2 * k + 1].reshape(4, -1),
        )
        forget, ingate = m.sigmoid(x * wf + bf), m.sigmoid(hidden[k] * wi + bi)
        outgate, change = m.sigmoid(x * wo + bo), m.tanh(hidden[k] * wc + bc)
        c = cell[k] * forget + ingate * change
        x = outgate * m.tanh(c)
        new_hidden.append(x)
        new_cell.append(c)
    y = x * extra[1] + extra[2]
    return (new_hidden, new_cell), y - m.log(m.exp(y).sum() + 2)


def loss(main, extra, hidden, cell, sequence):
    """Mean over all predicted bits of the negative log-likelihood of each next character."""

    def character(state, pair):
        x, following = pair
        state, y = step(fg, main, extra, state, x)
        return state, (following * y).sum()

    state = list(hidden), list(cell)
    _, totals = fg.scan(character, state, (sequence[:-1], sequence[1:]))
    return -totals.sum() / sequence[1:].numel()


def derivative(main, extra, hidden, cell, sequence):
    """Gradient by main and extra."""
    return fg.grad(loss, argnums=(0, 1))(main, extra, hidden, cell, sequence)


FORMULATIONS = {"scan": derivative}


def reference(main, extra, hidden, cell, sequence) -> tuple:
    """The reverse sweep by hand."""
    layers, n = len(main) // 2, len(sequence) - 1
    weights, biases = main[::2].reshape(layers, 4, -1), main[1::2].reshape(layers, 4, -1)
    h, c = [*hidden], [*cell]
    tape = []

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    for t in range(n):
        x, saved = sequence[t] * extra[0], []
        for k in range(layers):
            w, b = weights[k], biases[k]
            f, i = sigmoid(x * w[0] + b[0]), sigmoid(h[k] * w[1] + b[1])
            o, g = sigmoid(x * w[2] + b[2]), np.tanh(h[k] * w[3] + b[3])
            new = c[k] * f + i * g
            saved.append((x, h[k], c[k], f, i, o, g, np.tanh(new)))
            c[k], h[k] = new, o * np.tanh(new)
            x = h[k]
        tape.append((saved, x))
    g_weights, g_biases, g_extra = (np.zeros_like(a) for a in (weights, biases, extra))
    g_h, g_c = [np.zeros(BITS)] * layers, [np.zeros(BITS)] * layers
    for t in reversed(range(n)):
        saved, x = tape[t]
        e = np.exp(x * extra[1] + extra[2])
        target = sequence[t + 1]
        g_y = -(target - target.sum() * e / (e.sum() + 2)) / (BITS * n)
        g_extra[1] += g_y * x
        g_extra[2] += g_y
        g_x = g_y * extra[1]
        for k in reversed(range(layers)):
            x, h_old, c_old, f, i, o, g, tanh_c = saved[k]
            g_out = g_h[k] + g_x
            g_new = g_c[k] + g_out * o * (1 - tanh_c**2)
            before = (
                g_new * c_old * f * (1 - f),
                g_new * g * i * (1 - i),
                g_out * tanh_c * o * (1 - o),
                g_new * i * (1 - g * g),
            )
            for j, (v, argument) in enumerate(zip(before, (x, h_old, x, h_old), strict=True)):
                g_weights[k, j] += v * argument
                g_biases[k, j] += v
            g_c[k] = g_new * f
            g_h[k] = before[1] * weights[k, 1] + before[3] * weights[k, 3]
            g_x = before[0] * weights[k, 0] + before[2] * weights[k, 2]
        g_extra[0] += g_x * sequence[t]
    g_main = np.stack([g_weights, g_biases], 1).reshape(main.shape)
    return g_main, g_extra


def c_derivative(arrays, library):
    main, extra, _, _, sequence = arrays
    layers, (c, b) = len(main) // 2, sequence.shape
    tape, work = np.empty((c - 1) * (8 * layers + 2) * b), np.empty((4 * layers + 1) * b)
    results = np.empty_like(main), np.empty_like(extra)
    call = native.bind(library.lstm, *arrays, layers, b, c, tape, work, *results)
    return [native.returning(call, results)]


def torch_derivative(arrays):
    import torch

    main, extra, hidden, cell, sequence = (torch.from_numpy(a) for a in arrays)
    main.requires_grad_()
    extra.requires_grad_()

    def gradient():
        state, total = (hidden, cell), 0
        for x, following in pairwise(sequence):
            state, y = step(torch, main, extra, state, x)
            total = total + (following * y).sum()
        return torch.autograd.grad(-total / (BITS * (len(sequence) - 1)), (main, extra))

    return gradient


def jax_derivative(arrays):
    from types import SimpleNamespace

    import jax
    import jax.numpy as jnp

    m = SimpleNamespace(sigmoid=jax.nn.sigmoid, tanh=jnp.tanh, exp=jnp.exp, log=jnp.log)

    def loss(main, extra, hidden, cell, sequence):
        def character(state, pair):
            state, y = step(m, main, extra, state, pair[0])
            return state, (pair[1] * y).sum()

        start = list(hidden), list(cell)
        _, totals = jax.lax.scan(character, start, (sequence[:-1], sequence[1:]))
        return -totals.sum() / (BITS * (len(sequence) - 1))

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1)))
    arrays = [jnp.asarray(a) for a in arrays]
    return lambda: compiled(*arrays)
