"""``reproducible=True``: the same bits from every processor, from plain Python, and as they were."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import GradientError, UnsupportedError
from flatgrad.lower import ir
from flatgrad.lower.body import walk
from flatgrad.lower.machine import REPRODUCIBLE
from flatgrad.lower.recompute import lower_within
from flatgrad.program.entry import Entry, prepared
from tests.support.reproducible_programs import PROGRAMS, computed, golden

QUICK = [n for n in PROGRAMS if n not in ("scan", "mpc_f32", "rosenbrock", "rosenbrock_2")]
LITTLE = ["reductions_float32", "products_float64", "unary_a_float32", "ekf"]


def elsewhere(names, tmp_path, **environment) -> dict[str, str]:
    """The digests that another process finds."""
    more = {"FLATGRAD_CACHE_DIR": str(tmp_path), **environment}
    command = [sys.executable, "-m", "tests.support.reproducible_programs", "--only", *names]
    made = subprocess.run(
        command, env=os.environ | more, capture_output=True, check=True, text=True
    )
    return json.loads(made.stdout)


def expected(names) -> dict[str, str]:
    known = golden()
    return {n: known[n] for n in names}


@pytest.mark.parametrize("name", QUICK)
def test_the_bits_are_those_of_every_other_machine(name):
    assert computed(name) == golden()[name]


def test_every_program_has_its_bits():
    assert list(golden()) == list(PROGRAMS)


def test_a_processor_without_wide_vectors_gives_the_same_bits(tmp_path):
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert elsewhere(LITTLE, tmp_path, **other) == expected(LITTLE)
    # And again, from the disk.
    assert elsewhere(LITTLE[:1], tmp_path, **other) == expected(LITTLE[:1])


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["generic", "nehalem", "haswell", "skylake-avx512"])
def test_every_processor_gives_the_same_bits(tmp_path, cpu):
    found = elsewhere(PROGRAMS, tmp_path, NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES="")
    assert found == golden()


def test_the_readable_loops_in_plain_python_give_the_same_bits(tmp_path):
    names = [n for n in QUICK if n not in ("mpc", "scan_f32")]
    found = elsewhere(names, tmp_path, NUMBA_DISABLE_JIT="1", PYTHONWARNINGS="ignore")
    assert found == expected(names)


def test_jit_and_donation_give_the_same_bits():
    x = np.random.default_rng(0).standard_normal((30, 37))

    def f(x, y):
        return x * (x @ y).sum() - fg.exp(x)

    y = x.T.copy()
    want = fg.compile(f, x, y, reproducible=True)(x, y)
    assert fg.jit(f, reproducible=True)(x, y).numpy().tobytes() == want.tobytes()
    donated = fg.compile(f, x, y, donate_argnums=0, reproducible=True)
    assert donated(x.copy(), y).tobytes() == want.tobytes()
    threads = fg.compile(f, x, y, parallel=True, reproducible=True)
    assert threads(x, y).tobytes() == want.tobytes()


def test_pickled_programs_stay_reproducible():
    import pickle

    g = fg.compile(lambda x: (x * x).sum(), np.zeros(100), reproducible=True)
    again = pickle.loads(pickle.dumps(g))
    assert "# reproducible" in again.source
    assert again.source == g.source


def test_lane_sums_are_the_documented_order():
    """Iteration i into lane i % 16, the lanes by halves: computed here by NumPy, an addition at a time."""
    rng = np.random.default_rng(1)
    for n in (40, 67, 1000):
        x, y = rng.standard_normal((2, n))
        lanes = np.zeros(16)
        for i in range(n):
            lanes[i % 16] += x[i] * y[i]
        while lanes.size > 1:
            half = lanes.size // 2
            lanes = lanes[:half] + lanes[half:]
        # x @ y is a register tile, this a reduction.
        made = fg.compile(lambda x, y: (x * y - 0.0).sum(), x, y, reproducible=True)
        assert made(x, y) == lanes[0]


def test_short_sums_run_in_order():
    x = np.random.default_rng(2).standard_normal(13)
    total = 0.0
    for value in x:
        total += value
    assert fg.compile(lambda x: x.sum(), x, reproducible=True)(x) == total


def test_nothing_may_be_reordered():
    """No flag in the LLVM of any of these programs."""
    from llvmlite import ir as L

    from flatgrad.emit.llvm import Emitter

    x = fg.zeros((40, 40))
    graph, _ = prepared(_graph(lambda x: (x @ x).softmax(1).amax(0).sum(), x))
    program = lower_within(graph, None, machine=REPRODUCIBLE)
    assert program.exact
    assert not any(isinstance(s, ir.Gemm) for s, _ in walk(program.body))
    module = L.Module("m")
    Emitter(module, program, "f").emit()
    flags = ("reassoc", "contract", "nnan", "nsz", "fast", "arcp", "afn")
    assert not [line for line in str(module).splitlines() if set(line.split()) & set(flags)]


@pytest.mark.parametrize("target", ["x86", "neon"])
def test_no_instruction_rounds_a_product_and_a_sum_at_once(target):
    """In the assembly for processors that have such instructions; the usual program is full of them."""
    from flatgrad.lower.machine import Machine
    from tests.emit.test_vectorised import assembly

    x = fg.zeros((40, 40))
    graph, _ = prepared(_graph(lambda x: (fg.exp(x @ x) * x).sum() + (x[0] * x[1]).sum(), x))
    machines = {"usual": Machine(), "same": REPRODUCIBLE}
    programs = {name: lower_within(graph, None, machine=m) for name, m in machines.items()}
    text = assembly(target, programs)
    fused = {
        name: len(re.findall(r"vfn?m(add|sub)|fn?m(la|ls|add|sub)\b", t))
        for name, t in text.items()
    }
    assert fused["usual"] > 0
    assert fused["same"] == 0


def _graph(f, x):
    from flatgrad.func.tracing import Traced, kind_of

    return Traced("test", lambda leaves: f(*leaves), [kind_of("test", x, "x")]).graph


def test_what_numpy_runs_is_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"reproducible=True.*eig.*NumPy"):
        fg.compile(fg.linalg.eigvalsh, np.eye(60), reproducible=True)


def test_a_call_that_records_is_refused():
    f = fg.jit(lambda x: (x * x).sum(), reproducible=True)
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GradientError, match="reproducible function does not record"):
        f(x)
    with fg.no_grad():
        assert f(x).item() == 5.0
    assert fg.jit(fg.grad(f), reproducible=True)(fg.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]


def test_ordinary_programs_are_untouched():
    x = np.zeros(1000)
    entry = Entry(*prepared(_graph(lambda x: x.sum(), fg.zeros(1000))), [False], "f", ["x"])
    assert not entry.loops.exact
    assert "lanes" not in fg.compile(lambda x: x.sum(), x).source
