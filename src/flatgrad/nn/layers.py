"""Plain layers and the first of them: Linear, Softmax, Flatten, Dropout, Identity."""

from __future__ import annotations

import math

from ..array.construct import empty
from ..errors import ArgumentError, ShapeError
from ..graph.shapes import normal_dim
from ..ops.movement import reshape
from ..tensor import Tensor
from . import functional, init
from .module import Module
from .parameter import Parameter


class Plain(Module):
    """A layer whose result depends on its input, its parameters and a few settings alone.

    A subclass defines ``compute(x, parameters, *settings)``, which takes what parameters it needs
    from the iterator, and names its settings. ``Sequential`` records a row of such layers as one
    call, without running their ``forward``; subclasses of them and layers with hooks are run.
    """

    settings: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        cls._own = "compute" in cls.__dict__  # a subclass may have another forward

    def kind(self) -> tuple | None:
        """(class, *settings), or None if ``forward`` must run."""
        if not self._own or self._forward_hooks or self._forward_pre_hooks:
            return None
        return (type(self), *[getattr(self, name) for name in self.settings])

    def forward(self, input: Tensor) -> Tensor:
        given = iter(self._parameters.values())
        return self.compute(input, given, *[getattr(self, name) for name in self.settings])


class Applied(Plain):
    """A function as a layer, whose settings are the function's arguments in their order.

    A subclass names the function and the settings, and has them as attributes. One of them may be
    ``inplace``, the last.
    """

    function: str

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        cls._own = "function" in cls.__dict__

    def kind(self) -> tuple | None:
        found = super().kind()
        if (
            found is None
            or getattr(self, "inplace", False)
            or getattr(self, "return_indices", False)
        ):
            return None
        return tuple([tuple(v) if isinstance(v, list) else v for v in found])

    @classmethod
    def compute(cls, x: Tensor, parameters, *settings) -> Tensor:
        return getattr(functional, cls.function)(x, *settings)


class Identity(Module):
    """Returns its input; takes and ignores any arguments."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Plain):
    """``input @ weight.T + bias``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    dtype : DType, optional

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter or None, shape (out_features,)
        Both start uniform over +-1 / sqrt(in_features), PyTorch's ``kaiming_uniform_(a=sqrt(5))``.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.Linear(3, 2)(fg.ones(5, 3)).shape
    flatgrad.Size([5, 2])
    """

    def __init__(self, in_features: int, out_features: int, bias=True, device=None, dtype=None):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(empty(out_features, in_features, dtype=dtype, device=device))
        if bias:
            self.bias = Parameter(empty(out_features, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew from the default generator."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def kind(self) -> tuple | None:
        if not self._own or self._forward_hooks or self._forward_pre_hooks:
            return None
        return type(self), self._parameters["bias"] is not None

    def forward(self, input: Tensor) -> Tensor:
        own = self._parameters
        if len(own) < 2:  # one was deleted, and set as a plain attribute (a dual tensor)
            return functional.linear(input, self.weight, self.bias)
        return functional.linear(input, own["weight"], own["bias"])

    @staticmethod
    def compute(x: Tensor, parameters, with_bias: bool) -> Tensor:
        return functional.linear(x, next(parameters), next(parameters) if with_bias else None)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class _AlongDim(Module):
    def __init__(self, dim: int | None = None):
        super().__init__()
        self.dim = dim

    def _dim(self, input: Tensor) -> int:
        if self.dim is None:
            raise ArgumentError(
                f"{type(self).__name__}: the dimension is required: {type(self).__name__}(dim=1)"
            )
        return self.dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongDim):
    """``exp(x) / sum(exp(x), dim)``."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmax(input, self._dim(input))


class LogSoftmax(_AlongDim):
    """``log(softmax(x, dim))``."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.log_softmax(input, self._dim(input))


class Softmin(_AlongDim):
    """``softmax(-x, dim)``."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmin(input, self._dim(input))


class Softmax2d(Module):
    """The softmax over the channels of images, (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ShapeError(
                f"Softmax2d: expected input to be 3D or 4D, got shape {tuple(input.shape)}"
            )
        return functional.softmax(input, -3)


class Unflatten(Module):
    """One dimension as several, of sizes whose product it is; one may be -1.

    Raises
    ------
    ShapeError
        If the sizes don't fit.
    """

    def __init__(self, dim: int, unflattened_size):
        super().__init__()
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Flatten(Module):
    """Dimensions `start_dim` to `end_dim` as one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        shape = tuple(input.shape)
        first = normal_dim("Flatten", self.start_dim, len(shape))
        last = normal_dim("Flatten", self.end_dim, len(shape))
        if first > last:
            raise ArgumentError(
                f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim} "
                f"in shape {shape}"
            )
        return reshape(
            input, *shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]
        )

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """In training, zeroes each element with probability `p` and divides the others by ``1 - p``."""

    function = "dropout"

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(
                f"{type(self).__name__}: dropout probability has to be between 0 and 1, but got {p}"
            )
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return getattr(functional, self.function)(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """In training, zeroes each channel of each example: see ``functional.dropout1d``."""

    function = "dropout1d"


class Dropout2d(Dropout):
    """In training, zeroes each channel of each example: see ``functional.dropout2d``."""

    function = "dropout2d"


class Dropout3d(Dropout):
    """In training, zeroes each channel of each example: see ``functional.dropout3d``."""

    function = "dropout3d"
