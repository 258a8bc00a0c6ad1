"""Results written over arguments that the caller gives up: compiled functions, jit, and the loops behind."""

import pickle

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import errors


def step(p, m, x):
    g = x.T @ (x @ p)
    m = 0.9 * m + g
    return (x @ p).sum(), p - 0.1 * m, m


@pytest.fixture
def arrays(rng):
    return [rng.standard_normal(s).astype(np.float32) for s in ((5, 7), (5, 7), (3, 5))]


def wanted(arrays):
    p, m, x = (a.astype(np.float64) for a in arrays)
    m = 0.9 * m + x.T @ (x @ p)
    return (x @ p).sum(), p - 0.1 * m, m


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-5)


def test_compiled_function_writes_over_its_arguments(arrays):
    f = fg.compile(step, *arrays, donate_argnums=(0, 1))
    given = [a.copy() for a in arrays]
    expected = wanted(arrays)
    found = f(*given)
    same(found, expected)
    assert found[1] is given[0]
    assert found[2] is given[1]
    same(f(*given), wanted([*expected[1:], arrays[2]]))  # the second step goes on from there
    again = pickle.loads(pickle.dumps(f))
    given = [a.copy() for a in arrays]
    assert again(*given)[1] is given[0]


def test_one_loop_computes_and_overwrites(arrays):
    source = fg.compile(step, *arrays, donate_argnums=(0, 1)).source
    stores = [line for line in source.splitlines() if line.lstrip().startswith(("x0[", "x1["))]
    assert len(stores) == 2
    assert "y1" not in source  # no array for a result


def test_from_compiled_code(arrays):
    import numba

    f = fg.compile(step, *arrays, donate_argnums=(0, 1)).njit

    @numba.njit
    def train(p, m, x):
        for _ in range(3):
            f(p, m, x)

    given = [a.copy() for a in arrays]
    train(*given)
    p, m, x = arrays
    for _ in range(3):
        _, p, m = wanted((p, m, x))
    same(given[:2], (p, m))


def test_readers_of_the_old_value_come_first():
    def swap(a, b, c):
        return a + b.flip(0), b * a.sum(), (a * b).sum(), c[1:]

    a, b, c = (np.arange(4.0) + k for k in range(3))
    expected = a + b[::-1], b * a.sum(), (a * b).sum(), c[1:].copy()
    f = fg.compile(swap, a, b, c, donate_argnums=(0, 1, 2))  # nothing has the shape of c
    found = f(a, b, c)
    same(found, expected)
    assert found[0] is a
    assert found[1] is b
    np.testing.assert_array_equal(c, np.arange(4.0) + 2)


def test_an_error_leaves_the_arguments_as_they_were():
    def look_up(table, index):
        return table[index].sum(), table * 2

    table = np.arange(6.0).reshape(3, 2)
    f = fg.compile(look_up, table, np.array([0, 1]), donate_argnums=0)
    with pytest.raises(IndexError):
        f(table, np.array([0, 3]))
    np.testing.assert_array_equal(table, np.arange(6.0).reshape(3, 2))
    assert f(table, np.array([0, 2]))[1] is table
    np.testing.assert_array_equal(table, 2 * np.arange(6.0).reshape(3, 2))


def test_a_check_that_comes_late_leaves_them_too():
    def look_up(table, index):
        new = table * 2
        return new, new[index] + new.sum()

    table = np.arange(6.0).reshape(3, 2)
    f = fg.compile(look_up, table, np.array([0, 1]), donate_argnums=0)
    with pytest.raises(IndexError):
        f(table, np.array([0, 3]))
    np.testing.assert_array_equal(table, np.arange(6.0).reshape(3, 2))
    doubled = 2 * np.arange(6.0).reshape(3, 2)
    same(f(table, np.array([2, 0])), (doubled, doubled[[2, 0]] + 30))


def test_tensors_are_values_and_stay(arrays):
    f = fg.compile(step, *arrays, donate_argnums=(0, 1))
    p, m, x = map(fg.tensor, arrays)
    same(f(p, m, x), wanted(arrays))
    np.testing.assert_array_equal(p.numpy(), arrays[0])


def test_wrong_calls(arrays):
    f = fg.compile(step, *arrays, donate_argnums=(0, 1))
    p, _, x = (a.copy() for a in arrays)
    with pytest.raises(errors.ArgumentError, match="overlaps"):
        f(p, p, x)
    np.testing.assert_array_equal(p, arrays[0])
    with pytest.raises(errors.ArgumentError, match="leave out= out"):
        f(*arrays, out=(None, *arrays[:2]))
    with pytest.raises(errors.ArgumentError, match="donate_argnums"):
        fg.compile(step, *arrays, donate_argnums=3)


def test_jit_works_in_place(arrays):
    f = fg.jit(step, donate_argnums=(0, 1))
    p, m, x = map(fg.tensor, arrays)
    expected = (0.0, *arrays[:2])
    before = p._node.value.ctypes.data
    for _ in range(3):
        expected = wanted((*expected[1:], arrays[2]))
        total, p, m = f(p, m, x)
    same((total, p, m), expected)
    assert p._node.value.ctypes.data == before


def test_jit_leaves_alone_what_others_see(arrays):
    f = fg.jit(step, donate_argnums=(0, 1))
    p, m, x = map(fg.tensor, arrays)
    pending = p * 2  # recorded, not computed
    shown = m.numpy()
    same(f(p, m, x), wanted(arrays))
    np.testing.assert_array_equal(pending.numpy(), 2 * arrays[0])
    np.testing.assert_array_equal(shown, arrays[1])
