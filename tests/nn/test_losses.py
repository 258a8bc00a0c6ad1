"""Losses and layer functions: values and gradients as PyTorch's."""

import numpy as np
import pytest

import flatgrad as fg

torch = pytest.importorskip("torch")
F, TF = fg.nn.functional, torch.nn.functional


def both(call, arrays, integers=(), seed=0):
    """Values and gradients of ``call(functional, tensors)`` in both libraries, compared."""
    results = []
    for module, functional in ((fg, F), (torch, TF)):
        tensors = [module.tensor(a, requires_grad=np.asarray(a).dtype.kind == "f") for a in arrays]
        tensors += [module.tensor(a) for a in integers]
        out = call(functional, *tensors)
        seeds = np.random.default_rng(seed).uniform(0.5, 1.5, tuple(out.shape))
        out.backward(module.tensor(seeds, dtype=out.dtype))
        grads = [t.grad for t in tensors if t.requires_grad]
        results.append([out, *grads])
    for ours, theirs in zip(*results, strict=True):
        if theirs is None:
            assert ours is None
            continue
        expected = theirs.detach().numpy()
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    assert np.any(results[1][0].detach().numpy() != 0)


RNG = np.random.default_rng(5)
PAIRS = [(), (4,), (2, 3), (2, 0)]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_regression(name, shape, reduction):
    x, y = RNG.standard_normal(shape) * 2, RNG.standard_normal(shape)
    both(lambda f, a, b: getattr(f, name)(a, b, reduction=reduction), [x, y])


def test_regression_parameters_and_ties():
    x = np.array([0.0, 1.0, -1.0, 0.5, 3.0])
    y = np.zeros(5)
    both(lambda f, a, b: f.huber_loss(a, b, delta=0.5), [x, y])
    both(lambda f, a, b: f.smooth_l1_loss(a, b, beta=0.5), [x, y])
    both(lambda f, a, b: f.smooth_l1_loss(a, b, beta=0.0), [x, y])
    both(lambda f, a, b: f.l1_loss(a, b, reduction="sum"), [x, y])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary(reduction, weighted):
    p, t = RNG.uniform(0.05, 0.95, (3, 2)), RNG.uniform(0, 1, (3, 2))
    w = [RNG.uniform(0.5, 2, (3, 2))] if weighted else []

    def bce(f, x, y, *weight):
        return f.binary_cross_entropy(x, y, *[v.detach() for v in weight], reduction=reduction)

    def logits(f, x, y, *weight):
        weight = weight[0].detach() if weight else None
        return f.binary_cross_entropy_with_logits(x, y, weight, reduction=reduction)

    both(bce, [p, t, *w])
    both(logits, [np.log(p / (1 - p)), t, *w])
    both(logits, [np.array([800.0, -800.0, 0.0]), np.array([0.0, 1.0, 0.5])])


def test_binary_with_positive_weights():
    x, t, w = RNG.standard_normal((4, 3)), RNG.uniform(0, 1, (4, 3)), RNG.uniform(1, 3, 3)
    both(
        lambda f, a, b, c: f.binary_cross_entropy_with_logits(a, b, pos_weight=c.detach()),
        [x, t, w],
    )


SCORES = [((5,), ()), ((4, 5), (4,)), ((2, 5, 3), (2, 3)), ((2, 4, 3, 2), (2, 3, 2))]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"label_smoothing": 0.1},
        {"label_smoothing": 0.3, "reduction": "sum"},
        {"label_smoothing": 0.3, "reduction": "none"},
        {"ignore_index": 1},
        {"ignore_index": 1, "label_smoothing": 0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "target"), SCORES, ids=str)
def test_cross_entropy_of_classes(shape, target, weighted, options):
    classes = shape[0] if len(shape) == 1 else shape[1]
    x = RNG.standard_normal(shape) * 3
    t = RNG.integers(0, classes, target)
    if target:
        t.flat[0], t.flat[1] = 1, 0
    else:
        t = np.asarray(3)
    w = [RNG.uniform(0.5, 2, classes)] if weighted else []

    def call(f, scores, *rest):
        weight = rest[0].detach() if weighted else None
        return f.cross_entropy(scores, rest[-1], weight=weight, **options)

    both(call, [x, *w], [t])
    if "label_smoothing" not in options:

        def nll(f, scores, *rest):
            weight = rest[0].detach() if weighted else None
            logs = f.log_softmax(scores, 0 if len(shape) == 1 else 1)
            return f.nll_loss(logs, rest[-1], weight=weight, **options)

        both(nll, [x, *w], [t])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"label_smoothing": 0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 5, 3)])
def test_cross_entropy_of_probabilities(shape, weighted, options):
    dim = 0 if len(shape) == 1 else 1
    x, t = RNG.standard_normal(shape), RNG.uniform(0.1, 1, shape)
    t /= t.sum(dim, keepdims=True)
    w = [RNG.uniform(0.5, 2, shape[dim])] if weighted else []

    def call(f, scores, probabilities, *weight):
        weight = weight[0].detach() if weight else None
        return f.cross_entropy(scores, probabilities, weight=weight, **options)

    both(call, [x, t, *w])


