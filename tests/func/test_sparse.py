"""Sparse Jacobians and Hessians: patterns, values against dense ones and closed forms, few passes."""

from __future__ import annotations

import time

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import func as ours
from flatgrad.func import colouring

sparse = pytest.importorskip("scipy.sparse")


def dense(function, *args, argnums=0):
    """The dense Jacobian as one matrix."""
    table = ours.tree.flatten(fg.jacfwd(function, argnums)(*args))[0]
    if isinstance(argnums, tuple) and len(argnums) > 1:
        columns = sum(int(np.prod(np.shape(args[k]))) for k in argnums)
    else:
        first = argnums[0] if isinstance(argnums, tuple) else argnums
        columns = int(np.prod(np.shape(args[first])))
    count = len(argnums) if isinstance(argnums, tuple) else 1
    rows = []
    for start in range(0, len(table), count):
        blocks = [t.detach().numpy() for t in table[start : start + count]]
        sizes = [int(np.prod(np.shape(args[k]))) for k in np.atleast_1d(argnums)]
        rows.append(np.hstack([b.reshape(-1, n) for b, n in zip(blocks, sizes, strict=True)]))
    whole = np.vstack(rows)
    assert whole.shape[1] == columns
    return whole


def check(function, *args, argnums=0, nnz=None, passes=None):
    """Sparse equals dense, nothing outside of the pattern; returns the derivative."""
    derivative = ours.jacobian(function, argnums, sparse=True)
    matrix = derivative(*args)
    assert isinstance(matrix, sparse.csr_array)
    expected = dense(function, *args, argnums=argnums)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-10, atol=1e-12)
    if nnz is not None:
        assert matrix.nnz == nnz
    if passes is not None:
        assert derivative.passes(*args) == passes
    return derivative


# -- patterns, operation by operation -------------------------------------------------------------

X = np.array([0.5, -1.25, 2.0, 0.75, 1.5, -0.3])
INDEX = np.array([3, 0, 3, 5])
TABLE = np.array([[0, 2, 1], [1, 1, 0]])


@pytest.mark.parametrize(
    ("function", "nnz"),
    [
        (lambda x: x.exp() * 2 + 1, 6),
        (lambda x: x[1:] * x[:-1], 10),
        (lambda x: x * x[0], 11),
        (lambda x: x.reshape(2, 3) + x[:3] ** 2, 9),
        (lambda x: x.reshape(2, 3).permute(1, 0) * 2, 6),
        (lambda x: x.reshape(2, 3).sum(0), 6),
        (lambda x: x.reshape(2, 3).prod(1), 6),
        (lambda x: x.reshape(2, 3).amax(1), 6),
        (lambda x: x.sum() * x[:2], 12),
        (lambda x: fg.cat([x[:2] ** 2, x[3:], x[:1].exp()]), 6),
        (lambda x: fg.stack([x.reshape(2, 3), x.reshape(2, 3) ** 2], 1), 12),
        (lambda x: x[INDEX] ** 2, 4),
        (lambda x: x.reshape(2, 3)[:, [2, 0]] ** 2, 4),
        (lambda x: x.reshape(2, 3)[np.array([1, 0]), np.array([2, 2])] ** 2, 2),
        (lambda x: x.reshape(2, 3).gather(1, fg.tensor(TABLE)) ** 2, 6),
        (lambda x: x.roll(2) * x, 12),
        (lambda x: x.flip(0) * 2, 6),
        (lambda x: fg.pad(x, (2, 1)) ** 2, 6),
        (lambda x: x.cumsum(0), 21),
        (lambda x: x.flip(0).cumsum(0).flip(0), 21),
        (lambda x: x.reshape(2, 3).cumprod(1), 12),
        (lambda x: fg.zeros(8, dtype=fg.float64).index_add(0, fg.tensor(INDEX), x[:4]), 4),
        (
            lambda x: fg.zeros(2, 3, dtype=fg.float64).scatter(
                1, fg.tensor(TABLE)[:, :2], x[:4].reshape(2, 2)
            ),
            4,  # of several writes to one place the last counts, which is not known
        ),
        (
            lambda x: fg.zeros(2, 3, dtype=fg.float64).scatter_add(
                1, fg.tensor(TABLE), x.reshape(2, 3)
            ),
            6,
        ),
        (lambda x: x.reshape(2, 3) @ fg.ones(3, 2, dtype=fg.float64), 12),
        (lambda x: x[:4].reshape(2, 2) @ x[2:].reshape(2, 2), 14),
        (
            lambda x: fg.einsum("bi,bij->bj", x.reshape(2, 3), fg.ones(2, 3, 2, dtype=fg.float64)),
            12,
        ),
        (lambda x: x.reshape(2, 3).diagonal() ** 2, 2),
        (lambda x: x.unfold(0, 2, 2).sum(1), 6),
        (lambda x: fg.where(x > 0, x * x, x[0] * 1.0), 11),
        (lambda x: x.detach() * x, 6),
        (lambda x: x.reshape(2, 3).sort(1).values, 18),
        (lambda x: x[fg.argsort(x)] * 1.0, 36),
        (lambda x: fg.linalg.inv(fg.stack([x[:4].reshape(2, 2), x[2:].reshape(2, 2)])), 32),
        (lambda x: fg.linalg.solve(x[:4].reshape(2, 2), x[4:]), 12),
        (lambda x: x.softmax(0), 36),
        (lambda x: fg.nn.functional.relu(x.reshape(3, 2)).norm(dim=1), 6),
    ],
)
def test_patterns(function, nnz):
    check(function, X, nnz=nnz)


