"""Very large scalar graphs: an unrolled simulation through the generic loop.

``python -m benchmarks.suite.warm.bench_generic`` prints a table, with flat compiled code beside it at a size
that both can do.
"""

import time
from functools import partial
from itertools import product

import numpy as np

import flatgrad as fg
from flatgrad.program import generic, sweep

START = np.array([1.0, 2.0, 3.0])
STEP = 14  # operations of one step of `lorenz`
FLAT = 2100  # operations that are compiled to flat code too


def lorenz(x, operations: int):
    """Lorenz' system by explicit Euler."""
    a, b, c = x[0], x[1], x[2]
    for _ in range(operations // STEP):
        da, db, dc = (b - a) * 10.0, a * (28.0 - c) - b, a * b - c * 2.667
        a, b, c = a + da * 0.001, b + db * 0.001, c + dc * 0.001
    return a + b + c


def pendulum(x, operations: int):
    """A pendulum with friction: one sine in eight operations."""
    angle, speed = x[0], x[1]
    for _ in range(operations // 8):
        speed = speed - (fg.sin(angle) * 9.81 + speed * 0.1) * 0.001
        angle = angle + speed * 0.001
    return angle


SIMULATIONS = {"lorenz": lorenz, "pendulum": pendulum}


def value_and_gradient(name: str, operations: int):
    """A compiled function of the start, for `operations` operations."""
    function = SIMULATIONS[name]
    return fg.compile(fg.func.value_and_grad(lambda x: function(x, operations)), START)


def best_of(call, repeats: int = 20) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def ratio_to_flat(name: str) -> tuple[float, float]:
    """Nanoseconds an operation in the generic loop and in flat code, for the same small graph.

    A call's fixed cost is taken off both: that of a graph of one step.
    """
    compiled = value_and_gradient(name, FLAT)
    flat = best_of(lambda: compiled(START), 2000)
    empty = value_and_gradient(name, 16)
    flat -= best_of(lambda: empty(START), 2000)
    graph = compiled._bound.graph
    program = generic.GenericProgram(graph.order, graph.inputs, (), graph.outputs)
    arrays = [START, *compiled._bound.constants]
    program(arrays)
    values = program.tape.arena()
    loop = best_of(lambda: program.tape.forward(values), 2000)
    return loop / FLAT * 1e9, flat / FLAT * 1e9


class Generic:
    params = (tuple(SIMULATIONS), (10_000,))
    param_names = ("simulation", "operations")
    timeout = 300
    number = 1

    def setup(self, name, operations):
        sweep.Waited.seconds = sweep.PATIENCE
        self.compiled = value_and_gradient(name, operations)
        self.compiled(START)

    def time_first_gradient_eagerly(self, name, operations):
        x = fg.tensor(START, requires_grad=True)
        SIMULATIONS[name](x, operations).backward()
        x.grad.numpy()

    def time_first_compiled_call(self, name, operations):
        """Tracing, differentiating and encoding included; the loops are loaded."""
        value_and_gradient(name, operations)(START)

    def track_steady(self, name, operations):
        return best_of(lambda: self.compiled(START)) / operations * 1e9

    track_steady.unit = "ns an operation"


class Ratio:
    params = tuple(SIMULATIONS)
    param_names = ("simulation",)
    timeout = 300

    def track_ratio_to_flat_code(self, name):
        loop, flat = ratio_to_flat(name)
        return loop / flat


def main() -> None:
    bench = Generic()
    print(
        f"{'simulation':12}{'operations':>11}{'eager s':>9}{'compiled s':>11}{'steady ns/op':>13}"
    )
    for name, operations in product(SIMULATIONS, (10_000, 100_000)):
        case = name, operations
        bench.setup(*case)
        eager = best_of(partial(bench.time_first_gradient_eagerly, *case), 3)
        first = best_of(partial(bench.time_first_compiled_call, *case), 2)
        steady = bench.track_steady(*case)
        print(f"{name:12}{operations:11}{eager:9.2f}{first:11.2f}{steady:13.1f}")
    print(f"\n{FLAT} operations, ns each forward and backward")
    print(f"{'simulation':12}{'generic':>9}{'flat':>9}{'ratio':>9}")
    for name in SIMULATIONS:
        loop, flat = ratio_to_flat(name)
        print(f"{name:12}{loop:9.2f}{flat:9.2f}{loop / flat:9.2f}")


if __name__ == "__main__":
    main()
