"""What one recorded operation costs: no value is computed here."""

import flatgrad as fg


class Record:
    params = (("unary", "binary", "number", "view", "reduction", "matmul"),)
    param_names = ("operation",)

    def setup(self, operation):
        x = fg.ones((8, 8), requires_grad=True)
        y = fg.ones((8, 8), requires_grad=True)
        self.call = {
            "unary": lambda: x.sin(),
            "binary": lambda: x + y,
            "number": lambda: x * 2.0,
            "view": lambda: x[2:5],
            "reduction": lambda: x.sum(0),
            "matmul": lambda: x @ y,
        }[operation]
        self.call()

    def time_node(self, operation):
        self.call()


class RecordBackward:
    """Recording the backward graph of a chain, a node of it."""

    nodes = 100

    def setup(self):
        self.x = fg.ones(8, requires_grad=True)

    def time_hundred_nodes_and_their_pullback(self):
        y = self.x
        for _ in range(self.nodes):
            y = y.sin()
        fg.autograd.grad(y, self.x, fg.ones(8))
