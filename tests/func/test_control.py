"""Control flow one by one: values, derivatives, what is stored, and errors of wrong use."""

from __future__ import annotations

import re
from collections import namedtuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import gradcheck, gradgradcheck
from flatgrad.errors import ArgumentError, DTypeError, FlatgradError, LoopError, ShapeError
from flatgrad.lower.body import walk
from flatgrad.lower.lowering import lower
from flatgrad.transform.simplify import simplify
from flatgrad.transform.trace import trace

f64 = fg.float64
rng = np.random.default_rng(5)


@pytest.fixture(params=["never", "always"], autouse=True)
def tier(request):
    with fg.set_compile(request.param):
        yield request.param


def t(values, requires_grad=False):
    return fg.tensor(np.asarray(values, float), requires_grad=requires_grad)


def program(function, *examples):
    """The loops of a traced function of tensors."""
    nodes = [fg.tensor(e)._node for e in examples]
    graph, _ = trace(lambda *ts: tuple(function(*ts)), nodes)
    mapping = {n: n for n in graph.inputs}
    made, _ = simplify(graph.inputs, graph.outputs, graph.order, mapping)
    return lower(made)


# -- scan and map ---------------------------------------------------------------------------------


def test_scan_has_pytrees_of_carries_rows_and_results():
    State = namedtuple("State", "x v")
    rows = {"a": t([1.0, 2.0, 3.0]), "b": (t([0.5, 0.25, 0.125]), None)}

    def f(s, row):
        new = State(s.x + row["a"] * s.v, s.v - row["b"][0])
        return new, {"energy": new.x * new.v, "nothing": None}

    last, ys = fg.scan(f, State(t(1.0), t(2.0)), rows)
    x, v, energies = 1.0, 2.0, []
    for a, b in zip([1.0, 2.0, 3.0], [0.5, 0.25, 0.125], strict=True):
        x, v = x + a * v, v - b
        energies.append(x * v)
    assert type(last) is State
    np.testing.assert_allclose([last.x.item(), last.v.item()], [x, v])
    np.testing.assert_allclose(ys["energy"].numpy(), energies)
    assert ys["nothing"] is None


def test_scan_without_rows_backwards_and_of_no_length():
    assert fg.scan(lambda c, _: (c * 2, c), 1, length=5)[1].tolist() == [1, 2, 4, 8, 16]
    _, ys = fg.scan(lambda c, x: (c + x, c), 0.0, t([1, 2, 3]), reverse=True)
    assert ys.tolist() == [5.0, 3.0, 0.0]
    last, ys = fg.scan(lambda c, x: (c + x, c * x), t([7.0]), t(np.zeros((0, 1))))
    assert last.tolist() == [7.0]
    assert ys.shape == (0, 1)
    x = t([2.0], requires_grad=True)
    total = fg.scan(lambda c, r: (c * x + r, None), x, t(np.zeros((0, 1))))[0].sum()
    assert fg.autograd.grad(total, x)[0].tolist() == [1.0]


def test_initial_numbers_take_the_dtype_that_the_loop_gives_them():
    total = fg.scan(lambda c, x: (c + x, None), 0, t([0.5, 0.25]))[0]
    assert total.dtype is f64
    assert total.item() == 0.75


def test_initial_numbers_are_promoted_from_what_was_written():
    step = fg.while_loop(lambda c: c[1] < 3.0, lambda c: (c[0], c[1] + t(1.0)), (1e-5, 0.1))
    assert step[1].item() == 0.1 + 1.0 + 1.0 + 1.0
    assert fg.scan(lambda c, x: (c * x, None), 1e-5, t([1.0]))[0].item() == 1e-5


