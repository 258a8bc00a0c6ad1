"""Functions of short rows in blocks and stages: what is cut, what is left alone, and equal results."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import flatgrad as fg


def both(f, *arrays):
    """(interpreted, compiled) results of a function, and its program's source."""
    with fg.set_compile("never"):
        want = f(*[fg.tensor(a) for a in arrays]).numpy()
    g = fg.compile(f, *arrays)
    return want, g(*arrays), g.source


def staged(source: str) -> bool:
    """Whether some loop does nothing but compute a function of scratch memory, or of a result in place."""
    lines = [line.strip() for line in source.splitlines()]
    return any(
        line.startswith("for e") and after.startswith(("s", "y")) for line, after in pairwise(lines)
    )


# Rows in one block, in blocks that divide their number, and with a shorter block at the end.
@pytest.mark.parametrize("rows, columns", [(12, 9), (1000, 10), (1009, 7), (301, 33)])
def test_softmax(rows, columns, rng):
    x = rng.normal(size=(rows, columns)) * 3
    want, have, source = both(lambda x: fg.softmax(x, 1) * fg.log_softmax(x, 1), x)
    assert staged(source)
    np.testing.assert_allclose(have, want, rtol=1e-10)


def test_the_function_of_a_rows_sum(rng):
    w, x = rng.normal(size=(40, 12)), rng.normal(size=12)
    want, have, source = both(lambda w, x: fg.tanh((w * x).sum(1)), w, x)
    assert staged(source)
    np.testing.assert_allclose(have, want, rtol=1e-13)


def test_functions_of_functions_and_sums_over_rows(rng):
    x, w = rng.normal(size=(700, 10)).astype(np.float32), rng.normal(size=10).astype(np.float32)

    def f(x, w):
        y = fg.exp(-fg.log1p(x * x)) + w
        row = fg.logsumexp(y, 1)
        return fg.cat([(fg.sigmoid(y) * row[:, None]).sum(0), (row > 2.4).float().sum()[None]])

    want, have, source = both(f, x, w)
    assert staged(source)
    np.testing.assert_allclose(have, want, rtol=3e-5)


def test_gradients(rng):
    x, y = rng.normal(size=(130, 10)), rng.integers(0, 10, 130)
    loss = fg.grad(lambda x, y: fg.nn.functional.cross_entropy(x, y))
    want, have, source = both(loss, x, y)
    assert staged(source)
    np.testing.assert_allclose(have, want, rtol=1e-12)


def test_rows_that_need_the_row_before_are_not_cut(rng):
    x = rng.normal(size=(50, 10))

    def f(x):
        return fg.scan(lambda c, row: (fg.tanh(c + row), c.sum()), x[0] * 0, x)[1]

    want, have, source = both(f, x)
    assert not staged(source)
    np.testing.assert_allclose(have, want, rtol=1e-13)


def test_matrices_in_a_loop_are_cut_inside_of_it(rng):
    x = rng.normal(size=(6, 40, 9))

    def f(x):
        return fg.scan(lambda c, m: (fg.softmax(c + m, 1), c.sum()), x[0] * 0, x)[0]

    want, have, source = both(f, x)
    assert staged(source)
    np.testing.assert_allclose(have, want, rtol=1e-12)
