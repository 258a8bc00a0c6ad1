"""Every public function of the registry under every check that its record implies."""

from __future__ import annotations

import importlib.util

import pytest

import derived
from flatgrad.graph.op import PUBLIC

ALL = list(PUBLIC.values())
DIFFERENTIABLE = [p for p in ALL if p.differentiable]


def over(publics):
    return pytest.mark.parametrize("public", publics, ids=lambda p: p.name)


@over(ALL)
def test_evaluates(public):
    derived.check_evaluates(public)


@over(DIFFERENTIABLE)
def test_gradient(public):
    derived.check_gradient(public)


@over(DIFFERENTIABLE)
def test_second_order(public):
    derived.check_second_order(public)


@pytest.mark.skipif(
    importlib.util.find_spec("flatgrad.transform.pushforward") is None, reason="no forward mode"
)
@over(DIFFERENTIABLE)
def test_forward_and_reverse_agree(public):
    derived.check_transposed(public)


@over([p for p in ALL if p.errors is not None])
def test_errors(public):
    derived.check_errors(public)


@over([p for p in ALL if p.torch])
@pytest.mark.peers
def test_pytorch_agrees(public):
    pytest.importorskip("torch")
    derived.check_torch(public)


@over([p for p in ALL if p.torch and derived.is_plain_elementwise(p)])
@pytest.mark.peers
def test_dtypes_are_pytorchs(public):
    pytest.importorskip("torch")
    derived.check_dtypes(public)


@over(ALL[::12])
def test_compiled(public):
    derived.check_compiled(public, most=1)


@pytest.mark.slow
@over(ALL)
def test_compiled_every_sample(public):
    derived.check_compiled(public)
