"""Dual tensors beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import forward_ad as ours

DATA = np.array([0.5, -1.25, 2.0])
V = np.array([1.0, -2.0, 0.5])


def f(x, y):
    return x.exp() * y.sum() + (x * y).sin()


def both(build):
    """``build(lib, forward_ad, x, v)``, a list of tensors and None, equals PyTorch's."""
    torch = pytest.importorskip("torch")
    expected = build(torch, torch.autograd.forward_ad, torch.tensor(DATA), torch.tensor(V))
    got = build(fg, ours, fg.tensor(DATA), fg.tensor(V))
    assert any(e is not None for e in expected)
    for e, g in zip(expected, got, strict=True):
        if e is None or g is None:
            assert e is g
            continue
        assert e.requires_grad == g.requires_grad
        np.testing.assert_allclose(g.detach().numpy(), e.detach().numpy(), rtol=1e-12)


def test_tangents():
    def build(lib, AD, x, v):
        with AD.dual_level() as level:
            assert level == 0
            a, b = AD.make_dual(x, v), AD.make_dual(x + 1, v * 2)
            one = AD.unpack_dual(f(a, b))
            two = AD.unpack_dual(f(a, x))
            none = AD.unpack_dual(f(x, x))
            itself = AD.unpack_dual(a)
            detached = AD.unpack_dual(f(a.detach(), x))
        return [*one, *two, *none, *itself, *detached]

    both(build)


def test_an_unpacked_primal_has_no_tangent():
    def build(lib, AD, x, v):
        with AD.dual_level():
            y = f(AD.make_dual(x, v), x)
            primal = AD.unpack_dual(y).primal
            return [
                AD.unpack_dual(primal).tangent,
                AD.unpack_dual(primal * 2).tangent,
                AD.unpack_dual(primal * y).tangent,
            ]

    both(build)


def test_after_the_level_nothing_is_dual():
    def build(lib, AD, x, v):
        with AD.dual_level():
            y = AD.make_dual(x, v) * x
        return [AD.unpack_dual(y).tangent, AD.unpack_dual(y).primal]

    both(build)


def test_values_that_are_seen_on_the_way_keep_their_tangents():
    def build(lib, AD, x, v):
        with AD.dual_level(), lib.no_grad():
            y = AD.make_dual(x, v) * x
            assert y[0].item() == 0.25
            z = y.reshape(3, 1)[:, 0]
            assert z.sum().item() > 0
            return list(AD.unpack_dual(z.exp()))

    both(build)


def test_reverse_over_forward():
    def build(lib, AD, x, v):
        x.requires_grad_()
        v.requires_grad_()
        with AD.dual_level():
            tangent = AD.unpack_dual(f(AD.make_dual(x, v), x)).tangent
        return lib.autograd.grad(tangent.sum(), (x, v))

    both(build)


def test_a_function_of_ones_own_uses_its_jvp():
    def build(lib, AD, x, v):
        class Square(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_forward(x)
                return x * x

            @staticmethod
            def jvp(ctx, v):
                return 20 * ctx.saved_tensors[0] * v

        with AD.dual_level():
            return list(AD.unpack_dual(Square.apply(AD.make_dual(x, v))))

    both(build)


def test_a_module_with_dual_parameters():
    def build(lib, AD, x, v):
        layer = lib.nn.Linear(3, 1).double().requires_grad_(False)
        with lib.no_grad():
            layer.weight.copy_(x.reshape(1, 3))
        weight = layer.weight
        del layer.weight
        with AD.dual_level():
            layer.weight = AD.make_dual(weight, v.reshape(1, 3))
            return [AD.unpack_dual(layer(x)).tangent]

    both(build)


def test_wrong_calls():
    x = fg.tensor(DATA)
    with pytest.raises(RuntimeError, match="no level exists"):
        ours.make_dual(x, x)
    with pytest.raises(RuntimeError, match="not the last one"):
        ours.exit_dual_level()
    with ours.dual_level():
        for args, error, match in (
            ((x, fg.zeros(2)), ValueError, r"different size.*\(2,\).*\(3,\)"),
            ((x, x.float()), TypeError, "dtype flatgrad.float64"),
            ((x.long(), x), ValueError, "Expected primal to be floating point"),
            ((x, x.long()), ValueError, "Expected tangent to be floating point"),
            ((x, DATA), TypeError, "must be a Tensor, got ndarray"),
        ):
            with pytest.raises(error, match=match):
                ours.make_dual(*args)
        with pytest.raises(TypeError, match="a Tensor is required"):
            ours.unpack_dual(3.0)
        with pytest.raises(RuntimeError, match="has a tangent at this level already"):
            ours.make_dual(ours.make_dual(x, x), x)
        with pytest.raises(RuntimeError, match="Nested"):
            ours.enter_dual_level()
        with pytest.raises(RuntimeError, match="level 3 is not entered"):
            ours.unpack_dual(x, level=3)
        with pytest.raises(RuntimeError, match="not the last one"):
            ours.exit_dual_level(level=2)
        assert ours.unpack_dual(ours.make_dual(x, x), level=0).tangent is not None
    assert not fg.graph.modes.modes.forward


def test_the_level_is_left_after_an_error():
    with pytest.raises(KeyError), ours.dual_level():
        raise KeyError
    with pytest.raises(RuntimeError, match="no level exists"):
        ours.make_dual(fg.ones(1), fg.ones(1))
