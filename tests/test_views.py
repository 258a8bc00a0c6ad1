"""Views, in-place writes and autograd: random programs against PyTorch, and the rules one by one."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import FlatgradError, GradientError
from support.deadline import time_is_up

torch = pytest.importorskip("torch")

# -- random programs ------------------------------------------------------------------------------
# Both sides get the same steps. PyTorch's saved values would be spoilt by later writes (it raises), ours
# must not be: so PyTorch saves clones.


def some_view(rng, shape):
    """A random view of a tensor of `shape`: a function for both libraries."""
    rank = len(shape)
    kinds = ["alias", "unsqueeze", "detach"]
    if rank:
        kinds += ["select", "slice", "narrow", "flatten", "index", "unfold", "chunk"] * 2
    if rank > 1:
        kinds += ["transpose", "diagonal", "permute"] * 2
    kind = kinds[rng.integers(len(kinds))]
    d = int(rng.integers(rank)) if rank else 0
    n = shape[d] if rank else 1
    if kind == "alias":
        return kind, lambda t: t[...]
    if kind == "detach":
        return kind, lambda t: t.detach()
    if kind == "unsqueeze":
        return kind, lambda t: t.unsqueeze(d)
    if kind == "select":
        k = int(rng.integers(-n, n)) if n else None
        return kind, (lambda t: t.select(d, k)) if n else (lambda t: t[...])
    if kind in ("slice", "index"):
        a, b = sorted(rng.integers(0, n + 1, 2).tolist())
        step = int(rng.integers(1, 3))
        if kind == "index" and rank > 1:
            return kind, lambda t: t[..., None, a:b:step]
        key = (slice(None),) * d + (slice(a, b, step),)
        return kind, lambda t: t[key]
    if kind == "narrow":
        a = int(rng.integers(0, n + 1))
        return kind, lambda t: t.narrow(d, a, n - a)
    if kind == "flatten":
        return kind, lambda t: t.reshape(-1)
    if kind == "unfold":
        size = int(rng.integers(1, n + 1)) if n else 0
        return kind, (lambda t: t.unfold(d, size, size)) if n else (lambda t: t[...])
    if kind == "chunk":
        return kind, lambda t: t.narrow(d, n // 2, n - n // 2)
    if kind == "transpose":
        e = int(rng.integers(rank))
        return kind, lambda t: t.transpose(d, e)
    if kind == "permute":
        order = rng.permutation(rank).tolist()
        return kind, lambda t: t.permute(order)
    e = (d + 1) % rank
    offset = int(rng.integers(-1, 2))
    return kind, lambda t: t.diagonal(offset, d, e)


def some_write(rng, shape):
    """A random in-place operation on a tensor of `shape`, given another tensor's numbers or tensor."""
    kind = [
        "mul",
        "add",
        "copy",
        "zero",
        "fill",
        "masked",
        "setitem",
        "index_add",
        "tanh",
        "number",
    ][rng.integers(10)]
    values = rng.normal(size=shape)
    mask = rng.random(shape) > 0.5
    number = float(rng.normal())
    rank = len(shape)

    def write(lib, t, other):
        array = torch.tensor if lib is torch else fg.tensor
        source = array(values) if other is None else other
        if kind == "mul":
            return t.mul_(number)
        if kind == "add":
            return t.add_(source)
        if kind == "copy":
            return t.copy_(source)
        if kind == "zero":
            return t.zero_()
        if kind == "fill":
            return t.fill_(number)
        if kind == "masked":
            return t.masked_fill_(array(mask), number)
        if kind == "tanh":
            return t.copy_(t.clone().tanh()) if lib is torch else t.tanh_()
        if kind == "number":
            t[...] = number
            return t
        if not rank or not shape[0]:
            return t.neg_()
        if kind == "setitem":
            t[array(np.array([0, shape[0] - 1]))] = array(values[[0, 0]])
            return t
        at = array(np.array([0, shape[0] - 1, 0]))
        return t.index_add_(0, at, array(values[[0, -1, 0]]))

    return kind, write


