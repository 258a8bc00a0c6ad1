"""Short loops written out, and small arrays as variables: the same numbers, to the bit, and no loops."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.lower import ir, lower
from flatgrad.lower.body import walk
from flatgrad.lower.machine import Machine
from support.programs import graph_of, run_source

ROLLED, ROOM = Machine(), 20_000


def both(function, *arrays, unroll=ROOM):
    """(the rolled program, the one written out) after their results were compared, bit by bit."""
    graph = graph_of(function, *arrays)
    programs = [lower(graph, machine=ROLLED), lower(graph, machine=Machine(unroll=unroll))]
    results = [run_source(p, [a.copy() for a in arrays]) for p in programs]
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()
    return programs


def loops(program) -> list[int]:
    return [s.axis.extent for s, _ in walk(program.body) if isinstance(s, ir.For)]


def filtered(p, h, one):
    """What an update of a filter does: small products, read by each other."""
    gain = (p @ h) / (h @ p @ h + 0.5)
    keep = one - fg.outer(gain, h)
    return keep @ p @ keep.T, gain.softmax(0)


def given(rng):
    return rng.standard_normal((5, 5)), rng.standard_normal(5), np.eye(5)


def test_a_small_program_has_no_loops_and_no_memory(rng):
    rolled, flat = both(filtered, *given(rng))
    assert rolled.arena_bytes > 0 and loops(rolled)
    assert flat.arena_bytes == 0 and not loops(flat)


def test_loops_around_stay(rng):
    def f(x, rows):
        return fg.scan(lambda c, r: (fg.tanh(c @ c.T + r) @ c, c.sum()), x, rows)

    rolled, flat = both(f, rng.standard_normal((2, 2)), rng.standard_normal((20, 2, 2)))
    assert loops(flat) == [20]
    assert flat.arena_bytes < rolled.arena_bytes


def test_a_loop_of_unknown_length_in_a_branch_of_a_short_loop(rng):
    """What stands before its condition has a new name in every copy."""

    def f(x, rows):
        def again(c):
            return fg.while_loop(
                lambda u: (u < 4.0) & (u * u < 90.0), lambda u: u + 1.25, c, bound=9
            )

        def step(c, r):
            return fg.cond(r > 0.0, again, lambda u: u * 0.5, c + r), c

        return fg.scan(step, x, rows)

    _, flat = both(f, np.array(-2.0), rng.standard_normal(5))
    assert not loops(flat)


def test_branches_and_loops_of_unknown_length(rng):
    def f(x):
        def step(c):
            return fg.where(c > 0, 1.5 * c + 0.1, c * 2) + 0.1 * fg.flip(c, 0)

        y = fg.while_loop(lambda c: (c * c).sum() < 99.0, step, x)
        return fg.cond(y.sum() > 0, lambda v: v * 2, lambda v: fg.flip(v, 0) + v.sum(), y)

    for sign in (1.0, -1.0):
        _, flat = both(f, sign * np.abs(rng.standard_normal(4)))
        assert not loops(flat)


def test_indices_that_are_data(rng):
    """An array that is read where data say stays an array."""

    def f(x, at):
        y = fg.exp(x - x.max())
        return y[at] * y.sum(), fg.cumsum(y, 0)

    _, flat = both(f, rng.standard_normal(6), np.array([5, 0, 2]))
    assert not loops(flat)


def test_updates_in_place(rng):
    arrays = rng.standard_normal((4, 4)), rng.standard_normal(4)
    graph = graph_of(lambda a, x: (a - 0.1 * fg.outer(a @ x, x), a @ x), *arrays)
    results = []
    for machine in (ROLLED, Machine(unroll=ROOM)):
        program = lower(graph, machine=machine, updates={graph.outputs[0]: 0})
        copies = [a.copy() for a in arrays]
        results.append([*run_source(program, copies), copies[0]])
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()
    assert not np.array_equal(results[0][-1], arrays[0])


@pytest.mark.parametrize("unroll", [1, 300])
def test_it_stops_where_there_is_no_room(rng, unroll):
    rolled, flat = both(filtered, *given(rng), unroll=unroll)
    assert loops(flat) and (unroll > 1 or loops(flat) == loops(rolled))


def test_long_loops_stay(rng):
    rolled, flat = both(lambda x: (x * x).sum(), rng.standard_normal(8))
    assert loops(flat) == loops(rolled) == [8]
