"""odeint: closed forms, SciPy, derivatives of both methods, and wrong use."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import gradcheck, gradgradcheck
from flatgrad.errors import ArgumentError, DTypeError, LoopError, ShapeError


def t(values, requires_grad=False):
    return fg.tensor(np.asarray(values, float), requires_grad=requires_grad)


@pytest.fixture(params=["never", "always"], autouse=True)
def tier(request):
    with fg.set_compile(request.param):
        yield request.param


def volterra(y, t, p):
    a, b = y["prey"], y["hunters"]
    return {"prey": p[0] * a - p[1] * a * b, "hunters": p[2] * a * b - p[3] * b}


RATES = [1.5, 1.0, 0.9, 3.0]
START = {"prey": t(1.0), "hunters": t(0.7)}


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_exponential_decay_and_its_derivatives(method):
    rate, times = t(0.5, True), t([0.0, 1.0, 2.5], True)
    y = fg.odeint(lambda y, t, r: -r * y, 2.0, times, rate, method=method, substeps=30)
    np.testing.assert_allclose(y.detach().numpy(), 2 * np.exp([0, -0.5, -1.25]), rtol=1e-6)
    by_rate, by_time = fg.autograd.grad(y[-1], (rate, times))
    end = np.exp(-1.25)
    np.testing.assert_allclose(by_rate.item(), -5 * end, rtol=1e-5)
    np.testing.assert_allclose(by_time.numpy(), [end, 0, -end], atol=1e-6)


def test_lotka_and_volterra_as_scipy_has_them():
    scipy = pytest.importorskip("scipy.integrate")
    times = np.linspace(0.0, 5.0, 11)
    want = scipy.solve_ivp(
        lambda t, y: [1.5 * y[0] - y[0] * y[1], 0.9 * y[0] * y[1] - 3 * y[1]],
        (0, 5),
        [1.0, 0.7],
        t_eval=times,
        rtol=1e-11,
        atol=1e-13,
    ).y
    found = fg.odeint(volterra, START, times, t(RATES), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found["prey"].numpy(), want[0], rtol=1e-7)
    np.testing.assert_allclose(found["hunters"].numpy(), want[1], rtol=1e-7)
    end = {k: v[-1] for k, v in found.items()}
    back = fg.odeint(volterra, end, times[::-1].copy(), t(RATES), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(back["prey"][-1].item(), 1.0, rtol=1e-6)


def test_derivatives_of_the_steps(tier):
    def fixed(p):
        return fg.odeint(volterra, START, [0.0, 0.5, 1.0], p, method="rk4", substeps=4)["prey"]

    assert gradcheck(fixed, (t(RATES, True),))
    assert gradgradcheck(fixed, (t(RATES, True),))

    def adaptive(p):
        found = fg.odeint(volterra, START, [0.0, 1.0, 2.0], p, rtol=1e-10, atol=1e-12)
        return found["prey"]

    assert gradcheck(adaptive, (t(RATES, True),), eps=1e-5, rtol=1e-4, atol=1e-6)
    value, tangent = fg.jvp(adaptive, (t(RATES),), (t([1.0, 0, 0, 0]),))
    p = t(RATES, True)
    slope = fg.autograd.grad(adaptive(p)[-1], p)[0][0]
    np.testing.assert_allclose(tangent[-1].item(), slope.item(), rtol=1e-9)
    assert value.shape == (3,)


def test_a_parameter_is_estimated():
    times = np.linspace(0.0, 2.0, 9)
    data = np.exp(-0.7 * times)

    @fg.jit
    def step(rate):
        loss = lambda r: ((fg.odeint(lambda y, t: -r * y, 1.0, times) - data) ** 2).sum()  # noqa: E731
        return rate - 0.5 * fg.grad(loss)(rate)

    rate = t(0.2)
    for _ in range(30):
        rate = step(rate)
    np.testing.assert_allclose(rate.item(), 0.7, rtol=1e-4)


def test_one_time_is_the_start():
    assert fg.odeint(lambda y, t: y, t([1.0, 2.0]), [0.0]).tolist() == [[1.0, 2.0]]


def test_too_few_steps_are_a_loop_error():
    with pytest.raises(LoopError, match="max_steps=5"):
        fg.odeint(lambda y, t: -50 * y, 1.0, [0.0, 10.0], max_steps=5).numpy()


WRONG = [
    (lambda: fg.odeint(lambda y, t: y, 1.0, [0.0, 1.0], method="euler"), ArgumentError, "method"),
    (lambda: fg.odeint(lambda y, t: y, 1.0, 2.0), ShapeError, "vector of at least one time"),
    (lambda: fg.odeint(lambda y, t: y, 1.0, [0.0, 1.0], max_steps=0), ArgumentError, "max_steps"),
    (lambda: fg.odeint(lambda y, t: y, 1.0, [0.0, 1.0], rtol=-1), ArgumentError, "rtol"),
    (lambda: fg.odeint(lambda y, t: (y, y), 1.0, [0.0, 1.0]), ArgumentError, "tree like y"),
    (lambda: fg.odeint(lambda y, t: y[:1], t([1.0, 2.0]), [0.0, 1.0]), ShapeError, "slopes"),
    (lambda: fg.odeint(lambda y, t: y, fg.tensor(1), fg.tensor([0, 1])), DTypeError, "floating"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_wrong_use_is_refused(case):
    call, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        call()
