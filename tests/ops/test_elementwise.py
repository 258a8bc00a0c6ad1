"""Elementwise operations against PyTorch at corners: special values, ties, zeros, masked NaN, in place."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, DTypeError, GradientError, ShapeError

torch = pytest.importorskip("torch")

INF, NAN = math.inf, math.nan
SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 0.1, 7.25, -1e-3, 30.0]

UNARY = [
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "deg2rad",
    "digamma", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "floor", "frac", "isfinite", "isinf",
    "isnan", "isneginf", "isposinf", "lgamma",
    "log", "log10", "log1p", "log2", "logical_not", "logit", "nan_to_num", "neg",
    "positive", "rad2deg", "reciprocal", "relu", "round", "rsqrt", "sgn", "sigmoid", "sign",
    "signbit", "sin", "sinc", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
]  # fmt: skip
BINARY = [
    "add", "atan2", "clamp_max", "clamp_min", "copysign", "div", "eq", "float_power", "floor_divide",
    "fmax", "fmin", "fmod", "ge", "gt", "heaviside", "hypot", "ldexp", "le", "logaddexp",
    "logaddexp2", "logical_and", "logical_or", "logical_xor", "lt", "maximum", "minimum", "mul",
    "ne", "pow", "remainder", "sub", "xlogy",
]  # fmt: skip

# Corners at which PyTorch's value or derivative is another by rounding or overflow.
SKIP_VALUE = {
    "lgamma": lambda x: x == -INF,
    "digamma": lambda x: (x == 0) | (x == -INF) | (x < 0) & (x == np.floor(x)),
}
SKIP_GRAD = {
    "lgamma": lambda x: x <= 0,
    "digamma": lambda x: x <= 0,
    "acosh": lambda x: x < 1,  # where the function itself is NaN
    # PyTorch's forms cancel there, ours don't (test_edges.py).
    "tanh": lambda x: np.abs(x) > 5,
    "sigmoid": lambda x: np.abs(x) > 5,
    "sinc": lambda x: np.isinf(x) | (np.abs(x) < 0.05) & (x != 0),
    "rsqrt": lambda x: (x == 0) & np.signbit(x),
    "logit": lambda x: (x == 0) & np.signbit(x),
}
# PyTorch's trigamma and log2(2**x + 2**y) are this inaccurate.
RTOL = {"digamma": 1e-8}
ATOL = {"logaddexp2": 1e-7}


def close(name, ours, theirs) -> None:
    double = ours.dtype == np.float64
    rtol = RTOL.get(name, 2e-12) if double else 2e-5
    atol = ATOL.get(name, 1e-30)
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol * (1e-8 if double else 1))


def both(name, arrays):
    """Outputs and gradients of ours and PyTorch's."""
    xs = [fg.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = getattr(fg, name)(*xs)
    t = getattr(torch, name)(*ts)
    assert str(y.dtype).split(".")[1] == str(t.dtype).split(".")[1]
    values = getattr(fg, name)(*map(fg.tensor, arrays)).numpy(), t.detach().numpy()
    # PyTorch's floor_divide and heaviside carry a grad_fn that raises.
    assert y.requires_grad == (t.requires_grad and name not in ("floor_divide", "heaviside"))
    if not y.requires_grad:
        return values, None
    weights = np.linspace(0.5, 1.5, len(arrays[0])).astype(values[0].dtype)
    ours = fg.autograd.grad(fg.sum(y * fg.tensor(weights)), xs)
    theirs = torch.autograd.grad((t * torch.tensor(weights)).sum(), ts)
    return values, [(g.numpy(), h.numpy(force=True)) for g, h in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", UNARY)
def test_unary_special_values(name, dtype):
    x = np.array(SPECIAL, dtype)
    values, grads = both(name, [x])
    keep = ~SKIP_VALUE.get(name, lambda v: np.zeros(v.shape, bool))(x)
    close(name, values[0][keep], values[1][keep])
    if values[0].dtype == dtype and name != "relu":  # max(-0.0, 0.0) may be either zero
        nonzero = (values[1] == 0) & keep
        np.testing.assert_array_equal(
            np.signbit(values[0][nonzero]), np.signbit(values[1][nonzero])
        )
    if grads is not None:
        keep = ~SKIP_GRAD.get(name, lambda v: np.zeros(v.shape, bool))(x)
        close(name, grads[0][0][keep], grads[0][1][keep])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BINARY)
def test_binary_special_values(name, dtype):
    x, y = (a.ravel().astype(dtype) for a in np.meshgrid(SPECIAL, SPECIAL))
    values, grads = both(name, [x, y])
    close(name, *values)
    # Infinite points have a limit direction, or NaN; PyTorch has either by accident.
    keep = np.isfinite(x) & np.isfinite(y) if name == "atan2" else np.full(x.shape, True)
    for ours, theirs in grads or ():
        close(name, ours[keep], theirs[keep])


INTEGERS = [0, 1, -1, 2, -2, 3, 7, -7, 50, -50, 127, -128]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8])
@pytest.mark.parametrize(
    "name",
    ["add", "sub", "mul", "floor_divide", "remainder", "fmod", "maximum", "minimum", "pow", "eq", "lt",
     "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"],
)  # fmt: skip
def test_integers(name, dtype):
    x, y = (a.ravel() for a in np.meshgrid(np.array(INTEGERS).astype(dtype), INTEGERS))
    y = y.astype(dtype)
    by_zero = name in ("floor_divide", "remainder", "fmod") and y == 0
    ours = getattr(fg, name)(fg.tensor(x), fg.tensor(y)).numpy()
    theirs = getattr(torch, name)(
        torch.tensor(x), torch.tensor(np.where(by_zero, 1, y).astype(dtype))
    )
    assert ours.dtype == theirs.numpy().dtype
    np.testing.assert_array_equal(ours, np.where(by_zero, 0, theirs.numpy()))