@pytest.mark.parametrize("checkpoint", [None, "sqrt", 64, 10**9])
@pytest.mark.parametrize("reverse", [False, True])
def test_checkpoints_change_memory_and_nothing_else(checkpoint, reverse):
    xs = t(rng.normal(size=(11, 2)), requires_grad=True)
    w = t([0.3, -0.8], requires_grad=True)

    def f(w, xs):
        last, ys = fg.scan(
            lambda h, x: (fg.tanh(h * w + x), (h * x).sum()),
            fg.zeros(2, dtype=f64),
            xs,
            reverse=reverse,
            checkpoint=checkpoint,
        )
        return last.sum() + (ys * ys).sum()

    def plain(w, xs):
        h, total = fg.zeros(2, dtype=f64), 0
        for k in reversed(range(11)) if reverse else range(11):
            total = total + (h * xs[k]).sum() ** 2
            h = fg.tanh(h * w + xs[k])
        return h.sum() + total

    np.testing.assert_allclose(f(w, xs).item(), plain(w, xs).item(), rtol=1e-13)
    found = fg.autograd.grad(f(w, xs), (w, xs))
    want = fg.autograd.grad(plain(w, xs), (w, xs))
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-13)


def test_derivatives_of_scan_and_map_to_second_order():
    w = t([[0.5, -0.3], [0.2, 0.9]], requires_grad=True)
    xs = t(rng.normal(size=(4, 2)), requires_grad=True)

    def recurrent(w, xs):
        h, ys = fg.scan(lambda h, x: ((k := fg.tanh(w @ h + x)), k.sum()), xs[0], xs)
        return h.sum() + (ys * ys).sum()

    def mapped(w, xs):
        return fg.map(lambda x: (fg.sin(w @ x) * x).sum(), xs)

    for f in (recurrent, mapped):
        assert gradcheck(f, (w, xs))
        assert gradgradcheck(f, (w, xs))


def test_no_grad_inside_a_loop_holds():
    x = t(2.0, requires_grad=True)

    def f(c, _):
        with fg.no_grad():
            frozen = c * x
        return c * x + frozen.detach(), None

    def plain():
        c = x
        for _ in range(2):
            c = c * x + (c * x).detach()
        return c

    found = fg.autograd.grad(fg.scan(f, x, length=2)[0], x)[0]
    assert found.item() == fg.autograd.grad(plain(), x)[0].item()


def test_reverse_of_map_stores_nothing_an_item(tier):
    if tier == "never":
        pytest.skip("about compiled programs")

    def loss_and_gradient(w, xs):
        w = w.requires_grad_()
        total = fg.map(lambda x: (fg.sin(x * w).exp() * x).sum(), xs).sum()
        return total, fg.autograd.grad(total, w)[0]

    from flatgrad.transform.trace import quiet

    with quiet(grad=True):
        few = _arena(loss_and_gradient, 3, 1000)  # rows run in blocks of a few hundred
        many = _arena(loss_and_gradient, 3, 5000)
    assert many - few <= 64 + 8 * 4000  # the items' own results, and nothing else


def _arena(function, n, items):
    w = fg.tensor(np.zeros(n), requires_grad=True)
    xs = fg.tensor(np.zeros((items, n)))
    from flatgrad.graph.node import placeholder
    from flatgrad.tensor import node_of, wrap
    from flatgrad.transform.trace import close

    inputs = [placeholder(0, (n,), f64, True), placeholder(1, (items, n), f64)]
    outs = function(*[wrap(i) for i in inputs])
    graph, captured = close(inputs, [node_of(o) for o in outs])
    assert not captured
    assert w.shape == (n,)
    assert xs.shape == (items, n)
    made, _ = simplify(graph.inputs, graph.outputs, graph.order, {i: i for i in inputs})
    return lower(made).arena_bytes


# -- while, fori ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"bound": 20}, {"memory": 4096}])
def test_while_loop_of_unknown_length_runs_backwards(options):
    x = t(1.3, requires_grad=True)

    def f(x):
        state = fg.while_loop(
            lambda s: s["y"] < 100.0,
            lambda s: {"y": s["y"] * x + fg.sin(s["y"]), "n": s["n"] + 1},
            {"y": x * 2, "n": 0},
            **options,
        )
        return state["y"]

    def plain(x):
        y = x * 2
        while y.item() < 100.0:
            y = y * x + fg.sin(y)
        return y

    np.testing.assert_allclose(f(x).item(), plain(x).item(), rtol=1e-13)
    assert gradcheck(f, (x,))
    assert gradgradcheck(f, (x,))
    _, tangent = fg.autograd.functional.jvp(f, x.detach(), t(1.0))
    np.testing.assert_allclose(tangent.item(), fg.autograd.grad(f(x), x)[0].item(), rtol=1e-12)


