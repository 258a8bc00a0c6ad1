"""First steps: derivatives by ``backward`` and by ``autograd.grad``, NumPy, and a model's weights.

Run it with ``python examples/first_steps.py``. What each line prints stands beside or below it.
"""

import numpy as np

import flatgrad as fg
from flatgrad.autograd import Variable


def gradient_by_backward():
    """The slope of x**2 + 3 x + 1 at 2 is 2 * 2 + 3."""
    x = fg.tensor([2.0], requires_grad=True)
    y = x**2 + 3 * x + 1
    y.backward()
    print(y)  # tensor([11.], grad_fn=<AddBackward0>)
    print(x.grad)  # tensor([7.])


def gradient_by_grad():
    """The same without touching ``x.grad``; and the derivative of the derivative."""
    x = fg.tensor([2.0], requires_grad=True)
    y = x**2 + 3 * x + 1
    print(fg.autograd.grad(y, x))  # (tensor([7.]),)
    y = x**2 + 3 * x + 1
    (slope,) = fg.autograd.grad(y, x, create_graph=True)
    print(fg.autograd.grad(slope, x))  # (tensor([2.]),)


def tensors_from_numpy():
    """An array and its tensor share memory; NumPy's functions record like flatgrad's."""
    array = np.array([1.0, 2.0, 3.0])
    shared = fg.from_numpy(array)
    array[0] = 10.0
    print(shared)  # tensor([10.,  2.,  3.], dtype=flatgrad.float64)
    copied = fg.tensor(array, requires_grad=True)
    np.sum(np.sin(copied)).backward()
    print(np.allclose(copied.grad, np.cos(array)))  # True


def variables():
    """``Variable`` is the old name of a tensor that takes part in autograd."""
    v = Variable(fg.tensor([1.0, 2.0]), requires_grad=True)
    (v * v).sum().backward()
    print(v.grad)  # tensor([2., 4.])


def weights_and_gradients():
    """A small network after one backward pass: its parameters as a table."""
    fg.manual_seed(0)
    model = fg.nn.Sequential(fg.nn.Linear(3, 4), fg.nn.Tanh(), fg.nn.Linear(4, 1))
    x, y = fg.rand(8, 3), fg.ones(8, 1)
    fg.nn.functional.mse_loss(model(x), y).backward()
    print(f"{'parameter':<10} {'shape':<8} {'weight norm':>11} {'gradient norm':>13}")
    for name, p in model.named_parameters():
        shape = "x".join(map(str, p.shape))
        weight, gradient = p.detach().norm().item(), p.grad.norm().item()
        print(f"{name:<10} {shape:<8} {weight:>11.4f} {gradient:>13.4f}")
    # parameter  shape    weight norm gradient norm
    # 0.weight   4x3           1.2925        0.3916
    # 0.bias     4             0.6171        0.6338
    # 2.weight   1x4           0.4607        1.2252
    # 2.bias     1             0.2227        1.9232


def main():
    for part in (
        gradient_by_backward,
        gradient_by_grad,
        tensors_from_numpy,
        variables,
        weights_and_gradients,
    ):
        print(f"# {part.__name__}")
        part()


if __name__ == "__main__":
    main()
