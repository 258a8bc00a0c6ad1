"""Subscripts in all forms against PyTorch (values, gradients, refusals), and the index primitives."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import FlatgradError, IndexingError

torch = pytest.importorskip("torch")

SHAPE = (3, 4, 2)


def some_key(rng, shape):
    """A random subscript for a tensor of `shape`: one tuple of parts, arrays for index tensors."""
    parts, k = [], 0
    rows = int(rng.integers(1, 4))
    dots = False
    while k < len(shape):
        n = shape[k]
        kind = rng.integers(9)
        if kind == 0:
            parts.append(int(rng.integers(-n, n)))
        elif kind in (1, 2):
            a, b = (int(v) for v in rng.integers(-n - 1, n + 2, 2))
            parts.append(slice(a, b, int(rng.integers(1, 3))))
        elif kind == 3:
            parts.append(slice(None))
        elif kind == 4 and not dots:
            parts.append(Ellipsis)
            dots = True
            k = max(k, len(shape) - int(rng.integers(0, 2))) - 1
        elif kind == 5:
            parts.append(None)
            continue
        elif kind == 6:
            parts.append(rng.integers(-n, n, [rows, (2, 1), (1, rows), 1][rng.integers(4)]))
        elif kind == 7:
            span = min(int(rng.integers(1, 3)), len(shape) - k)
            mask = rng.random(shape[k : k + span]) > 0.5
            if mask.sum() != rows:
                mask[...] = False
                mask.reshape(-1)[:rows] = True
            parts.append(mask)
            k += span - 1
        else:
            parts.append(np.array(rng.integers(-n, n)))
        k += 1
        if rng.random() < 0.2:
            break
    return tuple(parts)


def converted(key, tensor):
    return tuple(tensor(p.copy()) if isinstance(p, np.ndarray) else p for p in key)


def attempt(run):
    try:
        return run()
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        return error


def same_refusal(ours, theirs, key) -> bool:
    if not isinstance(ours, Exception) and not isinstance(theirs, Exception):
        return False
    assert isinstance(ours, FlatgradError) and isinstance(theirs, Exception), (key, ours, theirs)
    return True


@pytest.mark.parametrize("block", range(6))
def test_reading(block):
    values = np.random.default_rng(0).normal(size=SHAPE)
    compared = 0
    for seed in range(block * 60, block * 60 + 60):
        rng = np.random.default_rng(seed)
        key = some_key(rng, SHAPE)
        x = fg.tensor(values, requires_grad=True)
        y = torch.tensor(values, requires_grad=True)
        ours = attempt(lambda x=x, key=key: x[converted(key, fg.tensor)])
        theirs = attempt(lambda y=y, key=key: y[converted(key, torch.tensor)])
        if same_refusal(ours, theirs, key):
            continue
        np.testing.assert_array_equal(
            ours.detach().numpy(), theirs.detach().numpy(), err_msg=str(key)
        )
        w = rng.normal(size=tuple(ours.shape))
        (ours * fg.tensor(w)).sum().backward()
        (theirs * torch.tensor(w)).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-14, err_msg=str(key))
        compared += bool(np.any(x.grad.numpy()))
    assert compared > 20


@pytest.mark.parametrize("block", range(6))
def test_writing(block):
    values = np.random.default_rng(0).normal(size=SHAPE)
    compared = 0
    for seed in range(block * 60, block * 60 + 60):
        rng = np.random.default_rng(seed)
        key = some_key(rng, SHAPE)
        x = fg.tensor(values, requires_grad=True)
        y = torch.tensor(values, requires_grad=True)
        shape = attempt(lambda y=y, key=key: tuple(y[converted(key, torch.tensor)].shape))
        form = rng.integers(4)
        if isinstance(shape, Exception) or form == 0:
            shape = ()
        elif form == 1 and shape:
            shape = (1, *shape[1:])
        elif form == 2:
            shape = shape[1:]
        source = rng.normal(size=shape)
        sources = fg.tensor(source, requires_grad=True), torch.tensor(source, requires_grad=True)
        copies = x * 1, y * 1

        def write(copy, key, value):
            copy[key] = value
            return copy

        ours = attempt(
            lambda c=copies[0], s=sources[0], key=key: write(c, converted(key, fg.tensor), s)
        )
        theirs = attempt(
            lambda c=copies[1], s=sources[1], key=key: write(c, converted(key, torch.tensor), s)
        )
        if same_refusal(ours, theirs, key):
            continue
        indexed = [p for p in key if isinstance(p, np.ndarray) and p.dtype != bool]
        if any(len(np.unique(p)) != p.size or (p < 0).any() for p in indexed):
            continue  # which of several writes to one element PyTorch keeps is not defined
        np.testing.assert_array_equal(
            ours.detach().numpy(), theirs.detach().numpy(), err_msg=str(key)
        )
        w = rng.normal(size=SHAPE)
        (ours * fg.tensor(w)).sum().backward()
        (theirs * torch.tensor(w)).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-14, err_msg=str(key))
        np.testing.assert_allclose(
            sources[0].grad.numpy(), sources[1].grad.numpy(), rtol=1e-12, err_msg=str(key)
        )
        compared += 1
    assert compared > 20


WRONG = [
    (3,),
    (-4,),
    (0, 0, 0, 0),
    (slice(None, None, -1),),
    (slice(None, None, 0),),
    (slice(0.5, 2),),
    ("x",),
    (1.5,),
    (np.array([3]),),
    (np.array([0.5]),),
    (np.array([True, False]),),
    (np.array([0, 1]), np.array([0, 1, 2])),
]


@pytest.mark.parametrize("key", WRONG, ids=str)
def test_wrong_subscripts(key):
    values = np.zeros(SHAPE)
    theirs = attempt(lambda: torch.tensor(values)[converted(key, torch.tensor)])
    assert isinstance(theirs, Exception)
    with pytest.raises(FlatgradError) as caught:
        fg.tensor(values)[converted(key, fg.tensor)]
    assert isinstance(caught.value, type(theirs)), (type(theirs), caught.value)
    t = fg.tensor(values)
    with pytest.raises(FlatgradError):
        t[converted(key, fg.tensor)] = 1.0
    assert not t.numpy().any()


def test_lists_bools_and_integers_of_numpy():
    x = fg.arange(6).reshape(2, 3)
    y = torch.arange(6).reshape(2, 3)
    assert x[[[0, 1], [1, 1]]].shape == (2, 2, 3)  # one index tensor, as PyTorch says it will be
    keys = [[1, 0], True, False, np.int64(1), ([0, 1], [2, 0]), range(2), [], (0, True)]
    for key in keys:
        theirs = y[
            list(key) if isinstance(key, range) else int(key) if type(key) is np.int64 else key
        ]
        assert x[key].tolist() == theirs.tolist(), key


def test_values_are_converted_as_copy_does():
    x = fg.zeros(3, dtype=fg.int64)
    x[0] = 1.9
    x[1:] = fg.tensor([2.5, -3.5])
    assert x.tolist() == [1, 2, -3]
    x = fg.zeros(2, dtype=fg.float64)
    x[0] = 0.1
    assert x[0].item() == 0.1


def test_masked_writes_stay_lazy():
    x = fg.tensor([1.0, -2.0, 3.0])
    y = x * 2
    y[y > 0] = 0.0
    assert y._node.value is None
    assert y.tolist() == [0.0, -4.0, 0.0]


def test_the_last_of_several_writes_wins():
    x = fg.zeros(2)
    x[fg.tensor([0, 0, 1, 0])] = fg.tensor([1.0, 2.0, 3.0, 4.0])
    assert x.tolist() == [4.0, 3.0]
    out = fg.zeros(2).scatter(0, fg.tensor([0, 0]), fg.tensor([1.0, 2.0]))
    assert out.tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    "use",
    [
        lambda x, i: x[i],
        lambda x, i: x.gather(0, i),
        lambda x, i: x.scatter_add(0, i, fg.ones(1)),
        lambda x, i: x.index_select(0, i),
        lambda x, i: x.index_add(0, i, fg.ones(1)),
        lambda x, i: x.take(i),
    ],
)
@pytest.mark.parametrize("value", [3, -4])
def test_index_values_out_of_range(use, value):
    x = fg.zeros(3)
    with pytest.raises(IndexingError, match="out of bounds"):
        use(x, fg.tensor([value]))
    pending = fg.tensor([value - 1]) + 1
    with pytest.raises(IndexingError, match="out of bounds"):
        use(x, pending).tolist()


@pytest.mark.parametrize("use", [lambda x, i: x.gather(0, i), lambda x, i: x.index_select(0, i)])
def test_negative_indices_where_pytorch_refuses_them(use):
    with pytest.raises(IndexingError, match="out of bounds"):
        use(fg.zeros(3), fg.tensor([-1]))
    with pytest.raises(IndexingError, match="out of bounds"):
        use(fg.zeros(3), fg.tensor([0]) - 1).tolist()


def test_iteration_and_membership():
    x = fg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    rows = [row * k for k, row in enumerate(x, 1)]
    (rows[0] + rows[1]).sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0], [2.0, 2.0]]
    assert 3.0 in x
    assert 5 not in x
    assert len(x) == 2
    for wrong in (lambda: list(fg.tensor(1.0)), lambda: len(fg.tensor(1.0)), lambda: "a" in x):
        with pytest.raises(TypeError):
            wrong()


def test_where_and_nonzero_of_a_pending_tensor():
    x = fg.tensor([[0.0, 1.0], [2.0, 0.0]]) * 2
    assert x.nonzero().tolist() == [[0, 1], [1, 0]]
    assert [k.tolist() for k in fg.where(x)] == [[0, 1], [1, 0]]
    assert x[x > 1].tolist() == [2.0, 4.0]
