"""fg.jit: signatures and traces, captured tensors, derivatives, memory given and taken, wrong use."""

from __future__ import annotations

import inspect
import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import errors


@pytest.fixture(autouse=True)
def doubles():
    fg.set_default_dtype(fg.float64)


@pytest.fixture(params=["never", "always"])
def tier(request):
    with fg.set_compile(request.param):
        yield request.param


def weighted(x, n):
    return (fg.sin(x) * n).sum()


def traces(f) -> int:
    return len(f.explain().signatures)


class Pair(NamedTuple):
    first: object
    second: object


@dataclass
class State:
    position: object
    speed: object


# -- signatures -----------------------------------------------------------------------------------


def test_values_of_all_kinds_of_arguments(tier):
    f = fg.jit(weighted)
    x = np.array([0.3, -2.0])
    want = (np.sin(x) * 3.0).sum()
    for argument in (x, fg.tensor(x), x.reshape(1, 2)[0], np.array([0.3, 9, -2.0])[::2]):
        found = f(argument, 3.0)
        assert isinstance(found, fg.Tensor) and found.dtype is fg.float64
        assert found.item() == pytest.approx(want, rel=1e-15)
    assert traces(f) == 1


def test_a_changing_number_is_no_new_trace(tier):
    ran = []

    def f(x, n):
        ran.append(1)
        return x * n

    f = fg.jit(f)
    x = fg.tensor([1.0, 2.0])
    assert [f(x, k / 7).numpy()[1] for k in range(5)] == [2.0 * (k / 7) for k in range(5)]
    assert len(ran) == traces(f) == 1


def test_numbers_promote_as_numbers_do():
    x = fg.tensor([1.0, 2.0], dtype=fg.float32)
    y = fg.tensor(2.0, dtype=fg.float32)
    n = fg.tensor([1, 2])
    for a, number in ((x, 0.1), (y, 0.1), (n, 0.1), (n, 3), (x, 3), (y, True), (n, True)):
        found, want = fg.jit(lambda a, b: a * b)(a, number), a * number
        assert found.dtype is want.dtype, (a, number)
        assert (found == want).all()


def test_a_number_keeps_its_precision():
    fg.set_default_dtype(fg.float32)
    x = fg.tensor([1.0], dtype=fg.float64)
    assert fg.jit(lambda x, n: x * n)(x, 0.1).item() == 0.1


def test_trees_in_and_out(tier):
    def f(pair, state, extra=None):
        return {"sum": pair.first + state.speed, "rest": [extra, Pair(state.position, 2.0)]}

    f = fg.jit(f)
    args = Pair(np.ones(2), 1.0), State(fg.zeros(3), np.float64(4.0))
    found = f(*args)
    assert found["sum"].tolist() == [5.0, 5.0] and found["rest"][0] is None
    assert type(found["rest"][1]) is Pair and found["rest"][1].first.tolist() == [0.0] * 3
    assert found["rest"][1].second.item() == 2.0
    assert f(*args, extra={"a": 1.0})["rest"][0]["a"].item() == 1.0
    assert traces(f) == 2


def test_modules_are_arguments(tier):
    model = fg.nn.Linear(3, 2)
    f = fg.jit(lambda m, x: m(x).sum())
    x = fg.ones(4, 3)
    f(model, x).backward()
    assert model.weight.grad.tolist() == [[4.0] * 3] * 2
    with fg.no_grad():
        before = f(model, x).item()
        model.bias.add_(1.0)
        assert f(model, x).item() == pytest.approx(before + 8.0)
    assert traces(f) == 1


