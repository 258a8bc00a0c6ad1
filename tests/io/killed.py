"""Training and saving that is killed, in processes forked from this one (an import is paid once).

python killed.py random DIRECTORY KILLS SEED    at random moments
python killed.py calls DIRECTORY                before, and in the middle of, every system call of a save
python killed.py race DIRECTORY                 nobody is killed: three processes save at once
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import flatgrad as fg
from flatgrad import nn

STEPS = 60


def train(path: Path, log) -> None:
    """From the last checkpoint to the end; every step's number and loss, in all its bits, is logged."""
    fg.set_compile("never")
    fg.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
    opt = fg.optim.Adam(model.parameters(), lr=0.02)
    schedule = fg.optim.lr_scheduler.StepLR(opt, 7, 0.8)
    x = fg.randn(32, 4, generator=fg.Generator().manual_seed(5))
    y = (x * x).sum(1, keepdim=True)
    parts = {"model": model, "opt": opt, "schedule": schedule, "rng": fg.default_generator}
    checkpoint = fg.io.Checkpointer(path, every_seconds=0, **parts)
    start = checkpoint.restore(step=0)["step"]
    log(f"start {start}")
    for step in range(start, STEPS):
        rows = fg.randperm(32)[:8]
        loss = ((model(x[rows]) - y[rows]) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        schedule.step()
        log(f"loss {step} {loss.item().hex()}")
        checkpoint.step(step=step + 1)
        log(f"saved {step + 1}")


def forked(work) -> int:
    """The process id of a child that does `work`; it exits with 1, and says why, if that raises."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def ended(child: int) -> int:
    """Its exit status; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def logged(file: Path):
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda line: os.write(descriptor, f"{line}\n".encode())


def read_log(file: Path) -> tuple[int, dict[int, str], int]:
    """(first step, {step: loss}, last step whose save had returned)."""
    start, losses, saved = 0, {}, 0
    for line in file.read_text().splitlines() if file.exists() else ():
        kind, step, *rest = line.split()
        if kind == "start":
            start = int(step)
        elif kind == "loss":
            losses[int(step)] = rest[0]
        else:
            saved = int(step)
    return start, losses, saved


def at_random(directory: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    reference = directory / "reference"
    assert ended(forked(lambda: train(directory / "whole", logged(reference)))) == 0
    _, truth, _ = read_log(reference)
    assert len(truth) == STEPS and len(set(truth.values())) > STEPS // 2
    path, log = directory / "killed", directory / "log"
    killed = half_written = resumed = acknowledged = 0
    while killed < kills:
        log.unlink(missing_ok=True)
        child = forked(lambda: train(path, logged(log)))
        time.sleep(rng.uniform(0.0, 0.08))
        os.kill(child, signal.SIGKILL)
        status = ended(child)
        assert status in (0, -signal.SIGKILL), "the child failed"
        start, losses, saved = read_log(log)
        assert all(truth[step] == loss for step, loss in losses.items()), "another loss"
        assert not losses or start >= acknowledged, "a checkpoint was lost"
        resumed += start > 0
        acknowledged = max(acknowledged, saved)
        if status:
            killed += 1
            half_written += any(f.suffix == ".tmp" for f in directory.iterdir())
        else:
            assert STEPS - 1 in losses or start == STEPS
            for file in directory.glob("*killed*"):
                file.unlink()
            acknowledged = 0
    print(f"killed {killed} half-written {half_written} resumed {resumed}")


def at_every_call(directory: Path) -> None:
    for keep in (0, 1, 3):
        path, n, status = directory / f"keep{keep}", 0, -signal.SIGKILL
        for value in range(4):  # some older ones to be moved on
            fg.io.save(path, {"value": value, "w": fg.full((50,), float(value))}, keep=keep)
        value = 3
        while status:
            n += 1
            status = ended(forked(lambda: dying_save(path, value + 1, keep, n)))  # noqa: B023
            assert status in (0, -signal.SIGKILL), "the child failed"
            found = fg.io.load(path, strict=True)
            assert found["value"] in (value, value + 1), (n, found)
            assert (found["w"] == found["value"]).all()
            assert status or found["value"] == value + 1
            value = found["value"]
            older = [f for f in directory.glob(f"{path.name}.*") if f.suffix != ".tmp"]
            values = [fg.io.load(f, strict=True)["value"] for f in sorted(older)]
            assert min(keep, 1) <= len(values) <= keep or status, (n, values)
            assert values == sorted(values, reverse=True) and value >= max(values, default=0)
        fg.io.save(path, {"value": 0, "w": fg.zeros(50)}, keep=keep)
        names = {f.name for f in directory.iterdir() if f"keep{keep}" in f.name}
        assert names == {path.name, *(f"{path.name}.{k + 1}" for k in range(keep))}, names
        print(f"keep {keep} calls {n}")


def dying_save(path: Path, value: int, keep: int, last: int) -> None:
    """A save whose process kills itself at its call of the system number `last`."""
    calls = 0

    def watched(name, function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == last:
                if name == "write":
                    function(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in ("open", "write", "fsync", "fchmod", "link", "unlink", "replace", "close"):
        setattr(os, name, watched(name, getattr(os, name)))
    fg.io.save(path, {"value": value, "w": fg.full((50,), float(value))}, keep=keep)


def race(directory: Path) -> None:
    path = directory / "raced"
    fg.io.save(path, {"who": -1, "w": fg.full((300,), -1.0)})

    def write(who: int) -> None:
        for _ in range(40):
            fg.io.save(path, {"who": who, "w": fg.full((300,), float(who))}, keep=2)

    writers = [forked(lambda who=who: write(who)) for who in range(3)]
    seen = set()
    for _ in range(150):
        found = fg.io.load(path, strict=True)
        assert (found["w"] == found["who"]).all()
        seen.add(found["who"])
    assert [ended(w) for w in writers] == [0, 0, 0]
    fg.io.save(path, {"who": 9})
    assert not [f for f in directory.iterdir() if f.suffix == ".tmp"]
    print(f"writers seen {len(seen)}")


if __name__ == "__main__":
    warnings.simplefilter("error")
    kind, where, *numbers = sys.argv[1:]
    run = {"random": at_random, "calls": at_every_call, "race": race}[kind]
    run(Path(where), *map(int, numbers))
