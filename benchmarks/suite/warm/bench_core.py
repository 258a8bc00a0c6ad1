"""The core set: what ``benchmarks/regression.py`` watches between two commits.

Few, steady, and each of another part: recording, a pending graph's evaluation, a bound call, and kernels.
"""

import numpy as np

import flatgrad as fg

from .bench_kernels import prepared, rosenbrock


class Record:
    repeat = (5, 20, 4.0)

    def setup(self):
        self.x = fg.ones((8, 8), requires_grad=True)

    def time_record_hundred(self):
        y = self.x
        for _ in range(100):
            y = y * self.x


class Call:
    repeat = (5, 20, 4.0)

    def setup(self):
        fg.set_compile("always")
        self.x = fg.ones(2, requires_grad=True)
        for _ in range(5):
            self.time_value_and_gradient()

    def teardown(self):
        fg.set_compile("auto")

    def time_value_and_gradient(self):
        y = (self.x * self.x).sum()
        fg.autograd.grad(y, self.x)[0].numpy()


class Bound:
    repeat = (5, 20, 4.0)

    def setup(self):
        self.x = np.linspace(-1.0, 1.0, 10)
        self.program = fg.compile(fg.value_and_grad(rosenbrock), self.x)
        self.time_hundred_calls()

    def time_hundred_calls(self):
        for _ in range(100):
            self.program(self.x)


class Kernel:
    params = (["rosenbrock", "network"],)
    param_names = ("kernel",)
    repeat = (5, 20, 4.0)

    def setup(self, kernel):
        self.run = prepared(kernel)

    def time_thousand_calls(self, kernel):
        self.run()