def test_a_while_loop_may_run_longer_than_one_segment():
    x = t(0.999, requires_grad=True)
    # 8 bytes of carry and 64 of memory: segments of four iterations, four of them.
    y = fg.while_loop(lambda y: y > 0.99, lambda y: y * x, x, memory=64)
    got = fg.autograd.grad(y, x)[0].item()
    steps = int(np.ceil(np.log(0.99) / np.log(0.999)))
    np.testing.assert_allclose(got, steps * 0.999 ** (steps - 1), rtol=1e-11)


def test_bounds_are_enforced_when_the_loop_runs():
    with pytest.raises(LoopError, match="bound of 5 iterations"):
        fg.while_loop(lambda y: y < 1e9, lambda y: y * 2.0, t(1.0), bound=5).item()
    assert fg.while_loop(lambda y: y < 32.0, lambda y: y * 2.0, t(1.0), bound=5).item() == 32.0
    assert fg.while_loop(lambda y: y < 0.0, lambda y: y * 2.0, t(1.0), bound=5).item() == 1.0


def test_fori_loop_with_known_and_computed_bounds():
    x = t(1.1, requires_grad=True)
    for upper in (4, fg.tensor(4), fg.tensor(4, dtype=fg.int32)):
        y = fg.fori_loop(1, upper, lambda i, c: c * x + i, x)
        c = 1.1
        for i in range(1, 4):
            c = c * 1.1 + i
        np.testing.assert_allclose(y.item(), c, rtol=1e-6)
        h = 1e-6
        near = [
            fg.fori_loop(1, 4, lambda i, c, v=v: c * v + i, t(v)).item() for v in (1.1 - h, 1.1 + h)
        ]
        slope = (near[1] - near[0]) / (2 * h)
        np.testing.assert_allclose(fg.autograd.grad(y, x)[0].item(), slope, rtol=1e-6)
    assert fg.fori_loop(3, 1, lambda i, c: c * 0, 5).item() == 5


# -- branches -------------------------------------------------------------------------------------


def test_cond_runs_and_differentiates_one_branch():
    def f(x):
        return fg.cond(x.sum() > 0, lambda x: (x**3).sum(), lambda x: fg.log(-x).sum(), x)

    for values in ([0.5, 1.5], [-0.5, -1.5]):
        x = t(values, requires_grad=True)
        assert np.isfinite(fg.autograd.grad(f(x), x)[0].numpy()).all()
        assert gradcheck(f, (x,))
        assert gradgradcheck(f, (x,))


def test_branches_may_capture_different_things():
    a, b = t(2.0, requires_grad=True), t(3.0, requires_grad=True)
    x = t(1.0)
    y = fg.cond(x > 0, lambda: {"r": a * a}, lambda: {"r": b * 5})
    ga, gb = fg.autograd.grad(y["r"], (a, b), materialize_grads=True)
    assert (y["r"].item(), ga.item(), gb.item()) == (4.0, 4.0, 0.0)


def test_switch_clamps_its_index():
    branches = [lambda x: x + 1, lambda x: x * 10, lambda x: -x]
    found = [fg.switch(fg.tensor(k), branches, t(2.0)).item() for k in (-3, 0, 1, 2, 9)]
    assert found == [3.0, 3.0, 20.0, -2.0, -2.0]
    assert fg.switch(7, branches, 2.0).item() == -2.0


def test_a_known_condition_records_one_branch():
    assert fg.cond(True, lambda x: x + 1, lambda x: 1 / 0, 1) == 2


