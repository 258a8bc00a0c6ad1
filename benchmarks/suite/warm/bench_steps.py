"""Whole training steps: one program that writes over its parameters, and plain eager style."""

import numpy as np

import flatgrad as fg

from ..networks import NETWORKS, compiled_step, first_state


class Steps:
    params = (["mlp", "lenet", "lstm", "transformer"],)
    param_names = ("network",)
    timeout = 120

    def setup(self, network):
        fg.manual_seed(1)
        model = NETWORKS[network].make(fg.nn)
        self.parameters = {k: np.array(p.tolist(), np.float32) for k, p in model.named_parameters()}
        self.state = first_state(self.parameters, "Adam")
        self.batch = NETWORKS[network].batch()
        function = compiled_step(fg, model, "Adam")
        given = (self.parameters, self.state, *self.batch)
        self.program = fg.compile(function, *given, donate_argnums=(0, 1))

    def time_one_program(self, network):
        _, self.parameters, self.state = self.program(self.parameters, self.state, *self.batch)


class EagerSteps:
    params = (["mlp", "lstm"],)
    param_names = ("network",)
    timeout = 120

    def setup(self, network):
        fg.set_compile("always")
        self.model = NETWORKS[network].make(fg.nn)
        self.optimizer = fg.optim.Adam(self.model.parameters())
        self.x, self.y = (fg.from_numpy(a) for a in NETWORKS[network].batch())
        for _ in range(3):
            self.time_step(network)

    def teardown(self, network):
        fg.set_compile("auto")

    def time_step(self, network):
        self.optimizer.zero_grad()
        fg.nn.functional.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()
