"""backward and grad: values, accumulation, arguments and errors, side by side with PyTorch."""

import gc
import threading
import time
import warnings

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import cached
from flatgrad.errors import GradientError
from flatgrad.graph.node import Node
from flatgrad.tensor import node_of, take_demanded

DATA = np.array([0.5, -1.25, 2.0])


def leaf(values=DATA):
    return fg.tensor(np.array(values, float), requires_grad=True)


def value(t):
    return t.detach().numpy()


def both(function, *arrays):
    """(our gradients, PyTorch's) of the sum of ``function(*tensors)``."""
    torch = pytest.importorskip("torch")
    ours = [leaf(a) for a in arrays]
    theirs = [torch.tensor(np.array(a, float), requires_grad=True) for a in arrays]
    function(*ours).sum().backward()
    function(*theirs).sum().backward()
    for o, t in zip(ours, theirs, strict=True):
        assert np.isfinite(t.grad.numpy()).all()
        assert t.grad.abs().sum() > 0
        np.testing.assert_allclose(value(o.grad), t.grad.numpy(), rtol=1e-12)
    return ours


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x * 3 + x,
        lambda x: x.exp() * x.sin(),
        lambda x: (x.reshape(3, 1) * x).exp(),
        lambda x: x[1:] * x[:-1] * x[0],
        lambda x: (x * x).sum() * x,
    ],
)
def test_gradients_match_torch(function):
    both(function, DATA)


def test_two_inputs_broadcast():
    both(lambda x, y: x.reshape(3, 1) * y.exp(), DATA, [0.1, 0.7])


def test_third_derivatives_match_torch():
    torch = pytest.importorskip("torch")

    def third(lib, x):
        y = (x.exp() * x.sin() * x).sum()
        for _ in range(3):
            (g,) = lib.autograd.grad(y, x, create_graph=True)
            y = g.sum()
        return g

    ours = third(fg, leaf())
    theirs = third(torch, torch.tensor(DATA, requires_grad=True)).detach().numpy()
    assert np.abs(theirs).min() > 0.1
    np.testing.assert_allclose(value(ours), theirs, rtol=1e-12)


def test_the_issues_own_lines():
    x = fg.tensor([2.0], requires_grad=True)
    y = x * x + 3 * x + 1
    (g,) = fg.autograd.grad(y, x)
    assert value(g) == [7.0]
    assert not g.requires_grad


def test_accumulation_is_in_place_as_in_torch():
    torch = pytest.importorskip("torch")
    for lib, x in ((fg, leaf()), (torch, torch.tensor(DATA, requires_grad=True))):
        (x * x).sum().backward()
        first = x.grad
        (x * 3).sum().backward()
        assert x.grad is first, lib.__name__
        np.testing.assert_allclose(first.detach().numpy(), 2 * DATA + 3)
        assert not x.grad.requires_grad


def test_accumulation_with_create_graph_makes_a_differentiable_sum():
    x = leaf()
    (x * x * x).sum().backward(create_graph=True)
    first = x.grad
    assert first.requires_grad
    (x * x * x).sum().backward(create_graph=True)
    assert x.grad is not first
    np.testing.assert_allclose(value(x.grad), 6 * DATA**2)
    (second,) = fg.autograd.grad(x.grad.sum(), x)
    np.testing.assert_allclose(value(second), 12 * DATA)


def test_gradients_of_two_leaves_are_apart():
    x, y = leaf(), leaf()
    (x + y).sum().backward()
    x.grad.add_(fg.tensor([1.0, 1.0, 1.0], dtype=fg.float64))
    assert (value(x.grad) == 2).all()
    assert (value(y.grad) == 1).all()


def test_the_users_gradient_is_not_the_leafs():
    x = leaf()
    g = fg.tensor([1.0, 2.0, 3.0], dtype=fg.float64)
    x.backward(g)
    assert x.grad is not g
    g.mul_(10)
    assert value(x.grad).tolist() == [1.0, 2.0, 3.0]


def test_seed_from_shared_memory_is_read_when_given():
    x = leaf()
    array = np.array([1.0, 2.0, 3.0])
    (x * 2).backward(fg.from_numpy(array))
    array[:] = 100
    assert value(x.grad).tolist() == [2.0, 4.0, 6.0]


