"""Control flow on random programs: the graph's loops = Python's, compiled = interpreted, derivatives too."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from support.control_programs import Plain, Writer, derivatives, values
from support.deadline import time_is_up


def check(seed: int, compiled: bool):
    arrays = values(seed)
    direction = [np.random.default_rng(seed).normal(size=a.shape) for a in arrays]
    with fg.set_compile("never"):
        f = Writer(seed).program()
        want = derivatives(lambda *xs: f(Plain, *xs), arrays, direction)
        have = derivatives(lambda *xs: f(fg, *xs), arrays, direction)
    for w, h in zip(want, have, strict=True):
        assert np.isfinite(w).all()
        np.testing.assert_allclose(h, w, rtol=1e-9, atol=1e-11, err_msg=f"interpreted, seed {seed}")
    if not compiled:
        return
    with fg.set_compile("always"):
        have = derivatives(lambda *xs: f(fg, *xs), arrays, direction)
        _, tangent = fg.autograd.functional.jvp(
            lambda *xs: f(fg, *xs),
            tuple(fg.tensor(a) for a in arrays),
            tuple(fg.tensor(d) for d in direction),
        )
    for w, h in zip(want, have, strict=True):
        np.testing.assert_allclose(h, w, rtol=1e-8, atol=1e-10, err_msg=f"compiled, seed {seed}")
    along = sum((w * d).sum() for w, d in zip(want[1:4], direction, strict=True))
    np.testing.assert_allclose(tangent.numpy(), along, rtol=1e-8, atol=1e-9)


# 1092: two loops of which one is read through two nodes are merged once, not for ever.
@pytest.mark.parametrize("seed", [*range(5), 1092])
def test_compiled(seed):
    check(seed, compiled=True)


@pytest.mark.parametrize("block", range(4))
def test_interpreted(block):
    for seed in range(100 + block * 6, 106 + block * 6):
        check(seed, compiled=False)


@pytest.mark.slow
def test_many():
    for seed in range(1000, 1300):
        if time_is_up():
            pytest.skip(f"time is up (FLATGRAD_SLOW_SECONDS): right up to seed {seed}")
        check(seed, compiled=True)
