"""Random numbers: reproducible, of the right distribution, and clear about bad arguments."""

import threading

import numpy as np
import pytest

import flatgrad as fg

N = 20_000


def test_seeds_reproduce():
    fg.manual_seed(3)
    a = [fg.rand(3), fg.randn(3), fg.randint(10, (3,)), fg.randperm(5)]
    fg.manual_seed(3)
    b = [fg.rand(3), fg.randn(3), fg.randint(10, (3,)), fg.randperm(5)]
    assert [t.tolist() for t in a] == [t.tolist() for t in b]
    fg.manual_seed(4)
    assert fg.rand(3).tolist() != a[0].tolist()
    assert fg.initial_seed() == 4
    seed = fg.seed()
    x = fg.rand(2).tolist()
    assert fg.manual_seed(seed) is fg.default_generator and fg.rand(2).tolist() == x
    assert fg.Generator().manual_seed(-1).initial_seed() == 2**64 - 1


def test_generators_are_independent_and_restorable():
    g = fg.Generator().manual_seed(1)
    fg.manual_seed(1)
    assert fg.rand(2, generator=g).tolist() == fg.rand(2).tolist()
    fg.rand(1, generator=g)
    fg.randint(2, (3,), generator=g)
    state = g.get_state()
    a = fg.randn(4, generator=g).tolist()
    other = fg.Generator().set_state(state)
    assert fg.randn(4, generator=other).tolist() == a and other.initial_seed() == 1
    state = fg.get_rng_state()
    a = fg.rand(2).tolist()
    fg.set_rng_state(state)
    assert fg.rand(2).tolist() == a


def test_distributions():
    fg.manual_seed(0)
    u = fg.rand(N).numpy()
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.02
    z = fg.randn(N, dtype=fg.float64).numpy()
    assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03
    k = fg.randint(-2, 3, (N,)).numpy()
    assert set(k.tolist()) == {-2, -1, 0, 1, 2}
    assert sorted(fg.randperm(50).tolist()) == list(range(50))
    m = fg.normal(fg.tensor([0.0, 10.0]).expand(N, 2), 2.0).numpy()
    assert abs(m[:, 1].mean() - 10) < 0.1 and abs(m[:, 0].std() - 2) < 0.1
    assert fg.normal(1.0, 0.0, (3,)).tolist() == [1.0] * 3
    b = fg.bernoulli(fg.full((N,), 0.25))
    assert abs(b.numpy().mean() - 0.25) < 0.02 and b.dtype is fg.float32
    assert fg.full((3,), 0.5).bernoulli(1.0).tolist() == [1.0] * 3


def test_in_place():
    fg.manual_seed(0)
    t = fg.empty(N, dtype=fg.float64)
    assert t.uniform_(2, 4) is t
    assert t.numpy().min() >= 2 and t.numpy().max() < 4 and abs(t.numpy().mean() - 3) < 0.03
    assert abs(t.normal_(5, 0.1).numpy().mean() - 5) < 0.01
    assert abs(t.exponential_(2.0).numpy().mean() - 0.5) < 0.02
    assert abs(t.bernoulli_(0.3).numpy().mean() - 0.3) < 0.02
    k = fg.empty(N, dtype=fg.int64)
    assert set(k.random_(3).tolist()) == {0, 1, 2} and set(k.random_(5, 7).tolist()) == {5, 6}
    assert fg.empty(10, dtype=fg.uint8).random_().dtype is fg.uint8
    half = fg.zeros(4)
    half.reshape(2, 2).uniform_(1, 2)
    assert min(half.tolist()) >= 1
    w = fg.zeros(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="no_grad"):
        w.uniform_()
    with fg.no_grad():
        w.uniform_(1, 2)
    assert w.is_leaf and w.requires_grad and min(w.tolist()) >= 1


def test_multinomial():
    fg.manual_seed(0)
    w = fg.tensor([[0.0, 1.0, 3.0], [2.0, 0.0, 2.0]])
    k = w.multinomial(N, replacement=True).numpy()
    assert k.shape == (2, N) and set(k[0].tolist()) == {1, 2} and set(k[1].tolist()) == {0, 2}
    assert abs((k[0] == 2).mean() - 0.75) < 0.02
    for _ in range(20):
        assert sorted(fg.multinomial(fg.tensor([0.0, 1.0, 3.0]), 2).tolist()) == [1, 2]


def test_like():
    x = fg.zeros(2, 3, dtype=fg.float64)
    assert fg.rand_like(x).dtype is fg.randn_like(x).dtype is fg.float64
    assert fg.rand_like(x, requires_grad=True).requires_grad
    assert fg.randint_like(x, 5).shape == (2, 3) and fg.randint_like(x, 5).dtype is fg.float64


def test_threads_share_a_generator():
    g = fg.Generator().manual_seed(0)
    drawn = []
    threads = [
        threading.Thread(target=lambda: drawn.append(fg.rand(1000, generator=g, dtype=fg.float64)))
        for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    together = np.concatenate([d.numpy() for d in drawn])
    again = fg.rand(4000, generator=g.manual_seed(0), dtype=fg.float64).numpy()
    assert np.array_equal(np.sort(together), np.sort(again))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: fg.rand(-1), "negative"),
        (lambda: fg.rand(2, dtype=fg.int64), "floating-point"),
        (lambda: fg.rand(2, generator=3), "must be a flatgrad.Generator"),
        (lambda: fg.randint(5, 5, (2,)), "low=5 >= high=5"),
        (lambda: fg.randint(5), "is required"),
        (lambda: fg.randperm(-1), "non-negative"),
        (lambda: fg.normal(0.0, -1.0, (2,)), "std"),
        (lambda: fg.normal(0.0, 1.0), "size"),
        (lambda: fg.bernoulli(fg.tensor([2.0])), r"\[0, 1\]"),
        (lambda: fg.multinomial(fg.tensor([1.0, 0.0]), 2), "cannot draw 2"),
        (lambda: fg.multinomial(fg.tensor([-1.0, 1.0]), 1), "not negative"),
        (lambda: fg.multinomial(fg.tensor(1.0), 1), "shape"),
        (lambda: fg.manual_seed("a"), "an int is required"),
        (lambda: fg.manual_seed(2**64), "64 bits"),
        (lambda: fg.set_rng_state(fg.zeros(3)), "uint8"),
        (lambda: fg.zeros(2, dtype=fg.int64).uniform_(), "floating-point"),
        (lambda: fg.zeros(2).uniform_(1, 0), "a <= b"),
        (lambda: fg.zeros(2).normal_(0, -1), "std"),
        (lambda: fg.zeros(2).exponential_(0), "positive"),
        (lambda: fg.zeros(2).random_(3, 3), "low < high"),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises(RuntimeError, match=match) as caught:
        call()
    assert isinstance(caught.value, fg.errors.FlatgradError)