def test_traces_are_counted_and_explained():
    f = fg.jit(lambda x, mode, scale=1.0: getattr(fg, mode)(x) * scale, static_argnames="mode")
    f(np.ones(3), "sum")
    f(np.ones(3), "sum")
    f(np.ones(4), "sum")
    f(np.ones(4, np.float32), "sum")
    f(np.ones(4), mode="mean")
    f((np.ones(4),)[0], "mean", 2)
    reasons = [s.reason for s in f.explain().signatures]
    assert reasons[0] == "first call"
    assert "x changed from float64[3] to float64[4]" in reasons[1]
    assert "x changed from float64[4] to float32[4]" in reasons[2]
    assert "the static argument mode changed from 'sum' to 'mean'" in reasons[3]
    assert "scale changed from float to int" in reasons[4]
    assert [s.calls for s in f.explain().signatures] == [2, 1, 1, 1, 1]
    first = f.explain().signatures[0]
    assert first.tier == "compiled" and first.compile_seconds > 0 and first.kernels > 0
    assert "x: float64[3]" in repr(f.explain()) and "first call" in repr(f.explain())
    f.clear()
    assert traces(f) == 0


def test_a_changed_structure_is_explained():
    f = fg.jit(lambda d: sum(d.values()))
    f({"a": 1.0})
    f({"a": 1.0, "b": 2.0})
    assert "d['b'] is new" in f.explain().signatures[1].reason


def test_static_values_are_told_apart_by_type():
    f = fg.jit(lambda x, k: x * k, static_argnums=1)
    x = fg.tensor([2])
    assert f(x, 1).dtype is fg.int64 and f(x, 1.0).dtype is fg.float64
    assert traces(f) == 2


def test_statics_with_all_kinds_of_parameters():
    def f(a, /, b, *rest, c=2, **more):
        return a * b * c + sum(rest) + more.get("d", 0)

    for names in (["b"], ["b", "c"], ["a", "c"]):
        found = fg.jit(f, static_argnames=tuple(names))(2.0, 3, 10.0, 20.0, c=5, d=100.0)
        assert found.item() == 160.0
    assert fg.jit(f, static_argnames="c")(2.0, 3.0).item() == 12.0


def test_it_is_a_decorator_and_binds_to_objects():
    class Model:
        @fg.jit
        def plain(self):
            return 1

        @fg.jit(static_argnums=0)
        def scaled(self, x):
            return x * 2.0

    assert Model().scaled(3.0).item() == 6.0
    assert fg.jit(weighted).__name__ == "weighted"
    assert inspect.signature(fg.jit(weighted)) == inspect.signature(weighted)


def test_set_compile_never_interprets():
    f = fg.jit(weighted)
    with fg.set_compile("never"):
        f(np.ones(2), 1.0)
        assert f.explain().signatures[0].tier == "interpreted"
    f(np.ones(2), 1.0)
    assert f.explain().signatures[0].tier == "compiled"
    assert traces(f) == 1


def test_library_routines_run_between_parts(tier, rng):
    a = rng.standard_normal((4, 4)) + 4 * np.eye(4)
    f = fg.jit(lambda a, b: fg.linalg.inv(a * 2.0) @ b + 1.0)
    b = rng.standard_normal(4)
    np.testing.assert_allclose(f(a, b).numpy(), np.linalg.inv(2 * a) @ b + 1.0, rtol=1e-12)


def test_control_flow_is_in_the_program(tier):
    f = fg.jit(lambda x: fg.while_loop(lambda c: c < 100.0, lambda c: c * c, x))
    assert f(2.0).item() == 256.0 and f(11.0).item() == 121.0
    g = fg.jit(lambda x: fg.cond(x.sum() > 0, lambda x: x * 2.0, lambda x: -x, x))
    assert g(np.array([-1.0])).item() == 1.0 and g(np.array([1.0])).item() == 2.0
    assert traces(g) == 1


# -- what is captured -----------------------------------------------------------------------------


