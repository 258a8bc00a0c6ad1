"""vmap: every operation of the registry against a loop of calls, faces and errors against torch.func."""

from __future__ import annotations

import numpy as np
import pytest

import derived
import flatgrad as fg
from flatgrad.errors import ArgumentError, FlatgradError, IndexingError, ShapeError, TraceError
from flatgrad.graph.op import PUBLIC
from support.control_programs import Writer, values

rng = np.random.default_rng(11)


def t(values, requires_grad=False):
    return fg.tensor(np.asarray(values, float), requires_grad=requires_grad)


@pytest.fixture(autouse=True)
def interpreted():
    with fg.set_compile("never"):
        yield


# -- every operation ------------------------------------------------------------------------------

# What is decided by values, or has no value at all.
BY_VALUE = {
    *("argwhere", "bincount", "histc", "masked_select", "nonzero", "repeat_interleave", "unique"),
    *("unique_consecutive", "cartesian_prod", "combinations", "block_diag", "count_nonzero"),
    *("allclose", "equal", "is_nonzero", "item"),
}


def items(public, seeds=3):
    """Calls that differ only in their floating arrays: (samples, indices of the arrays)."""
    for sample in derived.samples_of(public):
        arrays = derived.arrays_in((sample.args, sample.kwargs))
        floating = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]
        if floating and all(arrays[k].size for k in floating):
            yield sample, arrays, floating


def perturbed(array, seed):
    """Another item: the same numbers in another order, so that domains hold."""
    flat = array.reshape(-1)
    return np.roll(flat, seed).reshape(array.shape) if array.ndim else array * (1 - 0.05 * seed)


def check_operation(public):
    checked = 0
    for sample, arrays, floating in items(public):
        for batched in {tuple(floating), (floating[0],), (floating[-1],)}:
            many = [
                np.stack([perturbed(a, s) for s in range(3)]) if k in batched else a
                for k, a in enumerate(arrays)
            ]

            def call(*rows, sample=sample, arrays=arrays, batched=batched):
                given = list(arrays)
                for k, row in zip(batched, rows, strict=True):
                    given[k] = row
                return tuple(derived.tensors_in(call_on(public, sample, given)))

            rows = [fg.tensor(many[k]) for k in batched]
            try:
                want = [[p.detach().numpy() for p in call(*[r[s] for r in rows])] for s in range(3)]
            except FlatgradError:
                continue  # another order of the numbers is not in the domain
            if not want[0]:
                continue  # answers with a Python bool
            try:
                have = fg.vmap(call)(*rows)
            except TraceError:
                assert public.name in BY_VALUE, public.name
                continue
            assert len(have) == len(want[0])
            for h, parts in zip(have, zip(*want, strict=True), strict=True):
                expected = np.stack(parts)
                np.testing.assert_allclose(
                    h.detach().numpy(), expected, rtol=1e-9, atol=1e-11, err_msg=str(sample)
                )
            checked += 1
    return checked


def call_on(public, sample, arrays):
    """The public function on tensors or arrays in the places of the sample's arrays."""
    left = iter(arrays)

    def put(value):
        if isinstance(value, np.ndarray):
            new = next(left)
            return new if isinstance(new, fg.Tensor) else fg.tensor(new)
        if isinstance(value, (tuple, list)):
            return type(value)([put(v) for v in value])
        if isinstance(value, dict):
            return {k: put(v) for k, v in value.items()}
        return value

    args = put(sample.args)
    return public.function(*args, **put(sample.kwargs))


@pytest.mark.parametrize("public", list(PUBLIC.values()), ids=lambda p: p.name)
def test_vmap_is_a_loop_of_calls(public):
    if not check_operation(public) and public.name not in BY_VALUE:
        pytest.skip("no sample with floating arrays")


# -- faces ----------------------------------------------------------------------------------------


def test_dimensions_and_trees():
    a, b = t(rng.normal(size=(2, 5, 3))), t(rng.normal(size=(3, 5)))

    def f(d, k, scale=None):
        return {"out": d["x"] @ d["y"] * k, "same": k}, d["x"].sum()

    got, sums = fg.vmap(
        f, in_dims=({"x": 1, "y": -1}, None), out_dims=({"out": 1, "same": None}, 0)
    )({"x": a, "y": b}, t(2.0))
    want = np.stack([a.numpy()[:, i] @ b.numpy()[:, i] * 2 for i in range(5)], 1)
    np.testing.assert_allclose(got["out"].numpy(), want)
    assert got["same"].item() == 2.0
    np.testing.assert_allclose(sums.numpy(), a.numpy().sum((0, 2)))


