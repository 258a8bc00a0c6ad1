"""Pooling layers."""

from __future__ import annotations

from ..tensor import Tensor
from . import functional
from .layers import Applied
from .module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _Pool(Applied):
    def __init__(self, *values):
        super().__init__()
        for name, value in zip(self.settings, values, strict=True):
            setattr(self, name, value)


class _MaxPool(_Pool):
    settings = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        stride = kernel_size if stride is None else stride
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, return_indices)

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ", ".join([f"{name}={getattr(self, name)}" for name in names])


class MaxPool1d(_MaxPool):
    """The largest element of each window: see ``functional.max_pool1d``."""

    function = "max_pool1d"


class MaxPool2d(_MaxPool):
    """The largest element of each window: see ``functional.max_pool2d``.

    Examples
    --------
    >>> import flatgrad as fg
    >>> fg.nn.MaxPool2d(2)(fg.tensor([[[1.0, 2.0], [4.0, 3.0]]])).tolist()
    [[[4.0]]]
    """

    function = "max_pool2d"


class MaxPool3d(_MaxPool):
    """The largest element of each window: see ``functional.max_pool3d``."""

    function = "max_pool3d"


class _MaxUnpool(Module):
    function: str

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        spatial = int(self.function[-2])
        given = (kernel_size, kernel_size if stride is None else stride, padding)
        sizes = [(v,) * spatial if isinstance(v, int) else tuple(v) for v in given]
        self.kernel_size, self.stride, self.padding = sizes

    def forward(self, input: Tensor, indices: Tensor, output_size=None) -> Tensor:
        unpool = getattr(functional, self.function)
        return unpool(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Maxima back at their places: see ``functional.max_unpool1d``."""

    function = "max_unpool1d"


class MaxUnpool2d(_MaxUnpool):
    """Maxima back at their places: see ``functional.max_unpool2d``."""

    function = "max_unpool2d"


class MaxUnpool3d(_MaxUnpool):
    """Maxima back at their places: see ``functional.max_unpool3d``."""

    function = "max_unpool3d"


class _AvgPool(_Pool):
    settings = (
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    )

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        stride = kernel_size if stride is None else stride
        super().__init__(
            kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_Pool):
    """The mean of each window: see ``functional.avg_pool1d``."""

    function = "avg_pool1d"
    settings = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        # PyTorch's one-dimensional layer, alone of the three, keeps its sizes as tuples.
        stride = kernel_size if stride is None else stride
        sizes = [(v,) if isinstance(v, int) else v for v in (kernel_size, stride, padding)]
        super().__init__(*sizes, ceil_mode, count_include_pad)

    extra_repr = _AvgPool.extra_repr


class AvgPool2d(_AvgPool):
    """The mean of each window: see ``functional.avg_pool2d``."""

    function = "avg_pool2d"


class AvgPool3d(_AvgPool):
    """The mean of each window: see ``functional.avg_pool3d``."""

    function = "avg_pool3d"


class _LPPool(_Pool):
    settings = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(self, norm_type: float, kernel_size, stride=None, ceil_mode: bool = False):
        super().__init__(norm_type, kernel_size, stride, ceil_mode)

    def extra_repr(self) -> str:
        return ", ".join([f"{name}={getattr(self, name)}" for name in self.settings])


class LPPool1d(_LPPool):
    """The p-norm of each window: see ``functional.lp_pool1d``."""

    function = "lp_pool1d"


class LPPool2d(_LPPool):
    """The p-norm of each window: see ``functional.lp_pool2d``."""

    function = "lp_pool2d"


class LPPool3d(_LPPool):
    """The p-norm of each window: see ``functional.lp_pool3d``."""

    function = "lp_pool3d"


class _AdaptiveAvgPool(_Pool):
    settings = ("output_size",)

    def __init__(self, output_size):
        super().__init__(output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of an image's parts: see ``functional.adaptive_avg_pool1d``."""

    function = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of an image's parts: see ``functional.adaptive_avg_pool2d``."""

    function = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of an image's parts: see ``functional.adaptive_avg_pool3d``."""

    function = "adaptive_avg_pool3d"


class _AdaptiveMaxPool(_Pool):
    settings = ("output_size", "return_indices")

    def __init__(self, output_size, return_indices: bool = False):
        super().__init__(output_size, return_indices)

    extra_repr = _AdaptiveAvgPool.extra_repr


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of an image's parts: see ``functional.adaptive_max_pool1d``."""

    function = "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of an image's parts: see ``functional.adaptive_max_pool2d``."""

    function = "adaptive_max_pool2d"


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of an image's parts: see ``functional.adaptive_max_pool3d``."""

    function = "adaptive_max_pool3d"
