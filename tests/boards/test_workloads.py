"""The judged programs compiled for this machine, a PC or an emulated board: the interpreter's numbers."""

import pytest

import flatgrad as fg
from flatgrad.func.tree import flatten
from support.workloads import WORKLOADS, assert_near, workload


@pytest.mark.parametrize("name", WORKLOADS)
def test_compiled_is_interpreted(name):
    it = workload(name)
    with fg.set_compile("always"):  # fg.compile interprets, too, where nothing is to be compiled
        found = flatten(fg.compile(it.function, *it.example)(*it.example))[0]
    assert_near(found, it)
