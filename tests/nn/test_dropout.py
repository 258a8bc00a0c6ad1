"""Dropout of elements and of channels: which parts go together, how many go, what the others become."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, ShapeError

F = fg.nn.functional
# function, shape of the input, dimensions of the parts that go together
CASES = [
    ("dropout", (40, 50), 2),
    ("dropout1d", (2000, 3), 1),
    ("dropout1d", (40, 50, 3), 2),
    ("dropout2d", (40, 50, 3), 2),
    ("dropout2d", (40, 50, 2, 2), 2),
    ("dropout3d", (2000, 2, 2, 2), 1),
    ("dropout3d", (40, 50, 2, 1, 2), 2),
]


@pytest.mark.parametrize(("name", "shape", "lead"), CASES, ids=str)
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_parts_go_together(name, shape, lead, p):
    x = fg.ones(shape, requires_grad=True)
    y = getattr(F, name)(x, p)
    values = y.detach().numpy().reshape(*shape[:lead], -1)
    assert (values == values[..., :1]).all()
    share = (values == 0).mean()
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 2000)
    np.testing.assert_allclose(values[values != 0], 1 / (1 - p), rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_layers(spatial):
    layer = getattr(fg.nn, f"Dropout{spatial}d")(0.5)
    assert repr(layer) == f"Dropout{spatial}d(p=0.5, inplace=False)"
    x = fg.ones(4, 8, *(2,) * spatial)
    assert 0 < (layer(x) == 0).sum().item() < x.numel()
    assert layer.eval()(x) is x
    own = getattr(fg.nn, f"Dropout{spatial}d")(1.0, inplace=True)
    assert own(x) is x
    assert x.sum().item() == 0


def test_a_generator_repeats():
    first, second = [
        F.dropout2d(fg.ones(3, 4, 2, 2), generator=fg.Generator().manual_seed(1)) for _ in "ab"
    ]
    np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_wrong_calls():
    with pytest.raises(ShapeError, match="Expected 2D or 3D input"):
        F.dropout1d(fg.ones(3))
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        F.dropout3d(fg.ones(2, 2, 2, 2), 1.5)
    with pytest.raises(ArgumentError, match="Dropout2d: dropout probability"):
        fg.nn.Dropout2d(-0.1)
