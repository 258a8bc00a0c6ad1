"""Activations as layers; the formulas are in ``functional``."""

from __future__ import annotations

from ..array.construct import full
from ..errors import ArgumentError
from ..tensor import Tensor
from . import functional
from .layers import Applied, Plain
from .parameter import Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class Tanh(Applied):
    """``tanh(x)``."""

    function = "tanh"


class Sigmoid(Applied):
    """``1 / (1 + exp(-x))``."""

    function = "sigmoid"


class LogSigmoid(Applied):
    """``log(sigmoid(x))``."""

    function = "logsigmoid"


class Softsign(Applied):
    """``x / (1 + |x|)``."""

    function = "softsign"


class Tanhshrink(Applied):
    """``x - tanh(x)``."""

    function = "tanhshrink"


class GELU(Applied):
    """``x Phi(x)``; `approximate` "tanh" for the approximation."""

    function, settings = "gelu", ("approximate",)

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = approximate

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class GLU(Applied):
    """``a sigmoid(b)``, a and b the halves of the input along `dim`."""

    function, settings = "glu", ("dim",)

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softplus(Applied):
    """``log(1 + exp(beta x)) / beta``."""

    function, settings = "softplus", ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class _Shrink(Applied):
    settings = ("lambd",)

    def __init__(self, lambd: float = 0.5):
        super().__init__()
        self.lambd = lambd

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(_Shrink):
    """0 between ``-lambd`` and `lambd`, x elsewhere."""

    function = "hardshrink"


class Softshrink(_Shrink):
    """x moved by `lambd` towards 0."""

    function = "softshrink"


class PReLU(Plain):
    """``max(x, 0) + weight min(x, 0)`` with weights that are learned, one or one a channel.

    Attributes
    ----------
    weight : Parameter, shape (num_parameters,)
        Starts at `init`.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device=None, dtype=None):
        super().__init__()
        if not isinstance(num_parameters, int) or num_parameters < 1:
            raise ArgumentError(f"PReLU: num_parameters must be at least 1, got {num_parameters!r}")
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(full((num_parameters,), init, dtype=dtype))

    @staticmethod
    def compute(x: Tensor, parameters) -> Tensor:
        return functional.prelu(x, next(parameters))

    def forward(self, input: Tensor) -> Tensor:
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


# -- with inplace ---------------------------------------------------------------------------------


class _Inplace(Applied):
    settings = ("inplace",)

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""

    def _with_inplace(self, text: str) -> str:
        return text + (", inplace=True" if self.inplace else "")


class ReLU(_Inplace):
    """``max(x, 0)``; gradient 0 at 0."""

    function = "relu"


class ReLU6(_Inplace):
    """``min(max(x, 0), 6)``; gradient 0 at 0 and 6."""

    function = "relu6"


class SELU(_Inplace):
    """The self-normalising ELU."""

    function = "selu"


class SiLU(_Inplace):
    """``x sigmoid(x)``."""

    function = "silu"


class Mish(_Inplace):
    """``x tanh(softplus(x))``."""

    function = "mish"


class Hardsigmoid(_Inplace):
    """``x / 6 + 1 / 2`` between 0 and 1, held there."""

    function = "hardsigmoid"


class Hardswish(_Inplace):
    """``x hardsigmoid(x)``."""

    function = "hardswish"


class LeakyReLU(_Inplace):
    """``x`` where it is positive, ``negative_slope x`` elsewhere."""

    function, settings = "leaky_relu", ("negative_slope", "inplace")

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def extra_repr(self) -> str:
        return self._with_inplace(f"negative_slope={self.negative_slope}")


class _Exponential(_Inplace):
    settings = ("alpha", "inplace")

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__(inplace)
        self.alpha = alpha

    def extra_repr(self) -> str:
        return self._with_inplace(f"alpha={self.alpha}")


class ELU(_Exponential):
    """``x`` where it is positive, ``alpha (e**x - 1)`` elsewhere."""

    function = "elu"


class CELU(_Exponential):
    """``x`` where it is positive, ``alpha (e**(x / alpha) - 1)`` elsewhere."""

    function = "celu"


class Hardtanh(_Inplace):
    """``x`` between `min_val` and `max_val`, held there."""

    function, settings = "hardtanh", ("min_val", "max_val", "inplace")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        super().__init__(inplace)
        if not min_val < max_val:
            raise ArgumentError(
                f"Hardtanh: min_val must be smaller than max_val, got {min_val} and {max_val}"
            )
        self.min_val = min_val
        self.max_val = max_val

    def extra_repr(self) -> str:
        return self._with_inplace(f"min_val={self.min_val}, max_val={self.max_val}")


class Threshold(_Inplace):
    """``x`` where it is larger than `threshold`, `value` elsewhere."""

    function, settings = "threshold", ("threshold", "value", "inplace")

    def __init__(self, threshold: float, value: float, inplace: bool = False):
        super().__init__(inplace)
        self.threshold = threshold
        self.value = value

    def extra_repr(self) -> str:
        return self._with_inplace(f"threshold={self.threshold}, value={self.value}")
