"""GradBench's workloads: every formulation equals an independent reference; so do the references."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import flatgrad as fg

FOLDER = Path(__file__).parent.parent.parent / "benchmarks" / "gradbench"
NAMES = sorted([*[p.stem for p in (FOLDER / "c").glob("*.c")], "ht_theta"])


def load(name: str):
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


def leaves(result) -> list[np.ndarray]:
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in leaves(part)]
    return [np.asarray(result)]


@pytest.mark.parametrize("name", NAMES)
def test_every_formulation_equals_the_reference(name):
    workload = load(name)
    arrays = workload.inputs(**workload.QUICK)
    wanted = leaves(workload.reference(*arrays))
    programs = {k: fg.compile(f, *arrays) for k, f in workload.FORMULATIONS.items()}
    steps = {k: lambda p=p: p(*arrays) for k, p in programs.items()}
    steps |= {k: make(arrays) for k, make in getattr(workload, "CALLED", {}).items()}
    for formulation, step in steps.items():
        found = leaves(step())
        assert len(found) == len(wanted)
        for got, want in zip(found, wanted, strict=True):
            assert np.isfinite(want).all() and np.abs(want).max() > 0
            scale = np.abs(want).max()
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-10 * scale, err_msg=formulation)


def test_every_workload_is_tested_in_c_as_well():
    made = [p.stem for p in FOLDER.glob("*.py") if "FORMULATIONS" in p.read_text()]
    assert sorted(set(made) - {"run", "tool"}) == NAMES


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc was not found: the C is NOT tested")
@pytest.mark.parametrize("name", NAMES)
def test_the_hand_written_c_equals_the_reference(name):
    workload, native = load(name), load("native")
    arrays = workload.inputs(**workload.QUICK)
    wanted = leaves(workload.reference(*arrays))
    library = native.load(getattr(workload, "LIBRARY", name), ("-O1",))
    for step in workload.c_derivative(arrays, library):
        for got, want in zip(leaves(step()), wanted, strict=True):
            scale = np.abs(want).max()
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-10 * scale)


def differences(function, arrays, k: int, step=1e-6) -> np.ndarray:
    """Central differences of a scalar function by its argument `k`."""
    found = np.empty_like(arrays[k])
    for at in np.ndindex(found.shape):
        values = []
        for sign in (1, -1):
            moved = [a.copy() for a in arrays]
            moved[k][at] += sign * step
            values.append(float(function(*moved)))
        found[at] = (values[0] - values[1]) / (2 * step)
    return found


def test_gmm_reference_is_the_derivative_of_the_objective():
    gmm = load("gmm")
    arrays = gmm.inputs(d=2, k=2, n=5)

    def objective(*arrays):
        return gmm.objective(*[fg.tensor(a) for a in arrays])

    for k, want in enumerate(gmm.reference(*arrays)):
        np.testing.assert_allclose(differences(objective, arrays, k), want, rtol=1e-6, atol=1e-7)


def test_ode_reference_is_the_derivative_of_the_program():
    ode = load("ode")
    arrays = ode.inputs(**ode.QUICK)

    def last(x, steps):
        y = np.zeros(len(x))
        for _ in steps:
            y = ode.runge_kutta(x, y, 2 / len(steps), np.concatenate)
        return y[-1]

    want = ode.reference(*arrays)
    np.testing.assert_allclose(differences(last, arrays, 0), want, rtol=1e-6)


def test_particle_ends_where_the_benchmark_says():
    particle = load("particle")
    np.testing.assert_allclose(particle.reference(np.zeros(1)), 0.2071918746486, rtol=1e-10)


def test_saddle_ends_where_the_benchmark_says():
    np.testing.assert_allclose(load("saddle").reference(np.ones(2)), [8.246e-6] * 4, rtol=1e-3)


def test_det_is_the_determinant():
    det = load("det")
    (a,) = det.inputs(5)
    found = det.determinant(fg.tensor(a), fg.from_numpy, fg.ones(1, dtype=fg.float64))
    np.testing.assert_allclose(found.numpy(), np.linalg.det(a), rtol=1e-12)


@pytest.mark.parametrize("name", ["ba", "ht"])
def test_rotations_by_nothing_have_derivatives(name):
    """At an angle of 0 the axis is undefined; the derivative is not, and it is the limit."""
    workload = load(name)
    arrays = workload.inputs(**workload.QUICK)
    at, near = [a.copy() for a in arrays], [a.copy() for a in arrays]
    where = (slice(None), slice(3)) if name == "ba" else slice(3)
    at[0][where], near[0][where] = 0.0, 1e-6
    for function in workload.FORMULATIONS.values():
        compiled = fg.compile(function, *arrays)
        for have, want in zip(leaves(compiled(*at)), leaves(compiled(*near)), strict=True):
            assert np.isfinite(have).all()
            np.testing.assert_allclose(have, want, rtol=0, atol=1e-4 * np.abs(want).max())
