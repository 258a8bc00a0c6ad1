"""fg.compile: NumPy in and out, given memory, calls from njit, C and SciPy, and what is refused."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import errors

numba = pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def doubles():
    fg.set_default_dtype(fg.float64)


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2).sum() + 100 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


def rosenbrock_by_hand(x):
    a, b = 1 - x[:-1], x[1:] - x[:-1] ** 2
    gradient = np.zeros_like(x)
    gradient[:-1] += -2 * a - 400 * b * x[:-1]
    gradient[1:] += 200 * b
    return (a**2).sum() + 100 * (b**2).sum(), gradient


@pytest.fixture(scope="module")
def programs():
    """Programs that several tests call; compiled once."""
    fg.set_default_dtype(fg.float64)
    return SimpleNamespace(
        rosenbrock=fg.compile(fg.value_and_grad(rosenbrock), np.zeros(4)),
        waves=fg.compile(
            fg.value_and_grad(lambda x, a: (fg.sin(x) * a).sum(), argnums=(0, 1)), np.zeros(3), 1.0
        ),
        bell=fg.compile(lambda x, a: fg.exp(-a * x * x), 0.0, 0.0),
        pick=fg.compile(lambda x, i: x[i], np.zeros(4), np.array([0, 1])),
    )


# -- from Python ----------------------------------------------------------------------------------


def test_numpy_in_numpy_out(programs, rng):
    x = rng.standard_normal(4)
    value, gradient = programs.rosenbrock(x)
    want = rosenbrock_by_hand(x)
    assert type(value) is float and type(gradient) is np.ndarray
    assert value == pytest.approx(want[0], rel=1e-14)
    np.testing.assert_allclose(gradient, want[1], rtol=1e-12)
    assert programs.rosenbrock.tier == "compiled" and "program" in programs.rosenbrock.source


def test_arrays_of_other_layouts_and_tensors_are_taken(programs, rng):
    x = rng.standard_normal(4)
    want = programs.rosenbrock(x)[0]
    frozen = x.copy()
    frozen.flags.writeable = False
    strided = np.repeat(x, 2)[::2]
    for argument in (frozen, strided, fg.tensor(x), np.asfortranarray(x)):
        assert programs.rosenbrock(argument)[0] == want


def test_results_of_every_kind_are_fresh():
    x = np.array([1.0, 2.0])
    f = fg.compile(lambda x: (x, x, x * 0.0 + 1.0, 1.5, x > 1.5, (x > 5.0).any()), x)
    a, b, c, number, mask, any_ = f(x)
    assert number == 1.5 and mask.tolist() == [False, True] and any_ is False
    for array in (a, b, c):
        array += 1.0
    assert x.tolist() == [1.0, 2.0] and a.tolist() == b.tolist() == [2.0, 3.0]


def test_trees_in_and_out():
    f = fg.compile(lambda d, k=1.0: {"a": d["x"] * k, "b": (d["x"].sum(), 3)}, {"x": np.zeros(2)})
    assert f({"x": np.ones(2)})["b"] == (2.0, 3)
    out = {"a": np.zeros(2), "b": (None, None)}
    assert f({"x": np.ones(2)}, out=out)["a"] is out["a"] and out["a"].tolist() == [1.0, 1.0]
    one = fg.compile(lambda x: (x * 2.0,), np.zeros(2))
    assert type(one(np.ones(2))) is tuple and one(np.ones(2))[0].tolist() == [2.0, 2.0]
    named = fg.compile(lambda x, scale: x * scale, np.zeros(2), scale=2.0)
    assert named(np.ones(2), scale=3.0).tolist() == [3.0, 3.0]


def test_dtypes_and_numbers():
    f = fg.compile(lambda x, n, flag: fg.where(flag, x * n, x), np.zeros(2, np.float32), 1, True)
    found = f(np.ones(2, np.float32), 7, True)
    assert found.dtype == np.float32 and found.tolist() == [7.0, 7.0]
    assert f(np.ones(2, np.float32), 7, False).tolist() == [1.0, 1.0]
    g = fg.compile(lambda a, b: a / b, 1.0, np.float64(1.0))
    assert g(1, 3) == 1 / 3 and g(np.float64(2.0), 4.0) == 0.5


def test_what_is_read_from_outside_is_fixed():
    w = fg.tensor([1.0, 2.0])
    f = fg.compile(lambda x: (w * x).sum(), np.zeros(2))
    w[0] = 100.0
    assert f(np.ones(2)) == 3.0
    assert fg.compile(lambda x: (w * x).sum(), np.zeros(2))(np.ones(2)) == 102.0


def test_given_memory_is_filled(programs, rng):
    x, out = rng.standard_normal(4), np.empty(4)
    value, gradient = programs.rosenbrock(x)
    for _ in range(2):  # the second call goes the short way
        found = programs.rosenbrock(x, out=out)
        assert found[0] == value and found[1] is out and (out == gradient).all()
        out[:] = 0.0
    both = np.empty(()), out
    assert programs.rosenbrock(x, out=both)[0] is both[0] and both[0] == value
    assert programs.rosenbrock(x, out=(None, out))[1] is out
    strided = np.zeros(8)[::2]
    programs.rosenbrock(x, out=strided)
    assert (strided == gradient).all()


def test_memory_that_overlaps_an_argument(programs, rng):
    x = rng.standard_normal(4)
    value, gradient = programs.rosenbrock(x)
    programs.rosenbrock(x, out=np.empty(4))
    same = x.copy()
    assert programs.rosenbrock(same, out=same)[0] == value and (same == gradient).all()
    two = fg.compile(lambda x: (x + 1.0, x + 2.0), np.zeros(2))
    out = np.zeros(3)
    with pytest.raises(errors.ArgumentError, match="share memory"):
        two(np.ones(2), out=(out[:2], out[1:]))
    with pytest.raises(errors.ArgumentError, match="overlaps"):
        numba.njit(overlapping)(two.njit_out, np.ones(2))


def overlapping(fill, x):
    fill(x, x, np.zeros(2))


def test_wrong_arguments_name_what_is_required_and_given(programs):
    g = programs.rosenbrock
    x = np.zeros(4)
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    for call, error, match in (
        (lambda: g(np.zeros(5)), errors.ShapeError, r"x must have the shape \(4,\).*got \(5,\)"),
        (lambda: g(x.astype("f")), errors.DTypeError, "x must have the dtype float64.*float32"),
        (lambda: g(x.reshape(2, 2)), errors.ShapeError, r"got \(2, 2\)"),
        (lambda: g([0.0] * 4), errors.ArgumentError, "structure"),
        (lambda: g("text"), errors.ArgumentError, "x must be an array.*got str"),
        (lambda: g(), TypeError, "missing.*'x'"),
        (lambda: g(x, x), TypeError, "positional"),
        (lambda: g(fg.zeros(4, requires_grad=True)), errors.GradientError, "detach"),
        (lambda: g(x, out=np.zeros(3)), errors.ShapeError, r"out.*shape \(4,\), got \(3,\)"),
        (lambda: g(x, out=np.zeros(4, "f")), errors.DTypeError, "float64, got float32"),
        (lambda: g(x, out=frozen), errors.ArgumentError, "read-only"),
        (lambda: g(x, out=3), errors.ArgumentError, "out"),
        (lambda: programs.waves(np.zeros(3), np.zeros(3)), errors.ShapeError, r"a must.*\(\)"),
        (lambda: programs.waves(np.zeros(3), "a"), errors.ArgumentError, "a must"),
        (lambda: fg.compile(lambda x: x, "text"), errors.ArgumentError, "str"),
        (lambda: fg.compile(lambda x: "text", 1.0), errors.ArgumentError, "return"),
        (lambda: fg.compile(3), errors.ArgumentError, "function"),
        (lambda: fg.compile(lambda x: x if x > 0 else -x, 1.0), errors.TraceError, "fg.where"),
    ):
        with pytest.raises(error, match=match):
            call()


def test_an_index_out_of_range(programs):
    x = np.arange(4.0)
    assert programs.pick(x, np.array([3, 2])).tolist() == [3.0, 2.0]
    with pytest.raises(errors.IndexingError, match="size 4"):
        programs.pick(x, np.array([3, 4]))


def test_interpreted_it_gives_the_same(programs, rng):
    x = rng.standard_normal(4)
    with fg.set_compile("never"):
        g = fg.compile(fg.value_and_grad(rosenbrock), np.zeros(4))
    value, gradient = g(x)
    assert g.tier == "interpreted" and value == pytest.approx(programs.rosenbrock(x)[0])
    out = np.empty(4)
    assert g(x, out=out)[1] is out and (out == gradient).all()
    with pytest.raises(errors.ShapeError):
        g(np.zeros(5))
    with pytest.raises(errors.UnsupportedError, match="never"):
        _ = g.njit


def test_library_routines_run_from_python_only(rng):
    a = rng.standard_normal((3, 3)) + 3 * np.eye(3)
    g = fg.compile(lambda a: fg.linalg.eigvalsh(a + a.T) * 2.0, a)
    np.testing.assert_allclose(g(a), 2 * np.linalg.eigvalsh(a + a.T), rtol=1e-10)
    with pytest.raises(errors.UnsupportedError, match=r"\.njit.*eig.*NumPy"):
        _ = g.njit


def test_a_large_arena_and_large_constants(rng):
    w = rng.standard_normal((64, 200))
    held = fg.tensor(w)

    def f(x):
        y = fg.tanh(held @ x)
        return (y @ y.T).softmax(0) @ y

    x = rng.standard_normal((200, 300))
    g = fg.compile(f, x)
    assert g.arena > 32 * 1024
    y = np.tanh(w @ x)
    e = np.exp(y @ y.T - (y @ y.T).max(0))
    for _ in range(3):
        np.testing.assert_allclose(g(x), e / e.sum(0) @ y, rtol=1e-9)
    assert len(g._program.arenas) == 1  # kept from call to call


# -- from njit ------------------------------------------------------------------------------------


def test_from_njit(programs, rng):
    g, waves = programs.rosenbrock.njit, programs.waves.njit

    @numba.njit
    def descend(x, rate, steps):
        for _ in range(steps):
            x = x - rate * g(x)[1]
        return x

    x = want = np.array([0.5, -0.2, 0.1, 0.3])
    for _ in range(20):
        want = want - 1e-3 * rosenbrock_by_hand(want)[1]
    np.testing.assert_allclose(descend(x, 1e-3, 20), want, rtol=1e-12)

    @numba.njit
    def flat(x):
        value, by_x, by_a = waves(x, 2.0)
        return value, by_x, by_a + waves(x, np.array(3.0))[0]

    x = rng.standard_normal(3)
    value, by_x, rest = flat(x)
    assert value == pytest.approx(2 * np.sin(x).sum()) and rest == pytest.approx(
        4 * np.sin(x).sum()
    )
    np.testing.assert_allclose(by_x, 2 * np.cos(x), rtol=1e-14)


def test_njit_out_allocates_nothing(programs):
    g = programs.rosenbrock.njit_out

    @numba.njit
    def many(x, out, steps):
        total = 0.0
        for _ in range(steps):
            total += g(x, out)
        return total

    x, out = np.array([1.0, 2.0, 3.0, 4.0]), np.empty(4)
    many(x, out, 1)
    from numba.core.runtime import _nrt_python, rtsys

    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats().alloc
        total = many(x, out, 1000)
        made = rtsys.get_allocation_stats().alloc - before
    finally:
        _nrt_python.memsys_disable_stats()
    assert made <= 2  # what a call from Python takes
    value, gradient = rosenbrock_by_hand(x)
    assert total == pytest.approx(1000 * value)
    np.testing.assert_allclose(out, gradient, rtol=1e-13)


def test_from_several_threads_at_once(programs, rng):
    g = programs.waves.njit_out

    @numba.njit(parallel=True)
    def rows(x, values, gradients):
        for i in numba.prange(x.shape[0]):
            values[i] = g(x[i], 3.0, gradients[i])[0]

    x = rng.standard_normal((500, 3))
    values, gradients = np.empty(500), np.empty((500, 3))
    rows(x, values, gradients)
    np.testing.assert_allclose(values, 3 * np.sin(x).sum(1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradients, 3 * np.cos(x), rtol=1e-12)

    @numba.njit(nogil=True)
    def serial(x, values, gradients):
        for i in range(x.shape[0]):
            values[i] = g(x[i], 2.0, gradients[i])[0]

    threads = [
        threading.Thread(target=serial, args=(x[k::4].copy(), values[:125], gradients[:125]))
        for k in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert np.isfinite(values).all()


def test_njit_takes_global_arrays_and_refuses_wrong_ones(programs):
    g = programs.rosenbrock.njit
    fixed = np.zeros(4)

    @numba.njit
    def constant():
        return g(fixed)[0]

    assert constant() == 3.0

    @numba.njit
    def call(x):
        return g(x)[0]

    with pytest.raises(ValueError, match=r"x must have the shape \(4,\)"):
        call(np.zeros(5))
    for x in (np.zeros(4, np.float32), np.zeros((4, 4)), np.zeros(8)[::2]):
        with pytest.raises(
            numba.TypingError, match="x must be a C-contiguous array of float64 with 1 dim"
        ):
            call(x)


def test_njit_raises_what_the_program_finds(programs):
    g = programs.pick.njit

    @numba.njit
    def call(x, i):
        return g(x, i)

    assert call(np.arange(4.0), np.array([1, 0])).tolist() == [1.0, 0.0]
    with pytest.raises(IndexError, match="size 4"):
        call(np.arange(4.0), np.array([9, 9]))


USER = """
import sys, warnings
import numpy as np
from numba import njit
from model import step

