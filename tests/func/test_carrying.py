"""Compiled and jitted functions in other processes: pickle, multiprocessing, joblib, Dask."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import errors
from flatgrad.transform.carry import pack, unpack

sys.path.insert(0, str(Path(__file__).parent))  # worker processes import `carried` too

import carried

TRUE = np.array([1.5, 0.7, 5.0])


@pytest.fixture(autouse=True)
def doubles():
    fg.set_default_dtype(fg.float64)


@pytest.fixture(scope="module")
def seen():
    return TRUE[0] * np.exp(-TRUE[1] * carried.TIMES) * np.cos(TRUE[2] * carried.TIMES)


@pytest.fixture(scope="module")
def gradient(seen):
    fg.set_default_dtype(fg.float64)
    return fg.compile(fg.value_and_grad(carried.misfit), np.zeros(3), seen)


STARTS = [[1.0, 0.5, 4.5], [1.0, 1.0, 5.5], [2.0, 0.2, 4.8], [1.2, 0.6, 5.2]]


def check_fits(found) -> None:
    best = min(found, key=lambda f: f[0])
    assert best[0] < 1e-6
    np.testing.assert_allclose(best[1], TRUE, rtol=1e-2)


# -- pickles --------------------------------------------------------------------------------------


def test_a_compiled_function_is_a_small_pickle(gradient, seen):
    text = pickle.dumps(gradient)
    again = pickle.loads(text)
    assert len(text) < 10_000
    value, slope = gradient(TRUE + 0.1, seen)
    assert again(TRUE + 0.1, seen)[0] == value and (again(TRUE + 0.1, seen)[1] == slope).all()
    out = np.empty(3)
    assert again(TRUE + 0.1, seen, out=out)[1] is out and (out == slope).all()
    with pytest.raises(errors.ShapeError, match=r"p must have the shape \(3,\)"):
        again(np.zeros(4), seen)


def test_what_was_captured_is_carried():
    w = fg.tensor([1.0, 2.0])
    again = pickle.loads(pickle.dumps(fg.compile(lambda d: {"y": (d["x"] * w).sum()}, {"x": w})))
    assert again({"x": np.array([3.0, 4.0])}) == {"y": 11.0}


@pytest.mark.parametrize("mode", ["never", "always"])
def test_loops_branches_and_library_routines_are_carried(mode, rng):
    def f(x, a):
        x = fg.scan(
            lambda c, k: (fg.cond(c.sum() > k, lambda c: c * 0.5, lambda c: c + k, c), c), x, a[0]
        )[0]
        return fg.fori_loop(0, 3, lambda i, c: c * 1.5, x) @ fg.linalg.inv(a)

    x, a = rng.standard_normal(3), rng.standard_normal((3, 3)) + 3 * np.eye(3)
    with fg.set_compile(mode):
        g = fg.compile(f, x, a)
        again = pickle.loads(pickle.dumps(g))
        np.testing.assert_array_equal(again(x, a), g(x, a))
    np.testing.assert_allclose(g(x, a), f(fg.tensor(x), fg.tensor(a)).numpy(), rtol=1e-12)


def test_graphs_as_lists_say_the_same(gradient):
    graph = gradient._bound.graph
    again = unpack(pickle.loads(pickle.dumps(pack(graph))))
    assert [n.op for n in again.order] == [n.op for n in graph.order]
    assert [(n.attrs, n.shape, n.dtype) for n in again.order] == [
        (n.attrs, n.shape, n.dtype) for n in graph.order
    ]
    assert pack(again) == pack(graph)
    with pytest.raises(errors.ArgumentError, match="another version"):
        unpack((0, ()))


def test_a_jitted_function_goes_by_name_or_by_its_function():
    assert pickle.loads(pickle.dumps(carried.jitted)) is carried.jitted
    again = pickle.loads(pickle.dumps(fg.jit(carried.fit, static_argnames="g")))
    assert again._f is carried.fit and again._calling.static == ("g",)


def test_a_restored_function_finds_its_machine_code(gradient):
    gradient._bound.entry._made.clear()
    again = pickle.loads(pickle.dumps(gradient))
    assert again.tier == "compiled" and again.source == gradient.source


# -- other processes ------------------------------------------------------------------------------


def test_multiprocessing(gradient, seen):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.starmap(carried.fit, [(gradient, seen, s) for s in STARTS[:2]])
        value = pool.apply(carried.call, (carried.jitted, np.array([0.5]), 2.0))
    check_fits(found)
    assert found[0][2] != os.getpid()
    assert value.item() == pytest.approx(2 * np.sin(0.5))


def test_joblib(gradient, seen):
    joblib = pytest.importorskip("joblib", reason="joblib is NOT INSTALLED: not tested")
    found = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(carried.fit)(gradient, seen, s) for s in STARTS[:2]
    )
    check_fits(found)
    # A jitted lambda is carried by value, and traced anew.
    scale = 3.0
    f = fg.jit(lambda x: (x * scale).sum())
    (value,) = joblib.Parallel(n_jobs=2)([joblib.delayed(carried.call)(f, np.ones(2))])
    assert value.item() == 6.0
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


# Dask's own threads and sockets warn while they are closed.
@pytest.mark.filterwarnings("ignore")
def test_a_fit_from_many_starts_on_a_dask_cluster(gradient, seen, tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="dask[distributed] is NOT INSTALLED: not tested"
    )
    import dask

    with (
        dask.config.set({"temporary_directory": str(tmp_path)}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        futures = [client.submit(carried.fit, gradient, seen, s, pure=False) for s in STARTS]
        found = client.gather(futures)
        jitted = client.submit(carried.call, carried.jitted, np.array([0.5]), 2.0).result()
    check_fits(found)
    assert os.getpid() not in {f[2] for f in found} and len({f[2] for f in found}) == 2
    assert jitted.item() == pytest.approx(2 * np.sin(0.5))
