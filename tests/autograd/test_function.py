"""autograd.Function: saving, several outputs, in-place, double backward, errors."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import functional
from flatgrad.autograd.function import Function, once_differentiable
from flatgrad.errors import ArgumentError, GradientError, ShapeError


def leaf(values=(0.5, -1.5, 2.0)):
    return fg.tensor(values, dtype=fg.float64, requires_grad=True)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


class Exp(Function):
    """Saves its output, the newer way."""

    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class Scaled(Function):
    """Numbers among the arguments; two outputs."""

    @staticmethod
    def forward(ctx, x, factor, y):
        ctx.factor = factor
        ctx.save_for_backward(x, y)
        return x * factor, x * y

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        assert ctx.needs_input_grad[1] is False
        return g * ctx.factor + h * y, None, h * x if ctx.needs_input_grad[2] else None


def test_gradients_to_third_order():
    x = leaf()
    y, power = Cube.apply(x).sum(), [3 * x * x, 6 * x]
    for expected in power:
        (g,) = fg.autograd.grad(y, x, create_graph=True)
        np.testing.assert_allclose(g.detach().numpy(), expected.detach().numpy())
        y = g.sum()
    (g,) = fg.autograd.grad(y, x)
    np.testing.assert_allclose(g.numpy(), [6.0, 6.0, 6.0])


def test_saved_outputs_carry_second_derivatives():
    x = leaf()
    (g,) = fg.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
    (gg,) = fg.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(gg.numpy(), np.exp([0.5, -1.5, 2.0]))


@pytest.mark.parametrize("function", [Cube, Exp])
def test_gradcheck_and_gradgradcheck(function):
    assert fg.autograd.gradcheck(function.apply, (leaf(),), check_forward_ad=True)
    assert fg.autograd.gradgradcheck(function.apply, (leaf(),), check_fwd_over_rev=True)


def test_numbers_and_two_outputs():
    x, y = leaf(), leaf([3.0, 4.0, 5.0])
    a, b = Scaled.apply(x, 2.0, y)
    (a * 10 + b).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [23.0, 24.0, 25.0])
    np.testing.assert_allclose(y.grad.numpy(), [0.5, -1.5, 2.0])
    assert fg.autograd.gradcheck(
        lambda x, y: Scaled.apply(x, 2.0, y), (leaf(), leaf([3.0, 4.0, 5.0]))
    )


def test_only_needed_inputs():
    x, y = leaf(), fg.tensor([3.0, 4.0, 5.0], dtype=fg.float64)
    _, b = Scaled.apply(x, 2.0, y)
    b.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [3.0, 4.0, 5.0])


def test_without_grad_nothing_is_recorded():
    assert not Cube.apply(fg.tensor([1.0])).requires_grad
    with fg.no_grad():
        assert not Cube.apply(leaf()).requires_grad
    plain = fg.tensor([1.0, 2.0])
    assert Identity.apply(plain) is not plain


class Identity(Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 5


def test_an_input_returned_as_it_is():
    x = leaf()
    y = Identity.apply(x)
    assert y is not x
    assert y.grad_fn.name() == "IdentityBackward"
    y.sum().backward()
    assert x.grad.numpy().tolist() == [5.0, 5.0, 5.0]


class Doubled(Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_inputs_marked_dirty():
    x = leaf()
    y = x * 1
    z = Doubled.apply(y)
    assert z is y
    (y * y).sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), [1.0, -3.0, 4.0])
    np.testing.assert_allclose(x.grad.numpy(), [4.0, -12.0, 16.0])


def test_writes_after_saving_do_not_reach_what_was_saved():
    x = leaf()
    y = x * 1
    z = Cube.apply(y).sum()
    with fg.no_grad():
        y.zero_() if hasattr(y, "zero_") else y.mul_(0)
    z.backward()
    np.testing.assert_allclose(x.grad.numpy(), [0.75, 6.75, 12.0])


def test_shared_memory_is_saved_with_its_values():
    array = np.array([1.0, 2.0])
    x = fg.from_numpy(array).requires_grad_()
    z = Cube.apply(x).sum()
    array[:] = 100.0
    z.backward()
    np.testing.assert_allclose(x.grad.numpy(), [3.0, 12.0])


class Pair(Function):
    seen = None

    @staticmethod
    def forward(ctx, x, materialize, plain):
        ctx.set_materialize_grads(materialize)
        a, b = x * 2, x * 3
        if plain:
            ctx.mark_non_differentiable(b)
        return a, b

    @staticmethod
    def backward(ctx, g, h):
        Pair.seen = h
        return g * 2, None, None


def test_missing_cotangents_are_zeros_or_none():
    x = leaf()
    Pair.apply(x, True, False)[0].sum().backward()
    assert (Pair.seen.numpy() == 0).all()
    Pair.apply(x, False, False)[0].sum().backward()
    assert Pair.seen is None


def test_outputs_that_are_not_differentiable():
    a, b = Pair.apply(leaf(), True, True)
    assert a.requires_grad
    assert not b.requires_grad


def test_integer_outputs_are_not_differentiable():
    class Index(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, fg.tensor([1, 2]), "text"

        @staticmethod
        def backward(ctx, g, h, _=None):
            return g * 2

    value, index, text = Index.apply(leaf())
    assert value.requires_grad
    assert not index.requires_grad
    assert text == "text"


def test_freed_saved_tensors():
    x = leaf()
    y = Cube.apply(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(GradientError, match=r"Cube.*second time.*retain_graph"):
        y.backward()

    class Linear(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    y = Linear.apply(x).sum()
    y.backward()
    y.backward()  # nothing was saved


class Once(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * 2 * ctx.saved_tensors[0]


def test_once_differentiable():
    x = leaf()
    Once.apply(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1.0, -3.0, 4.0])
    (g,) = fg.autograd.grad(Once.apply(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), [1.0, -3.0, 4.0])
    with pytest.raises(GradientError, match="once_differentiable"):
        g.sum().backward()


def test_forward_mode_by_jvp_and_derived():
    class WithJvp(Cube):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_forward(x)
            return x * x * x

        @staticmethod
        def jvp(ctx, t):
            (x,) = ctx.saved_tensors
            return t * 3 * x * x + 1000

    x, t = fg.tensor([2.0]), fg.tensor([1.0])
    assert functional.jvp(Cube.apply, x, t)[1].numpy() == [12.0]
    assert functional.jvp(WithJvp.apply, x, t)[1].numpy() == [1012.0]


def returning(*grads):
    class Given(Function):
        @staticmethod
        def forward(ctx, a, b):
            return a * 1

        @staticmethod
        def backward(ctx, g):
            return grads if len(grads) != 1 else grads[0]

    return Given


def ones(*shape):
    return fg.tensor(np.ones(shape))


def test_gradients_are_summed_to_the_inputs_shape_and_dtype():
    x = leaf()
    returning(ones(2, 3), None).apply(x, 1).sum().backward()
    assert x.grad.numpy().tolist() == [2.0, 2.0, 2.0]
    y = fg.tensor([1.0], requires_grad=True)
    returning(ones(1), None, None).apply(y, 1).sum().backward()
    assert y.grad.dtype is fg.float32


@pytest.mark.parametrize(
    ("grads", "error", "match"),
    [
        ((ones(3),), GradientError, "incorrect number of gradients .expected 2, got 1"),
        ((ones(3), None, ones(3)), GradientError, "expected 2, got 3"),
        ((ones(2), None), ShapeError, r"got \[2\] but expected shape compatible with \[3\]"),
        ((ones(3), ones(3)), GradientError, "position 2.*not a Tensor"),
        ((3, None), ArgumentError, "expected Tensor or None"),
    ],
)
def test_wrong_gradients(grads, error, match):
    with pytest.raises(error, match=match):
        returning(*grads).apply(leaf(), 1).sum().backward()


def test_wrong_uses():
    with pytest.raises(GradientError, match="apply"):
        Cube()(leaf())

    class Saves(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3)
            return x

    with pytest.raises(ArgumentError, match="save_for_backward"):
        Saves.apply(leaf())

    class NoBackward(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    with pytest.raises(GradientError, match="must implement the backward"):
        NoBackward.apply(leaf()).sum().backward()

    class NoForward(Function):
        pass

    with pytest.raises(GradientError, match="must implement the forward"):
        NoForward.apply(leaf())

    class Dirty(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x * 2

    with pytest.raises(GradientError, match="dirty"):
        Dirty.apply(leaf())


def test_variable_is_the_tensor():
    x = fg.autograd.Variable(fg.tensor([2.0]), requires_grad=True)
    assert x.is_leaf
    (x * x * x).sum().backward()
    assert x.grad.numpy() == [12.0]
    assert not fg.autograd.Variable(fg.tensor([2.0])).requires_grad
    with pytest.raises(ArgumentError, match="Variable"):
        fg.autograd.Variable(3)