@pytest.mark.parametrize(
    ("options", "nnz"),
    [
        ({}, 2 * 4 * 3),
        ({"padding": 1}, 2 * (6 * 3 - 2)),
        ({"padding": 1, "stride": 2}, 2 * (3 * 3 - 1)),
        ({"dilation": 2}, 2 * 2 * 3),
    ],
    ids=str,
)
def test_convolutions_are_stencils(options, nnz):
    w = fg.tensor(np.random.default_rng(1).normal(size=(2, 1, 3)))
    check(lambda x: fg.nn.functional.conv1d(x.reshape(1, 6), w, **options), X, nnz=nnz)


def test_convolutions_of_all_roles():
    """Groups, two dimensions, and all three operands; what is found must hold what there is."""
    F = fg.nn.functional
    w = fg.tensor(np.random.default_rng(1).normal(size=(2, 1, 2, 2)))
    x = np.random.default_rng(2).normal(size=24)
    image = lambda x: x.reshape(2, 3, 4)  # noqa: E731
    check(lambda x: F.conv2d(image(x), w, padding=1, groups=2), x, nnz=2 * 4 * 12)
    check(lambda x: F.conv_transpose2d(image(x), w, stride=2, groups=2), x, nnz=2 * 4 * 12)
    fixed = fg.ones(1, 1, 3, 4, dtype=fg.float64)
    check(lambda x: F.conv2d(fixed, x[:8].reshape(2, 1, 2, 2)), x, nnz=2 * 6 * 4)
    check(lambda x: fg.grad(lambda v: (F.conv2d(image(v), w, groups=2) ** 3).sum())(x), x)


def test_writing_in_place_replaces():
    def f(x):
        y = x * 2
        y[1:3] = x[4:] ** 2
        y[0] += x[5]
        return y

    check(f, X, nnz=7)


def test_calls_are_looked_into():
    layer = fg.nn.Sequential(fg.nn.Linear(2, 3), fg.nn.Tanh(), fg.nn.Linear(3, 1)).double()
    layer.requires_grad_(False)
    check(lambda x: layer(x.reshape(3, 2)), X, nnz=6, passes=1)


def test_loops_and_branches():
    def step(carry, row):
        carry = carry * 0.5 + row
        return carry, carry * row

    def scanned(x):
        carry, rows = fg.func.scan(step, x[0], x[1:])
        return fg.cat([carry.reshape(1), rows])

    check(scanned, X, nnz=6 + 2 + 3 + 4 + 5 + 6)
    table = fg.tensor([4, 1, 0])
    check(lambda x: fg.func.map(lambda k: x.gather(0, k.reshape(1)) ** 2, table), X, nnz=3)
    branch = lambda x: fg.func.cond(x[0] > 0, lambda x: x[:2] ** 2, lambda x: x[2:4], x)  # noqa: E731
    check(branch, X, nnz=4)


