"""Pure NumPy: if these figures move, the machine has changed and not flatgrad."""

import numpy as np


class Control:
    def setup(self):
        rng = np.random.default_rng(12)
        self.x = rng.standard_normal(100_000).astype(np.float32)
        self.a = rng.standard_normal((128, 128)).astype(np.float32)

    def time_elementwise(self):
        np.tanh(np.exp(np.sin(self.x)))

    def time_sum(self):
        self.x.sum()

    def time_matmul(self):
        self.a @ self.a

    def time_call(self):
        np.add(1.0, 2.0)
