"""The operations of the DARTS space, as DARTS trains them in its evaluation network.

Module names such as ``op`` and ``conv_1`` are those of published DARTS weights.
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
    """The operation of an edge; with stride 2 a side of n pixels becomes ceil(n / 2).

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
    """Two depthwise blocks; the first has the stride."""
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
    """A depthwise convolution of dilation 2, computed by convolutions without dilation.

    It reads every second row and column, so it acts on the four subgrids of even and odd rows and
    columns independently; with stride 2, only one subgrid is needed. On a CPU, torch's backward
    pass of a dilated depthwise convolution is tens of times slower.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Maps of shape (batch, channels, ceil(height / stride), ceil(width / stride))."""
        if self.stride[0] == 2:
            return self._undilated(input[:, :, ::2, ::2])
        height, width = input.shape[2:]
        even = functional.pad(input, (0, width % 2, 0, height % 2))
        batch, channels, rows, columns = even.shape
        # Channels last throughout, so that the convolution need not change the layout.
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
    """A dense convolution of stride 1, computed on CUDA as a matrix product over windows (im2col).

    For the few convolutions that are neither depthwise nor 1x1: in float32, cuDNN's backward passes
    take several times as long, above all with deterministic kernels.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Maps of shape (batch, channels, height, width), smaller if the padding is."""
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
    """Halves the resolution: one 1x1 convolution reads the even pixels, another the odd ones.

    A map of odd size is padded with a last row and column of zeros, so that both convolutions give
    ceil(n / 2) pixels. The pixels are selected before the convolutions: in torch 2.13 on a CPU with
    AVX2, the backward pass of a strided 1x1 convolution from few channels to one writes outside its
    memory.
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
    """A sequence of layers whose parameters are named ``op.1.weight`` and so on."""
    return nn.Sequential(OrderedDict(op=nn.Sequential(*layers)))
