"""Functions and arguments as the command line names them."""

from __future__ import annotations

import os
from argparse import Namespace

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.cli.given import argument, given, need_example
from flatgrad.cli.screen import UsageError


def options(function, *arg, example=None, transform=None):
    return Namespace(
        function=function, arg=list(arg), example=example, transform=transform, command="bench"
    )


@pytest.mark.parametrize(
    "text, dtype, shape",
    [
        ("float64[8,3]", "float64", (8, 3)),
        ("f4[4]", "float32", (4,)),
        ("float32[]", "float32", ()),
        ("int8[2, 0]", "int8", (2, 0)),
        ("bool[5]", "bool", (5,)),
        ("u1[3]=7", "uint8", (3,)),
    ],
)
def test_arrays(text, dtype, shape):
    made = argument(text)
    assert isinstance(made, np.ndarray) and (made.dtype.name, made.shape) == (dtype, shape)


def test_numbers_and_fills():
    assert isinstance(argument("float64"), np.float64) and isinstance(argument("f4"), np.float32)
    assert argument("2.5") == 2.5 and type(argument("2.5")) is float
    assert argument("-3") == -3 and type(argument("-3")) is int
    assert argument("true") is True
    assert (argument("f8[3]=-0.5") == -0.5).all()
    made = argument("f8[100]")
    assert (made >= 0.5).all() and (made < 1.5).all() and np.ptp(made) > 0.5
    assert (made == argument("f8[100]")).all()  # the same every time


def test_files(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3))
    assert argument(str(tmp_path / "x.npy")).tolist() == [0, 1, 2]
    np.save(tmp_path / "evil.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UsageError):
        argument(str(tmp_path / "evil.npy"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "float65[3]",
        "f8[x]",
        "f8[-1]",
        "f8[3",
        "f8[3]=x",
        "np.zeros(3)",
        "__import__('os')",
        "none.npy",
    ],
)
def test_bad_arguments(text):
    with pytest.raises(UsageError):
        argument(text)


def test_where_examples_come_from(module):
    g = given(options(f"{module}:rosenbrock", "f8[4]"))
    assert g.label == "rosenbrock" and [x.shape for x in g.example] == [(4,)]
    assert given(options(f"{module}:with_example")).example[0].shape == (3,)
    x, factor = given(options(f"{module}:scaled", example="make")).example
    assert (x.tolist(), factor) == ([1.2, -0.7, 0.3], 2.0)
    assert given(options(f"{module}:scaled", example=f"{module}:make")).example[1] == 2.0
    g = given(options(f"{module}:scaled", "f8[3]", "factor:2.5"))
    assert len(g.example) == 1 and g.keywords == {"factor": 2.5}
    assert given(options(f"{module}:run")).example == ()
    with pytest.raises(UsageError, match="--arg float64"):
        need_example(given(options(f"{module}:rosenbrock")))
    with pytest.raises(UsageError, match="one of them"):
        given(options(f"{module}:scaled", "f8", example="make"))


def test_the_module_says_it_for_all_its_functions(tmp_path):
    file = tmp_path / "says_all.py"
    file.write_text("def f(x):\n    return x\n\ndef example_arguments():\n    return (1.5,)\n")
    assert given(options(f"{file}:f")).example == (1.5,)


def test_a_compiled_function_knows_its_arguments(tmp_path):
    file = tmp_path / "made_before.py"
    file.write_text(
        "import flatgrad as fg, numpy as np\n"
        "g = fg.compile(lambda x, n: x * n, np.zeros((2, 3), 'f'), 1.0)\n"
    )
    x, n = given(options(f"{file}:g")).example
    assert (x.shape, x.dtype.name, type(n)) == ((2, 3), "float32", np.float64)


def test_transforms(module):
    g = given(options(f"{module}:rosenbrock", "f8[4]", transform="grad"))
    assert g.label == "grad(rosenbrock)"
    assert g.function(fg.tensor([1.0, 1.0, 1.0])).tolist() == [0, 0, 0]
    with pytest.raises(UsageError, match="value_and_grad"):
        given(options(f"{module}:rosenbrock", "f8[4]", transform="gradient"))


def test_what_is_no_function(module):
    with pytest.raises(UsageError, match="no function"):
        given(options(f"{module}:number"))


def test_two_files_of_one_name(tmp_path):
    for k in (1, 2):
        (tmp_path / str(k)).mkdir()
        (tmp_path / str(k) / "twin_module.py").write_text(f"def f():\n    return {k}\n")
    found = [given(options(f"{tmp_path / str(k) / 'twin_module.py'}:f")).function() for k in (1, 2)]
    assert found == [1, 2]


def test_a_module_by_its_name(module, monkeypatch):
    monkeypatch.chdir(module.parent)
    assert given(options("user_functions:rosenbrock")).function.__module__ == "user_functions"
    assert given(options(f".{os.sep}user_functions.py:rosenbrock")).label == "rosenbrock"
