"""Sorting, order statistics, searching and counting, against PyTorch and NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, IndexingError, ShapeError
from support.numeric import check_gradient, gradients

torch = pytest.importorskip("torch")
INF, NAN = math.inf, math.nan
CORNERS = [1.0, NAN, -INF, 1.0, INF, NAN, 0.0, -0.0, 1.0]


@pytest.mark.parametrize("descending", [False, True])
def test_sort_is_stable_and_puts_nan_last(descending):
    ours = fg.sort(fg.tensor(CORNERS), descending=descending, stable=True)
    theirs = torch.sort(torch.tensor(CORNERS), descending=descending, stable=True)
    np.testing.assert_array_equal(ours.values.numpy(), theirs.values.numpy())
    np.testing.assert_array_equal(ours.indices.numpy(), theirs.indices.numpy())


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32])
def test_dtypes(rng, dtype):
    x = rng.integers(0, 5, (3, 4)).astype(dtype)
    for dim in (0, 1, -1):
        values, indices = fg.sort(fg.tensor(x), dim)
        np.testing.assert_array_equal(values.numpy(), np.sort(x, dim))
        np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy(), dim), np.sort(x, dim))
        assert values.dtype.np == dtype


def test_gradients_go_where_the_values_came_from(rng):
    x = rng.permutation(12).reshape(3, 4) * 1.0
    w = rng.normal(size=(3, 4))
    for dim in (0, 1):
        order = np.argsort(x, dim)
        expected = np.empty((3, 4))
        np.put_along_axis(expected, order, w, dim)
        (g,) = gradients(lambda x, d=dim: (fg.sort(x, d).values * fg.tensor(w)).sum(), [x])
        np.testing.assert_array_equal(g, expected)


def test_topk(rng):
    x = rng.permutation(20).reshape(4, 5) * 1.0
    for largest in (True, False):
        ours, theirs = (
            fg.topk(fg.tensor(x), 3, largest=largest),
            torch.topk(torch.tensor(x), 3, -1, largest),
        )
        np.testing.assert_array_equal(ours.values.numpy(), theirs.values.numpy())
        np.testing.assert_array_equal(ours.indices.numpy(), theirs.indices.numpy())
    assert fg.topk(fg.tensor([1.0, NAN, 2.0]), 1).indices.item() == 1
    with pytest.raises(IndexingError, match="k must be"):
        fg.topk(fg.tensor(x), 6)


@pytest.mark.parametrize("name", ["median", "nanmedian"])
def test_medians(rng, name):
    rows = [[1.0, 5.0, 2.0, 9.0], [NAN, 1.0, 3.0, 2.0], [NAN, NAN, 7.0, NAN], [3.0, 3.0, 3.0, 1.0]]
    x = fg.tensor(np.array(rows))
    found = getattr(fg, name)(x, 1).values.numpy()
    np.testing.assert_array_equal(found, getattr(torch, name)(torch.tensor(rows), 1).values.numpy())
    for row in rows:
        value = getattr(fg, name)(fg.tensor(np.array(row)))
        np.testing.assert_array_equal(
            value.numpy(), getattr(torch, name)(torch.tensor(row)).numpy()
        )


def test_median_shares_its_gradient():
    (g,) = gradients(fg.median, [np.array([1.0, 1.0, 2.0, 1.0])])
    np.testing.assert_allclose(g, [1 / 3, 1 / 3, 0.0, 1 / 3])
    (g,) = gradients(lambda x: fg.median(x, 0).values, [np.array([1.0, 5.0, 2.0])])
    assert g.tolist() == [0.0, 0.0, 1.0]
    assert fg.median(fg.tensor([4, 1, 3])).item() == 3


def test_mode_is_pytorchs(rng):
    x = rng.integers(0, 3, (6, 5)) * 1.0
    ours, theirs = fg.mode(fg.tensor(x), 0), torch.mode(torch.tensor(x), 0)
    np.testing.assert_array_equal(ours.values.numpy(), theirs.values.numpy())
    np.testing.assert_array_equal(
        np.take_along_axis(x, ours.indices.numpy()[None], 0)[0], ours.values.numpy()
    )


@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
def test_quantiles(rng, interpolation):
    x = rng.normal(size=(3, 7))
    q = [0.0, 0.21, 0.5, 0.77, 1.0]
    for dim in (None, 0, 1):
        ours = fg.quantile(fg.tensor(x), fg.tensor(np.array(q)), dim, interpolation=interpolation)
        theirs = torch.quantile(
            torch.tensor(x), torch.tensor(q, dtype=torch.float64), dim, interpolation=interpolation
        )
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-13)
    assert math.isnan(fg.quantile(fg.tensor([1.0, NAN]), 0.0).item())
    check_gradient(lambda x: fg.quantile(x, 0.3, interpolation=interpolation), x[0])


def test_searching(rng):
    row, values = np.sort(rng.normal(size=6)), rng.normal(size=(2, 3))
    values[0, 0] = row[2]
    for right in (False, True):
        found = fg.searchsorted(fg.tensor(row), fg.tensor(values), right=right)
        np.testing.assert_array_equal(
            found.numpy(), np.searchsorted(row, values, "right" if right else "left")
        )
        found = fg.bucketize(fg.tensor(values), fg.tensor(row), right=right, out_int32=True)
        assert found.dtype is fg.int32
        expected = torch.bucketize(torch.tensor(values), torch.tensor(row), right=right)
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    with pytest.raises(ShapeError, match="leading"):
        fg.searchsorted(fg.tensor(np.ones((2, 3))), fg.tensor(values[:1]))


def test_unique(rng):
    x = rng.integers(0, 4, (3, 4))
    found = fg.unique(fg.tensor(x), return_inverse=True, return_counts=True)
    expected = torch.unique(torch.tensor(x), return_inverse=True, return_counts=True)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_counting(rng):
    x = rng.integers(0, 6, 30)
    np.testing.assert_array_equal(
        fg.bincount(fg.tensor(x), minlength=9).numpy(), np.bincount(x, minlength=9)
    )
    y = rng.normal(size=50)
    y[3] = NAN
    found = fg.histc(fg.tensor(y), 5, -1, 1).numpy()
    np.testing.assert_array_equal(found, np.histogram(y[~np.isnan(y)], 5, (-1, 1))[0])
    assert found.sum() > 10
    with pytest.raises(ArgumentError, match="negative"):
        fg.bincount(fg.tensor([-1, 2]))


def test_results_of_0d_tensors():
    x = fg.tensor(3.0)
    for result in (fg.sort(x), fg.topk(x, 1), fg.kthvalue(x, 1), fg.median(x, 0), fg.mode(x, 0)):
        assert result.values.item() == 3.0 and result.indices.item() == 0
