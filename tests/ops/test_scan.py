"""Scans and the linear recurrence: derivatives with zeros, extremes, PyTorch's corners."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.ops.scan import RECURRENCE, recurrence
from support.numeric import array_of, check_orders, gradients

INF, NAN = math.inf, math.nan


def loop(a, b, reverse):
    """The recurrence of vectors by its definition."""
    order = range(len(b) - 1, -1, -1) if reverse else range(len(b))
    out, state = np.empty(len(b)), 0.0
    for k in order:
        state = a[k] * state + b[k]
        out[k] = state
    return out


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dim", [0, 1])
def test_recurrence(rng, dim, reverse):
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    found = RECURRENCE.numpy(a, b, dim, reverse)
    rows = [(a[k], b[k]) for k in range(3)] if dim else [(a[:, k], b[:, k]) for k in range(4)]
    expected = np.stack([loop(*row, reverse) for row in rows], 1 - dim)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    w = fg.tensor(rng.normal(size=(3, 4)))
    check_orders(lambda a, b: (recurrence(a, b, dim, reverse) * w).sum(), a, b)


@pytest.mark.parametrize("zeros", [(), (1,), (0, 2), (0, 1, 2, 3), (3,)])
def test_cumprod_with_zeros_to_second_order(rng, zeros):
    x = rng.normal(size=4) + 2.0
    x[list(zeros)] = 0.0
    w = rng.normal(size=4)
    (g,) = gradients(lambda x: (fg.cumprod(x, 0) * fg.tensor(w)).sum(), [x])
    exact = [sum(w[k] * np.prod(np.delete(x[: k + 1], i)) for k in range(i, 4)) for i in range(4)]
    np.testing.assert_allclose(g, exact, rtol=1e-13, atol=1e-14)
    t = fg.tensor(x, requires_grad=True)
    (g,) = fg.autograd.grad((fg.cumprod(t, 0) * fg.tensor(w)).sum(), t, create_graph=True)
    (h,) = fg.autograd.grad(g[0] if hasattr(fg.Tensor, "__getitem__") else g.sum(), t)
    second = [0.0] + [
        sum(w[k] * np.prod(np.delete(x[: k + 1], [0, i])) for k in range(i, 4)) for i in range(1, 4)
    ]
    np.testing.assert_allclose(array_of(h), second, rtol=1e-13, atol=1e-14)


def test_running_extremes_are_pytorchs():
    torch = pytest.importorskip("torch")
    for x in ([1.0, 1.0, NAN, 3.0, NAN], [2.0, 2.0, 1.0, 2.0, 3.0], [INF, -INF, 0.0]):
        for name in ("cummax", "cummin"):
            ours, theirs = (
                getattr(fg, name)(fg.tensor(x), 0),
                getattr(torch, name)(torch.tensor(x), 0),
            )
            np.testing.assert_array_equal(ours.values.numpy(), theirs.values.numpy())
            np.testing.assert_array_equal(ours.indices.numpy(), theirs.indices.numpy())


def test_logcumsumexp_is_stable():
    mpmath = pytest.importorskip("mpmath")
    for x in ([1000.0, -1000.0, 1000.5, 999.0], [-800.0, -801.0, 0.0], [0.0, -40.0, -41.0]):
        total, exact = mpmath.mpf(0), []
        for v in x:
            total += mpmath.exp(mpmath.mpf(v))
            exact.append(float(mpmath.log(total)))
        found = fg.logcumsumexp(fg.tensor(np.array(x)), 0).numpy()
        np.testing.assert_allclose(found, exact, rtol=1e-15, atol=1e-16)
    found = fg.logcumsumexp(fg.tensor([-INF, -INF, 1.0, INF, 2.0]), 0)
    assert found.tolist() == [-INF, -INF, 1.0, INF, INF]
    assert np.isnan(fg.logcumsumexp(fg.tensor([0.0, NAN, 1.0]), 0).numpy()[1:]).all()


def test_integers_are_summed_in_int64():
    x = fg.tensor(np.full(300, 100, np.uint8))
    total = fg.cumsum(x, 0)
    assert total.dtype is fg.int64
    assert total.numpy()[-1] == 30_000
    assert fg.cumsum(x, 0, dtype=fg.uint8).dtype is fg.uint8


def test_in_place():
    x = fg.tensor([1.0, 2.0, 3.0])
    assert x.cumsum_(0) is x
    assert x.tolist() == [1.0, 3.0, 6.0]


def test_trapezoid_is_exact_for_lines():
    points = np.array([0.0, 0.5, 2.0, 3.0])
    area = fg.trapezoid(fg.tensor(2 * points + 1), fg.tensor(points))
    assert area.item() == 3.0**2 + 3.0
    steps = fg.cumulative_trapezoid(fg.tensor(2 * points + 1), fg.tensor(points))
    np.testing.assert_allclose(steps.numpy(), points[1:] ** 2 + points[1:])


def test_compiled_reversed_scan_of_a_matrix():
    # Its index (5 - i) is split into rows and columns by the reshape and joined again.
    x = np.arange(1.0, 7.0).reshape(2, 3)
    fg.set_compile("always")
    t = fg.tensor(x, requires_grad=True)
    (g,) = fg.autograd.grad(fg.prod(t), t)
    np.testing.assert_allclose(array_of(g), 720.0 / x)
