"""Compiled functions: what a call costs from Python, with given memory, from njit, through fg.jit."""

import numpy as np

import flatgrad as fg


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2).sum() + 100 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


class Compiled:
    params = ((2, 10, 1000),)
    param_names = ("n",)

    def setup(self, n):
        import numba

        self.x, self.out = np.linspace(-1.0, 1.0, n), np.empty(n)
        self.function = fg.compile(fg.value_and_grad(rosenbrock), self.x)
        self.jitted = fg.jit(fg.value_and_grad(rosenbrock))
        inner = self.function.njit_out

        @numba.njit
        def thousand(x, out):
            total = 0.0
            for k in range(1000):
                x[0] = 1e-6 * k
                total += inner(x, out) + out[0]
            return total

        self.thousand = thousand
        for time in (self.time_fresh, self.time_out, self.time_njit, self.time_jit):
            time(n)
            time(n)

    def time_fresh(self, n):
        self.function(self.x)

    def time_out(self, n):
        self.function(self.x, out=self.out)

    def time_njit(self, n):
        self.thousand(self.x, self.out)

    def time_jit(self, n):
        self.jitted(self.x)
