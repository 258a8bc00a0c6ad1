"""Normalisation layers: BatchNorm, InstanceNorm, LayerNorm, GroupNorm, RMSNorm."""

from __future__ import annotations

from ..array.construct import ones, tensor, zeros
from ..autograd.modes import no_grad
from ..errors import ArgumentError, ShapeError
from ..graph.dtypes import int64
from ..tensor import Tensor, node_of
from . import functional, init
from .layers import Applied, Plain
from .module import Module
from .parameter import Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


# -- with running statistics ----------------------------------------------------------------------


class _Statistics(Module):
    """Weights, and a running mean and variance, one a channel."""

    ranks: tuple[int, ...]

    def __init__(self, num_features, eps, momentum, affine, track_running_stats, bias, dtype):
        super().__init__()
        if not isinstance(num_features, int) or num_features < 0:
            raise ArgumentError(
                f"{type(self).__name__}: num_features must be an int, not negative, got {num_features!r}"
            )
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name, there in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(ones(num_features, dtype=dtype)) if there else None
            self.register_parameter(name, value)
        track = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, dtype=dtype) if track else None)
        self.register_buffer("running_var", ones(num_features, dtype=dtype) if track else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype=int64) if track else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches."""
        if self.track_running_stats:
            with no_grad():
                self.running_mean.zero_()
                self.running_var.fill_(1)
                self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weights 1, biases 0, and fresh statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check(self, input: Tensor) -> None:
        rank = len(node_of(input).shape)
        if rank not in self.ranks:
            wanted = " or ".join([f"{r}D" for r in self.ranks])
            raise ShapeError(
                f"{type(self).__name__}: expected {wanted} input (got {rank}D input of shape "
                f"{tuple(input.shape)})"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


_BATCH = """Batch normalisation of each channel; see ``functional.batch_norm``.

    In training the batch's own mean and variance are used, and the running ones moved towards
    them by `momentum` (None: their average over all batches); in evaluation the running ones are used.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
    momentum : float or None
    affine : bool
        Have a weight and, unless `bias` is False, a bias.
    track_running_stats : bool
        False uses the batch's own statistics in evaluation too.

    Attributes
    ----------
    weight, bias : Parameter or None, shape (num_features,)
        Start at 1 and 0.
    running_mean, running_var, num_batches_tracked : Tensor or None
        Buffers.
    """


class _BatchNorm(_Statistics):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device=None,
        dtype=None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        momentum = self.momentum
        count = self.num_batches_tracked
        if self.training and count is not None:
            with no_grad():
                count.add_(1)
            if momentum is None:
                momentum = 1.0 / count.to(self.running_mean.dtype)
        own = self.training or self.running_mean is None
        moved = not self.training or self.track_running_stats
        return functional.batch_norm(
            input,
            self.running_mean if moved else None,
            self.running_var if moved else None,
            self.weight,
            self.bias,
            own,
            0.0 if momentum is None else momentum,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    ranks = (5,)


for _cls in (BatchNorm1d, BatchNorm2d, BatchNorm3d):
    _cls.__doc__ = _BATCH


_INSTANCE = """Normalisation of each channel of each example; see ``functional.instance_norm``.

    Parameters
    ----------
    num_features : int
        Channels.
    eps, momentum : float
    affine : bool
        Have a weight and a bias; by default none.
    track_running_stats : bool
        Keep running statistics and use them in evaluation; by default none are kept.

    Attributes
    ----------
    weight, bias : Parameter or None, shape (num_features,)
    running_mean, running_var, num_batches_tracked : Tensor or None
        Buffers.
    """


class _InstanceNorm(_Statistics):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device=None,
        dtype=None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        alone = len(node_of(input).shape) == self.ranks[0]
        result = functional.instance_norm(
            input.unsqueeze(0) if alone else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return result.squeeze(0) if alone else result


class InstanceNorm1d(_InstanceNorm):
    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    ranks = (4, 5)


for _cls in (InstanceNorm1d, InstanceNorm2d, InstanceNorm3d):
    _cls.__doc__ = _INSTANCE


# -- within an example ----------------------------------------------------------------------------


class _Weighted(Plain):
    """Plain normalisation with a weight and a bias, as far as there are any."""

    def _parameters_of(self, shape, weight: bool, bias: bool, dtype) -> None:
        self.register_parameter("weight", Parameter(ones(*shape, dtype=dtype)) if weight else None)
        self.register_parameter("bias", Parameter(zeros(*shape, dtype=dtype)) if bias else None)

    def reset_parameters(self) -> None:
        """Weights 1, biases 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _has(self) -> tuple[bool, bool]:
        return self.weight is not None, self.bias is not None

    def kind(self) -> tuple | None:
        found = super().kind()
        return None if found is None else (*found, self._has())

    def forward(self, input: Tensor) -> Tensor:
        given = iter([p for p in (self.weight, self.bias) if p is not None])
        settings = [getattr(self, name) for name in self.settings]
        return self.compute(input, given, *settings, self._has())


