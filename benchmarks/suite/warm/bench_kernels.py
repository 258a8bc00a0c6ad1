"""Small kernels, a thousand calls from one compiled loop: a sub-microsecond program by itself."""

import numpy as np

import flatgrad as fg

from ..inside import looped

CALLS = 1000


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2).sum() + 100 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


def logistic(w, x, y):
    return fg.nn.functional.softplus(-(x @ w) * y).mean()


def network(w, v, x):
    return (fg.tanh(x @ w) @ v).square().mean()


def sines(x):
    return (fg.sin(x) * fg.exp(-x * x)).sum()


KERNELS = {
    "rosenbrock": (rosenbrock, [(10,)]),
    "sines": (sines, [(64,)]),
    "logistic": (logistic, [(8,), (16, 8), (16,)]),
    "network": (network, [(8, 16), (16, 4), (4, 8)]),
    "matmul": (lambda a, b: (a @ b).sum(), [(16, 16), (16, 16)]),
}


def prepared(name: str):
    """``run()`` of a kernel's value and gradient, a thousand times."""
    function, shapes = KERNELS[name]
    rng = np.random.default_rng(3)
    arrays = [0.3 * rng.standard_normal(s) for s in shapes]
    fill = fg.compile(fg.value_and_grad(function), *arrays).njit_out
    arrays = (*arrays, np.empty_like(arrays[0]))
    run = looped(fill, CALLS)
    run(arrays)
    return lambda: run(arrays)


class Kernels:
    params = (list(KERNELS),)
    param_names = ("kernel",)
    timeout = 60

    def setup(self, kernel):
        self.run = prepared(kernel)

    def time_thousand_calls(self, kernel):
        self.run()
