"""gradcheck and gradgradcheck: what they accept, what they refuse, their arguments."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import GradcheckError, gradcheck, gradgradcheck
from flatgrad.autograd.function import Function


def leaf(*values, requires_grad=True):
    return fg.tensor(values, dtype=fg.float64, requires_grad=requires_grad)


def wrong_by(factor):
    """x**3 with its derivative off by a factor."""

    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0] * ctx.saved_tensors[0] * (3 * factor)

    return Cube.apply


@pytest.mark.parametrize("fast", [False, True])
def test_right_derivatives_pass(fast):
    x, y = leaf(0.5, -1.0, 2.0), leaf(1.5, 0.3, 0.7)

    def function(x, y):
        return x * y.exp(), (x.sin() * y).sum()

    options = {"fast_mode": fast, "check_forward_ad": True}
    assert gradcheck(function, (x, y), **options)
    assert gradgradcheck(function, (x, y), fast_mode=fast, check_fwd_over_rev=True)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("factor", [1.01, 0.0, -1.0])
def test_wrong_derivatives_fail(fast, factor):
    with pytest.raises(GradcheckError, match="mismatch") as caught:
        gradcheck(wrong_by(factor), leaf(1.0, 2.0), fast_mode=fast)
    assert "numerical" in str(caught.value)
    assert "analytical" in str(caught.value)
    assert not gradcheck(wrong_by(factor), leaf(1.0, 2.0), raise_exception=False)


def test_tight_tolerances_see_a_thousandth():
    with pytest.raises(GradcheckError):
        gradcheck(wrong_by(1.001), leaf(1.0, 2.0), rtol=1e-4)
    assert gradcheck(wrong_by(1.0), leaf(1.0, 2.0), rtol=1e-4)


def test_wrong_second_derivatives_fail():
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0].detach()

    assert gradcheck(Square.apply, leaf(1.0, 2.0))
    with pytest.raises(GradcheckError):
        gradgradcheck(Square.apply, leaf(1.0, 2.0))


@pytest.mark.parametrize("values", [(float("nan"), 1.0), (float("inf"), 1.0)])
def test_values_that_are_not_finite_are_refused(values):
    with pytest.raises(GradcheckError, match=r"index \(0,\)"):
        gradcheck(lambda x: x * 2, leaf(*values))
    assert not gradcheck(lambda x: x * 2, leaf(*values), raise_exception=False)


def test_nothing_to_check_is_refused():
    with pytest.raises(ValueError, match="at least one input"):
        gradcheck(lambda x: x * 2, leaf(1.0, requires_grad=False))
    with pytest.raises(GradcheckError, match="no floating-point"):
        gradcheck(lambda x: x > 0, leaf(1.0))


def test_a_missing_history_fails_unless_the_function_is_constant():
    with pytest.raises(GradcheckError, match="expected to be zero"):
        gradcheck(lambda x: x.detach() * 2, leaf(1.0))
    assert gradcheck(lambda x: x.detach() * 0, leaf(1.0))


def test_rough_inputs_warn():
    x = fg.tensor([1.0], requires_grad=True)
    with pytest.warns(UserWarning, match="double precision"):
        gradcheck(lambda x: x * 2, x, eps=1e-2, atol=1e-2)


def test_inputs_are_left_alone_and_numbers_may_be_among_them():
    x = leaf(0.5, 1.5)
    assert gradcheck(lambda x, k, flag: x * k if flag else x, (x, 3, True))
    assert x.grad is None
    assert x.detach().numpy().tolist() == [0.5, 1.5]


def test_backward_must_be_repeatable():
    class Noisy(Function):
        count = 0

        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            Noisy.count += 1
            return g * (1 + 1e-7 * Noisy.count)

    with pytest.raises(GradcheckError, match="reentrant"):
        gradcheck(Noisy.apply, leaf(1.0))
    assert gradcheck(Noisy.apply, leaf(1.0), nondet_tol=1e-5)


def test_missing_cotangents_must_act_as_zeros():
    class Pair(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx, g, h):
            if g is None or h is None:
                return None
            return g + h * 2

    with pytest.raises(GradcheckError, match=r"undefined|mismatch"):
        gradcheck(Pair.apply, leaf(1.0))


def test_further_checks():
    x = leaf(0.5, 1.5)
    assert gradcheck(lambda x: x * x, x, check_grad_dtypes=True, check_batched_grad=True)


def test_agrees_with_torch_on_the_verdict():
    torch = pytest.importorskip("torch")
    for function in (lambda x: (x * x).sum(), lambda x: x.detach() * 2 + x):
        verdicts = [
            gradcheck(function, leaf(0.5, 1.5), raise_exception=False),
            torch.autograd.gradcheck(
                function,
                torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True),
                raise_exception=False,
            ),
        ]
        assert verdicts[0] == verdicts[1]


def test_empty_inputs():
    x = fg.tensor(np.zeros((0,)), requires_grad=True)
    assert gradcheck(lambda x: x * 2, x)
