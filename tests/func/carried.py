"""What the tests of carrying send to other processes, importable there."""

from __future__ import annotations

import numpy as np

import flatgrad as fg

TIMES = np.linspace(0.0, 2.0, 40)


def misfit(p, seen):
    """Of a decaying oscillation ``p[0] exp(-p[1] t) cos(p[2] t)``."""
    t = fg.tensor(TIMES)
    return ((p[0] * fg.exp(-p[1] * t) * fg.cos(p[2] * t) - seen) ** 2).sum()


@fg.jit
def jitted(x, n):
    return (fg.sin(x) * n).sum()


def fit(g, seen, start):
    """(final misfit, parameters, process): gradient descent with momentum, from one start."""
    import os

    p, speed = np.array(start), np.zeros(3)
    for _ in range(1500):
        value, gradient = g(p, seen)
        speed = 0.9 * speed - 1e-3 * gradient
        p = p + speed
    return value, p, os.getpid()


def call(f, *args):
    return f(*args)
