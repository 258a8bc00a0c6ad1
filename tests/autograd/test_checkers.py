"""The checkers can fail: wrong by 0.1 %, missing and transposed rules are all caught."""

import dataclasses

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import GradcheckError, gradcheck, gradgradcheck
from flatgrad.graph.op import REGISTRY
from flatgrad.tensor import node_of, record, wrap
from flatgrad.transform.pullback import pullback
from flatgrad.transform.pushforward import pushforward

X = np.array([[0.3, -1.2], [0.8, 1.7]])
W = np.array([[1.1, 0.4], [-0.6, 0.9]])


def leaf(array):
    return fg.tensor(array.copy(), requires_grad=True)


def variant(name, **changes):
    """A temporary op, not in the registry, and its public function."""
    op = dataclasses.replace(REGISTRY[name], **changes)
    return lambda *tensors: record(op, tensors)


def dot_products(function, x) -> tuple[float, float]:
    """``<u, J t>`` by forward mode and ``<J^T u, t>`` by reverse mode: equal without any step size."""
    rng = np.random.default_rng(3)
    out = function(x)
    u, t = rng.standard_normal(tuple(out.shape)), rng.standard_normal(tuple(x.shape))
    (forward,) = pushforward([node_of(out)], [node_of(x)], [fg.tensor(t)])
    (reverse,) = pullback([node_of(out)], [node_of(x)], [fg.tensor(u)])
    left = 0.0 if forward is None else np.vdot(u, forward.detach().numpy())
    right = 0.0 if reverse is None else np.vdot(reverse.detach().numpy(), t)
    assert np.isfinite([left, right]).all()
    return left, right


RIGHT = REGISTRY["exp"].pullback


def wrong_by_a_thousandth(g, out, x):
    return (RIGHT(g, out, x)[0] * 1.001,)


def test_the_unchanged_rule_passes():
    exp = variant("exp")
    assert gradcheck(exp, leaf(X), rtol=1e-5, check_forward_ad=True)
    left, right = dot_products(exp, leaf(X))
    assert abs(left) > 0.1
    assert left == pytest.approx(right, rel=1e-14)


@pytest.mark.parametrize("fast", [False, True])
def test_a_rule_wrong_by_a_thousandth(fast):
    exp = variant("exp", pullback=wrong_by_a_thousandth)
    with pytest.raises(GradcheckError):
        gradcheck(exp, leaf(X), rtol=1e-4, fast_mode=fast)
    left, right = dot_products(exp, leaf(X))
    assert abs(left - right) > 1e-4 * abs(left)


@pytest.mark.parametrize("fast", [False, True])
def test_a_missing_rule(fast):
    exp = variant("exp", pullback=lambda g, out, x: (None,))
    with pytest.raises(GradcheckError):
        gradcheck(exp, leaf(X), fast_mode=fast)
    left, right = dot_products(exp, leaf(X))
    assert abs(left) > 0.1
    assert right == 0.0


@pytest.mark.parametrize("fast", [False, True])
def test_a_transposed_rule(fast):
    """A matrix product whose rule applies the matrix itself instead of its transpose."""
    specs = ((0, 1), (1, 2), (0, 2))
    contract = REGISTRY["contract"]

    def multiply(op):
        return lambda x: record(op, (fg.tensor(W), x), specs)

    def untransposed(g, out, w, x, *specs):
        return None, record(contract, (w, g), specs)

    wrong = dataclasses.replace(contract, pullback=untransposed)
    assert gradcheck(multiply(contract), leaf(X), fast_mode=fast)
    with pytest.raises(GradcheckError):
        gradcheck(multiply(wrong), leaf(X), fast_mode=fast)
    left, right = dot_products(multiply(contract), leaf(X))
    assert left == pytest.approx(right, rel=1e-13)
    left, right = dot_products(multiply(wrong), leaf(X))
    assert abs(left - right) > 1e-3


def test_a_wrong_forward_rule():
    right = REGISTRY["exp"].pushforward
    exp = variant("exp", pushforward=lambda ts, out, x: right(ts, out, x) * 1.001)
    assert gradcheck(exp, leaf(X), rtol=1e-4)
    with pytest.raises(GradcheckError, match="forward"):
        gradcheck(exp, leaf(X), rtol=1e-4, check_forward_ad=True)


def test_a_rule_that_is_right_but_not_differentiable():
    """First derivatives are right, the second are lost: gradgradcheck's business."""
    exp = variant("exp", pullback=lambda g, out, x: (g * wrap(node_of(out)).detach(),))
    assert gradcheck(exp, leaf(X))
    with pytest.raises(GradcheckError):
        gradgradcheck(exp, leaf(X))


def test_a_rule_that_gives_nan():
    exp = variant("exp", pullback=lambda g, out, x: (g * float("nan"),))
    with pytest.raises(GradcheckError, match="NaN"):
        gradcheck(exp, leaf(X))