def test_only_leaves_accumulate_and_others_warn():
    x = leaf()
    y = x * 2
    y.sum().backward()
    with pytest.warns(UserWarning, match="not a leaf"):
        assert y.grad is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert x.grad is not None
        assert fg.tensor([1.0]).grad is None


def test_inputs_of_backward():
    x, z = leaf(), leaf()
    y = x * 2
    (y * y * z).sum().backward(inputs=[y, z])
    assert x.grad is None
    np.testing.assert_allclose(value(z.grad), 4 * DATA**2)
    np.testing.assert_allclose(value(y.grad), 4 * DATA**2)
    assert y.retains_grad


def test_backward_through_an_updated_parameter_reaches_its_tensor():
    x = leaf()
    y = (x * 2).sum()
    with fg.no_grad():
        x.sub_(1.0)
    y.backward()
    assert (value(x.grad) == 2).all()


def test_grad_of_a_result_on_the_way():
    x = leaf()
    y = x.exp()
    z = (y * y).sum()
    gx, gy = fg.autograd.grad(z, [x, y])
    np.testing.assert_allclose(value(gy), 2 * np.exp(DATA))
    np.testing.assert_allclose(value(gx), 2 * np.exp(2 * DATA))


def test_the_rule_of_a_wanted_result_is_not_run():
    x = leaf()
    y = x.exp()
    fg.autograd.grad((y * y).sum(), y)
    (g,) = fg.autograd.grad((y * 2).sum(), x)  # exp was not freed
    np.testing.assert_allclose(value(g), 2 * np.exp(DATA))


def test_duplicate_inputs_and_outputs():
    x = leaf()
    y = (x * x).sum()
    a, b = fg.autograd.grad([y], [x, x], retain_graph=True)
    np.testing.assert_array_equal(value(a), value(b))
    (c,) = fg.autograd.grad([y, y], x)
    np.testing.assert_allclose(value(c), 4 * DATA)


def test_unused_and_materialized():
    x, z = leaf(), leaf([1.0, 2.0])
    y = (x * x).sum()
    with pytest.raises(GradientError, match=r"index 1.*allow_unused"):
        fg.autograd.grad(y, [x, z], retain_graph=True)
    assert fg.autograd.grad(y, [z], allow_unused=True, retain_graph=True) == (None,)
    _, zero = fg.autograd.grad(y, [x, z], materialize_grads=True)
    assert value(zero).tolist() == [0.0, 0.0]


def test_batched_gradients():
    x = leaf()
    y = x * x
    (rows,) = fg.autograd.grad(y, x, fg.tensor(np.eye(3)), is_grads_batched=True)
    np.testing.assert_allclose(value(rows), np.diag(2 * DATA))
    with pytest.raises(RuntimeError, match="is_grads_batched"):
        fg.autograd.grad(x * x, x, fg.tensor(np.eye(2)), is_grads_batched=True)


def test_batched_gradients_of_several_tensors_and_their_gradients(rng):
    w, x, unused = leaf(rng.normal(size=(4, 3))), leaf(rng.normal(size=3)), leaf()
    y, z = fg.tanh(w @ x), (w * w).sum()
    seeds = [fg.tensor(rng.normal(size=(5, 4))), fg.tensor(rng.normal(size=5))]
    options = {"allow_unused": True, "create_graph": True}
    found = fg.autograd.grad((y, z), (w, x, unused), seeds, is_grads_batched=True, **options)
    assert found[2] is None
    one = [
        fg.autograd.grad((y, z), (w, x), [s[k] for s in seeds], create_graph=True) for k in range(5)
    ]
    for k, many in enumerate(found[:2]):
        each = fg.stack([g[k] for g in one])
        np.testing.assert_allclose(value(many), value(each), rtol=1e-12)
        have = fg.autograd.grad((many**2).sum(), (w, x), retain_graph=True)
        want = fg.autograd.grad((each**2).sum(), (w, x), retain_graph=True)
        for a, b in zip(have, want, strict=True):
            np.testing.assert_allclose(value(a), value(b), rtol=1e-10)


