"""A value and its gradient as one bound function, NumPy in and out: the faces that ``peers.py`` compares.

``bound`` calls it from Python, ``bound_out`` with memory for the gradient, ``inside`` a thousand times from
Numba code. The yardstick is the gradient that somebody derived and wrote by hand for Numba.
"""

from __future__ import annotations

import numpy as np

from libraries import Casadi, Flatgrad, Jax, NotAvailableError, Torch

CALLS = 1000


def _inside(function):
    """A Numba loop of calls, each at another point; the sum of all results keeps LLVM honest."""
    import numba

    @numba.njit
    def loop(x, gradient):
        total, slope = 0.0, np.zeros_like(x)
        for k in range(CALLS):
            x[0] = 1e-6 * k
            total += function(x, gradient)
            for i in range(x.size):
                slope[i] += gradient[i]
        return total, slope

    return loop


class BoundFlatgrad(Flatgrad):
    def _compiled(self, formula, arrays):
        fg = self.module
        return fg.compile(fg.value_and_grad(lambda x: formula(self.m, x)), *arrays)

    def bound(self, formula, arrays, count):
        g, x = self._compiled(formula, arrays), arrays[0]
        return lambda: g(x)

    def bound_out(self, formula, arrays, count):
        g, x, out = self._compiled(formula, arrays), arrays[0], np.empty_like(arrays[0])
        return lambda: g(x, out=out)

    def inside(self, formula, arrays, count):
        loop, x = _inside(self._compiled(formula, arrays).njit_out), arrays[0].copy()
        out = np.empty_like(x)
        return lambda: loop(x, out)

    def numpy(self, results):
        return [np.asarray(r.detach().numpy() if hasattr(r, "detach") else r) for r in results]


class BoundJax(Jax):
    def bound(self, formula, arrays, count):
        f, x = self.jax.jit(self.jax.value_and_grad(lambda x: formula(self.m, x))), arrays[0]

        def step():
            value, gradient = f(x)
            return np.asarray(value), np.asarray(gradient)

        return step


class BoundTorch(Torch):
    def bound(self, formula, arrays, count):
        make, grad, array = self.module.from_numpy, self.module.autograd.grad, arrays[0]

        def step():
            x = make(array).requires_grad_()
            value = formula(self.m, x)
            return value.item(), grad(value, x)[0].numpy()

        return step

    def numpy(self, results):
        return [np.asarray(r.detach().numpy() if hasattr(r, "detach") else r) for r in results]


class BoundCasadi(Casadi):
    def bound(self, formula, arrays, count):
        symbols, _, _ = self.symbols(arrays, count)
        value = formula(self.m, *symbols)
        f = self.ca.Function("f", symbols, [value, self.ca.gradient(value, symbols[0])])
        x = arrays[0]

        def step():
            value, gradient = f(x)
            return float(value), gradient.full()[:, 0]

        return step


class ByHand:
    """Rosenbrock's value and gradient, derived and written by hand for Numba."""

    def __init__(self):
        import numba

        self.version = numba.__version__

        @numba.njit
        def fill(x, gradient):
            gradient[:] = 0.0
            value = 0.0
            for i in range(x.size - 1):
                a = 1.0 - x[i]
                b = x[i + 1] - x[i] * x[i]
                value += a * a + 100.0 * b * b
                gradient[i] += -2.0 * a - 400.0 * b * x[i]
                gradient[i + 1] += 200.0 * b
            return value

        @numba.njit
        def fresh(x):
            gradient = np.empty_like(x)
            return fill(x, gradient), gradient

        self.fill, self.fresh = fill, fresh

    def bound(self, formula, arrays, count):
        f, x = self.fresh, arrays[0]
        return lambda: f(x)

    def bound_out(self, formula, arrays, count):
        f, x, out = self.fill, arrays[0], np.empty_like(arrays[0])
        return lambda: (f(x, out), out)

    def inside(self, formula, arrays, count):
        loop, x = _inside(self.fill), arrays[0].copy()
        out = np.empty_like(x)
        return lambda: loop(x, out)

    def numpy(self, results):
        return [np.asarray(r) for r in results]

    def training(self, *_):
        raise NotAvailableError("-")


FACES = {
    "flatgrad": BoundFlatgrad,
    "torch": BoundTorch,
    "jax": BoundJax,
    "casadi": BoundCasadi,
    "numba": ByHand,
}
