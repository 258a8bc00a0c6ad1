"""Compiled programs are bounded, the idle ones go, and they may be compiled by a thread."""

from __future__ import annotations

import threading

import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError
from flatgrad.program import background, build
from flatgrad.program.live import PATIENCE, live
from flatgrad.program.tiers import programs


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    """Nothing lives at first, and the limits are the usual ones afterwards."""
    monkeypatch.setattr(live, "most_programs", live.most_programs)
    monkeypatch.setattr(live, "most_bytes", live.most_bytes)
    fg.cache.most_programs = 0
    fg.cache.most_programs = 1024
    yield
    fg.set_compile("auto")


def evaluated(size: int) -> str:
    """The tier of a program of its own for each `size`."""
    x = fg.ones(size)
    y = (x * 3.0 + 0.25).tanh()
    assert y[0].item() == pytest.approx(0.99698, abs=1e-4)
    return fg.explain(y).tier


def test_past_the_limit_programs_are_interpreted():
    fg.set_compile("always")
    fg.cache.most_programs = 3
    tiers = [evaluated(101 + k) for k in range(5)]
    assert "compiled" in tiers and tiers[-1] == "interpreted"
    assert fg.cache.programs == 3
    assert "at most 3 may" in next(p.reason for p in programs() if "at most" in p.reason)


def test_an_idle_program_makes_room():
    fg.set_compile("always")
    fg.cache.most_programs = 2
    x = fg.ones(111)
    assert fg.explain(x * 3.5 + 2.0).tier == "compiled"
    assert fg.explain((x * 3.5 + 2.0).exp()).tier == "compiled"
    for _ in range(2 * PATIENCE + 1):  # the second one stays in use
        assert fg.explain((x * 3.5 + 2.0).exp()).tier == "compiled"
    assert fg.explain((x * 3.5 + 2.0).sin()).tier == "compiled"
    assert fg.cache.programs == 2
    assert fg.explain((x * 3.5 + 2.0).exp()).tier == "compiled"
    assert fg.explain(x * 3.5 + 2.0).tier == "interpreted"


def test_the_size_of_code_is_bounded_too():
    fg.set_compile("always")
    assert evaluated(121) == "compiled"
    assert fg.cache.code_bytes > 0
    fg.cache.most_code_bytes = 1
    assert (fg.cache.programs, fg.cache.code_bytes) == (0, 0)
    assert evaluated(121) == "compiled"  # the first finds nothing in memory
    assert fg.explain(fg.ones(5) * 2.5 - 1.0).tier == "interpreted"


@pytest.mark.parametrize("name", ["most_programs", "most_code_bytes"])
@pytest.mark.parametrize("value", [-1, 2.5, True, None])
def test_limits_are_numbers(name, value):
    before = getattr(fg.cache, name)
    with pytest.raises(ArgumentError, match=name):
        setattr(fg.cache, name, value)
    assert getattr(fg.cache, name) == before


# -- in the background ----------------------------------------------------------------------------


@pytest.fixture
def gate(monkeypatch):
    """Compilation waits until the gate is opened; no estimate keeps a program from being compiled."""
    opened = threading.Event()
    assemble = build.Compiled._assemble

    def gated(self):
        if threading.current_thread() is not threading.main_thread():
            assert opened.wait(60)
        assemble(self)

    monkeypatch.setattr(build.Compiled, "_assemble", gated)
    monkeypatch.setattr("flatgrad.program.tiers.Program.compile_estimate", lambda self: 0.0)
    yield opened
    opened.set()
    background.wait()


def test_calls_are_interpreted_while_a_thread_compiles(gate):
    fg.set_compile("background")
    assert [evaluated(131) for _ in range(3)] == ["interpreted"] * 3
    gate.set()
    background.wait()
    assert evaluated(131) == "compiled"


def test_what_the_thread_raised_is_raised_once_by_the_next_call(gate, monkeypatch):
    fg.set_compile("background")
    monkeypatch.setattr(build, "lower_within", lambda *a, **k: 1 / 0)
    assert evaluated(141) == "interpreted"
    gate.set()
    background.wait()
    with pytest.raises(ZeroDivisionError):
        evaluated(141)
    monkeypatch.undo()
    fg.set_compile("background")


def test_many_threads_share_one_program():
    fg.set_compile("background")
    results = []

    def work():
        x = fg.ones(151)
        results.extend([(x * 1.5 + k).sum().item() for k in (1.0,) * 20])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    background.wait()
    assert results == [151 * 2.5] * 80