def new_sine(lib, t):
    """A result of its own memory, row-major as all of ours are; PyTorch's would keep the strides of `t`."""
    return t.clone(memory_format=torch.contiguous_format).sin() if lib is torch else t.sin()


class Pair:
    """One tensor on both sides; `cut` if it is a detached view (or one of such)."""

    def __init__(self, ours, theirs, cut=False):
        self.ours, self.theirs, self.cut = ours, theirs, cut


def both(step, pair, *rest):
    """Run a step on both sides: the results, or None if both refuse."""
    _ = pair.theirs.grad_fn  # PyTorch brings a view up to date when asked, not when it is written
    try:
        theirs = step(torch, pair.theirs, *[r.theirs if isinstance(r, Pair) else r for r in rest])
    except RuntimeError as error:
        theirs = error
    try:
        ours = step(fg, pair.ours, *[r.ours if isinstance(r, Pair) else r for r in rest])
    except FlatgradError as error:
        ours = error
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        both_refuse = isinstance(theirs, Exception) and isinstance(ours, Exception)
        assert both_refuse, f"PyTorch: {theirs!r}; flatgrad: {ours!r}"
        return None
    return Pair(ours, theirs)


def compare(pool, log):
    for k, p in enumerate(pool):
        np.testing.assert_allclose(
            p.ours.detach().numpy().copy()
            if k % 3 == 0
            else np.array(p.ours.tolist()).reshape(p.ours.shape),
            p.theirs.detach().numpy(),
            rtol=1e-12,
            atol=1e-14,
            err_msg=f"tensor {k} of\n" + "\n".join(log),
        )
        assert p.ours.requires_grad == p.theirs.requires_grad, (k, log)
        assert p.ours.is_leaf == p.theirs.is_leaf, (k, log)


def run_program(seed: int, steps: int, watch: bool):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, 4)), rng.normal(size=(4,))
    leaves = [
        Pair(fg.tensor(v, requires_grad=True), torch.tensor(v, requires_grad=True)) for v in values
    ]
    plain = rng.normal(size=(4, 3))
    pool = [
        *leaves,
        Pair(leaves[0].ours * 2, leaves[0].theirs * 2),
        Pair(fg.tensor(plain), torch.tensor(plain)),
    ]
    log: list[str] = [f"seed {seed}"]
    for _ in range(steps):
        k = int(rng.integers(len(pool)))
        p = pool[k]
        shape = tuple(p.ours.shape)
        what = rng.random()
        quiet = rng.random() < 0.15
        made = None
        if what < 0.4:
            # With grad mode: what may be done with views made without it is ambiguous (see below).
            name, view = some_view(rng, shape)
            log.append(f"{len(pool)} = {name} of {k} {shape}")
            made = both(lambda lib, t, view=view: view(t), p)
            made.cut = p.cut or name == "detach"
        with fg.set_grad_enabled(not quiet), torch.set_grad_enabled(not quiet):
            if 0.4 <= what < 0.55:
                log.append(f"{len(pool)} = sin({k})")
                made = both(new_sine, p)
            elif what >= 0.55:
                fitting = [j for j, q in enumerate(pool) if tuple(q.ours.shape) == shape and j != k]
                j = fitting[rng.integers(len(fitting))] if fitting and rng.random() < 0.7 else None
                name, write = some_write(rng, shape)
                log.append(f"{name}_({k}, {j}) {shape} quiet={quiet}")
                if j is None:
                    both(write, p, None)
                else:
                    other = pool[j]
                    ours, theirs = other.ours, other.theirs.clone()
                    if p.cut:
                        ours, theirs = ours.detach(), theirs.detach()
                    both(write, p, Pair(ours, theirs))
        if made is not None and made.ours.shape.numel():
            pool.append(made)
        if watch:
            compare(pool, log)
    compare(pool, log)
    total = Pair(0.0, 0.0)
    for p in pool[2:]:
        if p.ours.requires_grad:
            w = rng.normal(size=tuple(p.ours.shape))
            total.ours = total.ours + (p.ours * fg.tensor(w)).sum()
            total.theirs = total.theirs + (p.theirs.clone() * torch.tensor(w)).sum()
    if not isinstance(total.ours, fg.Tensor) or not total.ours.requires_grad:
        return
    total.ours.backward()
    total.theirs.backward()
    for q in leaves:
        assert (q.ours.grad is None) == (q.theirs.grad is None), log
        if q.ours.grad is not None:
            np.testing.assert_allclose(
                q.ours.grad.numpy(),
                q.theirs.grad.numpy(),
                rtol=1e-10,
                atol=1e-12,
                err_msg="\n".join(log),
            )


