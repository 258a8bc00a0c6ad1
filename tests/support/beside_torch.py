"""One call in flatgrad and in PyTorch: values, gradients, their gradients, tangents."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg

torch = pytest.importorskip("torch")

TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 3e-5}


def close(ours, theirs, what: str, tolerance: float) -> None:
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape, f"{what}: shape {a.shape}, not {b.shape}"
    assert a.dtype == b.dtype, f"{what}: {a.dtype}, not {b.dtype}"
    scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def beside_torch(call, *arrays, second: bool = False, forward: bool = False) -> None:
    """Compare ``call(nn.functional, *tensors)`` on both sides.

    Parameters
    ----------
    call : callable
        Returns a tensor or a tuple of them; integer results are compared exactly.
    arrays : ndarray or None
        Floating ones are differentiated.
    second : bool
        Compare the gradient of a function of the gradients too.
    forward : bool
        Compare forward mode with reverse mode.
    """
    sides = {}
    for name, lib in (("ours", fg), ("theirs", torch)):
        tensors = [None if a is None else lib.tensor(a.copy()) for a in arrays]
        leaves = [t.requires_grad_() for t in tensors if t is not None and t.is_floating_point()]
        found = call(lib.nn.functional, *tensors)
        outs = list(found) if isinstance(found, (tuple, list)) else [found]
        sides[name] = [*outs, *_gradients(lib, outs, leaves, second)]
    kinds = [a.dtype for a in arrays if a is not None and a.dtype.kind == "f"]
    tolerance = max(TOLERANCE[k] for k in kinds)
    for k, (a, b) in enumerate(zip(sides["ours"], sides["theirs"], strict=True)):
        if b.is_floating_point():
            close(a, b, f"result {k}", tolerance * (20 if k >= len(outs) else 1))
        else:
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=f"result {k}")
    if forward:
        _tangents(call, arrays)


def _gradients(lib, outs, leaves, second: bool) -> list:
    """Gradients of a weighted sum of the results; and, if asked, those of a sum of their squares."""
    rng = np.random.default_rng(8)
    total = 0
    for out in outs:
        if out.is_floating_point():
            w = rng.uniform(0.5, 1.5, tuple(out.shape)).astype(out.detach().numpy().dtype)
            total = total + (out * lib.tensor(w)).sum()
    grads = lib.autograd.grad(total, leaves, create_graph=second)
    found = list(grads)
    if second:
        whole = sum([(g * g).sum() for g in grads])
        again = [None] * len(leaves)  # a linear function's gradient may say that it is constant
        if whole.requires_grad:
            again = lib.autograd.grad(whole, leaves, allow_unused=True)
        found += [lib.zeros_like(x) if g is None else g for g, x in zip(again, leaves, strict=True)]
    return found


def _tangents(call, arrays) -> None:
    """<u, J v> = <J' u, v> of our own call: forward mode against reverse mode."""
    rng = np.random.default_rng(9)
    at = [k for k, a in enumerate(arrays) if a is not None and a.dtype.kind == "f"]
    given = [None if a is None else fg.tensor(a) for a in arrays]

    def f(*leaves):
        full = list(given)
        for k, t in zip(at, leaves, strict=True):
            full[k] = t
        found = call(fg.nn.functional, *full)
        return found[0] if isinstance(found, (tuple, list)) else found

    primals = tuple([given[k] for k in at])
    tangents = tuple(
        [fg.tensor(rng.standard_normal(arrays[k].shape).astype(arrays[k].dtype)) for k in at]
    )
    out, tangent = fg.jvp(f, primals, tangents)
    u = fg.tensor(rng.standard_normal(tuple(out.shape)).astype(out.numpy().dtype))
    back = fg.vjp(f, *primals)[1](u)
    left = (u * tangent).sum().item()
    right = sum([(b * t).sum().item() for b, t in zip(back, tangents, strict=True)])
    size = np.sqrt((u * u).sum().item() * (tangent * tangent).sum().item())
    tolerance = max(TOLERANCE[arrays[k].dtype] for k in at)
    assert size > 0
    assert abs(left - right) <= 30 * tolerance * size, (left, right)
