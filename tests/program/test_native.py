"""Machine code that is loaded without Numba: it agrees, survives damage, and is given back."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.program import cache as module
from flatgrad.program.build import Compiled
from tests.support.programs import graph_of

X = np.arange(6.0).reshape(2, 3)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(factor: float = 2.0) -> Compiled:
    return Compiled(graph_of(lambda x: (x * factor + 1.0,), X))


def test_the_second_one_comes_from_disk(directory):
    first, second = made(), made()
    assert (first.from_disk, second.from_disk) == (False, True)
    assert second.code_bytes == first.code_bytes > 0
    np.testing.assert_array_equal(second([X])[0], X * 2 + 1)
    assert len(list(directory.glob("native_*.o"))) == 1
    assert [e.name.startswith("native_") for e in module.cache.entries()] == [True]


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: b"", lambda d: d[:40] + b"\0" + d[41:] + b"x"]
)
def test_a_damaged_file_is_rebuilt(directory, damage):
    made()
    (file,) = directory.glob("native_*.o")
    file.write_bytes(damage(file.read_bytes()))
    again = made()
    assert not again.from_disk
    np.testing.assert_array_equal(again([X])[0], X * 2 + 1)
    assert made().from_disk


def test_what_is_whole_but_no_object_code_is_rebuilt(directory):
    made()
    (file,) = directory.glob("native_*.o")
    module.write_object(file, b"not an object file")
    again = made()
    assert not again.from_disk
    np.testing.assert_array_equal(again([X])[0], X * 2 + 1)


def test_arrays_of_a_subclass_and_scalars_are_taken():
    class Mine(np.ndarray):
        pass

    np.testing.assert_array_equal(made()([X.view(Mine)])[0], X * 2 + 1)
    number = Compiled(graph_of(lambda x: (x * 3.0,), np.array(2.0)))
    assert number([np.float64(2.0)])[0] == 6.0


def test_code_goes_with_its_last_reference():
    program = made()
    code = weakref.ref(program.segments[0].function.__self__)
    function = program.segments[0].function
    del program
    gc.collect()
    assert code() is not None
    del function
    gc.collect()
    assert code() is None


def test_an_index_out_of_range_raises():
    graph = graph_of(lambda x, k: (x[k],), X, np.array([0, 1]))
    program = Compiled(graph)
    np.testing.assert_array_equal(program([X, np.array([1, 0])])[0], X[[1, 0]])
    with pytest.raises(fg.errors.IndexingError):
        program([X, np.array([0, 2])])


def test_evaluating_compiled_needs_no_numba():
    program = (
        "import flatgrad as fg, sys\n"
        "fg.set_compile('always')\n"
        "x = fg.ones(20, 30, requires_grad=True)\n"
        "(x * 2).tanh().sum().backward()\n"
        "print(fg.explain(x.grad * 1).tier, 'numba' in sys.modules, 'scipy' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["compiled", "False", "False"]
