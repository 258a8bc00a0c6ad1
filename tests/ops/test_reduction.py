"""Reductions, statistics and norms at their corners, against PyTorch, NumPy and mpmath."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, DTypeError, IndexingError, ShapeError
from support.numeric import array_of, check_orders, gradients

torch = pytest.importorskip("torch")
INF, NAN = math.inf, math.nan


def both(name, x, *args, **kwargs):
    """(value, gradient) by flatgrad and by PyTorch, of the first output's sum."""
    ours = fg.tensor(np.array(x, np.float64), requires_grad=True)
    theirs = torch.tensor(np.array(x, np.float64), requires_grad=True)
    torch_function = torch
    function = fg
    for part in name.split("."):
        torch_function, function = getattr(torch_function, part), getattr(function, part)
    y, z = function(ours, *args, **kwargs), torch_function(theirs, *args, **kwargs)
    y, z = (r[0] if isinstance(r, tuple) else r for r in (y, z))
    (g,) = fg.autograd.grad(y.sum(), ours)
    (h,) = torch.autograd.grad(z.sum(), theirs)
    return (array_of(y), array_of(g)), (z.detach().numpy(), h.numpy())


def check_both(name, x, *args, **kwargs):
    (y, g), (z, h) = both(name, x, *args, **kwargs)
    np.testing.assert_allclose(y, z, rtol=1e-13, err_msg=name)
    np.testing.assert_allclose(g, h, rtol=1e-13, atol=1e-15, err_msg=f"{name}: gradient")


TIES = [[3.0, 3.0, 1.0], [2.0, 5.0, 5.0]]


@pytest.mark.parametrize("name", ["amax", "amin", "max", "min"])
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_ties(name, dim):
    if dim is None:
        check_both(name, TIES)
    else:
        check_both(name, TIES, dim)


def test_gradient_of_ties_is_shared_or_goes_to_the_index():
    (g,) = gradients(lambda x: fg.amax(x, 0), [np.array([3.0, 3.0, 1.0])])
    assert g.tolist() == [0.5, 0.5, 0.0]
    (g,) = gradients(lambda x: fg.max(x, 0).values, [np.array([3.0, 3.0, 1.0])])
    assert g.tolist() == [1.0, 0.0, 0.0]


def test_nan_wins_and_takes_the_gradient():
    x = [1.0, NAN, 2.0, NAN]
    check_both("max", x)
    check_both("max", x, 0)
    check_both("min", x)
    assert fg.max(fg.tensor(x), 0).indices.item() == 1
    assert fg.argmin(fg.tensor(x)).item() == 1


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int32, np.int64, np.float32])
def test_dtypes_of_results(rng, dtype):
    array = rng.integers(0, 2, (2, 3)).astype(dtype)
    ours, theirs = fg.tensor(array), torch.tensor(array)
    for name in ("sum", "prod", "amax", "amin", "argmax", "all", "any", "count_nonzero", "cumsum"):
        if name == "argmax" and dtype == np.bool_:
            continue
        args = () if name not in ("cumsum",) else (0,)
        y, z = getattr(fg, name)(ours, *args), getattr(torch, name)(theirs, *args)
        assert array_of(y).dtype == z.numpy().dtype, name
        np.testing.assert_array_equal(array_of(y), z.numpy(), err_msg=name)
    if dtype != np.float32:
        for name in ("mean", "var", "std", "norm"):
            with pytest.raises(DTypeError, match=name):
                getattr(fg, name)(ours)
    assert fg.sum(ours, dtype=fg.float64).dtype is fg.float64
    assert fg.mean(ours, dtype=fg.float64).dtype is fg.float64


def test_small_sums_do_not_overflow():
    assert fg.sum(fg.tensor(np.full(300, 100, np.uint8))).item() == 30_000
    assert fg.prod(fg.tensor(np.full(10, 100, np.int32))).item() == 100**9 * 100 % 2**64 - 0


def test_empty():
    empty = fg.tensor(np.empty((0, 3)))
    assert fg.sum(empty).item() == 0.0
    assert fg.prod(empty).item() == 1.0
    assert math.isnan(fg.mean(empty).item())
    assert np.isnan(fg.var(empty, 0).numpy()).all()
    assert fg.all(empty).item() is True and fg.any(empty).item() is False
    assert fg.logsumexp(empty, 0).tolist() == [-INF] * 3
    for call in (fg.max, fg.min, fg.amax, fg.amin, fg.argmax, lambda x: fg.max(x, 0)):
        with pytest.raises((ShapeError, IndexingError)):
            call(empty)
    assert tuple(fg.amax(empty, 1).shape) == (0,)
    assert tuple(fg.argmax(empty, 1).shape) == (0,)


