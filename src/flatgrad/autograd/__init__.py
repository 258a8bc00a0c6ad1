"""torch.autograd's face: backward, grad, Function, modes, hooks, gradcheck, functional."""

from . import gradfn  # noqa: F401  (attaches Tensor.grad_fn)
from .anomaly import detect_anomaly, set_detect_anomaly
from .engine import backward, grad
from .modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

__all__ = [
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]
