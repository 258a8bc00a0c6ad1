"""Many items at once: gradients of every example, Jacobians of every state."""

import numpy as np

import flatgrad as fg


def example_loss(w, v, x, y):
    return ((fg.tanh(x @ w) @ v - y) ** 2).sum()


def per_example(w, v, x, y):
    return fg.vmap(fg.grad(example_loss, argnums=(0, 1)), in_dims=(None, None, 0, 0))(w, v, x, y)


def jacobians(w, v, x, y):
    return fg.vmap(fg.func.jacrev(lambda x: fg.tanh(x @ w) @ v))(x)


def hessians(w, v, x, y):
    return fg.vmap(fg.func.hessian(lambda x: (fg.tanh(x @ w) @ v).sum()))(x)


FUNCTIONS = {"gradients": per_example, "jacobians": jacobians, "hessians": hessians}


class Vmap:
    params = (list(FUNCTIONS),)
    param_names = ("what",)

    def setup(self, what):
        rng = np.random.default_rng(0)
        shapes = (16, 32), (32, 4), (64, 16), (64, 4)
        self.arrays = [rng.standard_normal(s) for s in shapes]
        self.function = fg.compile(FUNCTIONS[what], *self.arrays)
        self.function(*self.arrays)

    def time_call(self, what):
        self.function(*self.arrays)
