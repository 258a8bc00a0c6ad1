"""A pending graph is bounded, whatever else is evaluated in between; nothing is computed twice."""

from __future__ import annotations

import numpy as np

import flatgrad as fg
from flatgrad.graph.node import pending
from flatgrad.tensor import DEPTH_LIMIT, node_of


def test_an_endless_chain_is_evaluated_on_the_way():
    x = fg.tensor(1.0, dtype=fg.float64)
    for _ in range(DEPTH_LIMIT * 2 + 50):
        x = x * 0.999 + 0.001
    assert len(pending([node_of(x)])) <= DEPTH_LIMIT + 10
    assert x.item() == 1.0


def test_a_running_total_is_bounded_though_other_values_are_read():
    total = fg.tensor(0.0, dtype=fg.float64)
    w = fg.tensor([1.0, 2.0], dtype=fg.float64, requires_grad=True)
    longest = 0
    for k in range(DEPTH_LIMIT // 2):
        loss = (w * w).sum()
        total = total + loss.detach() * 0.5 + 1.0
        if k % 100 == 0:
            assert loss.item() == 5.0
            longest = max(longest, len(pending([node_of(total)])))
    assert longest <= 4 * DEPTH_LIMIT
    assert total.item() == 3.5 * (DEPTH_LIMIT // 2)


def test_what_the_user_holds_is_kept_from_one_evaluation():
    with fg.set_compile("never"):
        x = fg.tensor([1.0, 2.0])
        y = x * 2.0
        z = y + 1.0
        assert z.tolist() == [3.0, 5.0]
        assert node_of(y).value is not None
        assert node_of(y).inputs == ()


def test_evaluation_in_threads():
    from concurrent.futures import ThreadPoolExecutor

    shared = fg.tensor(np.arange(50.0), requires_grad=True)

    def work(k):
        y = (shared * float(k)).sum()
        (g,) = fg.autograd.grad(y, shared)
        return y.item(), g.numpy()[3]

    for mode in ("never", "always"):
        with fg.set_compile(mode), ThreadPoolExecutor(8) as pool:
            for k, (value, slope) in enumerate(pool.map(work, range(40))):
                assert value == 1225.0 * k and slope == k