@pytest.mark.parametrize("mode", [None, "floor", "trunc"])
def test_div_rounding_mode(mode):
    x = np.array([7, -7, 7, -7, 0, 6, -6])
    y = np.array([2, 2, -2, -2, 3, 3, 3])
    for dtype in (np.int64, np.int32, np.float64):
        a, b = x.astype(dtype), y.astype(dtype)
        ours = fg.div(fg.tensor(a), fg.tensor(b), rounding_mode=mode)
        theirs = torch.div(torch.tensor(a), torch.tensor(b), rounding_mode=mode).numpy()
        assert ours.numpy().dtype == theirs.dtype
        np.testing.assert_array_equal(ours.numpy(), theirs)
    t = fg.tensor([7.5], requires_grad=True)
    if mode is not None:
        assert fg.autograd.grad(fg.div(t, 2, rounding_mode=mode), t)[0].item() == 0


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 5, -1, -2, 0.5, -0.5, 1.5, 2.0, 0.0, 63])
def test_pow_by_numbers(exponent):
    x = np.array([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.5, 2.0, 1e100, 1e-100])
    if abs(exponent) == 0.5:
        x = x[~np.signbit(x)]  # PyTorch has sqrt there, which differs from pow at -0.0 and -inf
    t, s = torch.tensor(x, requires_grad=True), fg.tensor(x, requires_grad=True)
    with np.errstate(all="ignore"):
        want = torch.pow(t, exponent)
    np.testing.assert_allclose(
        (fg.tensor(x) ** exponent).numpy(), want.detach().numpy(), rtol=1e-14
    )
    (ours,) = fg.autograd.grad(fg.sum(s**exponent), s)
    (theirs,) = torch.autograd.grad(want.sum(), t)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-14)
    e = fg.tensor(x, requires_grad=True)
    te = torch.tensor(x, requires_grad=True)
    for base in (0.0, 2.0, 0.5):
        (ours,) = fg.autograd.grad(fg.sum(base**e), e)
        (theirs,) = torch.autograd.grad(torch.pow(base, te).sum(), te)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-13)


def test_pow_second_order_at_zero_exponent():
    x = fg.tensor(0.0, dtype=fg.float64, requires_grad=True)
    (g,) = fg.autograd.grad(x**2, x, create_graph=True)
    assert fg.autograd.grad(g, x)[0].item() == 2.0


