"""The gradient descent that particle and saddle share: one loop whose step doubles and halves.

The step doubles after ten steps that went down, halves after one that did not, and the loop ends when the
gradient or the step is short.
"""

from __future__ import annotations

import flatgrad as fg

SHORT = 1e-5


def argmin(value_and_grad, start, m=fg, loop=None):
    """Where descent from `start` ends.

    Parameters
    ----------
    value_and_grad : callable
        ``(value, gradient)`` at a point.
    start : Tensor, shape (n,)
    m : module
        flatgrad or jax.numpy.
    loop : callable, optional
        The library's ``while_loop(condition, body, carry)``.
    """
    loop = loop or fg.while_loop

    def going(carry):
        _, _, gradient, eta, count = carry
        eta = m.where(count == 10, 2 * eta, eta)
        length = m.sqrt((gradient * gradient).sum())
        return (length > SHORT) & (eta * length > SHORT)

    def step(carry):
        x, value, gradient, eta, count = carry
        eta, count = m.where(count == 10, 2 * eta, eta), m.where(count == 10, 0, count)
        new = x - eta * gradient
        new_value, new_gradient = value_and_grad(new)
        down = new_value < value
        return (
            m.where(down, new, x),
            m.where(down, new_value, value),
            m.where(down, new_gradient, gradient),
            m.where(down, eta, eta / 2),
            m.where(down, count + 1, 0),
        )

    value, gradient = value_and_grad(start)
    return loop(going, step, (start, value, gradient, SHORT * m.ones_like(value), 0))[0]


def argmin_eagerly(value_and_grad, x):
    """The same with Python's own loop, for PyTorch and for NumPy."""
    (value, gradient), eta, count = value_and_grad(x), 1e-5, 0
    while True:
        length = ((gradient * gradient).sum() ** 0.5).item()
        if count == 10:
            eta, count = 2 * eta, 0
        if length <= SHORT or eta * length <= SHORT:
            return x
        new = x - eta * gradient
        new_value, new_gradient = value_and_grad(new)
        if new_value < value:
            x, value, gradient, count = new, new_value, new_gradient, count + 1
        else:
            eta, count = eta / 2, 0
