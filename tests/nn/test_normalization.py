"""Normalisation beside PyTorch's: functions, layers, running statistics, derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, ShapeError
from support.beside_torch import beside_torch, close, torch

rng = np.random.default_rng(5)
SHAPES = {1: (6, 4, 3), 2: (3, 4, 2, 3), 3: (2, 4, 2, 3, 2)}


def normal(*shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("shape", [(5, 4), *SHAPES.values()], ids=str)
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_is_torchs(shape, affine):
    w, b = (normal(4), normal(4)) if affine else (None, None)
    beside_torch(
        lambda F, x, w, b: F.batch_norm(x * 3 + 1, None, None, w, b, training=True),
        normal(*shape), w, b,
        second=True, forward=True,
    )  # fmt: skip
    mean, var = normal(4), rng.uniform(0.5, 2.0, 4)

    def evaluated(F, x, w, b):
        lib = fg if F is fg.nn.functional else torch
        return F.batch_norm(x, lib.tensor(mean), lib.tensor(var), w, b, eps=0.01)

    beside_torch(evaluated, normal(*shape), w, b, second=True, forward=True)


def test_gradients_by_running_statistics():
    """PyTorch has none; here they are those of the formula."""
    x, mean, var = normal(5, 3), normal(3), rng.uniform(0.5, 2.0, 3)
    ts = [fg.tensor(a, requires_grad=True) for a in (x, mean, var)]
    assert fg.autograd.gradcheck(lambda *a: fg.nn.functional.batch_norm(*a), ts)


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_within_an_example(spatial):
    x, w, b = normal(*SHAPES[spatial]), normal(4), normal(4)
    both = {"second": True, "forward": True}
    beside_torch(lambda F, x, w, b: F.group_norm(x, 2, w, b), x, w, b, **both)
    beside_torch(lambda F, x: F.group_norm(x, 4, eps=0.1), x, **both)
    beside_torch(lambda F, x, w, b: F.instance_norm(x, weight=w, bias=b, eps=0.1), x, w, b, **both)
    last = x.shape[-spatial:]
    w, b = normal(*last), normal(*last)
    beside_torch(lambda F, x, w, b: F.layer_norm(x, last, w, b), x, w, b, **both)
    beside_torch(lambda F, x, w: F.layer_norm(x, last, weight=w), x, w, **both)
    beside_torch(lambda F, x, w: F.rms_norm(x, last, w), x, w, **both)
    beside_torch(lambda F, x: F.rms_norm(x, last, eps=0.1), x.astype(np.float32))
    beside_torch(lambda F, x: F.normalize(x, 2.0, 1), x, **both)
    beside_torch(lambda F, x: F.normalize(x, 3.0, -1), x, **both)


def test_normalizing_nothing():
    beside_torch(lambda F, x: F.normalize(x, eps=0.5), np.array([[1e-3, 0.0], [3.0, 4.0]]))


def test_far_from_zero():
    """The variance of values with a large mean keeps its digits."""
    x = normal(64, 3) * 1e-3 + 1e4
    y = fg.nn.functional.batch_norm(fg.tensor(x), None, None, training=True, eps=0.0).numpy()
    want = (x - x.mean(0)) / x.std(0)
    np.testing.assert_allclose(y, want, atol=1e-7)


def pair(name, args, options):
    theirs = getattr(torch.nn, name)(*args, **options)
    ours = getattr(fg.nn, name)(*args, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.tensor(normal(*p.shape)))
    ours.load_state_dict({k: fg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


RUNNING = [
    ("BatchNorm1d", {}),
    ("BatchNorm1d", {"momentum": None}),
    ("BatchNorm2d", {"momentum": 0.3, "eps": 0.01}),
    ("BatchNorm2d", {"affine": False}),
    ("BatchNorm2d", {"track_running_stats": False}),
    ("BatchNorm2d", {"bias": False}),
    ("BatchNorm3d", {}),
    ("InstanceNorm1d", {}),
    ("InstanceNorm2d", {"affine": True, "track_running_stats": True}),
    ("InstanceNorm3d", {"track_running_stats": True, "momentum": 0.5}),
]


def same_state(ours, theirs):
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-5, atol=1e-6, err_msg=key)
        assert str(a.numpy().dtype) == str(b.numpy().dtype)


@pytest.mark.parametrize(("name", "options"), RUNNING, ids=str)
def test_running_statistics_are_torchs(name, options):
    ours, theirs = pair(name, (4,), options)
    for step in range(4):
        if step == 3:
            ours.eval()
            theirs.eval()
        x = normal(*SHAPES[int(name[-2])], dtype=np.float32) * 2 + 1
        a, b = fg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = ours(a), theirs(b)
        (y * y * y).sum().backward()
        (z * z * z).sum().backward()
        close(y, z, f"step {step}", 5e-5)
        close(a.grad, b.grad, f"gradient {step}", 5e-4)
        same_state(ours, theirs)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad, "parameter", 5e-4)
    ours.reset_running_stats()
    theirs.reset_running_stats()
    same_state(ours, theirs)


LAYERS = [
    ("LayerNorm", (3,), {}),
    ("LayerNorm", ([2, 3],), {"eps": 0.1}),
    ("LayerNorm", ((4, 2, 3),), {"elementwise_affine": False}),
    ("LayerNorm", (3,), {"bias": False}),
    ("GroupNorm", (2, 4), {}),
    ("GroupNorm", (4, 4), {"affine": False}),
    ("GroupNorm", (1, 4), {"bias": False}),
    ("RMSNorm", (3,), {}),
    ("RMSNorm", ((2, 3),), {"eps": 0.1, "elementwise_affine": False}),
    ("LocalResponseNorm", (3,), {}),
    ("LocalResponseNorm", (2, 0.5), {"beta": 0.6, "k": 2.0}),
]


@pytest.mark.parametrize(("name", "args", "options"), LAYERS, ids=str)
def test_layers_are_torchs(name, args, options):
    ours, theirs = pair(name, args, options)
    x = normal(*SHAPES[2], dtype=np.float32)
    a, b = fg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(a), theirs(b)
    close(y, z, "value", 2e-5)
    (y**3).sum().backward()
    (z**3).sum().backward()
    close(a.grad, b.grad, "gradient", 2e-4)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad, "parameter", 2e-4)
    row = fg.nn.Sequential(fg.nn.Tanh(), ours)(a)
    np.testing.assert_allclose(
        row.detach().numpy(), ours(fg.tanh(a)).detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_statistics_are_unknown_to_gradients():
    """Moving them is not part of the loss, and later losses don't depend on earlier batches."""
    layer = fg.nn.BatchNorm1d(3)
    first = fg.tensor(normal(4, 3, dtype=np.float32), requires_grad=True)
    layer(first)
    layer.eval()
    loss = layer(fg.ones(2, 3)).sum()
    assert not layer.running_mean.requires_grad
    (grad,) = fg.autograd.grad(loss, [first], allow_unused=True)
    assert grad is None