def test_checkpointed_functions_are_the_functions(tier):
    w = t(rng.normal(size=(3, 3)), requires_grad=True)
    x = t(rng.normal(size=(4, 3)), requires_grad=True)

    def f(x):
        return fg.tanh(fg.sin(x @ w) * 2).exp()

    def chain(g):
        return g(g(x)).sum()

    for a, b in zip(
        fg.autograd.grad(chain(fg.checkpoint(f)), (x, w)),
        fg.autograd.grad(chain(f), (x, w)),
        strict=True,
    ):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
    assert gradgradcheck(lambda x: fg.checkpoint(f)(x).sum(), (x,))


# -- what is compiled -----------------------------------------------------------------------------


def _loops(p):
    return [type(s).__name__ for s, _ in walk(p.body)]


def test_loops_and_branches_are_loops_and_branches(tier):
    if tier == "never":
        pytest.skip("about compiled programs")
    p = program(
        lambda x: (
            fg.while_loop(lambda c: c < 10.0, lambda c: c * 2.0, x),
            fg.scan(lambda c, _: (fg.cond(c > 1, fg.sin, fg.cos, c), None), x, length=5)[0],
        ),
        np.array(1.0),
    )
    kinds = _loops(p)
    assert kinds.count("While") == 1
    assert kinds.count("For") == 1
    assert kinds.count("If") == 1


def test_a_value_and_its_derivatives_share_one_loop(tier):
    if tier == "never":
        pytest.skip("about compiled programs")

    def f(x):
        return fg.scan(lambda c, _: (fg.sin(c) * x, None), x, length=9)[0]

    def both(x):
        value = f(x)
        return value, fg.autograd.functional.jvp(f, x, fg.ones_like(x), create_graph=True)[1]

    p = program(both, np.array(1.0))
    assert _loops(p).count("For") == 1
    calls = sum(str(s).count("call") + str(s).count("sin") for s, _ in walk(p.body))
    assert calls >= 1


def test_unchanging_work_leaves_the_loop(tier):
    if tier == "never":
        pytest.skip("about compiled programs")
    p = program(
        lambda w, xs: (fg.scan(lambda c, x: (c + (fg.exp(w) * x).sum(), None), 0.0, xs)[0],),
        np.zeros(7),
        np.zeros((5, 7)),
    )
    inside = [s for s, path in walk(p.body) if path and path[0].axis.extent == 5]
    assert inside
    assert not any("exp" in repr(s) for s in inside)


# -- wrong use ------------------------------------------------------------------------------------

