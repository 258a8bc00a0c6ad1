"""Reductions in lanes: which loops become such, and that they compute the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.func.tracing import Traced, kind_of
from flatgrad.graph import dtypes
from flatgrad.lower import ir
from flatgrad.lower.body import walk
from flatgrad.lower.lanes import lanes
from flatgrad.lower.lowering import lower
from flatgrad.lower.machine import REPRODUCIBLE, Machine, lowering_for
from flatgrad.program.build import Segment
from flatgrad.program.entry import prepared

SPLIT = Machine(split=128)


def graph_of(f, *arrays):
    kinds = [kind_of("test", a, f"x{k}") for k, a in enumerate(arrays)]
    graph, held = prepared(Traced("test", lambda leaves: f(*leaves), kinds).graph)
    assert not held
    return graph


def run(f, *arrays, machine=SPLIT):
    segment = Segment(graph_of(f, *arrays), machine=machine)
    segment.compile()
    return segment, segment([np.asarray(a) for a in arrays])


def local_buffers(body) -> set:
    return {
        s.buffer
        for s, _ in walk(body)
        if isinstance(s, (ir.Store, ir.AccumStore)) and s.buffer.role == "local"
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 8, 15, 16, 17, 31, 33, 64, 100, 1001])
def test_reductions_of_all_lengths(n, dtype):
    x = np.random.default_rng(n).uniform(0.9, 1.1, (3, n)).astype(dtype)

    def f(x):
        return x.sum(), (x * x[0]).sum(1), x.prod(1), x.amax(1), x.amin(1), fg.exp(x).sum(1)

    segment, found = run(f, x)
    wide = x.astype("float64")
    expected = [wide.sum(), (wide * wide[0]).sum(1), wide.prod(1), x.max(1), x.min(1)]
    expected.append(np.exp(wide).sum(1))
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4 if dtype == "float32" else 1e-12)
    sizes = {b.size for b in local_buffers(segment.loops.body)}
    most = 32 if dtype == "float32" else 16
    rows = {min(most, 1 << ((n // 2).bit_length() - 1))} if n >= 8 else set()
    assert rows <= sizes
    assert sizes <= {4, 8, 16, 32}


@pytest.mark.parametrize("machine", [SPLIT, REPRODUCIBLE], ids=["split", "reproducible"])
@pytest.mark.parametrize("place", [0, 15, 16, 31, 47, 49])
def test_nan_wins_from_every_lane_and_the_rest(place, machine):
    x = np.linspace(-1, 1, 50)
    x[place] = np.nan
    _, (high, low, total) = run(lambda x: (x.amax(), x.amin(), x.sum()), x, machine=machine)
    assert np.isnan([high, low, total]).all()


def test_integers_and_conditions_stay():
    x = np.arange(100)
    segment, (total, some) = run(lambda x: (x.sum(), (x > 98).any()), x)
    assert (total, some) == (4950, True)
    assert not local_buffers(segment.loops.body)


def test_a_machine_without_vectors_is_left_alone():
    graph = graph_of(lambda x: x.sum(), np.zeros(1000, "f"))
    assert not local_buffers(lower(graph, machine=Machine(vector=4, split=128)).body)
    assert not local_buffers(lower(graph).body)


def accumulation(**how) -> list:
    """``for i in range(64): acc += x[i]``, and what `how` adds to the loop."""
    x = ir.Buffer("x", dtypes.float64, 64, "in")
    axis = ir.Axis(64)
    acc = ir.Accum("acc", "add", ir.load(x, ir.var(axis)))
    more = how.pop("more", lambda axis: [])(axis)
    return [ir.For(axis, [acc, *more], **how)]


def test_loops_whose_iterations_need_each_other_are_left_alone():
    y = ir.Buffer("y", dtypes.float64, 64, "out")
    so_far = ir.var("acc", dtypes.float64)
    lowering_for(SPLIT)
    try:
        assert local_buffers(lanes(accumulation()))
        assert not local_buffers(lanes(accumulation(serial=True)))
        assert not local_buffers(lanes(accumulation(stop=ir.var("n"))))
        running = accumulation(more=lambda axis: [ir.Store(y, ir.var(axis), so_far)])
        assert not local_buffers(lanes(running))
        setting = accumulation(more=lambda axis: [ir.Set("last", ir.const(0.0, dtypes.float64))])
        assert not local_buffers(lanes(setting))
    finally:
        lowering_for(None)


def test_the_other_statements_of_a_loop_stay_in_order():
    x = np.random.default_rng(0).standard_normal(70)
    segment, (shifted, total) = run(lambda x: (x * 2 + 1, (x * 2 + 1).sum()), x)
    np.testing.assert_array_equal(shifted, x * 2 + 1)
    np.testing.assert_allclose(total, (x * 2 + 1).sum(), rtol=1e-12)
    assert local_buffers(segment.loops.body)


def test_lanes_inside_functions_of_their_own():
    """A program so large that it is cut into pieces: no lanes reach out of theirs."""
    x = np.random.default_rng(1).standard_normal((60, 40))

    def f(x):
        found = [(x[k] * x[(7 * k) % 60]).sin().sum() for k in range(60)]
        return fg.stack(found)

    _, (found,) = run(f, x, machine=REPRODUCIBLE)
    want = [np.sin(x[k] * x[(7 * k) % 60]).sum() for k in range(60)]
    np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-11)


def test_lanes_inside_loops_of_several_threads():
    x = np.random.default_rng(2).standard_normal((400, 300))
    machine = replace(SPLIT, parallel=True)
    program = lower(graph_of(lambda x: fg.softmax(x, 1), x), machine=machine)
    marked = [s for s in program.body if isinstance(s, ir.For) and s.private is not None]
    assert marked
    assert local_buffers(marked)
    got = fg.compile(lambda x: fg.softmax(x, 1), x, parallel=True, reproducible=True)(x)
    want = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(got, want / want.sum(1, keepdims=True), rtol=1e-12)


def test_the_plan_knows_how_boards_align():
    graph = graph_of(lambda x: fg.softmax(x @ x, 1) @ x, np.zeros((3, 3), "f"))
    wide, narrow = (lower(graph, machine=Machine(align=a)).slots for a in (64, 8))
    assert all(size % 64 == 0 for size in wide)
    assert all(size % 8 == 0 for size in narrow)
    assert sum(narrow) < sum(wide)
