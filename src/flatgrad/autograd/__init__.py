"""torch.autograd's face: backward, grad, Function, modes, hooks, gradcheck, functional."""

from .engine import backward, grad

__all__ = ["backward", "grad"]
