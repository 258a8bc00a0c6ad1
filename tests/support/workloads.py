"""The programs that exported C is judged by: each a function, example arguments, and what it may write over.

``WORKLOADS`` names them; ``workload(name)`` makes one. Everything is seeded, and nothing is built, nor
NumPy-heavy or slow to import, until it is asked for.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import flatgrad as fg
from flatgrad.func.tree import flatten

__all__ = [
    "SMALL",
    "WORKLOADS",
    "Workload",
    "assert_near",
    "interpreted",
    "moved",
    "workload",
]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Workload:
    """What ``fg.export(function, *example, name=name, donate_argnums=donate_argnums)`` takes.

    Attributes
    ----------
    name : str
        A C identifier.
    function : callable
        Of trees of tensors.
    example : tuple
        Its arguments: trees of arrays of `dtype` (labels are int64). Copy what is donated before a call.
    donate_argnums : tuple of int
        Arguments that results are written over.
    dtype : dtype
    """

    name: str
    function: Callable
    example: tuple
    donate_argnums: tuple[int, ...]
    dtype: np.dtype


# What docs/export.md says of C, and what holds for Numba: ulps of each result's largest element, and so many
# times what the result changes by when every argument moves by an ulp.
ULPS, CONDITION = 64, 16


def interpreted(it: Workload, example=None) -> list[np.ndarray]:
    """Every result's leaves, node by node in NumPy."""
    with fg.set_compile("never"):
        result = fg.jit(it.function)(*(it.example if example is None else example))
        return [np.asarray(t.tolist(), it.dtype) for t in flatten(result)[0]]


def moved(tree):
    """Every number an ulp away, up and down in turn."""
    if isinstance(tree, dict):
        return {k: moved(v) for k, v in tree.items()}
    if isinstance(tree, tuple):
        return tuple(moved(v) for v in tree)
    if tree.dtype.kind != "f":
        return tree
    way = np.where(np.arange(tree.size) % 2, np.inf, -np.inf).reshape(tree.shape)
    return np.nextafter(tree, way.astype(tree.dtype))


def assert_near(found, it: Workload) -> None:
    """Results of `it` for its example are the interpreter's, within what the documentation says."""
    expected, near = interpreted(it), interpreted(it, moved(it.example))
    for k, (a, b, c) in enumerate(zip(found, expected, near, strict=True)):
        # A zero that must not be negative (a mean of squares) makes NaN of the change.
        change = np.nan_to_num(np.abs(b - c), nan=0.0).max()
        allowed = ULPS * np.finfo(b.dtype).eps * np.abs(b).max() + CONDITION * change
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=allowed, err_msg=f"result {k}")


def workload(name: str) -> Workload:
    """The workload of this name, made once."""
    return _made(name)


@functools.cache
def _made(name: str) -> Workload:
    make, dtype = WORKLOADS[name]
    dtype = np.dtype(dtype)
    function, example, donated = make(dtype)
    return Workload(name, function, example, donated, dtype)


