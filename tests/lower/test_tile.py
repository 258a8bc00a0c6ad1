"""Register tiles: every form of contraction and window, against NumPy, for several machines' registers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.graph import dtypes
from flatgrad.lower import ir, tile
from flatgrad.lower.machine import Machine
from flatgrad.lower.tile import Dim, Problem
from flatgrad.ops.convolution import convolve
from tests.support.programs import run_source

MACHINES = [Machine(64, 32), Machine(32, 16), Machine(16, 32)]


def matrices(kind: str, m: int, k: int, n: int, rng):
    a = rng.standard_normal((m, k) if kind[0] == "n" else (k, m))
    b = rng.standard_normal((k, n) if kind[1] == "n" else (n, k))
    return a, b


def product_of(kind: str):
    return lambda a, b: (a if kind[0] == "n" else a.T) @ (b if kind[1] == "n" else b.T)


@pytest.mark.parametrize("kind", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("shape", [(7, 33, 21), (12, 16, 10), (1, 40, 17), (3, 129, 1)])
def test_matrix_products(kind, shape):
    rng = np.random.default_rng(3)
    a, b = matrices(kind, *shape, rng)
    f = product_of(kind)
    for dtype, bound in ((np.float64, 1e-13), (np.float32, 1e-5)):
        compiled = fg.compile(f, a.astype(dtype), b.astype(dtype))
        got = compiled(a.astype(dtype), b.astype(dtype))
        np.testing.assert_allclose(got, f(a, b), rtol=bound, atol=bound * 10)


WINDOWS = [
    # N, G, C, O, image, taps, stride, dilation
    (2, 1, 3, 4, (9,), (3,), (2,), (1,)),
    (1, 2, 3, 5, (17,), (2,), (3,), (2,)),
    (2, 1, 6, 9, (18, 18), (3, 3), (1, 1), (1, 1)),
    (3, 1, 5, 7, (11, 13), (3, 2), (2, 3), (1, 2)),
    (1, 4, 1, 1, (10, 10), (3, 3), (1, 1), (1, 1)),
    (2, 1, 4, 6, (8, 8), (1, 1), (2, 2), (1, 1)),
    (1, 1, 2, 3, (5, 6, 7), (2, 3, 2), (1, 2, 1), (1, 1, 1)),
    (2, 3, 2, 2, (16, 16), (4, 4), (4, 4), (1, 1)),
    (2, 1, 3, 4, (10, 10), (3, 3), (2, 2), (2, 2)),
    (1, 1, 1, 1, (3,), (3,), (1,), (1,)),
]


@pytest.mark.parametrize("case", WINDOWS)
def test_windows_and_their_derivatives(case):
    n, g, c, o, image, taps, stride, dilation = case
    sizes = tuple(
        (i - (k - 1) * d - 1) // s + 1
        for i, k, s, d in zip(image, taps, stride, dilation, strict=True)
    )
    rng = np.random.default_rng(5)
    x = rng.standard_normal((n, g, c, *image))
    w = rng.standard_normal((g, o, c, *taps))
    y = rng.standard_normal((n, g, o, *sizes))
    for target, (a, b), want in (
        ("result", (x, w), sizes),
        ("image", (y, w), image),
        ("filter", (x, y), taps),
    ):

        def f(p, q, target=target, want=want):
            return convolve(p, q, target, stride, dilation, want)

        expected = f(fg.tensor(a), fg.tensor(b)).numpy()  # the interpreter's, by matrix products
        got = fg.compile(f, a, b)(a, b)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def _problem(out, inner, sizes, rng):
    """A problem over fresh buffers, with its arrays and the expected result."""
    a, b = (rng.standard_normal(n) for n in sizes[:2])
    buffers = [
        ir.Buffer(name, dtypes.float64, n, role, (n,))
        for name, n, role in zip("abc", sizes, ("in", "in", "out"), strict=True)
    ]
    c = np.zeros(sizes[2])
    for at in product(*[range(d.extent) for d in (*out, *inner)]):
        i, j, k = (
            sum(x * getattr(d, side) for x, d in zip(at, (*out, *inner), strict=True))
            for side in "abc"
        )
        c[k] += a[i] * b[j]
    places = [(buffer, ir.index(0)) for buffer in buffers]
    return Problem(dtypes.float64, tuple(out), tuple(inner), *places), buffers, (a, b, c)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.vector}x{m.registers}")
@pytest.mark.parametrize(
    "out, inner, sizes",
    [
        ([Dim(13, 7, 0, 19), Dim(19, 0, 1, 1)], [Dim(7, 1, 19, 0)], (91, 133, 247)),
        ([Dim(13, 21, 0, 5), Dim(5, 0, 21, 1)], [Dim(21, 1, 1, 0)], (273, 105, 65)),
        # windows of 3 with stride 2: rows are filters, columns places
        ([Dim(4, 0, 6, 9), Dim(9, 2, 0, 1)], [Dim(2, 21, 3, 0), Dim(3, 1, 1, 0)], (42, 24, 36)),
        # short rows that share vectors
        ([Dim(3, 0, 4, 15), Dim(5, 6, 0, 3), Dim(3, 1, 0, 1)], [Dim(4, 1, 1, 0)], (31, 12, 45)),
        # the sum runs along short rows of both
        ([Dim(3, 30, 0, 4), Dim(4, 0, 30, 1)], [Dim(7, 4, 4, 0), Dim(3, 1, 1, 0)], (90, 120, 12)),
        # the result runs along with a stride
        ([Dim(9, 1, 0, 2), Dim(2, 0, 5, 1)], [Dim(5, 9, 1, 0)], (45, 10, 18)),
    ],
)
def test_any_machine_reads_and_writes_the_right_elements(machine, out, inner, sizes, monkeypatch):
    rng = np.random.default_rng(7)
    problem, buffers, (a, b, c) = _problem(out, inner, sizes, rng)
    monkeypatch.setattr(tile, "present", lambda: machine)
    nest = tile.tiled_nest(problem)
    body = nest.leaf
    for axis in reversed(nest.axes):
        body = [ir.For(axis, body)]
    got = run_source(ir.Program(buffers[:2], buffers[2:], body, [], {}, []), [a, b])[0]
    np.testing.assert_allclose(got, c, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("machine", MACHINES[1:], ids=lambda m: f"{m.vector}x{m.registers}")
def test_machine_code_of_other_vectors(machine, monkeypatch):
    """LLVM splits or joins vectors as the processor at hand has them; the numbers stay."""
    monkeypatch.setattr("flatgrad.program.entry.host", lambda parallel=False: machine)
    rng = np.random.default_rng(11)
    x, w = rng.standard_normal((2, 1, 3, 11, 9)), rng.standard_normal((1, 5, 3, 3, 3))

    def conv(x, w):
        return convolve(x, w, "result", (1, 2), (1, 1), (11, 5), (1, 1))

    def f(x, w):
        y = conv(x, w)
        return fg.value_and_grad(lambda w: (conv(x, w) ** 2).sum())(w), y @ y.mT

    (value, gradient), product = fg.compile(f, x, w)(x, w)
    (want, slope), expected = f(fg.tensor(x), fg.tensor(w))
    np.testing.assert_allclose(value, want.item(), rtol=1e-12)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-11)
    np.testing.assert_allclose(product, expected.numpy(), rtol=1e-11, atol=1e-12)


def test_registers_suffice():
    """No tile asks for more accumulators and operands than a machine has registers."""
    for machine, dtype in product(MACHINES, (dtypes.float32, dtypes.float64)):
        for m, k, n in ((64, 64, 64), (5, 100, 300), (100, 9, 7)):
            places = [(ir.Buffer(x, dtype, 9**9, "in"), ir.index(0)) for x in "abc"]
            out = (Dim(m, k, 0, n), Dim(n, 0, 1, 1))
            problem = Problem(dtype, out, (Dim(k, 1, n, 0),), *places)
            choice = tile.best(problem, machine)
            lanes = machine.lanes(dtype)
            vectors = choice.cols if choice.dot else choice.cols * choice.vectors
            if not choice.dot and choice.vector.extent <= lanes // 2:
                vectors = -(-choice.cols // (lanes // ir.slot_of(choice.vector.extent)))
            assert choice.rows * vectors + min(choice.rows, vectors) + 1 <= machine.registers
