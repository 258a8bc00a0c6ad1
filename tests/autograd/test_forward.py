"""Forward mode, rules derived by transposition, and sub-graphs as operations."""

import dataclasses

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import GradientError
from flatgrad.graph.op import REGISTRY
from flatgrad.tensor import node_of, record, wrap
from flatgrad.transform.call import CALL, call, inline, trace
from flatgrad.transform.pullback import pullback, saves
from flatgrad.transform.pushforward import pushforward

DATA = np.array([0.5, -1.25, 2.0])


def leaf(values=DATA):
    return fg.tensor(np.array(values, float), requires_grad=True)


def forward(function, *pairs):
    """The tangent of ``function(*x)`` for pairs (x, tangent)."""
    inputs = [leaf(x) for x, _ in pairs]
    tangents = [None if t is None else fg.tensor(np.array(t, float)) for _, t in pairs]
    out = function(*inputs)
    (found,) = pushforward([node_of(out)], [node_of(x) for x in inputs], tangents)
    return None if found is None else found.detach().numpy()


def test_tangents_match_torchs_jvp():
    torch = pytest.importorskip("torch")

    def function(x, y):
        return (x * y.exp()).sum() * x.sin()

    t = ([1.0, 2.0, 3.0], [0.5, -0.5, 0.25])
    inputs = tuple(torch.tensor(DATA + k) for k in range(2))
    _, theirs = torch.func.jvp(
        function, inputs, tuple(torch.tensor(v, dtype=torch.float64) for v in t)
    )
    ours = forward(function, (DATA, t[0]), (DATA + 1, t[1]))
    assert np.abs(theirs.numpy()).min() > 0.01
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)


def test_no_tangent_is_none_and_inputs_need_no_grad():
    assert forward(lambda x, y: x * 2, (DATA, None), (DATA, DATA)) is None
    x = fg.tensor(DATA)
    y = x * x
    (t,) = pushforward([node_of(y)], [node_of(x)], [fg.tensor(DATA)])
    np.testing.assert_allclose(t.numpy(), 2 * DATA * DATA)


@pytest.mark.parametrize("name", ["exp", "mul", "where", "contract", "reduce_sum", "slice"])
def test_forward_mode_derived_from_the_pullback(name):
    op = dataclasses.replace(REGISTRY[name], pushforward=None)
    calls = {
        "exp": (lambda op, x: record(op, (x,)), DATA),
        "mul": (lambda op, x: record(op, (x, x)), DATA),
        "where": (lambda op, x: record(op, (fg.tensor([True, False, True]), x, x * 3)), DATA),
        "contract": (
            lambda op, x: record(op, (x, x), ((0, 1), (1, 2), (0, 2))),
            np.outer(DATA, DATA),
        ),
        "reduce_sum": (lambda op, x: record(op, (x,), ((0,),)), DATA),
        "slice": (lambda op, x: record(op, (x,), ((1,), (1,), (2,))), DATA),
    }
    function, x = calls[name]
    t = np.ones_like(x) + x
    derived = forward(lambda x: function(op, x), (x, t))
    own = forward(lambda x: function(REGISTRY[name], x), (x, t))
    assert np.abs(own).max() > 0
    np.testing.assert_allclose(derived, own, rtol=1e-14)


def test_derived_forward_mode_can_be_differentiated():
    op = dataclasses.replace(REGISTRY["exp"], pushforward=None)
    x = leaf()
    y = record(op, (x,))
    (t,) = pushforward([node_of(y)], [node_of(x)], [fg.tensor(DATA)])
    (g,) = fg.autograd.grad(t.sum(), x)
    np.testing.assert_allclose(g.numpy(), np.exp(DATA) * DATA)


def test_an_op_without_any_rule_says_so():
    op = dataclasses.replace(REGISTRY["exp"], pushforward=None, pullback=None)
    x = leaf()
    y = record(op, (x,))
    with pytest.raises(GradientError, match="exp has no derivative"):
        pushforward([node_of(y)], [node_of(x)], [fg.tensor(DATA)])
    with pytest.raises(GradientError, match="exp has no derivative"):
        y.sum().backward()


def test_long_chains_go_forward_too():
    x = fg.tensor([1.0], dtype=fg.float64, requires_grad=True)
    y = x
    for _ in range(5_000):
        y = y * 1.001
    (t,) = pushforward([node_of(y)], [node_of(x)], [fg.tensor([1.0], dtype=fg.float64)])
    assert t.item() == pytest.approx(1.001**5000, rel=1e-9)


# -- calls ----------------------------------------------------------------------------------------


def _traced(*arrays):
    outside = leaf([2.0, 3.0, 4.0])

    def function(x, y):
        return (x * y).exp() * outside, (x * 3).sum()

    nodes = [node_of(fg.tensor(np.array(a, float))) for a in arrays]
    return (*trace(function, nodes), outside)


def test_a_traced_function_captures_what_it_uses_from_outside():
    graph, captured, outside = _traced(DATA, DATA)
    assert captured == [node_of(outside)]
    assert len(graph.inputs) == 3
    kinds = {n.op.name for n in graph.order if not n.inputs}
    assert kinds <= {"input", "const"}


def test_calls_have_the_functions_values_and_derivatives():
    graph, _, outside = _traced(DATA, DATA)

    def called(x, y, o):
        a, b = call(graph, (x, y, o))
        return a.sum() * b

    def plain(x, y, o):
        return ((x * y).exp() * o).sum() * (x * 3).sum()

    inputs = [leaf(DATA), leaf(DATA + 0.5), leaf([2.0, 3.0, 4.0])]
    results = []
    for f in (called, plain):
        y = f(*inputs)
        first = fg.autograd.grad(y, inputs, create_graph=True)
        second = fg.autograd.grad(sum(g.sum() for g in first), inputs)
        tangents = pushforward([node_of(y)], [node_of(inputs[0])], [fg.tensor(np.ones(3))])
        results.append([t.detach().numpy() for t in (y, *first, *second, *tangents)])
    for a, b in zip(*results, strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert node_of(call(graph, (inputs[0], inputs[1], outside))[0]).inputs[0].op is CALL


def test_a_call_without_cotangent_for_an_output():
    graph, _, outside = _traced(DATA, DATA)
    x, y = leaf(), leaf()
    _, total = call(graph, (x, y, outside))
    gx, gy = fg.autograd.grad(total, [x, y], allow_unused=True)
    assert gx.numpy().tolist() == [3.0, 3.0, 3.0]
    assert gy is None


def test_inlining_opens_nested_calls():
    inner, _, outside = _traced(DATA, DATA)
    nodes = [node_of(t) for t in (leaf(), leaf(), outside)]
    outer, captured = trace(lambda x, y, o: (call(inner, (x, y, o))[0] * 2,), nodes)
    assert not captured
    (result,) = inline(outer, nodes)
    seen, stack = set(), [result]
    while stack:
        node = stack.pop()
        seen.add(node.op.name)
        stack.extend(node.inputs)
    assert "call" not in seen
    assert "proj" not in seen
    (called,) = call(outer, [fg.tensor(n.value) for n in nodes])
    np.testing.assert_array_equal(wrap(result).detach().numpy(), called.numpy())


def test_which_values_a_rule_saves():
    x, y = leaf(), leaf([1.0, 2.0, 3.0])
    z = node_of(x * y)
    assert saves(z.op, z.inputs, ()) == [node_of(x), node_of(y)]
    z = node_of(x + y)
    assert saves(z.op, z.inputs, ()) == []
    assert pullback([z], [node_of(x)], [None]) == [None]
