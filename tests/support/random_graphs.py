"""Random programs over a few operations of every kind the lowering knows, from a seed."""

from __future__ import annotations

import numpy as np

import flatgrad as fg


class Maker:
    """Grows a pool of tensors; every step applies a random operation to members of the pool."""

    def __init__(self, seed: int, dtype=np.float64):
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype

    def shape(self):
        rank = int(self.rng.integers(0, 4))
        return tuple(int(s) for s in self.rng.choice([1, 2, 3, 5], size=rank))

    def leaves(self, count: int = 3):
        return [self.rng.uniform(-1.5, 1.5, self.shape()).astype(self.dtype) for _ in range(count)]

    def program(self, leaves, steps: int = 10):
        """Outputs of a random program over `leaves` (the same for the same seed)."""
        rng = np.random.default_rng(int(self.rng.integers(2**31)))
        pool = list(leaves)
        for _ in range(steps):
            name = STEPS[int(rng.integers(len(STEPS)))]
            pool.append(globals()[name](rng, pool))
        picks = {len(pool) - 1, int(rng.integers(len(pool))), int(rng.integers(len(pool)))}
        return [pool[k] * 1.0 for k in sorted(picks)]


def size(x) -> int:
    return int(np.prod(x.shape))


def _pick(rng, pool):
    return pool[int(rng.integers(max(0, len(pool) - 6), len(pool)))]


def unary(rng, pool):
    x = _pick(rng, pool)
    return [lambda: x * x, lambda: -x, lambda: x * 0.5 + 1.0, lambda: fg.where(x > 0, x, x * 0.1)][
        int(rng.integers(4))
    ]()


def binary(rng, pool):
    x, y = _pick(rng, pool), _pick(rng, pool)
    if not _broadcast(x, y):
        y = y.sum()
    return [lambda: x + y, lambda: x * y, lambda: x - y, lambda: x / (y * y + 1.0)][
        int(rng.integers(4))
    ]()


def _broadcast(x, y):
    try:
        return bool(np.prod(np.broadcast_shapes(tuple(x.shape), tuple(y.shape))) <= 500)
    except ValueError:
        return False


def reduce(rng, pool):
    x = _pick(rng, pool)
    dims = tuple(int(d) for d in range(x.ndim) if rng.random() < 0.5)
    keep = bool(rng.integers(2))
    which = int(rng.integers(4))
    if which == 0 or not dims:
        return x.sum(dims or None, keepdim=keep)
    if which == 1:
        return fg.amax(x, dims, keepdim=keep)
    if which == 2:
        return x.mean(dims, keepdim=keep)
    return fg.prod(x, dims[0], keepdim=keep)


def move(rng, pool):
    x = _pick(rng, pool)
    which = int(rng.integers(4))
    if which == 0:
        return x.permute(*[int(d) for d in rng.permutation(x.ndim)]) if x.ndim else x.reshape(1)
    if which == 1:
        return x.reshape(-1)
    if which == 2:
        return fg.expand(x.reshape(1, *x.shape), 2, *x.shape) if size(x) < 200 else x
    return x.reshape(tuple(x.shape)[::-1])


def contract(rng, pool):
    x = _pick(rng, pool)
    if x.ndim < 1:
        return x * x
    y = _pick(rng, pool)
    flat = x.reshape(x.shape[0], -1)
    if y.ndim == 2 and y.shape[0] == flat.shape[1]:
        return fg.matmul(flat, y)
    return fg.matmul(flat, flat.permute(1, 0))


def join(rng, pool):
    x = _pick(rng, pool)
    if x.ndim == 0 or size(x) > 200:
        return x + 1.0
    if rng.integers(2):
        return fg.cat([x, x * 2.0], int(rng.integers(x.ndim)))
    return fg.cumsum(x, int(rng.integers(x.ndim)))


STEPS = ("unary", "binary", "binary", "reduce", "move", "contract", "join")
