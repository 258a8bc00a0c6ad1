"""Shared memory with NumPy, Python numbers, dtype conversion, copies and pickles."""

import copy
import gc
import pickle

import numpy as np
import pytest

import flatgrad as fg


def test_numpy_shares_memory_both_ways():
    t = fg.zeros(2, 3)
    view, row = t.reshape(3, 2), t.reshape(6)
    a = t.numpy()
    a[0, 1] = 5
    assert t.tolist()[0] == [0, 5, 0] and view.tolist()[0] == [0, 5] and row.tolist()[1] == 5
    t.add_(1)
    assert a[0, 1] == 6
    view.mul_(2)
    assert a[0, 1] == 12
    b = view.numpy()
    assert np.shares_memory(a, b)
    b[0, 0] = -1
    assert t.tolist()[0][0] == -1


def test_from_numpy_shares_memory_both_ways():
    a = np.arange(6.0).reshape(2, 3).T
    t = fg.from_numpy(a)
    a[0, 0] = 9
    assert t.tolist()[0][0] == 9
    t.add_(1)
    assert a[0, 0] == 10 and a[2, 1] == 6


def test_recorded_expressions_do_not_see_later_writes():
    a = np.array([1.0, 2.0])
    t = fg.from_numpy(a)
    y = t * 2
    a[:] = 100
    assert y.tolist() == [2.0, 4.0]
    assert (t * 2).tolist() == [200.0, 200.0]
    a[:] = np.nan
    z = t + 1
    a[:] = -0.0
    assert np.isnan(z.tolist()).all()
    assert np.signbit((t * 1).numpy()).all()


def test_memory_is_private_again_when_the_user_lets_the_array_go():
    t = fg.ones(3)
    before = t * 2
    a = t.numpy()
    a[0] = 7
    part = a[1:]
    del a
    gc.collect()
    part[0] = 5
    assert t.tolist() == [7.0, 5.0, 1.0] and (t + 0).tolist() == [7.0, 5.0, 1.0]
    assert before.tolist() == [2.0] * 3
    y = t * 2
    del part
    gc.collect()
    t.add_(1)
    assert y.tolist() == [14.0, 10.0, 2.0] and t.tolist() == [8.0, 6.0, 2.0]


def test_results_and_their_sources_stay_apart():
    x = fg.tensor([1.0, 2.0])
    c = x.clone()
    c.numpy()[0] = 50
    assert x.tolist() == [1.0, 2.0] and c.tolist() == [50.0, 2.0]
    y = x * 3
    z = y + 1
    y.numpy()[0] = 0
    assert z.tolist() == [4.0, 7.0] and y.tolist() == [0.0, 6.0]


def test_weights_can_be_looked_at_and_set():
    w = fg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\)"):
        w.numpy()
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(w)
    loss = (w * w).sum()
    a = w.detach().numpy()
    a[0] = 3.0
    loss.backward()
    assert w.grad.tolist() == [2.0, 4.0]
    assert w.tolist() == [3.0, 2.0] and w.is_leaf and w.requires_grad
    w.grad = None
    (w * w).sum().backward()
    assert w.grad.tolist() == [6.0, 4.0]
    y = w * 2
    assert np.array_equal(y.numpy(force=True), [6.0, 4.0])
    y.sum().backward()
    assert w.grad.tolist() == [8.0, 6.0]


def test_detached_view_can_require_grad():
    w = fg.tensor([1.0, 2.0], requires_grad=True)
    d = w.detach().requires_grad_()
    with fg.no_grad():
        w.add_(1)
    assert d.requires_grad and d.tolist() == [2.0, 3.0]


def test_read_only_arrays():
    a = np.arange(3.0)
    a.flags.writeable = False
    t = fg.from_numpy(a)
    assert (t + 1).tolist() == [1.0, 2.0, 3.0]
    t.add_(1)
    assert t.tolist() == [1.0, 2.0, 3.0] and a[0] == 0


def test_array_protocol():
    t = fg.tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(t), np.asarray(t))
    assert np.asarray(t, dtype=np.int32).dtype == np.int32
    c = np.array(t)
    c[0] = 9
    assert t.tolist() == [1.0, 2.0]
    assert not np.shares_memory(np.array(t, copy=True), t.numpy())
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(t, dtype=np.float64, copy=False)
    assert np.asarray(fg.tensor(3.0)).shape == ()


