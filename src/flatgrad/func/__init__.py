"""Functions that differentiate: compiled functions, transforms of functions, control flow."""

from .branches import checkpoint, cond, switch
from .compile import compile
from .control import fori_loop, map, scan, while_loop
from .derivatives import grad, grad_and_value, hvp, jvp, linearize, value_and_grad, vjp
from .jacobians import jacfwd, jacrev
from .jit import jit
from .ode import odeint
from .sparse import SparseDerivative, hessian, jacobian
from .stateless import functional_call, stack_module_state
from .vmap import vmap

__all__ = [
    "SparseDerivative",
    "checkpoint",
    "compile",
    "cond",
    "fori_loop",
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "linearize",
    "map",
    "odeint",
    "scan",
    "stack_module_state",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
