"""Random functions with control flow inside control flow, and the same functions as Python says them."""

from __future__ import annotations

import numpy as np

import flatgrad as fg
from flatgrad.func.tree import flatten, map_leaves


class Plain:
    """The same functions as Python says them: what the loops of the graph must equal."""

    @staticmethod
    def scan(f, init, xs, reverse=False, checkpoint=None):
        rows = flatten(xs)[0]
        ys = []
        for t in reversed(range(len(rows[0]))) if reverse else range(len(rows[0])):
            init, y = f(init, map_leaves(lambda x, t=t: x[t], xs))
            ys.append(y)
        if reverse:
            ys.reverse()
        return init, map_leaves(lambda *rows: fg.stack(rows), *ys)

    @staticmethod
    def map(f, xs):
        return Plain.scan(lambda c, x: (c, f(x)), (), xs)[1]

    @staticmethod
    def while_loop(cond, body, init, bound=None):
        while bool(cond(init)):
            init = body(init)
        return init

    @staticmethod
    def fori_loop(lower, upper, body, init):
        for i in range(lower, upper):
            init = body(fg.tensor(i), init)
        return init

    @staticmethod
    def cond(pred, yes, no, *operands):
        return (yes if bool(pred) else no)(*operands)

    @staticmethod
    def switch(index, branches, *operands):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)


class Writer:
    """Writes one random function of (u (), v (3,), m (2, 3)) with control flow inside control flow."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.text: list[str] = []

    def choose(self, *options):
        return options[self.rng.integers(len(options))]

    def number(self) -> float:
        return float(np.round(self.rng.uniform(-0.9, 0.9), 3))

    def scalar(self, d=0):
        """A function (api, u, v, m) -> number; bounded, so that long loops stay finite."""
        k = self.rng.integers(7 if d < 2 else 5)
        a = self.number()
        if k == 0:
            return lambda api, u, v, m: fg.sin(u + a)
        if k == 1:
            return lambda api, u, v, m: (v * a).sum() * 0.3
        if k == 2:
            return lambda api, u, v, m: fg.tanh(m).mean() + a
        if k == 3:
            return lambda api, u, v, m: fg.where(u > a, u * 0.5, fg.cos(u))
        if k == 4:
            return lambda api, u, v, m: (v * m[0]).amax() * 0.5 + u * a
        if k == 5:
            f, g = self.scalar(d + 1), self.scalar(d + 1)
            return lambda api, u, v, m: api.cond(
                u > a, lambda u, v: f(api, u, v, m), lambda u, v: g(api, u, v * 2, m), u, v
            )
        f, stop = self.scalar(d + 1), int(self.rng.integers(1, 6))
        bound = self.choose(None, 8)
        return lambda api, u, v, m: api.while_loop(
            lambda s: (s[0] < stop) & (s[1] < 5.0),
            lambda s: (s[0] + 1, f(api, s[1], v, m) + 0.1 * s[1]),
            (fg.tensor(0), u),
            bound=bound,
        )[1]

    def vector(self, d=0):
        k = self.rng.integers(8 if d < 2 else 6)
        a = self.number()
        if k == 0:
            return lambda api, u, v, m: fg.tanh(v + u * a)
        if k == 1:
            return lambda api, u, v, m: m.sum(0) * a
        if k == 2:
            return lambda api, u, v, m: fg.roll(v, 1, 0) * a + fg.flip(v, (0,)) * 0.4
        if k == 3:
            return lambda api, u, v, m: fg.tanh(m.T @ (m @ v)) * u.cos()
        if k == 4:
            return lambda api, u, v, m: fg.cumsum(v, 0) * 0.3 + fg.cat([m[1, :1], v[1:]]) * a
        if k == 5:
            return lambda api, u, v, m: fg.softmax(v, 0) + v[fg.tensor([2, 0, 0])] * a
        if k == 6:
            f = self.scalar(d + 1)
            return lambda api, u, v, m: api.map(lambda x: f(api, x, v, m), v * a)
        fs = [self.vector(d + 1) for _ in range(3)]
        return lambda api, u, v, m: api.switch(
            (u * 4).detach().to(fg.int64), [lambda v, f=f: f(api, u, v, m) for f in fs], v
        )

    def matrix(self, d=0):
        k = self.rng.integers(5 if d < 2 else 4)
        a = self.number()
        if k == 0:
            return lambda api, u, v, m: fg.tanh(m * a + v)
        if k == 1:
            return lambda api, u, v, m: m + fg.outer(fg.tanh(m[:, 1]) * a, v)
        if k == 2:
            return lambda api, u, v, m: fg.tanh(m @ fg.outer(v, v)) + u
        if k == 3:
            return lambda api, u, v, m: fg.slice_scatter(
                fg.index_put(m, (fg.tensor([1]),), fg.reshape(v, (1, 3)) * a), m[1:] * 0.5, 0, 0, 1
            )
        f, reverse = self.vector(d + 1), bool(self.rng.integers(2))

        def run(api, u, v, m):
            last, rows = api.scan(
                lambda c, x: ((w := f(api, u, c + x, m) * 0.7), w * a), v, m, reverse=reverse
            )
            return rows + last

        return run

    def program(self):
        """A function (api, u, v, m) -> number whose loop carries all three kinds."""
        fu, fv, fm, g = self.scalar(), self.vector(), self.matrix(), self.scalar(1)
        reverse = bool(self.rng.integers(2))
        checkpoint = self.choose(None, None, "sqrt")
        style = self.rng.integers(3)

        def step(api, c, x):
            u, v, m = c["u"], c["v"], c["m"]
            new = {"u": fu(api, u, v + x, m), "v": fv(api, u, v, m), "m": fm(api, u, v + x, m)}
            return new, (g(api, new["u"], v, m), x * u)

        def run(api, u, v, m):
            xs = fg.stack([v, v * 0.5, m[0], m[1], v - m[0]])
            start = {"u": u, "v": v, "m": m}
            if style == 0:
                end = api.fori_loop(0, 4, lambda i, c: step(api, c, xs[0] + i * 0.1)[0], start)
                ys = (u, v)
            else:
                end, ys = api.scan(
                    lambda c, x: step(api, c, x), start, xs, reverse=reverse, checkpoint=checkpoint
                )
            total = end["u"] + (end["v"] * fg.tensor([1.0, -2.0, 0.5])).sum()
            return total + (end["m"] ** 2).sum() + ys[0].sum() + fg.sin(ys[1]).sum()

        return run


def values(seed):
    rng = np.random.default_rng(seed + 77)
    return rng.normal(size=()), rng.normal(size=3), rng.normal(size=(2, 3)) * 0.7


def derivatives(f, arrays, direction):
    """Value, gradient, and gradient of the gradient's product with a direction."""
    xs = [fg.tensor(a, requires_grad=True) for a in arrays]
    y = f(*xs)
    grads = fg.autograd.grad(y, xs, create_graph=True, materialize_grads=True)
    along = sum((g * fg.tensor(d)).sum() for g, d in zip(grads, direction, strict=True))
    if along.requires_grad:
        second = fg.autograd.grad(along, xs, materialize_grads=True)
    else:
        second = [fg.zeros_like(x) for x in xs]
    found = [y.detach(), *[g.detach() for g in grads], *second]
    return [np.asarray(t.numpy()) for t in found]
