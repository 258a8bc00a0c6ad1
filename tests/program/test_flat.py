"""The generic loop: large graphs of scalars as one flat list, forward and backward."""

from __future__ import annotations

import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.emit.opcodes import table
from flatgrad.graph.dtypes import bool_, float32, float64
from flatgrad.graph.node import toposort
from flatgrad.graph.op import REGISTRY
from flatgrad.program import sweep, tiers
from flatgrad.program.flat import loops
from flatgrad.tensor import late, node_of, outputs_of, record, wrap

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.3, -2.5, 2.0, np.inf, -np.inf, np.nan, 1e300]


@pytest.fixture
def swept(monkeypatch):
    """Every gradient of scalars is one sweep, whatever its size."""
    monkeypatch.setattr(sweep, "SWEEP_FROM", 1)
    monkeypatch.setattr(sweep, "PATIENCE", -1.0)
    # Small graphs that backward() has seen are differentiated by a cached pullback: not these.
    monkeypatch.setattr("flatgrad.autograd.engine.NODE_LIMIT", -1)


@pytest.fixture
def looped(monkeypatch):
    """Every program runs in the generic loop at once."""
    monkeypatch.setattr(tiers, "GENERIC_FROM", 1)
    monkeypatch.setattr(tiers, "TOO_LARGE", 0)
    with fg.set_compile("always"):
        yield


def scalar(x, dtype=fg.float64):
    return fg.tensor(x, dtype=dtype, requires_grad=True)


def gradient(function, *xs, sweeping: bool):
    """Gradient by sweep or rule by rule, as arrays."""
    ts = [scalar(x) for x in xs]
    with fg.set_compile("always" if sweeping else "never"):
        found = fg.autograd.grad(function(*ts), ts, materialize_grads=True)
        if sweeping:
            assert has_sweep(found[0])
        return np.array([g.item() for g in found])


def nodes_behind(t):
    return toposort([node_of(t)])


def has_sweep(t) -> bool:
    return any(n.op is sweep.SWEEP for n in nodes_behind(t))


# -- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [float32, float64])
def test_every_elementwise_operation_on_floats_is_an_opcode(dtype):
    codes = table(dtype)
    for op in REGISTRY.values():
        if op.kind != "elementwise" or op.attrs or op.name.startswith(("bitwise", "logical")):
            continue
        kinds = (bool_, dtype, dtype) if op.name == "where" else (dtype,) * op.arity
        code = codes.find(op, (), kinds)
        assert code is not None, op.name
        if op.differentiable:
            wanted = tuple([k is dtype for k in kinds])
            assert code.reverse_for(wanted) is not None, op.name
    assert len(codes.codes) < 256
    assert len(codes.reverses) < 255  # codes are bytes


def special_points(op):
    if op.name in ("lgamma", "digamma"):  # at the poles SciPy and the compiled formula differ
        return [(x,) for x in SPECIAL if x > 0 or x == -2.5]
    return (
        list(product(SPECIAL, repeat=op.arity))
        if op.arity < 3
        else list(product([0.0, 1.0, -2.5, np.nan], repeat=3))
    )


