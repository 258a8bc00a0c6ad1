"""The memory plan: who shares memory with whom, and how near the arena is to the least."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.graph.dtypes import float32
from flatgrad.lower import ir, lower
from flatgrad.lower.coalesce import coalesce
from flatgrad.lower.plan import lifetimes, lower_bound, plan
from flatgrad.program.build import Compiled
from tests.support.programs import graph_of, loops_of

SUITE = Path(__file__).parent.parent.parent / "benchmarks" / "suite"


def networks():
    spec = importlib.util.spec_from_file_location("bench_networks", SUITE / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def step_program(name: str, optimizer: str) -> ir.Program:
    """The loops of a training step of the benchmarks, of which nothing is compiled."""
    suite = networks()
    network = suite.NETWORKS[name]
    model = network.make(fg.nn)
    parameters = {k: np.array(v.tolist(), np.float32) for k, v in model.state_dict().items()}
    x, y = network.batch()
    step = suite.compiled_step(fg, model, optimizer)
    state = suite.first_state(parameters, optimizer)
    arrays, spec = fg.func.tree.flatten((parameters, state, x, y))

    def flat(*tensors):
        result = step(*fg.func.tree.unflatten(spec, list(tensors)))
        return fg.func.tree.flatten(result)[0]

    return lower(graph_of(flat, *[np.asarray(a) for a in arrays]))


def meets(a: tuple, b: tuple) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "separable", "lstm", "transformer"])
def test_arenas_of_training_steps_are_close_to_the_least(name, optimizer):
    program = step_program(name, optimizer)
    assert program.arena_bytes <= 1.1 * lower_bound(program.body)
    alive = lifetimes(program.body)
    assert set(program.place) == set(alive)
    for b, slot in program.place.items():
        assert b.size * b.dtype.itemsize <= program.slots[slot]
        for other, place in program.place.items():
            assert other is b or place != slot or not meets(alive[b], alive[other])


def test_lower_bound_is_the_most_that_is_alive():
    a, b, c = (ir.Buffer(n, float32, 100, "arena") for n in "abc")
    y = ir.Buffer("y", float32, 1, "out")
    zero = ir.const(0.0, float32)

    def copy(target, source):
        return ir.Store(target, ir.index(0), ir.load(source, ir.index(0)) if source else zero)

    body = [copy(a, None), copy(b, a), copy(c, b), copy(y, c)]
    assert lower_bound(body) == 800
    slots, place = plan(body)
    assert len(slots) == 2 and place[a] == place[c]


def scratch_loop(of_iteration: bool):
    """``for i: a = ...; b = a; y[i] = b; c = b; y[i] += c``, with a place each or one an iteration."""
    a, b, c = (ir.Buffer(n, float32, 64, "arena") for n in "abc")
    y = ir.Buffer("y", float32, 8, "out")
    axis = ir.Axis(8)
    at = ir.index(0) if of_iteration else ir.var(axis)
    i = ir.var(axis)
    one = ir.const(1.0, float32)
    return [
        ir.For(
            axis,
            [
                ir.Store(a, at, one),
                ir.Store(b, at, ir.load(a, at) + one),
                ir.Store(y, i, ir.load(b, at)),
                ir.Store(c, at, ir.load(b, at)),
                ir.AccumStore(y, i, "add", ir.load(c, at)),
            ],
        )
    ]


def test_lifetimes_inside_a_loop_are_those_of_an_iteration():
    slots, _ = plan(scratch_loop(of_iteration=True))
    assert len(slots) == 2
    slots, _ = plan(scratch_loop(of_iteration=False))  # each iteration's part may be read later
    assert len(slots) == 3


def test_a_result_is_written_over_what_it_is_computed_from():
    def softmax(x):
        e = fg.exp(x - fg.amax(x, 1, keepdim=True))
        return e / e.sum(1, keepdim=True)

    x = np.random.default_rng(0).normal(size=(40, 100)).astype(np.float32)
    program = loops_of(softmax, x)
    assert program.arena_bytes <= 100 * 4 + 64  # a row at most
    (found,) = Compiled(graph_of(softmax, x))([x])
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(found, e / e.sum(1, keepdims=True), rtol=2e-6)


def in_place(read_at, store_at, later=None):
    """Whether ``for i: y[store_at] = b[read_at]`` lets b lie where y is."""
    b = ir.Buffer("b", float32, 8, "arena")
    y = ir.Buffer("y", float32, 8, "out")
    first, second = ir.Axis(8), ir.Axis(8)
    i = ir.var(second)
    body = [
        ir.For(first, [ir.Store(b, ir.var(first), ir.const(1.0, float32))]),
        ir.For(second, [ir.Store(y, store_at(i), ir.load(b, read_at(i)))]),
    ]
    if later is not None:
        body += later(b, y)
    found = coalesce(body)
    return not any(buffer.role == "arena" for buffer in lifetimes(found))


def test_only_the_very_element_may_be_overwritten():
    assert in_place(lambda i: i, lambda i: i)
    assert in_place(lambda i: 7 - i, lambda i: 7 - i)
    assert not in_place(lambda i: 7 - i, lambda i: i)
    assert not in_place(lambda i: ir.index(0), lambda i: i)


def test_what_is_read_later_is_kept():
    z = ir.Buffer("z", float32, 1, "out")

    def later(b, y):
        return [ir.Store(z, ir.index(0), ir.load(b, ir.index(0)))]

    assert not in_place(lambda i: i, lambda i: i, later)


def test_carries_are_not_overwritten_before_they_are_read():
    def f(x):
        def body(carry, row):
            new = carry * 0.5 + row
            return new, carry + new

        return fg.scan(body, x[0], x)

    x = np.random.default_rng(0).normal(size=(5, 16))
    carry, rows = x[0], []
    for row in x:
        new = carry * 0.5 + row
        rows.append(carry + new)
        carry = new
    last, found = Compiled(graph_of(f, x))([x])
    np.testing.assert_allclose(last, carry)
    np.testing.assert_allclose(found, rows)
