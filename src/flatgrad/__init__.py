"""flatgrad: PyTorch's autograd on NumPy arrays, compiled to machine code for small computers."""

import importlib as _importlib

from . import numpy_face, ops, program
from . import autograd, errors, linalg
from .array import *  # noqa: F403
from .autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .graph.dtypes import (
    DType,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from .graph.dtypes import DType as dtype
from .graph.dtypes import bool_ as bool
from .graph.op import PUBLIC as _PUBLIC
from .program import (
    explain,
    get_compile,
    get_num_threads,
    memory_budget,
    set_compile,
    set_num_threads,
)
from .program.cache import cache
from .tensor import Size, Tensor

float, double, short, int, long = float32, float64, int16, int32, int64

for _name, _public in _PUBLIC.items():
    _package, _, _name = _name.rpartition(".")
    if not _package:
        globals()[_name] = _public.function

__version__ = "0.1.0"

_LAZY = {"export", "func", "implicit", "io", "nn", "optim"}

# Names of flatgrad.func that are also flatgrad's own; found there when first asked for.
_FUNCTIONS = {
    *("checkpoint", "cond", "fori_loop", "map", "scan", "switch", "while_loop"),
    *("grad", "grad_and_value", "hessian", "hvp", "jacfwd", "jacrev", "jvp", "linearize"),
    *("value_and_grad", "vjp", "vmap", "compile", "jit", "odeint"),
}

# Names of flatgrad.io that are flatgrad's own, in PyTorch's order of arguments.
_FILES = {"load", "save"}


def __getattr__(name: str):
    if name in _LAZY:
        return _importlib.import_module(f"{__name__}.{name}")
    if name in _FILES:
        return getattr(_importlib.import_module(f"{__name__}.io.face"), name)
    if name in _FUNCTIONS:
        found = getattr(_importlib.import_module(f"{__name__}.func"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'flatgrad' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LAZY, *_FILES, *_FUNCTIONS})