def test_nesting_with_derivatives_is_torchs():
    torch = pytest.importorskip("torch")
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))

    def model(lib):
        return lambda x, w: (lib.tanh(x @ w) ** 2).sum() + lib.sin(x).sum()

    for dims in ((0, None), (None, None)):
        ours = fg.vmap(fg.grad(model(fg), argnums=(0, 1)), (0, dims[1]))(t(x), t(w))
        theirs = torch.func.vmap(torch.func.grad(model(torch), argnums=(0, 1)), (0, dims[1]))(
            torch.tensor(x), torch.tensor(w)
        )
        for o, p in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(o.numpy(), p.numpy(), rtol=1e-11)
    pairs = fg.vmap(fg.vmap(lambda a, b: (a - b) ** 2, (None, 0)), (0, None))(
        t(x[:, 0]), t(x[:, 1])
    )
    np.testing.assert_allclose(pairs.numpy(), (x[:, :1] - x[:, 1]) ** 2)
    hess = fg.vmap(fg.hessian(lambda x: model(fg)(x, t(w))))(t(x))
    want = torch.func.vmap(torch.func.hessian(lambda x: model(torch)(x, torch.tensor(w))))(
        torch.tensor(x)
    )
    np.testing.assert_allclose(hess.numpy(), want.numpy(), rtol=1e-9, atol=1e-12)
    tangent = fg.vmap(lambda x, d: fg.jvp(lambda x: model(fg)(x, t(w)), (x,), (d,))[1])(t(x), t(x))
    along = torch.func.vmap(
        lambda x, d: torch.func.jvp(lambda x: model(torch)(x, torch.tensor(w)), (x,), (d,))[1]
    )(torch.tensor(x), torch.tensor(x))
    np.testing.assert_allclose(tangent.numpy(), along.numpy(), rtol=1e-10)


def test_gradients_flow_to_items_and_to_what_is_captured():
    x, w = t(rng.normal(size=(4, 3)), True), t(rng.normal(size=3), True)
    y = fg.vmap(lambda r: fg.sin(r * w).sum())(x).sum()
    plain = fg.sin(x * w).sum()
    for a, b in zip(fg.autograd.grad(y, (x, w)), fg.autograd.grad(plain, (x, w)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_chunks(chunk):
    x = t(rng.normal(size=(3, 5)))
    got = fg.vmap(lambda c: (c.sum(), c * 2), 1, (0, 1), chunk_size=chunk)(x)
    np.testing.assert_allclose(got[0].numpy(), x.numpy().sum(0))
    np.testing.assert_allclose(got[1].numpy(), x.numpy() * 2)


def test_randomness():
    x = t(np.zeros((5, 2)))
    draw = lambda r: r + fg.rand(2)  # noqa: E731
    with pytest.raises(ArgumentError, match="randomness error mode"):
        fg.vmap(draw)(x)
    same = fg.vmap(draw, randomness="same")(x).numpy()
    assert (same == same[0]).all()
    different = fg.vmap(draw, randomness="different")(x).numpy()
    assert len(np.unique(different)) == different.size
    assert fg.rand(2).shape == (2,)


# -- control flow ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20, 32))
def test_random_programs_with_loops_and_branches(seed):
    f = Writer(seed).program()
    arrays = [np.stack(a) for a in zip(*[values(seed + k) for k in range(3)], strict=True)]
    xs = [t(a, True) for a in arrays]
    y = fg.vmap(lambda u, v, m: f(fg, u, v, m))(*xs)
    want = [f(fg, *[x[k] for x in xs]) for k in range(3)]
    np.testing.assert_allclose(y.detach().numpy(), [w.item() for w in want], rtol=1e-10, atol=1e-12)
    weights = t([1.0, -2.0, 0.5])
    got = fg.autograd.grad((y * weights).sum(), xs, materialize_grads=True)
    total = sum(w * weights[k] for k, w in enumerate(want))
    expected = fg.autograd.grad(total, xs, retain_graph=True, materialize_grads=True)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8, atol=1e-10)
    inner = fg.vmap(fg.grad(lambda u, v, m: f(fg, u, v, m)))(*xs)
    first = fg.autograd.grad(sum(want), xs, materialize_grads=True)[0]
    np.testing.assert_allclose(inner.detach().numpy(), first.numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"bound": 40}])
