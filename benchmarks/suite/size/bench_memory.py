"""Peak memory of processes that interpret and compile, and of one that only imports."""

import subprocess
import sys

import flatgrad as fg

from .. import workloads

IMPORT = "import flatgrad, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


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
    def track_peak_kilobytes(self):
        """Of a fresh process: those of asv have imported the suites."""
        run = [sys.executable, "-c", IMPORT]
        return int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)

    track_peak_kilobytes.unit = "kB"