@pytest.mark.parametrize("block", range(10))
def test_random_programs(block):
    for seed in range(block * 12, block * 12 + 12):
        run_program(seed, 14, watch=seed % 2 == 0)


@pytest.mark.slow
def test_many_random_programs():
    for seed in range(10_000, 12_000):
        if time_is_up():
            pytest.skip(f"time is up (FLATGRAD_SLOW_SECONDS): right up to seed {seed}")
        run_program(seed, 20, watch=seed % 3 == 0)


# -- the rules, one by one ------------------------------------------------------------------------


def t64(values, requires_grad=False):
    return fg.tensor(np.asarray(values, float), requires_grad=requires_grad)


def test_writes_are_seen_in_both_directions():
    base = fg.zeros(2, 3)
    row, column, flat = base[1], base.T[2], base.view(-1)
    row += 1
    column.mul_(5)
    flat[0] = 7
    assert base.tolist() == [[7, 0, 0], [1, 1, 5]]
    assert row.tolist() == [1, 1, 5]
    assert base._version == row._version == 3


def test_reshape_of_a_transpose_is_a_copy_and_view_refuses():
    base = fg.zeros(2, 3)
    base.T.reshape(-1).add_(1)
    assert base.sum().item() == 0
    with pytest.raises(fg.errors.ShapeError, match="at least one dimension spans"):
        base.T.view(-1)


def test_saved_values_survive_writes():
    x = t64([1.0, 2.0], True)
    y = x * 3
    z = y * y
    y.zero_()
    z.sum().backward()
    assert x.grad.tolist() == [18.0, 36.0]
    assert y.requires_grad
    assert y.tolist() == [0, 0]


def test_an_overwritten_tensor_passes_zeros():
    x = t64([1.0, 2.0], True)
    y = x * 3
    y.copy_(t64([5.0, 6.0]))
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("view", [lambda w: w, lambda w: w[0], lambda w: w.view(-1)[1:]])
def test_leaf_in_grad_mode_raises(view):
    w = t64([1.0, 2.0], True)
    with pytest.raises(GradientError, match="leaf tensor that requires grad"):
        view(w).add_(1)
    with fg.no_grad():
        view(w).add_(1)
    assert w.is_leaf
    assert w.requires_grad
    assert (w * 2).grad_fn is not None


def test_view_made_without_grad_mode_is_not_written_with_it():
    for source_grad, base_grad in ((True, False), (False, True)):
        base = t64([1.0, 2.0], base_grad) * 1
        with fg.no_grad():
            view = base[:1]
        with pytest.raises(GradientError, match="created in no_grad mode"):
            view.add_(t64([1.0], source_grad))
        with fg.no_grad():
            view.add_(1)
        assert base.tolist() == [2.0, 2.0]
    plain = fg.zeros(2)
    with fg.no_grad():
        view = plain[:1]
    view.add_(1)
    assert plain.tolist() == [1.0, 0.0]


def test_data_and_detach_share_memory_and_leave_autograd_alone():
    w = t64([1.0, 2.0], True)
    y = w * w
    w.data[0] = 10
    w.detach()[1:].mul_(2)
    assert w.tolist() == [10.0, 4.0]
    assert w.is_leaf
    y.sum().backward()
    assert w.grad.tolist() == [2.0, 4.0]
    w.data = t64([7.0, 7.0, 7.0])
    assert w.requires_grad
    assert w.is_leaf
    assert w.shape == (3,)


