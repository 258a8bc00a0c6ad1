"""The networks of ``steps.py`` in JAX, over parameters by PyTorch's names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def convolution(p, name, x, stride=1, padding=0, groups=1):
    y = lax.conv_general_dilated(
        x,
        p[f"{name}.weight"],
        (stride, stride),
        [(padding, padding)] * 2,
        feature_group_count=groups,
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )
    return y + p[f"{name}.bias"][:, None, None]


def pooled(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def mlp(p, x):
    return linear(p, "2", jax.nn.relu(linear(p, "0", x)))


def lenet(p, x):
    x = pooled(jax.nn.relu(convolution(p, "0", x)))
    x = pooled(jax.nn.relu(convolution(p, "3", x)))
    x = x.reshape(x.shape[0], -1)
    for name in ("7", "9"):
        x = jax.nn.relu(linear(p, name, x))
    return linear(p, "11", x)


def separable(p, x):
    x = jax.nn.relu(convolution(p, "0", x, padding=1))
    for first, stride in ((2, 2), (6, 2), (10, 1)):
        groups = x.shape[1]
        x = jax.nn.relu(convolution(p, str(first), x, stride, 1, groups))
        x = jax.nn.relu(convolution(p, str(first + 2), x))
    return linear(p, "16", x.mean((2, 3)))


def lstm(p, x):
    w = p["lstm.weight_hh_l0"].T
    gates = x @ p["lstm.weight_ih_l0"].T + (p["lstm.bias_ih_l0"] + p["lstm.bias_hh_l0"])

    def step(carry, row):
        h, c = carry
        i, f, g, o = jnp.split(row + h @ w, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[1], w.shape[0]), x.dtype)
    (h, _), _ = lax.scan(step, (zeros, zeros), gates)
    return linear(p, "out", h)


def normalised(p, name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(p, x):
    batch, length, width = x.shape
    q, k, v = (
        t.reshape(batch, length, 4, width // 4) for t in jnp.split(linear(p, "qkv", x), 3, axis=-1)
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (width // 4) ** 0.5
    seen = jnp.tril(jnp.ones((length, length), bool))
    y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)), v)
    return linear(p, "mix", y.reshape(batch, length, width))


def transformer(p, text):
    x = p["table.weight"][text] + p["positions"]
    x = x + attention(p, normalised(p, "norm1", x))
    x = x + linear(p, "narrow", jax.nn.relu(linear(p, "wide", normalised(p, "norm2", x))))
    return linear(p, "out", x).reshape(-1, p["out.weight"].shape[0])


MODELS = {
    "mlp": mlp,
    "lenet": lenet,
    "separable": separable,
    "lstm": lstm,
    "transformer": transformer,
}
