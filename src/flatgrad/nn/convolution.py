"""Convolution layers: Conv1d to Conv3d and their transposes, Unfold and Fold."""

from __future__ import annotations

import math

from ..array.construct import empty
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, node_of
from . import functional, init
from .functional.face import described, sizes_argument
from .layers import Plain
from .module import Module
from .parameter import Parameter

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Fold",
    "Unfold",
]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Plain):
    """What Conv and ConvTranspose share: the options, the weights and their initial values."""

    spatial: int
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        output_padding=0,
        dtype=None,
    ):
        super().__init__()
        name, n = type(self).__name__, self.spatial
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels % groups:
                raise ArgumentError(
                    f"{name}: {what} must be divisible by groups, got {channels} and {groups}"
                )
        if padding_mode not in PADDING_MODES:
            raise ArgumentError(
                f"{name}: padding_mode must be one of {PADDING_MODES}, got {padding_mode!r}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = sizes_argument(name, "kernel_size", kernel_size, n, 1)
        self.stride = sizes_argument(name, "stride", stride, n, 1)
        self.dilation = sizes_argument(name, "dilation", dilation, n, 1)
        self.padding = self._padding(name, padding)
        self.output_padding = sizes_argument(name, "output_padding", output_padding, n, 0)
        self.groups = groups
        self.padding_mode = padding_mode
        outer = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (outer[0], outer[1] // groups, *self.kernel_size)
        self.weight = Parameter(empty(*shape, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _padding(self, name: str, padding):
        if not isinstance(padding, str):
            return sizes_argument(name, "padding", padding, self.spatial, 0)
        if padding not in ("same", "valid"):
            raise ArgumentError(f"{name}: padding must be 'same', 'valid' or ints, got {padding!r}")
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ArgumentError(
                f"{name}: padding='same' is not supported for strided convolutions; give it in numbers"
            )
        return padding

    def reset_parameters(self) -> None:
        """Draw the weights anew from the default generator."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0
            init.uniform_(self.bias, -bound, bound)

    def kind(self) -> tuple | None:
        if not self._own or self._forward_hooks or self._forward_pre_hooks:
            return None
        return type(self), self.bias is not None, self._options()

    def forward(self, input: Tensor) -> Tensor:
        bias = self.bias
        given = iter((self.weight,) if bias is None else (self.weight, bias))
        return self.compute(input, given, bias is not None, self._options())

    def extra_repr(self) -> str:
        n = self.spatial
        words = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        plain = {
            "padding": (0,) * n,
            "dilation": (1,) * n,
            "output_padding": (0,) * n,
            "groups": 1,
        }
        for name, value in plain.items():
            if getattr(self, name) != value:
                words.append(f"{name}={getattr(self, name)!r}".replace("'", ""))
        if self.bias is None:
            words.append("bias=False")
        if self.padding_mode != "zeros":
            words.append(f"padding_mode={self.padding_mode}")
        return ", ".join(words)


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            dtype=dtype,
        )

    def _options(self) -> tuple:
        return self.stride, self.padding, self.dilation, self.groups, self._edges()

    def _edges(self) -> tuple | None:
        """(mode, sizes) of a padding with the image's own elements."""
        if self.padding_mode == "zeros":
            return None
        if self.padding == "valid":
            ends = [(0, 0)] * self.spatial
        elif self.padding == "same":
            total = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True)]
            ends = [(t // 2, t - t // 2) for t in total]
        else:
            ends = [(p, p) for p in self.padding]
        return self.padding_mode, tuple([p for both in reversed(ends) for p in both])


def _convolve(cls, x: Tensor, parameters, with_bias: bool, options: tuple) -> Tensor:
    weight, bias = next(parameters), next(parameters) if with_bias else None
    stride, padding, dilation, groups, edges = options
    if edges is not None:
        mode, sizes = edges
        x, padding = functional.pad(x, sizes, mode), 0
    conv = getattr(functional, f"conv{cls.spatial}d")
    return conv(x, weight, bias, stride, padding, dilation, groups)


_LAYER = """A {n}-dimensional convolution: see ``functional.conv{n}d``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or tuple of {n}
    padding : int, tuple of {n}, "same" or "valid"
    groups : int
    bias : bool
    padding_mode : "zeros", "reflect", "replicate" or "circular"
        What stands around the image.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels / groups, *kernel_size)
    bias : Parameter or None, shape (out_channels,)
        Both start uniform over +-1 / sqrt(in_channels / groups * prod(kernel_size)).

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.Conv{n}d(3, 8, 3, padding=1)(fg.ones(2, 3, {x})).shape
    flatgrad.Size([2, 8, {x}])
    """


class Conv1d(_Conv):
    spatial = 1
    compute = classmethod(_convolve)


class Conv2d(_Conv):
    spatial = 2
    compute = classmethod(_convolve)


class Conv3d(_Conv):
    spatial = 3
    compute = classmethod(_convolve)


for _cls in (Conv1d, Conv2d, Conv3d):
    described(_cls, _LAYER, _cls.spatial)


# -- transposed -----------------------------------------------------------------------------------


class _ConvTranspose(_Convolution):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups: int = 1,
        bias: bool = True,
        dilation=1,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
    ):
        if padding_mode != "zeros":
            raise ArgumentError(
                f'{type(self).__name__}: Only "zeros" padding mode is supported, got {padding_mode!r}'
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            output_padding,
            dtype,
        )

    def _padding(self, name: str, padding):
        return sizes_argument(name, "padding", padding, self.spatial, 0)

    def _options(self) -> tuple:
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation

    def forward(self, input: Tensor, output_size=None) -> Tensor:
        """The transposed convolution; `output_size` (spatial sizes) chooses among the possible ones."""
        options = self._options()
        if output_size is not None:
            options = (*options[:2], self._extra(input, tuple(output_size)), *options[3:])
        bias = self.bias
        given = iter((self.weight,) if bias is None else (self.weight, bias))
        return self.compute(input, given, bias is not None, options)

    def _extra(self, input: Tensor, wanted: tuple) -> tuple[int, ...]:
        """The output padding that gives the sizes `wanted`."""
        n, name = self.spatial, type(self).__name__
        wanted, have = wanted[-n:], node_of(input).shape[-n:]
        parts = zip(
            have, self.kernel_size, self.stride, self.dilation, self.padding, wanted, strict=True
        )
        extra = tuple([w - ((h - 1) * s - 2 * p + d * (k - 1) + 1) for h, k, s, d, p, w in parts])
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            least = tuple([w - e for w, e in zip(wanted, extra, strict=True)])
            most = tuple([m + s - 1 for m, s in zip(least, self.stride, strict=True)])
            raise ShapeError(
                f"{name}: requested an output size of {wanted}, but valid sizes range from {least} to "
                f"{most} (for an input of {tuple(have)})"
            )
        return extra


def _transpose(cls, x: Tensor, parameters, with_bias: bool, options: tuple) -> Tensor:
    weight, bias = next(parameters), next(parameters) if with_bias else None
    conv = getattr(functional, f"conv_transpose{cls.spatial}d")
    return conv(x, weight, bias, *options)


_TRANSPOSED = """A {n}-dimensional transposed convolution: see ``functional.conv_transpose{n}d``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, output_padding, dilation : int or tuple of {n}
    groups : int
    bias : bool

    Attributes
    ----------
    weight : Parameter, shape (in_channels, out_channels / groups, *kernel_size)
    bias : Parameter or None, shape (out_channels,)

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.ConvTranspose{n}d(3, 8, 3, padding=1)(fg.ones(2, 3, {x})).shape
    flatgrad.Size([2, 8, {x}])
    """


class ConvTranspose1d(_ConvTranspose):
    spatial = 1
    compute = classmethod(_transpose)


class ConvTranspose2d(_ConvTranspose):
    spatial = 2
    compute = classmethod(_transpose)


class ConvTranspose3d(_ConvTranspose):
    spatial = 3
    compute = classmethod(_transpose)


for _cls in (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d):
    described(_cls, _TRANSPOSED, _cls.spatial)


# -- windows as columns ---------------------------------------------------------------------------


class Unfold(Module):
    """The windows of an image as columns: see ``functional.unfold``."""

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return functional.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """The sum of overlapping windows: see ``functional.fold``."""

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return functional.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )
