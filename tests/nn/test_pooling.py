"""Pooling beside PyTorch's: functions, layers, ties, NaN, places, derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.errors import ArgumentError, ShapeError
from support.beside_torch import beside_torch, close, torch

rng = np.random.default_rng(4)
IMAGES = {1: (11,), 2: (8, 9), 3: (5, 6, 4)}


def normal(*shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


WINDOWS = [
    {"kernel_size": 2},
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 3, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "padding": 1, "ceil_mode": True},
]


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [*WINDOWS, {"kernel_size": 2, "dilation": 2, "padding": 1}], ids=str
)
@pytest.mark.parametrize("indexed", [False, True])
def test_max_pool_is_torchs(spatial, options, indexed):
    beside_torch(
        lambda F, x: getattr(F, f"max_pool{spatial}d")(x, return_indices=indexed, **options),
        normal(2, 3, *IMAGES[spatial]),
        second=True, forward=True,
    )  # fmt: skip


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("options", WINDOWS, ids=str)
@pytest.mark.parametrize(
    "more", [{}, {"count_include_pad": False}, {"divisor_override": 5}], ids=str
)
def test_avg_pool_is_torchs(spatial, options, more):
    if spatial == 1 and "divisor_override" in more:
        more = {}
    beside_torch(
        lambda F, x: getattr(F, f"avg_pool{spatial}d")(x, **options, **more),
        normal(2, 3, *IMAGES[spatial]),
        second=True, forward=True,
    )  # fmt: skip


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pool_is_torchs(spatial, size, kind):
    options = {"return_indices": True} if kind == "max" else {}
    beside_torch(
        lambda F, x: getattr(F, f"adaptive_{kind}_pool{spatial}d")(x, size, **options),
        normal(2, 3, *IMAGES[spatial]),
        second=True, forward=True,
    )  # fmt: skip


@pytest.mark.parametrize("norm", [1, 2, 3.0])
def test_lp_pool_is_torchs(norm):
    x = np.abs(normal(2, 3, 8, 9)) + 0.1
    beside_torch(lambda F, x: F.lp_pool2d(x, norm, 2), x, second=True)
    beside_torch(lambda F, x: F.lp_pool1d(x, norm, 3, 2, True), x[0], second=True)


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_single_precision_and_no_batch(name):
    x = normal(3, 8, 9, dtype=np.float32)
    for options in ((2,), (3, 2, 1)):
        beside_torch(lambda F, x, options=options: getattr(F, name)(x, *options), x)


one_dimension = st.tuples(*[st.integers(1, 4)] * 2, st.integers(0, 2), st.integers(0, 9))


@settings(max_examples=40, deadline=None)
@given(st.lists(one_dimension, min_size=1, max_size=2), st.booleans(), st.booleans())
def test_any_windows(parts, ceil_mode, include):
    taps, stride, padding, more = map(list, zip(*parts, strict=True))
    padding = [min(p, k // 2) for p, k in zip(padding, taps, strict=True)]
    image = [k + m for k, m in zip(taps, more, strict=True)]
    x = np.random.default_rng(1).standard_normal((2, 2, *image))
    n = len(parts)
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    beside_torch(
        lambda F, x: getattr(F, f"max_pool{n}d")(x, taps, return_indices=True, **options), x
    )
    beside_torch(
        lambda F, x: getattr(F, f"avg_pool{n}d")(x, taps, count_include_pad=include, **options), x
    )


# -- what a window chooses ------------------------------------------------------------------------


def gradient(lib, call, values):
    x = lib.tensor(values, requires_grad=True)
    y = call(lib.nn.functional, x)
    y.sum().backward()
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("options", [(2,), (3, 1), (3, 2, 1), (2, 1)], ids=str)
def test_ties_go_to_the_first(options):
    values = rng.integers(0, 2, (2, 3, 6, 6)).astype(np.float64)
    found = [gradient(lib, lambda F, x: F.max_pool2d(x, *options), values) for lib in (fg, torch)]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    tangent = fg.tensor(normal(2, 3, 6, 6))
    out, pushed = fg.jvp(
        lambda x: fg.nn.functional.max_pool2d(x, *options), (fg.tensor(values),), (tangent,)
    )
    u = fg.tensor(normal(*out.shape))
    (pulled,) = fg.vjp(lambda x: fg.nn.functional.max_pool2d(x, *options), fg.tensor(values))[1](u)
    np.testing.assert_allclose(
        (u * pushed).sum().item(), (pulled * tangent).sum().item(), rtol=1e-9
    )


@pytest.mark.parametrize("options", [(2,), (3, 2, 1)], ids=str)
def test_not_a_number_and_infinities(options):
    values = normal(1, 2, 6, 6)
    values[0, 0, 2, 3] = np.nan
    values[0, 1] = -np.inf
    values[0, 1, 5, 5] = np.inf
    for name in ("max_pool2d", "avg_pool2d"):
        ours = getattr(fg.nn.functional, name)(fg.tensor(values), *options).numpy()
        theirs = getattr(torch.nn.functional, name)(torch.tensor(values), *options).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, err_msg=name)
    low = np.full((1, 1, 5, 5), -np.inf)
    at = [
        lib.nn.functional.max_pool2d(lib.tensor(low), *options, return_indices=True)[1].numpy()
        for lib in (fg, torch)
    ]
    np.testing.assert_array_equal(*at)


def test_integers():
    values = rng.integers(-9, 9, (1, 2, 5, 5))
    for options in ((2,), (3, 2, 1)):
        y = fg.nn.functional.max_pool2d(fg.tensor(values), *options)
        want = torch.nn.functional.max_pool2d(torch.tensor(values), *options)
        assert y.dtype is fg.int64
        np.testing.assert_array_equal(y.numpy(), want.numpy())


def test_items_and_per_example_gradients():
    xs = normal(3, 2, 2, 6, 6)
    for options in ((2,), (3, 2, 1)):
        for name in ("max_pool2d", "avg_pool2d"):

            def loss(F, x, name=name, options=options):
                return (getattr(F, name)(x, *options) ** 2).sum()

            got = fg.vmap(fg.grad(lambda x, loss=loss: loss(fg.nn.functional, x)))(fg.tensor(xs))
            for k in range(3):
                x = torch.tensor(xs[k], requires_grad=True)
                (want,) = torch.autograd.grad(loss(torch.nn.functional, x), x)
                np.testing.assert_allclose(got[k].numpy(), want.numpy(), rtol=1e-10)


CALLS = {
    "side by side": lambda F, x: F.max_pool2d(x, 2),
    "overlapping": lambda F, x: F.max_pool2d(x, 3, 2, 1),
    "mean": lambda F, x: F.avg_pool2d(x, 2),
    "overlapping mean": lambda F, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "parts": lambda F, x: F.adaptive_max_pool2d(x, (3, 2)) + F.adaptive_avg_pool2d(x, (3, 2)),
}


@pytest.mark.parametrize("name", CALLS)
def test_compiled_is_interpreted(name):
    values, found = normal(2, 3, 7, 8), []
    for mode in ("never", "always"):
        fg.set_compile(mode)
        found.append(gradient(fg, CALLS[name], values))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("options", [(2,), (3, 2, 1), (2, 3)], ids=str)
def test_maxima_go_back_to_their_places(spatial, options):
    x = normal(2, 3, *IMAGES[spatial])

    def there_and_back(F, x):
        y, at = getattr(F, f"max_pool{spatial}d")(x, *options, return_indices=True)
        unpool = getattr(F, f"max_unpool{spatial}d")
        return unpool(y * y, at, *options, output_size=list(IMAGES[spatial]))

    if options != (3, 2, 1):  # a place twice: PyTorch does not say which counts
        beside_torch(there_and_back, x, second=True, forward=True)
    layers = [
        (getattr(lib.nn, f"MaxPool{spatial}d"), getattr(lib.nn, f"MaxUnpool{spatial}d"))
        for lib in (fg, torch)
    ]
    own = [unpool(*options) for _, unpool in layers]
    assert repr(own[0]) == repr(own[1])
    found = []
    for lib, (pool, _), layer in zip((fg, torch), layers, own, strict=True):
        pooled = pool(*options, return_indices=True)(lib.tensor(x))
        found.append(layer(*pooled, output_size=lib.tensor(x).shape))
    np.testing.assert_array_equal(found[0].numpy() != 0, found[1].numpy() != 0)


def test_a_place_outside():
    F = fg.nn.functional
    y = F.max_unpool1d(fg.ones(1, 2), fg.tensor([[0, 4]]), 2)
    with pytest.raises(IndexError, match="out of"):
        y.numpy()


# -- layers ---------------------------------------------------------------------------------------

LAYERS = [
    ("MaxPool1d", (2,), {}),
    ("MaxPool2d", (3, 2), {"padding": 1, "ceil_mode": True}),
    ("MaxPool2d", ([2, 3],), {"return_indices": True}),
    ("MaxPool3d", (2,), {"dilation": 2}),
    ("AvgPool1d", (3,), {"stride": 2, "padding": 1}),
    ("AvgPool2d", ((2, 3),), {"count_include_pad": False, "padding": 1}),
    ("AvgPool3d", (2,), {"divisor_override": 3}),
    ("LPPool1d", (2, 3), {"stride": 2}),
    ("LPPool2d", (2, 3), {"ceil_mode": True}),
    ("LPPool3d", (2, 2), {}),
    ("AdaptiveAvgPool1d", (3,), {}),
    ("AdaptiveAvgPool2d", ((None, 4),), {}),
    ("AdaptiveAvgPool3d", (1,), {}),
    ("AdaptiveMaxPool1d", (4,), {"return_indices": True}),
    ("AdaptiveMaxPool2d", (2,), {}),
    ("AdaptiveMaxPool3d", ((2, 3, 1),), {}),
]


@pytest.mark.parametrize(("name", "args", "options"), LAYERS, ids=str)
def test_layers_are_torchs(name, args, options):
    ours, theirs = getattr(fg.nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    assert not list(ours.parameters())
    x = normal(2, 3, *IMAGES[int(name[-2])])
    y, z = ours(fg.tensor(x)), theirs(torch.tensor(x))
    if isinstance(z, tuple):
        np.testing.assert_array_equal(y[1].numpy(), z[1].numpy())
        y, z = y[0], z[0]
    close(y, z, name, 1e-10)
    row = fg.nn.Sequential(fg.nn.ReLU(), ours)
    if "return_indices" not in options:
        np.testing.assert_array_equal(
            row(fg.tensor(x)).numpy(), ours(fg.nn.functional.relu(fg.tensor(x))).numpy()
        )


def test_gradients_of_pooling_in_a_row_of_layers():
    x = normal(2, 2, 9, 9, dtype=np.float32)
    grads = []
    for lib in (fg, torch):
        net = lib.nn.Sequential(lib.nn.ReLU(), lib.nn.MaxPool2d(3, 2, 1), lib.nn.AvgPool2d(2, 1))
        t = lib.tensor(x, requires_grad=True)
        (net(t) ** 2).sum().backward()
        grads.append(t.grad)
    close(*grads, "gradient", 1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda F, x: F.max_pool2d(x, 3, padding=2), ArgumentError, "at most half"),
        (lambda F, x: F.avg_pool2d(x, 7), ShapeError, "Output size is too small"),
        (lambda F, x: F.adaptive_avg_pool2d(x, (2, 2, 2)), ArgumentError, "None keeps a size"),
        (lambda F, x: F.max_pool3d(x[0], 2), ShapeError, r"reshape it to \(N, C, D, H, W\)"),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(fg.nn.functional, fg.zeros(2, 3, 5, 5))