def test_batched_gradients_through_a_function_that_reads_values():
    class Double(fg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return fg.tensor(2 * g.numpy())  # NumPy: one cotangent after the other

    x = leaf()
    (rows,) = fg.autograd.grad(Double.apply(x), x, fg.tensor(np.eye(3)), is_grads_batched=True)
    np.testing.assert_allclose(value(rows), 2 * np.eye(3))


def test_jacobians_at_once(rng):
    a = fg.tensor(rng.normal(size=(2, 3)))
    b = fg.tensor(rng.normal(size=3))

    def f(a, b):
        return fg.sin(a) * b, (a @ b).sum(), fg.ones(2)

    jacobian = fg.autograd.functional.jacobian
    for have, want in zip(jacobian(f, (a, b), vectorize=True), jacobian(f, (a, b)), strict=True):
        for h, w in zip(have, want, strict=True):
            assert h.shape == w.shape
            np.testing.assert_allclose(value(h), value(w), rtol=1e-12)


def test_grad_mode_does_not_matter_to_grad():
    x = leaf()
    y = (x * x * x).sum()
    with fg.no_grad():
        (g,) = fg.autograd.grad(y, x, create_graph=True)
    assert g.requires_grad
    np.testing.assert_allclose(value(fg.autograd.grad(g.sum(), x)[0]), 6 * DATA)


# -- freed graphs ---------------------------------------------------------------------------------


def test_second_backward_raises_where_values_were_saved():
    x = leaf()
    y = x.exp().sum()
    y.backward()
    with pytest.raises(GradientError, match=r"second time.*exp.*retain_graph=True"):
        y.backward()


@pytest.mark.parametrize("evaluated", [False, True])
def test_second_backward_is_free_where_nothing_was_saved(evaluated):
    x = leaf()
    y = (x + x).reshape(3, 1).sum() * 2
    if evaluated:
        y.item()
    y.backward()
    y.backward()
    assert (value(x.grad) == 8).all()


@pytest.mark.parametrize("hooked", [False, True])
def test_retained_graphs_can_be_used_again(hooked):
    x = leaf()
    if hooked:
        x.register_hook(lambda g: None)
    y = (x.exp() * x).sum()
    y.backward(retain_graph=True)
    first = value(x.grad).copy()
    y.backward()
    np.testing.assert_allclose(value(x.grad), 2 * first)
    with pytest.raises(GradientError, match="second time"):
        fg.autograd.grad(y, x)


def test_freed_nodes_forget_their_inputs():
    x = leaf()
    y = x.exp()
    y.detach().numpy()
    z = y.sum()
    z.backward()
    z.item()
    with pytest.raises(GradientError, match="second time"):
        (y * 2).sum().backward()


def test_shared_subgraph_freed_by_another_output():
    x = leaf()
    shared = x.exp()
    a, b = (shared * 2).sum(), (shared + 1).sum()
    a.backward()
    with pytest.raises(GradientError, match="second time"):
        b.backward()


def test_state_is_unchanged_after_an_error():
    x = leaf()
    y = x.exp()
    with pytest.raises(GradientError):
        y.backward()
    y.sum().backward()
    np.testing.assert_allclose(value(x.grad), np.exp(DATA))


# -- wrong calls, PyTorch's error classes ---------------------------------------------------------

BAD = {
    "not scalar": lambda lib, x, t: (x * 2).backward(),
    "no history": lambda lib, x, t: (t * 2).sum().backward(),
    "shape": lambda lib, x, t: (x * 2).backward(t[:2]),
    "number": lambda lib, x, t: lib.autograd.backward([(x * 2).sum()], [3]),
    "no inputs": lambda lib, x, t: lib.autograd.grad((x * 2).sum(), []),
    "no inputs in backward": lambda lib, x, t: (x * 2).sum().backward(inputs=[]),
    "input without grad": lambda lib, x, t: lib.autograd.grad((x * 2).sum(), t),
    "backward input without grad": lambda lib, x, t: (x * 2).sum().backward(inputs=t),
    "input no tensor": lambda lib, x, t: lib.autograd.grad((x * 2).sum(), [3]),
    "unused": lambda lib, x, t: lib.autograd.grad((x * 2).sum(), t.clone().requires_grad_()),
    "materialize": lambda lib, x, t: lib.autograd.grad(
        (x * 2).sum(), x, allow_unused=False, materialize_grads=True
    ),
    "integers": lambda lib, x, t: t.to(lib.int64).sum().backward(),
    "detached": lambda lib, x, t: x.detach().sum().backward(),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_torchs(name):
    torch = pytest.importorskip("torch")
    call = BAD[name]
    with pytest.raises(Exception) as theirs:
        call(torch, torch.tensor(DATA, requires_grad=True), torch.tensor(DATA))
    with pytest.raises(type(theirs.value)) as ours:
        call(fg, leaf(), fg.tensor(DATA))
    assert isinstance(ours.value, fg.errors.FlatgradError)
    assert ":" in str(ours.value)


def test_seeds_of_another_dtype_are_converted_as_in_torch():
    x = leaf()
    (x * 2).backward(fg.tensor([1, 2, 3]))
    assert x.grad.dtype is fg.float64
    assert value(x.grad).tolist() == [2.0, 4.0, 6.0]


def test_deprecated_names_still_work():
    x = leaf()
    with pytest.warns(FutureWarning, match="grad_variables"):
        fg.autograd.backward(x * 2, grad_variables=fg.tensor(np.ones(3)))
    assert (value(x.grad) == 2).all()
    with pytest.raises(RuntimeError, match="grad_tensors only"):
        fg.autograd.backward(x * 2, fg.tensor(np.ones(3)), grad_variables=fg.tensor(np.ones(3)))


# -- the cache ------------------------------------------------------------------------------------


def _model(x, w, b):
    return ((x @ w + b).exp() * 0.5).sum()


def test_cached_and_direct_gradients_agree():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in ((4, 3), (3, 2), (2,))]
    results = []
    for direct in (False, True):
        tensors = [leaf(a) for a in arrays]
        if direct:
            tensors[1].register_hook(lambda g: None)
        _model(*tensors).backward()
        results.append([value(t.grad) for t in tensors])
    for a, b in zip(*results, strict=True):
        assert np.abs(a).min() > 0
        np.testing.assert_array_equal(a, b)


def test_the_same_structure_is_traced_once(monkeypatch):
    made = _count_plans(monkeypatch)
    rng = np.random.default_rng(1)
    for _ in range(4):
        tensors = [leaf(rng.standard_normal(s)) for s in ((4, 7), (7, 2), (2,))]
        _model(*tensors).backward()
        expected = np.exp(value(tensors[0]) @ value(tensors[1]) + value(tensors[2])).sum(0) * 0.5
        np.testing.assert_allclose(value(tensors[2].grad), expected)
    assert len(made) == 1
    wider = [leaf(rng.standard_normal(s)) for s in ((5, 7), (7, 2), (2,))]
    _model(*wider).backward()
    assert len(made) == 2


def test_structures_that_differ_in_wiring_alone_are_told_apart():
    def gradient(function):
        x, y = leaf(), leaf([3.0, 5.0, 7.0])
        function(x, y).sum().backward()
        return value(x.grad)

    np.testing.assert_allclose(gradient(lambda x, y: (x * y) * x), 2 * DATA * [3, 5, 7])
    np.testing.assert_allclose(gradient(lambda x, y: (x * y) * y), np.array([9.0, 25, 49]))
    np.testing.assert_allclose(gradient(lambda x, y: (x * 2) * y), [6.0, 10, 14])
    np.testing.assert_allclose(gradient(lambda x, y: (x * 4) * y), [12.0, 20, 28])


def _count_plans(monkeypatch):
    made = []
    original = cached._make_plan

    def make(*args, **options):
        made.append(1)
        return original(*args, **options)

    monkeypatch.setattr(cached, "_make_plan", make)
    return made


def test_numbers_that_keep_changing_are_traced_a_few_times_only(monkeypatch):
    made = _count_plans(monkeypatch)
    for k in range(40):
        x = leaf()
        weight = 0.5 + k / 7
        ((x.exp() * weight) ** 3 / weight).sum().backward()
        np.testing.assert_allclose(value(x.grad), 3 * weight**2 * np.exp(3 * DATA), rtol=1e-12)
    assert len(made) == cached.VARIANTS + 1


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(cached, "PLAN_LIMIT", 3)
    monkeypatch.setattr(cached, "_plans", type(cached._plans)())
    monkeypatch.setattr(cached, "_families", type(cached._families)())
    made = _count_plans(monkeypatch)
    for _ in range(2):
        for n in range(1, 6):
            x = leaf(np.ones(n))
            (x * x).sum().backward()
            assert value(x.grad).tolist() == [2.0] * n
        assert len(cached._plans) == len(cached._families) == 3
    assert len(made) == 10


def test_backward_computes_nothing_and_registers_its_gradients():
    take_demanded()
    x = leaf()
    y = (x.exp() * x).sum()
    y.backward()
    assert node_of(y).value is None
    assert node_of(x.grad).value is None
    assert node_of(x.grad) in take_demanded()


def test_evaluating_the_loss_computes_the_gradients_too():
    x = leaf()
    y = (x.exp() * x).sum()
    y.backward()
    y.item()
    assert node_of(x.grad).value is not None


def test_a_training_loop_by_hand_keeps_no_history():
    w = leaf(np.ones((5, 3)))
    x = fg.tensor(np.full((4, 5), 0.1))

    def nodes_after(steps):
        for _ in range(steps):
            w.grad = None
            loss = (x @ w).exp().mean()
            loss.backward()
            with fg.no_grad():
                w.sub_(w.grad * 0.01)
            loss.item()
        gc.collect()
        return sum(type(o) is Node for o in gc.get_objects())

    first = nodes_after(5)
    assert nodes_after(40) <= first + 10


# -- size and threads -----------------------------------------------------------------------------


def test_a_chain_of_100_000_operations():
    x = fg.tensor([1.0], dtype=fg.float64, requires_grad=True)

    def run(n):
        start = time.perf_counter()
        y = x
        for _ in range(n):
            y = y * 1.00001
        (g,) = fg.autograd.grad(y, x)
        result = g.item()
        del y, g
        gc.collect()
        return result, time.perf_counter() - start

    _, short = run(10_000)
    result, long = run(100_000)
    assert result == pytest.approx(1.00001**100_000, rel=1e-9)
    assert long < 40 * short  # linear: ten times the work, with room for a busy machine


def test_a_long_chain_that_saves_values():
    x = fg.tensor([0.3], dtype=fg.float64, requires_grad=True)
    y, expected, derivative = x, 0.3, 1.0
    for _ in range(6_000):
        y = y.sin()
        derivative *= np.cos(expected)
        expected = np.sin(expected)
    y.backward()
    assert x.grad.item() == pytest.approx(derivative, rel=1e-9)


def test_concurrent_backward_on_separate_graphs():
    failures = []

    def work(seed):
        try:
            rng = np.random.default_rng(seed)
            for _ in range(20):
                tensors = [leaf(rng.standard_normal(s)) for s in ((4, 3), (3, 2), (2,))]
                _model(*tensors).backward()
                expected = np.exp(value(tensors[0]) @ value(tensors[1]) + value(tensors[2]))
                np.testing.assert_allclose(value(tensors[2].grad), expected.sum(0) * 0.5)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


# -- grad_fn --------------------------------------------------------------------------------------


def test_grad_fn_shows_the_graph():
    x = leaf()
    assert x.grad_fn is None
    assert x.is_leaf
    assert fg.tensor([1.0]).grad_fn is None
    y = x * x.exp()
    assert y.grad_fn.name() == "MulBackward0"
    assert not y.is_leaf
    (first, zero), (second, _) = y.grad_fn.next_functions
    assert first.name() == "AccumulateGrad"
    assert first.variable is x
    assert zero == 0
    assert second.name() == "ExpBackward0"
    assert second.next_functions[0][0] == first
    assert y.grad_fn == y.grad_fn
    assert (y * 2).grad_fn.next_functions[1] == (None, 0)


def test_hand_made_cotangents_of_several_outputs():
    x = leaf()
    a, b = x * 2, x * x
    fg.autograd.backward([a, b], [fg.tensor(np.ones(3)), fg.tensor(DATA)])
    np.testing.assert_allclose(value(x.grad), 2 + 2 * DATA**2)
