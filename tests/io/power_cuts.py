"""Power cuts: what a disk has at a moment of saving is copied, mounted elsewhere and loaded.

    python power_cuts.py DIRECTORY CUTS

An ext4 file system in a file is mounted, and a process saves to it without a pause. The file holds what
the kernel has written to the "disk" and nothing that waits in memory, so a copy of it, taken while the
process is stopped, is what a power cut would leave. The copy must hold the last checkpoint whose save
had returned, or the one that was being written. Exits with 77 where nothing can be mounted.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

import flatgrad as fg


def said(*command) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def mounted(image: Path, where: Path):
    where.mkdir(exist_ok=True)
    device = said("losetup", "-f", "--show", str(image))
    try:
        said("mount", device, str(where))
        try:
            yield where
        finally:
            said("umount", str(where))
    finally:
        said("losetup", "-d", device)


@contextmanager
def saving(path: Path, returned: mmap.mmap):
    """A process that saves 1, 2, 3, ... and notes each when its save has returned."""
    child = os.fork()
    if child == 0:
        number = 0
        while True:
            number += 1
            fg.io.save(path, {"number": number, "w": fg.full((20_000,), float(number))})
            returned[:8] = number.to_bytes(8, "little")
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def main(directory: Path, cuts: int) -> None:
    rng = random.Random(1)
    disk, copy = directory / "disk", directory / "copy"
    disk.write_bytes(bytes(16 * 2**20))
    try:
        said("mkfs.ext4", "-q", "-F", str(disk))
        with mounted(disk, directory / "mounted"):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        print(error)
        sys.exit(77)
    returned = mmap.mmap(-1, 8)
    half_written = older = 0
    with ExitStack() as stack:
        where = stack.enter_context(mounted(disk, directory / "mounted"))
        fg.io.save(where / "run", {"number": 0, "w": fg.zeros(20_000)})
        child = stack.enter_context(saving(where / "run", returned))
        for _ in range(cuts):
            time.sleep(rng.uniform(0.005, 0.05))
            os.kill(child, signal.SIGSTOP)
            last = int.from_bytes(returned[:8], "little")
            shutil.copyfile(disk, copy)
            os.kill(child, signal.SIGCONT)
            with (
                mounted(copy, directory / "after") as after,
                warnings.catch_warnings(record=True) as caught,
            ):
                warnings.simplefilter("always")
                found = fg.io.load(after / "run")
                half_written += any(f.suffix == ".tmp" for f in after.iterdir())
            older += bool(caught)
            assert (found["w"] == found["number"]).all(), "not whole"
            assert found["number"] >= last, f"{last} was saved, {found['number']} is there"
    print(f"cuts {cuts} saved {last} half-written {half_written} older {older}")


if __name__ == "__main__":
    fg.set_compile("never")
    main(Path(sys.argv[1]), int(sys.argv[2]))
