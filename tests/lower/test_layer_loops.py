"""How many loops and buffers pooling and normalisation become, forwards and backwards together."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from tests.lower.test_fusion import shape_of
from tests.support.programs import loops_of

F = fg.nn.functional
X = np.random.default_rng(0).standard_normal((4, 6, 16, 16)).astype(np.float32)
PLANE = 16 * 16 * 4  # bytes of one image's channel


def both(call):
    def f(x):
        y, pull = fg.vjp(call, x)
        return y, pull(y * 2)[0]

    return f


SIDE_BY_SIDE = {
    "largest": lambda x: F.max_pool2d(x, 2),
    "largest of an activation": lambda x: F.max_pool2d(fg.relu(x), 2),
    "mean": lambda x: F.avg_pool2d(x, 2),
    "mean of all": lambda x: F.adaptive_avg_pool2d(x, 1),
    "largest of parts": lambda x: F.adaptive_max_pool2d(x, (4, 2)),
    "padded": lambda x: F.max_pool2d(x, 3, padding=1, ceil_mode=True),
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_windows_side_by_side_are_one_pass_without_copies(name):
    program = loops_of(SIDE_BY_SIDE[name], X)
    assert shape_of(program)[0] == 1
    assert program.arena_bytes == 0
    program = loops_of(both(SIDE_BY_SIDE[name]), X)
    assert shape_of(program)[0] == 1
    assert program.arena_bytes <= 2 * PLANE


def test_overlapping_maxima_store_places_alone():
    program = loops_of(lambda x: F.max_pool2d(x, 3, 2, 1), X)
    places = 4 * 6 * 8 * 8 * 8
    assert program.arena_bytes <= 2 * places


@pytest.mark.parametrize(
    ("call", "outer"),
    [
        (lambda x: F.layer_norm(x, (16,)), 1),
        (lambda x: F.group_norm(x, 3), 1),
        (lambda x: F.instance_norm(x), 1),
        (lambda x: F.batch_norm(x, None, None, training=True), 6),
    ],
)
def test_normalisation_stores_nothing_of_an_images_size(call, outer):
    program = loops_of(both(call), X)
    assert shape_of(program)[0] <= outer
    assert program.arena_bytes <= 6 * PLANE
