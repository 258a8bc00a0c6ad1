"""Forward, interpreted and compiled."""

import flatgrad as fg

from .. import workloads


class Forward:
    params = (workloads.NAMES, ("never", "always"))
    param_names = (
        "workload",
        "compile",
    )

    def setup(self, workload, compile):
        self.tensors = workloads.prepared(workload, compile)

    def teardown(self, workload, compile):
        fg.set_compile("auto")

    def time_forward(self, workload, compile):
        workloads.forward(workload, self.tensors)
