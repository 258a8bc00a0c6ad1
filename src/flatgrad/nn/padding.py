"""Layers that pad, and layers that resize: the functions are ``functional.pad`` and ``interpolate``."""

from __future__ import annotations

from ..errors import ArgumentError
from ..tensor import Tensor
from . import functional
from .layers import Applied, Plain

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Applied):
    """`padding` is an int for all ends, or (low, high) of the last dimension, then of the one before."""

    function = "pad"
    settings = ("padding", "mode", "value")
    spatial: int
    mode = "constant"
    value: float | None = None

    def __init__(self, padding):
        super().__init__()
        ends = 2 * self.spatial
        self.padding = (padding,) * ends if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != ends:
            raise ArgumentError(
                f"{type(self).__name__}: padding must be an int or {ends} ints, got {padding!r}"
            )

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPad(_Pad):
    def __init__(self, padding, value: float):
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


_TEXTS = {
    "ConstantPad": (_ConstantPad, "constant", "The number `value`"),
    "ZeroPad": (_Pad, "constant", "Zeros"),
    "ReflectionPad": (_Pad, "reflect", "The image itself, mirrored at its border,"),
    "ReplicationPad": (_Pad, "replicate", "The image's border"),
    "CircularPad": (_Pad, "circular", "The image itself, repeated,"),
}


def _layer(kind: str, spatial: int) -> type:
    base, mode, what = _TEXTS[kind]
    text = (
        f"{what} around the last {spatial} dimension{'s' * (spatial > 1)}: see ``functional.pad``."
    )
    own = {"function": "pad", "spatial": spatial, "mode": mode, "__doc__": text}
    return type(base)(f"{kind}{spatial}d", (base,), {**own, "__module__": __name__})


ConstantPad1d, ConstantPad2d, ConstantPad3d = [_layer("ConstantPad", n) for n in (1, 2, 3)]
ZeroPad1d, ZeroPad2d, ZeroPad3d = [_layer("ZeroPad", n) for n in (1, 2, 3)]
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = [_layer("ReflectionPad", n) for n in (1, 2, 3)]
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = [
    _layer("ReplicationPad", n) for n in (1, 2, 3)
]
CircularPad1d, CircularPad2d, CircularPad3d = [_layer("CircularPad", n) for n in (1, 2, 3)]


# -- resizing -------------------------------------------------------------------------------------


class Upsample(Applied):
    """An image of another size: see ``functional.interpolate``."""

    function = "interpolate"
    settings = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")

    def __init__(
        self,
        size=None,
        scale_factor=None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        super().__init__()
        self.size = size
        if isinstance(scale_factor, (tuple, list)):
            self.scale_factor = tuple([float(s) for s in scale_factor])
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def extra_repr(self) -> str:
        name = "size" if self.scale_factor is None else "scale_factor"
        return f"{name}={getattr(self, name)}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """``Upsample`` in mode "nearest"."""

    function = "interpolate"

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """``Upsample`` in mode "bilinear" with aligned corners."""

    function = "interpolate"

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(Plain):
    """Channels become pixels: see ``functional.pixel_shuffle``."""

    settings = ("upscale_factor",)

    def __init__(self, upscale_factor: int):
        super().__init__()
        self.upscale_factor = upscale_factor

    @staticmethod
    def compute(x: Tensor, parameters, factor: int) -> Tensor:
        return functional.pixel_shuffle(x, factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Plain):
    """Pixels become channels: see ``functional.pixel_unshuffle``."""

    settings = ("downscale_factor",)

    def __init__(self, downscale_factor: int):
        super().__init__()
        self.downscale_factor = downscale_factor

    @staticmethod
    def compute(x: Tensor, parameters, factor: int) -> Tensor:
        return functional.pixel_unshuffle(x, factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"