def test_captured_tensors_have_their_present_value(tier):
    w = fg.nn.Parameter(fg.tensor([1.0, 2.0]))
    f = fg.jit(lambda x: (w * x).sum() + w[0] + w.sum())
    optimizer = fg.optim.SGD([w], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        found = f(np.array([1.0, 3.0]))
        value = w.detach().numpy().copy()
        assert found.item() == pytest.approx((value * [1.0, 3.0]).sum() + value[0] + value.sum())
        found.backward()
        assert w.grad.tolist() == [3.0, 4.0]
        optimizer.step()
    assert traces(f) == 1


def test_captured_memory_of_numpy_and_views_too(tier):
    array = np.array([1.0, 2.0])
    shared = fg.from_numpy(array)
    buffer = fg.tensor([1.0, 2.0, 3.0])
    view = buffer[1:]
    f = fg.jit(lambda x: (shared[0] + shared.sum()) * x + view.sum() + buffer.reshape(3, 1)[2, 0])
    assert f(1.0).item() == 4.0 + 5.0 + 3.0
    array[0] = 10.0
    buffer[2] = 7.0
    assert f(1.0).item() == 22.0 + 9.0 + 7.0
    assert traces(f) == 1


def test_what_is_recorded_under_no_grad_is_cut():
    w = fg.tensor(2.0, requires_grad=True)

    def f(x):
        with fg.no_grad():
            scale = w * 3.0
        return x * scale + w * x.detach()

    x = fg.tensor(5.0, requires_grad=True)
    for function in (f, fg.jit(f)):
        x.grad = w.grad = None
        function(x).backward()
        assert (x.grad.item(), w.grad.item()) == (6.0, 5.0)


# -- derivatives ----------------------------------------------------------------------------------


def test_derivatives_of_any_order_go_through(tier):
    f = fg.jit(lambda x: fg.sin(x) * x)
    x = fg.tensor(0.7)
    s, c = np.sin(0.7), np.cos(0.7)
    assert fg.grad(f)(x).item() == pytest.approx(c * 0.7 + s)
    assert fg.grad(fg.grad(f))(x).item() == pytest.approx(-s * 0.7 + 2 * c)
    assert fg.jvp(f, (x,), (fg.tensor(2.0),))[1].item() == pytest.approx(2 * (c * 0.7 + s))
    inside = fg.jit(fg.grad(lambda x: f(x) * f(2.0 * x)))
    plain = fg.grad(lambda x: fg.sin(x) * x * fg.sin(2.0 * x) * 2.0 * x)
    assert inside(0.7).item() == pytest.approx(plain(0.7).item())


def test_gradcheck_of_a_jitted_function():
    w = fg.tensor([0.4, -0.3])
    f = fg.jit(lambda x, y: (fg.exp(x * w) / y, (x * y).sum()))
    x = fg.tensor([0.2, 0.5], requires_grad=True)
    y = fg.tensor([1.5, 2.5], requires_grad=True)
    with fg.set_compile("never"):
        assert fg.autograd.gradcheck(f, (x, y))
        assert fg.autograd.gradgradcheck(f, (x, y))


def test_a_call_without_grad_is_a_leaf_with_a_value():
    f = fg.jit(lambda x: x * 2.0)
    x = fg.tensor(1.0, requires_grad=True)
    with fg.no_grad():
        assert not f(x).requires_grad
    assert f(x).requires_grad
    assert f(x.detach()).is_leaf


def test_jit_inside_jit_is_one_program():
    inner = fg.jit(lambda x: x + 1.0)
    outer = fg.jit(lambda x: inner(x) * inner(2.0 * x))
    assert outer(3.0).item() == 28.0
    assert inner.explain().signatures[0].recorded == 2


def test_a_trace_that_captured_another_traces_value_is_not_kept():
    holder = {}
    inner = fg.jit(lambda x: x * holder["scale"])

    def outer(a):
        holder["scale"] = a
        return inner(2.0)

    assert fg.jit(outer)(5.0).item() == 10.0
    holder["scale"] = fg.tensor(3.0)
    assert inner(2.0).item() == 6.0


# -- memory ---------------------------------------------------------------------------------------


def test_results_go_to_given_memory(tier):
    f = fg.jit(lambda x: {"a": x + 1.0, "s": x.sum()})
    x, a = np.array([1.0, 2.0]), np.zeros(2)
    found = f(x, out={"a": a, "s": None})
    assert found["a"] is a and a.tolist() == [2.0, 3.0] and found["s"].item() == 3.0
    t = fg.zeros(2)
    assert f(x, out={"a": t, "s": None})["a"] is t and t.tolist() == [2.0, 3.0]
    assert f(x, out=a)["a"] is a
    reversed_ = np.zeros(4)[::-2]
    f(x, out=reversed_)
    assert reversed_.tolist() == [2.0, 3.0]
    f(x, out=x)
    assert x.tolist() == [2.0, 3.0]


def test_wrong_memory_is_refused():
    f = fg.jit(lambda x: x + 1.0)
    x = np.ones(2)
    frozen = np.ones(2)
    frozen.flags.writeable = False
    for out, error, match in (
        (np.ones(3), errors.ShapeError, r"out must have the result's shape \(2,\), got \(3,\)"),
        (np.ones(2, np.float32), errors.DTypeError, "float64, got float32"),
        (fg.ones(3), errors.ShapeError, "shape"),
        (fg.ones(2, requires_grad=True), errors.GradientError, "own"),
        (frozen, errors.ArgumentError, "read-only"),
        ((np.ones(2), np.ones(2)), errors.ArgumentError, "like the result"),
        ([1.0], errors.ArgumentError, "NumPy array"),
    ):
        with pytest.raises(error, match=match):
            f(x, out=out)
    with pytest.raises(errors.GradientError, match="out="):
        f(fg.ones(2, requires_grad=True), out=np.ones(2))


def test_donated_memory_is_taken_and_used_again():
    f = fg.jit(lambda x, y: x + y, donate_argnums=0)
    # Whether memory may be taken is seen by counting references, which a debugger or a tracer may hold
    # for a moment: several donations, of which the memory of one at least must come back.
    donated, results = set(), []
    for _ in range(6):
        x, y = fg.tensor([1.0] * 1000), fg.tensor([1.0] * 1000)  # not one array that both share
        donated.add(x.data_ptr())
        first = f(x, y)
        results.append(first)
        assert (first == 2.0).all()
    assert any(r.data_ptr() in donated for r in results)
    assert len({r.data_ptr() for r in results}) == 6 and all((r == 2.0).all() for r in results)
    for use in (lambda: x.numpy(), lambda: x + 1.0 == 0, lambda: f(x, first), lambda: repr(x + 1)):
        with pytest.raises(errors.ArgumentError, match=r"donated to .*test_jit.py"):
            bool(np.all(use()))


def test_donated_memory_that_others_see_is_left_alone():
    f = fg.jit(lambda x: x + 1.0, donate_argnums=0)
    x = fg.zeros(3)
    view, array = x[1:], fg.zeros(3)
    kept = array.numpy()
    f(x), f(array)
    f(fg.zeros(3)), f(fg.zeros(3))
    assert kept.tolist() == [0.0] * 3
    with pytest.raises(errors.ArgumentError, match="donated"):
        view.tolist()


def test_many_threads_call_one_function():
    f = fg.jit(lambda x, n: (x * n).cumsum(0))
    found: dict = {}

    def work(k):
        x = np.arange(1.0, 2.0 + k % 3)
        found[k] = [f(x, float(j)).numpy()[-1] == (x * j).sum() for j in range(50)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 6 and all(all(v) for v in found.values())
    assert traces(f) == 3


# -- wrong use ------------------------------------------------------------------------------------


def line_of(function) -> str:
    return f"test_jit.py:{inspect.getsourcelines(function)[1] + 1}"


def branches(x):
    return x if x.sum() > 0 else -x


def takes_item(x):
    return x * x.sum().item()


def takes_int(x):
    return x[int(x.sum())]


def counts(x):
    return sum(x * k for k in range(x.long()))


def to_numpy(x):
    return fg.tensor(np.asarray(x * 2.0))


def loops(x):
    while x < 3:
        x = x + 1
    return x


@pytest.mark.parametrize(
    "function, match",
    [
        (branches, r"if.*fg\.where.*fg\.cond.*static_argn"),
        (loops, r"while.*fg\.while_loop"),
        (takes_item, r"item\(\).*static"),
        (takes_int, r"int\(\).*static"),
        (counts, r"range\(\).*static"),
        (to_numpy, r"np\.asarray\(\).*outside"),
    ],
)
def test_a_value_asked_for_while_tracing_names_line_and_remedy(function, match):
    f = fg.jit(function)
    with pytest.raises(errors.TraceError, match=match) as caught:
        f(fg.tensor(1.0))
    assert line_of(function) in str(caught.value)
    assert traces(f) == 0
    with pytest.raises(RuntimeError), fg.set_compile("always"):
        f(fg.tensor(1.0))
    assert fg.tensor(1.0).item() == 1.0  # nothing is left of the trace


def test_a_traced_tensor_prints_what_is_known():
    seen = []
    fg.jit(lambda x: seen.append(repr(x)) or x * 1.0)(np.ones(3))
    assert seen == ["tensor(<traced>, shape=(3,), dtype=flatgrad.float64)"]


def test_writes_to_the_outside_are_refused_and_undone():
    total = fg.zeros(2)

    def f(x):
        total.add_(x)
        return x

    with pytest.raises(errors.TraceError, match=r"test_jit.py.*in place"):
        fg.jit(f)(fg.ones(2))
    assert total.tolist() == [0.0, 0.0]
    own = fg.jit(lambda x: fg.zeros(2).add_(x))
    assert own(fg.ones(2)).tolist() == [1.0, 1.0]


def test_random_numbers_are_refused_while_tracing():
    with pytest.raises(errors.TraceError, match="random numbers"):
        fg.jit(lambda x: x + fg.rand(2))(fg.ones(2))


def test_wrong_arguments():
    f = fg.jit(lambda x, mode=None: x, static_argnames="mode")
    with pytest.raises(errors.ArgumentError, match=r"static argument mode must be hashable.*list"):
        f(1.0, mode=[1])
    with pytest.raises(errors.ArgumentError, match=r"argument x is of type str.*static"):
        f("text")
    with pytest.raises(errors.ArgumentError, match="missing"):
        f()
    with pytest.raises(errors.DTypeError, match="complex"):
        f(np.ones(2, complex))
    with pytest.raises(errors.ArgumentError, match="only 2 positional"):
        fg.jit(weighted, static_argnums=2)
    with pytest.raises(errors.ArgumentError, match="'z', but the arguments of weighted are x, n"):
        fg.jit(weighted, static_argnames="z")
    with pytest.raises(errors.ArgumentError, match="function"):
        fg.jit(3)
    with pytest.raises(errors.ArgumentError, match="return"):
        fg.jit(lambda x: "text")(1.0)


def test_an_index_out_of_range_raises_at_the_call(tier):
    f = fg.jit(lambda x, i: x[i])
    with pytest.raises(errors.IndexingError):
        f(np.ones(3), np.array([5]))
    assert f(np.ones(3), np.array([2])).tolist() == [1.0]


def test_no_grad_inside_a_loop_that_captures_something():
    w = fg.tensor(2.0, requires_grad=True)
    x = fg.tensor(5.0, requires_grad=True)

    def body(c, _):
        with fg.no_grad():
            s = c * 3.0 * w
        return c * s, w * c.detach()

    def looped(x):
        c, ys = fg.scan(body, x, fg.zeros(2))
        return c + ys.sum()

    def unrolled(x):
        total = 0.0
        for _ in range(2):
            x, y = body(x, None)
            total = total + y
        return x + total

    want = [g.item() for g in fg.autograd.grad(unrolled(x), (x, w))]
    for function in (looped, fg.jit(looped)):
        assert [g.item() for g in fg.autograd.grad(function(x), (x, w))] == want


def test_arguments_by_name_are_the_same_signature():
    @fg.jit
    def f(x, y=2.0, *, z=1.0):
        return x * y + z

    a = np.ones(3)
    for made in (f(a, 3.0), f(x=a, y=3.0), f(a, y=3.0), f(y=3.0, x=a)):
        np.testing.assert_array_equal(made.numpy(), [4.0, 4.0, 4.0])
    assert len(f.explain().signatures) == 1
    f(x=a, z=2.0, y=3.0)
    assert len(f.explain().signatures) == 2
    with pytest.raises(TypeError, match="multiple values"):
        f(a, x=a)
