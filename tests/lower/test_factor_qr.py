"""QR as loops equals LAPACK, signs included: values, derivatives, loops, branches, vmap, Numba code."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import flatgrad as fg

SHAPES = [(1, 1), (2, 2), (5, 3), (3, 5), (6, 6), (17, 4), (0, 3), (3, 0), (2, 3, 4, 2), (3, 3, 3)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_equals_lapack(mode, dtype, rng):
    matrices = [rng.normal(size=shape).astype(dtype) for shape in SHAPES]

    def all_shapes(*xs):
        return [tuple(fg.linalg.qr(x, mode)) for x in xs]

    g = fg.compile(all_shapes, *matrices)
    _ = g.njit  # all of it is machine code
    eps = 1e-12 if dtype == np.float64 else 1e-5
    for a, have in zip(matrices, g(*matrices), strict=True):
        for h, w in zip(have, np.linalg.qr(a.astype(np.float64), mode), strict=True):
            assert h.dtype == dtype
            np.testing.assert_allclose(h, w, rtol=0, atol=eps * 10)


def test_columns_without_a_reflection_and_extreme_ones():
    special = [
        np.diag([2.0, -3.0, 0.0]),
        np.zeros((3, 3)),
        np.array([[-1.0, 2.0], [0.0, -5.0], [0.0, 0.0]]),
        np.array([[1e200, 1.0], [1e200, 2.0]]),
        np.array([[1e-200, 1.0], [3e-200, 2.0]]),
        np.array([[1.0, 2.0], [1e-180, 1.0]]),
        np.array([[0.0, 1.0], [2.0, 0.0]]),
    ]
    g = fg.compile(lambda *xs: [tuple(fg.linalg.qr(x)) for x in xs], *special)
    for a, (q, r) in zip(special, g(*special), strict=True):
        want_q, want_r = np.linalg.qr(a)
        np.testing.assert_allclose(q, want_q, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(r, want_r, rtol=1e-12, atol=1e-14 * np.abs(a).max())


def test_nan_spoils_the_factors():
    a = np.array([[1.0, 2.0], [np.nan, 1.0]])
    q, r = fg.compile(lambda x: tuple(fg.linalg.qr(x)), a)(a)
    assert np.isnan(q).any() and np.isnan(r[0, 0])


def test_one_factor_alone(rng):
    a = rng.normal(size=(4, 3))
    for pick in (0, 1):
        g = fg.compile(lambda x, pick=pick: fg.linalg.qr(x)[pick], a)
        np.testing.assert_allclose(g(a), np.linalg.qr(a)[pick], rtol=0, atol=1e-13)


def test_derivatives(rng):
    before = fg.get_compile()
    fg.set_compile("always")
    try:
        a = fg.tensor(rng.normal(size=(4, 3)), requires_grad=True)
        assert fg.autograd.gradcheck(lambda x: tuple(fg.linalg.qr(x)), (a,))
    finally:
        fg.set_compile(before)


def test_in_scan_vmap_and_numba(rng):
    xs = rng.normal(size=(5, 4, 3))

    def looped(xs):
        return fg.scan(
            lambda c, x: (c + fg.linalg.qr(x)[1].sum(), fg.linalg.qr(x)[0]),
            fg.tensor(0.0, dtype=fg.float64),
            xs,
        )

    qs = np.linalg.qr(xs)
    total = qs[1].sum()
    g = fg.compile(looped, xs)
    compiled = g.njit
    have_total, have_q = numba.njit(lambda x: compiled(x))(xs)
    np.testing.assert_allclose(have_total, total, rtol=1e-12)
    np.testing.assert_allclose(have_q, qs[0], rtol=0, atol=1e-13)
    v = fg.compile(fg.vmap(lambda x: fg.linalg.qr(x)[1]), xs)
    _ = v.njit
    np.testing.assert_allclose(v(xs), qs[1], rtol=0, atol=1e-13)


def test_in_branches_and_while_loops(rng):
    a = rng.normal(size=(3, 3))

    def f(x):
        turned = fg.while_loop(
            lambda s: s[0] < 4,
            lambda s: (s[0] + 1, fg.linalg.qr(s[1])[1].mT + x),
            (fg.tensor(0), x),
        )[1]
        return fg.cond(x.sum() > 1e9, lambda y: y, lambda y: fg.linalg.qr(y)[1], turned)

    want = a
    for _ in range(4):
        want = np.linalg.qr(want)[1].T + a
    g = fg.compile(f, a)
    _ = g.njit
    np.testing.assert_allclose(g(a), np.linalg.qr(want)[1], rtol=0, atol=1e-12)


def test_several_threads(rng):
    xs = rng.normal(size=(200, 4, 3))
    compiled = fg.compile(lambda x: fg.linalg.qr(x)[1], xs[0]).njit

    @numba.njit(parallel=True)
    def every(xs, out):
        for i in numba.prange(len(xs)):
            out[i] = compiled(xs[i])

    out = np.empty((200, 3, 3))
    every(xs, out)
    np.testing.assert_allclose(out, np.linalg.qr(xs)[1], rtol=0, atol=1e-13)