@functools.cache
def _example(name: str, dtype: np.dtype):
    """A module of examples/, a copy of its own with its constant arrays in `dtype`."""
    spec = importlib.util.spec_from_file_location(
        f"flatgrad_example_{name}_{dtype}", EXAMPLES / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for key, value in vars(module).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            setattr(module, key, value.astype(dtype))
    return module


# -- formulas -------------------------------------------------------------------------------------


def rosenbrock(x):
    """The valley of Rosenbrock, of any number of variables."""
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def _rosenbrock(count: int):
    """Value and gradient at a point in the valley's side."""

    def make(dtype):
        x = np.random.default_rng(1).uniform(-1.5, 1.5, count).astype(dtype)
        return fg.value_and_grad(rosenbrock), (x,), ()

    return make


def _ekf(dtype):
    """A step of examples/ekf.py: 5 states, 6 measurements, one after the other."""
    ekf = _example("ekf", dtype)
    measured = np.array([13.0, 11.0, 17.0, 1.0, -2.0, 1.5], dtype)
    return ekf.filter_step, (ekf.START, ekf.SPREAD, measured), ()


def _mpc(dtype):
    """The cost of examples/mpc.py's cart and pole over its horizon, and the gradient by all forces."""
    cartpole = _example("cartpole", dtype)
    step = cartpole.step_of(cartpole.acceleration)

    def cost(forces, start):
        def advance(state, force):
            left = cartpole.residual(state, force)
            return step(state, force), (left * left).sum()

        last, spent = fg.scan(advance, start, forces)
        left = cartpole.residual(last, fg.zeros(1, dtype=last.dtype))
        return spent.sum() + cartpole.LAST * (left * left).sum()

    forces = np.random.default_rng(2).normal(size=(cartpole.HORIZON, 1)).astype(dtype)
    return fg.value_and_grad(cost), (forces, np.array([0.2, 0.3, 0.0, 0.1], dtype)), ()


def _simulation(dtype):
    """A damped, driven pendulum in 1,000 steps of a scan: squared error at every step, and its gradient
    by the four physical parameters and the start."""
    steps, h = 1000, 0.01

    def loss(parameters, start, force):
        gravity, damping, drive, target = parameters

        def advance(state, u):
            angle, speed = state
            speed = speed + h * (drive * u - gravity * fg.sin(angle) - damping * speed)
            angle = angle + h * speed
            return fg.stack([angle, speed]), (angle - target) ** 2

        _, errors = fg.scan(advance, start, force)
        return errors.mean()

    force = np.sin(0.02 * np.arange(steps)).astype(dtype)
    parameters = np.array([9.81, 0.4, 2.0, 0.1], dtype)
    gradient = fg.value_and_grad(loss, argnums=(0, 1))
    return gradient, (parameters, np.array([0.5, 0.0], dtype), force), ()


# -- networks -------------------------------------------------------------------------------------


def _parameters(model, dtype) -> dict[str, np.ndarray]:
    """Seeded values for a model's parameters, as large as PyTorch's."""
    rng = np.random.default_rng(3)
    found = {}
    for key, p in model.named_parameters():
        fan = int(np.prod(p.shape[1:])) or 1
        bound = fan**-0.5 if len(p.shape) > 1 else 0.1
        found[key] = rng.uniform(-bound, bound, tuple(p.shape)).astype(dtype)
    return found


def _loss(model, parameters, x, y):
    return fg.nn.functional.cross_entropy(fg.func.functional_call(model, parameters, (x,)), y)


def _digits(dtype):
    """A training step of the network of examples/digits.py with AdamW: parameters, (count, means, squares)
    and a batch of 64 give the loss and the new parameters and state. The images are random, of 17 levels."""
    nn = fg.nn
    model = nn.Sequential(
        *(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    )
    rate, decay, first, second = 5e-3, 1e-2, 0.9, 0.999

    def step(parameters, state, images, labels):
        value, slope = fg.value_and_grad(lambda p: _loss(model, p, images, labels))(parameters)
        count, means, squares = state
        count = count + 1
        means = {k: first * m + (1 - first) * slope[k] for k, m in means.items()}
        squares = {k: second * s + (1 - second) * slope[k] ** 2 for k, s in squares.items()}
        size, scale = rate / (1 - first**count), (1 - second**count) ** -0.5
        new = {
            k: p * (1 - rate * decay) - size * means[k] / (squares[k].sqrt() * scale + 1e-8)
            for k, p in parameters.items()
        }
        return value, new, (count, means, squares)

    parameters = _parameters(model, dtype)
    rng = np.random.default_rng(4)
    images = (rng.integers(0, 17, (64, 64)) / 16).astype(dtype)
    zeros = [{k: np.zeros_like(a) for k, a in parameters.items()} for _ in range(2)]
    state = (np.zeros((), dtype), *zeros)
    return step, (parameters, state, images, rng.integers(0, 10, 64)), (0, 1)


def _cnn(dtype):
    """A training step, SGD with momentum, of a convolutional network that a microcontroller can hold: a
    batch of 4 images of 8 x 8."""
    nn = fg.nn
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))
    )

    def step(parameters, velocity, images, labels):
        value, slope = fg.value_and_grad(lambda p: _loss(model, p, images, labels))(parameters)
        velocity = {k: 0.9 * v + slope[k] for k, v in velocity.items()}
        return value, {k: p - 0.05 * velocity[k] for k, p in parameters.items()}, velocity

    parameters = _parameters(model, dtype)
    rng = np.random.default_rng(5)
    velocity = {k: np.zeros_like(a) for k, a in parameters.items()}
    images = rng.standard_normal((4, 1, 8, 8)).astype(dtype)
    return step, (parameters, velocity, images, rng.integers(0, 10, 4)), (0, 1)


def _lstm(dtype):
    """Inference, weights being constants: 20 steps of 8 features, an LSTM of width 32, a layer of 4."""
    nn = fg.nn

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(8, 32)
            self.out = nn.Linear(32, 4)

        def forward(self, x):
            return self.out(self.lstm(x)[0][-1])

    model = Classifier()
    weights = {k: fg.tensor(a) for k, a in _parameters(model, dtype).items()}
    x = np.random.default_rng(6).standard_normal((20, 1, 8)).astype(dtype)
    return lambda x: fg.func.functional_call(model, weights, (x,)), (x,), ()


# {name: (what makes it, dtype)}. The doubles are what desktops are compared with; the floats are for
# microcontrollers, which have no doubles in hardware.
WORKLOADS = {
    "rosenbrock": (_rosenbrock(10), "float64"),
    "rosenbrock_f32": (_rosenbrock(10), "float32"),
    "rosenbrock_2": (_rosenbrock(2), "float64"),
    "ekf": (_ekf, "float64"),
    "ekf_f32": (_ekf, "float32"),
    "mpc": (_mpc, "float64"),
    "mpc_f32": (_mpc, "float32"),
    "digits": (_digits, "float32"),
    "cnn": (_cnn, "float32"),
    "lstm": (_lstm, "float32"),
    "scan": (_simulation, "float64"),
    "scan_f32": (_simulation, "float32"),
}
SMALL = ("rosenbrock_f32", "ekf_f32", "mpc_f32", "cnn", "lstm")  # fit a microcontroller's RAM
