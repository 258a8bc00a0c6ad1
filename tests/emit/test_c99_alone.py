"""Which way C computes sin and cos: the shorter one for numbers alone, the vector's one in vectors."""

import numpy as np
import pytest

import flatgrad as fg

LONG, SHORT = "fg_sin_f64(", "fg_sin_f64_alone("
WAVES = np.linspace(-9.0, 9.0, 40)


def pendulum(x, u):
    def step(c, u):
        return c + 0.1 * fg.sin(c) * u, c

    return fg.scan(step, x, u)[1]


@pytest.mark.parametrize(
    ("f", "arguments", "word"),
    [
        (lambda x: fg.sin(x), (np.array(0.3),), SHORT),
        (pendulum, (np.array(0.3), WAVES), SHORT),
        (lambda x: fg.sin(x), (WAVES,), LONG),
        (lambda x: fg.sin(x), (np.array(0.3, np.float32),), "fg_sin_f32("),
    ],
    ids=["number", "scan", "vector", "float32"],
)
def test_numbers_alone_take_the_shorter_way(tmp_path, f, arguments, word):
    made = fg.export(f, *arguments, name="wave", path=tmp_path, target="x86-64")
    assert {w for w in (LONG, SHORT, "fg_sin_f32(") if w in made.source} == {word}


def test_reproducible_programs_have_one_way(tmp_path):
    made = fg.export(fg.sin, np.array(0.3), name="wave", path=tmp_path, reproducible=True)
    assert LONG in made.source and SHORT not in made.source


def test_microcontrollers_have_one_way(tmp_path):
    made = fg.export(fg.sin, np.array(0.3), name="wave", path=tmp_path, target="cortex-m7")
    assert LONG in made.source and SHORT not in made.source
