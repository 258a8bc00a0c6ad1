"""Attention, transformers and embeddings beside PyTorch's: names, values, gradients, wrong calls."""

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn

F = nn.functional
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")


def close(ours, theirs, atol=1e-5):
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-4, atol=atol)


def pair(make):
    """Our module and PyTorch's of one recipe, ours with the other's weights."""
    theirs, ours = make(torch.nn), make(nn)
    names = [(n, tuple(p.shape)) for n, p in theirs.named_parameters()]
    assert [(n, tuple(p.shape)) for n, p in ours.named_parameters()] == names
    ours.load_state_dict({k: fg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


def both(array, grad=False):
    return fg.tensor(array, requires_grad=grad), torch.tensor(array, requires_grad=grad)


def same_gradients(ours, theirs, found, wanted, *inputs):
    close(found, wanted)
    (found**2 + found**3).sum().backward()
    (wanted**2 + wanted**3).sum().backward()
    for a, b in inputs:
        close(a.grad, b.grad, 1e-4)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad, 1e-4)


# -- scaled_dot_product_attention -----------------------------------------------------------------


@pytest.mark.parametrize("compile", ["never", "always"])
@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "float", "scale", "gqa"])
def test_scaled_dot_product_attention(kind, compile, rng):
    heads = 2 if kind == "gqa" else 4
    arrays = [
        rng.standard_normal(s).astype(np.float32)
        for s in ((2, 4, 5, 3), (2, heads, 6, 3), (2, heads, 6, 7))
    ]
    given = [both(a, True) for a in arrays]
    options = {
        "plain": {},
        "causal": {"is_causal": True},
        "scale": {"scale": 0.3},
        "gqa": {"enable_gqa": True},
        "bool": {"attn_mask": rng.random((5, 6)) > 0.4},
        "float": {"attn_mask": rng.standard_normal((2, 1, 5, 6)).astype(np.float32)},
    }[kind]
    masks = {k: both(v) for k, v in options.items() if k == "attn_mask"}
    ours = options | {k: v[0] for k, v in masks.items()}
    theirs = options | {k: v[1] for k, v in masks.items()}
    with fg.set_compile(compile):
        found = F.scaled_dot_product_attention(*[a for a, _ in given], **ours)
        wanted = torch.nn.functional.scaled_dot_product_attention(*[b for _, b in given], **theirs)
        close(found, wanted)
        (found**2).sum().backward()
        (wanted**2).sum().backward()
        for a, b in given:
            close(a.grad, b.grad)


def test_a_row_that_sees_nothing_is_zero():
    x = fg.randn(2, 3, requires_grad=True)
    mask = fg.tensor([[True, False], [False, False]])
    found = F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
    np.testing.assert_array_equal(found.detach().numpy()[1], 0)
    found.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_dropout_of_weights(rng):
    q, k = fg.randn(4, 3), fg.randn(4, 3)
    v = fg.eye(4)
    plain = F.scaled_dot_product_attention(q, k, v).numpy()
    dropped = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5).numpy()
    kept = dropped != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-5)
    assert (F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).numpy() == 0).all()


# -- MultiheadAttention ---------------------------------------------------------------------------

LAYERS = [
    {},
    {"bias": False, "batch_first": True},
    {"kdim": 6, "vdim": 5},
    {"add_bias_kv": True, "add_zero_attn": True},
]


@pytest.mark.parametrize("options", LAYERS)
def test_multihead_attention(options, rng):
    ours, theirs = pair(lambda m: m.MultiheadAttention(8, 2, **options))
    first = options.get("batch_first", False)
    widths = (8, options.get("kdim", 8), options.get("vdim", 8))
    given = []
    for steps, width in zip((3, 4, 4), widths, strict=True):
        shape = (2, steps, width) if first else (steps, 2, width)
        given.append(both(rng.standard_normal(shape).astype(np.float32), True))
    masks = both(rng.random((3, 4)) > 0.7), both(np.array([[0, 0, 1, 0], [0, 0, 0, 1]], bool))
    a, b = ([x[k] for x in given] for k in (0, 1))
    for k, mask in enumerate((None, masks)):
        one, two = [{}, {}]
        if mask is not None:
            one, two = ({"attn_mask": masks[0][k], "key_padding_mask": masks[1][k]} for k in (0, 1))
        found, shown = ours(*a, **one)
        wanted, expected = theirs(*b, **two)
        close(shown, expected)
        close(
            ours(*a, average_attn_weights=False, **one)[1],
            theirs(*b, average_attn_weights=False, **two)[1],
        )
        assert ours(*a, need_weights=False)[1] is None
        if k == 0:
            same_gradients(ours, theirs, found, wanted, *given)
        else:
            close(found, wanted)


