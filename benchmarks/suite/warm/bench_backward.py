"""Forward and backward together, interpreted and compiled, and their ratio to forward alone."""

import time

import flatgrad as fg

from .. import workloads


class ForwardBackward:
    params = (workloads.NAMES, ("never", "always"))
    param_names = (
        "workload",
        "compile",
    )

    def setup(self, workload, compile):
        self.tensors = workloads.prepared(workload, compile)

    def teardown(self, workload, compile):
        fg.set_compile("auto")

    def time_forward_backward(self, workload, compile):
        workloads.backward(workload, self.tensors)

    def track_times_forward(self, workload, compile):
        """Cost of value and gradient in units of the value's."""
        return fastest(lambda: workloads.backward(workload, self.tensors)) / fastest(
            lambda: workloads.forward(workload, self.tensors)
        )

    track_times_forward.unit = "forwards"


def fastest(step, samples: int = 20) -> float:
    best = float("inf")
    for _ in range(samples):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return best
