"""What this machine is, read from where Linux says it; other systems say less, and nothing fails."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine"]

THROTTLE_BITS = {
    0: "under-voltage now",
    1: "frequency capped now",
    2: "throttled now",
    3: "too hot now",
    16: "under-voltage since the start",
    17: "frequency capped since the start",
    18: "throttled since the start",
    19: "too hot since the start",
}


@dataclass(frozen=True)
class Machine:
    """A machine's files under `root`: this one's, or a copy of another's."""

    root: Path = Path("/")
    architecture: str = platform.machine()

    def text(self, path: str) -> str:
        """A file's text, stripped; empty if it can't be read."""
        try:
            return (self.root / path).read_bytes().decode(errors="replace").strip("\0\n ")
        except OSError:
            return ""

    def number(self, path: str) -> int | None:
        text = self.text(path)
        return int(text) if text.lstrip("-").isdigit() else None

    @property
    def bits(self) -> int:
        """Of this Python's pointers."""
        return 64 if sys.maxsize > 2**32 else 32

    @property
    def is_arm(self) -> bool:
        return self.architecture.startswith(("arm", "aarch64"))

    @property
    def board(self) -> str:
        """``Raspberry Pi 4 Model B Rev 1.4``, or the processor's name."""
        info = self.text("proc/cpuinfo")
        named = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", info, re.M)
        return self.text("proc/device-tree/model") or (named[1] if named else "")

    @property
    def emulator(self) -> str:
        """Who pretends to be the processor; empty if nobody does."""
        if os.environ.get("QEMU_CPU") and self.root == Path("/"):
            return "qemu (QEMU_CPU is set)"
        info = self.text("proc/cpuinfo")
        if self.is_arm and re.search(r"^vendor_id\s*:\s*(GenuineIntel|AuthenticAMD)", info, re.M):
            return f"qemu-user (an x86 kernel runs this {self.architecture} program)"
        if "qemu-" in self.text("proc/self/maps"):
            return "qemu-user"
        if "QEMU" in self.text("sys/class/dmi/id/sys_vendor"):
            return "" if "hypervisor" in info else "qemu-system"
        return ""

    @property
    def cores(self) -> tuple[int, int, float | None]:
        """(cores there are, cores this process may use, the control group's share of them)."""
        there = os.cpu_count() or 1
        ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
        quota = self.text("sys/fs/cgroup/cpu.max").split()
        share = None
        if len(quota) == 2 and quota[0].isdigit() and int(quota[1]):
            share = int(quota[0]) / int(quota[1])
        return there, ours, share

    @property
    def memory(self) -> dict[str, int]:
        """Bytes: total, available, swap, and the control group's limit."""
        lines = dict(re.findall(r"^(\w+):\s+(\d+) kB", self.text("proc/meminfo"), re.M))
        names = {"total": "MemTotal", "available": "MemAvailable", "swap": "SwapTotal"}
        found = {ours: int(lines[name]) * 1024 for ours, name in names.items() if name in lines}
        limit = self.number("sys/fs/cgroup/memory.max")
        return found if limit is None else {**found, "limit": limit}

    @property
    def governor(self) -> str:
        return self.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

    @property
    def frequency(self) -> tuple[float, float] | None:
        """(now, at most) in MHz."""
        folder = "sys/devices/system/cpu/cpu0/cpufreq"
        now = self.number(f"{folder}/scaling_cur_freq")
        most = self.number(f"{folder}/cpuinfo_max_freq")
        return None if now is None or most is None else (now / 1000, most / 1000)

    @property
    def temperature(self) -> float | None:
        """The hottest zone, in degrees Celsius."""
        try:
            zones = sorted((self.root / "sys/class/thermal").glob("thermal_zone*/temp"))
        except OSError:
            return None
        found = [self.number(str(z.relative_to(self.root))) for z in zones]
        return max((t / 1000 for t in found if t is not None), default=None)

    @property
    def throttling(self) -> list[str] | None:
        """What a Raspberry Pi's firmware says has slowed it down; None on other machines."""
        text = self.text("sys/devices/platform/soc/soc:firmware/get_throttled")
        try:
            bits = int(text, 16)
        except ValueError:
            return None
        return [said for bit, said in THROTTLE_BITS.items() if bits >> bit & 1]

    @property
    def page(self) -> int | None:
        return os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
