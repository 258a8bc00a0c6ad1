"""Contractions against NumPy's einsum and PyTorch: every plan, dtypes, corners."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, DTypeError, ShapeError
from flatgrad.ops.contraction import CONTRACT, contract
from support.numeric import array_of, check_orders

SIZES = {0: 2, 1: 3, 2: 2, 3: 4, 4: 1}


def specs():
    """All small contractions: which labels are batch, free, summed, and in what order they stand."""
    for batch, free_a, free_b, summed in itertools.product(
        [(), (0,)], [(), (1,), (1, 4)], [(), (2,)], [(), (3,), (3, 5)]
    ):
        in_a, in_b, out = batch + free_a + summed, batch + free_b + summed, batch + free_a + free_b
        yield from zip(
            itertools.islice(itertools.permutations(in_a), 0, None, 5),
            itertools.cycle(itertools.permutations(in_b)),
            itertools.cycle(itertools.permutations(out)),
            strict=False,
        )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8, np.bool_])
def test_every_plan_is_numpys_einsum(rng, dtype):
    sizes = {**SIZES, 5: 2}
    seen = 0
    for spec_a, spec_b, spec_out in specs():
        a = rng.integers(-3, 4, [sizes[k] for k in spec_a]).astype(dtype)
        b = rng.integers(-3, 4, [sizes[k] for k in spec_b]).astype(dtype)
        found = CONTRACT.numpy(a, b, spec_a, spec_b, spec_out)
        expected = np.einsum(a, spec_a, b, spec_b, spec_out)
        assert found.dtype == dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected, err_msg=f"{spec_a} {spec_b} {spec_out}")
        seen += 1
    assert seen > 60


def test_derivatives_of_every_plan(rng):
    sizes = {**SIZES, 5: 2}
    for specs_ in itertools.islice(specs(), 0, None, 9):
        a = rng.normal(size=[sizes[k] for k in specs_[0]])
        b = rng.normal(size=[sizes[k] for k in specs_[1]])
        w = fg.tensor(rng.normal(size=[sizes[k] for k in specs_[2]]))
        check_orders(lambda a, b, s=specs_, w=w: (contract(a, b, *s) * w).sum(), a, b)


def test_large_products_are_blas_exact(rng):
    a, b = rng.normal(size=(5, 64, 32)), rng.normal(size=(32, 16))
    np.testing.assert_allclose((fg.tensor(a) @ fg.tensor(b)).numpy(), a @ b, rtol=1e-12)


def test_operator_forms(rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    x = fg.tensor(a)
    np.testing.assert_allclose((x @ b).numpy(), a @ b)
    np.testing.assert_allclose((a @ fg.tensor(b)).numpy(), a @ b)
    y = x
    y @= fg.tensor(b)
    assert y is x
    np.testing.assert_allclose(x.numpy(), a @ b)
    with pytest.raises(TypeError):
        x @ 2.0
    with pytest.raises(ShapeError):
        x @= fg.tensor(np.ones((3, 2)))


def test_integers_wrap_and_empty_sums_are_zero():
    a = fg.tensor(np.full((1, 3), 100, np.int8))
    assert (a @ a.T).tolist() == [[(3 * 100 * 100 + 128) % 256 - 128]]
    np.testing.assert_array_equal(
        (fg.tensor(np.ones((2, 0))) @ fg.tensor(np.ones((0, 3)))).numpy(), np.zeros((2, 3))
    )


def test_dtypes_do_not_mix():
    a, b = fg.tensor(np.ones((2, 2), np.float32)), fg.tensor(np.ones((2, 2)))
    for call in (fg.matmul, fg.mm, lambda x, y: fg.einsum("ij,jk", x, y)):
        with pytest.raises(DTypeError, match="one dtype"):
            call(a, b)


def test_beta_zero_ignores_nan():
    a = fg.tensor(np.full((2, 2), np.nan))
    one = fg.tensor(np.eye(2))
    np.testing.assert_array_equal(fg.addmm(a, one, one, beta=0).numpy(), np.eye(2))


def test_integer_scales_stay_integers():
    a = fg.tensor(np.ones((2, 2), np.int64))
    assert fg.addmm(a, a, a, beta=2, alpha=3).tolist() == [[8, 8], [8, 8]]
    with pytest.raises(DTypeError, match="int"):
        fg.addmm(a, a, a, alpha=0.5)


def test_einsum_of_many_operands_takes_the_cheap_order(rng):
    shapes = [(50, 2), (2, 60), (60, 3), (3, 40)]
    arrays = [rng.normal(size=s) for s in shapes]
    found = fg.einsum("ab,bc,cd,de->ae", *[fg.tensor(a) for a in arrays])
    np.testing.assert_allclose(found.numpy(), np.linalg.multi_dot(arrays), rtol=1e-11)


def test_einsum_that_changes_nothing_is_still_its_own_tensor():
    x = fg.tensor(np.ones(3))
    y = fg.einsum("i->i", x)
    y += 1.0
    assert x.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "equation", ["i...->...", "...i->i...", "i...j->j...", "...->...", "ii..."]
)
def test_einsum_ellipsis(rng, equation):
    a = rng.normal(size=(2, 2, 2))
    np.testing.assert_allclose(
        fg.einsum(equation, fg.tensor(a)).numpy(), np.einsum(equation, a), rtol=1e-14
    )


def test_einsum_errors_name_the_label():
    a = fg.tensor(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="'j'"):
        fg.einsum("ij,jk->ik", a, a)
    with pytest.raises(ArgumentError, match="'k' is in no operand"):
        fg.einsum("ij->ik", a)
    with pytest.raises(ArgumentError, match="ellipses"):
        fg.einsum("...i...", a)


def test_views_see_through(rng):
    a = rng.normal(size=(3, 4))
    x = fg.tensor(a)
    np.testing.assert_allclose((x.T @ x).numpy(), a.T @ a, rtol=1e-13)
    np.testing.assert_allclose(array_of(x[1:, ::2] @ x[:2, :3]), a[1:, ::2] @ a[:2, :3])
