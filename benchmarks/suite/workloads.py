"""The computations that several suites measure."""

import numpy as np

import flatgrad as fg

NAMES = ("chain", "logistic", "network", "logsumexp")


def inputs(name: str) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    shapes = {
        "chain": [(100_000,)],
        "logistic": [(20,), (500, 20), (500,)],
        "network": [(64, 128), (128, 64), (64, 10), (64, 64)],
        "logsumexp": [(100_000,)],
    }[name]
    return [0.2 * rng.standard_normal(s).astype(np.float32) for s in shapes]


def value(name: str, *arguments):
    """A scalar of tensors, the first of which is differentiated."""
    if name == "chain":
        return arguments[0].sin().exp().tanh().cos().exp().sum()
    if name == "logistic":
        w, x, y = arguments
        return (-(x @ w) * y).exp().log1p().mean()
    if name == "network":
        w1, w2, w3, x = arguments
        return (((x @ w1).tanh() @ w2).tanh() @ w3).square().mean()
    return fg.logsumexp(arguments[0], 0)


def prepared(name: str, compile: str):
    """Tensors of the workload, with its programs compiled or not."""
    fg.set_compile(compile)
    tensors = [fg.from_numpy(a.copy()) for a in inputs(name)]
    tensors[0].requires_grad_()
    for _ in range(3):
        forward(name, tensors)
        backward(name, tensors)
    return tensors


def forward(name: str, tensors) -> float:
    with fg.no_grad():
        return value(name, *tensors).item()


def backward(name: str, tensors):
    return fg.autograd.grad(value(name, *tensors), tensors[0])[0].numpy()
