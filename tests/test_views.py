"""Views, in-place writes and autograd: random programs against PyTorch, and the rules one by one."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import FlatgradError, GradientError

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


class Pair:
    """One tensor on both sides; `cut` if it is a detached view (or one of such)."""

    def __init__(self, ours, theirs, cut=False):
        self.ours, self.theirs, self.cut = ours, theirs, cut


def both(step, pair, *rest):
    """Run a step on both sides: the results, or None if both refuse."""
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
                made = both(lambda lib, t: t.clone().sin() if lib is torch else t.sin(), p)
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
        run_program(seed, 20, watch=seed % 3 == 0)
