"""RNN, LSTM, GRU and their cells beside PyTorch's: names, values, gradients, training, wrong calls."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

STACKS = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "bias": False}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("GRU", {"num_layers": 2, "batch_first": True}),
    ("GRU", {"bias": False, "bidirectional": True}),
]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]


def several(x):
    return list(x) if isinstance(x, tuple) else [x]


def close(ours, theirs, atol=1e-6):
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-4, atol=atol)


def pair(name, *args, **options):
    """Our module and PyTorch's with the same weights."""
    theirs, ours = getattr(torch.nn, name)(*args, **options), getattr(nn, name)(*args, **options)
    state = {k: fg.tensor(v.numpy()) for k, v in theirs.state_dict().items()}
    assert str(ours.load_state_dict(state)) == "<All keys matched successfully>"
    return ours, theirs


def score(outputs):
    return sum((y**2).sum() + (y**3).sum() for y in outputs)


def flat(result):
    output, last = result
    return [output, *several(last)]


@pytest.mark.parametrize("compile", ["never", "always"])
@pytest.mark.parametrize(("name", "options"), STACKS)
def test_values_and_gradients(name, options, compile, rng):
    ours, theirs = pair(name, 3, 4, **options)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert repr(ours) == repr(theirs)
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    a, b = fg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    with fg.set_compile(compile):
        found, wanted = flat(ours(a)), flat(theirs(b))
        for mine, other in zip(found, wanted, strict=True):
            close(mine, other)
        score(found).backward()
        score(wanted).backward()
        close(a.grad, b.grad, 1e-5)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            close(p.grad, q.grad, 1e-5)


@pytest.mark.parametrize(("name", "options"), STACKS)
def test_given_states_and_sequences_without_batch(name, options, rng):
    ours, theirs = pair(name, 3, 4, **options)
    for shape in ((5, 2, 3), (5, 3)):
        x = rng.standard_normal(shape).astype(np.float32)
        shapes = [s.shape for s in several(theirs(torch.tensor(x))[1])]
        states = [rng.standard_normal(tuple(s)).astype(np.float32) for s in shapes]
        hx = [tuple(map(make, states)) for make in (fg.tensor, torch.tensor)]
        if len(states) == 1:
            hx = [h[0] for h in hx]
        found = flat(ours(fg.tensor(x), hx[0]))
        wanted = flat(theirs(torch.tensor(x), hx[1]))
        for mine, other in zip(found, wanted, strict=True):
            assert tuple(mine.shape) == tuple(other.shape)
            close(mine, other)


@pytest.mark.parametrize("name", CELLS)
def test_cells(name, rng):
    ours, theirs = pair(name, 3, 4)
    assert repr(ours) == repr(theirs)
    for shape in ((2, 3), (3,)):
        x = rng.standard_normal(shape).astype(np.float32)
        state = rng.standard_normal((*shape[:-1], 4)).astype(np.float32)
        given = [
            (make(state), make(2 * state)) if name == "LSTMCell" else make(state)
            for make in (fg.tensor, torch.tensor)
        ]
        for hx in ((), given):
            found = several(ours(fg.tensor(x), *hx[:1]))
            wanted = several(theirs(torch.tensor(x), *hx[1:]))
            score(found).backward()
            score(wanted).backward()
            for mine, other in zip(found, wanted, strict=True):
                close(mine, other)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            close(p.grad, q.grad, 1e-5)
        ours.zero_grad()
        theirs.zero_grad()
    assert repr(nn.RNNCell(3, 4, bias=False, nonlinearity="relu")) == repr(
        torch.nn.RNNCell(3, 4, bias=False, nonlinearity="relu")
    )


