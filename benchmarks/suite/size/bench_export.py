"""Exported C: instructions of a call under callgrind, which repeat where times do not, and bytes."""

import shutil
import sys
import tempfile
from pathlib import Path

from asv_runner.benchmarks.mark import SkipNotImplemented

BENCHMARKS = str(Path(__file__).resolve().parents[2])
SHOWN = ("rosenbrock", "ekf", "mpc", "digits", "cnn", "lstm", "scan")


class Export:
    params = (list(SHOWN),)
    param_names = ("workload",)
    timeout = 120

    def setup(self, workload):
        self.place = tempfile.TemporaryDirectory()  # torn down after a skip as well
        lost = [t for t in ("gcc", "size", "valgrind") if shutil.which(t) is None]
        if lost:
            raise SkipNotImplemented(f"{', '.join(lost)} not installed: nothing was counted")
        if BENCHMARKS not in sys.path:
            sys.path.insert(0, BENCHMARKS)
        import export_counts

        self.counts = export_counts
        self.folder = Path(self.place.name)
        self.made = export_counts.exported(workload, self.folder, "x86-64-v3")

    def teardown(self, workload):
        self.place.cleanup()

    def track_instructions(self, workload):
        return self.counts.instructions(self.made, self.folder)

    def track_text(self, workload):
        command = ["gcc", *self.counts.HERE]
        source = self.made.files[f"{workload}.c"]
        return self.counts.text_bytes(command, "size", source, self.folder)

    def track_work(self, workload):
        return self.made.memory["work"]

    track_instructions.unit = "instructions"
    track_text.unit = track_work.unit = "bytes"
