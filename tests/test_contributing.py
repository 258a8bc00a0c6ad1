"""CONTRIBUTING.md is true: its example operation is added, and passes every derived check."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import derived
import flatgrad as fg
from flatgrad.graph.op import PUBLIC, REGISTRY, BadCall
from flatgrad.ops import transcendental as family
from flatgrad.tensor import Tensor

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def public():
    """The operation of step 2, declared where it says. Removed after."""
    found = re.search(
        r"<!-- example: begin -->\n```python\n(.*?)```\n<!-- example: end", TEXT, re.S
    )
    # The names that are at hand in the family's file, and those of the records.
    namespace = {**vars(family), "BadCall": BadCall, "ArgumentError": fg.errors.ArgumentError}
    exec(compile(found[1], "CONTRIBUTING.md", "exec"), namespace)
    yield PUBLIC["haversin"]
    del PUBLIC["haversin"], REGISTRY["haversin"]
    for name in ("haversin", "haversin_"):
        delattr(Tensor, name)


@pytest.mark.parametrize(
    "check",
    [
        derived.check_evaluates,
        derived.check_gradient,
        derived.check_second_order,
        derived.check_transposed,
        derived.check_errors,
        derived.check_compiled,
    ],
    ids=lambda check: check.__name__,
)
def test_the_example_passes_every_check(public, check):
    check(public)


def test_the_example_is_a_function_and_a_method(public):
    x = fg.tensor([0.5, 1e-9], dtype=fg.float64, requires_grad=True)
    y = public.function(x)
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), [np.sin(0.25) ** 2, 0.25e-18], rtol=1e-15)
    np.testing.assert_allclose(x.grad.numpy(), np.sin([0.5, 1e-9]) / 2, rtol=1e-15)
    np.testing.assert_array_equal(x.detach().haversin().numpy(), y.detach().numpy())


def test_the_paths_it_names_exist():
    root = Path(__file__).parent.parent
    for name in re.findall(r"\b((?:tests|docs|src|\.ci)/[\w/.]+\w)", TEXT):
        assert (root / name).exists(), name


def test_the_helpers_it_names_exist():
    from flatgrad.ops import declare

    for helper in re.findall(r"\| `@?(\w+)", TEXT):
        assert callable(getattr(declare, helper)), helper