def test_reducing_nothing_gives_a_tensor_of_its_own():
    for call in (fg.sum, fg.amax, fg.prod, lambda x: fg.max(x), lambda x: fg.max(x, 0).values):
        x = fg.tensor(2.0)
        y = call(x)
        y += 1.0
        assert x.item() == 2.0


def test_max_of_two_tensors():
    a, b = fg.tensor([1.0, 5.0]), fg.tensor([3.0, 2.0])
    assert fg.max(a, b).tolist() == [3.0, 5.0]
    assert fg.min(a, other=b).tolist() == [1.0, 2.0]
    with pytest.raises(ArgumentError, match="keepdim"):
        fg.max(a, keepdim=True)


# -- products -------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_prod_with_zeros(rng, zeros):
    x = rng.normal(size=4) + 2.0
    x[:zeros] = 0.0
    check_both("prod", x)
    exact = [np.prod(np.delete(x, k)) for k in range(4)]
    (g,) = gradients(fg.prod, [x])
    np.testing.assert_allclose(g, exact, rtol=1e-14)
    # The second derivative: the product of all but two.
    t = fg.tensor(x, requires_grad=True)
    (g,) = fg.autograd.grad(fg.prod(t), t, create_graph=True)
    w = rng.normal(size=4)
    (h,) = fg.autograd.grad((g * fg.tensor(w)).sum(), t)
    second = [
        sum(w[j] * np.prod(np.delete(x, [i, j])) for j in range(4) if j != i) for i in range(4)
    ]
    np.testing.assert_allclose(array_of(h), second, rtol=1e-13, atol=1e-14)


def test_prod_over_several_dims(rng):
    x = rng.normal(size=(2, 3, 2))
    x[0, 1, 0] = 0.0
    w = fg.tensor(rng.normal(size=3))
    np.testing.assert_allclose(fg.prod(fg.tensor(x), (0, 2)).numpy(), np.prod(x, (0, 2)))
    check_orders(lambda x: (fg.prod(x, (0, 2)) * w).sum(), x)


# -- variance -------------------------------------------------------------------------------------


def test_variance_is_accurate_far_from_zero(rng):
    mpmath = pytest.importorskip("mpmath")
    x = rng.normal(size=50) + 1e8
    exact = mpmath.mpf(0)
    center = mpmath.fsum(map(mpmath.mpf, x)) / 50
    exact = mpmath.fsum((mpmath.mpf(v) - center) ** 2 for v in x) / 49
    assert abs(fg.var(fg.tensor(x)).item() / float(exact) - 1) < 1e-7
    _, center_ = fg.var_mean(fg.tensor(x))
    assert abs(center_.item() / float(center) - 1) < 1e-15


@pytest.mark.parametrize("correction", [0, 1, 2])
def test_corrections(rng, correction):
    x = rng.normal(size=(2, 4))
    for name in ("var", "std"):
        check_both(name, x, 1, correction=correction)
    (y, _), (z, _) = both("std", [[1.0, 1.0], [2.0, 3.0]], 1)
    np.testing.assert_array_equal(y, z)
    check_both("std", [[1.0, 1.0], [2.0, 3.0]], 1)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_std_of_one():
    (y, g), (z, h) = both("std", [1.0])
    assert np.isnan([y, *g, z, *h]).all()


def test_variance_forms():
    x = fg.tensor([[1.0, 2.0, 4.0]])
    assert fg.var(x, False).item() == pytest.approx(np.var([1.0, 2.0, 4.0]))
    assert x.var(1, True).item() == pytest.approx(np.var([1.0, 2.0, 4.0], ddof=1))
    with pytest.raises(ArgumentError, match="not both"):
        fg.var(x, 1, unbiased=True, correction=0)


# -- exponentials ---------------------------------------------------------------------------------


