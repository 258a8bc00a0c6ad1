"""``fg.compile`` in a process that has compiled before: tracing, lowering, compiling, nothing from disk."""

import numpy as np

import flatgrad as fg

from ..warm.bench_kernels import rosenbrock


class Trace:
    number = 1
    repeat = (2, 5, 10.0)

    def setup(self):
        fg.cache.enabled = False
        self.scale = 0.0

    def teardown(self):
        fg.cache.enabled = True

    def time_compile(self):
        self.scale += 1.0  # another program
        fg.compile(fg.value_and_grad(lambda x: rosenbrock(x) * self.scale), np.ones(10))
