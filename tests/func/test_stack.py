"""Contractions of a loop's steps made one: sums of products behind the loop, products of rows before it."""

import numpy as np
import pytest

import flatgrad as fg


def recurrence(w, u, b, x, h):
    """A user's loop: the input's product inside, a bias inside, one weight used twice."""

    def step(h, row):
        h = fg.tanh(row @ u.T + h @ w.T + 0.5 * (h @ w) + b)
        return h, h.sum(1)

    last, y = fg.scan(step, h, x)
    return (last * last).sum() + (y * y).sum()


def unrolled(m, w, u, b, x, h):
    y = []
    for row in x:
        h = m.tanh(row @ u.T + h @ w.T + 0.5 * (h @ w) + b)
        y.append(h.sum(1))
    return (h * h).sum() + (m.stack(y) ** 2).sum()


@pytest.fixture
def arrays(rng):
    shapes = ((16, 16), (16, 12), (16,), (6, 8, 12), (8, 16))
    return [0.3 * rng.standard_normal(s) for s in shapes]


def loops(source):
    """The text of each outermost loop over the six steps."""
    lines = source.split("def program")[1].splitlines()
    found, inside = [], False
    for line in lines:
        outer = line.startswith("    for t")
        inside = outer or (inside and line.startswith("     "))
        if outer:
            found.append("")
        if inside:
            found[-1] += line + "\n"
    return found


@pytest.mark.parametrize("compile", ["never", "always"])
def test_gradients_are_pytorchs(arrays, compile):
    torch = pytest.importorskip("torch")
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    unrolled(torch, *theirs).backward()
    with fg.set_compile(compile):
        ours = [fg.tensor(a, requires_grad=True) for a in arrays]
        recurrence(*ours).backward()
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_nothing_is_added_up_in_the_loop(arrays):
    program = fg.compile(fg.value_and_grad(recurrence, argnums=(0, 1, 2, 3)), *arrays)
    forward, backward = loops(program.source)
    # Forward: the state's two products, not the row's. Backward: those of the state's cotangent.
    assert forward.count("tile = ") == 2
    assert backward.count("tile = ") == 2


def test_a_loop_that_uses_its_sum_keeps_it(rng):
    def f(x, y):
        def step(total, rows):
            a, b = rows
            return total + a.T @ b, total.sum()  # the sum is read at every step

        total, seen = fg.scan(step, fg.zeros(16, 16, dtype=fg.float64), (x, y))
        return total, seen

    x, y = rng.standard_normal((2, 5, 8, 16))
    total, seen = fg.compile(f, x, y)(x, y)
    products = np.einsum("tki,tkj->tij", x, y)
    np.testing.assert_allclose(total, products.sum(0), rtol=1e-10)
    wanted = np.concatenate([[0], products.sum((1, 2)).cumsum()[:-1]])
    np.testing.assert_allclose(seen, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reverse", [False, True])
def test_products_that_are_handed_out_follow_the_loop(rng, reverse):
    def f(w, out, x, h):
        def step(h, row):
            h = fg.tanh(h @ w + row)
            return h, (h @ out, h[0] @ w, row)

        return fg.scan(step, h, x, reverse=reverse)

    w, out = rng.standard_normal((16, 16)), rng.standard_normal((16, 4))
    x, h = rng.standard_normal((6, 8, 16)), rng.standard_normal((8, 16))
    program = fg.compile(f, w, out, x, h)
    last, (y, z, rows) = program(w, out, x, h)
    assert [text.count("tile = ") for text in loops(program.source)] == [1]
    for k in reversed(range(6)) if reverse else range(6):
        h = np.tanh(h @ w + x[k])
        np.testing.assert_allclose(y[k], h @ out, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(z[k], h[0] @ w, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(last, h, rtol=1e-9)
    np.testing.assert_array_equal(rows, x)


@pytest.mark.parametrize("reverse", [False, True])
def test_sums_in_either_direction_and_from_a_start(rng, reverse):
    def f(start, x, y):
        def step(carry, rows):
            total, k = carry
            a, b = rows
            return (total + (k * a).T @ b.T.T, k + 1.0), None

        (total, _), _ = fg.scan(step, (start, 1.0), (x, y), reverse=reverse)
        return total

    start = rng.standard_normal((16, 16))
    x, y = rng.standard_normal((2, 5, 8, 16))
    weights = np.arange(1.0, 6.0)[:: -1 if reverse else 1]
    wanted = start + np.einsum("t,tki,tkj->ij", weights, x, y)
    program = fg.compile(f, start, x, y)
    np.testing.assert_allclose(program(start, x, y), wanted, rtol=1e-10)


def test_second_derivatives(arrays):
    torch = pytest.importorskip("torch")
    ours = [fg.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    (g,) = fg.autograd.grad(recurrence(*ours), ours[0], create_graph=True)
    (h,) = torch.autograd.grad(unrolled(torch, *theirs), theirs[0], create_graph=True)
    (g,) = fg.autograd.grad((g * g).sum(), ours[1])
    (h,) = torch.autograd.grad((h * h).sum(), theirs[1])
    np.testing.assert_allclose(g.numpy(), h.numpy(), rtol=1e-9, atol=1e-11)