def test_where_keeps_nan_of_the_other_side_away():
    x = fg.tensor([0.0, 4.0], requires_grad=True)
    y = fg.where(x > 0, fg.sqrt(x), 0.0)
    (g,) = fg.autograd.grad(y.sum(), x)
    t = torch.tensor([0.0, 4.0], requires_grad=True)
    (h,) = torch.autograd.grad(torch.where(t > 0, torch.sqrt(t), 0.0).sum(), t)
    np.testing.assert_array_equal(g.numpy(), h.numpy())
    a = fg.tensor([1.0, 2.0], requires_grad=True)
    (g,) = fg.autograd.grad(fg.where(fg.tensor([True, False]), a, 1.0), a, fg.tensor([2.0, NAN]))
    assert g.tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    "bounds",
    [(-1.0, 1.0), (None, 0.5), (-0.5, None), (1.0, -1.0), (0.0, 0.0), ("t", "t"), (None, "t"),
     ("t", None)],
)  # fmt: skip
def test_clamp(bounds):
    x = np.array([NAN, INF, -INF, -1.0, 1.0, 0.5, 0.0, -0.5, 2.0])
    low, high = np.linspace(-1, 1, 9), np.linspace(0.5, 0.0, 9)
    made, theirs = [fg.tensor(x, requires_grad=True)], [torch.tensor(x, requires_grad=True)]
    args, targs = [], []
    for bound, values in zip(bounds, (low, high), strict=True):
        if bound == "t":
            made.append(fg.tensor(values, requires_grad=True))
            theirs.append(torch.tensor(values, requires_grad=True))
            args.append(made[-1])
            targs.append(theirs[-1])
        else:
            args.append(bound)
            targs.append(bound)
    y, t = fg.clamp(made[0], *args), torch.clamp(theirs[0], *targs)
    for g, h in zip(
        fg.autograd.grad(fg.sum(y), made), torch.autograd.grad(t.sum(), theirs), strict=True
    ):
        np.testing.assert_array_equal(g.numpy(), h.numpy())


def test_round_decimals():
    x = np.array([2.25, -1.55, 12345.678, 0.5, 1.5, -0.5])
    for decimals in (0, 1, 2, -2):
        ours = fg.round(fg.tensor(x), decimals=decimals).numpy()
        np.testing.assert_array_equal(ours, torch.round(torch.tensor(x), decimals=decimals).numpy())


def test_lerp_addcmul_addcdiv_and_nan_to_num():
    a, b, w = np.array([1.0, -2.0, 0.3]), np.array([3.0, 5.0, 0.7]), np.array([0.2, 0.5, 0.9])
    for weight in (0.25, 0.75, 0.5, w):
        tw = torch.tensor(weight) if isinstance(weight, np.ndarray) else weight
        fw = fg.tensor(weight) if isinstance(weight, np.ndarray) else weight
        want = torch.lerp(torch.tensor(a), torch.tensor(b), tw).numpy()
        np.testing.assert_allclose(
            fg.lerp(fg.tensor(a), fg.tensor(b), fw).numpy(), want, rtol=1e-15
        )
    for name in ("addcmul", "addcdiv"):
        ours = getattr(fg, name)(fg.tensor(a), fg.tensor(b), fg.tensor(w), value=0.5)
        theirs = getattr(torch, name)(torch.tensor(a), torch.tensor(b), torch.tensor(w), value=0.5)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-15)
    x = np.array([NAN, INF, -INF, 2.0])
    np.testing.assert_array_equal(fg.nan_to_num(fg.tensor(x), 1.0, 2.0, 3.0).numpy(), [1, 2, 3, 2])


def test_closeness():
    x = fg.tensor([1.0, INF, NAN, 1e-9])
    y = fg.tensor([1.0 + 1e-6, INF, NAN, 0.0])
    for kwargs in ({}, {"equal_nan": True}, {"rtol": 0.0}, {"atol": 0.0}):
        want = torch.isclose(torch.tensor(x.numpy()), torch.tensor(y.numpy()), **kwargs)
        assert fg.isclose(x, y, **kwargs).tolist() == want.tolist()
    assert not fg.allclose(x, y) and fg.allclose(x, y, equal_nan=True)
    assert fg.equal(fg.tensor([1, 2]), fg.tensor([1, 2]))
    assert not fg.equal(fg.tensor([1, 2]), fg.tensor([[1, 2]]))
    assert not fg.equal(fg.tensor([NAN]), fg.tensor([NAN]))


# -- operators ------------------------------------------------------------------------------------