def test_items_leave_a_while_loop_at_different_times(options):
    x = t([0.5, 3.0, 1.1, 200.0], True)

    def f(x):
        return fg.while_loop(
            lambda s: s < 50.0, lambda s: s * 1.5 + fg.sin(s) * x * 0.01 + 0.2, x, **options
        )

    def plain(x):
        s = x
        while s.item() < 50.0:
            s = s * 1.5 + fg.sin(s) * x * 0.01 + 0.2
        return s

    y = fg.vmap(f)(x)
    want = fg.stack([plain(x[k]) for k in range(4)])
    np.testing.assert_allclose(y.detach().numpy(), want.detach().numpy(), rtol=1e-12)
    got = fg.autograd.grad((y * t([1.0, 2.0, 3.0, 4.0])).sum(), x)[0]
    expected = fg.autograd.grad((want * t([1.0, 2.0, 3.0, 4.0])).sum(), x)[0]
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-10)


def test_items_choose_different_branches():
    x = t([-2.0, 0.5, 3.0], True)
    y = fg.vmap(lambda v: fg.cond(v > 0, lambda v: v**3, lambda v: fg.sin(v), v))(x)
    np.testing.assert_allclose(y.detach().numpy(), [np.sin(-2.0), 0.125, 27.0])
    got = fg.autograd.grad(y.sum(), x)[0].numpy()
    np.testing.assert_allclose(got, [np.cos(-2.0), 0.75, 27.0])


def test_compiled_as_well():
    x = t(rng.normal(size=(6, 4)))

    def f(r):
        last, _ = fg.scan(lambda c, v: (fg.tanh(c + v), None), r[0], r)
        return fg.while_loop(lambda s: s < 3.0, lambda s: s + 1.0 + r[1], last)

    x = fg.abs(x)
    want = fg.vmap(f)(x).numpy()
    with fg.set_compile("always"):
        np.testing.assert_allclose(fg.vmap(f)(x).numpy(), want, rtol=1e-12)


# -- wrong use ------------------------------------------------------------------------------------

WRONG = [
    (
        lambda: fg.vmap(lambda a, b: a)(t([1.0]), t([1.0, 2.0])),
        ShapeError,
        "same size in the mapped",
    ),
    (lambda: fg.vmap(lambda a: a, in_dims=2)(t([[1.0]])), IndexingError, r"in_dim=2 .* \[-2, 1\]"),
    (lambda: fg.vmap(lambda a: a, in_dims=(0, 0))(t([1.0])), ArgumentError, "2 entries for 1"),
    (lambda: fg.vmap(lambda a: a, in_dims="0")(t([1.0])), ArgumentError, "expected in_dims"),
    (lambda: fg.vmap(lambda a: a, in_dims=None)(t([1.0])), ArgumentError, "None for all"),
    (lambda: fg.vmap(lambda a: a, in_dims=([0, 0],))((t([1.0]),)), ArgumentError, "not compatible"),
    (lambda: fg.vmap(lambda: 1)(), ArgumentError, "no inputs"),
    (lambda: fg.vmap(lambda a: a, out_dims=3)(t([1.0])), IndexingError, "out_dims"),
    (lambda: fg.vmap(lambda a: a, out_dims=None)(t([1.0])), ArgumentError, "out_dims=None"),
    (lambda: fg.vmap(lambda a: (a, a), out_dims=(0,))(t([1.0])), ArgumentError, "not compatible"),
    (lambda: fg.vmap(lambda a: "x")(t([1.0])), ArgumentError, "unsupported type str"),
    (lambda: fg.vmap(lambda a: a if a > 0 else -a)(t([1.0])), TraceError, "fg.where"),
    (lambda: fg.vmap(lambda a: a.item())(t([1.0])), TraceError, "being traced"),
    (lambda: fg.vmap(lambda a: a, randomness="some"), ArgumentError, "randomness"),
    (lambda: fg.vmap(lambda a: a, chunk_size=0), ArgumentError, "chunk_size"),
    (lambda: fg.vmap(lambda a: a)("text"), ArgumentError, "must be Tensors"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_wrong_use_is_refused(case):
    call, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        call()


def test_a_write_outside_is_taken_back():
    """It would be one write, of no item: batch normalisation's running statistics, say."""
    outside = fg.zeros(3)

    def f(x):
        outside.copy_(x * 2)
        return x + outside

    with pytest.raises(TraceError, match=r"vmap: .*wrote in place to a tensor from outside"):
        fg.vmap(f)(fg.ones(4, 3))
    assert outside.tolist() == [0.0, 0.0, 0.0]
    inside = fg.vmap(lambda x: fg.zeros(3).copy_(x).mul_(2))(fg.ones(4, 3))
    assert inside.tolist() == [[2.0, 2.0, 2.0]] * 4
