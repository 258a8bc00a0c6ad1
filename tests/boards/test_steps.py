"""Training steps of networks, compiled and interpreted: what needs no peer runs on a board, too."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn, optim

STEPS = 3


def dense():
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 3)), (8, 12)


def convolutional():
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)]
    return nn.Sequential(*layers), (4, 1, 8, 8)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def recurrent():
    return Recurrent(), (4, 7, 5)


def trained(network, optimiser, how, dtype):
    """(losses, parameters) of a few steps."""
    fg.manual_seed(0)
    fg.set_compile(how)
    model, shape = network()
    model = model.to(dtype)
    rng = np.random.default_rng(1)
    x = fg.tensor(rng.standard_normal(shape), dtype=dtype)
    y = fg.tensor(rng.integers(0, 3, shape[0]))
    opt = optimiser(model.parameters())
    losses = []
    for _ in range(STEPS):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses, [p.detach().numpy() for p in model.parameters()]


@pytest.mark.parametrize("dtype", [fg.float32, fg.float64], ids=str)
@pytest.mark.parametrize(
    "optimiser",
    [lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.01)],
    ids=["SGD", "Adam"],
)
@pytest.mark.parametrize("network", [dense, convolutional, recurrent])
def test_compiled_steps_are_the_interpreters(network, optimiser, dtype):
    expected, right = trained(network, optimiser, "never", dtype)
    losses, found = trained(network, optimiser, "always", dtype)
    tolerance = 200 * np.finfo(dtype.np).eps
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    for a, b in zip(found, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
