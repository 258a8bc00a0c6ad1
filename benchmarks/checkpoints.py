"""How large a checkpoint is, how long it takes, and how much a disk writes for it.

    python benchmarks/checkpoints.py DIRECTORY

Of the digits example's network with AdamW, and of a tiny one. The device's own counter of written sectors is
read, so the file system's journal is included, and so is what other programs write to that device meanwhile.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import flatgrad as fg
from flatgrad import nn

SAVES = 50
NETWORKS = {"digits example (64-128-64-10)": (64, 128, 64, 10), "board_loop (4-32-1)": (4, 32, 1)}


def written(directory: Path) -> int | None:
    """Bytes that the directory's device has written, where the system says so."""
    device = os.stat(directory).st_dev
    counters = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    os.sync()
    time.sleep(0.2)  # the journal is written a moment later
    return int(counters.read_text().split()[6]) * 512 if counters.exists() else None


def trained(sizes: tuple[int, ...]):
    """A network and its optimiser behind their first step, so that there is a state."""
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    opt = fg.optim.AdamW(model.parameters())
    model(fg.ones(1, sizes[0])).sum().backward()
    opt.step()
    return model, opt


def measure(name: str, sizes: tuple[int, ...], directory: Path) -> None:
    model, opt = trained(sizes)
    path = directory / "checkpoint.safetensors"
    parts = {"model": model, "opt": opt, "rng": fg.default_generator}
    checkpoint = fg.io.Checkpointer(path, **parts)
    checkpoint.save(step=0)
    before, seconds = written(directory), []
    for step in range(SAVES):
        start = time.perf_counter()
        checkpoint.save(step=step)
        seconds.append(time.perf_counter() - start)
    after = written(directory)
    device = "not known" if before is None else f"{(after - before) / SAVES / 1000:.0f} KB"
    start = time.perf_counter()
    fg.io.load(path)
    loading = time.perf_counter() - start
    print(
        f"{name}: a checkpoint has {path.stat().st_size / 1000:.1f} KB, the device wrote {device} for each; "
        f"saving took {sorted(seconds)[SAVES // 2] * 1e3:.2f} ms (median), loading {loading * 1e3:.2f} ms"
    )


def main() -> None:
    where = sys.argv[1] if len(sys.argv) > 1 else "."
    fg.set_compile("never")
    with tempfile.TemporaryDirectory(dir=where) as directory:
        for name, sizes in NETWORKS.items():
            measure(name, sizes, Path(directory))


if __name__ == "__main__":
    main()
