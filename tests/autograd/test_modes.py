"""no_grad and its kin: blocks, decorators, generators, threads."""

import threading

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import GradientError


def leaf():
    return fg.tensor([1.0, 2.0], requires_grad=True)


def test_blocks_nest_and_restore():
    x = leaf()
    with fg.no_grad():
        assert not fg.is_grad_enabled()
        assert not (x * 2).requires_grad
        with fg.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_blocks_restore_after_an_error():
    with pytest.raises(KeyError), fg.no_grad():
        raise KeyError
    assert fg.is_grad_enabled()


@pytest.mark.parametrize("mode", [fg.no_grad, fg.no_grad(), fg.set_grad_enabled(False)])
def test_decorators(mode):
    @mode
    def double(x):
        """Twice."""
        assert not fg.is_grad_enabled()
        return x * 2

    assert fg.is_grad_enabled()
    assert not double(leaf()).requires_grad
    assert fg.is_grad_enabled()
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice."


def test_a_decorated_function_can_recurse():
    @fg.no_grad()
    def down(n):
        return n == 0 or (down(n - 1) and not fg.is_grad_enabled())

    assert down(3)
    assert fg.is_grad_enabled()


def test_generators_run_in_the_mode_and_yield_outside_it():
    inside = []

    @fg.no_grad()
    def steps():
        inside.append(fg.is_grad_enabled())
        try:
            got = yield 1
        except ValueError:
            got = "caught"
        inside.append(fg.is_grad_enabled())
        yield got
        return "end"

    g = steps()
    assert next(g) == 1
    assert fg.is_grad_enabled()
    assert g.send("sent") == "sent"
    assert fg.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        next(g)
    assert stop.value.value == "end"
    g = steps()
    next(g)
    assert g.throw(ValueError()) == "caught"
    assert fg.is_grad_enabled()
    assert inside == [False] * 4


def test_closing_a_generator_closes_the_inner_one():
    closed = []

    @fg.no_grad()
    def steps():
        try:
            yield 1
        finally:
            closed.append(fg.is_grad_enabled())

    g = steps()
    next(g)
    g.close()
    assert closed == [False]


def test_set_grad_enabled_acts_at_once_or_as_a_block():
    fg.set_grad_enabled(False)
    assert not fg.is_grad_enabled()
    fg.set_grad_enabled(True)
    with fg.set_grad_enabled(False):
        assert not fg.is_grad_enabled()
    assert fg.is_grad_enabled()


def test_modes_are_per_thread():
    seen = []
    with fg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(fg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_requires_grad_of_leaves_is_kept_under_no_grad():
    with fg.no_grad():
        x = leaf()
    assert x.requires_grad
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4])


def test_inference_mode():
    x = leaf()
    with fg.inference_mode():
        made = fg.tensor([3.0, 4.0])
        assert fg.is_inference_mode_enabled()
        y = x * 2
        with fg.inference_mode(False):
            assert not fg.is_inference_mode_enabled()
            assert (x * 2).requires_grad
    assert y.is_inference()
    assert made.is_inference()
    assert not y.requires_grad
    assert not x.is_inference()
    assert not (x * 2).is_inference()
    # No derivative needs the values of a sum's operands.
    (x + made).sum().backward()
    assert x.grad.numpy().tolist() == [1.0, 1.0]
    with pytest.raises(
        GradientError, match=r"Inference tensors cannot be saved for backward.*clone"
    ):
        x * made
    (x * made.clone()).sum()
    with fg.no_grad():
        x * made


def test_inference_mode_decorates():
    @fg.inference_mode
    def f(x):
        return x * 2

    assert f(leaf()).is_inference()
    assert not fg.is_inference_mode_enabled()
