"""Small image networks trained beside PyTorch: the same losses and weights, step by step."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from support.beside_torch import torch


def lenet(nn):
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(6 * 2 * 2, 10), nn.Tanh(), nn.Linear(10, 3),
    )  # fmt: skip


def separable(nn):
    """Depthwise and pointwise convolutions with batch normalisation, as in MobileNet."""

    def block(inner, outer, stride):
        return nn.Sequential(
            nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer), nn.Hardswish(),
        )  # fmt: skip

    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.1),
        block(4, 6, 2), block(6, 8, 1), nn.MaxPool2d(3, 2, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


def upward(nn):
    """Down and up again, as in U-Net, over one dimension; group normalisation."""
    return nn.Sequential(
        nn.Flatten(2), nn.Conv1d(1, 4, 4, stride=2, padding=1), nn.GroupNorm(2, 4), nn.SiLU(),
        nn.ConvTranspose1d(4, 2, 4, stride=2, padding=1), nn.ELU(),
        nn.InstanceNorm1d(2, affine=True), nn.AdaptiveMaxPool1d(5), nn.Flatten(), nn.Linear(10, 3),
    )  # fmt: skip


def train(lib, net, images, labels, steps, optimizer):
    """Losses of the steps."""
    losses = []
    own = getattr(lib.optim, optimizer[0])(net.parameters(), **optimizer[1])
    for _ in range(steps):
        loss = lib.nn.functional.cross_entropy(net(lib.tensor(images)), lib.tensor(labels))
        own.zero_grad()
        loss.backward()
        own.step()
        losses.append(loss.item())
    return losses


OPTIMIZERS = {
    lenet: ("SGD", {"lr": 0.1, "momentum": 0.9}),
    separable: ("Adam", {"lr": 0.01}),
    upward: ("AdamW", {"lr": 0.02}),
}


@pytest.mark.parametrize(
    ("make", "mode"),
    [
        (lenet, "never"),
        (separable, "never"),
        (upward, "never"),
        (lenet, "always"),
        pytest.param(separable, "always", marks=pytest.mark.slow),
        pytest.param(upward, "always", marks=pytest.mark.slow),
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_training_is_torchs(make, mode):
    rng = np.random.default_rng(11)
    images = rng.standard_normal((6, 1, 12, 12))
    labels = rng.integers(0, 3, 6)
    theirs = make(torch.nn).double()
    ours = make(fg.nn).double()
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: fg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    fg.set_compile(mode)
    found = train(fg, ours, images, labels, 6, OPTIMIZERS[make])
    expected = train(torch, theirs, images, labels, 6, OPTIMIZERS[make])
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert found[-1] < found[0]
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-8, err_msg=key)
    ours.eval()
    theirs.eval()
    with torch.no_grad(), fg.no_grad():
        y, z = ours(fg.tensor(images)), theirs(torch.tensor(images))
    np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-5, atol=1e-8)
