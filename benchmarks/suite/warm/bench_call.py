"""Overhead of a call: programs so small that their arithmetic is nothing."""

import flatgrad as fg


class Call:
    params = (("never", "always"),)
    param_names = ("compile",)

    def setup(self, compile):
        fg.set_compile(compile)
        self.x = fg.ones(2, requires_grad=True)
        for _ in range(3):
            self.time_value(compile)
            self.time_value_and_gradient(compile)

    def teardown(self, compile):
        fg.set_compile("auto")

    def time_value(self, compile):
        (self.x * 2.0 + 1.0).numpy(force=True)

    def time_value_and_gradient(self, compile):
        y = (self.x * self.x).sum()
        fg.autograd.grad(y, self.x)[0].numpy()