def test_the_loop_is_a_cell_at_every_step():
    lstm, cell = nn.LSTM(3, 4), nn.LSTMCell(3, 4)
    for p, q in zip(cell.parameters(), lstm.parameters(), strict=True):
        p.data = q.detach().clone()
    x = fg.randn(6, 2, 3)
    state = fg.zeros(2, 4), fg.zeros(2, 4)
    rows = []
    for row in x:
        state = cell(row, state)
        rows.append(state[0])
    np.testing.assert_allclose(
        lstm(x)[0].detach().numpy(), fg.stack(rows).detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_initial_weights_are_uniform():
    lstm = nn.LSTM(30, 100, num_layers=2)
    for p in lstm.parameters():
        values = p.detach().numpy()
        assert abs(values).max() <= 0.1
        assert values.min() < -0.095
        assert values.max() > 0.095
        assert abs(values.mean()) < 0.01


def test_dropout_between_layers_in_training_only():
    lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    x = fg.randn(5, 2, 3)
    assert not np.array_equal(lstm(x)[0].detach().numpy(), lstm(x)[0].detach().numpy())
    lstm.eval()
    assert np.array_equal(lstm(x)[0].detach().numpy(), lstm(x)[0].detach().numpy())
    dropped = nn.LSTM(3, 4, num_layers=2, dropout=1.0, bias=False)
    assert abs(dropped(x)[0].detach().numpy()).max() == 0  # the second layer sees and knows nothing
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        nn.GRU(3, 4, dropout=0.5)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_training_is_pytorchs(name, rng):
    ours, theirs = pair(name, 3, 4, num_layers=2)
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    opt = fg.optim.Adam(ours.parameters(), lr=0.05)
    other = torch.optim.Adam(theirs.parameters(), lr=0.05)
    for _ in range(4):
        opt.zero_grad()
        other.zero_grad()
        loss = ((ours(fg.tensor(x))[0] - 0.5) ** 2).mean()
        wanted = ((theirs(torch.tensor(x))[0] - 0.5) ** 2).mean()
        loss.backward()
        wanted.backward()
        opt.step()
        other.step()
        np.testing.assert_allclose(loss.item(), wanted.item(), rtol=1e-4)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(p, q, 1e-4)


def test_second_derivatives(rng):
    ours, theirs = pair("GRU", 2, 3)
    ours.double()
    theirs.double()
    x = rng.standard_normal((4, 1, 2))
    a, b = fg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    (g,) = fg.autograd.grad(score([ours(a)[0]]), a, create_graph=True)
    (h,) = torch.autograd.grad(score([theirs(b)[0]]), b, create_graph=True)
    (g,) = fg.autograd.grad((g**2).sum(), a)
    (h,) = torch.autograd.grad((h**2).sum(), b)
    np.testing.assert_allclose(g.numpy(), h.numpy(), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.LSTM(3, 4)(fg.ones(2, 2, 2, 3)), "2D or 3D, got 4D"),
        (lambda: nn.LSTM(3, 4)(fg.ones(5, 2, 2)), "input_size 3"),
        (lambda: nn.LSTM(3, 4)(np.ones((5, 2, 3))), "must be a Tensor"),
        (lambda: nn.LSTM(3, 4)(fg.ones(0, 2, 3)), "sequence length"),
        (lambda: nn.LSTM(3, 4)(fg.ones(5, 2, 3), fg.zeros(1, 2, 4)), "pair"),
        (lambda: nn.GRU(3, 4)(fg.ones(5, 2, 3), fg.zeros(1, 2, 3)), r"shape \(1, 2, 4\)"),
        (lambda: nn.GRU(3, 4)(fg.ones(5, 2, 3, dtype=fg.float64)), "dtype"),
        (lambda: nn.GRU(3, 4)(fg.ones(5, 2, 3), 1.0), "hx must be a Tensor"),
        (lambda: nn.RNN(3, 4, nonlinearity="sin"), "nonlinearity"),
        (lambda: nn.RNN(3, 0), "hidden_size"),
        (lambda: nn.RNN(3, 4, dropout=2), "dropout"),
        (lambda: nn.LSTM(3, 4, proj_size=4), "proj_size"),
        (lambda: nn.RNNCell(3, 4)(fg.ones(1, 2, 3)), "1D or 2D"),
        (lambda: nn.LSTMCell(3, 4)(fg.ones(2, 3), fg.ones(2, 4)), "pair"),
        (lambda: nn.RNNCell(3, 4, nonlinearity="sin"), "nonlinearity"),
    ],
)
def test_wrong_calls(call, words):
    with pytest.raises((fg.errors.ArgumentError, fg.errors.ShapeError, fg.errors.DTypeError)) as e:
        call()
    assert e.match(words)
