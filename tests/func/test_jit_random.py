"""Random programs, control flow included: jit = compile = njit = pickled = not jit, derivatives too."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import flatgrad as fg
from support.control_programs import Plain, Writer, derivatives, values
from support.random_graphs import Maker


@pytest.fixture(autouse=True)
def doubles():
    fg.set_default_dtype(fg.float64)


def random_graph(seed: int):
    leaves = Maker(seed).leaves()

    def function(*tensors):
        maker = Maker(seed)
        maker.leaves()
        return maker.program(tensors)

    return function, leaves


def same(found, want) -> None:
    assert len(found) == len(want)
    for a, b in zip(found, want, strict=True):
        b = b.detach().numpy()
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-9, atol=1e-9 * (1 + abs(b).max()))


def forms(function, leaves, machine_code: bool):
    """The results of every compiled form of `function`."""
    yield [t.numpy() for t in fg.jit(function)(*leaves)]
    g = fg.compile(function, *leaves)
    yield g(*leaves)
    again = pickle.loads(pickle.dumps(g))
    yield again(*leaves)
    buffers = [np.full(np.shape(t), np.nan) for t in g(*leaves)]
    g(*leaves, out=buffers)
    yield buffers
    if machine_code:
        yield g.njit(*leaves)


@pytest.mark.parametrize("seed", range(10))
def test_interpreted(seed):
    function, leaves = random_graph(seed)
    with fg.set_compile("never"):
        want = function(*[fg.tensor(a) for a in leaves])
        for found in forms(function, leaves, machine_code=False):
            same(found, want)


@pytest.mark.parametrize("seed", range(10, 14))
def test_compiled(seed):
    function, leaves = random_graph(seed)
    with fg.set_compile("never"):
        want = function(*[fg.tensor(a) for a in leaves])
    for found in forms(function, leaves, machine_code=True):
        same(found, want)


@pytest.mark.parametrize("seed", range(100, 108))
def test_derivatives_through_control_flow(seed):
    arrays = values(seed)
    direction = [np.random.default_rng(seed).normal(size=a.shape) for a in arrays]
    f = Writer(seed).program()
    with fg.set_compile("never"):
        want = derivatives(lambda *xs: f(Plain, *xs), arrays, direction)
        have = derivatives(fg.jit(lambda *xs: f(fg, *xs)), arrays, direction)
        both = fg.jit(fg.value_and_grad(lambda *xs: f(fg, *xs), argnums=(0, 1, 2)))
        value, gradient = both(*arrays)
    for a, b in zip(have, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    for a, b in zip((value, *gradient), want[:4], strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", (100, 103))
def test_compiled_derivatives_of_control_flow(seed):
    arrays = values(seed)
    f = Writer(seed).program()
    with fg.set_compile("never"):
        want = derivatives(lambda *xs: f(Plain, *xs), arrays, arrays)[:4]
    both = fg.value_and_grad(lambda *xs: f(fg, *xs), argnums=(0, 1, 2))
    g = fg.compile(both, *arrays)
    value, gradient = g(*arrays)
    for found in ((value, *gradient), g.njit(*arrays)):
        for a, b in zip(found, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
