"""Programs on several threads: which loops, the same numbers, from several callers, and from the disk."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.lower import ir, lower, parallel
from flatgrad.lower.machine import Machine
from tests.support.programs import graph_of

F = fg.nn.functional


def loops_marked(f, *arrays) -> list:
    body = lower(graph_of(f, *arrays), machine=Machine(32, 16, parallel=True)).body
    return [s.private is not None for s in body if isinstance(s, ir.For)]


def test_large_loops_are_marked_and_small_ones_are_not():
    large, small = np.zeros((512, 1024)), np.zeros((8, 16))
    assert loops_marked(lambda x: fg.tanh(x), large) == [True]
    assert loops_marked(lambda x: fg.tanh(x), small) == [False]
    assert loops_marked(lambda x: fg.softmax(x, 1), large) == [True]


def test_loops_whose_iterations_meet_are_not_marked():
    x = np.zeros((2048, 512))
    assert True not in loops_marked(lambda x: (x * fg.sin(x)).sum(), x)  # one accumulator
    assert True not in loops_marked(lambda x: fg.sin(x).sum(0), x)  # rows are added to one row
    line = np.zeros(2**20)
    assert True not in loops_marked(lambda x: fg.cumsum(x, 0), line)


def test_rows_that_overlap_are_not_apart():
    i, j = ir.Axis(2000, "i"), ir.Axis(500, "j")
    buffer = ir.Buffer("y0", fg.float64, 3000, "out", (3000,))
    value = ir.const(1.0, fg.float64)

    def loop(stride: int):
        at = ir.var(i) * stride + ir.var(j)
        return ir.For(i, [ir.For(j, [ir.AccumStore(buffer, at, "add", value + value)])])

    assert parallel.mark([loop(1)])[0].private is None
    assert parallel.mark([loop(500)])[0].private == ()


@pytest.fixture
def two_threads():
    import numba

    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one processor")
    before = fg.get_num_threads()
    fg.set_num_threads(2)
    yield
    fg.set_num_threads(before)


def network(x, w, v):
    y = F.max_pool2d(fg.relu(F.conv2d(x, w, padding=1)), 2).flatten(1) @ v
    return F.cross_entropy(y, fg.arange(y.shape[0]) % 10)


def test_the_same_numbers_as_on_one_thread(two_threads):
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(s) / 8 for s in ((16, 8, 16, 16), (16, 8, 3, 3), (1024, 10))]
    f = fg.value_and_grad(network, argnums=(0, 1, 2))
    alone, together = fg.compile(f, *arrays), fg.compile(f, *arrays, parallel=True)
    assert "prange" in together.source
    assert "prange" not in alone.source
    value, gradients = alone(*arrays)
    for threads in (2, 1):
        fg.set_num_threads(threads)
        got, found = together(*arrays)
        np.testing.assert_allclose(got, value, rtol=1e-12)
        for a, b in zip(found, gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_jit_and_callers_in_several_threads(two_threads):
    f = fg.jit(lambda x: fg.softmax(fg.tanh(x), 1), parallel=True)
    inputs = [np.random.default_rng(k).standard_normal((256, 512)) for k in range(4)]
    expected = [fg.softmax(fg.tanh(fg.tensor(x)), 1).numpy() for x in inputs]
    f(inputs[0])
    results: dict = {}

    def work(k):
        for _ in range(5):
            results[k] = f(inputs[k]).numpy()

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for k, want in enumerate(expected):
        np.testing.assert_allclose(results[k], want, rtol=1e-12)


@pytest.mark.parametrize("wrong", [0, -1, 10**6, 1.5, True, "2"])
def test_numbers_of_threads_that_cannot_be(wrong):
    with pytest.raises(fg.errors.ArgumentError, match="set_num_threads: a number from 1 to"):
        fg.set_num_threads(wrong)


def test_from_the_disk_in_another_process(tmp_path):
    code = (
        "import numpy as np, flatgrad as fg\n"
        "g = fg.compile(lambda x: fg.tanh(x), np.zeros((512, 512)), parallel=True)\n"
        "x = np.linspace(-2, 2, 512 * 512).reshape(512, 512)\n"
        "assert np.allclose(g(x), np.tanh(x), rtol=1e-14)\n"
        "print(g._bound.entry.from_disk)\n"
    )
    said = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            env={"FLATGRAD_CACHE_DIR": str(tmp_path), **_environment()},
        )
        assert run.returncode == 0, run.stderr
        said.append(run.stdout.strip())
    assert said == ["False", "True"]


def _environment() -> dict:
    import os

    return {k: v for k, v in os.environ.items() if k != "FLATGRAD_CACHE_DIR"}