def test_operators_take_numbers_arrays_and_tensors_on_either_side():
    x = np.array([7.0, -3.0, 2.0])
    n = np.array([2.0, 5.0, -4.0])
    import operator as op

    for fn in (op.add, op.sub, op.mul, op.truediv, op.floordiv, op.mod, op.eq, op.lt, op.ge):
        for other in (2.5, np.float64(2.5), n, 3):
            for left in (False, True):
                a, b = (other, x) if left else (x, other)
                ours = fn(*(fg.tensor(x) if v is x else v for v in (a, b)))
                assert isinstance(ours, fg.Tensor), (fn, other, left)
                np.testing.assert_array_equal(ours.numpy(), fn(a, b))
    i = np.array([6, -7, 5])
    for fn in (op.and_, op.or_, op.xor, op.lshift, op.rshift):
        np.testing.assert_array_equal(fn(fg.tensor(i), 2).numpy(), fn(i, 2))
        np.testing.assert_array_equal(fn(2, fg.tensor(abs(i))).numpy(), fn(2, abs(i)))
    np.testing.assert_array_equal((2.0 ** fg.tensor(x)).numpy(), 2.0**x)


def test_operators_leave_strangers_to_themselves():
    t = fg.tensor([1.0])

    class Other:
        def __radd__(self, tensor):
            return "mine"

    assert t + Other() == "mine"
    assert (t == None) is False and (t != "x") is True  # noqa: E711
    with pytest.raises(TypeError, match="unsupported operand"):
        t - "x"
    assert len({t, fg.tensor([1.0])}) == 2


def test_in_place_operators_keep_the_tensor():
    t = fg.tensor([1.0, 2.0])
    before = t
    t += 1
    t *= 3
    t -= fg.tensor([1.0, 1.0])
    t /= 2
    t **= 2
    t //= 2
    t %= 5
    assert t is before
    assert t.tolist() == [((1 + 1) * 3 - 1) / 2 * 2.5 // 2 % 5, 3.0]
    b = fg.tensor([True, False])
    b &= fg.tensor([True, True])
    b |= False
    b ^= True
    assert b.tolist() == [False, True]


@pytest.mark.parametrize(
    "name", ["sin_", "exp_", "sigmoid_", "neg_", "abs_", "floor_", "tanh_", "square_"]
)
def test_in_place_methods(name):
    t, p = fg.tensor([0.5, -0.25]), torch.tensor([0.5, -0.25])
    assert getattr(t, name)() is t
    np.testing.assert_allclose(t.numpy(), getattr(p, name)().numpy(), rtol=1e-6)


def test_in_place_methods_with_arguments():
    t = fg.tensor([0.5, -0.25, 4.0])
    t.clamp_(-0.1, 1.0).add_(1.0, alpha=2).mul_(2)
    np.testing.assert_allclose(t.numpy(), [5.0, 3.8, 6.0], rtol=1e-6)
    assert t.eq_(5.0).tolist() == [1.0, 0.0, 0.0]


def test_in_place_errors():
    with pytest.raises(DTypeError, match="can't be stored"):
        fg.tensor([1, 2]).div_(2)
    with pytest.raises(ShapeError, match=r"does not fit|do not broadcast"):
        fg.tensor([1.0]).add_(fg.tensor([1.0, 2.0]))
    with pytest.raises(GradientError, match="in-place"):
        fg.tensor([1.0], requires_grad=True).sin_()
    t = fg.tensor([1, 2])
    with pytest.raises(DTypeError):
        t.add_(1.5)
    assert t.tolist() == [1, 2]


def test_in_place_under_autograd_differentiates_the_new_value():
    x = fg.tensor([0.5], dtype=fg.float64, requires_grad=True)
    y = x * 2
    z = y * 3
    y.sin_()
    (g,) = fg.autograd.grad(fg.sum(y + z), x)
    np.testing.assert_allclose(g.numpy(), [2 * math.cos(1.0) + 6], rtol=1e-15)


# -- out= -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [lambda m, x, out: m.sin(x, out=out), lambda m, x, out: m.add(x, 1, out=out),
     lambda m, x, out: m.clamp(x, min=0.7, out=out), lambda m, x, out: m.pow(x, 2, out=out),
     lambda m, x, out: m.addcmul(x, x, x, out=out), lambda m, x, out: m.round(x, out=out)],
)  # fmt: skip
def test_out(call):
    data = np.array([0.5, 1.5])
    for dtype in (np.float64, np.float32):
        data = data.astype(dtype)
        out, theirs = fg.tensor(np.zeros(2, dtype)), torch.tensor(np.zeros(2, dtype))
        assert call(fg, fg.tensor(data), out) is out
        call(torch, torch.tensor(data), theirs)
        np.testing.assert_allclose(out.numpy(), theirs.numpy(), rtol=1e-7)
        assert out.numpy().dtype == dtype


