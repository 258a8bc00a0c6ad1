"""torch.func's transforms beside PyTorch's and closed forms: values, nesting, trees, errors."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import func as ours

DATA = np.array([0.5, -1.25, 2.0])
OTHER = np.array([1.5, 0.75])
V = np.array([1.0, -2.0, 0.5])


def flat(result):
    """All arrays of nested tuples, lists and dicts, in order."""
    if isinstance(result, (tuple, list)):
        return [x for r in result for x in flat(r)]
    if isinstance(result, dict):
        return [x for k in sorted(result) for x in flat(result[k])]
    return [result.detach().numpy()]


def same(build, *arrays):
    """``build(lib, func, *tensors)`` of ours equals that of PyTorch; not vacuously. Ours is returned."""
    torch = pytest.importorskip("torch")
    expected = build(torch, torch.func, *[torch.tensor(a) for a in arrays])
    got = build(fg, ours, *[fg.tensor(a) for a in arrays])
    left, right = flat(expected), flat(got)
    assert len(left) == len(right)
    assert max(np.abs(e).max(initial=0.0) for e in left) > 1e-3
    for e, g in zip(left, right, strict=True):
        assert e.shape == g.shape
        assert e.dtype == g.dtype
        np.testing.assert_allclose(g, e, rtol=1e-11, atol=1e-13)
    return got


def vector(x):
    return x.exp() * x.sin().sum()


def scalar(x):
    return (x.exp() * x.sin()).sum() * x[0]


def two(x, y):
    return {"a": x * y.sum(), "b": ((x * x).sum() * y, y.sum())}


def scalar_of_two(x, y):
    return (x * x).sum() * (y * y * y).sum()


# -- one transform --------------------------------------------------------------------------------


def test_grad():
    same(lambda lib, F, x: F.grad(scalar)(x), DATA)
    same(lambda lib, F, x, y: F.grad(scalar_of_two)(x, y), DATA, OTHER)
    same(lambda lib, F, x, y: F.grad(scalar_of_two, 1)(x, y), DATA, OTHER)
    same(lambda lib, F, x, y: F.grad(scalar_of_two, -1)(x, y), DATA, OTHER)
    same(lambda lib, F, x, y: F.grad(scalar_of_two, (1, 0))(x, y), DATA, OTHER)
    same(lambda lib, F, x, y: F.grad(scalar_of_two)(x, y=y), DATA, OTHER)


def test_grad_and_value_and_aux():
    same(lambda lib, F, x: F.grad_and_value(scalar)(x), DATA)
    with_aux = lambda x: (scalar(x), {"double": x * 2})  # noqa: E731
    same(lambda lib, F, x: F.grad(with_aux, has_aux=True)(x), DATA)
    same(lambda lib, F, x: F.grad_and_value(with_aux, has_aux=True)(x), DATA)


def test_value_and_grad_has_the_value_first():
    value, gradient = fg.value_and_grad(lambda x, y: x * y, (0, 1))(2.0, 5.0)
    assert value.item() == 10.0
    assert [g.item() for g in gradient] == [5.0, 2.0]
    (value, aux), gradient = fg.value_and_grad(lambda x: (x * x, "text"), has_aux=True)(3.0)
    assert (value.item(), aux, gradient.item()) == (9.0, "text", 6.0)


def test_vjp():
    def build(lib, F, x, y):
        outputs, pull = F.vjp(two, x, y)
        cotangents = {"a": x * 2, "b": (y + 1, lib.tensor(0.5, dtype=lib.float64))}
        return outputs, pull(cotangents), pull(outputs)

    got = same(build, DATA, OTHER)
    assert isinstance(got[1], tuple)

    def with_aux(lib, F, x):
        outputs, pull, aux = F.vjp(lambda x: (vector(x), x + 1), x, has_aux=True)
        return outputs, pull(x), aux

    same(with_aux, DATA)


def test_jvp():
    same(lambda lib, F, x, v: F.jvp(vector, (x,), (v,)), DATA, V)
    same(lambda lib, F, x, y, v: F.jvp(two, (x, y), (v, y * 2)), DATA, OTHER, V)
    same(
        lambda lib, F, x, v: F.jvp(lambda x: (vector(x), x + 1), (x,), (v,), has_aux=True), DATA, V
    )
    same(lambda lib, F, x, v: F.jvp(lambda x: (x * x, x.detach()), (x,), (v,)), DATA, V)


@pytest.mark.filterwarnings("ignore")  # PyTorch's tracing warns about itself
def test_linearize():
    def build(lib, F, x, y, v):
        outputs, push = F.linearize(two, x, y)
        return outputs, push(v, y), push(v * 2, y * 0)

    same(build, DATA, OTHER, V)


def test_what_linearize_needs_of_the_function_is_computed_once():
    calls = []

    class Counted(fg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            calls.append(1)
            ctx.save_for_forward(x)
            return x * x

        @staticmethod
        def jvp(ctx, v):
            return 2 * ctx.saved_tensors[0] * v

    output, push = ours.linearize(lambda x: Counted.apply(x).exp(), fg.tensor(0.5))
    slopes = [push(fg.tensor(v)).item() for v in (1.0, 2.0)]
    np.testing.assert_allclose(slopes, [np.exp(0.25), 2 * np.exp(0.25)], rtol=1e-6)
    assert calls == [1]
    assert output.item() == pytest.approx(np.exp(0.25))


@pytest.mark.parametrize("name", ["jacrev", "jacfwd"])
def test_jacobians(name):
    same(lambda lib, F, x: getattr(F, name)(vector)(x), DATA)
    same(lambda lib, F, x: getattr(F, name)(scalar)(x), DATA)
    tuples = lambda x, y: (x * y.sum(), (x * x).sum() * y.reshape(1, 2))  # noqa: E731
    same(lambda lib, F, x, y: getattr(F, name)(tuples)(x, y), DATA, OTHER)
    same(lambda lib, F, x, y: getattr(F, name)(tuples, (0, 1))(x, y), DATA, OTHER)
    same(lambda lib, F, x, y: getattr(F, name)(tuples, (1,))(x, y), DATA, OTHER)
    aux = lambda x: (vector(x), x + 1)  # noqa: E731
    same(lambda lib, F, x: getattr(F, name)(aux, has_aux=True)(x), DATA)
    matrix = lambda x: x.reshape(3, 1) * x  # noqa: E731
    same(lambda lib, F, x: getattr(F, name)(matrix)(x), DATA)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_chunks_of_a_jacobian_are_the_whole(chunk):
    same(lambda lib, F, x: F.jacrev(vector, chunk_size=chunk)(x), DATA)
    np.testing.assert_array_equal(
        ours.jacfwd(vector, chunk_size=chunk)(DATA).numpy(), ours.jacfwd(vector)(DATA).numpy()
    )


def test_a_jacobian_of_nothing_has_its_shape():
    assert tuple(ours.jacrev(lambda x: x * 2)(np.zeros(0)).shape) == (0, 0)
    assert tuple(ours.jacfwd(lambda x: x[:0])(DATA).shape) == (0, 3)


def test_hessians():
    same(lambda lib, F, x: F.hessian(scalar)(x), DATA)
    same(lambda lib, F, x, y: F.hessian(scalar_of_two, (0, 1))(x, y), DATA, OTHER)
    same(lambda lib, F, x: F.hessian(vector)(x), DATA)


def test_hvp_is_the_gradient_and_the_product():
    x, v = fg.tensor(DATA), fg.tensor(V)
    gradient, product = fg.hvp(scalar, x, v)
    np.testing.assert_allclose(gradient.numpy(), fg.grad(scalar)(x).numpy(), rtol=1e-13)
    np.testing.assert_allclose(product.numpy(), fg.hessian(scalar)(x).numpy() @ V, rtol=1e-12)
    (gx, gy), (hx, hy) = fg.hvp(scalar_of_two, (x, fg.tensor(OTHER)), (v, fg.tensor(OTHER)))
    s, c = (DATA**2).sum(), (OTHER**3).sum()
    np.testing.assert_allclose(gx.numpy(), 2 * DATA * c, rtol=1e-12)
    np.testing.assert_allclose(gy.numpy(), s * 3 * OTHER**2, rtol=1e-12)
    np.testing.assert_allclose(hx.numpy(), 2 * V * c + 2 * DATA * 3 * c, rtol=1e-12)
    np.testing.assert_allclose(
        hy.numpy(), 2 * (DATA @ V) * 3 * OTHER**2 + s * 6 * OTHER**2, rtol=1e-12
    )


# -- nesting --------------------------------------------------------------------------------------


def test_perturbations_are_not_confused():
    assert fg.grad(lambda x: x * fg.grad(lambda y: x + y)(2.0))(3.0).item() == 1.0
    assert (
        fg.jvp(lambda x: x * fg.jvp(lambda y: x + y, (2.0,), (1.0,))[1], (3.0,), (1.0,))[1].item()
        == 1
    )
    assert fg.grad(lambda x: x * fg.jvp(lambda y: x * y, (x,), (1.0,))[1])(3.0).item() == 6.0
    assert fg.jvp(lambda x: x * fg.grad(lambda y: x * y)(x), (3.0,), (1.0,))[1].item() == 6.0


def test_orders():
    f = lambda x: x**5  # noqa: E731
    for order, expected in enumerate([32.0, 80.0, 160.0, 240.0, 240.0, 120.0, 0.0]):
        assert f(fg.tensor(2.0)).item() == expected, order
        f = fg.grad(f)


@pytest.mark.parametrize(
    "build",
    [
        lambda lib, F, x, v: F.grad(lambda x: F.grad(scalar)(x)[1])(x),
        lambda lib, F, x, v: F.jvp(F.grad(scalar), (x,), (v,)),
        lambda lib, F, x, v: F.grad(lambda x: F.jvp(scalar, (x,), (v,))[1])(x),
        lambda lib, F, x, v: F.jvp(lambda x: F.jvp(vector, (x,), (v,))[1], (x,), (v,)),
        lambda lib, F, x, v: F.vjp(lambda x: F.vjp(vector, x)[1](v)[0], x)[1](v),
        lambda lib, F, x, v: F.vjp(lambda v: F.vjp(vector, x)[1](v)[0], v)[1](x),
        lambda lib, F, x, v: F.jacrev(F.jacfwd(vector))(x),
        lambda lib, F, x, v: F.jacfwd(F.jacrev(F.grad(scalar)))(x),
        lambda lib, F, x, v: F.grad(lambda x: F.hessian(scalar)(x).diagonal().sum())(x),
        lambda lib, F, x, v: F.grad(lambda x: F.jacrev(vector)(x).exp().sum())(x),
        lambda lib, F, x, v: F.jacfwd(lambda x: F.jvp(F.grad(scalar), (x,), (v,))[1])(x),
    ],
)
def test_nested_transforms(build):
    same(build, DATA, V)


def test_linearize_inside_grad():
    f = lambda x: ours.linearize(lambda y: y**3, x)[1](fg.tensor(1.0))  # noqa: E731
    assert fg.grad(f)(2.0).item() == 12.0


def test_backward_goes_through_a_transform():
    def build(lib, F, x, w):
        x.requires_grad_()
        w.requires_grad_()
        out = F.grad(lambda x: (x**3 * w).sum())(x)
        (out * out).sum().backward()
        return x.grad, w.grad

    same(build, DATA, V)

    def forward(lib, F, x, w):
        x.requires_grad_()
        w.requires_grad_()
        (F.jvp(lambda x: x**3, (x,), (w,))[1]).sum().backward()
        return x.grad, w.grad

    same(forward, DATA, V)


def test_backward_through_a_jacobian():
    def build(lib, F, x):
        x.requires_grad_()
        F.jacrev(vector)(x).exp().sum().backward()
        first = x.grad.clone()
        F.hessian(scalar)(x).sin().sum().backward()
        return first, x.grad

    same(build, DATA)


def test_results_require_grad_only_if_something_outside_does():
    x, w = fg.tensor(DATA), fg.tensor(V, requires_grad=True)
    assert not fg.grad(scalar)(x).requires_grad
    assert not fg.vjp(vector, x)[0].requires_grad
    assert not fg.vjp(lambda x: x, x)[1](x)[0].requires_grad
    assert not fg.jvp(vector, (x,), (x,))[1].requires_grad
    assert not fg.jacrev(vector)(x).requires_grad
    assert not fg.hessian(scalar)(x).requires_grad
    gx, gw = fg.grad(lambda x, w: (x * x).sum() + (w * w).sum(), (0, 1))(x, w)
    assert not gx.requires_grad
    assert gw.requires_grad
    assert fg.grad(lambda x: (x * w).sum())(x).requires_grad
    value, aux = ours.grad_and_value(lambda x: ((x * x).sum(), (x * 2, w * 2)), has_aux=True)(x)[1]
    assert not value.requires_grad
    assert [t.requires_grad for t in aux] == [False, True]
    with fg.no_grad():
        assert not fg.grad(lambda x: (x * w).sum())(x).requires_grad
    assert x.grad is None


def test_modes():
    x = fg.tensor(2.0)
    with fg.no_grad():
        assert fg.grad(lambda x: x * x)(x).item() == 4.0
    with fg.inference_mode():
        assert fg.grad(lambda x: x * x)(x).item() == 4.0

    def partly(x):
        with fg.no_grad():
            c = x * x
        return x - c

    assert fg.grad(partly)(x).item() == 1.0
    assert fg.grad(lambda x: x * x.detach())(x).item() == 2.0

    def seen(x):
        with fg.no_grad():
            c = x * x
            c.item()  # evaluated on the way: the tangent is not lost
            d = c.reshape(1)[0]
        return x - d

    torch = pytest.importorskip("torch")
    expected = torch.func.jvp(partly_torch, (torch.tensor(2.0),), (torch.tensor(1.0),))[1].item()
    assert fg.jvp(seen, (x,), (fg.tensor(1.0),))[1].item() == expected


def partly_torch(x):
    import torch

    with torch.no_grad():
        c = x * x
    return x - c


def test_a_large_graph_outside_is_not_walked_by_inner_transforms():
    """A thousand inner gradients in one outer one: linear, not quadratic, in what is recorded."""
    import time

    def unrolled(n):
        def f(x):
            for _ in range(n):
                x = x - 0.01 * fg.grad(lambda y: (y * y * 0.5).sum())(x)
            return x.sum()

        start = time.perf_counter()
        fg.grad(f)(fg.tensor([1.0, 2.0], dtype=fg.float64))
        return time.perf_counter() - start

    unrolled(10)
    small, large = (min(unrolled(n) for _ in range(3)) for n in (50, 400))
    assert large < 8 * 3 * small


def test_hooks_inside_are_called():
    seen = []

    def f(x):
        y = x * x
        y.register_hook(lambda g: seen.append(1) or g * 10)
        return y.sum()

    np.testing.assert_allclose(fg.grad(f)(fg.tensor(DATA)).numpy(), 20 * DATA)
    assert seen == [1]


# -- arguments ------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: object
    right: object


@dataclasses.dataclass(frozen=True)
class State:
    position: object
    label: object = None


def test_trees_of_arguments():
    tree = {"w": [fg.tensor(DATA), Pair(OTHER, None)], "s": State(np.float64(3.0))}

    def f(t, scale):
        w, pair = t["w"]
        return (w * w).sum() * scale + (pair.left**3).sum() + t["s"].position ** 2

    g = fg.grad(f)(tree, 2.0)
    np.testing.assert_allclose(g["w"][0].numpy(), 4 * DATA)
    assert isinstance(g["w"][1], Pair)
    np.testing.assert_allclose(g["w"][1].left.numpy(), 3 * OTHER**2)
    assert g["w"][1].right is None
    assert isinstance(g["s"], State)
    assert g["s"].position.item() == 6.0
    assert g["s"].position.dtype is fg.float64
    j = fg.jacrev(lambda t: {"y": t["a"] * 2, "z": t["b"].sum()})({"a": DATA, "b": OTHER})
    np.testing.assert_allclose(j["y"]["a"].numpy(), 2 * np.eye(3))
    np.testing.assert_allclose(j["z"]["b"].numpy(), np.ones(2))
    assert tuple(j["y"]["b"].shape) == (3, 2)


def test_arrays_and_numbers():
    g = fg.grad(lambda x: (x * x).sum())(DATA)
    assert g.dtype is fg.float64
    np.testing.assert_allclose(g.numpy(), 2 * DATA)
    assert fg.grad(lambda x: x * x)(3.0).dtype is fg.float32
    assert fg.vjp(lambda x: x * x, 3.0)[1](1.0)[0].item() == 6.0
    array = DATA.copy()
    g = fg.grad(lambda x: (x * x).sum())(array)
    array[:] = 0.0  # written after the call, before the evaluation
    np.testing.assert_allclose(g.numpy(), 2 * DATA)


def test_other_arguments_reach_the_function_as_they_are():
    seen = []
    fg.grad(lambda x, *rest, **more: seen.append((rest, more)) or x * x)(1.0, "a", DATA, key=None)
    ((rest, more),) = seen
    assert rest[0] == "a"
    assert rest[1] is DATA
    assert more == {"key": None}


def test_a_function_that_ignores_its_argument_has_a_zero_gradient():
    same(lambda lib, F, x: (F.grad(lambda x: lib.tensor(1.0))(x), x), DATA)
    assert fg.grad(lambda x: 1.0)(2.0).item() == 0.0


def test_writing_in_place_to_an_argument_inside():
    def f(x):
        x = x * 1
        x[0] = x[1].clone() * 2
        return (x * x).sum()

    same(lambda lib, F, x: F.grad(f)(x), DATA)


def test_modules_are_trees():
    class Scaled(fg.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = fg.nn.Linear(2, 1)
            self.again = self.inner
            self.listed = [self.inner]
            self.register_buffer("count", fg.tensor([3]))

        def forward(self, x):
            return self.listed[0](x) * self.count + self.again(x)

    net = Scaled()
    x = fg.tensor([[1.0, 2.0]])
    g = fg.grad(lambda m, x: m(x).sum())(net, x)
    assert isinstance(g, Scaled)
    assert g is not net
    assert g.inner is g.again is g.listed[0]
    np.testing.assert_allclose(g.inner.weight.detach().numpy(), [[4.0, 8.0]])
    assert g.count.item() == 0
    assert net.inner.weight.grad is None
    assert isinstance(net.inner.weight, fg.nn.Parameter)
    _, spec = ours.tree.flatten(net)
    assert spec == ours.tree.flatten(net)[1]
    assert hash(spec) == hash(ours.tree.flatten(net)[1])
    assert spec != ours.tree.flatten(Scaled())[1]
    net.eval()
    assert spec != ours.tree.flatten(net)[1]
    assert ours.tree.paths(spec) == [".inner.weight", ".inner.bias", ".count"]


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: fg.grad(vector)(DATA), r"scalar Tensor.*shape \(3,\).*jacrev"),
        (lambda: fg.grad(lambda x: x)(np.ones(1)), "scalar Tensor, got tensor with 1 dims"),
        (lambda: fg.grad(lambda x: x * x)(3), r"argument 0 has dtype flatgrad.int64.*3\.0"),
        (lambda: fg.grad(lambda x, y: x * y, 1)(3.0, 1), "argument 1 has dtype"),
        (lambda: fg.grad(lambda x: x * x, 1)(3.0), "Got argnum=1, but only 1 positional"),
        (lambda: fg.grad(lambda x: x * x, -2)(3.0), "Got argnum=-2"),
        (lambda: fg.grad(lambda x: x * x, (0, 0))(3.0), "unique"),
        (lambda: fg.grad(lambda x: x * x, (0, -1))(3.0), "unique"),
        (lambda: fg.grad(lambda x: x * x, ())(3.0), "non-empty"),
        (lambda: fg.grad(lambda x: x * x, [0])(3.0), "must be int or Tuple"),
        (lambda: fg.grad(lambda x: x * x, (0.5,))(3.0), "argnum must be int, got: float"),
        (lambda: fg.grad(lambda x: x * x)("3"), "is of type str"),
        (lambda: fg.grad(lambda x: x["a"])({"a": 1.0, "b": "text"}), r"\['b'\] is of type str"),
        (lambda: fg.grad(lambda x: 1.0)(None), "at least one Tensor"),
        (lambda: fg.grad(lambda x: (x, x))(3.0), "to return a Tensor, got tuple.*has_aux"),
        (lambda: fg.grad(lambda x: None)(3.0), "to return a Tensor, got NoneType"),
        (lambda: fg.grad(lambda x: x > 0)(3.0), "floating-point Tensor, got flatgrad.bool"),
        (lambda: fg.grad(lambda x: x, has_aux=True)(3.0), r"should be a tuple: \(output, aux\)"),
        (lambda: fg.grad(lambda x: (x, x, x), has_aux=True)(3.0), "got a tuple of 3"),
        (lambda: fg.vjp(lambda x: x), "at least one primal"),
        (lambda: fg.vjp(lambda x: x > 0, 1.0), "floating-point Tensors, got output with"),
        (lambda: fg.vjp(lambda x: {"a": "b"}, 1.0), r"unsupported type str at output\['a'\]"),
        (lambda: fg.vjp(lambda x: (), 1.0), "non-empty output"),
        (lambda: fg.vjp(lambda x: (x, x), 1.0)[1](1.0), "same python structure"),
        (lambda: fg.vjp(vector, DATA)[1](OTHER), r"must have the shape \(3,\)"),
        (lambda: fg.vjp(vector, DATA)[1](fg.ones(3)), "must have the dtype flatgrad.float64"),
        (lambda: fg.jvp(vector, DATA, DATA), "Expected primals to be a tuple"),
        (lambda: fg.jvp(vector, (), ()), "at least one primal"),
        (lambda: fg.jvp(vector, (DATA,), DATA), "same python structure"),
        (lambda: fg.jvp(vector, (DATA,), (DATA, DATA)), "same python structure"),
        (lambda: fg.jvp(vector, (DATA,), (OTHER,)), r"tangents\[0\] must have the shape \(3,\)"),
        (lambda: fg.jvp(vector, (DATA,), (fg.ones(3),)), r"tangents\[0\] must have the dtype"),
        (lambda: fg.jvp(vector, (np.arange(3),), (np.arange(3),)), "argument.*int64"),
        (
            lambda: fg.jvp(lambda x: fg.tensor(1.0), (1.0,), (1.0,), strict=True),
            "independent of the inputs",
        ),
        (lambda: ours.linearize(vector, DATA)[1](OTHER), "must have the shape"),
        (lambda: ours.linearize(vector, DATA)[1](DATA, DATA), "same python structure"),
        (lambda: fg.jacrev(vector, chunk_size=0), "greater than 0"),
        (lambda: fg.jacrev(lambda x: x > 0)(DATA), "floating-point Tensors"),
        (lambda: fg.jacfwd(vector)(np.arange(3)), "int64"),
        (lambda: fg.jacfwd(vector, randomness="no"), "randomness"),
    ],
)
def test_wrong_calls(call, match):
    with pytest.raises(fg.errors.FlatgradError, match=match) as caught:
        call()
    assert isinstance(caught.value, RuntimeError)


def test_torch_refuses_the_same_calls():
    torch = pytest.importorskip("torch")
    F = torch.func
    x = torch.tensor(DATA)
    for call in (
        lambda: F.grad(vector)(x),
        lambda: F.grad(lambda x: x)(torch.ones(1)),
        lambda: F.grad(lambda x: x * x)(torch.tensor(3)),
        lambda: F.grad(scalar, 1)(x),
        lambda: F.grad(scalar, (0, 0))(x),
        lambda: F.grad(scalar, ())(x),
        lambda: F.vjp(vector, x)[1](torch.tensor(OTHER)),
        lambda: F.jvp(vector, x, x),
        lambda: F.jvp(vector, (x,), (x, x)),
        lambda: F.jvp(vector, (x,), (torch.tensor(OTHER),)),
    ):
        with pytest.raises((RuntimeError, ValueError)):
            call()
