"""The judged programs compiled for this machine, a PC or an emulated board: the interpreter's numbers."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.func.tree import flatten
from support.workloads import WORKLOADS, workload

# As in an export's self-test: ulps of a result's largest element, and what an ulp of the arguments changes.
ULPS, CONDITION = 64, 16


def interpreted(function, arguments):
    fg.set_compile("never")
    return [np.asarray(x) for x in flatten(fg.jit(function)(*arguments))[0]]


def moved(tree):
    """Every number an ulp away, up and down in turn."""
    if isinstance(tree, dict):
        return {k: moved(v) for k, v in tree.items()}
    if isinstance(tree, tuple):
        return tuple(moved(v) for v in tree)
    if tree.dtype.kind != "f":
        return tree
    way = np.where(np.arange(tree.size) % 2, np.inf, -np.inf).reshape(tree.shape)
    return np.nextafter(tree, way.astype(tree.dtype))


@pytest.mark.parametrize("name", WORKLOADS)
def test_compiled_is_interpreted(name):
    it = workload(name)
    expected = interpreted(it.function, it.example)
    near = interpreted(it.function, moved(it.example))
    fg.set_compile("always")  # fg.compile interprets, too, where nothing is to be compiled
    found = flatten(fg.compile(it.function, *it.example)(*it.example))[0]
    for a, b, c in zip(found, expected, near, strict=True):
        # A zero that must not be negative (a mean of squares) makes NaN of the change.
        change = np.nan_to_num(np.abs(b - c), nan=0.0).max()
        allowed = ULPS * np.finfo(b.dtype).eps * np.abs(b).max() + CONDITION * change
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=allowed)
