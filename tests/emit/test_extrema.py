"""Extrema of floats in machine code: searched as if there were no NaN, and NaN where there was one."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.program.build import Compiled
from tests.support.programs import graph_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("ours", "numpy"), [(fg.amax, np.max), (fg.amin, np.min)], ids=["max", "min"]
)
@pytest.mark.parametrize("n", [3, 100, 513])
def test_nan_and_infinity_anywhere_in_a_row(ours, numpy, dtype, n):
    x = np.random.default_rng(n).normal(size=(7, n)).astype(dtype)
    x[1, 0], x[2, -1], x[3, n // 2] = np.nan, np.nan, np.nan
    x[4], x[5, n // 2], x[6] = -np.inf, np.inf, np.inf

    def both(x):
        return ours(x, 1), ours(x[4:])

    rows, whole = Compiled(graph_of(both, x))([x])
    np.testing.assert_array_equal(rows, numpy(x, 1))
    np.testing.assert_array_equal(whole, numpy(x[4:]))