def test_the_iterations_of_a_map_are_followed_each():
    """Rows, shared tensors and indices of their own; a loop inside."""
    seen = fg.tensor([[0, 1], [5, 0], [2, 2], [3, 4]])

    def one(row):
        value, index = row
        pair = fg.cat([X_IN[0].index_select(0, index), value.reshape(1)])
        total, _ = fg.func.scan(lambda carry, item: (carry * item, item), value, pair[:2])
        return fg.stack([pair.prod(), pair[0] * pair[2]]), total

    def f(x, shared):
        X_IN[0] = shared
        return fg.func.map(one, (x, seen))

    X_IN = [None]
    # Each iteration: 2 rows of (itself, 2 or 1 shared), 1 of (itself, 2); the third sees one twice.
    check(f, X[:4], X, argnums=(0, 1), nnz=3 * (3 + 2 + 3) + 2 * 3)


def test_several_arguments_and_outputs():
    f = lambda a, b: {"s": a * b[0], "t": (b * b).sum()}  # noqa: E731
    check(f, X, X[:3], argnums=(0, 1), nnz=15)
    check(f, X, X[:3], argnums=1, nnz=9)
    check(f, X, X[:3], argnums=(1, 0), nnz=15)


# -- what a signature is --------------------------------------------------------------------------


def test_a_signature_is_recorded_once_and_keeps_its_pattern():
    calls = []

    def f(x, scale):
        calls.append(1)
        return x[1:] * x[:-1] * scale

    derivative = ours.jacobian(f, sparse=True)
    for x in (X, X * 0, fg.tensor(X)):
        for scale in (2.0, 3.0):
            matrix = derivative(x, scale)
            assert matrix.nnz == 10
            array = np.asarray(x)
            expected = scale * (
                np.diag(array[1:], 0) @ np.eye(5, 6) + np.diag(array[:-1]) @ np.eye(5, 6, 1)
            )
            np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-6)
    assert calls == [1]
    derivative(X[:4], 2.0)
    assert len(calls) == 2
    assert (derivative.pattern(X, 2.0) != (derivative(X, 1.0) != 0)).nnz == 0


def test_what_is_closed_over_is_read_at_every_call():
    w = fg.tensor([2.0], dtype=fg.float64, requires_grad=True)
    derivative = ours.jacobian(lambda x: x * w, sparse=True)
    np.testing.assert_array_equal(derivative(X).data, np.full(6, 2.0))
    with fg.no_grad():
        w.mul_(3)
    np.testing.assert_array_equal(derivative(X).data, np.full(6, 6.0))
    derivative.values(X).sum().backward()
    assert w.grad.item() == 6.0


def test_integer_arguments_belong_to_the_signature():
    derivative = ours.jacobian(lambda x, k, n: x[k] * n, sparse=True)
    for index in ([3, 0], [1, 1]):
        for n in (1, 2):
            matrix = derivative(X, np.array(index), n)
            assert matrix.indices.tolist() == index
            np.testing.assert_array_equal(matrix.data, [n, n])


def test_a_matrix_belongs_to_the_user():
    derivative = ours.jacobian(lambda x: x[1:] * x[:-1], sparse=True)
    first = derivative(X * 0)
    first.eliminate_zeros()
    first.data[:] = 7.0
    second = derivative(X)
    assert second.nnz == 10
    np.testing.assert_allclose(second.toarray(), dense(lambda x: x[1:] * x[:-1], X))
    derivative.pattern(X).indices[:] = 0
    assert derivative(X).indices.tolist() == second.indices.tolist()


def test_values_are_differentiable():
    x = fg.tensor(X, requires_grad=True)
    derivative = ours.jacobian(lambda x: x[1:] ** 2 * x[:-1], sparse=True)
    (derivative.values(x) ** 2).sum().backward()
    rough = fg.grad(lambda x: (fg.jacfwd(lambda x: x[1:] ** 2 * x[:-1])(x) ** 2).sum())(X)
    np.testing.assert_allclose(x.grad.numpy(), rough.numpy(), rtol=1e-10)


# -- few passes -----------------------------------------------------------------------------------


def test_a_band_needs_as_many_passes_as_it_is_wide():
    check(lambda x: x[2:] * x[1:-1] + x[:-2], X, nnz=12, passes=3)


def test_an_arrow_to_the_left_is_pulled_back():
    """Every row is full: one pass by rows each, were columns coloured, is a pass a column."""
    check(lambda x: fg.stack([x.sum() ** 2, (x * x).sum()]), X, nnz=12, passes=2)


