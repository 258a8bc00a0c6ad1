"""A user's module, and the command line as a function."""

from __future__ import annotations

import json
import sys

import pytest

from flatgrad.cli import main

MODULE = """
import flatgrad as fg
import numpy as np


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def scaled(x, factor):
    return (x * factor).sum()


def moved(x, step):
    return x + step


def with_example(x):
    return x.sum()


with_example.example = (np.zeros(3),)


def make():
    return np.array([1.2, -0.7, 0.3]), 2.0


def run():
    x = fg.tensor([1.0, 2.0, 3.5], requires_grad=True)
    rosenbrock(x).backward()
    print("the user's print", x.grad)


def slow(x):
    import time
    time.sleep(0.002)
    return x


def broken(x):
    raise KeyError("lost")


number = 3
"""


@pytest.fixture
def module(tmp_path):
    """The path of a module of functions."""
    file = tmp_path / "user_functions.py"
    file.write_text(MODULE)
    path = list(sys.path)
    yield file
    sys.path[:] = path
    sys.modules.pop("user_functions", None)


@pytest.fixture
def cli(capsys):
    """``cli(*words)`` -> (exit code, standard output, standard error)."""

    def call(*words):
        capsys.readouterr()
        code = main([str(w) for w in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def cli_json(cli):
    """``cli_json(*words)`` -> (exit code, the JSON value)."""

    def call(*words):
        code, out, _ = cli(*words, "--json")
        return code, json.loads(out)

    return call
