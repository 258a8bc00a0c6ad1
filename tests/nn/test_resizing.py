"""Interpolation, shuffled pixels and padding layers beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError
from support.beside_torch import beside_torch, close, torch

rng = np.random.default_rng(6)
IMAGES = {1: (5,), 2: (4, 5), 3: (2, 4, 3)}
MODES = {
    1: ("nearest", "nearest-exact", "linear", "area"),
    2: ("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
    3: ("nearest", "nearest-exact", "trilinear", "area"),
}
CASES = [
    (n, mode, aligned)
    for n, modes in MODES.items()
    for mode in modes
    for aligned in ((False, True) if mode.endswith(("linear", "cubic")) else (False,))
]


@pytest.mark.parametrize(("spatial", "mode", "aligned"), CASES)
def test_interpolate_is_torchs(spatial, mode, aligned):
    x = rng.standard_normal((2, 3, *IMAGES[spatial]))
    options = {"mode": mode, "align_corners": True} if aligned else {"mode": mode}
    sizes = [{"size": s} for s in (1, 3, 4, 7, 10)]
    scales = [{"scale_factor": s} for s in (2, 3.0, 1.7, 0.6)]
    again = [{"scale_factor": 1.7, "recompute_scale_factor": True}]
    for how in sizes + scales + again:
        beside_torch(
            lambda F, x, how=how: F.interpolate(x, **how, **options),
            x, second=spatial < 3, forward=spatial == 2,
        )  # fmt: skip


def test_single_precision_nearest_is_torchs():
    """The nearest pixel is found in single precision, whatever the image's."""
    x = np.arange(101.0).reshape(1, 1, 101)
    for size in (7, 33, 99, 103, 250):
        for mode in ("nearest", "nearest-exact"):
            beside_torch(lambda F, x, s=size, m=mode: F.interpolate(x, s, mode=m), x)


def test_pixels_and_channels():
    x = rng.standard_normal((2, 8, 3, 2))
    beside_torch(lambda F, x: F.pixel_shuffle(x, 2), x, second=True, forward=True)
    beside_torch(lambda F, x: F.pixel_unshuffle(x, 3), rng.standard_normal((2, 3, 6)), forward=True)
    t = fg.tensor(x)
    back = fg.nn.functional.pixel_unshuffle(fg.nn.functional.pixel_shuffle(t, 2), 2)
    np.testing.assert_array_equal(back.numpy(), x)


def test_enlarging_by_a_whole_number_stores_a_plane_at_most():
    from tests.support.programs import loops_of

    def both(x):
        y, pull = fg.vjp(lambda x: fg.nn.functional.interpolate(x, scale_factor=2), x)
        return y, pull(y)[0]

    program = loops_of(both, np.ones((2, 3, 8, 8), np.float32))
    assert program.arena_bytes <= 16 * 16 * 4


LAYERS = [
    *[(f"{kind}{n}d", (1,), {}) for kind in ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad")
      for n in (1, 2, 3)],
    ("ConstantPad1d", ((1, 2), 3.5), {}), ("ConstantPad2d", ([1, 0, 2, 1], -1.0), {}),
    ("ConstantPad3d", (1, 0.5), {}), ("ZeroPad2d", ((1, -1, 0, 2),), {}),
    ("ReflectionPad2d", ((1, 2, 0, 1),), {}),
    ("Upsample", (), {"scale_factor": 2}), ("Upsample", ((3, 7),), {"mode": "bilinear"}),
    ("Upsample", (), {"scale_factor": (2, 1.5), "mode": "bicubic", "align_corners": True}),
    ("UpsamplingNearest2d", (), {"scale_factor": 3}), ("UpsamplingBilinear2d", (7,), {}),
    ("PixelShuffle", (2,), {}), ("PixelUnshuffle", (2,), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options"), LAYERS, ids=str)
def test_layers_are_torchs(name, args, options):
    ours, theirs = getattr(fg.nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    image = {"1": (4,), "3": (4, 2, 6)}.get(name[-2], (4, 6)) if name.endswith("d") else (4, 6)
    x = rng.standard_normal((2, 4, *image)).astype(np.float32)
    results = []
    for lib, layer in ((fg, ours), (torch, theirs)):
        leaf = lib.tensor(x, requires_grad=True)
        y = layer(leaf)
        (y * y).sum().backward()
        results.append((y, leaf.grad))
    for a, b in zip(*results, strict=True):
        close(a, b, name, 1e-5)
    row = fg.nn.Sequential(fg.nn.Tanh(), ours)(fg.tensor(x))
    np.testing.assert_allclose(row.numpy(), ours(fg.tanh(fg.tensor(x))).numpy(), rtol=1e-6)


def test_wrong_layers():
    with pytest.raises(ArgumentError, match="ZeroPad2d: padding must be an int or 4 ints"):
        fg.nn.ZeroPad2d((1, 2))
