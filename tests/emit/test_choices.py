"""Choices in searches are branches that the processor predicts; in loops over arrays they are selections."""

from __future__ import annotations

import numpy as np
from llvmlite import ir as llvm

import flatgrad as fg
from flatgrad.emit.llvm import Emitter


def choices(function, array) -> tuple[int, int]:
    """(selections, those of them that say that they are mostly the same) in the program of `function`."""
    loops = fg.compile(function, array)._bound.entry.loops
    text = str(Emitter(llvm.Module(), loops, "program").emit())
    lines = [line for line in text.splitlines() if " = select " in line]
    return len(lines), sum("!prof" in line for line in lines)


def halved(x):
    """Halve what is above 1 until the sum is below 3."""
    return fg.while_loop(lambda x: x.sum() > 3, lambda x: fg.where(x > 1, 0.5 * x, x), x)


def test_choices_of_a_search_are_predicted():
    x = np.array([8.0, 0.5])
    found, predicted = choices(lambda x: halved(x), x)
    assert found and predicted == found
    np.testing.assert_array_equal(fg.compile(lambda x: halved(x), x)(x), [2.0, 0.5])


def test_choices_among_many_elements_are_not():
    found, predicted = choices(lambda x: halved(x), np.full(64, 8.0))
    assert found and not predicted
    found, predicted = choices(lambda x: fg.where(x > 1, 0.5 * x, x), np.full(2, 8.0))
    assert found and not predicted
