"""The compiler's scalar expression of every elementwise operation means what the interpreter computes.

Each is evaluated over special values and random ones of every dtype that the operation takes.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import DTypeError
from flatgrad.graph import dtypes
from flatgrad.graph.op import REGISTRY
from flatgrad.lower import ir
from tests.support.expr import evaluate

OPS = [
    op
    for op in REGISTRY.values()
    if op.kind == "elementwise" and callable(op.loop) and not op.attrs
]
FLOATS = [
    math.nan,
    math.inf,
    -math.inf,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.5,
    -2.5,
    3.0,
    1e-30,
    -7.0,
    41.0,
]
INTEGERS = [0, 1, -1, 2, -2, 3, 7, -7, 63, 64, 127, -128]
# Where both zeros are the answer, NumPy's depends on the processor.
EITHER_ZERO = {"maximum", "minimum", "fmax", "fmin", "clamp", "clamp_min", "clamp_max", "relu"}
# Rounded in other places than NumPy's own function.
ULPS = {"logaddexp": 4, "logaddexp2": 4, "sech_squared": 4, "gauss": 4, "pow": 2}


def rule_of(op):
    """The dtypes an operation computes in and gives, from its own inference."""
    for dtype in dtypes.ALL:
        if dtype is dtypes.bool_ and op.name.endswith("_shift"):
            continue  # refused by the public function
        try:
            _, result = op.infer(*[fg.zeros(1, dtype=dtype)._node] * op.arity)
        except DTypeError:
            continue
        yield dtype, result


def operands_of(op, dtype):
    values = FLOATS if dtype.category >= dtypes.FLOAT else INTEGERS
    if dtype.category == dtypes.BOOL:
        values = [False, True]
    if op.arity == 3:
        values = values[:9]
    columns = np.array(list(itertools.product(values, repeat=op.arity))).T
    with np.errstate(all="ignore"):
        columns = [c.astype(dtype.np) for c in columns]
    rng = np.random.default_rng(5)
    extra = rng.normal(size=(op.arity, 50)) * 10
    return [np.concatenate([c, e.astype(dtype.np)]) for c, e in zip(columns, extra, strict=True)]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_expression_is_the_numpy_meaning(op):
    checked = 0
    for dtype, result in rule_of(op):
        if result.category >= dtypes.FLOAT and dtype.category < dtypes.FLOAT:
            continue  # converted before it comes here
        arrays = operands_of(op, dtype)
        if op.name == "where":
            arrays[0] = arrays[0] != 0
        names = [f"x{k}" for k in range(op.arity)]
        made = [dtypes.as_dtype(a.dtype) for a in arrays]
        if op.name.startswith("logical"):
            arrays, made = [a != 0 for a in arrays], [dtypes.bool_] * op.arity
        expression = op.loop(ir, *[ir.var(n, d) for n, d in zip(names, made, strict=True)])
        assert expression.dtype is result, (expression.dtype, result)
        got = np.broadcast_to(
            evaluate(expression, **dict(zip(names, arrays, strict=True))), arrays[0].shape
        )
        with np.errstate(all="ignore"):
            want = np.asarray(op.numpy(*arrays))
        assert want.dtype == result.np
        compare(op.name, got, want)
        checked += 1
    assert checked


def compare(name, got, want):
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    number = ~np.isnan(want)
    got, want = got[number], want[number]
    if name in ULPS:
        finite = np.isfinite(want)
        np.testing.assert_array_equal(got[~finite], want[~finite])
        unit = np.spacing(np.abs(want[finite])) if finite.any() else 1
        floor = np.finfo(want.dtype).eps if name.startswith("logaddexp") else 0
        assert np.all(np.abs(got[finite] - want[finite]) <= ULPS[name] * unit + floor)
    else:
        np.testing.assert_array_equal(got, want)
    if name not in EITHER_ZERO and name not in ULPS:
        zero = want == 0
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 5, 63, -1, 0.5, 2.0])
def test_power_by_a_constant(exponent):
    for dtype in (dtypes.float64, dtypes.float32, dtypes.int32, dtypes.uint8):
        if dtype.category < dtypes.FLOAT and (exponent < 0 or exponent != int(exponent)):
            continue
        x = np.array(FLOATS if dtype.category >= dtypes.FLOAT else INTEGERS)
        with np.errstate(all="ignore"):
            x = x.astype(dtype.np)
        n = ir.const(exponent, dtype)
        got = evaluate(REGISTRY["pow"].loop(ir, ir.var("x", dtype), n), x=x)
        with np.errstate(all="ignore"):
            want = np.power(x, dtype.np.type(exponent))
        if dtype.category >= dtypes.FLOAT:
            np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype.np).eps)
        else:
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_polygamma(n):
    from scipy.special import polygamma

    x = np.array([1e-3, 0.1, 0.5, 1.0, 2.5, 10.0, 100.0, 1e6, -0.5, -0.1, -3.7, -20.3])
    got = evaluate(REGISTRY["polygamma"].loop(ir, ir.var("x", dtypes.float64), n), x=x)
    np.testing.assert_allclose(got, polygamma(n, x), rtol=1e-12)
    got = evaluate(REGISTRY["polygamma"].loop(ir, ir.var("x", dtypes.float32), n), x=x.astype("f4"))
    np.testing.assert_allclose(got, polygamma(n, x.astype("f4")), rtol=2e-6)
