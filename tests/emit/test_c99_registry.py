"""Every operation of the registry through C99: its samples' values and gradients are the interpreter's."""

from __future__ import annotations

import numpy as np
import pytest

import derived
import flatgrad as fg
from flatgrad.emit.c99 import expressions
from flatgrad.errors import FlatgradError, UnsupportedError
from flatgrad.export.form import form_of
from flatgrad.graph.op import PUBLIC
from flatgrad.lower.machine import Machine
from support.c import compiled
from support.deadline import time_is_up

LANES = Machine(16, 16, 2**62, split=128)
ALL = list(PUBLIC.values())
# Of each family some, in a quick run.
SOME = ALL[::9]
RTOL, ATOL = 1e-9, 1e-11

# Values that are the machine's memory, a random stream's, or the tracer's business, not an operation's.
UNTRACED = {"empty", "empty_like"}


@pytest.fixture(autouse=True)
def doubles():
    fg.set_default_dtype(fg.float64)


def traced(public, sample, dtype=None):
    """The form of a sample's values and gradients, or None where it is not for loops.

    Not for loops: what NumPy runs, what has no tensors as results, and what asks for a tensor's values while
    it is recorded.
    """
    arrays = derived.arrays_in((sample.args, sample.kwargs))
    if dtype is not None:
        arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]

    def call(*tensors):
        given = iter(tensors)
        args, kwargs = derived.convert((sample.args, sample.kwargs), lambda _: next(given))
        return derived.tensors_in(public.function(*args, **kwargs))

    floats = tuple(k for k, a in enumerate(arrays) if a.dtype.kind == "f")

    def total(*tensors):
        outputs = call(*tensors)
        return derived.weighted(outputs, derived.weights_for(outputs, 1))

    def with_gradient(*tensors):
        return call(*tensors), fg.grad(total, floats)(*tensors)

    differentiable = public.differentiable and floats
    try:
        form = form_of(with_gradient if differentiable else call, tuple(arrays), {})
    except UnsupportedError:
        return None
    except (FlatgradError, TypeError, AttributeError):
        if not differentiable:
            return None
        try:  # integers of floats have no gradient
            form = form_of(call, tuple(arrays), {})
        except (FlatgradError, TypeError):
            return None
    return form if form.graph.outputs else None


def forms_of(publics, most=None, dtype=None) -> tuple[dict, list]:
    """({C name: form}, names of which nothing is compiled)."""
    forms, left = {}, []
    for public in publics:
        if public.name in UNTRACED:
            continue
        word = public.name.replace(".", "_")
        found = [traced(public, s, dtype) for s in derived.samples_of(public)[:most]]
        named = {f"op_{word}_{k}": f for k, f in enumerate(found) if f is not None}
        forms |= named
        if not named:
            left.append(public.name)
    return forms, left


def wrong(functions: dict, rtol=RTOL, atol=ATOL) -> list[str]:
    """What C gives other numbers for than the interpreter."""
    found = []
    for name, function in functions.items():
        expected, error = function.form.attempt(function.form.examples)
        status, results = function(function.form.examples)
        if error is not None or status:
            if (error is None) != (status == 0):
                found.append(f"{name}: status {status}, interpreter {error}")
            continue
        for k, (a, b) in enumerate(zip(results, expected, strict=True)):
            if a.dtype != b.dtype or not np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
                found.append(f"{name}: result {k}: {a} is not {b}")
    return found


def test_some_operations(tmp_path):
    forms, _ = forms_of(SOME, most=2)
    assert len(forms) > len(SOME)
    assert wrong(compiled(tmp_path, forms, "-O1", machine=LANES)) == []


def test_a_wrong_rule_is_found(tmp_path, monkeypatch):
    """With both sides of choices exchanged, the sweep fails."""
    right = expressions.EXPRESSIONS["select"]

    def exchanged(printer, e):
        c, x, y = e.args
        return right(printer, type(e)("select", e.dtype, (c, y, x), None))

    monkeypatch.setitem(expressions.EXPRESSIONS, "select", exchanged)
    forms, _ = forms_of([PUBLIC["relu"], PUBLIC["where"], PUBLIC["add"]], most=1)
    found = wrong(compiled(tmp_path, forms, "-O1", machine=LANES))
    assert {f.split(":")[0] for f in found} == {"op_relu_0", "op_where_0"}


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-O2", "-O3 -march=native -ffast-math"])
def test_every_operation(tmp_path, flags):
    if time_is_up():
        pytest.skip("time is up")
    forms, left = forms_of(ALL)
    print(f"{len(forms)} programs; without loops: {', '.join(left)}")
    assert len(left) < len(ALL) / 8
    assert wrong(compiled(tmp_path, forms, *flags.split(), machine=LANES)) == []


@pytest.mark.slow
def test_every_operation_in_single_precision(tmp_path):
    if time_is_up():
        pytest.skip("time is up")
    forms, _ = forms_of(ALL, dtype=np.float32)
    functions = compiled(tmp_path, forms, "-O2", machine=LANES)
    assert wrong(functions, rtol=3e-3, atol=3e-4) == []
