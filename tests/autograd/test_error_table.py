"""PyTorch's error situations: the same programs must raise in both libraries, or in neither."""

from __future__ import annotations

import pytest

import flatgrad as fg

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


def _leaf(m):
    return m.ones(4, requires_grad=True)


def _inference(m):
    with m.inference_mode():
        return m.ones(3)


def _written_inside(m):
    x = m.ones(3)
    with m.inference_mode():
        x.add_(1)
    return x.add_(1)


def _under_no_grad(m, split):
    x = _leaf(m) * 2
    with m.no_grad():
        return split(x)[0].mul_(2)


SITUATIONS = {
    "leaf": (lambda m: _leaf(m).add_(1), True),
    "view of a leaf": (lambda m: _leaf(m)[:2].add_(1), True),
    "no input requires grad": (lambda m: m.ones(()).backward(), True),
    "not a scalar": (lambda m: (_leaf(m) * 2).backward(), True),
    "unused": (lambda m: m.autograd.grad(_leaf(m).sum(), _leaf(m)), True),
    "integers": (lambda m: m.tensor([1, 2]).requires_grad_(), True),
    "non-leaf off": (lambda m: (_leaf(m) * 2).requires_grad_(False), True),
    "numpy of a variable": (lambda m: _leaf(m).numpy(), True),
    "split": (lambda m: (_leaf(m) * 2).split(2)[0].mul_(2), True),
    "chunk": (lambda m: (_leaf(m) * 2).chunk(2)[0].mul_(2), True),
    "unbind": (lambda m: (_leaf(m) * 2).unbind()[0].mul_(2), True),
    "a view of a part": (lambda m: (_leaf(m) * 2).split(2)[0][:1].mul_(2), True),
    "split, no grad needed": (lambda m: m.ones(4).split(2)[0].mul_(2), False),
    "split under no_grad": (lambda m: _under_no_grad(m, lambda x: x.split(2)), False),
    "inference, written": (lambda m: _inference(m).add_(1), True),
    "inference, view written": (lambda m: _inference(m).view(3).add_(1), True),
    "inference, variable": (lambda m: _inference(m).requires_grad_(), True),
    "inference, clone": (lambda m: _inference(m).clone().add_(1), False),
    "normal, written in inference": (_written_inside, False),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_same_situations_raise(name):
    program, raises = SITUATIONS[name]
    for module in (torch, fg):
        if raises:
            with pytest.raises(RuntimeError):
                program(module)
        else:
            program(module)


@pytest.mark.parametrize("rebind", ["update", "data", "twice"])
def test_grad_finds_a_leaf_written_since(rebind):
    def program(m):
        w = m.tensor([2.0, 3.0], requires_grad=True)
        y = (w * w).sum()
        if rebind == "data":
            w.data = m.tensor([5.0, 6.0])
        else:
            with m.no_grad():
                w += 1
        if rebind == "twice":
            y = (w * 3).sum()
            with m.no_grad():
                w += 1
            y = y + (w * 5).sum()
        else:
            y = (w * 3).sum()
            with m.no_grad():
                w += 1
        return m.autograd.grad(y, w)[0].tolist()

    assert program(fg) == program(torch) == ([8.0, 8.0] if rebind == "twice" else [3.0, 3.0])
