"""An optimiser's step writes over its parameters' memory, unless somebody may still want the old values."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn

F = nn.functional


def address(t):
    """Where the values are. (``data_ptr`` would show the memory to the user.)"""
    return t._node.value.ctypes.data


class Training:
    def __init__(self, optimizer=fg.optim.Adam, **options):
        self.model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
        self.opt = optimizer(self.model.parameters(), lr=0.1, **options)
        self.x, self.y = fg.randn(8, 6), fg.tensor(np.arange(8) % 4)

    def step(self, **options):
        self.opt.zero_grad()
        loss = F.cross_entropy(self.model(self.x), self.y)
        loss.backward(**options)
        self.opt.step()
        return loss

    def addresses(self):
        states = [s for p in self.model.parameters() for s in self.opt.state[p].values()]
        return [address(t) for t in (*self.model.parameters(), *states) if t.ndim]


@pytest.fixture(autouse=True)
def compiled():
    with fg.set_compile("always"):
        yield


@pytest.mark.parametrize("options", [{}, {"optimizer": fg.optim.SGD, "momentum": 0.9}])
def test_steps_keep_their_memory(options):
    training = Training(**options)
    training.step()
    training.step()  # from here on the structure is the same
    before = training.addresses()
    losses = [training.step().item() for _ in range(4)]
    assert training.addresses() == before
    assert losses == sorted(losses, reverse=True)


def test_it_is_the_same_training(rng):
    found = []
    for mode in ("never", "always"):
        fg.manual_seed(3)
        with fg.set_compile(mode):
            training = Training()
            for _ in range(5):
                training.step()
        found.append([p.detach().numpy() for p in training.model.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_what_others_see_stays():
    training = Training()
    for _ in range(3):
        training.step()
    weight = training.model[0].weight
    old = np.array(weight.tolist(), np.float32)
    copy = weight.clone()  # recorded, not computed
    double = weight.detach() * 2
    training.step()
    np.testing.assert_array_equal(copy.detach().numpy(), old)
    np.testing.assert_array_equal(double.numpy(), 2 * old)
    assert not np.array_equal(weight.detach().numpy(), old)


def test_shown_memory_follows_as_in_pytorch():
    training = Training()
    for _ in range(3):
        training.step()
    shown = training.model[0].weight.detach().numpy()
    training.step()
    np.testing.assert_array_equal(shown, training.model[0].weight.detach().numpy())


def test_a_retained_graph_keeps_the_values_it_needs():
    training = Training()
    for _ in range(3):
        training.step(retain_graph=True)
    model = training.model
    loss = F.cross_entropy(model(training.x), training.y)
    first = fg.autograd.grad(loss, model[0].weight, retain_graph=True)[0].numpy().copy()
    training.opt.zero_grad()
    loss.backward(retain_graph=True)
    training.opt.step()
    # PyTorch refuses here; saved values cannot be changed in flatgrad.
    second = model[0].weight.grad
    np.testing.assert_allclose(second.numpy(), first, rtol=1e-5, atol=1e-7)
    again = fg.autograd.grad(loss, list(model[2].parameters()))
    assert all(np.isfinite(g.numpy()).all() for g in again)


def test_a_loss_that_is_kept_can_be_read():
    training = Training()
    losses = [training.step() for _ in range(6)]
    values = [loss.item() for loss in losses]
    assert values == sorted(values, reverse=True)


def test_an_index_out_of_range_changes_nothing():
    table = nn.Embedding(4, 3)
    opt = fg.optim.SGD(table.parameters(), lr=0.1)

    def step(index):
        opt.zero_grad()
        table(fg.tensor(index)).square().sum().backward()
        opt.step()

    for _ in range(3):
        step([0, 1])
    before = np.array(table.weight.tolist(), np.float32)
    with pytest.raises(IndexError):
        step([0, 7])
    np.testing.assert_array_equal(table.weight.detach().numpy(), before)
    step([1, 2])
    assert not np.array_equal(table.weight.detach().numpy(), before)
