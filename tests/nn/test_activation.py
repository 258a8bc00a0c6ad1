"""Activations beside PyTorch's: values and derivatives, on the kinks too; layers; writing in place."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError
from support.beside_torch import beside_torch, close, torch

KINKS = [-6.0, -3.0, -1.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5, 3.0, 6.0, 20.0, 21.0]
LARGE = [-800.0, -90.0, 90.0, 800.0]
CALLS = {
    "leaky_relu": [(), (0.2,), (-0.5,)],
    "elu": [(), (1.5,)],
    "selu": [()],
    "celu": [(), (1.5,)],
    "silu": [()],
    "mish": [()],
    "hardtanh": [(), (-1.5, 3.0)],
    "relu6": [()],
    "hardsigmoid": [()],
    "hardswish": [()],
    "softplus": [(), (2.0, 3.0), (-1.0,)],
    "logsigmoid": [()],
    "softsign": [()],
    "tanhshrink": [()],
    "hardshrink": [(), (1.5,)],
    "softshrink": [(), (1.5,)],
    "threshold": [(0.5, 20.0)],
    "relu": [()],
    "gelu": [(), ("tanh",)],
}
CASES = [(name, args) for name, rows in CALLS.items() for args in rows]
# PyTorch's 1 / 6 in the gradients of these is a single-precision number.
COARSE = {"hardsigmoid", "hardswish"}


def peer(F, name):
    if name == "gelu":
        return lambda x, approximate="none": F.gelu(x, approximate=approximate)
    return getattr(F, name)


@pytest.mark.parametrize(("name", "args"), CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_is_torchs_on_kinks_and_far_out(name, args, dtype):
    if name in COARSE and dtype is np.float64:
        dtype = np.float32
    x = np.array(KINKS + LARGE, dtype)
    beside_torch(lambda F, x: peer(F, name)(x, *args), x)
    if dtype is np.float64:  # on a kink the second derivative is anybody's
        x = x[(abs(x) < 25)] + 0.01
        beside_torch(lambda F, x: peer(F, name)(x, *args), x, second=True)


@pytest.mark.parametrize(("name", "args"), CASES, ids=str)
def test_forward_mode_and_not_a_number(name, args):
    x = np.random.default_rng(1).uniform(-4, 4, (3, 4))
    beside_torch(lambda F, x: peer(F, name)(x, *args), x.astype(np.float32), forward=True)
    nan = fg.tensor([np.nan])
    if name not in ("hardshrink", "softshrink", "threshold"):
        assert np.isnan(peer(fg.nn.functional, name)(nan, *args).numpy()).all()


def test_shrinking_not_a_number_is_torchs():
    for name, args in (("hardshrink", ()), ("softshrink", ()), ("threshold", (0.5, 1.0))):
        ours = peer(fg.nn.functional, name)(fg.tensor([np.nan, 1.0]), *args).numpy()
        theirs = peer(torch.nn.functional, name)(torch.tensor([np.nan, 1.0]), *args).numpy()
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_several_inputs():
    rng = np.random.default_rng(2)
    for shape, count in (((2, 3, 4), 3), ((5, 3), 1), ((4,), 1)):
        x, w = rng.normal(size=shape), rng.normal(size=count)
        beside_torch(lambda F, x, w: F.prelu(x, w), x, w, second=True, forward=True)
    beside_torch(lambda F, x: F.glu(x, 1), rng.normal(size=(2, 6, 3)), second=True, forward=True)


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "leaky_relu", "elu", "selu", "silu", "hardtanh", "hardswish"]
)
def test_in_place(name):
    found = []
    for lib in (fg, torch):
        leaf = lib.tensor([-2.0, -0.5, 0.5, 7.0], requires_grad=True)
        x = leaf * 2
        y = peer(lib.nn.functional, name)(x, inplace=True)
        assert y is x
        (x * x).sum().backward()
        found.append((x.detach().numpy(), leaf.grad.numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_integers_stay_integers():
    x = np.array([-3, 0, 5, 9])
    for name in ("hardtanh", "relu6", "relu"):
        y = peer(fg.nn.functional, name)(fg.tensor(x))
        want = peer(torch.nn.functional, name)(torch.tensor(x))
        assert y.dtype is fg.int64
        assert y.tolist() == want.tolist()


LAYERS = [
    ("ReLU", ()), ("ReLU6", (True,)), ("LeakyReLU", (0.2,)), ("LeakyReLU", (0.2, True)),
    ("ELU", (1.5,)), ("CELU", (1.5, True)), ("SELU", ()), ("SiLU", ()), ("Mish", (True,)),
    ("GELU", ()), ("GELU", ("tanh",)), ("Hardtanh", ()), ("Hardtanh", (-2.0, 2.0, True)),
    ("Hardswish", ()), ("Hardsigmoid", ()), ("Softplus", ()), ("Softplus", (2, 10)),
    ("LogSigmoid", ()), ("Softsign", ()), ("Tanhshrink", ()), ("Hardshrink", ()),
    ("Softshrink", (0.3,)), ("Threshold", (0.1, 20.0)), ("Tanh", ()), ("Sigmoid", ()),
    ("PReLU", ()), ("PReLU", (3,)), ("GLU", (0,)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), LAYERS, ids=str)
def test_layers_are_torchs(name, args):
    ours, theirs = getattr(fg.nn, name)(*args), getattr(torch.nn, name)(*args)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = np.random.default_rng(3).uniform(-4, 4, (4, 3)).astype(np.float32)
    grads = []
    for lib, layer in ((fg, ours), (torch, theirs)):
        leaf = lib.tensor(x, requires_grad=True)
        y = layer(leaf * 1)
        (y * y).sum().backward()
        grads.append((y, leaf.grad))
    close(grads[0][0], grads[1][0], name, 1e-5)
    close(grads[0][1], grads[1][1], name, 1e-5)
    row = fg.nn.Sequential(fg.nn.Identity(), fg.nn.Tanh(), ours)
    by_hand = ours(fg.tanh(fg.tensor(x)))
    np.testing.assert_allclose(
        row(fg.tensor(x)).detach().numpy(), by_hand.detach().numpy(), rtol=1e-6
    )
    both = fg.nn.Sequential(fg.nn.Tanh(), ours)(fg.tensor(x))
    np.testing.assert_allclose(both.detach().numpy(), by_hand.detach().numpy(), rtol=1e-6)


def test_layers_of_shapes():
    x = np.random.default_rng(4).normal(size=(2, 6, 3, 2))
    for name, args in (("Softmin", (1,)), ("Softmax2d", ()), ("Unflatten", (1, (2, -1)))):
        ours, theirs = getattr(fg.nn, name)(*args), getattr(torch.nn, name)(*args)
        assert repr(ours) == repr(theirs)
        close(ours(fg.tensor(x)), theirs(torch.tensor(x)), name, 1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.nn.Hardtanh(1.0, -1.0), "min_val must be smaller"),
        (lambda: fg.nn.PReLU(0), "at least 1"),
        (lambda: fg.nn.Softplus(0)(fg.ones(2)), "beta must not be 0"),
        (lambda: fg.nn.LeakyReLU("x")(fg.ones(2)), "must be a number"),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