def test_out_converts():
    out = fg.tensor([0.0, 0.0])
    fg.sin(fg.tensor(np.array([0.5, 1.5])), out=out)
    assert out.dtype is fg.float32
    np.testing.assert_array_equal(out.numpy(), np.sin([0.5, 1.5]).astype(np.float32))


def test_out_errors():
    x = fg.tensor([0.5, 1.5])
    with pytest.raises(DTypeError, match="can't be stored"):
        fg.sin(x, out=fg.tensor([1, 2]))
    with pytest.raises(ShapeError, match="does not fit"):
        fg.sin(x, out=fg.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ArgumentError, match="out must be a Tensor"):
        fg.sin(x, out=np.zeros(2))
    with pytest.raises(ArgumentError, match="automatic differentiation"):
        fg.sin(fg.tensor([1.0], requires_grad=True), out=fg.tensor([1.0]))


def test_out_of_no_elements_takes_the_shape_of_the_result():
    out = fg.tensor(np.zeros(0, np.float32))
    fg.add(fg.tensor([1.0, 2.0]), 1, out=out)
    assert out.tolist() == [2.0, 3.0]


# -- names and bad input --------------------------------------------------------------------------


def test_aliases_are_the_same_function():
    pairs = {
        "multiply": "mul", "subtract": "sub", "divide": "div", "negative": "neg",
        "absolute": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
        "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "clip": "clamp", "fix": "trunc",
        "greater": "gt", "less_equal": "le", "not_equal": "ne",
    }  # fmt: skip
    for other, name in pairs.items():
        assert getattr(fg, other) is getattr(fg, name)
        assert hasattr(torch, other)
        assert hasattr(fg.Tensor, other)


@pytest.mark.parametrize(
    "name", [*UNARY, *BINARY, "lerp", "clamp", "where", "float_power", "isclose"]
)
def test_methods_as_pytorch_has_them(name):
    for candidate in (name, name + "_"):
        if hasattr(torch.Tensor, candidate):
            assert hasattr(fg.Tensor, candidate), candidate


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: fg.neg(fg.tensor([True])), DTypeError, "neg: not defined for bool"),
        (lambda: fg.tensor([True]) - fg.tensor([True]), DTypeError, "sub: not defined for bool"),
        (lambda: fg.tensor([1.0]) & fg.tensor([1.0]), DTypeError, "integer or bool"),
        (lambda: ~fg.tensor([1.0]), DTypeError, "integer or bool"),
        (lambda: fg.tensor([2]) ** -1, ArgumentError, "negative integer power"),
        (lambda: fg.add(fg.tensor([1]), 1, alpha=0.5), ArgumentError, "alpha must be an integer"),
        (lambda: fg.add(fg.tensor([1]), 1, alpha="x"), ArgumentError, "alpha must be a number"),
        (lambda: fg.clamp(fg.tensor([1.0])), ArgumentError, "at least one"),
        (lambda: fg.where(fg.tensor([1.0]), 1.0, 2.0), DTypeError, "bool tensor"),
        (lambda: fg.sin("x"), ArgumentError, "sin: argument 0"),
        (
            lambda: fg.tensor([1.0, 2.0]) + fg.tensor([1.0, 2.0, 3.0]),
            ShapeError,
            "do not broadcast",
        ),
        (lambda: fg.frac(fg.tensor([1])), DTypeError, "floating"),
        (lambda: fg.tensor([1]) + 2**70, ArgumentError, "too large for flatgrad.int64"),
        (lambda: fg.tensor([1.0]) + 2**2000, ArgumentError, "too large"),
        (lambda: fg.polygamma(-1, fg.tensor([1.0])), ArgumentError, "n must be"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
