"""The checks can fail: rules made wrong on purpose are caught, each by its check."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import derived
import flatgrad as fg
from flatgrad.autograd import cached
from flatgrad.graph.op import PUBLIC, REGISTRY, Sample

CASES = [
    p
    for p in PUBLIC.values()
    if p.op is not None and p.op.pullback is not None and p.differentiable and p.op.outputs == 1
]
CASES = [p for p in CASES if p.name not in derived.FLAT]


def forget() -> None:
    """Empty every cache of traced pullbacks."""
    cached._plans.clear()
    cached._families.clear()
    cached._latest.pair = None


@contextlib.contextmanager
def rule(op, pullback):
    """`op` with another pullback; a record is frozen, so this is by force.

    Pullbacks traced before are forgotten, and those traced meanwhile are too.
    """
    right = op.pullback
    object.__setattr__(op, "pullback", pullback)
    forget()
    try:
        yield
    finally:
        object.__setattr__(op, "pullback", right)
        forget()


def over_every_rule(test):
    return pytest.mark.parametrize("public", CASES, ids=lambda p: p.name)(test)


@over_every_rule
def test_a_rule_wrong_by_a_thousandth_is_caught(public):
    right = public.op.pullback

    def wrong(*args):
        return tuple(None if g is None else g * 1.001 for g in right(*args))

    with rule(public.op, wrong), pytest.raises(AssertionError, match="differences say"):
        derived.check_gradient(public)


@over_every_rule
def test_a_missing_rule_is_caught(public):
    right = public.op.pullback

    def missing(*args):
        return tuple(None for _ in right(*args))

    with rule(public.op, missing), pytest.raises((AssertionError, fg.errors.GradientError)):
        derived.check_gradient(public)


def test_a_transposed_rule_is_caught():
    public = PUBLIC["matmul"]
    op = REGISTRY["contract"]
    right = op.pullback

    def transposed(*args):
        grads = right(*args)
        return tuple(
            g if g is None or g.ndim != 2 or g.shape[0] != g.shape[1] else fg.permute(g, (1, 0))
            for g in grads
        )

    square = Sample((np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[2.0, 1.0], [0.5, 4.0]])))
    only = type(public)("matmul", public.function, samples=lambda rng: [square])
    derived.check_gradient(only)
    with rule(op, transposed), pytest.raises(AssertionError, match="differences say"):
        derived.check_gradient(only)


def test_a_wrong_value_is_caught_by_pytorch():
    pytest.importorskip("torch")
    public = PUBLIC["sin"]
    right = public.op.numpy
    object.__setattr__(public.op, "numpy", lambda x: right(x) * (1 + 1e-6))
    try:
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            derived.check_torch(public)
    finally:
        object.__setattr__(public.op, "numpy", right)


def test_a_check_of_nothing_is_caught():
    nothing = type(PUBLIC["sin"])("nothing", fg.sin, samples=lambda rng: [])
    for check in (derived.check_evaluates, derived.check_gradient):
        with pytest.raises(derived.NothingToCheckError):
            check(nothing)
