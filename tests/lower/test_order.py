"""Sorting, searching and recurrences as loops equal NumPy's, in every order of every kind of data."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg

NAN, INF = float("nan"), float("inf")


def compiled(f, *arrays):
    g = fg.compile(f, *arrays)
    assert g.tier == "compiled"
    _ = g.njit  # all of it is machine code
    return g(*arrays)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, np.bool_])
def test_sort(dtype, descending, rng):
    sizes = [0, 1, 2, 3, 8, 13, 64, 100]
    arrays = [rng.integers(0, 12, n).astype(dtype) for n in sizes]  # many equal elements
    if dtype in (np.float64, np.float32):
        arrays.append(np.array([3.0, NAN, -INF, -0.0, 0.0, INF, NAN, 1.0], dtype))
    found = compiled(lambda *xs: [tuple(fg.sort(x, 0, descending)) for x in xs], *arrays)
    for x, (values, indices) in zip(arrays, found, strict=True):
        with fg.set_compile("never"):
            want = fg.sort(fg.tensor(x), 0, descending)
        np.testing.assert_array_equal(indices, want.indices.numpy())
        np.testing.assert_array_equal(values, want.values.numpy())
        np.testing.assert_array_equal(values, x[indices])


def test_sort_along_every_dimension(rng):
    x = rng.normal(size=(3, 5, 4))
    found = compiled(lambda x: [fg.sort(x, d).values for d in (0, 1, 2)], x)
    for d, have in enumerate(found):
        np.testing.assert_array_equal(have, np.sort(x, d))
    largest, places = compiled(lambda x: tuple(fg.topk(x, 2, 1)), x)
    np.testing.assert_array_equal(largest, -np.sort(-x, 1)[:, :2])
    np.testing.assert_array_equal(np.take_along_axis(x, places, 1), largest)


def test_sort_inside_loops_and_its_derivatives(rng):
    x = rng.normal(size=(6, 5))

    def f(x):
        weights = fg.arange(5).double()
        return fg.map(lambda row: (fg.sort(row).values * weights).sum() ** 2, x).sum()

    value, gradient = compiled(fg.value_and_grad(f), x)
    rows = np.sort(x, 1) @ np.arange(5.0)
    np.testing.assert_allclose(value, (rows**2).sum(), rtol=1e-12)
    ranks = np.argsort(np.argsort(x, 1), 1)
    np.testing.assert_allclose(gradient, 2 * rows[:, None] * ranks, rtol=1e-12)


def test_median_and_quantiles(rng):
    x = rng.normal(size=(4, 9))
    median, quantile = compiled(lambda x: (fg.median(x, 1).values, fg.quantile(x, 0.3, 1)), x)
    np.testing.assert_allclose(median, np.median(x, 1))
    np.testing.assert_allclose(quantile, np.quantile(x, 0.3, 1))


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted(right, rng):
    row = np.sort(rng.integers(0, 20, 17) * 0.5)
    values = np.concatenate([row, row + 0.1, [-5.0, 50.0, NAN]]).reshape(-1, 1)
    many = np.sort(rng.normal(size=(3, 8)), 1)
    found, each = compiled(
        lambda row, values, many: (
            fg.searchsorted(row, values, right=right),
            fg.searchsorted(many, many[:, ::3] + 0.01, right=right),
        ),
        row,
        values,
        many,
    )
    side = "right" if right else "left"
    np.testing.assert_array_equal(found, np.searchsorted(row, values, side))
    want = [np.searchsorted(m, m[::3] + 0.01, side) for m in many]
    np.testing.assert_array_equal(each, want)


def test_running_extremes(rng):
    x = rng.integers(0, 6, (3, 20)).astype(float)
    x[1, 7] = NAN
    found = compiled(
        lambda x: (*fg.cummax(x, 1), *fg.cummin(x, 1), *fg.cummax(x[:, ::2].long(), 0)),
        np.where(np.isnan(x), NAN, x),
    )
    with fg.set_compile("never"):
        t = fg.tensor(x)
        want = (*fg.cummax(t, 1), *fg.cummin(t, 1))
    for have, w in zip(found, want, strict=False):
        np.testing.assert_array_equal(have, w.numpy())


def test_derivatives_of_products_run_as_recurrences(rng):
    x = rng.normal(size=(4, 6))
    x[2, 3] = 0.0

    def f(x):
        return (fg.cumprod(x, 1) * fg.sin(x)).sum()

    gradient = compiled(fg.grad(f), x)
    with fg.set_compile("never"):
        want = fg.grad(f)(fg.tensor(x)).numpy()
    np.testing.assert_allclose(gradient, want, rtol=1e-12, atol=1e-14)
    with fg.set_compile("always"):
        t = fg.tensor(x, requires_grad=True)
        assert fg.autograd.gradcheck(lambda t: fg.cumprod(t, 1), [t])


def test_long_lines_are_numpys_to_sort(rng):
    x = rng.normal(size=5000)
    g = fg.compile(lambda x: fg.sort(x).values * 2, x)
    np.testing.assert_array_equal(g(x), np.sort(x) * 2)
    with pytest.raises(fg.errors.UnsupportedError, match="sort is run by NumPy"):
        _ = g.njit