@njit(cache=True)
def use(x):
    return step(x)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    value = use(np.array([1.0, 2.0]))
print(value, any("dynamic globals" in str(w.message) for w in caught))
"""

MODEL = """
import numpy as np
import flatgrad as fg
fg.set_default_dtype(fg.float64)
step = fg.compile(lambda x: (x * {scale}).sum(), np.zeros(2)).njit
"""


def test_a_cached_function_of_the_users_never_runs_an_old_model(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    source = str(Path(fg.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"}
    found = []
    for scale in (1.0, 10.0, 10.0):
        (tmp_path / "model.py").write_text(MODEL.format(scale=scale))
        done = subprocess.run(
            [sys.executable, "-B", str(tmp_path / "user.py")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(done.stdout.split())
    # Numba says that it doesn't keep such a function.
    assert found == [["3.0", "True"], ["30.0", "True"], ["30.0", "True"]]
    assert not list(tmp_path.rglob("*.nbc"))


# -- from C ---------------------------------------------------------------------------------------


def test_the_c_function(programs):
    double, integer = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.c_int64)

    def pointer(array, kind=double):
        return array.ctypes.data_as(kind)

    call = programs.waves.cfunc.ctypes
    x, a = np.arange(3.0), np.array(2.0)
    value, by_x, by_a = np.empty(()), np.empty(3), np.empty(())
    assert call(*map(pointer, (x, a, value, by_x, by_a))) == 0
    assert value == pytest.approx(2 * np.sin(x).sum()) and by_a == pytest.approx(np.sin(x).sum())
    np.testing.assert_allclose(by_x, 2 * np.cos(x), rtol=1e-14)
    pick, out = programs.pick.cfunc.ctypes, np.zeros(2)
    assert pick(pointer(x), pointer(np.array([1, 2]), integer), pointer(out)) == 0
    assert out.tolist() == [1.0, 2.0]
    assert pick(pointer(x), pointer(np.array([1, 9]), integer), pointer(out)) != 0


def test_scipy_calls_it(programs):
    integrate = pytest.importorskip("scipy.integrate")
    bell = programs.bell

    def plain(x, a):
        return np.exp(-a * x * x)

    for a in (2.0, 0.5):  # one program, other user data
        found = integrate.quad(bell.low_level_callable(a), 0, 1)[0]
        assert found == pytest.approx(integrate.quad(plain, 0, 1, args=(a,))[0], rel=1e-12)
    box = [[0, 1], [0, 2]]
    want = integrate.nquad(plain, box)[0]
    assert integrate.nquad(bell.low_level_callable(), box)[0] == pytest.approx(want, rel=1e-10)
    vector = fg.compile(lambda x, w: (x * x * w).sum(), np.zeros(2), np.zeros(2))
    call = vector.low_level_callable(np.array([1.0, 2.0]))
    assert integrate.nquad(call, box)[0] == pytest.approx(6.0)
    several = bell.low_level_callable(2.0, signature="double (int, double *)")
    assert integrate.nquad(several, [[0, 1]])[0] == pytest.approx(0.5981440066613041)
    # The wrong number of arguments gives NaN rather than nonsense.
    with pytest.warns(integrate.IntegrationWarning):
        assert np.isnan(integrate.nquad(call, [[0, 1]])[0])


def test_what_scipy_cannot_call(programs):
    bell = programs.bell
    single = fg.compile(lambda x: x, fg.zeros((), dtype=fg.float32))
    for call, error, match in (
        (lambda: programs.waves.low_level_callable(), errors.ArgumentError, "one float64 result"),
        (lambda: single.low_level_callable(), errors.ArgumentError, "float64"),
        (lambda: bell.low_level_callable(1.0, 2.0), errors.ArgumentError, "free"),
        (lambda: bell.low_level_callable(np.ones(2)), errors.ShapeError, "fixed"),
        (lambda: bell.low_level_callable(signature="int (int)"), errors.ArgumentError, "signature"),
        (
            lambda: bell.low_level_callable(signature="double (double)"),
            errors.ArgumentError,
            "one free number",
        ),
    ):
        with pytest.raises(error, match=match):
            call()


# -- for a long time ------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_million_calls_neither_slow_down_nor_grow(programs):
    import resource
    import time

    g = programs.rosenbrock
    x, out = np.array([0.5, -0.2, 0.1, 0.3]), np.empty(4)
    g(x, out=out)

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            g(x)
            g(x, out=out)
        return (time.perf_counter() - start) / calls

    seconds(100_000)
    first = min(seconds(100_000) for _ in range(5))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(45):
        seconds(100_000)
    last = min(seconds(100_000) for _ in range(5))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown < 1024, f"{grown} KB"
    assert last < 1.5 * first


def test_the_attributes_are_named_in_njit_code():
    g = fg.compile(fg.value_and_grad(lambda x: (x * x).sum()), np.zeros(3))

    @numba.njit
    def steps(x, out):
        for _ in range(3):
            _value, slope = g.njit(x)
            x = x - 0.25 * slope
        return g.njit_out(x, out)

    out = np.empty(3)
    assert steps(np.ones(3), out) == 3 * 0.125**2
    np.testing.assert_allclose(out, 2 * 0.125)

    with pytest.raises(numba.TypingError, match="nothing"):
        numba.njit(lambda x: g.nothing(x))(np.ones(3))
