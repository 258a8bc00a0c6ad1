"""How many loops and buffers typical programs become: a fusion regression shows here."""

from __future__ import annotations

import numpy as np

import flatgrad as fg
from flatgrad.lower import ir
from flatgrad.lower.body import walk
from flatgrad.program.build import Compiled
from tests.support.programs import graph_of, loops_of

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
W = np.linspace(-1, 1, 18, dtype=np.float32).reshape(6, 3)


def shape_of(program):
    """(outermost loops and calls, all loops, arena buffers)."""
    loops = sum(isinstance(s, ir.For) for s, _ in walk(program.body))
    outer = sum(isinstance(s, (ir.For, ir.Gemm)) for s in program.body)
    return outer, loops, len(program.place)


def test_elementwise_chain_is_one_loop_without_buffers():
    program = loops_of(lambda x: fg.exp(x * 2.0 + 1.0) * fg.sin(x) - x, X)
    assert shape_of(program) == (1, 1, 0)


def test_movement_costs_nothing():
    program = loops_of(lambda x: (x.permute(1, 0).reshape(2, 12) * 2.0).reshape(24), X)
    assert shape_of(program)[0] == 1
    assert program.place == {}


def test_sibling_outputs_share_a_loop():
    program = loops_of(lambda x: (x + 1.0, x * 2.0, (x * x).sum()), X)
    assert shape_of(program) == (1, 1, 0)


def test_parts_of_a_value_are_read_without_storing_it():
    def f(x):
        y = fg.exp(x) * x - 1.0
        return fg.cat([y[:3], y[3:] * x[3:]]), y[20:].sum()

    program = loops_of(f, X.reshape(24))
    assert program.place != {}  # the last one reads again what others had read
    program = loops_of(lambda x: f(x)[0], X.reshape(24))
    assert program.place == {}


def test_softmax_rows_stay_in_one_loop_over_blocks_with_a_block_of_scratch():
    def softmax(x):
        e = fg.exp(x - fg.amax(x, 1, keepdim=True))
        return e / e.sum(1, keepdim=True)

    program = loops_of(softmax, np.zeros((5000, 10), np.float32))
    outer, _, buffers = shape_of(program)
    assert outer == 1
    assert buffers <= 2
    assert (
        program.arena_bytes <= (512 + 16) * 4
    )  # the exponentials of a block of rows, and of a row
    program = loops_of(softmax, np.zeros((10, 5000), np.float32))
    outer, _, buffers = shape_of(program)
    assert outer == 1
    assert program.arena_bytes <= 5056 * 4  # of a row


def test_forward_and_backward_of_a_layer_share_loops():
    def layer(x, w):
        x, w = x * 1.0, w * 1.0
        h = fg.matmul(x, w)
        y = (h * h).sum()
        return y, 2.0 * h, (2.0 * h).sum(0)

    program = loops_of(layer, X, W)
    outer, _, _ = shape_of(program)
    assert outer <= 4


def test_full_reduction_waits_for_nothing():
    program = loops_of(lambda x: x / x.sum(), X)
    assert shape_of(program)[0] == 2


def test_dead_code_and_common_subexpressions():
    def f(x):
        unused = fg.exp(x)
        assert unused is not None
        return fg.sin(x) * fg.sin(x)

    program = loops_of(f, X)
    calls = {e for s, _ in walk(program.body) if isinstance(s, ir.Let) for e in [s.value]}
    assert sum(e.kind == "call" and e.arg == "sin" for e in calls) == 1
    assert not any(e.arg == "exp" for e in calls)


def test_long_chains_do_not_recurse():
    def chain(x):
        for _ in range(400):
            x = x * 0.999 + 0.001
        return x

    program = loops_of(chain, X)
    assert shape_of(program) == (1, 1, 0)


def test_slots_are_shared_when_lifetimes_do_not_meet():
    def f(x, w):
        for _ in range(6):
            x = fg.matmul(fg.matmul(x, w), w.permute(1, 0))
        return x

    big = np.ones((40, 40), np.float32)
    program = loops_of(f, big, big)
    assert len(program.place) == 11
    assert program.arena_bytes <= 3 * 40 * 40 * 4


def test_many_functions_over_a_long_array_run_in_strips():
    def chain(x):
        for f in (fg.exp, fg.sin, fg.tanh, fg.cos, fg.exp, fg.sin, fg.tanh):
            x = f(x)
        return x, x.sum()

    long = np.linspace(-1, 1, 5000)  # not a multiple of a strip
    program = loops_of(chain, long)
    assert len(program.body) >= 1 and program.arena_bytes <= 3 * 8192
    assert any(isinstance(s, ir.For) and s.stop is not None for s, _ in walk(program.body))
    value, total = Compiled(graph_of(chain, long))([long])
    expected = long
    for f in (np.exp, np.sin, np.tanh, np.cos, np.exp, np.sin, np.tanh):
        expected = f(expected)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-12)
