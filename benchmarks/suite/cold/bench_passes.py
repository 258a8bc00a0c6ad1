"""What stands between a recorded graph and LLVM, stage by stage: no machine code is made."""

import flatgrad as fg
from flatgrad.emit import python
from flatgrad.graph.node import Graph, placeholder
from flatgrad.lower import lower
from flatgrad.program.entry import prepared
from flatgrad.tensor import node_of, wrap
from flatgrad.transform.pullback import pullback


def recorded(operations: int):
    """A chain of so many multiplications and functions, as nodes: (input, output)."""
    start = placeholder(0, (1000,), fg.float32, True)
    x = wrap(start)
    y = x
    for k in range(operations // 2):
        y = (y * (1.5 + 0.001 * k)).tanh()
    return start, node_of(y.sum())


def with_gradient(operations: int) -> Graph:
    start, output = recorded(operations)
    (gradient,) = pullback((output,), (start,), (fg.ones(()),))
    return Graph((start,), (output, node_of(gradient)), "chain")


class Passes:
    params = ((10, 100, 1000),)
    param_names = ("operations",)
    timeout = 60

    def setup(self, operations):
        self.ends = recorded(operations)
        self.graph = with_gradient(operations)
        self.ready, _ = prepared(self.graph)
        self.loops = lower(self.ready)

    def time_record_and_differentiate(self, operations):
        with_gradient(operations)

    def time_simplify(self, operations):
        prepared(self.graph)

    def time_lower(self, operations):
        lower(self.ready)

    def time_print(self, operations):
        python.source(self.loops)
