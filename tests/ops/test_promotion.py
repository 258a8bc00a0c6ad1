"""dtype promotion: every pair of dtypes, each dimensioned, 0-d or a Python number, as PyTorch has it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.graph import dtypes
from flatgrad.ops.declare import operands

torch = pytest.importorskip("torch")

NAMES = [d.name for d in dtypes.ALL]
NUMBERS = {"True": True, "2": 2, "1.5": 1.5}
KINDS = [(n, rank) for n in NAMES for rank in (1, 0)] + [(n, None) for n in NUMBERS]
PAIRS = [p for p in itertools.product(KINDS, KINDS) if p[0][1] is not None or p[1][1] is not None]


def made(kind):
    """The operand twice: flatgrad's and PyTorch's."""
    name, rank = kind
    if rank is None:
        return NUMBERS[name], NUMBERS[name]
    array = np.ones((2,) * rank, dtypes.dtype_named(name).np)
    return fg.tensor(array), torch.tensor(array)


def name_of(dtype) -> str:
    return str(dtype).rpartition(".")[2]


def pairs():
    for a, b in PAIRS:
        (x, tx), (y, ty) = made(a), made(b)
        yield (a, b), (x, y), (tx, ty)


@pytest.mark.parametrize("default", ["float32", "float64"])
def test_result_type(default):
    fg.set_default_dtype(getattr(fg, default))
    torch.set_default_dtype(getattr(torch, default))
    try:
        for kinds, ours, theirs in pairs():
            _, dtype = operands("result_type", ours)
            assert name_of(dtype) == name_of(torch.result_type(*theirs)), kinds
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "name",
    ["add", "mul", "sub", "div", "floor_divide", "remainder", "pow", "maximum", "eq", "lt", "atan2",
     "logical_and", "bitwise_and", "copysign", "float_power", "xlogy", "fmod"],
)  # fmt: skip
def test_result_of_binary_operations(name):
    """The dtype announced and that of the values; what PyTorch refuses may be refused or more general."""
    agreed = 0
    for kinds, (x, y), (tx, ty) in pairs():
        if name == "pow" and kinds[0][0] == "bool" and kinds[1][0] == "True":
            continue  # PyTorch raises for bool powers of bools, but for this number
        try:
            theirs = getattr(torch, name)(tx, ty)
        except (TypeError, RuntimeError):
            continue
        ours = getattr(fg, name)(x, y)
        assert name_of(ours.dtype) == name_of(theirs.dtype), kinds
        assert ours.numpy().dtype == ours.dtype.np, kinds
        assert ours.numpy().shape == tuple(theirs.shape), kinds
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, err_msg=str(kinds))
        agreed += 1
    assert agreed >= 16


def test_result_of_where_and_clamp():
    for kinds, (x, y), (tx, ty) in pairs():
        theirs = torch.where(torch.tensor([True, False]), tx, ty)
        ours = fg.where(fg.tensor([True, False]), x, y)
        assert name_of(ours.dtype) == name_of(theirs.dtype), kinds
        if isinstance(x, fg.Tensor):
            try:
                theirs = torch.clamp(tx, min=ty)
            except (TypeError, RuntimeError):
                continue
            assert name_of(fg.clamp(x, min=y).dtype) == name_of(theirs.dtype), kinds


UNARY = ["sin", "exp", "sqrt", "reciprocal", "sigmoid", "erf", "abs", "neg", "sign", "floor", "square",
         "isnan", "logical_not", "signbit", "relu", "deg2rad", "bitwise_not", "lgamma", "tanh"]  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", NAMES)
def test_result_of_unary_operations(name, dtype):
    x, t = made((dtype, 1))
    try:
        theirs = getattr(torch, name)(t)
    except (TypeError, RuntimeError):
        with pytest.raises((TypeError, RuntimeError)):
            getattr(fg, name)(x)
        return
    ours = getattr(fg, name)(x)
    assert name_of(ours.dtype) == name_of(theirs.dtype)
    assert ours.numpy().dtype == theirs.numpy().dtype
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-7)


def test_numpy_operands_count_as_tensors_and_numpy_numbers_as_numbers():
    x = fg.tensor([1.0, 2.0])
    assert (x + np.ones(2)).dtype is fg.float64
    assert (x + np.ones((), np.float64)).dtype is fg.float32
    assert (x + np.float64(1.0)).dtype is fg.float32
    assert (fg.tensor([1, 2]) * np.float32(1.5)).dtype is fg.float32


def test_default_dtype_is_what_integers_become():
    fg.set_default_dtype(fg.float64)
    assert fg.sin(fg.tensor([1])).dtype is fg.float64
    assert (fg.tensor([1]) / 2).dtype is fg.float64
