"""Constructors: values, dtypes and errors as PyTorch's."""

import numpy as np
import pytest

import flatgrad as fg

torch = pytest.importorskip("torch")


def same(ours, theirs):
    assert repr(ours.dtype) == repr(theirs.dtype).replace("torch", "flatgrad")
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())


@pytest.mark.parametrize(
    "data",
    [
        3,
        2.5,
        True,
        [],
        [[], []],
        [1, 2],
        [1, 2.0],
        [True, 2],
        [True, False],
        [[1, 2], [3, 4]],
        ((1.0, 2.0), (3.0, 4.0)),
        [[[1]], [[2]]],
        range(4),
        np.float32(1.5),
        np.float64(1.5),
        np.int16(7),
        [np.float64(1), 2],
        [np.float32(1), 2],
        [np.array([1.0, 2.0]), np.array([3.0, 4.0])],
        np.arange(6).reshape(2, 3),
        np.array([1, 2], np.uint8),
        np.array([True]),
        np.array(4.0),
        np.arange(12.0).reshape(3, 4).T,
        [float("nan"), float("inf")],
        2**62,
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy")
def test_tensor(data):
    same(fg.tensor(data), torch.tensor(data))


def test_tensors_inside_lists():
    got = fg.tensor([fg.tensor(1.0), fg.tensor(2.0)])
    assert got.tolist() == [1.0, 2.0] and got.dtype is fg.float32
    got = fg.tensor([[fg.tensor([1, 2]), fg.tensor([3, 4])]])
    assert got.shape == (1, 2, 2) and got.dtype is fg.int64


@pytest.mark.parametrize("name", ["bool", "uint8", "int8", "int16", "int32", "int64", "float32"])
@pytest.mark.parametrize("data", [[0, 1, 2], [0.0, 1.7], [True, False], 3], ids=repr)
def test_dtype_argument(data, name):
    same(
        fg.tensor(data, dtype=getattr(fg, name)),
        torch.tensor(data, dtype=getattr(torch, name)),
    )


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ([[1, 2], [3]], ValueError, r"length 2 at dim 1 \(got 1\)"),
        ([[1, 2], 3], (TypeError, ValueError), "length 2 at dim 1, got int"),
        ([1, [2]], ValueError, "nested equally deep"),
        (["a"], TypeError, "numbers are required, got 'a'"),
        ("a", TypeError, "got str"),
        (None, RuntimeError, "got NoneType"),
        ({}, RuntimeError, "got dict"),
        (1j, TypeError, "complex numbers are not supported"),
        ([1j], TypeError, "complex numbers are not supported"),
        (2**63, ValueError, "without overflow"),
        ([1, 2**70], ValueError, "without overflow"),
        (np.array(["a"]), TypeError, "strings are not numbers"),
        (np.array([None]), TypeError, "numeric array"),
        (np.zeros(2, np.float16), TypeError, "half precision comes later; use float32"),
        (np.zeros(2, np.complex64), TypeError, "complex numbers come later"),
        (np.zeros(2, np.uint32), TypeError, "use int64"),
        (np.zeros(2, np.longdouble), TypeError, "use float64"),
        (np.zeros(2, "M8[s]"), TypeError, "int64"),
    ],
    ids=repr,
)
def test_bad_data(data, error, match):
    with pytest.raises(error, match=match) as caught:
        fg.tensor(data)
    assert isinstance(caught.value, fg.errors.FlatgradError)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: fg.tensor(300, dtype=fg.uint8), RuntimeError, "without overflow"),
        (lambda: fg.tensor(float("nan"), dtype=fg.int64), RuntimeError, "without overflow"),
        (lambda: fg.tensor(1, requires_grad=True), RuntimeError, "floating-point dtype"),
        (lambda: fg.tensor(1.0, device="cuda"), RuntimeError, "CPU"),
        (lambda: fg.tensor(1.0, dtype="quad"), TypeError, "not supported"),
        (lambda: fg.zeros(-1), RuntimeError, "negative"),
        (lambda: fg.zeros(2.5), TypeError, "ints"),
        (lambda: fg.full((2,), [1, 2]), RuntimeError, "single number"),
        (lambda: fg.arange(5, 1, 1), RuntimeError, "inconsistent"),
        (lambda: fg.arange(0, 1, 0), RuntimeError, "nonzero"),
        (lambda: fg.arange(float("inf")), RuntimeError, "finite"),
        (lambda: fg.linspace(0, 1, -1), RuntimeError, "non-negative"),
        (lambda: fg.eye(-1), RuntimeError, "negative"),
        (lambda: fg.zeros_like([1]), TypeError, "a Tensor is required"),
        (lambda: fg.from_numpy([1]), TypeError, "got list"),
        (lambda: fg.from_numpy(np.zeros(3)[::-1]), ValueError, r"array.copy\(\)"),
        (lambda: fg.from_numpy(np.zeros(3, ">f4")), ValueError, "byte order"),
        (lambda: fg.asarray([1.0], copy=False), ValueError, "without a copy"),
    ],
)
def test_bad_calls(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_tensor_of_a_tensor_warns_and_copies():
    x = fg.tensor([1.0], requires_grad=True)
    with pytest.warns(UserWarning, match="recommended"):
        y = fg.tensor(x)
    assert y.is_leaf and not y.requires_grad
    y.add_(1)
    assert x.tolist() == [1.0]


def test_big_endian_and_reversed_arrays_are_copied():
    assert fg.tensor(np.arange(3, dtype=">i4")).tolist() == [0, 1, 2]
    assert fg.as_tensor(np.arange(3.0)[::-1]).tolist() == [2.0, 1.0, 0.0]
    assert fg.as_tensor(np.arange(3, dtype=">i4")).dtype is fg.int32


CALLS = [
    ("zeros", (2, 3), {}),
    ("zeros", ((2, 3),), {"dtype": "int32"}),
    ("ones", (0, 2), {}),
    ("ones", (4,), {"dtype": "bool"}),
    ("full", ((2,), 3), {}),
    ("full", ((2,), 3.5), {}),
    ("full", ((2,), True), {}),
    ("full", ((), 1), {"dtype": "float64"}),
    ("eye", (3,), {}),
    ("eye", (2, 4), {"dtype": "int64"}),
    ("arange", (5,), {}),
    ("arange", (5.0,), {}),
    ("arange", (1, 7, 2), {}),
    ("arange", (7, 1, -2), {}),
    ("arange", (0, 1, 0.1), {}),
    ("arange", (3, 3), {}),
    ("arange", (5,), {"dtype": "float64"}),
    ("linspace", (0, 1, 11), {"dtype": "float64"}),
    ("linspace", (3, -2, 6), {}),
    ("linspace", (0, 1, 1), {}),
    ("linspace", (0, 1, 0), {}),
    ("linspace", (0, 10, 5), {"dtype": "int64"}),
    ("logspace", (-2, 2, 5), {"dtype": "float64"}),
    ("logspace", (0, 3, 4, 2), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=str)
def test_filled_and_counted(name, args, kwargs):
    pair = []
    for module in (fg, torch):
        named = {k: getattr(module, v) for k, v in kwargs.items()}
        pair.append(getattr(module, name)(*args, **named))
    ours, theirs = pair
    assert repr(ours.dtype) == repr(theirs.dtype).replace("torch", "flatgrad")
    np.testing.assert_allclose(
        ours.numpy(), theirs.numpy(), rtol=1e-6 if ours.element_size() == 4 else 1e-14
    )


def test_like_and_new():
    x = fg.zeros(2, 3, dtype=fg.float64)
    assert fg.ones_like(x).tolist() == [[1.0] * 3] * 2 and fg.ones_like(x).dtype is fg.float64
    assert fg.zeros_like(x, dtype=fg.int8).dtype is fg.int8
    assert fg.full_like(x, 4).tolist() == [[4.0] * 3] * 2
    assert fg.empty_like(x).shape == (2, 3)
    assert fg.zeros_like(x, requires_grad=True).requires_grad
    assert x.new_zeros(2).dtype is fg.float64 and x.new_ones((2,)).tolist() == [1.0, 1.0]
    assert x.new_full((1,), 3).tolist() == [3.0] and x.new_full((1,), 3).dtype is fg.float64
    assert x.new_tensor([1, 2]).dtype is fg.float64
    assert x.new_empty(3).shape == (3,)


def test_constructed_tensors_own_their_memory():
    a, b = fg.zeros(2), fg.zeros(2)
    a.add_(1)
    assert b.tolist() == [0.0, 0.0]
    data = np.zeros(2)
    t = fg.tensor(data)
    data[0] = 1
    assert t.tolist() == [0.0, 0.0]


def test_as_tensor_and_asarray():
    x = fg.tensor([1.0], requires_grad=True)
    assert fg.as_tensor(x) is x
    data = np.zeros(2)
    shared = fg.as_tensor(data)
    data[0] = 1
    assert shared.tolist() == [1.0, 0.0]
    converted = fg.as_tensor(data, dtype=fg.float32)
    data[0] = 2
    assert converted.tolist() == [1.0, 0.0] and converted.dtype is fg.float32
    y = fg.as_tensor(x, dtype=fg.float64)
    y.backward(fg.ones(1, dtype=fg.float64))
    assert x.grad.tolist() == [1.0]
    assert fg.asarray(data, copy=True).tolist() == [2.0, 0.0]
    assert fg.asarray([1.0], requires_grad=True).requires_grad


def test_default_dtype():
    assert fg.get_default_dtype() is fg.float32
    fg.set_default_dtype(fg.float64)
    try:
        assert fg.tensor(1.0).dtype is fg.zeros(1).dtype is fg.rand(1).dtype is fg.float64
        assert fg.arange(3).dtype is fg.int64
    finally:
        fg.set_default_dtype(fg.float32)
    with pytest.raises(TypeError, match="floating-point"):
        fg.set_default_dtype(fg.int32)
