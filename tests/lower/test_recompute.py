"""Within a budget: loops in segments, arguments overwritten early; the same numbers from less memory."""

from __future__ import annotations

import re

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.emit.python import source
from flatgrad.errors import BudgetError
from flatgrad.export.form import form_of
from flatgrad.lower import lower
from flatgrad.lower.recompute import lower_within
from flatgrad.program.build import aligned
from flatgrad.program.native import loaded


@pytest.fixture(autouse=True)
def doubles():
    fg.set_default_dtype(fg.float64)


def results(program, form) -> list[np.ndarray]:
    """All results, those that are written over arguments too."""
    run = loaded(source(program), program)[0].function()
    arrays = [np.array(a, order="C") for a in (*form.examples, *form.constants)]
    out = [np.empty(b.shape, b.dtype.np) for b in program.outputs]
    assert run(*arrays, *out, aligned(program.arena_bytes)) == 0
    places = dict(zip((*program.inputs, *program.outputs), (*arrays, *out), strict=True))
    return [places[b] for b in program.results]


def least(form) -> int:
    """The smallest budget that can be met."""
    with pytest.raises(BudgetError) as refused:
        lower_within(form.graph, 1, updates=form.updates)
    return int(re.search(r"allow (\d+) bytes", str(refused.value))[1])


def compared(form, share: float):
    """The program within the least budget, whose results are those of the free one."""
    free = lower(form.graph, updates=form.updates)
    budget = least(form)
    assert budget <= share * free.arena_bytes
    small = lower_within(form.graph, budget, updates=form.updates)
    assert small.arena_bytes <= budget and small.recomputed > 0
    for a, b in zip(results(small, form), results(free, form), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    return small


# -- loops ----------------------------------------------------------------------------------------


def swung(p, start, forces, reverse=False):
    """(the last state, a row for each step) of a driven pendulum with a state of arrays."""

    def step(state, u):
        angle, speed = state
        speed = speed + 0.1 * (p[0] * u - fg.sin(angle) - p[1] * speed)
        angle = angle + 0.1 * speed
        return (angle, speed), angle * speed

    return fg.scan(step, (start, start * 0.5), forces, reverse=reverse)


def total(p, start, forces, reverse=False):
    (angle, speed), rows = swung(p, start, forces, reverse)
    return (rows**2).sum() + (angle * speed).sum()


def given(rng, length: int, size: int = 2):
    return rng.standard_normal(2), rng.standard_normal(size), rng.standard_normal(length)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "length,share",
    [(60, 0.75), (59, 0.75)],
    ids=["even", "with a rest"],
)
def test_gradients_of_loops_in_segments(rng, length, share, reverse):
    def f(p, start, forces):
        return total(p, start, forces, reverse)

    compared(form_of(fg.value_and_grad(f, (0, 1, 2)), given(rng, length), {}), share)


def test_rows_that_somebody_wants_are_kept(rng):
    """Of a loop whose states and rows are results as well."""

    def f(p, start, forces):
        (angle, speed), rows = swung(p, start, forces)
        return (fg.tanh(rows).sum() + (angle * speed).sum()), (rows, angle)

    both = fg.value_and_grad(f, (0, 1, 2), has_aux=True)
    compared(form_of(both, given(rng, 59), {}), 0.8)


@pytest.mark.parametrize("length", [100, 97])
def test_rows_that_are_only_added_up(rng, length):
    """Their sums of segments do: no array as long as the loop is left in memory."""

    def f(p, start, forces):
        def step(angle, u):
            angle = angle + 0.1 * p[0] * fg.sin(angle + u)
            return angle, (angle - p[1]) ** 2

        return fg.scan(step, start, forces)[1].sum()

    form = form_of(fg.value_and_grad(f, (0, 1)), given(rng, length, 3), {})
    assert compared(form, 0.3).arena_bytes < length * 3 * 8


def test_two_loops_one_behind_the_other(rng):
    def f(p, start, forces):
        (angle, _), rows = swung(p, start, forces)
        return total(p, angle, forces * rows.sum(1) if rows.ndim > 1 else rows, reverse=True)

    compared(form_of(fg.grad(f, (0, 1)), given(rng, 48), {}), 0.75)


def test_second_derivatives(rng):
    def f(p, start, forces):
        return (fg.grad(total)(p, start, forces) ** 2).sum()

    compared(form_of(fg.value_and_grad(f), given(rng, 40), {}), 0.95)


# -- arguments that are overwritten ---------------------------------------------------------------


def learned(rng, layers: int = 4, width: int = 24):
    weights = [rng.standard_normal((width, width)) / 5 for _ in range(layers)]
    x = rng.standard_normal((4, width))

    def loss(weights, x):
        for w in weights:
            x = fg.tanh(x @ w)
        return (x * x).sum()

    def step(weights, x):
        value, slopes = fg.value_and_grad(loss)(weights, x)
        return [w - 0.1 * g for w, g in zip(weights, slopes, strict=True)], value

    return form_of(step, (weights, x), {}, donate_argnums=0)


def test_gradients_do_not_wait_for_each_other(rng):
    """Of the weights of four layers, one gradient at a time is in memory."""
    form = learned(rng)
    free, frugal = (
        lower(form.graph, updates=form.updates, frugal=frugal) for frugal in (False, True)
    )
    for a, b in zip(results(frugal, form), results(free, form), strict=True):
        np.testing.assert_array_equal(a, b)
    small = lower_within(form.graph, least(form), updates=form.updates)
    assert small.arena_bytes < 2 * 24 * 24 * 8 < free.arena_bytes
    for a, b in zip(results(small, form), results(free, form), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "step",
    [
        lambda a, b: (b * 2, a + 1, a @ b),
        lambda a, b: (a @ b, b @ a, a.sum() - b.sum()),
        lambda a, b: (a + b, b.T, (a + b) - a),
        lambda a, b: (fg.flip(a, 0), a.T @ b, a[0] * 2),
        lambda a, b: (fg.linalg.cholesky(a @ a.T + 9 * b @ b.T), b + a, a[0, 0]),
    ],
    ids=["exchanged", "crossed", "new and old", "mixed up", "checked"],
)
def test_what_reads_the_old_value_gets_it(rng, step):
    given = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    form = form_of(step, given, {}, donate_argnums=(0, 1))
    for frugal in (False, True):
        program = lower(form.graph, updates=form.updates, frugal=frugal)
        assert program.updated
        for a, b in zip(results(program, form), form.values(form.examples), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