WRONG = [
    (lambda: fg.scan(lambda c, x: c, t(0.0), t([1.0])), ArgumentError, "pair"),
    (lambda: fg.scan(lambda c, x: (c, x), t(0.0)), ArgumentError, "pass length"),
    (lambda: fg.scan(lambda c, x: (c, x), t(0.0), t(1.0)), ShapeError, "first dimension"),
    (
        lambda: fg.scan(lambda c, x: (c, x), t(0.0), (t([1.0]), t([1.0, 2.0]))),
        ShapeError,
        r"same number of rows, 1, got 2 in xs\[1\]",
    ),
    (lambda: fg.scan(lambda c, x: (c, x), t(0.0), length=-1), ArgumentError, "int >= 0, got -1"),
    (
        lambda: fg.scan(lambda c, x: (fg.stack([c, c]), None), t([1.0]), length=2),
        ShapeError,
        r"keep its shape \(1,\), got \(2, 1\)",
    ),
    (
        lambda: fg.scan(lambda c, x: ({"b": c["a"]}, None), {"a": t(1.0)}, length=2),
        ArgumentError,
        "structure",
    ),
    (
        lambda: fg.scan(lambda c, x: (c > 0, None), t([1.0]), length=2),
        DTypeError,
        "keep its dtype",
    ),
    (
        lambda: fg.scan(lambda c, x: (c, None), t(1.0), length=2, checkpoint="half"),
        ArgumentError,
        "checkpoint must be",
    ),
    (lambda: fg.scan(lambda c, x: (c, None), "text", length=2), ArgumentError, "must be a tensor"),
    (lambda: fg.scan(lambda c, x: (c, "text"), t(1.0), length=2), ArgumentError, "result of f"),
    (lambda: fg.map(lambda x: x, t(1.0)), ShapeError, "first dimension"),
    (lambda: fg.while_loop(lambda c: c, lambda c: c, t(1.0)), DTypeError, "must return a bool"),
    (lambda: fg.while_loop(lambda c: c > 0, lambda c: c, t([1.0])), ShapeError, "without dimen"),
    (
        lambda: fg.while_loop(lambda c: c > 0, lambda c: (c, c), t(1.0)),
        ArgumentError,
        "structure",
    ),
    (
        lambda: fg.while_loop(lambda c: c > 0, lambda c: c, t(1.0), bound=0),
        ArgumentError,
        "bound must be a positive int",
    ),
    (lambda: fg.fori_loop(0, t(2.0), lambda i, c: c, t(1.0)), ArgumentError, "must be an integer"),
    (lambda: fg.cond(t(1.0), lambda: 1, lambda: 2), ArgumentError, "one bool"),
    (
        lambda: fg.cond(t(1.0) > 0, lambda: t(1.0), lambda: t([1.0])),
        ArgumentError,
        "all branches must return the same",
    ),
    (lambda: fg.switch(fg.tensor(0), []), ArgumentError, "at least one branch"),
    (lambda: fg.switch(t(0.5), [lambda: 1]), ArgumentError, "one integer"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_wrong_use_is_refused_with_a_remedy(case, tier):
    if tier == "always":
        pytest.skip("refused while recording, in either tier")
    call, kind, words = WRONG[case]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert isinstance(caught.value, FlatgradError)
    assert re.search("; |got", str(caught.value))


# -- carries that are changed in place ------------------------------------------------------------


def _writing(c, x):
    """Writes, sums and swaps that all read carries which others of them change."""
    w, v, buf, n = c
    new_w = w + fg.outer(w.T @ x, v)
    new_buf = fg.index_put(buf, (n.reshape(1),), (buf[n + 1] * x[0]).reshape(1))
    new_buf = fg.index_put(new_buf, ((n + 2).reshape(1),), (buf[n] + v[0]).reshape(1))
    new_buf = fg.slice_scatter(new_buf, buf[:2] * 0.5, 0, 4, 6)
    return (new_w, fg.tanh(w @ v), new_buf, n + 1), buf.sum() + v[0]


def test_carries_are_changed_in_place_and_read_before():
    xs = t(rng.normal(size=(3, 2)) * 0.5)
    start = lambda a: (a.reshape(2, 2), a[:2], fg.cat([a, a * 2]), fg.tensor(0))  # noqa: E731

    def looped(a):
        (w, v, buf, _), ys = fg.scan(_writing, start(a), xs)
        return w.sum() + (v * v).sum() + (buf * fg.arange(8)).sum() + (ys * ys).sum()

    def plain(a):
        c, total = start(a), 0
        for k in range(3):
            c, y = _writing(c, xs[k])
            total = total + y * y
        return c[0].sum() + (c[1] * c[1]).sum() + (c[2] * fg.arange(8)).sum() + total

    a = t([0.3, -0.2, 0.9, 0.5], requires_grad=True)
    np.testing.assert_allclose(looped(a).item(), plain(a).item(), rtol=1e-13)
    np.testing.assert_allclose(
        fg.autograd.grad(looped(a), a)[0].numpy(),
        fg.autograd.grad(plain(a), a)[0].numpy(),
        rtol=1e-11,
    )


def test_one_element_written_an_iteration_costs_one_store(tier):
    if tier == "never":
        pytest.skip("about compiled programs")

    def step(buf, i):
        return fg.index_put(buf, ((i + 1).reshape(1),), (buf[i] * 1.5).reshape(1)), None

    p = program(lambda b, n: (fg.scan(step, b, n)[0],), np.zeros(50), np.arange(40))
    inside = [path for s, path in walk(p.body) if type(s).__name__ in ("Store", "AccumStore")]
    assert all(len([x for x in path if type(x).__name__ == "For"]) <= 1 for path in inside)
