"""Loops of the graph: recurrences, maps, loops of unknown length, both ways, as bound functions."""

import numpy as np

import flatgrad as fg


def recurrence(w, u, x):
    def step(h, row):
        h = fg.tanh(w @ h + u @ row)
        return h, h.sum()

    return fg.scan(step, fg.zeros(len(w), dtype=w.dtype), x)[1].sum()


def items(w, u, x):
    return fg.map(lambda row: (fg.sin(u @ row) ** 2).sum(), x).sum()


def newton(w, u, x):
    def step(state):
        y, count = state
        return y - (y * y - w[0]) / (2 * y), count + 1

    def unfinished(state):
        y, count = state
        return (((y * y - w[0]).abs().sum() > 1e-9) & (count < 50)).all()

    return fg.while_loop(unfinished, step, (1 + w[0], fg.tensor(0)), bound=64)[0].sum()


FUNCTIONS = {"scan": recurrence, "map": items, "while_loop": newton}


class Loops:
    params = (list(FUNCTIONS), ["value", "gradient"])
    param_names = ("loop", "what")

    def setup(self, loop, what):
        rng = np.random.default_rng(0)
        self.arrays = (
            0.1 + 0.01 * rng.uniform(size=(32, 32)),
            rng.standard_normal((32, 8)),
            rng.standard_normal((200, 8)),
        )
        f = FUNCTIONS[loop]
        wanted = f if what == "value" else fg.grad(f, argnums=(0, 1))
        self.function = fg.compile(wanted, *self.arrays)
        self.function(*self.arrays)

    def time_call(self, loop, what):
        self.function(*self.arrays)
