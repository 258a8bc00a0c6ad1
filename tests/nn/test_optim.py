"""Optimisers and schedulers: PyTorch's numbers to rounding, its state_dict, its errors."""

import copy
import pickle

import numpy as np
import pytest

import flatgrad as fg

torch = pytest.importorskip("torch")

SHAPES = [(3, 4), (4,), ()]


def problem(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]


def loss_of(params, t):
    """A function that is not quadratic, the same in both libraries."""
    a, b, c = params
    return ((a * (t + 1)).sin() * b).sum() + (b * b + b * c.sin()).sum() + (c - 1) * (c - 1)


def run(module, make, arrays, steps=20, each=None):
    params = [module.tensor(a, requires_grad=True) for a in arrays]
    opt = make(module.optim, params)
    for t in range(steps):
        opt.zero_grad()
        loss_of(params, 0.1 * t).backward()
        opt.step()
        if each is not None:
            each(opt, t)
    return params, opt


def assert_same(ours, theirs, dtype):
    tol = {"rtol": 1e-12, "atol": 1e-13} if dtype == np.float64 else {"rtol": 2e-5, "atol": 2e-6}
    for a, b in zip(ours, theirs, strict=True):
        b = b.detach().numpy()
        assert np.isfinite(b).all() and np.any(b != 0)
        np.testing.assert_allclose(a.detach().numpy(), b, **tol)
        assert a.is_leaf and a.requires_grad


RULES = {
    "sgd": lambda o, p: o.SGD(p, lr=0.05),
    "momentum": lambda o, p: o.SGD(p, lr=0.02, momentum=0.9),
    "dampening": lambda o, p: o.SGD(p, lr=0.02, momentum=0.9, dampening=0.3),
    "nesterov": lambda o, p: o.SGD(p, lr=0.02, momentum=0.8, nesterov=True),
    "decay": lambda o, p: o.SGD(p, lr=0.02, momentum=0.5, weight_decay=0.1),
    "maximize": lambda o, p: o.SGD(p, lr=0.002, weight_decay=0.1, maximize=True),
    "adam": lambda o, p: o.Adam(p, lr=0.05),
    "adam_decay": lambda o, p: o.Adam(p, lr=0.05, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-6),
    "amsgrad": lambda o, p: o.Adam(p, lr=0.05, amsgrad=True),
    "adam_max": lambda o, p: o.Adam(p, lr=0.01, maximize=True),
    "adamw": lambda o, p: o.AdamW(p, lr=0.05),
    "adamw_amsgrad": lambda o, p: o.AdamW(p, lr=0.05, weight_decay=0.2, amsgrad=True),
    "groups": lambda o, p: o.SGD(
        [{"params": p[:1], "lr": 0.1}, {"params": p[1:], "momentum": 0.9}], lr=0.01
    ),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rule", RULES)
def test_twenty_steps(rule, dtype):
    ours, _ = run(fg, RULES[rule], problem(dtype=dtype))
    theirs, _ = run(torch, RULES[rule], problem(dtype=dtype))
    assert_same(ours, theirs, dtype)


@pytest.mark.parametrize("rule", ["momentum", "adam", "amsgrad"])
def test_learning_rate_may_change_between_steps(rule):
    def each(opt, t):
        opt.param_groups[0]["lr"] = 0.05 / (t + 1)

    ours, opt = run(fg, RULES[rule], problem(), each=each)
    theirs, _ = run(torch, RULES[rule], problem(), each=each)
    assert_same(ours, theirs, np.float64)
    # The rate is an input of the update: one graph serves all steps (and one the first momentum).
    assert len(opt._graphs) == (2 if rule == "momentum" else 1)


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "amsgrad"])
def test_state_dict_continues(rule):
    params, opt = run(fg, RULES[rule], problem(), steps=5)
    saved = copy.deepcopy(opt.state_dict())
    weights = [p.detach().clone() for p in params]
    again = [fg.tensor(w.numpy(), requires_grad=True) for w in weights]
    other = RULES[rule](fg.optim, again)
    other.load_state_dict(pickle.loads(pickle.dumps(saved)))
    for p, o in ((params, opt), (again, other)):
        for t in range(5):
            o.zero_grad()
            loss_of(p, 0.1 * t).backward()
            o.step()
    for a, b in zip(params, again, strict=True):
        assert a.tolist() == b.tolist()
    assert saved["param_groups"][0]["params"] == [0, 1, 2]


def test_state_dict_is_pytorchs():
    for rule in ("momentum", "adam", "adamw_amsgrad"):
        _, ours = run(fg, RULES[rule], problem(), steps=3)
        _, theirs = run(torch, RULES[rule], problem(), steps=3)
        a, b = ours.state_dict(), theirs.state_dict()
        assert a["state"].keys() == b["state"].keys()
        for k, state in b["state"].items():
            assert a["state"][k].keys() == state.keys()
            for name, value in state.items():
                np.testing.assert_allclose(a["state"][k][name].numpy(), value.numpy(), rtol=1e-12)
        assert [g["params"] for g in a["param_groups"]] == [g["params"] for g in b["param_groups"]]
        # PyTorch accepts our state for its own optimizer.
        state = {
            k: {n: torch.tensor(v.numpy()) for n, v in s.items()} for k, s in a["state"].items()
        }
        theirs.load_state_dict({"state": state, "param_groups": a["param_groups"]})


def test_closure_and_missing_gradients():
    x = fg.tensor([2.0], requires_grad=True)
    unused = fg.tensor([5.0], requires_grad=True)
    opt = fg.optim.SGD([x, unused], lr=0.1)

    def closure():
        opt.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 4.0
    assert x.item() == pytest.approx(1.6) and unused.item() == 5.0
    opt.zero_grad(set_to_none=False)
    assert x.grad.tolist() == [0.0] and unused.grad is None
    opt.zero_grad()
    assert x.grad is None
    opt.step()
    assert x.item() == pytest.approx(1.6)


