"""autograd.functional beside PyTorch's: tuples of inputs and outputs, options, errors."""

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.autograd import functional as ours

DATA = np.array([0.5, -1.25, 2.0])
OTHER = np.array([1.5, 0.75])


def tensors(lib, *arrays):
    made = tuple(lib.tensor(np.array(a, float)) for a in arrays)
    return made if len(made) > 1 else made[0]


def flat(result):
    if isinstance(result, (tuple, list)):
        return [x for r in result for x in flat(r)]
    return [result.detach().numpy()]


def same(name, function, arrays, v=None, **options):
    """Our result equals PyTorch's, in structure and values; ours is returned."""
    torch = pytest.importorskip("torch")
    theirs = torch.autograd.functional
    results = []
    for lib, module in ((torch, theirs), (fg, ours)):
        extra = () if v is None else (tensors(lib, *v),)
        results.append(
            getattr(module, name)(
                lambda *a, lib=lib: function(lib, *a), tensors(lib, *arrays), *extra, **options
            )
        )
    expected, got = map(flat, results)
    assert len(expected) == len(got)
    assert max(np.abs(e).max() for e in expected) > 0
    for e, g in zip(expected, got, strict=True):
        assert e.shape == g.shape
        np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-14)
    return results[1]


def one(lib, x):
    return x.exp() * x.sum()


def scalar(lib, x):
    return (x.exp() * x.sin()).sum()


def two(lib, x, y):
    return x * y.sum(), (x * x).sum() * y


def scalar_of_two(lib, x, y):
    return (x * x).sum() * (y * y).sum()


def ignoring(lib, x, y):
    return x * x


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
@pytest.mark.parametrize(
    ("function", "arrays"),
    [(one, [DATA]), (two, [DATA, OTHER]), (scalar, [DATA]), (ignoring, [DATA, OTHER])],
)
def test_jacobians(function, arrays, strategy):
    same("jacobian", function, arrays, strategy=strategy, vectorize=True)


def test_the_jacobian_of_an_empty_tensor_has_its_shape():
    j = ours.jacobian(lambda x: x * 2, fg.tensor(np.zeros(0)))
    assert tuple(j.shape) == (0, 0)


@pytest.mark.parametrize("outer", ["reverse-mode", "forward-mode"])
@pytest.mark.parametrize(("function", "arrays"), [(scalar, [DATA]), (scalar_of_two, [DATA, OTHER])])
def test_hessians(function, arrays, outer):
    same("hessian", function, arrays, outer_jacobian_strategy=outer, vectorize=True)


def test_vector_products():
    same("vjp", one, [DATA], [[1.0, 2.0, 3.0]])
    same("vjp", two, [DATA, OTHER], [[1.0, 2.0, 3.0], [0.5, -1.0]])
    same("vjp", scalar, [DATA])
    same("jvp", one, [DATA], [[1.0, 2.0, 3.0]])
    same("jvp", two, [DATA, OTHER], [[1.0, 2.0, 3.0], [0.5, -1.0]])
    same("hvp", scalar, [DATA], [[1.0, 2.0, 3.0]])
    same("hvp", scalar_of_two, [DATA, OTHER], [[1.0, 2.0, 3.0], [0.5, -1.0]])
    same("vhp", scalar, [DATA], [[1.0, 2.0, 3.0]])
    same("vhp", scalar_of_two, [DATA, OTHER], [[1.0, 2.0, 3.0], [0.5, -1.0]])


@pytest.mark.parametrize("name", ["vjp", "jvp", "hvp", "vhp", "jacobian", "hessian"])
def test_results_are_differentiable_on_request(name):
    function = scalar if name in ("hvp", "vhp", "hessian") else one
    v = [] if name in ("jacobian", "hessian") else [fg.tensor([1.0, 2.0, 3.0], dtype=fg.float64)]
    x = fg.tensor(DATA, requires_grad=True)
    call = lambda x, **o: getattr(ours, name)(lambda a: function(fg, a), x, *v, **o)  # noqa: E731
    last = call(x)[-1] if v else call(x)
    assert not last.requires_grad

    def derivative(x):
        result = call(x, create_graph=True)
        return result[-1] if v else result

    assert fg.autograd.gradcheck(derivative, x, rtol=1e-4)


def test_results_without_create_graph_are_cut_off():
    x = fg.tensor(DATA, requires_grad=True)
    outputs, product = ours.vjp(lambda x: x * x, x, fg.tensor(DATA))
    assert not outputs.requires_grad
    assert not product.requires_grad
    assert x.grad is None


BAD = {
    "strict output": ("jacobian", lambda lib, x: x.detach(), {"strict": True}, ()),
    "strict input": (
        "jacobian",
        lambda lib, x: lib.tensor(OTHER, requires_grad=True) * 2,
        {"strict": True},
        (),
    ),
    "strict vjp": (
        "vjp",
        lambda lib, x: lib.tensor(OTHER, requires_grad=True).sum(),
        {"strict": True},
        (),
    ),
    "strict hessian": ("hessian", lambda lib, x: x.sum(), {"strict": True}, ()),
    "number": ("jacobian", lambda lib, x: 3, {}, ()),
    "not scalar": ("hessian", lambda lib, x: x * 2, {}, ()),
    "tuple": ("hvp", lambda lib, x: (x.sum(), x.sum()), {}, (DATA,)),
    "v missing": ("vjp", lambda lib, x: x * 2, {}, ()),
    "v missing jvp": ("jvp", lambda lib, x: x * 2, {}, ()),
    "v shape": ("vjp", lambda lib, x: x * 2, {}, (OTHER,)),
    "v shape jvp": ("jvp", lambda lib, x: x * 2, {}, (OTHER,)),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_torchs(name):
    torch = pytest.importorskip("torch")
    method, function, options, v = BAD[name]
    with pytest.raises(Exception) as theirs:
        getattr(torch.autograd.functional, method)(
            lambda x: function(torch, x),
            tensors(torch, DATA),
            *[tensors(torch, a) for a in v],
            **options,
        )
    with pytest.raises(type(theirs.value)) as caught:
        getattr(ours, method)(
            lambda x: function(fg, x), tensors(fg, DATA), *[tensors(fg, a) for a in v], **options
        )
    assert isinstance(caught.value, fg.errors.FlatgradError)
    assert str(caught.value).startswith(method) or method == "hessian"


def test_errors_of_arguments():
    with pytest.raises(ValueError, match="strategy"):
        ours.jacobian(lambda x: x, fg.tensor(DATA), strategy="sideways")
    with pytest.raises(TypeError, match="given inputs at index 1 has type int"):
        ours.jvp(lambda x, y: x, (fg.tensor(DATA), 3), fg.tensor(DATA))
