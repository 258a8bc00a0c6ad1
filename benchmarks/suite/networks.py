"""The networks whose training steps are measured: written once for flatgrad and PyTorch, a batch for each."""

from dataclasses import dataclass

import numpy as np

CHARACTERS, LENGTH, WIDTH = 65, 64, 64


def mlp(nn):
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def lenet(nn):
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def separable(nn):
    """A depthwise-separable network (Howard et al. 2017), small."""

    def block(width, out, stride):
        depthwise = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width)
        return depthwise, nn.ReLU(), nn.Conv2d(width, out, 1), nn.ReLU()

    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()),
        *(*block(16, 32, 2), *block(32, 64, 2), *block(64, 64, 1)),
        *(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10)),
    )


def lstm(nn):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(64, 64)
            self.out = nn.Linear(64, 10)

        def forward(self, x):
            return self.out(self.lstm(x)[0][-1])

    return Classifier()


def transformer(nn):
    """A block of a character-level transformer between its tables and its scores."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(CHARACTERS, WIDTH)
            self.positions = nn.Parameter(nn.Embedding(LENGTH, WIDTH).weight.detach())
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
            self.out = nn.Linear(WIDTH, CHARACTERS)

        def forward(self, text):
            x = self.table(text) + self.positions
            x = x + self.attention(self.norm1(x))
            x = x + self.narrow(nn.functional.relu(self.wide(self.norm2(x))))
            return self.out(x).reshape(-1, CHARACTERS)

        def attention(self, x):
            batch = x.shape[0]
            heads = [
                t.reshape(batch, LENGTH, 4, 16).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)
            ]
            y = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
            return self.mix(y.transpose(1, 2).reshape(batch, LENGTH, WIDTH))

    return Block()


@dataclass(frozen=True)
class Network:
    """`batch` gives the inputs and the classes of one step."""

    title: str
    make: object
    shape: tuple
    classes: int = 10

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(3)
        if self.classes == CHARACTERS:
            text = rng.integers(0, CHARACTERS, (self.shape[0], LENGTH + 1))
            return text[:, :-1].copy(), text[:, 1:].reshape(-1).copy()
        x = rng.standard_normal(self.shape).astype(np.float32)
        count = self.shape[1] if self.make is lstm else self.shape[0]
        return x, rng.integers(0, self.classes, count)


NETWORKS = {
    "mlp": Network("MLP 784-128-10, batch 32", mlp, (32, 784)),
    "lenet": Network("LeNet at 32x32, batch 32", lenet, (32, 1, 32, 32)),
    "separable": Network("depthwise-separable CNN at 32x32, batch 32", separable, (32, 3, 32, 32)),
    "lstm": Network("LSTM, T=50, h=64, batch 16", lstm, (50, 16, 64)),
    "transformer": Network(
        "character transformer block, d=64, T=64, 4 heads, batch 8", transformer, (8,), CHARACTERS
    ),
}
OPTIMIZERS = {"SGD": 0.05, "Adam": 1e-3}


def compiled_step(fg, model, optimizer: str):
    """``step(parameters, state, x, y)``: loss and new values; Adam's state is (count, means, squares)."""
    rate = OPTIMIZERS[optimizer]

    def step(parameters, state, x, y):
        def loss(p):
            return fg.nn.functional.cross_entropy(fg.func.functional_call(model, p, (x,)), y)

        value, grads = fg.value_and_grad(loss)(parameters)
        if optimizer == "SGD":
            return value, {k: p - rate * grads[k] for k, p in parameters.items()}, state
        count, means, squares = state
        count = count + 1
        means = {k: m + 0.1 * (grads[k] - m) for k, m in means.items()}
        squares = {k: 0.999 * s + 0.001 * grads[k] ** 2 for k, s in squares.items()}
        size, scale = rate / (1 - 0.9**count), (1 - 0.999**count) ** -0.5
        new = {
            k: p - size * (means[k] / (squares[k].sqrt() * scale + 1e-8))
            for k, p in parameters.items()
        }
        return value, new, (count, means, squares)

    return step


def first_state(arrays: dict, optimizer: str):
    if optimizer == "SGD":
        return ()
    zeros = [{k: np.zeros_like(a) for k, a in arrays.items()} for _ in range(2)]
    return (np.float32(0), *zeros)