@pytest.mark.parametrize(
    "name",
    [op.name for op in REGISTRY.values() if op.kind == "elementwise" and not op.attrs
     and op.differentiable and op.name not in ("where", "cast")],
)  # fmt: skip
def test_values_and_gradients_at_special_points_are_those_of_the_rules(name, swept, looped):
    """Ties, signed zeros, infinities and NaN: the same convention in the loop as rule by rule."""
    op = REGISTRY[name]
    points = special_points(op)
    results = []
    for mode in ("never", "always"):
        with fg.set_compile(mode):
            xs = [[scalar(v) for v in point] for point in points]
            outs = [record(op, tuple(x)) for x in xs]
            total = fg.stack(outs).sum()
            leaves = [v for x in xs for v in x]
            grads = fg.autograd.grad(total, leaves)
            assert has_sweep(grads[0]) == (mode == "always")
            late.evaluate([node_of(t) for t in (*outs, *grads)])
            results.append([np.array([t.item() for t in ts]) for ts in (outs, grads)])
            if mode == "always":
                assert fg.explain(outs[0]).tier == "generic loop"
    (y, g), (y_loop, g_loop) = results
    assert np.isfinite(y).any()
    np.testing.assert_allclose(y_loop, y, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(g_loop, g, rtol=1e-12, atol=1e-300)


# -- random programs ------------------------------------------------------------------------------

UNARY = ["sin", "cos", "tanh", "exp", "sigmoid", "atan", "neg", "abs", "relu", "erf", "square"]
BINARY = ["add", "sub", "mul", "maximum", "minimum", "atan2"]


def build(program, xs):
    values = list(xs)
    for name, i, j in program:
        a, b = values[i % len(values)], values[j % len(values)]
        if name == "where":
            values.append(fg.where(a > b, a * 0.5, b))
        elif name == "div":
            values.append(a / (b * b + 1.0))
        elif name == "mix":
            values.append((fg.stack([a, b]) * fg.stack([b, a + 1.0])).sum())
        elif name == "detach":
            values.append(a.detach() * b)
        elif name == "power":
            values.append(fg.tanh(a) ** (j % 5) + fg.tanh(b) ** 3)
        else:
            values.append(getattr(fg, name)(*((a,) if name in UNARY else (a, b))))
    return fg.tanh(values[-1]) + 0.1 * fg.tanh(values[len(values) // 2]) + xs[0] * 0.01


programs = st.lists(
    st.tuples(
        st.sampled_from([*UNARY, *BINARY, "where", "div", "mix", "detach", "power"]),
        st.integers(0, 1000),
        st.integers(0, 1000),
    ),
    min_size=1,
    max_size=30,
)


# Numbers of a common size: the gradient of atan2(b, b + b * b) at 1e-268 is the difference of two
# numbers of 1e268, of which no digit is right.
numbers = st.integers(-2000, 2000).map(lambda n: n / 1000)


@given(programs, st.lists(numbers, min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_random_programs(program, xs):
    with pytest.MonkeyPatch.context() as patch:
        by_rule = gradient(lambda *ts: build(program, ts), *xs, sweeping=False)
        plain = build(program, [fg.tensor(x, dtype=fg.float64) for x in xs]).item()
        patch.setattr(sweep, "SWEEP_FROM", 1)
        patch.setattr(sweep, "PATIENCE", -1.0)
        patch.setattr("flatgrad.autograd.engine.NODE_LIMIT", -1)
        patch.setattr(tiers, "GENERIC_FROM", 1)
        patch.setattr(tiers, "TOO_LARGE", 0)
        by_sweep = gradient(lambda *ts: build(program, ts), *xs, sweeping=True)
        with fg.set_compile("always"):
            y = build(program, [scalar(x) for x in xs])
            assert fg.explain(y).tier == "generic loop"
    np.testing.assert_allclose(y.item(), plain, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(by_sweep, by_rule, rtol=1e-9, atol=1e-10)


def test_float32_stays_float32(swept, looped):
    x = scalar(0.7, fg.float32)
    y = fg.sin(x) * x + fg.exp(x)
    (g,) = fg.autograd.grad(y, x)
    assert g.dtype is fg.float32
    assert has_sweep(g)
    x0 = 0.7
    assert g.item() == pytest.approx(math.cos(x0) * x0 + math.sin(x0) + math.exp(x0), rel=1e-6)
    assert fg.explain(y).tier == "generic loop"


# -- what surrounds scalars -----------------------------------------------------------------------


def test_small_vectors_and_matrices(swept, looped, rng):
    """Elements taken from vectors, products of small matrices, a stack and a sum on top."""
    a, b = rng.normal(size=(3, 3)), rng.normal(size=3)
    m, v = fg.tensor(a, requires_grad=True), fg.tensor(b, requires_grad=True)
    w = m @ v
    y = (fg.stack([w[0] * w[1], fg.sin(w[2]), (m[1] * v).sum()]) ** 2).sum()
    grads = fg.autograd.grad(y, [m, v])
    assert has_sweep(grads[0])
    torch = pytest.importorskip("torch")
    mt, vt = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    wt = mt @ vt
    yt = (torch.stack([wt[0] * wt[1], torch.sin(wt[2]), (mt[1] * vt).sum()]) ** 2).sum()
    yt.backward()
    np.testing.assert_allclose(y.item(), yt.item(), rtol=1e-12)
    np.testing.assert_allclose(grads[0].numpy(), mt.grad, rtol=1e-12)
    np.testing.assert_allclose(grads[1].numpy(), vt.grad, rtol=1e-12)


def test_other_nodes_run_between_stretches_of_the_list(looped, rng):
    """A sort, integers and a large array in the middle; most nodes are scalars."""
    data = rng.normal(size=200)
    big = fg.tensor(data)

    def function(x, np_or_fg, sort, total):
        y = x
        for _ in range(20):
            y = np_or_fg.sin(y) + 0.1
        z = sort(np_or_fg.stack([y, x, -y]))
        w = total(big if np_or_fg is fg else data, y)
        for _ in range(20):
            w = np_or_fg.cos(w) * z[1]
        return w

    found = function(
        fg.tensor(0.4, dtype=fg.float64), fg, lambda s: fg.sort(s)[0], lambda d, y: (d * y).sum()
    )
    expected = function(0.4, np, np.sort, lambda d, y: (d * y).sum())
    explained = fg.explain(found)
    assert explained.tier == "generic loop"
    assert "in NumPy" in explained.reason
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


def test_a_graph_of_arrays_is_not_for_the_loop(looped, rng):
    x = fg.tensor(rng.normal(size=500))
    y = fg.exp(fg.sin(x) + 1).sum()
    explained = fg.explain(y)
    assert explained.tier == "interpreted"
    assert "generic loop is not for it" in explained.reason or explained.reason
    np.testing.assert_allclose(y.item(), np.exp(np.sin(x.numpy()) + 1).sum(), rtol=1e-12)


def test_numbers_that_change_between_calls(looped):
    def run(x, scale, power):
        return (fg.sin(fg.tensor(x, dtype=fg.float64)) * scale) ** power + scale

    for x, scale, power in [(0.3, 2.0, 2), (0.4, 3.0, 2), (0.4, 3.0, 3), (0.5, 1.5, 2.5)]:
        y = run(x, scale, power)
        assert fg.explain(y).tier == "generic loop"
        np.testing.assert_allclose(y.item(), (np.sin(x) * scale) ** power + scale, rtol=1e-13)


def test_a_sweep_keeps_torch_rules_of_freeing(swept):
    x = scalar(0.5)
    y = fg.sin(x) * x
    y.backward(retain_graph=True)
    y.backward()
    g = math.cos(0.5) * 0.5 + math.sin(0.5)
    assert x.grad.item() == pytest.approx(2 * g)
    with pytest.raises(fg.errors.GradientError, match="second time"):
        y.backward()
    z = x + x  # its rule needs no values: it may be gone through again
    z.backward()
    z.backward()


def test_hooks_and_wanted_nodes_inside_a_sweep(swept):
    seen = []
    x = scalar(0.5)
    u = fg.sin(x)
    v = u * u
    v.register_hook(lambda g: seen.append(g.item()) or g * 2)
    w = fg.exp(v) * u
    du, dx = fg.autograd.grad(w, [u, x])
    s, c = math.sin(0.5), math.cos(0.5)
    dv = math.exp(s * s) * s
    assert seen == pytest.approx([dv])
    expected = 2 * dv * 2 * s + math.exp(s * s)
    assert du.item() == pytest.approx(expected)
    assert dx.item() == pytest.approx(expected * c)


# -- higher derivatives, transforms ---------------------------------------------------------------


def chain(x, n: int):
    y = x[0]
    for _ in range(n):
        y = fg.sin(y) * x[1] + y * 0.5
    return y * x[0]


@pytest.mark.parametrize("n", [3, 40])
def test_second_derivatives(n, swept):
    point = fg.tensor([0.3, 0.8], dtype=fg.float64)

    def function(x):
        return chain(x, n)

    hessian = fg.func.jacfwd(fg.func.grad(function))(point).numpy()
    reverse = fg.func.jacrev(fg.func.grad(function))(point).numpy()
    _, along = fg.func.hvp(function, point, fg.tensor([1.0, -2.0], dtype=fg.float64))
    h = 1e-5
    steps = [np.array([h, 0.0]), np.array([0.0, h])]

    def slope(at):
        return fg.func.grad(function)(fg.tensor(at)).numpy()

    base = point.numpy()
    differences = np.array([(slope(base + s) - slope(base - s)) / (2 * h) for s in steps])
    np.testing.assert_allclose(hessian, differences, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(reverse, hessian, rtol=1e-10)
    np.testing.assert_allclose(along.numpy(), hessian @ [1.0, -2.0], rtol=1e-10)


def test_create_graph_through_a_sweep(swept):
    x = scalar(0.4)
    y = fg.sin(x) * fg.exp(x)
    (g,) = fg.autograd.grad(y, x, create_graph=True)
    (h,) = fg.autograd.grad(g, x, create_graph=True)
    (k,) = fg.autograd.grad(h, x)
    e, s, c = math.exp(0.4), math.sin(0.4), math.cos(0.4)
    assert g.item() == pytest.approx(e * (s + c))
    assert h.item() == pytest.approx(2 * e * c)
    assert k.item() == pytest.approx(2 * e * (c - s))


# -- long simulations -----------------------------------------------------------------------------


def pendulum(start, steps: int, dt: float, sin):
    """Semi-implicit Euler with friction: 8 operations a step."""
    angle, speed = start[0], start[1]
    for _ in range(steps):
        speed = speed - (sin(angle) * 9.81 + speed * 0.1) * dt
        angle = angle + speed * dt
    return angle, speed


def pendulum_gradient(start, steps: int, dt: float):
    """The angle's gradient by NumPy: the product of the steps' Jacobians, applied from the left."""
    path = [start]
    for _ in range(steps):
        path.append(pendulum(path[-1], 1, dt, math.sin))
    g = np.array([1.0, 0.0])
    for angle, _ in reversed(path[:-1]):
        step = np.array([[-math.cos(angle) * 9.81 * dt, 1 - 0.1 * dt], [0.0, 0.0]])
        step[1] = step[0] * dt + [1.0, 0.0]
        g = g @ step[::-1]
    return path[-1][0], g


@pytest.mark.parametrize("steps", [1_300])
def test_a_pendulum_of_10000_operations(steps, monkeypatch):
    monkeypatch.setattr(sweep, "PATIENCE", -1.0)
    value, expected = pendulum_gradient((0.5, 0.0), steps, 1e-3)
    start = fg.tensor([0.5, 0.0], dtype=fg.float64, requires_grad=True)
    angle, _ = pendulum(start, steps, 1e-3, fg.sin)
    (g,) = fg.autograd.grad(angle, start)
    assert has_sweep(g)
    assert fg.explain(g).tier == "generic loop"
    assert angle.item() == pytest.approx(value, rel=1e-11)
    np.testing.assert_allclose(g.numpy(), expected, rtol=1e-9)


def angle_after(start, steps: int = 1_300):
    return pendulum(start, steps, 1e-3, fg.sin)[0]


@pytest.fixture(scope="module")
def compiled_pendulum():
    """Value and gradient of 10,000 operations: too many to compile, and differentiated by a sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "PATIENCE", -1.0)
        return fg.compile(fg.func.value_and_grad(angle_after), np.array([0.5, 0.0]))


def test_a_compiled_function_of_10000_operations(compiled_pendulum):
    for start in ([0.5, 0.0], [1.5, -0.3]):
        value, expected = pendulum_gradient(start, 1_300, 1e-3)
        found, g = compiled_pendulum(np.array(start))
        assert found == pytest.approx(value, rel=1e-11)
        np.testing.assert_allclose(g, expected, rtol=1e-9)


def test_it_pickles(compiled_pendulum):
    at = np.array([0.7, 0.1])
    value, g = pickle.loads(pickle.dumps(compiled_pendulum))(at)
    expected_value, expected = compiled_pendulum(at)
    assert value == expected_value
    np.testing.assert_array_equal(g, expected)


def test_a_sweep_from_another_process_can_be_differentiated(swept):
    """Its nodes travel with it."""
    x = scalar(0.4)
    y = fg.sin(x) * fg.exp(x)
    (g,) = fg.autograd.grad(y, x, create_graph=True)
    (whole,) = [n for n in nodes_behind(g) if n.op is sweep.SWEEP]
    copy = pickle.loads(pickle.dumps(whole.attrs[0]))
    assert copy == whole.attrs[0]
    again = record(sweep.SWEEP, tuple([wrap(n) for n in whole.inputs]), (copy,))
    first = outputs_of(again._node)[0]
    (h,) = fg.autograd.grad(first, x)
    assert first.item() == pytest.approx(g.item(), rel=1e-15)
    assert h.item() == pytest.approx(2 * math.exp(0.4) * math.cos(0.4))


def test_threads_share_a_program(compiled_pendulum):
    starts = [np.array([0.1 * k, 0.0]) for k in range(1, 9)]
    expected = [compiled_pendulum(s) for s in starts]
    with ThreadPoolExecutor(4) as pool:
        for (value, g), (v, d) in zip(pool.map(compiled_pendulum, starts), expected, strict=True):
            assert value == v
            np.testing.assert_array_equal(g, d)


def test_under_jit(monkeypatch):
    monkeypatch.setattr(sweep, "PATIENCE", -1.0)
    gradient = fg.jit(fg.func.grad(angle_after))
    for start in ([0.5, 0.0], [1.0, 0.2]):
        _, expected = pendulum_gradient(start, 1_300, 1e-3)
        np.testing.assert_allclose(np.asarray(gradient(np.array(start))), expected, rtol=1e-9)


def recorded_gradient(steps: int):
    """(operations of the sweep, nodes of the gradient's graph) of a simulation."""
    start = fg.tensor([0.5, 0.0], dtype=fg.float64, requires_grad=True)
    angle, _ = pendulum(start, steps, 1e-3, fg.sin)
    (g,) = fg.autograd.grad(angle, start)
    order = nodes_behind(g)
    (whole,) = [n for n in order if n.op is sweep.SWEEP]
    return len(whole.attrs[0]), len(order)


def test_a_gradient_is_linear_in_the_operations(monkeypatch):
    monkeypatch.setattr(sweep, "PATIENCE", -1.0)
    operations, nodes = recorded_gradient(800)
    twice, nodes_twice = recorded_gradient(1600)
    assert operations == pytest.approx(800 * 8, rel=0.01)
    assert twice == pytest.approx(2 * operations, rel=0.01)
    assert nodes == nodes_twice < 20


def test_equal_structures_are_one_program(swept):
    """Numbers are an operand: an annealed weight does not make ever new programs."""
    before = len(tiers.programs())
    for weight in (0.1, 0.2, 0.3):
        x = scalar(0.5)
        (g,) = fg.autograd.grad(fg.sin(x * weight) * weight, x)
        assert g.item() == pytest.approx(math.cos(0.5 * weight) * weight**2)
    assert len(tiers.programs()) - before <= 1


def test_the_first_short_gradients_do_not_wait_for_the_loops(monkeypatch):
    monkeypatch.setattr(sweep, "loaded", lambda dtype: False)
    monkeypatch.setattr(sweep.Waited, "seconds", 0.0)
    assert not sweep._worth_loading(10_000)
    assert any(sweep._worth_loading(10_000) for _ in range(10))
    with fg.set_compile("never"):
        assert not sweep._worth_loading(10**9)


def test_the_loops_are_in_the_disk_cache():
    loops(float64)
    names = [entry.name for entry in fg.cache.entries()]
    assert sum(name.startswith("generic_") for name in names) >= 2


@pytest.mark.slow
def test_a_million_operations():
    steps = 125_000
    value, expected = pendulum_gradient((0.5, 0.0), steps, 1e-4)
    start = fg.tensor([0.5, 0.0], dtype=fg.float64, requires_grad=True)
    angle, _ = pendulum(start, steps, 1e-4, fg.sin)
    angle.backward()
    assert angle.item() == pytest.approx(value, rel=1e-8)
    np.testing.assert_allclose(start.grad.numpy(), expected, rtol=1e-6)