def test_numbers():
    assert fg.tensor(2.5).item() == 2.5 and type(fg.tensor([[3]]).item()) is int
    assert fg.tensor(True).item() is True
    assert (
        float(fg.tensor([1])) == 1.0 and int(fg.tensor(2.7)) == 2 and complex(fg.tensor(1.5)) == 1.5
    )
    assert bool(fg.tensor(0.0)) is False and bool(fg.tensor([3]))
    assert [10, 20, 30][fg.tensor(1)] == 20
    assert f"{fg.tensor(1.5):.3f}" == "1.500" and f"{fg.tensor([1.0])}" == "tensor([1.])"
    assert fg.tensor([[1, 2]]).tolist() == [[1, 2]] and fg.tensor(4).tolist() == 4


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: fg.ones(2).item(), RuntimeError, "2 elements cannot be converted to Scalar"),
        (lambda: float(fg.ones(2)), ValueError, "only one element"),
        (lambda: bool(fg.ones(2)), RuntimeError, "more than one value is ambiguous"),
        (lambda: bool(fg.ones(0)), RuntimeError, "no values is ambiguous"),
        (lambda: [1][fg.tensor(0.0)], TypeError, "only integer tensors"),
        (lambda: [1][fg.tensor([0, 1])], TypeError, "single element"),
        (lambda: f"{fg.ones(2):.2f}", TypeError, "format"),
        (lambda: int(fg.tensor(float("nan"))), ValueError, "NaN"),
        (lambda: fg.ones(1).to("cuda"), RuntimeError, "CPU"),
        (lambda: fg.ones(1).to("quad"), RuntimeError, "CPU"),
    ],
)
def test_number_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_conversions():
    t = fg.tensor([1.7, -2.3])
    assert t.int().tolist() == [1, -2] and t.int().dtype is fg.int32
    assert t.long().dtype is fg.int64 and t.bool().tolist() == [True, True]
    assert t.double().dtype is fg.float64 and t.float() is t
    assert t.short().dtype is fg.int16 and t.char().dtype is fg.int8
    assert fg.tensor([1]).byte().dtype is fg.uint8
    assert t.to(fg.float64).dtype is t.to("cpu", fg.float64).dtype is fg.float64
    assert t.to("cpu") is t and t.to(fg.tensor(1)).dtype is fg.int64
    assert t.to(fg.float32, copy=True) is not t
    assert t.type() == "flatgrad.FloatTensor" and t.type("flatgrad.LongTensor").dtype is fg.int64
    assert t.type(fg.int8).dtype is fg.int8 and t.type_as(fg.tensor(1)).dtype is fg.int64
    assert t.cpu() is t and t.device == "cpu" and t.device.type == "cpu"
    assert fg.device("cpu:0") == "cpu" and repr(t.device) == "device(type='cpu')"
    assert t.is_floating_point() and not t.is_complex() and fg.is_tensor(t)
    assert t.element_size() == t.itemsize == 4 and t.nbytes == 8
    x = fg.tensor([1.0], requires_grad=True)
    x.double().sum().backward()
    assert x.grad.dtype is fg.float32 and x.grad.tolist() == [1.0]


@pytest.mark.parametrize(
    "through", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy, copy.copy]
)
def test_copies_of_leaves(through):
    w = fg.tensor([[1.0, 2.0]], requires_grad=True)
    (w * 3).sum().backward()
    other = through(w)
    assert other.requires_grad and other.is_leaf and other.tolist() == [[1.0, 2.0]]
    assert other.grad.tolist() == [[3.0, 3.0]] and other.dtype is fg.float32
    with fg.no_grad():
        other.add_(1)
    assert w.tolist() == [[1.0, 2.0]]
    view = fg.arange(4).reshape(2, 2)
    assert through(view).tolist() == [[0, 1], [2, 3]]
    assert through(fg.from_numpy(np.ones(2))).tolist() == [1.0, 1.0]
    assert through(fg.tensor(True)).dtype is fg.bool


def test_deepcopy_keeps_identity_and_refuses_graphs():
    w = fg.tensor([1.0], requires_grad=True)
    a, b = copy.deepcopy([w, w])
    assert a is b and a is not w
    y = w * 2
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(y)
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        pickle.dumps(y)
    assert pickle.loads(pickle.dumps(y.detach())).tolist() == [2.0]
    assert pickle.loads(pickle.dumps(fg.float32)) is fg.float32


def test_hash_is_identity():
    a, b = fg.ones(1), fg.ones(1)
    assert len({a, b, a}) == 2 and {a: 1}[a] == 1
