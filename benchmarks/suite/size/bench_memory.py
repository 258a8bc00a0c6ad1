"""Peak memory of processes that import, interpret and compile."""

import flatgrad as fg

from .. import workloads


class Memory:
    params = (workloads.NAMES, ("never", "always"))
    param_names = (
        "workload",
        "compile",
    )

    def teardown(self, workload, compile):
        fg.set_compile("auto")

    def peakmem_forward_backward(self, workload, compile):
        workloads.prepared(workload, compile)


class Import:
    def peakmem_import(self):
        """flatgrad is imported by this module; nothing is done."""