def test_colours_of_columns_share_no_row(rng):
    for _ in range(20):
        pattern = sparse.csr_array(rng.random((12, 15)) < 0.2)
        colours = colouring.columns(pattern)
        rows = pattern.toarray()
        for colour in range(colours.max() + 1):
            assert rows[:, colours == colour].sum(1).max() <= 1


def test_star_colourings_recover_every_element(rng):
    for _ in range(30):
        half = rng.random((10, 10)) < 0.15
        pattern = sparse.csr_array(half | half.T | np.eye(10, dtype=bool))
        pattern.sort_indices()
        colours = colouring.symmetric(pattern)
        values = rng.normal(size=(10, 10))
        full = np.where(pattern.toarray(), values + values.T, 0.0)
        units = np.eye(colours.max() + 1)[colours]
        compressed = full @ units
        for i, j in zip(*np.nonzero(pattern.toarray()), strict=True):
            alone = [
                (a, b)
                for a, b in ((i, j), (j, i))
                if (colours[np.flatnonzero(pattern.toarray()[a])] == colours[b]).sum() == 1
            ]
            assert alone
            a, b = alone[0]
            assert compressed[a, colours[b]] == pytest.approx(full[i, j])


# -- Hessians -------------------------------------------------------------------------------------


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def check_hessian(function, *args, argnums=0, nnz=None, passes=None):
    derivative = ours.hessian(function, argnums, sparse=True)
    matrix = derivative(*args).toarray()
    expected = dense(fg.grad(function, argnums), *args, argnums=argnums)
    np.testing.assert_allclose(matrix, expected, rtol=1e-10, atol=1e-10)
    if nnz is not None:
        assert derivative.pattern(*args).nnz == nnz
    if passes is not None:
        assert derivative.passes(*args) == passes


def test_the_hessian_of_rosenbrock_is_tridiagonal():
    x = np.linspace(-1.0, 1.5, 9)
    check_hessian(rosenbrock, x, nnz=25, passes=3)
    n = len(x)
    closed = np.zeros((n, n))
    closed[range(n - 1), range(n - 1)] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    closed[range(1, n), range(1, n)] += 200
    closed[range(n - 1), range(1, n)] = closed[range(1, n), range(n - 1)] = -400 * x[:-1]
    np.testing.assert_allclose(
        ours.hessian(rosenbrock, sparse=True)(x).toarray(), closed, rtol=1e-10, atol=1e-10
    )


def test_the_hessian_of_an_arrow_takes_two_passes():
    check_hessian(lambda x: (x[0] * x[1:] ** 3).sum() + x[0] ** 4, X, nnz=16, passes=2)


def test_the_hessian_of_several_arguments():
    check_hessian(lambda a, b: (a**2 * b[0]).sum() + b[1] ** 3, X, X[:2], argnums=(0, 1), nnz=19)


def test_a_linear_function_has_an_empty_hessian():
    matrix = ours.hessian(lambda x: x.sum() * 3, sparse=True)(X)
    assert matrix.shape == (6, 6)
    assert matrix.nnz == 0


# -- what it is for -------------------------------------------------------------------------------


def bundle_adjustment(cameras, points, observations, rng):
    """Synthetic cameras (11 numbers each), points (3), weights, and who sees whom."""
    cams = rng.normal(size=(cameras, 11)) * 0.1
    cams[:, 5] += 5.0  # in front of the points
    cams[:, 6] += 1.0
    pts = rng.normal(size=(points, 3))
    weights = 1.0 + 0.1 * rng.normal(size=observations)
    seen = np.stack(
        [np.arange(observations) % cameras, rng.integers(0, points, observations)], axis=1
    )
    return cams, pts, weights, rng.normal(size=(observations, 2)), seen


def residuals(cams, pts, weights, features, seen):
    """Reprojection errors, and one residual a weight: rows that touch 11 + 3 + 1 unknowns.

    (One less: each coordinate has a principal point of its own.)
    """
    cam, x = cams[seen[:, 0]], pts[seen[:, 1]]
    rotation, centre, focal = cam[:, :3], cam[:, 3:6], cam[:, 6:7]
    x = x - centre
    square = (rotation * rotation).sum(1, keepdim=True)
    angle = square.sqrt()
    axis = rotation / angle
    cross = fg.stack(
        [
            axis[:, 1] * x[:, 2] - axis[:, 2] * x[:, 1],
            axis[:, 2] * x[:, 0] - axis[:, 0] * x[:, 2],
            axis[:, 0] * x[:, 1] - axis[:, 1] * x[:, 0],
        ],
        1,
    )
    along = (axis * x).sum(1, keepdim=True) * (1 - angle.cos())
    x = x * angle.cos() + cross * angle.sin() + axis * along
    u = x[:, :2] / x[:, 2:]
    radius = (u * u).sum(1, keepdim=True)
    u = u * (1 + cam[:, 9:10] * radius + cam[:, 10:11] * radius * radius)
    errors = weights.reshape(-1, 1) * (u * focal + cam[:, 7:9] - features)
    return errors, 1 - weights * weights


