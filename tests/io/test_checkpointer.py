"""``Checkpointer``: a loop that goes on where it was."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, CheckpointError
from flatgrad.io import checkpointer

pytest.importorskip("safetensors")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "loop"


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(checkpointer.time, "monotonic", lambda: now[0])
    return now


def test_it_saves_when_the_time_has_come(path, clock):
    checkpoint = fg.io.Checkpointer(path, every_seconds=10, rng=fg.Generator())
    assert not checkpoint.step(n=0) and not path.exists()
    clock[0] += 10
    assert checkpoint.step(n=1) and not checkpoint.step(n=2)
    assert fg.io.Checkpointer(path, rng=fg.Generator()).restore(n=7, m=8) == {"n": 1, "m": 8}
    clock[0] += 9
    checkpoint.save(n=3)
    clock[0] += 9
    assert not checkpoint.step(n=4)
    assert checkpoint.restore() == {"n": 3}


def test_generators_of_all_kinds_continue(path):
    def make():
        return (
            fg.Generator().manual_seed(1),
            np.random.default_rng(2),
            np.random.Generator(np.random.MT19937(3)),
        )

    ours, numpys, twister = make()
    checkpoint = fg.io.Checkpointer(path, ours=ours, numpys=numpys, twister=twister)
    fg.rand(3, generator=ours), numpys.random(3, dtype=np.float32), twister.normal(size=5)
    checkpoint.save()
    truth = (
        fg.rand(3, generator=ours).tolist(),
        numpys.random(3).tolist(),
        twister.normal(size=3).tolist(),
    )
    ours, numpys, twister = make()
    fg.io.Checkpointer(path, ours=ours, numpys=numpys, twister=twister).restore()
    assert truth == (
        fg.rand(3, generator=ours).tolist(),
        numpys.random(3).tolist(),
        twister.normal(size=3).tolist(),
    )


def test_what_has_no_state_is_refused(path):
    with pytest.raises(ArgumentError, match=r"step is a int.*plain values to step\(\)"):
        fg.io.Checkpointer(path, step=3)
    with pytest.raises(ArgumentError, match="every_seconds must be 0 or more"):
        fg.io.Checkpointer(path, every_seconds=-1)


def test_another_programs_checkpoint_is_refused(path):
    rng, model = fg.Generator(), fg.nn.Linear(1, 1)
    fg.io.save(path, {"w": fg.ones(2)})
    with pytest.raises(CheckpointError, match="has no parts"):
        fg.io.Checkpointer(path, rng=rng).restore()
    fg.io.Checkpointer(path, rng=rng).save()
    with pytest.raises(CheckpointError, match="has no model"):
        fg.io.Checkpointer(path, rng=rng, model=model).restore()