def test_cross_entropy_of_large_scores_and_pending_targets():
    both(
        lambda f, x, t: f.cross_entropy(x, t),
        [np.array([[1e4, 0.0], [-1e4, 0.0]])],
        [np.array([1, 0])],
    )
    x = fg.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=fg.float64, requires_grad=True)
    pending = fg.tensor([0, -101]) + 1
    loss = F.cross_entropy(x, pending)
    expected = TF.cross_entropy(
        torch.tensor(x.tolist(), dtype=torch.float64), torch.tensor([1, -100])
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    labels, rows = fg.tensor([0, 5, 1]), fg.tensor([0, 2])
    assert F.cross_entropy(x, labels[rows]).item() == F.cross_entropy(x, fg.tensor([0, 1])).item()
    with pytest.raises(IndexError, match="Target 5"):
        F.cross_entropy(x, labels[fg.tensor([0, 1])])
    array = np.array([0, 1])
    shared = fg.from_numpy(array)
    F.cross_entropy(x, shared)
    array[0] = 7
    with pytest.raises(IndexError, match="Target 7"):
        F.cross_entropy(x, shared)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate):
    x = np.linspace(-6, 6, 25)
    both(lambda f, a: f.gelu(a, approximate=approximate), [x])


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape, bias):
    x, w = RNG.standard_normal(shape), RNG.standard_normal((2, 3))
    b = [RNG.standard_normal(2)] if bias else []
    both(lambda f, *a: f.linear(*a), [x, w, *b])


def test_dropout():
    fg.manual_seed(0)
    x = fg.ones(10_000, requires_grad=True)
    y = F.dropout(x, 0.25)
    values = y.detach().numpy()
    assert set(np.unique(values).tolist()) == {0.0, np.float32(4 / 3)}
    assert abs((values == 0).mean() - 0.25) < 0.02
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), values)
    assert F.dropout(x, 0.25, training=False) is x
    assert F.dropout(x, 1.0).abs().sum().item() == 0
    fg.manual_seed(0)
    assert np.array_equal(F.dropout(x, 0.25).detach().numpy(), values)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: F.cross_entropy(fg.zeros(2, 3), fg.tensor([0, 3])), IndexError, "Target 3"),
        (lambda: F.cross_entropy(fg.zeros(2, 3), fg.tensor([0, -1])), IndexError, "Target -1"),
        (lambda: F.cross_entropy(fg.zeros(2, 3), fg.tensor([0])), ValueError, "target size"),
        (lambda: F.cross_entropy(fg.zeros(2, 3), fg.zeros(2)), ValueError, "probabilities"),
        (lambda: F.cross_entropy(fg.zeros(2, 3), [0, 1]), TypeError, "target must be a Tensor"),
        (
            lambda: F.cross_entropy(fg.zeros(2, 3), fg.tensor([0, 1]), weight=fg.ones(2)),
            RuntimeError,
            "all 3 classes",
        ),
        (
            lambda: F.cross_entropy(fg.zeros(2, 3), fg.tensor([0, 1]), label_smoothing=2),
            RuntimeError,
            "label_smoothing",
        ),
        (lambda: F.nll_loss(fg.zeros(2, 3), fg.zeros(2)), RuntimeError, "integer classes"),
        (lambda: F.mse_loss(fg.zeros(2), fg.zeros(2), "avg"), ValueError, "reduction"),
        (lambda: F.huber_loss(fg.zeros(2), fg.zeros(2), delta=0), ValueError, "delta"),
        (lambda: F.binary_cross_entropy(fg.zeros(2), fg.zeros(3)), ValueError, "target size"),
        (lambda: F.linear(fg.zeros(2, 4), fg.zeros(5, 3)), RuntimeError, "last dimension"),
        (lambda: F.dropout(fg.zeros(2), 1.5), ValueError, "probability"),
        (lambda: F.gelu(fg.zeros(2), "erf"), RuntimeError, "approximate"),
        (lambda: fg.nn.MSELoss(reduction="avg"), ValueError, "reduction"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_broadcast_targets_warn():
    with pytest.warns(UserWarning, match="different to the input size"):
        F.mse_loss(fg.zeros(2, 1), fg.zeros(2))


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_classes_that_are_arguments_of_a_traced_function(name, rng):
    loss = getattr(fg.nn.functional, name)
    scores, classes = rng.normal(size=(6, 4)), np.array([0, 3, -100, 1, 2, 3])
    step = fg.jit(fg.value_and_grad(lambda x, y: loss(x, y)))
    value, grad = step(scores, classes)
    x = fg.tensor(scores, requires_grad=True)
    want = loss(x, fg.tensor(classes))
    np.testing.assert_allclose(value.item(), want.item(), rtol=1e-12)
    np.testing.assert_allclose(grad.numpy(), fg.autograd.grad(want, x)[0].numpy(), rtol=1e-12)
    for wrong in (4, -1):
        with pytest.raises(fg.errors.IndexingError, match="out of range for a dimension of size 4"):
            step(scores, np.array([0, 3, -100, 1, 2, wrong]))
