"""The programs that exported C is judged by: their C gives the interpreter's numbers on this machine."""

import copy
import subprocess
import sys

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.func.tree import flatten
from support.c import STRICT, compilers
from support.workloads import WORKLOADS, assert_near, interpreted, workload

# One of each formula; the other precision and size of it is slow.
QUICK = ["rosenbrock", "ekf", "mpc", "digits", "cnn", "lstm", "scan"]
REST = [pytest.param(n, marks=pytest.mark.slow) for n in WORKLOADS if n not in QUICK]


def built(it, folder, *flags, **how):
    """The export's function, called as Python does."""
    if "gcc" not in compilers():
        pytest.skip("gcc is not installed: exported C was NOT compiled")
    made = fg.export(
        it.function,
        *it.example,
        name=it.name,
        path=folder,
        donate_argnums=it.donate_argnums,
        **how,
    )
    made.build(" ".join(["gcc", *STRICT, *flags]))
    return made


def leaves(result) -> list[np.ndarray]:
    return [np.asarray(a) for a in flatten(result)[0]]


@pytest.mark.parametrize("name", [*QUICK, *REST])
def test_c_gives_the_interpreters_numbers(tmp_path, name):
    it = workload(name)
    call = built(it, tmp_path).load()
    given = copy.deepcopy(it.example)
    assert_near(leaves(call(*given)), it)
    # What is given up is updated in place, and nothing else is.
    for k, (now, before) in enumerate(zip(given, it.example, strict=True)):
        pairs = zip(leaves(now), leaves(before), strict=True)
        changed = any(not np.array_equal(a, b) for a, b in pairs)
        assert changed == (k in it.donate_argnums)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_reproducible_c_gives_the_bits_of_numba(tmp_path, name):
    it = workload(name)
    compiled = fg.compile(it.function, *it.example, reproducible=True)
    expected = leaves(compiled(*copy.deepcopy(it.example)))
    for flags in (["-O0"], ["-O3", "-march=native"]):
        call = built(it, tmp_path / flags[0], *flags, reproducible=True).load()
        for a, b in zip(leaves(call(*copy.deepcopy(it.example))), expected, strict=True):
            assert a.astype(it.dtype).tobytes() == b.astype(it.dtype).tobytes()


def test_a_process_that_runs_an_export_imports_little(tmp_path):
    """NumPy, ctypes and itself: not flatgrad, nor what it needs."""
    it = workload("rosenbrock")
    built(it, tmp_path)
    text = (
        "import sys, numpy, ctypes; before = set(sys.modules); import rosenbrock as r\n"
        f"value = r.rosenbrock(numpy.array({it.example[0].tolist()}))[0]\n"
        "print(value, *sorted(set(sys.modules) - before))"
    )
    run = [sys.executable, "-c", text]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    value, *modules = done.stdout.split()
    assert float(value) == pytest.approx(float(interpreted(it)[0]), rel=1e-14)
    assert modules == ["rosenbrock"]
