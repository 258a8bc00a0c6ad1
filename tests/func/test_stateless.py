"""functional_call and stack_module_state beside PyTorch's; modules are never changed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import func as ours


class Tied(fg.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = fg.nn.Linear(2, 2, bias=False)
        self.b = fg.nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("shift", fg.ones(2))

    def forward(self, x, *, sign=1.0):
        return self.b(self.a(x)) * sign + self.shift


@pytest.fixture
def net():
    return Tied()


W = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
X = np.array([1.0, 2.0], np.float32)


def test_the_given_tensors_are_used_and_the_module_is_not_changed(net):
    before = net.a.weight
    values = before.detach().numpy().copy()
    x = fg.tensor(X)
    y = ours.functional_call(
        net, {"a.weight": fg.tensor(W), "shift": fg.zeros(2)}, x, {"sign": 2.0}
    )
    np.testing.assert_allclose(y.numpy(), 2 * W @ W @ X)
    assert net.a.weight is before is net.b.weight
    np.testing.assert_array_equal(before.detach().numpy(), values)
    y = ours.functional_call(net, ({"a.weight": W}, {"shift": np.zeros(2, np.float32)}), (x,))
    np.testing.assert_allclose(y.numpy(), W @ W @ X)


def test_weights_are_tied_or_not(net):
    given = {"b.weight": fg.tensor(W), "shift": fg.zeros(2)}
    tied = ours.functional_call(net, given, fg.tensor(X))
    np.testing.assert_allclose(tied.detach().numpy(), W @ W @ X)
    loose = ours.functional_call(net, given, fg.tensor(X), tie_weights=False)
    own = net.a.weight.detach().numpy()
    np.testing.assert_allclose(loose.detach().numpy(), W @ own @ X, rtol=1e-5)


def test_a_gradient_by_parameters_is_pytorchs():
    torch = pytest.importorskip("torch")
    results = []
    for lib in (torch, fg):
        layer = lib.nn.Sequential(lib.nn.Linear(2, 2), lib.nn.Tanh(), lib.nn.Linear(2, 1))
        p = {
            "0.weight": lib.tensor(W),
            "0.bias": lib.tensor(X),
            "2.weight": lib.tensor(W[:1]),
            "2.bias": lib.tensor(X[:1]),
        }
        loss = lambda p, x, layer=layer, lib=lib: (  # noqa: E731
            lib.func.functional_call(layer, p, (x,)).sum()
        )
        g = lib.func.grad(loss)(p, lib.tensor(X))
        results.append({k: v.numpy() for k, v in g.items()})
    assert set(results[0]) == set(results[1])
    for k, v in results[0].items():
        np.testing.assert_allclose(results[1][k], v, rtol=1e-6, atol=1e-6, err_msg=k)


def test_per_parameter_hessian_of_a_module(net):
    p = {"a.weight": fg.tensor(W)}
    h = fg.hessian(lambda p: ours.functional_call(net, p, fg.tensor(X)).sum())(p)
    assert tuple(h["a.weight"]["a.weight"].shape) == (2, 2, 2, 2)
    # sum(W W x): second derivative by W[i,j], W[k,l] is [j=k] x[l] + [l=i] x[j]
    e, ones = np.eye(2), np.ones(2)
    expected = np.einsum("jk,l,i->ijkl", e, X, ones) + np.einsum("li,j,k->ijkl", e, X, ones)
    np.testing.assert_allclose(h["a.weight"]["a.weight"].detach().numpy(), expected, atol=1e-6)


def test_threads_call_one_module_at_once(net):
    wrong = []

    def work(scale):
        for _ in range(20):
            given = {"a.weight": W * np.float32(scale), "shift": np.zeros(2, np.float32)}
            y = ours.functional_call(net, given, fg.tensor(X)).numpy()
            if not np.allclose(y, scale**2 * (W @ W @ X)):
                wrong.append(y)

    threads = [threading.Thread(target=work, args=(k,)) for k in (1, 2, 3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_stacked_states():
    models = [fg.nn.Linear(2, 3) for _ in range(4)]
    parameters, buffers = ours.stack_module_state(models)
    assert tuple(parameters["weight"].shape) == (4, 3, 2)
    assert parameters["weight"].requires_grad
    assert parameters["weight"].is_leaf
    assert buffers == {}
    np.testing.assert_array_equal(
        parameters["bias"][2].detach().numpy(), models[2].bias.detach().numpy()
    )


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda n: ours.functional_call(n, {"c.weight": W}, X), "Unexpected key.*'c.weight'"),
        (lambda n: ours.functional_call(n, ({"shift": X}, {"shift": X}), X), "multiple dict"),
        (lambda n: ours.functional_call(n, [1], X), "to be a dict"),
        (lambda n: ours.functional_call(n, {"shift": "x"}, X), r"values\['shift'\] is of type str"),
        (
            lambda n: ours.functional_call(n, {"a.weight": W, "b.weight": 2 * W}, X),
            "multiple values for keys",
        ),
        (lambda n: ours.functional_call(n, {"shift": X}, X, strict=True), "Missing key"),
        (lambda n: ours.stack_module_state([]), "at least one model"),
        (lambda n: ours.stack_module_state([n, fg.nn.Linear(1, 1)]), "same class"),
        (lambda n: ours.stack_module_state([n, Tied().eval()]), "training/eval"),
        (lambda n: ours.stack_module_state([n, Tied().requires_grad_(False)]), "requires_grad"),
    ],
)
def test_wrong_calls(net, call, match):
    with pytest.raises(fg.errors.ArgumentError, match=match):
        call(net)