def test_attention_of_a_sequence_to_itself(rng):
    ours, theirs = pair(lambda m: m.MultiheadAttention(8, 2))
    x = both(rng.standard_normal((5, 8)).astype(np.float32), True)
    mask = fg.nn.causal_mask(5), torch.nn.Transformer.generate_square_subsequent_mask(5)
    close(*mask)
    found, shown = ours(x[0], x[0], x[0], attn_mask=mask[0], is_causal=True)
    wanted, expected = theirs(x[1], x[1], x[1], attn_mask=mask[1], is_causal=True)
    close(shown, expected)
    same_gradients(ours, theirs, found, wanted, x)
    heads = rng.standard_normal((2, 5, 5)).astype(np.float32)
    close(
        ours(x[0], x[0], x[0], attn_mask=fg.tensor(heads))[0],
        theirs(x[1], x[1], x[1], attn_mask=torch.tensor(heads))[0],
    )


def test_initial_weights():
    layer = nn.MultiheadAttention(64, 4)
    bound = math.sqrt(6 / (64 + 192))
    values = layer.in_proj_weight.detach().numpy()
    assert 0.95 * bound < abs(values).max() <= bound
    assert (layer.in_proj_bias.detach().numpy() == 0).all()
    assert (layer.out_proj.bias.detach().numpy() == 0).all()


# -- transformers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("compile", ["never", "always"])
@pytest.mark.parametrize("options", [{"activation": "gelu"}, {"norm_first": True, "bias": False}])
def test_encoder(options, compile, rng):
    def make(m):
        layer = m.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, **options)
        return m.TransformerEncoder(layer, 2, m.LayerNorm(8))

    ours, theirs = pair(make)
    x = both(rng.standard_normal((2, 5, 8)).astype(np.float32), True)
    with fg.set_compile(compile):
        found = ours(x[0], nn.causal_mask(5), is_causal=True)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
        same_gradients(ours, theirs, found, theirs(x[1], mask, is_causal=True), x)


def test_decoder(rng):
    def make(m):
        return m.TransformerDecoder(m.TransformerDecoderLayer(8, 2, 16, dropout=0.0), 2)

    ours, theirs = pair(make)
    x = both(rng.standard_normal((5, 2, 8)).astype(np.float32), True)
    memory = both(rng.standard_normal((3, 2, 8)).astype(np.float32), True)
    padding = both(np.array([[False, False, True], [False, False, False]]))
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    found = ours(x[0], memory[0], nn.causal_mask(5), memory_key_padding_mask=padding[0])
    wanted = theirs(x[1], memory[1], mask, memory_key_padding_mask=padding[1])
    same_gradients(ours, theirs, found, wanted, x, memory)


def test_training_is_pytorchs(rng):
    def make(m):
        layer = m.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        return m.Sequential(m.Embedding(5, 8), m.TransformerEncoder(layer, 1), m.Linear(8, 5))

    ours, theirs = pair(make)
    text = rng.integers(0, 5, (3, 6))
    opt = fg.optim.Adam(ours.parameters(), lr=0.01)
    other = torch.optim.Adam(theirs.parameters(), lr=0.01)
    for _ in range(4):
        opt.zero_grad()
        other.zero_grad()
        loss = F.cross_entropy(ours(fg.tensor(text)).reshape(-1, 5), fg.tensor(text).reshape(-1))
        scores = theirs(torch.tensor(text)).reshape(-1, 5)
        wanted = torch.nn.functional.cross_entropy(scores, torch.tensor(text).reshape(-1))
        loss.backward()
        wanted.backward()
        opt.step()
        other.step()
        np.testing.assert_allclose(loss.item(), wanted.item(), rtol=1e-4)


