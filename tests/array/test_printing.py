"""Printing, against PyTorch's own text."""

import re

import numpy as np
import pytest

import flatgrad as fg

torch = pytest.importorskip("torch")


def as_ours(text):
    """PyTorch's text in flatgrad's name, which is longer: where the dtype wraps is not compared."""
    return re.sub(
        r",\s+(dtype|requires|grad_fn|size)", r", \1", text.replace("torch.", "flatgrad.")
    )


def arrays():
    rng = np.random.default_rng(0)
    yield np.array(3.0, np.float32)
    yield np.array(-2.5)
    yield np.array(7)
    yield np.array(True)
    yield np.zeros((0,), np.float32)
    yield np.zeros((0,), np.int64)
    yield np.zeros((2, 0, 3), np.float32)
    yield np.zeros((0, 3), np.int32)
    yield np.zeros((0,), bool)
    yield np.array([1.0, 2.0, -3.0], np.float32)
    yield np.array([1.0, 2.5], np.float32)
    yield np.array([0.0, 0.0], np.float32)
    yield np.array([0.0, -0.0, 1e-5], np.float32)
    yield np.array([1e-3, 1.0], np.float32)
    yield np.array([1e-4, 0.05], np.float32)
    yield np.array([1e-5, 1.0], np.float32)
    yield np.array([1.0, 1001.5])
    yield np.array([1.0, 1000.0])
    yield np.array([1.0, 1e6])
    yield np.array([1e9, 1e9 + 1])
    yield np.array([1.5e9, 1.5e9 + 1.5])
    yield np.array([np.nan, 1.0, np.inf], np.float32)
    yield np.array([np.nan, 1.5, -np.inf], np.float32)
    yield np.array([np.nan, np.nan], np.float32)
    yield np.array(np.inf)
    yield np.array([np.inf, 1e20], np.float32)
    yield np.array([-5, 100, 3])
    yield np.array([True, False])
    yield np.array([[1, 2], [3, 40]], np.uint8)
    yield np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    yield np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)
    yield rng.standard_normal((3, 4)).astype(np.float32)
    yield rng.standard_normal((3, 20)).astype(np.float32)
    yield rng.standard_normal((3, 4)) * 1e5
    yield rng.standard_normal(100)
    yield np.arange(1000)
    yield np.arange(1001)
    yield np.arange(1200.0).reshape(30, 40)
    yield rng.standard_normal((12, 11, 10)).astype(np.float32)
    yield rng.standard_normal((2, 600))
    yield rng.standard_normal((1001, 1)).astype(np.float32)
    yield (rng.integers(0, 2, (20, 60)) > 0)


@pytest.mark.parametrize("array", list(arrays()), ids=lambda a: f"{a.dtype}{a.shape}")
def test_text_is_pytorchs(array):
    ours = repr(fg.tensor(array))
    theirs = repr(torch.tensor(array))
    assert as_ours(ours) == as_ours(theirs)
    assert str(fg.tensor(array)) == ours


@pytest.mark.parametrize("shape", [(), (2,), (3, 5), (2, 16)])
def test_requires_grad_suffix(shape):
    rng = np.random.default_rng(1)
    array = rng.standard_normal(shape)
    ours, theirs = fg.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    assert as_ours(repr(ours)) == as_ours(repr(theirs))
    assert as_ours(repr(ours * 2)) == as_ours(repr(theirs * 2))


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"edgeitems": 1, "threshold": 5},
        {"edgeitems": 0, "threshold": 5},
        {"linewidth": 40},
        {"sci_mode": True},
        {"sci_mode": False},
        {"profile": "short"},
        {"profile": "full"},
        {"profile": "default"},
    ],
    ids=str,
)
@pytest.mark.parametrize("array", list(arrays())[-10:], ids=lambda a: f"{a.dtype}{a.shape}")
def test_options(array, options):
    with fg.printoptions(**options):
        ours = repr(fg.tensor(array))
    before = torch._tensor_str.PRINT_OPTS
    saved = {k: getattr(before, k) for k in ("precision", "threshold", "edgeitems", "linewidth")}
    try:
        torch.set_printoptions(**options)
        theirs = repr(torch.tensor(array))
    finally:
        torch.set_printoptions(**saved, sci_mode=None)
    assert as_ours(ours) == as_ours(theirs)


def test_long_suffixes_start_a_line():
    array = np.random.default_rng(2).standard_normal(9).astype(np.float32)
    for linewidth in range(60, 100):
        with fg.printoptions(linewidth=linewidth):
            ours = repr(fg.tensor(array, requires_grad=True))
        torch.set_printoptions(linewidth=linewidth)
        theirs = repr(torch.tensor(array, requires_grad=True))
        torch.set_printoptions(profile="default")
        assert ours == theirs


def test_options_are_restored():
    before = fg.get_printoptions()
    with pytest.raises(ZeroDivisionError), fg.printoptions(precision=1):
        assert fg.get_printoptions()["precision"] == 1
        raise ZeroDivisionError
    assert fg.get_printoptions() == before
    fg.set_printoptions(precision=6)
    assert repr(fg.tensor(1.5)) == "tensor(1.500000)"
    fg.set_printoptions(profile="default")
    assert fg.get_printoptions() == before
    with pytest.raises(ValueError, match="profile must be one of"):
        fg.set_printoptions(profile="none")


def test_default_dtype_is_not_named():
    fg.set_default_dtype(fg.float64)
    try:
        assert repr(fg.tensor([1.0])) == "tensor([1.])"
        assert repr(fg.tensor([1.0], dtype=fg.float32)) == "tensor([1.], dtype=flatgrad.float32)"
    finally:
        fg.set_default_dtype(fg.float32)
