"""The operations of the DARTS space, as they stand in the evaluation network.

Module names such as ``op`` and ``conv_1`` are those under which DARTS weights are published.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from dtb_builder.space import OPERATIONS

__all__ = [
    "ChannelsLastConvolution",
    "DilatedConvolution",
    "FactorizedReduce",
    "MatrixConvolution",
    "make_operation",
    "pointwise_convolution",
]


def make_operation(name: str, channels: int, stride: int) -> nn.Module:
    """The operation of an edge; with stride 2 a map of n pixels becomes one of ceil(n / 2).

    >>> make_operation("skip_connect", channels=16, stride=1)
    Identity()
    """
    match name:
        case "max_pool_3x3":
            return nn.MaxPool2d(3, stride, padding=1)
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
        case "sep_conv_3x3":
            return separable_convolution(channels, 3, stride)
        case "sep_conv_5x5":
            return separable_convolution(channels, 5, stride)
        case "dil_conv_3x3":
            return dilated_convolution(channels, 3, stride)
        case "dil_conv_5x5":
            return dilated_convolution(channels, 5, stride)
    raise ValueError(f"expected an operation of {', '.join(OPERATIONS)}, got {name!r}")


def pointwise_convolution(channels_in: int, channels_out: int) -> nn.Module:
    """ReLU, 1x1 convolution, batch norm."""
    return _named_op(
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def separable_convolution(channels: int, kernel_size: int, stride: int) -> nn.Module:
    """Two depthwise blocks, of which the first has the stride."""
    return _named_op(
        *_depthwise_block(channels, kernel_size, stride),
        *_depthwise_block(channels, kernel_size, stride=1),
    )


def dilated_convolution(channels: int, kernel_size: int, stride: int) -> nn.Module:
    """One depthwise block of dilation 2."""
    return _named_op(*_depthwise_block(channels, kernel_size, stride, dilation=2))


class ChannelsLastConvolution(nn.Conv2d):
    """A convolution that gives maps channels last; contiguous ones if told to."""

    contiguous_maps = False

    def _laid_out(self, maps: Tensor) -> Tensor:
        return maps.contiguous() if self.contiguous_maps else maps


class DilatedConvolution(ChannelsLastConvolution):
    """A depthwise convolution of dilation 2, computed by undilated ones.

    It reads every second pixel, so the four parts of a map that are made of every second row and
    column do not meet in it; with stride 2, only one part counts. torch's own backward pass of a
    dilated depthwise convolution is tens of times slower on a CPU.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Maps of shape (batch, channels, ceil(height / stride), ceil(width / stride))."""
        if self.stride[0] == 2:
            return self._undilated(input[:, :, ::2, ::2])
        height, width = input.shape[2:]
        even = functional.pad(input, (0, width % 2, 0, height % 2))
        batch, channels, rows, columns = even.shape
        # Channels last throughout, so that the parts lie side by side without being transposed.
        pixels = even.permute(0, 2, 3, 1).reshape(batch, rows // 2, 2, columns // 2, 2, channels)
        parts = pixels.permute(2, 4, 0, 1, 3, 5).reshape(-1, rows // 2, columns // 2, channels)
        done = self._undilated(parts.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        done = done.reshape(2, 2, batch, rows // 2, columns // 2, channels)
        whole = done.permute(2, 3, 0, 4, 1, 5).reshape(batch, rows, columns, channels)
        return self._laid_out(whole.permute(0, 3, 1, 2)[:, :, :height, :width])

    def _undilated(self, maps: Tensor) -> Tensor:
        kernel_size = self.kernel_size[0]
        return functional.conv2d(maps, self.weight, padding=kernel_size // 2, groups=self.groups)


class MatrixConvolution(ChannelsLastConvolution):
    """A dense convolution of stride 1, on CUDA a matrix product over the windows of the map.

    For the few convolutions that are neither depthwise nor 1x1: cuDNN's backward passes in float32
    take several times as long, most of all the deterministic ones.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Maps of shape (batch, channels, height, width), smaller where there is no padding."""
        if not input.is_cuda:
            return super().forward(input)
        weight = self.weight.flatten(1)
        if input.shape[2:] == self.weight.shape[2:] and self.padding == (0, 0):
            return functional.linear(input.flatten(1), weight)[:, :, None, None]
        height, width = self.weight.shape[2:]
        assert isinstance(self.padding, tuple)
        rows, columns = self.padding
        pixels = functional.pad(input.permute(0, 2, 3, 1), (0, 0, columns, columns, rows, rows))
        windows = pixels.unfold(1, height, 1).unfold(2, width, 1)
        return self._laid_out(functional.linear(windows.flatten(3), weight).permute(0, 3, 1, 2))


class FactorizedReduce(nn.Module):
    """Half the resolution: one 1x1 convolution reads the even pixels, another the odd ones.

    A map of odd size counts as one with a last row and column of zeros more, so that both
    convolutions give ceil(n / 2) pixels. The pixels are picked before the convolutions: a strided
    1x1 convolution of few channels to one writes outside its memory in the backward pass of torch
    2.13 on a CPU with AVX2.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half = channels_out // 2
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(channels_in, half, 1, bias=False)
        self.conv_2 = nn.Conv2d(channels_in, half, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of shape (batch, channels_out, ceil(height / 2), ceil(width / 2))."""
        active = self.relu(maps)
        height, width = active.shape[2:]
        padded = functional.pad(active, (0, width % 2, 0, height % 2))
        even = self.conv_1(active[:, :, ::2, ::2])
        odd = self.conv_2(padded[:, :, 1::2, 1::2])
        return self.bn(torch.cat([even, odd], dim=1))


def _depthwise_block(
    channels: int, kernel_size: int, stride: int, dilation: int = 1
) -> tuple[nn.Module, ...]:
    """ReLU, depthwise convolution, 1x1 convolution, batch norm."""
    convolution = nn.Conv2d if dilation == 1 else DilatedConvolution
    return (
        nn.ReLU(),
        convolution(
            channels,
            channels,
            kernel_size,
            stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=channels,
            bias=False,
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def _named_op(*layers: nn.Module) -> nn.Module:
    """The layers in sequence, with parameters named ``op.1.weight`` and so on."""
    return nn.Sequential(OrderedDict(op=nn.Sequential(*layers)))
