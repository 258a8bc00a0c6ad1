"""One loop program in its three forms, machine code, Numba source and plain Python, against NumPy."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.program.build import Compiled
from tests.support.programs import graph_of, loops_of, run_source

RNG = np.random.default_rng(3)
X = RNG.standard_normal((5, 6)).astype(np.float32)
W = RNG.standard_normal((6, 4)).astype(np.float32)
N = RNG.integers(-5, 6, (3, 4)).astype(np.int32)


def network(x, w):
    h = fg.matmul(x, w)
    e = fg.exp(h - fg.amax(h, 1, keepdim=True))
    return e / e.sum(1, keepdim=True), h.sum(0), (h > 0) & (h < 1)


def integers(n):
    return n * 3 - 7, n // 2, n % 3, n.sum(), fg.amax(n, 1), fg.argmax(n, 0)


CASES = [(network, (X, W)), (integers, (N,))]


@pytest.mark.parametrize(("function", "arrays"), CASES)
def test_forms_agree(function, arrays):
    import numba

    with fg.set_compile("never"):
        expected = [t.numpy() for t in function(*[fg.tensor(a) for a in arrays])]
    machine = Compiled(graph_of(function, *arrays))(list(arrays))
    loops = loops_of(function, *arrays)
    plain = run_source(loops, arrays)
    jitted = run_source(loops, arrays, numba.njit(error_model="numpy"))
    for want, *got in zip(expected, machine, plain, jitted, strict=True):
        assert np.isfinite(want).all() and want.any()
        for value in got:
            assert value.dtype == want.dtype
            np.testing.assert_allclose(value, want, rtol=3e-6, atol=1e-6)


def test_disabled_jit_runs_the_readable_loops():
    code = (
        "import numpy as np, flatgrad as fg\n"
        "fg.set_compile('always')\n"
        "x = fg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)\n"
        "y = (fg.exp(x) * x).sum()\n"
        "y.backward()\n"
        "print(fg.explain(y).tier, np.allclose(x.grad.numpy(), np.exp([[1,2],[3,4]])*[[2,3],[4,5]]))\n"
    )
    env = dict(os.environ, NUMBA_DISABLE_JIT="1")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert out.stdout.split() == ["compiled", "True"], out.stderr


def test_source_is_readable():
    with fg.set_compile("always"):
        x = fg.tensor([1.0, 2.0])
        text = fg.explain((x * x + 1.0).sum()).source
    assert "for " in text and "x0[" in text and "def program(" in text