def test_step_does_not_disturb_recorded_graphs_and_views():
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    opt = fg.optim.SGD([x], lr=0.5)
    shown = x.detach()
    array = x.detach().numpy()
    y = (x * x).sum()
    y.backward()
    kept = x * 10
    opt.step()
    assert x.tolist() == [0.0, 0.0] and shown.tolist() == [0.0, 0.0]
    assert array.tolist() == [0.0, 0.0]
    assert kept.tolist() == [10.0, 20.0]


def test_add_param_group():
    x, y = (fg.tensor([1.0], requires_grad=True) for _ in range(2))
    opt = fg.optim.SGD([x], lr=0.1)
    opt.add_param_group({"params": y, "lr": 0.2})
    (x + y).sum().backward()
    opt.step()
    assert x.item() == pytest.approx(0.9) and y.item() == pytest.approx(0.8)
    assert "Parameter Group 1" in repr(opt) and "lr: 0.2" in repr(opt)


def leaf():
    return fg.tensor([1.0], requires_grad=True)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: fg.optim.SGD([], lr=0.1), "empty parameter list"),
        (lambda: fg.optim.SGD(leaf(), lr=0.1), "iterable of Tensors"),
        (lambda: fg.optim.SGD([3], lr=0.1), "can only optimize Tensors"),
        (lambda: fg.optim.SGD([leaf() * 2], lr=0.1), "non-leaf"),
        (lambda: fg.optim.SGD([leaf()] * 2, lr=0.1), "more than one"),
        (lambda: fg.optim.SGD([leaf()], lr=-1), "learning rate"),
        (lambda: fg.optim.SGD([leaf()], lr=1, nesterov=True), "Nesterov"),
        (lambda: fg.optim.Adam([leaf()], betas=(1.0, 0.9)), "beta parameter at index 0"),
        (lambda: fg.optim.Adam([leaf()], eps=-1), "epsilon"),
        (lambda: fg.optim.SGD([leaf()]).load_state_dict({"param_groups": []}), "number of"),
    ],
)
def test_errors(call, match):
    with pytest.raises(RuntimeError, match=match):
        call()


SCHEDULES = {
    "step": lambda s, o: s.StepLR(o, 3, 0.5),
    "multi": lambda s, o: s.MultiStepLR(o, [2, 2, 5], 0.5),
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.8),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 6, 0.01),
    "constant": lambda s, o: s.ConstantLR(o, 0.25, 4),
    "linear": lambda s, o: s.LinearLR(o, 0.2, 1.0, 5),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_schedules(name):
    rates = []
    for module in (fg, torch):
        x = module.tensor([1.0], requires_grad=True)
        opt = module.optim.SGD([{"params": [x]}], lr=0.3)
        scheduler = SCHEDULES[name](module.optim.lr_scheduler, opt)
        found = []
        for _ in range(12):
            found.append(opt.param_groups[0]["lr"])
            assert scheduler.get_last_lr() == [found[-1]]
            opt.step()
            scheduler.step()
        rates.append(found)
    np.testing.assert_allclose(*rates, rtol=1e-12)
    assert len(set(rates[0])) > 1


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_plateau(mode, threshold_mode):
    measures = [1.0, 0.9, 0.9, 0.9, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 1.5, 1.5, 1.5]
    rates = []
    for module in (fg, torch):
        opt = module.optim.SGD([module.tensor([1.0], requires_grad=True)], lr=1.0)
        scheduler = module.optim.lr_scheduler.ReduceLROnPlateau(
            opt, mode, 0.5, 2, threshold=0.01, threshold_mode=threshold_mode, cooldown=1, min_lr=0.1
        )
        found = []
        for m in measures:
            scheduler.step(module.tensor(m))
            found.append(opt.param_groups[0]["lr"])
        rates.append(found)
    assert rates[0] == rates[1] and len(set(rates[0])) > 1


def test_scheduler_state_and_errors():
    opt = fg.optim.SGD([leaf()], lr=1.0)
    scheduler = fg.optim.lr_scheduler.StepLR(opt, 2, 0.1)
    scheduler.step()
    state = scheduler.state_dict()
    assert state["last_epoch"] == 1 and "optimizer" not in state
    other = fg.optim.lr_scheduler.StepLR(opt, 5)
    other.load_state_dict(state)
    other.step()
    assert opt.param_groups[0]["lr"] == pytest.approx(0.1)
    with pytest.raises(RuntimeError, match="not an Optimizer"):
        fg.optim.lr_scheduler.StepLR(3, 2)
    with pytest.raises(RuntimeError, match="Factor"):
        fg.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=2.0)
    with pytest.raises(RuntimeError, match="lr_lambdas"):
        fg.optim.lr_scheduler.LambdaLR(opt, [abs, abs])


@pytest.mark.parametrize("size", [1, 4])  # 1 would broadcast
def test_a_state_of_another_shape_is_refused_when_it_is_loaded(size):
    def stepped(size):
        p = fg.ones(2, size).requires_grad_()
        opt = fg.optim.Adam([p])
        p.sum().backward()
        opt.step()
        return opt

    opt, other = stepped(size), stepped(3)
    before = {name: t.tolist() for name, t in opt.state_dict()["state"][0].items()}
    with pytest.raises(
        fg.errors.ArgumentError, match=r"size mismatch for exp_avg of parameter 0: .*\[2, 3\]"
    ):
        opt.load_state_dict(other.state_dict())
    assert {name: t.tolist() for name, t in opt.state_dict()["state"][0].items()} == before
