"""Modules: registration, state, hooks, printing, as PyTorch's."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn

torch = pytest.importorskip("torch")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.act = nn.Tanh()
        self.last = nn.Linear(4, 2, bias=False)
        self.scale = nn.Parameter(fg.ones(()))
        self.register_buffer("count", fg.zeros(1))
        self.register_buffer("scratch", fg.zeros(1), persistent=False)

    def forward(self, x):
        return self.last(self.act(self.first(x))) * self.scale


def nested(module):
    return module.Sequential(
        module.Linear(64, 128),
        module.ReLU(),
        module.Sequential(module.Dropout(0.2), module.Flatten(), module.GELU()),
        module.ModuleList([module.Tanh(), module.Sigmoid(), module.Identity()]),
        module.ModuleDict({"a": module.Softmax(dim=1), "b": module.LogSoftmax(dim=-1)}),
        module.Linear(128, 10, bias=False),
        module.CrossEntropyLoss(),
        module.ReLU(inplace=True),
    )


def test_repr_is_pytorchs():
    assert repr(nested(nn)) == repr(nested(torch.nn))
    assert repr(nn.Linear(2, 3)) == "Linear(in_features=2, out_features=3, bias=True)"
    assert repr(nn.Sequential()) == repr(torch.nn.Sequential())


def test_names_and_walks():
    net = Net()
    names = ["scale", "first.weight", "first.bias", "last.weight"]
    assert [n for n, _ in net.named_parameters()] == names
    assert [n for n, _ in net.named_buffers()] == ["count", "scratch"]
    assert list(net.state_dict()) == ["scale", "count", *names[1:]]
    assert [n for n, _ in net.named_modules()] == ["", "first", "act", "last"]
    assert [n for n, _ in net.named_children()] == ["first", "act", "last"]
    assert len(list(net.parameters(recurse=False))) == 1
    assert net.get_submodule("first") is net.first
    assert net.get_parameter("first.weight") is net.first.weight
    shared = nn.Sequential(net.first, net.first)
    assert len(list(shared.parameters())) == 2 and len(list(shared.children())) == 1
    assert "first" in dir(net) and "scale" in dir(net)


def test_attributes():
    net = Net()
    assert isinstance(net.scale, nn.Parameter) and isinstance(net.scale, fg.Tensor)
    assert net.scale.is_leaf and net.scale.requires_grad
    net.scale = nn.Parameter(fg.zeros(2))
    assert net.scale.shape == (2,)
    net.count = fg.ones(3)
    assert net.count.shape == (3,) and "count" in dict(net.named_buffers())
    net.first = nn.Identity()
    assert "first.weight" not in dict(net.named_parameters())
    net.plain = 3
    assert net.plain == 3
    del net.last
    assert not hasattr(net, "last")
    with pytest.raises(TypeError, match="Parameter or None required"):
        net.scale = fg.zeros(2)
    with pytest.raises(TypeError, match="child module"):
        net.act = 3
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        net.nothing  # noqa: B018
    with pytest.raises(KeyError, match="already exists"):
        net.add_module("forward", nn.Identity())
    with pytest.raises(KeyError, match="contain"):
        net.add_module("a.b", nn.Identity())
    with pytest.raises(TypeError, match="not a Module"):
        net.add_module("x", 3)

    class Early(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match="super"):
        Early()
    with pytest.raises(RuntimeError, match='required "forward"'):
        nn.Module()(1)


def test_forward_is_pytorchs():
    ours, theirs = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), None
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    state = {k: fg.tensor(v.numpy()) for k, v in theirs.state_dict().items()}
    assert repr(ours.load_state_dict(state)) == "<All keys matched successfully>"
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    a, b = ours(fg.tensor(x)), theirs(torch.tensor(x))
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_training_mode_and_gradients():
    net = nested(nn)
    assert net.training and net[2][0].training
    net.eval()
    assert not net[2][0].training
    assert net.train() is net and net[2][0].training
    net = Net()
    net(fg.ones(1, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert net.first.weight.grad.abs().sum().item() == 0
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(fg.ones(1, 3)).requires_grad
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Tanh", "Linear", "Net"]


def test_dtype():
    net = Net().double()
    assert {p.dtype for p in net.parameters()} == {fg.float64}
    assert net(fg.ones(1, 3, dtype=fg.float64)).dtype is fg.float64
    assert net.float().first.weight.dtype is fg.float32
    assert net.to(fg.float64).count.dtype is fg.float64
    assert isinstance(net.scale, nn.Parameter) and net.scale.is_leaf
    assert nn.Linear(2, 2, dtype=fg.float64).weight.dtype is fg.float64
    with pytest.raises(RuntimeError, match="floating-point"):
        net.to(fg.int64)


def test_state_is_shared_and_loaded():
    a, b = Net(), Net()
    state = a.state_dict()
    b.load_state_dict(state)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.tolist() == q.tolist()
    with fg.no_grad():
        a.scale.add_(1)
    assert state["scale"].item() == 2.0 and not state["scale"].requires_grad
    assert b.scale.item() == 1.0
    opt = fg.optim.SGD(a.parameters(), lr=1.0)
    a(fg.ones(1, 3)).sum().backward()
    before = a.scale.item()
    opt.step()
    assert a.scale.item() != before and state["scale"].item() == a.scale.item()


def test_load_errors_name_everything():
    net = Net()
    state = net.state_dict()
    state["extra"] = fg.ones(1)
    del state["scale"]
    state["first.weight"] = fg.ones(2, 2)
    before = net.first.bias.tolist()
    state["first.bias"] = fg.ones(4)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    for part in (
        'Missing key(s) in state_dict: "scale"',
        '"extra"',
        "size mismatch for first.weight",
    ):
        assert part in str(caught.value)
    assert net.first.bias.tolist() == before
    state["first.weight"] = fg.ones(4, 3)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["scale"] and result.unexpected_keys == ["extra"]
    assert net.first.bias.tolist() == [1.0] * 4
    with pytest.raises(TypeError, match="dict"):
        net.load_state_dict([1])
    net.load_state_dict({k: v.double() for k, v in net.state_dict().items()}, assign=True)
    assert net.first.weight.dtype is fg.float64


def test_hooks():
    layer = nn.Identity()
    calls = []
    pre = layer.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    post = layer.register_forward_hook(lambda m, args, out: calls.append(out.item()))
    assert layer(fg.tensor(1.0)).item() == 2.0 and calls == [2.0]
    pre.remove()
    post.remove()
    with layer.register_forward_hook(lambda m, args, out: out * 10):
        assert layer(fg.tensor(1.0)).item() == 10.0
    assert layer(fg.tensor(1.0)).item() == 1.0 and calls == [2.0]


def test_containers():
    seq = nn.Sequential(OrderedDict(a=nn.Linear(1, 2), b=nn.ReLU()))
    assert seq.a is seq[0] and seq[-1] is seq.b and len(seq) == 2 and seq.b in seq
    assert isinstance(seq[:1], nn.Sequential) and len(seq[:1]) == 1
    seq[1] = nn.Tanh()
    assert isinstance(seq.b, nn.Tanh)
    seq = nn.Sequential(nn.Tanh())
    seq.append(nn.ReLU()).insert(0, nn.Identity())
    assert [type(m).__name__ for m in seq] == ["Identity", "Tanh", "ReLU"]
    assert isinstance(seq.pop(0), nn.Identity) and list(seq._modules) == ["0", "1"]
    del seq[0]
    assert len(seq) == 1
    modules = nn.ModuleList([nn.Linear(1, 1)])
    modules += [nn.Linear(1, 1)]
    modules.extend([nn.ReLU()])
    assert len(modules) == 3 and len(modules[1:]) == 2
    with pytest.raises(IndexError, match="out of range"):
        modules[3]
    named = nn.ModuleDict({"x": nn.ReLU()})
    named["y"] = nn.Tanh()
    assert list(named) == ["x", "y"] and "x" in named and len(named) == 2
    assert isinstance(named.pop("x"), nn.ReLU) and list(named.keys()) == ["y"]
    params = nn.ParameterList([fg.ones(2), nn.Parameter(fg.zeros(1))])
    params.append(fg.ones(3))
    assert len(list(params.parameters())) == 3 and params[-1].shape == (3,)
    params[0] = fg.zeros(5)
    assert params[0].shape == (5,) and len(params[:2]) == 2
    assert "ParameterList(" in repr(params)


def test_copies_and_pickles():
    net = Net()
    net(fg.ones(1, 3)).sum().backward()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(other.scale, nn.Parameter)
        assert other.scale.grad.tolist() == net.scale.grad.tolist()
        with fg.no_grad():
            other.scale.mul_(0)
        assert net.scale.item() == 1.0


def test_parameter():
    p = nn.Parameter(fg.tensor([1.0, 2.0]))
    assert repr(p) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    assert nn.Parameter(fg.tensor([1]), requires_grad=False).dtype is fg.int64
    assert nn.Parameter().shape == (0,)
    assert type(p * 2) is fg.Tensor
    with pytest.raises(RuntimeError, match="floating-point"):
        nn.Parameter(fg.tensor([1]))
    with pytest.raises(RuntimeError, match="a Tensor is required"):
        nn.Parameter([1.0])


def test_initial_values():
    fg.manual_seed(0)
    layer = nn.Linear(100, 200)
    w = layer.weight.detach().numpy()
    assert np.abs(w).max() <= 0.1 and abs(w.std() - 0.1 / np.sqrt(3)) < 1e-3
    assert np.abs(layer.bias.detach().numpy()).max() <= 0.1
    x = fg.empty(100, 50, dtype=fg.float64)
    init = nn.init
    assert abs(init.xavier_uniform_(x).numpy().std() - np.sqrt(2 / 150)) < 3e-3
    assert abs(init.xavier_normal_(x, 2.0).numpy().std() - 2 * np.sqrt(2 / 150)) < 6e-3
    assert abs(init.kaiming_normal_(x, nonlinearity="relu").numpy().std() - np.sqrt(2 / 50)) < 6e-3
    assert abs(init.kaiming_uniform_(x, mode="fan_out").numpy().std() - np.sqrt(2 / 100)) < 6e-3
    q = init.orthogonal_(x, 3.0).numpy()
    np.testing.assert_allclose(q.T @ q, 9 * np.eye(50), atol=1e-12)
    t = init.trunc_normal_(x, 1.0, 2.0, 0.0, 2.0).numpy()
    assert t.min() >= 0 and t.max() <= 2
    assert init.constant_(fg.empty(2), 3).tolist() == [3.0, 3.0]
    assert init.eye_(fg.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert init.ones_(fg.empty(1)).item() == 1 and init.zeros_(fg.ones(1)).item() == 0
    for name in ("relu", "tanh", "linear", "sigmoid", "selu", "leaky_relu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    p = nn.Parameter(fg.zeros(3))
    assert init.uniform_(p, 1, 2) is p and p.requires_grad and p.is_leaf and min(p.tolist()) >= 1
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        init.xavier_uniform_(fg.empty(3))
    with pytest.raises(RuntimeError, match="unsupported nonlinearity"):
        init.calculate_gain("step")


def test_clipping_and_vectors():
    arrays = [np.random.default_rng(k).standard_normal(s) for k, s in enumerate([(3, 2), (4,)])]
    for norm in (2.0, 1.0, float("inf"), 3.0):
        ours = [fg.tensor(a, requires_grad=True) for a in arrays]
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        for t in (*ours, *theirs):
            (t * t).sum().backward()
        a = nn.utils.clip_grad_norm_(ours, 0.7, norm)
        b = torch.nn.utils.clip_grad_norm_(theirs, 0.7, norm)
        assert a.item() == pytest.approx(b.item(), rel=1e-12)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)
    nn.utils.clip_grad_value_(ours, 0.01)
    assert max(abs(v) for p in ours for v in p.grad.reshape(-1).tolist()) <= 0.01
    vector = nn.utils.parameters_to_vector(ours)
    assert vector.shape == (10,)
    nn.utils.vector_to_parameters(fg.arange(10.0, dtype=fg.float64), ours)
    assert ours[1].tolist() == [6.0, 7.0, 8.0, 9.0] and ours[0].is_leaf
    ours[0].grad = fg.full((3, 2), float("nan"), dtype=fg.float64)
    with pytest.raises(RuntimeError, match="detect_anomaly"):
        nn.utils.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match="10 elements"):
        nn.utils.vector_to_parameters(fg.zeros(3), ours)
