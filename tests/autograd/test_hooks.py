"""Hooks on leaves and results: order, replacement, removal, lifetime, errors."""

import gc

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, GradientError


def leaf(values=(1.0, 2.0)):
    return fg.tensor(values, dtype=fg.float64, requires_grad=True)


def test_hooks_run_in_order_and_replace():
    x = leaf()
    seen = []
    x.register_hook(lambda g: seen.append(g.numpy().tolist()))
    x.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: seen.append(g.numpy().tolist()))
    (x * 3).sum().backward()
    assert seen == [[3.0, 3.0], [30.0, 30.0]]
    assert x.grad.numpy().tolist() == [30.0, 30.0]


def test_a_hook_on_a_result_sees_the_whole_cotangent_and_changes_what_goes_on():
    x = leaf()
    y = x * x
    calls = []
    y.register_hook(lambda g: calls.append(g.numpy().tolist()) or g * 2)
    (y * 3 + y * 4).sum().backward()
    assert calls == [[7.0, 7.0]]
    assert x.grad.numpy().tolist() == [28.0, 56.0]


def test_hooks_outlive_the_tensor_object():
    x = leaf()
    y = x * x
    calls = []
    y.register_hook(lambda g: calls.append(1))
    z = y.sum()
    del y
    gc.collect()
    z.backward()
    assert calls == [1]


def test_removed_hooks_do_not_run():
    x = leaf()
    calls = []
    handle = x.register_hook(lambda g: calls.append("a"))
    with x.register_hook(lambda g: calls.append("b")):
        (x * 2).sum().backward()
    (x * 2).sum().backward()
    handle.remove()
    handle.remove()
    (x * 2).sum().backward()
    assert calls == ["a", "b", "a"]


def test_a_leafs_hooks_survive_an_update_in_place():
    x = leaf()
    calls = []
    x.register_hook(lambda g: calls.append(1))
    with fg.no_grad():
        x.sub_(0.5)
    (x * 2).sum().backward()
    assert calls == [1]


def test_hooks_run_for_grad_too_but_not_off_the_way():
    x, z = leaf(), leaf()
    calls = []
    x.register_hook(lambda g: calls.append("x") or g * 5)
    z.register_hook(lambda g: calls.append("z"))
    (g,) = fg.autograd.grad((x * z).sum(), x)
    assert g.numpy().tolist() == [5.0, 10.0]
    assert calls == ["x"]


def test_post_accumulate_hooks():
    x = leaf()
    seen = []
    handle = x.register_post_accumulate_grad_hook(
        lambda t: seen.append((t is x, t.grad.numpy()[0]))
    )
    (x * 3).sum().backward()
    (x * 3).sum().backward()
    handle.remove()
    (x * 3).sum().backward()
    assert seen == [(True, 3.0), (True, 6.0)]


def test_a_post_accumulate_hook_may_update_and_clear():
    x = leaf()

    def step(t):
        with fg.no_grad():
            t.sub_(t.grad)
        t.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * 1.0).sum().backward()
    assert x.grad is None
    assert x.detach().numpy().tolist() == [0.0, 1.0]


def test_retain_grad_fills_and_accumulates():
    x = leaf()
    y = x * x
    assert not y.retains_grad
    y.retain_grad()
    y.retain_grad()
    assert y.retains_grad
    (y * 3).sum().backward(retain_graph=True)
    assert y.grad.numpy().tolist() == [3.0, 3.0]
    (y * 3).sum().backward()
    assert y.grad.numpy().tolist() == [6.0, 6.0]
    assert not x.retains_grad
    x.retain_grad()
    assert not x.retains_grad


def test_retain_grad_sees_what_hooks_made():
    x = leaf()
    y = x * x
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    y.sum().backward()
    assert y.grad.numpy().tolist() == [2.0, 2.0]


def test_retain_grad_follows_a_write_in_place():
    torch = pytest.importorskip("torch")
    results = []
    for lib in (fg, torch):
        x = lib.tensor([1.0, 2.0], dtype=lib.float64, requires_grad=True)
        y = x * 2
        y.retain_grad()
        y.mul_(3)
        (y * y).sum().backward()
        results.append((y.grad.numpy(), x.grad.numpy()))
    assert results[1][0].tolist() == [12.0, 24.0]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_hooks_of_differentiable_gradients():
    x = leaf()
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = fg.autograd.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), [2.0, 8.0])
    (gg,) = fg.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(gg.numpy(), [4.0, 8.0])


BAD = {
    "no grad": (lambda: fg.tensor([1.0]).register_hook(print), GradientError, "doesn't require"),
    "not callable": (lambda: leaf().register_hook(3), ArgumentError, "callable"),
    "post on a result": (
        lambda: (leaf() * 2).register_post_accumulate_grad_hook(print),
        GradientError,
        "non-leaf",
    ),
    "post without grad": (
        lambda: fg.tensor([1.0]).register_post_accumulate_grad_hook(print),
        GradientError,
        "doesn't require",
    ),
    "retain without grad": (lambda: fg.tensor([1.0]).retain_grad(), GradientError, "can't retain"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_registrations(name):
    call, error, match = BAD[name]
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize(
    ("result", "error", "match"),
    [
        (3, ArgumentError, "must return a Tensor or None"),
        (fg.tensor([1.0], dtype=fg.float64), GradientError, "changed the size"),
        (fg.tensor([1.0, 1.0], dtype=fg.float32), GradientError, "changed the type"),
    ],
)
def test_wrong_results(result, error, match):
    x = leaf()
    x.register_hook(lambda g: result)
    with pytest.raises(error, match=match):
        (x * 2).sum().backward()
    assert x.grad is None


def test_a_hooks_own_error_comes_through():
    x = leaf()

    def fail(g):
        raise KeyError("mine")

    x.register_hook(fail)
    with pytest.raises(KeyError, match="mine"):
        (x * 2).sum().backward()
    assert fg.is_grad_enabled()