def test_layers_of_a_stack_have_weights_of_their_own():
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    with fg.no_grad():
        stack.layers[0].linear1.weight.fill_(0.0)
    assert abs(stack.layers[1].linear1.weight.detach().numpy()).max() > 0


def test_dropout_in_training_only():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5)
    x = fg.randn(5, 2, 8)
    assert not np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())
    layer.eval()
    assert np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())


# -- Embedding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding_idx": 1},
        {"padding_idx": -1, "scale_grad_by_freq": True},
        {"max_norm": 0.5},
        {"max_norm": 1.0, "norm_type": 1.0},
    ],
)
def test_embedding(options, rng):
    ours, theirs = pair(lambda m: m.Embedding(6, 3, **options))
    assert repr(ours) == repr(theirs)
    index = np.array([[0, 1, 5], [1, 1, 3]])
    found, wanted = ours(fg.tensor(index)), theirs(torch.tensor(index))
    close(ours.weight, theirs.weight)
    same_gradients(ours, theirs, found, wanted)
    assert ours(fg.tensor(2)).shape == (3,)


def test_embedding_starts_normal_and_from_a_table():
    values = nn.Embedding(100, 50, padding_idx=3).weight.detach().numpy()
    assert (values[3] == 0).all()
    assert abs(np.delete(values, 3, 0).std() - 1) < 0.05
    table = fg.randn(4, 2)
    given = nn.Embedding.from_pretrained(table)
    assert not given.weight.requires_grad
    np.testing.assert_array_equal(given(fg.tensor([2])).numpy()[0], table.numpy()[2])
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad


x = fg.ones(2, 3, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: F.scaled_dot_product_attention(x, x[..., :2], x), "required"),
        (lambda: F.scaled_dot_product_attention(x, x, x[:, :2]), "required"),
        (lambda: F.scaled_dot_product_attention(x, x, x.double()), "one dtype"),
        (lambda: F.scaled_dot_product_attention(x, x, x, fg.ones(3, 3), is_causal=True), "causal"),
        (lambda: F.scaled_dot_product_attention(x, x, x, fg.ones(3, 3).long()), "attn_mask"),
        (lambda: F.scaled_dot_product_attention(x, x, x, dropout_p=2), "dropout_p"),
        (lambda: F.scaled_dot_product_attention(x, x[:0], x[:0], enable_gqa=True), "heads"),
        (lambda: nn.MultiheadAttention(5, 2), "divisible"),
        (lambda: nn.MultiheadAttention(4, 2)(x, x, x, is_causal=True), "is_causal"),
        (lambda: nn.MultiheadAttention(4, 2)(x, x, x[:1]), "same steps"),
        (lambda: nn.MultiheadAttention(6, 2)(x, x, x), "last dimensions"),
        (lambda: nn.MultiheadAttention(4, 2)(x, x[0], x), "dimensions"),
        (lambda: nn.MultiheadAttention(4, 2)(x, x, x, attn_mask=fg.ones(3, 3)), "attn_mask"),
        (lambda: nn.MultiheadAttention(4, 2)(x, x, x, fg.ones(2, 3)), "key_padding_mask"),
        (lambda: nn.MultiheadAttention(4, 2)(x, x, x, fg.ones(3, 2).long()), "bool or"),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="sin"), "activation"),
        (lambda: nn.Embedding(3, 4)(fg.tensor([3])).tolist(), "out of bounds"),
        (lambda: nn.Embedding(3, 4)(fg.tensor([1.0])), "int32 or int64"),
        (lambda: nn.Embedding(3, 4, padding_idx=3), "padding_idx"),
        (lambda: nn.Embedding(3, 4, sparse=True), "sparse"),
        (lambda: F.embedding(fg.tensor([1]), fg.ones(3)), "2-D"),
    ],
)
def test_wrong_calls(call, words):
    with pytest.raises(fg.errors.FlatgradError) as e:
        call()
    assert e.match(words)