def test_writes_through_detach_keep_the_history():
    x = t64([1.0, 2.0], True)
    y = x * 3
    y[0].detach().zero_()
    y.detach()[1] = 100
    assert y.tolist() == [0.0, 100.0]
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_parameters_stay_leaves_and_keep_their_grad():
    w = t64([1.0, 2.0], True)
    for _ in range(3):
        w.grad = None
        (w * w).sum().backward()
        with fg.no_grad():
            w -= 0.25 * w.grad
    assert w.is_leaf
    np.testing.assert_allclose(w.tolist(), [0.125, 0.25])


def test_numpy_memory_sees_writes_through_views():
    array = np.zeros((2, 3))
    t = fg.from_numpy(array)
    t[1].add_(1)
    t.T[0] = 5
    t.diagonal().mul_(2)
    np.testing.assert_array_equal(array, [[10, 0, 0], [5, 2, 1]])
    recorded = t[0] * 2
    array[0, 0] = -1
    assert recorded.tolist() == [20, 0, 0]
    assert t[0].tolist() == [-1, 0, 0]


def test_a_numpy_view_of_a_view():
    t = fg.zeros(2, 3)
    column = t.T[1].numpy()
    column[:] = 4
    assert t.tolist() == [[0, 4, 0], [0, 4, 0]]


def test_expanded_and_overlapping_views_cannot_be_written():
    with pytest.raises(GradientError, match="several times"):
        fg.zeros(1, 3).expand(2, 3).add_(1)
    with pytest.raises(fg.errors.ArgumentError, match="several times"):
        fg.zeros(4).unfold(0, 2, 1).add_(1)


def test_shape_in_place_keeps_the_memory():
    for make in (lambda: fg.arange(6.0).reshape(2, 3), lambda: fg.arange(8.0)[2:].view(2, 3)):
        base = make()
        row = base[0]
        assert base.t_() is base
        assert base.shape == (3, 2)
        base[0, 1] = -1
        row.mul_(2)
        expected = (
            torch.arange(6.0).reshape(2, 3) if row[1] == 2 else torch.arange(2.0, 8).reshape(2, 3)
        )
        theirs = expected[0]
        expected.t_()
        expected[0, 1] = -1
        theirs.mul_(2)
        assert base.tolist() == expected.tolist()
        assert base.unsqueeze_(0).squeeze_(0).transpose_(0, 1).tolist() == expected.t().tolist()
        assert row.tolist() == theirs.tolist()


def test_a_copied_tensor_stays_apart_from_its_source():
    y = t64([1.0, 2.0], True)
    x = fg.zeros(2, dtype=fg.float64).copy_(y)
    assert not x.is_leaf
    (x * 3).sum().backward()
    assert y.grad.tolist() == [3.0, 3.0]
    assert x._grad is None
    x.add_(1)
    assert y.tolist() == [1.0, 2.0]


def test_retain_grad_follows_a_view():
    x = t64([1.0, 2.0], True)
    y = x * 2
    view = y[0]
    view.retain_grad()
    y.mul_(3)
    view.backward()
    assert view.grad.item() == 1.0
    assert x.grad.tolist() == [6.0, 0.0]


@pytest.mark.parametrize("name", ["copy_", "fill_", "masked_fill_", "mul_"])
def test_wrong_writes_raise_and_change_nothing(name):
    t = fg.zeros(2, 3, dtype=fg.int64)
    arguments = {
        "copy_": (fg.zeros(4),),
        "fill_": (0.5,),
        "masked_fill_": (fg.ones(2, 3, dtype=fg.bool), 0.5),
        "mul_": (0.5,),
    }
    with pytest.raises(FlatgradError):
        getattr(t, name)(*arguments[name])
    assert t.tolist() == [[0, 0, 0]] * 2
