"""``fg.memory_budget``: the same results from less scratch memory, or a refusal with figures."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, BudgetError

RNG = np.random.default_rng(5)
X = RNG.standard_normal((256, 16)).astype(np.float32)
WEIGHTS = [(RNG.standard_normal((16, 16)) / 4).astype(np.float32) for _ in range(5)]


def value(x, *weights):
    for w in weights:
        x = fg.tanh(x @ w)
    return (x * x).sum()


def eager(budget: int | None):
    weights = [fg.tensor(w, requires_grad=True) for w in WEIGHTS]
    with fg.memory_budget(budget):
        loss = value(fg.tensor(X), *weights)
        grads = fg.autograd.grad(loss, weights)
        how = fg.explain(sum((g * g).sum() for g in grads))
    return [g.numpy() for g in grads], how


@pytest.fixture(scope="module")
def free():
    with fg.set_compile("always"):
        found, how = eager(None)
    return found, how.memory["arena"]


@pytest.mark.parametrize("share", [0.6])
def test_half_the_memory_gives_the_same_gradients(free, share):
    expected, arena = free
    budget = int(share * arena)
    found, how = eager(budget)
    assert how.tier == "compiled"
    assert how.memory["arena"] <= budget == how.memory["budget"]
    assert how.memory["recomputed"] > 0
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_budget_that_suffices_changes_nothing(free):
    found, how = eager(free[1])
    assert (how.memory["arena"], how.memory["recomputed"]) == (free[1], 0)
    np.testing.assert_array_equal(found[0], free[0][0])


def test_what_cannot_be_met_is_refused_with_the_least_that_can():
    with pytest.raises(
        BudgetError, match=r"needs \d+ bytes .* budget is 1000; allow \d+ bytes"
    ) as caught:
        eager(1000)
    least = int(str(caught.value).split("allow ")[1].split()[0])
    assert eager(least)[1].memory["arena"] <= least


def test_steps_of_an_optimiser_and_their_updates(free):
    def trained(budget):
        weights = [fg.tensor(w, requires_grad=True) for w in WEIGHTS]
        optimiser = fg.optim.SGD(weights, lr=0.01)
        for _ in range(3):
            with fg.memory_budget(budget):
                optimiser.zero_grad()
                value(fg.tensor(X), *weights).backward()
                optimiser.step()
                weights[0].detach().numpy()
        return [w.detach().numpy() for w in weights]

    with fg.set_compile("always"):
        for a, b in zip(trained(free[1] * 6 // 10), trained(None), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_compiled_and_traced_functions_keep_to_it(free):
    f = fg.value_and_grad(value, argnums=tuple(range(1, 6)))
    plain = fg.compile(f, X, *WEIGHTS)
    budget = plain.arena * 6 // 10
    with fg.memory_budget(budget):
        tight = fg.compile(f, X, *WEIGHTS)
        traced = fg.jit(f)(fg.tensor(X), *map(fg.tensor, WEIGHTS))
    assert tight.arena <= budget
    for found in (tight(X, *WEIGHTS)[1], traced[1]):
        for a, b in zip(found, free[0], strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [-1, 1.5, "1 MB", True])
def test_a_budget_is_a_number_of_bytes(value):
    with pytest.raises(ArgumentError, match="memory_budget"):
        fg.memory_budget(value)


def test_it_holds_for_good_and_can_be_lifted():
    fg.memory_budget(10**9)
    try:
        assert fg.explain(fg.ones(7).exp() * 2.0).memory["budget"] == 10**9
    finally:
        fg.memory_budget(None)
    assert "budget" not in fg.explain(fg.ones(7).exp() * 2.0).memory
