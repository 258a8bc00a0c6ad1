"""Stochastic gradient descent. Source: Sutskever et al. 2013, in PyTorch's form."""

from __future__ import annotations

from ..array.construct import zeros_like
from ..errors import ArgumentError
from ..tensor import Tensor
from .optimizer import Optimizer, check_number


class SGD(Optimizer):
    """``v = momentum v + (1 - dampening) g;  p = p - lr v``, with g the gradient plus weight decay.

    The first ``v`` is ``g``; Nesterov's form steps by ``g + momentum v``.

    Parameters
    ----------
    params : iterable of Tensor or dict
    lr : float
    momentum, dampening, weight_decay : float
    nesterov, maximize : bool
    foreach, differentiable, fused
        Kept for PyTorch's sake; every update is fused here.

    Raises
    ------
    ArgumentError
        For numbers below 0, and Nesterov without momentum or with dampening.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([1.0], requires_grad=True)
    >>> opt = fg.optim.SGD([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> opt.step()
    >>> x
    tensor([0.8000], requires_grad=True)
    """

    def __init__(
        self,
        params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        check_number("SGD", "learning rate", lr)
        check_number("SGD", "momentum", momentum)
        check_number("SGD", "weight_decay", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("SGD: Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _advance(self, group: dict, p: Tensor):
        momentum = group["momentum"] != 0
        first = False
        if momentum:
            state = self.state[p]
            first = state.get("momentum_buffer") is None
            if first:
                state["momentum_buffer"] = zeros_like(p)
        form = (momentum, first, group["nesterov"], group["weight_decay"] != 0, group["maximize"])
        return form, 0

    def _numbers(self, group: dict, form, count: int) -> tuple:
        return (
            float(group["lr"]),
            float(group["momentum"]),
            1 - float(group["dampening"]),
            float(group["weight_decay"]),
        )

    def _states(self, form) -> tuple:
        return ("momentum_buffer",) if form[0] else ()

    def _rule(self, form, numbers, p, g, *states):
        with_momentum, first, nesterov, decays, maximize = form
        lr, momentum, damped, decay = numbers
        if maximize:
            g = -g
        if decays:
            g = g + decay * p
        if not with_momentum:
            return (p - lr * g,)
        buffer = g if first else momentum * states[0] + damped * g
        return p - lr * (g + momentum * buffer if nesterov else buffer), buffer