def _taken(parameters, has) -> tuple[Tensor | None, Tensor | None]:
    return next(parameters) if has[0] else None, next(parameters) if has[1] else None


class LayerNorm(_Weighted):
    """Normalisation over the last dimensions: see ``functional.layer_norm``.

    Parameters
    ----------
    normalized_shape : int or tuple of int
    eps : float
    elementwise_affine : bool
        Have a weight and, unless `bias` is False, a bias.
    bias : bool

    Attributes
    ----------
    weight, bias : Parameter or None, shape normalized_shape
        Start at 1 and 0.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.LayerNorm(2)(fg.tensor([1.0, 3.0])).tolist()
    [-0.9999949932098389, 0.9999949932098389]
    """

    settings = ("normalized_shape", "eps")

    def __init__(
        self,
        normalized_shape,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device=None,
        dtype=None,
    ):
        super().__init__()
        whole = isinstance(normalized_shape, int)
        self.normalized_shape = (normalized_shape,) if whole else tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        affine = elementwise_affine
        self._parameters_of(self.normalized_shape, affine, affine and bias, dtype)

    @staticmethod
    def compute(x: Tensor, parameters, shape, eps, has) -> Tensor:
        return functional.layer_norm(x, shape, *_taken(parameters, has), eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(_Weighted):
    """Normalisation over groups of channels: see ``functional.group_norm``.

    Parameters
    ----------
    num_groups, num_channels : int
    eps : float
    affine : bool
        Have a weight and, unless `bias` is False, a bias.

    Attributes
    ----------
    weight, bias : Parameter or None, shape (num_channels,)
        Start at 1 and 0.

    Raises
    ------
    ArgumentError
        If the groups don't divide the channels.
    """

    settings = ("num_groups", "eps")

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device=None,
        dtype=None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: num_channels must be divisible by num_groups, got {num_channels} and "
                f"{num_groups}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self._parameters_of((num_channels,), affine, affine and bias, dtype)

    @staticmethod
    def compute(x: Tensor, parameters, groups, eps, has) -> Tensor:
        return functional.group_norm(x, groups, *_taken(parameters, has), eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_Weighted):
    """Division by the root of the mean square over the last dimensions: see ``functional.rms_norm``.

    Parameters
    ----------
    normalized_shape : int or tuple of int
    eps : float, optional
        By default the dtype's spacing at 1.
    elementwise_affine : bool
        Have a weight.

    Attributes
    ----------
    weight : Parameter or None, shape normalized_shape
        Starts at 1.
    """

    settings = ("normalized_shape", "eps")
    bias = None

    def __init__(
        self,
        normalized_shape,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device=None,
        dtype=None,
    ):
        super().__init__()
        whole = isinstance(normalized_shape, int)
        self.normalized_shape = (normalized_shape,) if whole else tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        value = Parameter(ones(*self.normalized_shape, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", value)

    @staticmethod
    def compute(x: Tensor, parameters, shape, eps, has) -> Tensor:
        return functional.rms_norm(x, shape, _taken(parameters, has)[0], eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class LocalResponseNorm(Applied):
    """Division by what neighbouring channels have: see ``functional.local_response_norm``."""

    function, settings = "local_response_norm", ("size", "alpha", "beta", "k")

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