def test_logsumexp_corners():
    for x in ([1000.0, 1000.5], [-1000.0, -1001.0], [-INF, 1.0], [0.0, 800.0]):
        check_both("logsumexp", x, 0)
    for x, value in (([-INF, -INF], -INF), ([INF, 1.0], INF), ([INF, -INF], INF)):
        (y, g), (z, h) = both("logsumexp", x, 0)
        assert y == z == value
        np.testing.assert_array_equal(g, h)
    assert math.isnan(fg.logsumexp(fg.tensor([NAN, 1.0]), 0).item())


def test_softmax_corners():
    for name in ("softmax", "log_softmax"):
        for x in ([1e4, 1e4 - 1.0], [-INF, 0.0, 1.0], [-1e4, 0.0]):
            (y, _), (z, _) = both(name, x, 0)
            np.testing.assert_allclose(y, z, rtol=1e-14)
        assert np.isnan(getattr(fg, name)(fg.tensor([-INF, -INF]), 0).numpy()).all()
    x = np.array([0.0, -800.0])
    np.testing.assert_allclose(fg.log_softmax(fg.tensor(x), 0).numpy(), x, rtol=1e-15)
    with pytest.raises(DTypeError):
        fg.softmax(fg.tensor([1, 2]), 0)
    assert fg.softmax(fg.tensor([1, 2]), 0, dtype=fg.float64).dtype is fg.float64


# -- norms ----------------------------------------------------------------------------------------

ORDERS = [0.5, 1, 1.5, 2, 3, INF, -INF, -1, -2]


@pytest.mark.parametrize("p", ORDERS)
def test_norm_corners(p):
    for x in ([0.0, 0.0], [0.0, 3.0, -3.0, 4.0], [1.0, -2.0, 2.0]):
        (y, g), (z, h) = both("linalg.vector_norm", x, p)
        np.testing.assert_allclose(y, z, rtol=1e-14)
        np.testing.assert_allclose(np.abs(g), np.abs(h), rtol=1e-13, atol=1e-15)
        assert (np.sign(g) == np.sign(h)).all()


@pytest.mark.parametrize("p", [1.5, 2, 3, 7, -1])
@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e-310])
def test_norms_do_not_overflow(p, scale):
    x = np.array([3.0, -4.0, 1.0])
    unit = fg.norm(fg.tensor(x), p).item()
    assert fg.norm(fg.tensor(x * scale), p).item() == pytest.approx(unit * scale, rel=1e-12)
    (g,), (h,) = (gradients(lambda x: fg.norm(x, p), [v]) for v in (x, x * scale))
    np.testing.assert_allclose(h, g, rtol=1e-12 if scale > 1e-300 else 1e-6)


def test_float32_norms_do_not_overflow():
    for scale in (1e30, 1e-30, 1e-40):
        x = fg.tensor(np.array([3.0, 4.0], np.float32) * np.float32(scale))
        assert fg.norm(x).item() == pytest.approx(5 * scale, rel=1e-4)


def test_the_2_norm_is_exact_where_it_can_be():
    mpmath = pytest.importorskip("mpmath")
    assert fg.norm(fg.tensor([3.0, 4.0])).item() == 5.0
    for x in (np.array([1.0, 2.0, 3.0]), np.array([1e-170, 2e-170]), np.array([1e160, 7e160])):
        exact = mpmath.sqrt(mpmath.fsum(mpmath.mpf(v) ** 2 for v in x))
        assert abs(fg.norm(fg.tensor(x)).item() - exact) <= np.spacing(float(exact))


def test_norm_of_infinities_and_nan():
    assert fg.norm(fg.tensor([INF, 1.0])).item() == INF
    assert fg.norm(fg.tensor([INF, 1.0]), 3).item() == INF
    assert math.isnan(fg.norm(fg.tensor([NAN, 1.0])).item())
    assert math.isnan(fg.norm(fg.tensor([NAN, 1.0]), 3).item())


def test_norm_second_derivatives(rng):
    for p in (1.5, 2, 3):
        check_orders(lambda x, p=p: fg.norm(x, p), rng.normal(size=(2, 3)))


# -- NaN skipped ----------------------------------------------------------------------------------


def test_nan_is_skipped():
    x = [[1.0, NAN, 3.0], [NAN, NAN, NAN]]
    check_both("nansum", x, 1)
    (y, g), (z, h) = both("nanmean", x, 1)
    np.testing.assert_allclose(y, z)
    assert y[0] == 2.0 and math.isnan(y[1])
    np.testing.assert_array_equal(g[0], h[0])