def test_bundle_adjustment(rng):
    data = bundle_adjustment(3, 4, 7, rng)
    derivative = check(residuals, *data, argnums=(0, 1, 2), nnz=7 * 29, passes=6)  # by rows
    matrix = derivative(*data).toarray()
    step, base = 1e-6, [np.array(d) for d in data[:3]]
    column = 0
    for k in range(3):
        for at in np.ndindex(*base[k].shape):
            ends = []
            for sign in (1, -1):
                moved = [np.array(b) for b in base]
                moved[k][at] += sign * step
                parts = residuals(*[fg.tensor(m) for m in moved], *data[3:])
                ends.append(np.concatenate([p.numpy().ravel() for p in parts]))
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(matrix[:, column], slope, rtol=1e-5, atol=1e-6)
            column += 1
    assert column == matrix.shape[1]


def test_the_pattern_of_a_thousand_observations_is_found_in_no_time(rng):
    data = bundle_adjustment(49, 777, 1000, rng)
    derivative = ours.jacobian(residuals, (0, 1, 2), sparse=True)
    best = np.inf
    for _ in range(3):
        derivative._known.clear()
        start = time.perf_counter()
        pattern = derivative.pattern(*data)
        best = min(best, time.perf_counter() - start)
    assert pattern.shape == (3000, 49 * 11 + 777 * 3 + 1000)
    assert pattern.nnz == 29_000
    assert derivative.passes(*data) == 14
    assert best < 2.0  # a quarter of a second on an idle machine


def test_collocation_of_an_optimal_control_problem():
    """Defects of the trapezoidal rule: a row touches two neighbouring states and controls."""
    steps, h = 8, 0.1

    def defects(states, controls):
        position, speed = states[:, 0], states[:, 1]
        slope = fg.stack([speed, controls - position.sin() - 0.1 * speed**3], 1)
        return states[1:] - states[:-1] - 0.5 * h * (slope[1:] + slope[:-1])

    rng = np.random.default_rng(3)
    states, controls = rng.normal(size=(steps + 1, 2)), rng.normal(size=steps + 1)
    derivative = check(defects, states, controls, argnums=(0, 1), nnz=steps * (4 + 6))
    assert derivative.passes(states, controls) <= 7

    def lagrangian(states, controls, multipliers):
        return (controls**2).sum() + (multipliers * defects(states, controls)).sum()

    multipliers = rng.normal(size=(steps, 2))
    check_hessian(lagrangian, states, controls, multipliers, argnums=(0, 1), passes=1)


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ours.jacobian(lambda x: x, 1, sparse=True)(X), "Got argnum=1"),
        (lambda: ours.jacobian(lambda x: x, sparse=True)(np.arange(3)), "int64"),
        (lambda: ours.jacobian(lambda x: x > 0, sparse=True)(X), "one floating-point dtype.*bool"),
        (lambda: ours.jacobian(lambda x: x.float(), sparse=True)(X), "float32, float64"),
        (lambda: ours.jacobian(lambda x: "a", sparse=True)(X), "unsupported type str"),
        (lambda: ours.jacobian(lambda x, s: x, sparse=True)(X, {1}), "must be hashable"),
        (lambda: ours.jacobian(lambda x: x, sparse=True)("x"), "got str"),
        (lambda: ours.hessian(lambda x: x, sparse=True)(X), "scalar"),
    ],
)
def test_wrong_calls(call, match):
    with pytest.raises(fg.errors.FlatgradError, match=match):
        call()


def test_a_dense_jacobian_goes_the_shorter_way():
    for function in (lambda x: (x * x).sum(), lambda x: fg.stack([x[0]] * 9) * x[1]):
        np.testing.assert_allclose(
            ours.jacobian(function)(X).numpy(), fg.jacrev(function)(X).numpy(), rtol=1e-12
        )
