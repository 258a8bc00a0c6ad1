"""The calls that a self-test replays: the example's, and what it must give."""

from __future__ import annotations

import numpy as np

from ..emit.python import source as readable
from ..lower import ir
from ..lower.machine import REPRODUCIBLE
from ..lower.recompute import lower_within
from ..program.build import aligned
from .form import Form
from .selftest import Vector, tolerances

__all__ = ["stored_calls"]

# Elements up to which a second call is stored, of other numbers.
SMALL = 4096


def stored_calls(form: Form, program: ir.Program, reproducible: bool) -> list[Vector]:
    """The example's call, and one with other numbers if they are few."""
    calls = [form.examples]
    count = sum(a.size for a in form.examples) + sum(b.size for b in program.results)
    floats = any(a.dtype.kind == "f" and a.size for a in form.examples)
    if count <= SMALL and floats:
        mixed = np.random.default_rng(1)
        calls.append([_near(a, mixed) for a in form.examples])
    if reproducible:
        return _exact(form, calls)
    return [_close(form, program, arguments) for arguments in calls]


def _near(a: np.ndarray, mixed: np.random.Generator) -> np.ndarray:
    """Numbers like those of `a`: up to a tenth larger or smaller."""
    if a.dtype.kind != "f":
        return a
    with np.errstate(all="ignore"):
        return (a * mixed.uniform(0.9, 1.1, a.shape)).astype(a.dtype)


# -- within a tolerance: the interpreter's results ------------------------------------------------


def _close(form: Form, program: ir.Program, arguments: list) -> Vector:
    results, error = form.attempt(arguments)
    if error is not None:
        texts = [str(make()) for make in program.checks]
        known = texts.count(str(error)) == 1
        return Vector(arguments, None, texts.index(str(error)) + 1 if known else -1, [])
    moved, _ = form.attempt([_moved(a) for a in arguments])
    return Vector(arguments, results, 0, tolerances(results, moved or results))


def _moved(a: np.ndarray) -> np.ndarray:
    """Every number an ulp away, up and down in turn."""
    if a.dtype.kind != "f" or not a.size:
        return a
    way = np.where(np.arange(a.size) % 2, np.inf, -np.inf).reshape(a.shape)
    with np.errstate(all="ignore"):
        return np.nextafter(a, way.astype(a.dtype))


# -- to the bit: what a reproducible program gives here -------------------------------------------


def _exact(form: Form, calls: list) -> list[Vector]:
    """Results of the same loops in this machine's code, which are everybody's."""
    loops = lower_within(
        form.graph, None, machine=REPRODUCIBLE, updates=form.updates, spans=form.spans
    )
    function = _function(loops)
    found = []
    for arguments in calls:
        inputs = [np.array(a, order="C") for a in (*arguments, *form.constants)]
        outputs = [np.empty(b.shape, b.dtype.np) for b in loops.outputs]
        status = function(*inputs, *outputs, aligned(loops.arena_bytes))
        if status:
            found.append(Vector(arguments, None, status, []))
            continue
        arrays = dict(zip((*loops.inputs, *loops.outputs), (*inputs, *outputs), strict=True))
        results = [arrays[b] for b in loops.results]
        found.append(Vector(arguments, results, 0, [-1.0] * len(results)))
    return found


def _function(loops: ir.Program):
    """Machine code of `loops`; where there is no LLVM, the readable form."""
    text = readable(loops)
    try:
        from ..program.native import loaded

        return loaded(text, loops)[0].function()
    except ImportError:
        namespace: dict = {}
        exec(compile(text, "<flatgrad program>", "exec"), namespace)
        return namespace["program"]
