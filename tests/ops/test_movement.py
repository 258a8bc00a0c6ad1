"""Views' layouts against PyTorch, which reshapes are views, padding and joining at their corners."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, ShapeError

torch = pytest.importorskip("torch")


def random_views(rng):
    """A chain of views as functions for both libraries; it is sent the rank before each."""
    for _ in range(int(rng.integers(1, 5))):
        kind = rng.integers(6)
        rank = yield
        d = int(rng.integers(rank)) if rank else 0
        e = int(rng.integers(rank)) if rank else 0
        step = int(rng.integers(1, 3))
        if kind == 0 or not rank:
            yield lambda t, d=d: t.unsqueeze(d)
        elif kind == 1:
            yield lambda t, d=d, e=e: t.transpose(d, e)
        elif kind == 2:
            yield lambda t, d=d, step=step: t[(slice(None),) * d + (slice(None, None, step),)]
        elif kind == 3:
            yield lambda t, d=d: t.select(d, 0)
        elif kind == 4:
            yield lambda t, d=d: t.unfold(d, 1, 1)
        else:
            yield lambda t: t.unsqueeze(0).expand(2, *t.shape)


@pytest.mark.parametrize("seed", range(40))
def test_layouts_and_reshapes(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 4, 3))
    ours, theirs = fg.zeros(*shape), torch.zeros(*shape)
    steps = random_views(rng)
    for _ in steps:
        view = steps.send(ours.ndim)
        ours, theirs = view(ours), view(theirs)
    assert ours.shape == tuple(theirs.shape)
    assert ours.is_contiguous() == theirs.is_contiguous()
    sizes = [k for k, n in enumerate(ours.shape) if n != 1]
    assert [ours.stride(k) for k in sizes] == [theirs.stride(k) for k in sizes]
    count = ours.numel()
    for new in ((-1,), (1, count), ours.shape[::-1], (*ours.shape, 1)):
        try:
            theirs.view(*new)
        except RuntimeError:
            with pytest.raises(ShapeError, match="not compatible"):
                ours.view(*new)
            copied = ours.reshape(*new)
            assert not copied._is_view
        else:
            assert ours.view(*new)._is_view
            assert ours.reshape(*new)._is_view


def test_contiguous_is_itself_or_a_copy():
    base = fg.zeros(2, 3)
    assert base.contiguous() is base
    copied = base.T.contiguous()
    copied.add_(1)
    assert not base.numpy().any()


def test_queries():
    t = fg.zeros(2, 3, 4)
    assert (t.dim(), t.ndimension(), t.numel(), t.nelement()) == (3, 3, 24, 24)
    assert t.size() == (2, 3, 4)
    assert (t.size(-1), t.stride(0), t.stride()) == (4, 12, (12, 4, 1))
    assert t.T.shape == (4, 3, 2)
    assert t.mT.shape == (2, 4, 3)
    assert t.view_as(fg.zeros(6, 4)).shape == t.reshape_as(fg.zeros(6, 4)).shape == (6, 4)
    assert t[:, :1].expand_as(t).shape == t.shape


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("pad", [(0, 0), (2, 0), (0, 2), (1, 2), (-1, 2)])
def test_pad_modes(rng, mode, pad):
    values = rng.normal(size=(2, 3, 4))
    ours = fg.pad(fg.tensor(values), pad, mode)
    theirs = torch.nn.functional.pad(torch.tensor(values), pad, mode)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_pad_of_integers_and_bools():
    assert fg.pad(fg.tensor([1, 2]), (1, 0), value=7).tolist() == [7, 1, 2]
    assert fg.pad(fg.tensor([True]), (0, 1)).tolist() == [True, False]


@pytest.mark.parametrize("kinds", [("int64", "float32"), ("float32", "float64"), ("bool", "uint8")])
def test_joined_dtypes(kinds):
    ours = fg.cat([fg.ones(1, dtype=getattr(fg, k)) for k in kinds])
    theirs = torch.cat([torch.ones(1, dtype=getattr(torch, k)) for k in kinds])
    assert ours.dtype.np == theirs.numpy().dtype
    assert ours.tolist() == theirs.tolist()


def test_parts_are_views():
    base = fg.zeros(4, 2)
    for parts in (
        base.split(3),
        base.chunk(2),
        base.unbind(),
        base.tensor_split(3),
        base.vsplit(2),
    ):
        for k, part in enumerate(parts):
            part.add_(k)
        theirs = torch.zeros(4, 2)
        assert base.sum().item() != theirs.sum().item()
        base.zero_()


def test_repeated_rows_are_copies():
    base = fg.zeros(2)
    base.repeat(2, 1).add_(1)
    fg.tile(base, (1,)).add_(1)
    base.repeat_interleave(1).add_(1)
    base.flip(0).add_(1)
    base.clone().add_(1)
    assert not base.numpy().any()
    with pytest.raises(ShapeError, match="use tile"):
        fg.zeros(2, 2).repeat(2)
    with pytest.raises(ArgumentError, match="negative"):
        base.repeat(-1)
