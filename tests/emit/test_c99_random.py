"""C99 against the interpreter and the readable form: random graphs, with their gradients and control flow."""

from __future__ import annotations

import os
import platform

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.emit.python import source as readable
from flatgrad.export.form import form_of
from flatgrad.lower.machine import REPRODUCIBLE, Machine
from flatgrad.lower.recompute import lower_within
from flatgrad.program.build import aligned
from flatgrad.program.native import loaded
from support.c import compiled, compilers
from support.control_programs import Writer, values
from support.deadline import time_is_up
from support.random_graphs import Maker

# As every exported program is lowered: sums in lanes; and one whose small programs have no loops.
LANES = Machine(16, 16, 2**62, split=128)
UNROLLED = Machine(32, 16, 2**62, split=128, unroll=6000)
TINY = Machine(4, 16, 2**62, align=8)


@pytest.fixture(autouse=True)
def doubles():
    fg.set_default_dtype(fg.float64)


def with_gradient(seed: int, dtype=np.float64):
    """(function of its leaves: a random graph's outputs and gradients, the leaves)."""
    leaves = Maker(seed, dtype).leaves()

    def outputs(*tensors):
        maker = Maker(seed, dtype)
        maker.leaves()
        return maker.program(tensors)

    def total(*tensors):
        return sum((t * (k + 1.0)).sum() for k, t in enumerate(outputs(*tensors)))

    def function(*tensors):
        return outputs(*tensors), fg.grad(total, tuple(range(len(tensors))))(*tensors)

    return function, leaves


def with_loops(seed: int):
    """(value and gradient of a random function with control flow inside control flow, arguments)."""
    f = Writer(seed).program()
    return fg.value_and_grad(lambda u, v, m: f(fg, u, v, m), (0, 1, 2)), values(seed)


def forms_of(seeds, make) -> dict:
    forms = {}
    for seed in seeds:
        function, leaves = make(seed)
        forms[f"seed_{seed}"] = form_of(function, tuple(leaves), {})
    return forms


def check_near(function, rtol) -> None:
    """C's results are the interpreter's."""
    arguments = function.form.examples
    status, found = function(arguments)
    assert status == 0
    expected = function.form.values(arguments)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * (1 + np.abs(b).max(initial=0)))


def check_bits(function) -> None:
    """A reproducible program's bits are those of the same loops in LLVM's machine code."""
    form = function.form
    how = {"machine": REPRODUCIBLE, "updates": form.updates, "spans": form.spans}
    loops = lower_within(form.graph, None, **how)
    run = loaded(readable(loops), loops)[0].function()
    arguments = [np.array(a, order="C") for a in (*form.examples, *form.constants)]
    expected = [np.empty(b.shape, b.dtype.np) for b in loops.outputs]
    assert run(*arguments, *expected, aligned(loops.arena_bytes)) == 0
    status, found = function(form.examples)
    assert status == 0
    for a, b in zip(found, expected, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("machine", [LANES, UNROLLED, TINY], ids=["lanes", "unrolled", "tiny"])
def test_random_graphs(tmp_path, machine):
    start = {LANES: 0, UNROLLED: 20, TINY: 40}[machine]
    forms = forms_of(range(start, start + 12), with_gradient)
    for function in compiled(tmp_path, forms, "-O1", machine=machine).values():
        check_near(function, 1e-9)


def test_random_graphs_of_float32(tmp_path):
    forms = forms_of(range(60, 70), lambda seed: with_gradient(seed, np.float32))
    for function in compiled(tmp_path, forms, "-O1", machine=LANES).values():
        check_near(function, 2e-4)


def test_random_control_flow(tmp_path):
    forms = forms_of(range(100, 108), with_loops)
    for function in compiled(tmp_path, forms, "-O1", machine=LANES).values():
        check_near(function, 1e-8)


def test_reproducible_bits(tmp_path):
    forms = forms_of(range(200, 208), with_gradient) | forms_of(range(220, 224), with_loops)
    for function in compiled(tmp_path, forms, "-O2", machine=REPRODUCIBLE).values():
        check_bits(function)


def test_nothing_is_read_before_it_is_written(tmp_path):
    """gcc 12 did at -O3, where the program was inlined into its entry (see helpers.APART)."""
    vectors = ["-mavx2"] if platform.machine() == "x86_64" else []
    forms = forms_of([3055, 3056, 3057], with_gradient)
    for function in compiled(tmp_path, forms, "-O3", *vectors, machine=TINY).values():
        check_near(function, 1e-9)


def test_skipped_results(tmp_path):
    """Without one result, or without all, the others are what they are, and nothing else is written."""
    forms = forms_of(range(300, 308), with_gradient) | forms_of(range(310, 313), with_loops)
    for function in compiled(tmp_path, forms, "-O1", machine=LANES).values():
        arguments = function.form.examples
        _, every = function(arguments)
        count = len(every)
        for skip in [*[(k,) for k in range(count)], tuple(range(count))]:
            status, found = function(arguments, skip=skip)
            assert status == 0
            for k, (a, b) in enumerate(zip(found, every, strict=True)):
                want = np.full_like(b, 77) if k in skip else b
                assert np.array_equal(a, want, equal_nan=True), (skip, k)


WAYS = {
    "plain": (["-O0"], 1e-9),
    "fast": (["-O3", "-march=native"], 1e-9),
    "careless": (["-O3", "-march=native", "-ffast-math"], 1e-9),
    "small": (["-Os"], 1e-9),
    "checked": (["-O1", "-fsanitize=undefined", "-fsanitize=float-cast-overflow"], 1e-9),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", [*WAYS, "zig"])
def test_sweep(tmp_path, way, capfd):
    """Many graphs, in every way that somebody may compile them; undefined behaviour would be reported."""
    flags, rtol = WAYS.get(way, (["-O2", "-fno-sanitize=all"], 1e-9))
    command = compilers().get("zig" if way == "zig" else "gcc")
    if command is None:
        pytest.skip(f"NO COMPILER for {way}: exported C was NOT compiled")
    count = int(os.environ.get("FLATGRAD_FUZZ_GRAPHS", "240")) // 20
    for block, machine in enumerate((LANES, UNROLLED, TINY, REPRODUCIBLE)):
        if time_is_up():
            pytest.skip(f"time is up after {block} blocks")
        first = 1000 + 1000 * block
        forms = forms_of(range(first, first + count), with_gradient)
        forms |= forms_of(range(first + 500, first + 500 + count // 4), with_loops)
        place = tmp_path / str(block)
        place.mkdir()
        for function in compiled(place, forms, *flags, machine=machine, command=command).values():
            check_near(function, rtol)
    assert "runtime error" not in capfd.readouterr().err
