"""Convolutions beside PyTorch's: functions, layers, derivatives of all kinds, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.errors import ArgumentError, ShapeError
from support.beside_torch import beside_torch, close, torch

rng = np.random.default_rng(3)


def normal(*shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


IMAGES = {1: (9,), 2: (7, 8), 3: (4, 5, 4)}
OPTIONS = [
    {},
    {"stride": 2},
    {"padding": 1},
    {"dilation": 2},
    {"stride": 2, "padding": 2, "dilation": 2},
    {"padding": "same"},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "stride": 3},
]


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_conv_is_torchs(spatial, options, groups):
    taps = (2, 3, 2)[:spatial] if spatial < 3 or "dilation" not in options else (2, 1, 2)
    x, w = normal(2, 4, *IMAGES[spatial]), normal(8, 4 // groups, *taps)
    bias = normal(8) if groups == 2 else None
    beside_torch(
        lambda F, x, w, b: getattr(F, f"conv{spatial}d")(x, w, b, groups=groups, **options),
        x, w, bias,
        second=spatial < 3, forward=groups == 2,
    )  # fmt: skip


TRANSPOSED = [
    {},
    {"stride": 2, "output_padding": 1},
    {"padding": 1},
    {"dilation": 2},
    {"stride": 3, "padding": 2, "dilation": 2, "output_padding": 2},
]


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_conv_is_torchs(spatial, options, groups):
    x, w = normal(2, 4, *(4, 3, 3)[:spatial]), normal(4, 3, *(3, 2, 3)[:spatial])
    bias = normal(3 * groups) if groups == 2 else None
    beside_torch(
        lambda F, x, w, b: getattr(F, f"conv_transpose{spatial}d")(
            x, w, b, groups=groups, **options
        ),
        x, w, bias,
        second=spatial < 3, forward=groups == 2,
    )  # fmt: skip


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_single_precision_and_no_batch(spatial):
    x, w = (
        normal(3, *IMAGES[spatial], dtype=np.float32),
        normal(2, 3, *(2,) * spatial, dtype=np.float32),
    )
    b = normal(2, dtype=np.float32)
    beside_torch(lambda F, *ts: getattr(F, f"conv{spatial}d")(*ts, padding=1), x, w, b)
    v = normal(3, 2, *(2,) * spatial, dtype=np.float32)
    beside_torch(lambda F, *ts: getattr(F, f"conv_transpose{spatial}d")(*ts), x, v, b)


def test_no_images():
    y = fg.nn.functional.conv2d(fg.zeros(0, 3, 5, 5), fg.ones(2, 3, 3, 3))
    assert tuple(y.shape) == (0, 2, 3, 3)


one_dimension = st.tuples(*[st.integers(1, 3)] * 3, st.integers(0, 3), st.integers(0, 6))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(one_dimension, min_size=1, max_size=2),
    st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(0, 3),
)  # fmt: skip
def test_any_geometry(parts, groups, inner, outer, batch):
    taps, stride, dilation, padding, more = map(list, zip(*parts, strict=True))
    seen = [(k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True)]
    image = [max(s - 2 * p, 1) + m for s, p, m in zip(seen, padding, more, strict=True)]
    x = np.random.default_rng(1).standard_normal((max(batch, 1), groups * inner, *image))
    w = np.random.default_rng(2).standard_normal((groups * outer, inner, *taps))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    name = f"conv{len(parts)}d"
    beside_torch(lambda F, x, w: getattr(F, name)(x, w, **options), x if batch else x[0], w)


def test_a_batch_of_filters_and_images():
    """Per-example gradients and ensembles: vmap against a loop of calls in PyTorch."""
    xs, ws = normal(3, 2, 4, 6, 6), normal(3, 4, 2, 3, 3)
    F, TF = fg.nn.functional, torch.nn.functional

    def loss(lib, x, w):
        return (lib.conv2d(x, w, stride=2, padding=1, groups=2) ** 2).sum()

    for dims in ((0, 0), (None, 0), (0, None)):
        got = fg.vmap(fg.grad(lambda x, w: loss(F, x, w), argnums=(0, 1)), dims)(
            *[fg.tensor(v if d == 0 else v[0]) for v, d in zip((xs, ws), dims, strict=True)]
        )
        for k in range(3):
            x, w = [
                torch.tensor(v[k] if d == 0 else v[0], requires_grad=True)
                for v, d in zip((xs, ws), dims, strict=True)
            ]
            want = torch.autograd.grad(loss(TF, x, w), (x, w))
            for g, t in zip(got, want, strict=True):
                np.testing.assert_allclose(g[k].numpy(), t.numpy(), rtol=1e-10, atol=1e-10)


def test_jacobians_and_hessians_are_torchs():
    x, w = normal(1, 1, 5, 5), normal(2, 1, 3, 3)

    def layers(lib):
        F = lib.nn.functional
        image = lib.tensor(x)
        return {
            "jacrev": (lambda x: F.conv2d(x, lib.tensor(w), padding=1).tanh(), x),
            "jacfwd": (lambda w: F.max_pool2d(F.conv2d(image, w, padding=1), 2), w),
            "hessian": (lambda w: F.avg_pool2d(F.conv2d(image, w), 3, 2).tanh().sum(), w),
        }

    for name, (ours, at) in layers(fg).items():
        theirs = layers(torch)[name][0]
        found = getattr(fg, name)(ours)(fg.tensor(at))
        # PyTorch has no forward mode of max_pool2d; the matrix is the same.
        peer = torch.func.jacrev if name == "jacfwd" else getattr(torch.func, name)
        close(found, peer(theirs)(torch.tensor(at)), name, 1e-12)


def test_compiled_is_interpreted():
    x, w, v = normal(2, 4, 6, 5), normal(4, 2, 3, 2), normal(4, 2, 2, 2)
    found = []
    for mode in ("never", "always"):
        fg.set_compile(mode)
        ts = [fg.tensor(a).requires_grad_() for a in (x, w, v)]
        y = fg.nn.functional.conv2d(ts[0], ts[1], stride=2, padding=1, groups=2)
        z = fg.nn.functional.conv_transpose2d(y.tanh(), ts[2], stride=2, padding=1, groups=2)
        grads = fg.autograd.grad((z * z).sum(), ts)
        found.append([z.detach().numpy(), *[g.numpy() for g in grads]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


# -- unfold and fold ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2}, {"padding": 1, "dilation": (2, 1)}, {"stride": (2, 3), "padding": (1, 2)}],
    ids=str,
)
def test_unfold_and_fold_are_torchs(options):
    x = normal(2, 3, 6, 7)
    beside_torch(lambda F, x: F.unfold(x, (2, 3), **options), x, second=True, forward=True)
    rows = torch.nn.functional.unfold(torch.tensor(x), (2, 3), **options).numpy()
    beside_torch(lambda F, r: F.fold(r, (6, 7), (2, 3), **options), rows, second=True, forward=True)
    beside_torch(lambda F, r: F.fold(r, (6, 7), (2, 3), **options), rows[0])


# -- layers ---------------------------------------------------------------------------------------

LAYERS = [
    ("Conv1d", (4, 6, 3), {"padding": "same", "bias": False}),
    ("Conv2d", (4, 6, (3, 2)), {"stride": 2, "padding": (1, 0), "groups": 2}),
    ("Conv2d", (4, 4, 3), {"padding": 2, "dilation": 2, "padding_mode": "circular"}),
    ("Conv2d", (4, 4, 3), {"padding": "same", "padding_mode": "reflect"}),
    ("Conv1d", (4, 4, 4), {"padding": (2,), "padding_mode": "replicate"}),
    ("Conv3d", (4, 2, 2), {"stride": (1, 2, 1)}),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}),
    ("ConvTranspose2d", (4, 6, 3), {"groups": 2, "padding": 1, "bias": False}),
    ("ConvTranspose3d", (4, 2, 2), {"dilation": 2}),
]


def pair(name, args, options):
    """The layer in both libraries, with equal weights."""
    theirs = getattr(torch.nn, name)(*args, **options)
    ours = getattr(fg.nn, name)(*args, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: fg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize(("name", "args", "options"), LAYERS, ids=str)
def test_layers_are_torchs(name, args, options):
    ours, theirs = pair(name, args, options)
    assert repr(ours) == repr(theirs)
    x = normal(2, 4, *IMAGES[int(name[-2])], dtype=np.float32)
    a, b = fg.tensor(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    y, z = ours(a), theirs(b)
    close(y, z, "value", 3e-5)
    (y * y).sum().backward()
    (z * z).sum().backward()
    close(a.grad, b.grad, "gradient", 1e-4)
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad, key, 1e-4)


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_initial_values_are_uniform_within_torchs_bound(name):
    layer = getattr(fg.nn, name)(16, 8, (3, 5), groups=2)
    theirs = getattr(torch.nn, name)(16, 8, (3, 5), groups=2)
    for p, q in zip(layer.parameters(), theirs.parameters(), strict=True):
        assert p.shape == q.shape
        bound = 1 / np.sqrt(np.prod(theirs.weight.shape[1:]))
        size = np.abs(p.detach().numpy())
        assert size.max() <= bound
        assert size.max() > 0.7 * bound


def test_output_size_of_a_transposed_layer():
    ours, theirs = pair("ConvTranspose2d", (4, 2, 3), {"stride": 2, "padding": 1})
    x = normal(1, 4, 5, 6, dtype=np.float32)
    for size in ((9, 12), (10, 11), [10, 12]):
        close(ours(fg.tensor(x), size), theirs(torch.tensor(x), size), "value", 3e-5)
    with pytest.raises(ShapeError, match=r"valid sizes range from \(9, 11\) to \(10, 12\)"):
        ours(fg.tensor(x), (11, 11))


def test_a_row_of_layers_is_one_call():
    net = fg.nn.Sequential(
        fg.nn.Conv2d(1, 2, 3, padding=1), fg.nn.ReLU(), fg.nn.ConvTranspose2d(2, 1, 2, stride=2)
    )
    x = fg.randn(2, 1, 4, 4)
    one_by_one = x
    for layer in net:
        one_by_one = layer(one_by_one)
    np.testing.assert_allclose(net(x).detach().numpy(), one_by_one.detach().numpy(), rtol=1e-6)
    assert "Sequential" in net(x).grad_fn.name()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups"),
        (lambda: fg.nn.Conv2d(2, 3, 3, groups=2), "out_channels must be divisible by groups"),
        (lambda: fg.nn.Conv2d(2, 2, 3, padding_mode="mirror"), "padding_mode must be one of"),
        (lambda: fg.nn.Conv2d(2, 2, 3, padding="full"), "padding must be 'same'"),
        (lambda: fg.nn.Conv2d(2, 2, 3, 2, "same"), "not supported for strided"),
        (lambda: fg.nn.Conv2d(2, 2, (3, 3, 3)), "kernel_size to be a single int or 2 ints"),
        (lambda: fg.nn.ConvTranspose1d(2, 2, 3, padding_mode="reflect"), 'Only "zeros"'),
    ],
)
def test_wrong_layers(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_parameters_given_from_outside():
    """functional_call puts other tensors in the places of the weights."""
    layer = fg.nn.Conv2d(2, 3, 3)
    x, w = fg.randn(1, 2, 5, 5), fg.randn(3, 2, 3, 3)
    other = {"weight": w, "bias": fg.zeros(3)}
    y = fg.func.functional_call(layer, other, x)
    np.testing.assert_allclose(y.numpy(), fg.nn.functional.conv2d(x, w).numpy(), rtol=1e-6)
    grads = fg.grad(lambda p: (fg.func.functional_call(layer, p, x) ** 2).sum())(other)
    assert tuple(grads["weight"].shape) == (3, 2, 3, 3)
    combos = itertools.product(range(3), range(2))
    assert all(abs(grads["weight"][o, c].sum().item()) > 0 for o, c in combos)
