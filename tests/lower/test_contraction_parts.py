"""Contractions over dimensions that merge turned ones: no division is left, and the numbers are right."""

import numpy as np
import pytest

import flatgrad as fg


def projected(x, w):
    """The last step of an attention: heads side by side, then a matrix."""
    batch, heads, steps, size = x.shape
    return x.transpose(1, 2).reshape(batch, steps, heads * size) @ w


def summed(x, y):
    """The weight's gradient of that."""
    batch, heads, steps, size = x.shape
    return x.transpose(1, 2).reshape(-1, heads * size).T @ y.reshape(batch * steps, -1)


def both(x, y):
    """Both operands merge turned dimensions."""
    return x.permute(2, 0, 1).reshape(x.shape[2], -1) @ y.permute(1, 0, 2).reshape(-1, y.shape[2])


def with_ones(x, y):
    return x.permute(2, 3, 1, 0).reshape(x.shape[2], -1) @ y


CASES = [
    (projected, (2, 3, 5, 4), (12, 6)),
    (summed, (2, 3, 5, 4), (2, 5, 7)),
    (both, (3, 4, 5), (3, 4, 6)),
    (with_ones, (3, 4, 5, 1), (12, 2)),
]


@pytest.mark.parametrize(("function", "a", "b"), CASES)
def test_values_and_loops(function, a, b, rng):
    torch = pytest.importorskip("torch")
    x, y = rng.standard_normal(a), rng.standard_normal(b)
    program = fg.compile(function, x, y)
    np.testing.assert_allclose(
        program(x, y), function(torch.tensor(x), torch.tensor(y)).numpy(), rtol=1e-12
    )
    assert "//" not in program.source.split("def program")[1]


def test_a_dimension_that_is_cut_stays(rng):
    x, y = rng.standard_normal((4, 6)), rng.standard_normal((3, 5))
    program = fg.compile(lambda x, y: x.T.reshape(8, 3) @ y, x, y)
    np.testing.assert_allclose(program(x, y), x.T.reshape(8, 3) @ y, rtol=1e-12)
