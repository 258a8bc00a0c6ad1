"""C99 where it could part from NumPy: integers at their edges, casts, empty arrays, control flow, updates.

Everything is compiled with a checker of undefined behaviour, where gcc has one, which may not say anything.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.export.form import form_of
from flatgrad.lower.machine import Machine
from support.c import compiled, compiler

LANES = Machine(16, 16, 2**62, split=128)
UNDEFINED = ["-fsanitize=undefined", "-fsanitize=float-cast-overflow"]


@pytest.fixture(autouse=True)
def doubles():
    fg.set_default_dtype(fg.float64)


@pytest.fixture
def build(tmp_path, capfd):
    """Compiles forms; at the end, nothing undefined may have happened."""
    command = compiler()
    yield lambda forms: compiled(
        tmp_path, forms, "-O1", *UNDEFINED * (command == ["gcc"]), machine=LANES, command=command
    )
    assert "runtime error" not in capfd.readouterr().err


def expected(form) -> tuple:
    with np.errstate(all="ignore"):
        return form.attempt(form.examples)


def assert_same_bits(functions: dict) -> None:
    for name, function in functions.items():
        values, error = expected(function.form)
        assert error is None, name
        status, found = function(function.form.examples)
        assert status == 0
        for a, b in zip(found, values, strict=True):
            assert a.dtype == b.dtype, name
            assert a.tobytes() == np.ascontiguousarray(b).tobytes(), (name, a, b)


INTEGER = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floor": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "neg": lambda a, b: -a,
    "abs": lambda a, b: abs(a),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a, b: ~a,
    "left": lambda a, b: a << (b & 7),
    "right": lambda a, b: a >> (b & 7),
    "max": fg.maximum,
    "min": fg.minimum,
    "sum": lambda a, b: (a * b).sum(),
    "prod": lambda a, b: fg.prod(a, 0),
    "cumsum": lambda a, b: fg.cumsum(a, 0),
    "compare": lambda a, b: (a < b) | (a == b),
    "float": lambda a, b: a.to(fg.float32),
    "narrow": lambda a, b: a.to(fg.int8),
    "bool": lambda a, b: a.to(fg.bool),
    "square": lambda a, b: a**2,
    "madd": lambda a, b: a * b + a,
    "cube": lambda a, b: a * a * a,
}


def test_integers_at_their_edges(build):
    """Overflow wraps, division by zero and of the least number by -1 is what NumPy makes of it."""
    forms = {}
    for name in ("int8", "int16", "int32", "int64", "uint8"):
        kind = np.iinfo(name)
        edges = [kind.min, kind.min + 1, max(kind.min, -1), 0, 1, 2, 3, 7, kind.max - 1, kind.max]
        pairs = [a.ravel().copy() for a in np.meshgrid(*[np.array(edges, name)] * 2)]
        forms |= {f"{name}_{op}": form_of(f, tuple(pairs), {}) for op, f in INTEGER.items()}
    assert_same_bits(build(forms))


# Where a float has no such integer, the least one of 32 or 64 bits, cut to size: what NumPy finds on x86.
FLOATS = [
    0,
    -0.0,
    1.5,
    -1.5,
    127.9,
    -128.9,
    3e4,
    3e9,
    -3e9,
    1e19,
    -1e19,
    1e38,
    np.inf,
    -np.inf,
    np.nan,
    1e-40,
]


KINDS = ("int8", "int16", "int32", "int64", "uint8")


def as_integers(x):
    return [x.to(getattr(fg, kind)) for kind in KINDS]


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_floats_that_are_no_integers(build, source):
    x = np.array(FLOATS, source)
    want = []
    for kind in KINDS:
        limit = 2 ** (8 * max(np.dtype(kind).itemsize, 4) - 1)
        integers = [int(v) if -limit <= v < limit else -limit for v in x.tolist()]
        want.append(np.array(integers, np.int64).astype(kind).tolist())
    function = build({"f": form_of(as_integers, (x,), {})})["f"]
    assert [a.tolist() for a in function([x])[1]] == want
    assert [a.tolist() for a in fg.compile(as_integers, x)(x)] == want


def _bisected(a):
    def step(c):
        middle = (c[0] + c[1]) * 0.5
        low = middle * middle < a
        return fg.where(low, middle, c[0]), fg.where(low, c[1], middle)

    return fg.while_loop(lambda c: c[1] - c[0] > 1e-12, step, (a * 0, a * 0 + 10.0), bound=100)


def _many_carries(x):
    def step(c):
        mixed = [c[(k % 14) + 1] * 0.9 + c[k] * 0.1 for k in range(1, 15)]
        return (c[0] + 1, *mixed)

    start = (fg.tensor(0), *[x[k % 3] + k for k in range(14)])
    return fg.while_loop(lambda c: c[0] < 9, step, start, bound=20)


def _nested(x):
    def outer(c, u):
        d, ys = fg.scan(lambda d, v: (fg.tanh(d + v * u), d), c, x)
        return d, ys.sum()

    return fg.scan(outer, fg.tensor(0.1), x)


def _sums_in_a_loop(x):
    def step(c):
        return c[0] + 1, c[1] + (x * fg.sin(c[1])).sum()

    return fg.while_loop(lambda c: c[0] < 4, step, (fg.tensor(0), x[0]), bound=10)


def _branch(x):
    return fg.cond(x.sum() > 0, lambda v: (v * 2, v.sum()), lambda v: (v - 1, v.prod()), x)


def _deep(x):
    y = x
    for k in range(300):
        y = fg.sin(y) * 0.5 + x * (k % 7) - y * y * 0.01
    return y


def test_shapes_and_control_flow(build, rng):
    x, few = rng.standard_normal(3), rng.standard_normal(5) * 0.3
    programs = {
        "empty": (lambda x: (x.sum(), x * 2, x.reshape(3, 0).sum(1)), np.zeros((0, 3))),
        "empty_gradient": (fg.grad(lambda x: (x * x).sum()), np.zeros(0)),
        "scalars": (lambda x, y: (x * y, fg.grad(lambda a: fg.sin(a) * y)(x)), 0.3, 2.0),
        "many_arguments": (lambda *xs: [x + k for k, x in enumerate(xs)], *np.arange(140.0)),
        "deep": (_deep, x),
        "indexed": (lambda x, i: (x[i], (x[i] ** 2).sum()), x, np.array([0, 2, -1, 1, 1])),
        "bisection": (_bisected, 2.0),
        "many_carries": (_many_carries, x),
        "nested": (_nested, few),
        "nested_gradient": (fg.value_and_grad(lambda x: _nested(x)[1].sum()), few),
        "sums_in_a_loop": (_sums_in_a_loop, rng.standard_normal(70) * 0.1),
        "one_branch": (_branch, np.ones(3)),
        "other_branch": (_branch, -np.ones(3)),
    }
    forms = {
        n: form_of(f, tuple(np.array(a) for a in given), {}) for n, (f, *given) in programs.items()
    }
    for name, function in build(forms).items():
        status, found = function(function.form.examples)
        assert status == 0
        for a, b in zip(found, expected(function.form)[0], strict=True):
            np.testing.assert_allclose(a, b, 1e-9, 1e-12, err_msg=name)


SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, -2.2e-308, 1.7976931348623157e308, 1 / 3]


def test_constants_to_the_bit(build):
    """Arrays and numbers that are part of the program: sign of zero, subnormals, infinities."""
    every, finite = np.array(SPECIAL), np.array(SPECIAL[3:])
    small = np.array([1e-45, -0.0, 3.4e38, 1 / 3], np.float32)
    programs = {
        "added": (lambda x: x + fg.tensor(every), np.full(9, -0.0)),
        "scaled": (lambda x: x * fg.tensor(finite), np.ones(6)),
        "of_float32": (lambda x: x * fg.tensor(small), np.ones(4, np.float32)),
        "numbers": (lambda x: (x * -0.0, x + np.inf, x * 5e-324, x + 1e308), np.array([1.0, -1.0])),
    }
    assert_same_bits(build({n: form_of(f, (x,), {}) for n, (f, x) in programs.items()}))


# -- errors and updates ---------------------------------------------------------------------------


def call(function, inputs, outputs) -> int:
    """The status of a call with these very arrays; None is a pointer that is NULL."""

    def pointers(arrays):
        found = [None if a is None else a.ctypes.data for a in arrays]
        return (ctypes.c_void_p * len(found))(*found)

    align = function.printed.align
    work = np.zeros(function.printed.work + align, np.uint8)
    start = work.ctypes.data + -work.ctypes.data % align
    return function.symbol(pointers(inputs), pointers(outputs), ctypes.c_void_p(start))


def stepped(p, x):
    return p - 0.1 * x, (p * x).sum()


def checked_apart(p, a):
    return p + 1.0, fg.linalg.cholesky(a).sum()


def checked_behind(p, a):
    q = p + 1.0
    return q, fg.linalg.cholesky(a * q.sum()).sum()


def test_failed_checks(build):
    forms = {
        "singular": form_of(fg.linalg.cholesky, (-np.eye(3),), {}),
        "endless": form_of(
            lambda x: fg.while_loop(lambda c: c > 0, lambda c: c + 1, x, bound=5),
            (np.array(1.0),),
            {},
        ),
        "outside": form_of(lambda x, i: x[i], (np.ones(3), np.array([3])), {}),
    }
    for name, function in build(forms).items():
        assert expected(function.form)[1] is not None, name
        assert function(function.form.examples)[0] == 1, name


def test_updates(build):
    """A NULL and the argument's own pointer update it; with another one it keeps its value."""
    x = np.arange(5.0)
    form = form_of(fg.compile(stepped, x, x, donate_argnums=0), (np.ones(5), x), {})
    step = build({"step": form})["step"]
    for way in ("null", "own", "other"):
        p, other, loss = np.ones(5), np.full(5, 77.0), np.zeros(())
        assert call(step, [p, x], [{"null": None, "own": p, "other": other}[way], loss]) == 0
        assert loss == 10
        changed, kept = (other, p) if way == "other" else (p, other)
        assert np.array_equal(changed, 1 - 0.1 * x)
        assert (kept == (1 if way == "other" else 77)).all()


def test_updates_that_fail(build):
    """An argument is as it was, even if what fails depends on its new value."""
    given = np.ones(3), np.eye(3)
    forms = {
        f.__name__: form_of(fg.compile(f, *given, donate_argnums=0), given, {})
        for f in (checked_apart, checked_behind)
    }
    for function in build(forms).values():
        assert len(function.form.updates) == 1
        for way in ("null", "own", "other"):
            p, other, total = np.ones(3), np.full(3, 77.0), np.zeros(())
            place = {"null": None, "own": p, "other": other}[way]
            assert call(function, [p, -np.eye(3)], [place, total]) == 1
            assert (p == 1).all()
            assert call(function, [p, np.eye(3)], [place, total]) == 0
            assert ((other if way == "other" else p) == 2).all()
