"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), in PyTorch's form."""

from __future__ import annotations

import math

from ..array.construct import tensor, zeros_like
from ..tensor import Tensor
from .optimizer import Optimizer, check_number


class Adam(Optimizer):
    """``p = p - lr m' / (sqrt(v') + eps)`` with bias-corrected means of g and g**2.

    Parameters
    ----------
    params : iterable of Tensor or dict
    lr : float
    betas : (float, float)
        How much of the means of g and of g**2 is kept at a step.
    eps : float
    weight_decay : float
        Added to the gradient times p; to p itself if `decoupled_weight_decay`.
    amsgrad : bool
        Divide by the largest mean of squares so far (Reddi et al. 2018).
    maximize, decoupled_weight_decay : bool
    foreach, capturable, differentiable, fused
        Kept for PyTorch's sake; every update is fused here.

    Raises
    ------
    ArgumentError
        For numbers out of range.

    Examples
    --------
    >>> import flatgrad as fg
    >>> x = fg.tensor([1.0], requires_grad=True)
    >>> opt = fg.optim.Adam([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> opt.step()
    >>> x
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self,
        params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        name = type(self).__name__
        check_number(name, "learning rate", lr)
        check_number(name, "epsilon", eps)
        check_number(name, "beta parameter at index 0", betas[0], high=1.0)
        check_number(name, "beta parameter at index 1", betas[1], high=1.0)
        check_number(name, "weight_decay", weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _advance(self, group: dict, p: Tensor):
        state = self.state[p]
        if not state:
            state["step"] = tensor(0.0)
            state["exp_avg"] = zeros_like(p)
            state["exp_avg_sq"] = zeros_like(p)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = zeros_like(p)
        decays = group["weight_decay"] != 0
        decoupled = decays and group["decoupled_weight_decay"]
        form = (group["amsgrad"], decays and not decoupled, decoupled, group["maximize"])
        return form, self._age(p)

    def _numbers(self, group: dict, form, count: int) -> tuple:
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        beta1, beta2 = (float(b) for b in group["betas"])
        return (
            1 - beta1,
            beta2,
            1 - beta2,
            lr / (1 - beta1**count),
            1 / math.sqrt(1 - beta2**count),
            float(group["eps"]),
            1 - lr * decay if form[2] else decay,
        )

    def _states(self, form) -> tuple:
        names = ("exp_avg", "exp_avg_sq")
        return (*names, "max_exp_avg_sq") if form[0] else names

    def _rule(self, form, numbers, p, g, mean, square, *largest):
        amsgrad, decays, decoupled, maximize = form
        weight1, beta2, weight2, size, correction, eps, decay = numbers
        if maximize:
            g = -g
        if decays:
            g = g + decay * p
        if decoupled:
            p = p * decay
        mean = mean + weight1 * (g - mean)
        square = beta2 * square + weight2 * (g * g)
        states = (mean, square)
        root = square
        if amsgrad:
            root = largest[0].maximum(square)
            states = (mean, square, root)
        return p - size * (mean / (root.sqrt() * correction + eps)), *states


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p = p (1 - lr weight_decay)`` before the step.

    Parameters are :class:`Adam`'s; `weight_decay` is 0.01 by default.
    """

    def __init__(
        self,
        params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
