"""``convolve``, the primitive behind convolutions: its meaning in all three roles, derivatives, items."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.autograd import gradcheck, gradgradcheck
from flatgrad.errors import ShapeError
from flatgrad.ops.convolution import CONVOLVE, OPERANDS, convolve, reach

TARGETS = tuple(OPERANDS)


def shapes_of(n, g, c, o, image, taps, count):
    return {"image": (n, g, c, *image), "filter": (g, o, c, *taps), "result": (n, g, o, *count)}


def defined(target, a, b, stride, dilation, padding, shapes):
    """The definition, product by product; an image is zero outside."""
    at = dict(zip(OPERANDS[target], (a, b), strict=True))
    at[target] = np.zeros(shapes[target])
    n, g, c = shapes["image"][:3]
    o, taps, count = shapes["filter"][1], shapes["filter"][3:], shapes["result"][3:]
    for i, j, k, m in product(range(n), range(g), range(c), range(o)):
        for tap in np.ndindex(*taps):
            for place in np.ndindex(*count):
                parts = zip(place, stride, tap, dilation, padding, strict=True)
                seen = [p * s + t * d - before for p, s, t, d, before in parts]
                if any(
                    not 0 <= i < size for i, size in zip(seen, shapes["image"][3:], strict=True)
                ):
                    continue
                index = {
                    "image": (i, j, k, *seen),
                    "filter": (j, m, k, *tap),
                    "result": (i, j, m, *place),
                }
                term = np.prod([at[r][index[r]] for r in at if r != target])
                at[target][index[target]] += term
    return at[target]


def operands(target, shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shapes[role]) for role in OPERANDS[target]]


geometry = st.lists(
    st.tuples(*[st.integers(1, 3)] * 4, st.integers(0, 2), st.integers(-4, 2)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(geometry, st.tuples(*[st.integers(0, 2)] * 4), st.sampled_from(TARGETS))
def test_is_its_definition(parts, counts, target):
    count, taps, stride, dilation, padding, more = zip(*parts, strict=True)
    geometry = zip(count, taps, stride, dilation, padding, more, strict=True)
    image = [max(1, reach(m, k, s, d) - p + u) for m, k, s, d, p, u in geometry]
    shapes = shapes_of(*counts, image, taps, count)
    a, b = operands(target, shapes)
    found = CONVOLVE.numpy(a, b, target, stride, dilation, shapes[target][3:], padding)
    assert found.shape == shapes[target]
    want = defined(target, a, b, stride, dilation, padding, shapes)
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)


SHAPES = shapes_of(2, 2, 3, 2, (7, 6), (3, 2), (3, 4))
STRIDE, DILATION, PADDING = (2, 1), (1, 2), (1, 2)


def run(target):
    sizes = SHAPES[target][3:]
    return lambda a, b: convolve(a, b, target, STRIDE, DILATION, sizes, PADDING)


@pytest.mark.parametrize("target", TARGETS)
def test_derivatives(target):
    a, b = [fg.tensor(v).requires_grad_() for v in operands(target, SHAPES)]
    assert gradcheck(run(target), (a, b), check_forward_ad=True)
    assert gradgradcheck(run(target), (a, b))


@pytest.mark.parametrize("target", TARGETS)
def test_transposes(target):
    """The sum of all products is one number, whichever of the three is computed first."""
    a, b = operands(target, SHAPES)
    c = np.random.default_rng(1).standard_normal(SHAPES[target])
    at = dict(zip((*OPERANDS[target], target), (a, b, c), strict=True))
    totals = []
    for other, roles in OPERANDS.items():
        pair = [fg.tensor(at[r]) for r in roles]
        made = convolve(*pair, other, STRIDE, DILATION, SHAPES[other][3:], PADDING)
        totals.append((made * fg.tensor(at[other])).sum().item())
    np.testing.assert_allclose(totals, totals[0], rtol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0), (2, 1)])
def test_items(target, dims):
    rng = np.random.default_rng(2)
    given = [
        np.moveaxis(rng.standard_normal((3, *SHAPES[r])), 0, d)
        if d is not None
        else rng.standard_normal(SHAPES[r])
        for r, d in zip(OPERANDS[target], dims, strict=True)
    ]
    found = fg.vmap(run(target), dims)(*map(fg.tensor, given))
    for k in range(3):
        one = [
            fg.tensor(v if d is None else np.take(v, k, d))
            for v, d in zip(given, dims, strict=True)
        ]
        np.testing.assert_allclose(found[k].numpy(), run(target)(*one).numpy(), rtol=1e-12)


def test_an_integer_image():
    x = np.arange(12).reshape(1, 1, 1, 3, 4)
    w = np.ones((1, 1, 1, 2, 2), np.int64)
    y = convolve(fg.tensor(x), fg.tensor(w), "result", (1, 1), (1, 1), (2, 3))
    assert y.dtype is fg.int64
    assert y[0, 0, 0].tolist() == [[10, 14, 18], [26, 30, 34]]


def test_large_images_are_read_in_parts():
    """More windows than are copied at once; the columns of one part must not leak into the next."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((9, 1, 4, 64, 64)), rng.standard_normal((1, 2, 4, 3, 3))
    attrs = ((1, 1), (1, 1))
    y = CONVOLVE.numpy(x, w, "result", *attrs, (64, 64), (1, 1))
    one = CONVOLVE.numpy(x[4:5], w, "result", *attrs, (64, 64), (1, 1))
    np.testing.assert_allclose(y[4:5], one, rtol=1e-12)
    back = CONVOLVE.numpy(y, w, "image", *attrs, (64, 64), (1, 1))
    rows = CONVOLVE.numpy(x, y, "filter", *attrs, (3, 3), (1, 1))
    np.testing.assert_allclose((x * back).sum(), (y * y).sum(), rtol=1e-10)
    np.testing.assert_allclose((w * rows).sum(), (y * y).sum(), rtol=1e-10)


def test_wrong_shapes():
    a, b = fg.ones(1, 1, 2, 5), fg.ones(1, 1, 3, 2)
    with pytest.raises(ShapeError, match="dimension C has sizes 2 and 3"):
        convolve(a, b, "result", (1,), (1,), (4,))