def test_functional_call_moves_the_given_statistics():
    layer = fg.nn.BatchNorm1d(3)
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    x = fg.tensor(normal(8, 3, dtype=np.float32))
    fg.func.functional_call(layer, state, x)
    assert layer.num_batches_tracked.item() == 0
    assert state["num_batches_tracked"].item() == 1
    np.testing.assert_allclose(
        state["running_mean"].numpy(), 0.1 * x.numpy().mean(0), rtol=1e-5, atol=1e-7
    )


def test_per_example_gradients_in_evaluation():
    layer = fg.nn.BatchNorm1d(3).eval()
    parameters = dict(layer.named_parameters())
    buffers = dict(layer.named_buffers())
    xs = fg.tensor(normal(5, 3, dtype=np.float32))

    def loss(p, x):
        return (fg.func.functional_call(layer, (p, buffers), x.unsqueeze(0)) ** 2).sum()

    grads = fg.vmap(fg.grad(loss), (None, 0))(parameters, xs)
    np.testing.assert_allclose(grads["bias"].detach().numpy(), 2 * xs.numpy(), rtol=1e-4)


def test_compiled_is_interpreted():
    x = normal(4, 3, 5)
    found = []
    for mode in ("never", "always"):
        fg.set_compile(mode)
        layer = fg.nn.BatchNorm1d(3, dtype=fg.float64)
        t = fg.tensor(x, requires_grad=True)
        loss = (layer(t) ** 3).sum() + (fg.nn.functional.layer_norm(t, (5,)) ** 3).sum()
        loss.backward()
        found.append([loss.item(), t.grad.numpy(), layer.running_var.numpy()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fg.nn.BatchNorm2d(3)(fg.ones(2, 3, 4)), ShapeError, "expected 4D input"),
        (lambda: fg.nn.BatchNorm1d(3)(fg.ones(3)), ShapeError, "expected 2D or 3D input"),
        (lambda: fg.nn.BatchNorm1d(3)(fg.ones(1, 3)), ArgumentError, "more than 1 value"),
        (lambda: fg.nn.BatchNorm1d(3)(fg.ones(2, 4)), ShapeError, "must have shape"),
        (lambda: fg.nn.BatchNorm1d(-1), ArgumentError, "not negative"),
        (lambda: fg.nn.GroupNorm(3, 4), ArgumentError, "divisible by num_groups"),
        (lambda: fg.nn.InstanceNorm1d(3)(fg.ones(2, 3, 1)), ArgumentError, "spatial element"),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
