"""The compiled program equals the interpreter on random graphs, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.tensor import late, node_of
from tests.support.random_graphs import Maker


def outcome(seed: int, mode: str, steps: int = 10):
    """Values of a random program and gradients of its leaves."""
    maker = Maker(seed)
    arrays = maker.leaves()
    with fg.set_compile(mode):
        leaves = [fg.tensor(a, requires_grad=True) for a in arrays]
        outputs = maker.program(leaves, steps)
        total = sum(((o * o).sum() for o in outputs[1:]), (outputs[0] * 0.5).sum())
        grads = fg.autograd.grad(total, leaves, allow_unused=True)
        wanted = [*outputs, *grads]
        late.evaluate([node_of(t) for t in wanted if t is not None])  # all of it as one program
        return [None if t is None else node_of(t).value for t in wanted]


def agree(seed: int, steps: int = 10) -> None:
    expected = outcome(seed, "never", steps)
    got = outcome(seed, "always", steps)
    for a, b in zip(expected, got, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            scale = np.abs(a).max(initial=1.0) if np.isfinite(a).all() else 1.0
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed):
    agree(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_many_random_programs(seed):
    agree(seed, steps=16)


def test_signed_zeros_of_attributes_do_not_share_a_program():
    with fg.set_compile("always"):
        x = fg.ones(2, dtype=fg.float64)
        signs = [np.signbit(fg.pad(x, (1, 0), value=v).numpy()[0]) for v in (0.0, -0.0, 0.0)]
    assert signs == [False, True, False]
