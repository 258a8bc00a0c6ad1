"""The core set: what ``benchmarks/regression.py`` watches between two commits.

Few, steady, and each of another part: recording, a pending graph's evaluation, a bound call, and kernels.
"""

import numpy as np

import flatgrad as fg

from .bench_kernels import prepared, rosenbrock

RECORDED = 100


class Core:
    repeat = (5, 20, 4.0)
    timeout = 60

    def setup(self):
        self.x = fg.ones((8, 8), requires_grad=True)
        self.point = np.linspace(-1.0, 1.0, 10)
        self.bound = fg.compile(fg.value_and_grad(rosenbrock), self.point)
        self.kernels = {name: prepared(name) for name in ("rosenbrock", "network")}
        self.small = fg.ones(2, requires_grad=True)
        with fg.set_compile("always"):
            for _ in range(5):
                self.time_value_and_gradient()

    def time_record_hundred(self):
        y = self.x
        for _ in range(RECORDED):
            y = y * self.x

    def time_value_and_gradient(self):
        y = (self.small * self.small).sum()
        fg.autograd.grad(y, self.small)[0].numpy()

    def time_bound_hundred_calls(self):
        for _ in range(100):
            self.bound(self.point)

    def time_kernel_rosenbrock(self):
        self.kernels["rosenbrock"]()

    def time_kernel_network(self):
        self.kernels["network"]()
