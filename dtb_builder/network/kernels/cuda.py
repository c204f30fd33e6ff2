"""The passes for a GPU: which kernels of passes.cu each is made of."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["CudaLibrary", "Kernels"]

# Sums over pixels are added up from so many blocks at most: enough to keep a large GPU busy, and
# the same on every GPU, since it decides the last bits.
_MAX_BLOCKS = 384
# Of the kernels with many registers, an H100 holds so many blocks at a time.
_RESIDENT_BLOCKS = 264
_CHANNELS_OF_BLOCK = 64
_THREADS = 256
# Channels out and pixels that a block of a 1x1 convolution multiplies at a time.
_TILES = ((16, 256), (32, 64), (64, 32))


class Kernels(Protocol):
    """The kernels of passes.cu, compiled for a device."""

    @property
    def name(self) -> str:
        """What beside the version of the code decides the bits, such as "sm_90"."""
        ...

    def launch(
        self,
        name: str,
        dtype: torch.dtype,
        blocks: tuple[int, int],
        threads: int,
        arguments: tuple[Tensor | int | float | None, ...],
    ) -> None:
        """Run a kernel on the current stream; ints are int, floats double, tensors addresses."""
        ...

    def beside(self) -> AbstractContextManager[None]:
        """While entered, kernels wait for what has been launched, and nothing later for them."""
        ...

    def meet(self) -> None:
        """Let what is launched from now on wait for all kernels that were launched beside."""
        ...


class CudaLibrary:
    """The passes of a GPU, with the names and arguments that Library has.

    Args:
        kernels: compiled for the device.
        device_type: where the maps are; another than "cuda" for kernels that only act as if.
    """

    def __init__(self, kernels: Kernels, device_type: str = "cuda") -> None:
        self._kernels = kernels
        self.device_type = device_type
        # What kernels beside read and write, until they are met; it must not be used for else.
        self._held: list[Any] = []

    def begin(self) -> "CudaLibrary":
        """The same passes for one pass through a network, which ends with meet."""
        return CudaLibrary(self._kernels, self.device_type)

    def meet(self) -> None:
        """Wait for whatever passes have left to be done beside: gradients of parameters."""
        if self._held:
            self._kernels.meet()
        self._held.clear()

    @property
    def name(self) -> str:
        """What beside the version of the code decides the bits: the architecture."""
        return self._kernels.name

    def __reduce__(self) -> tuple[Any, ...]:
        return CudaLibrary, (self._kernels, self.device_type)

    def sums(self, channels: int, num_pixels: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Room for two sums per channel over pixels, float64; each block writes its column."""
        blocks = _blocks(num_pixels, 32)
        one, two = like.new_empty((2, channels, blocks), dtype=torch.float64)
        return one, two

    def between(self, maps: Tensor) -> Tensor | None:
        """Room for what lies between the convolutions of a block."""
        return torch.empty_like(maps, memory_format=torch.channels_last)

    def run(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | float | None) -> None:
        """Call a pass."""
        getattr(self, f"_{name}")(dtype, *arguments)

    def _norm_forward(
        self, dtype: torch.dtype, sums: Tensor, squares: Tensor, count: int, *arguments: Any
    ) -> None:
        weight, bias, eps, momentum, running_mean, running_var, channels, *out = arguments
        before = (sums, squares, sums.shape[1], float(count), weight, bias, eps, momentum)
        statistics = (running_mean, running_var, *out)
        self._launch("norm_forward", dtype, (channels, 1), *before, *statistics, threads=128)

    def _norm_backward(
        self,
        dtype: torch.dtype,
        g_sums: Tensor,
        gx_sums: Tensor,
        mean: Tensor,
        inverse: Tensor,
        count: int,
        weight: Tensor,
        channels: int,
        *out: Tensor,
    ) -> None:
        statistics = (g_sums, gx_sums, g_sums.shape[1], mean, mean.shape[1], inverse, float(count))
        self._launch("norm_backward", dtype, (channels, 1), *statistics, weight, *out, threads=128)

    def _norm_sums(
        self,
        dtype: torch.dtype,
        g: Tensor,
        g_stride: int,
        weights: Tensor | None,
        y: Tensor,
        y_stride: int,
        mean: Tensor,
        images: int,
        pixels: int,
        channels: int,
        g_sums: Tensor,
        gx_sums: Tensor,
    ) -> None:
        blocks = (g_sums.shape[1], _chunks(channels))
        inputs = (g, g_stride, weights, y, y_stride, mean, mean.shape[1])
        self._launch(
            "norm_sums", dtype, blocks, *inputs, images * pixels, pixels, channels, g_sums, gx_sums
        )

    def _block_forward(
        self,
        dtype: torch.dtype,
        x: Tensor,
        x_stride: int,
        scale: Tensor | None,
        shift: Tensor | None,
        images: int,
        height: int,
        width: int,
        channels: int,
        kernel_size: int,
        dilation: int,
        stride: int,
        depthwise: Tensor,
        pointwise: Tensor,
        y: Tensor,
        sums: Tensor,
        squares: Tensor,
        between: Tensor,
    ) -> None:
        height_out, width_out = -(-height // stride), -(-width // stride)
        lanes = _THREADS // min(_CHANNELS_OF_BLOCK // 2, channels // 2)
        items = images * height_out * -(-width_out // 4)
        name = f"depthwise_forward_{kernel_size}{dilation}{stride}"
        inputs = (x, x_stride, scale, shift, images, height, width, channels)
        blocks = (-(-items // lanes), _chunks(channels))
        self._launch(name, dtype, blocks, *inputs, depthwise, between)
        num_pixels = images * height_out * width_out
        plain = (num_pixels, height_out, width_out, channels, 1, 0, False)
        self._multiply(
            dtype, (between, channels), plain, pointwise, channels, y, channels, sums, squares
        )

    def _block_backward(
        self,
        dtype: torch.dtype,
        g: Tensor,
        g_stride: int,
        weights: Tensor | None,
        y: Tensor,
        a: Tensor,
        b: Tensor,
        c0: Tensor,
        x: Tensor,
        x_stride: int,
        scale: Tensor | None,
        shift: Tensor | None,
        x_mean: Tensor | None,
        images: int,
        height: int,
        width: int,
        channels: int,
        kernel_size: int,
        dilation: int,
        stride: int,
        depthwise: Tensor,
        pointwise: Tensor,
        x_gradient: Tensor,
        xg_stride: int,
        add: bool,
        g_depthwise: Tensor,
        g_pointwise: Tensor,
        g_sums: Tensor | None,
        gx_sums: Tensor | None,
        between: Tensor,
    ) -> None:
        height_out, width_out = -(-height // stride), -(-width // stride)
        before = (g, g_stride, weights, y, channels, a, b, c0)
        shape = (images, height_out, width_out, channels, 1, 0)
        self._weight_back(dtype, before, shape, between, channels, False, channels, g_pointwise)
        gradient = torch.empty_like(between)
        self._multiply_back(
            dtype, before, shape, None, 0, pointwise, channels, gradient, channels, False
        )
        lanes = _THREADS // min(_CHANNELS_OF_BLOCK // 2, channels // 2)
        num_blocks = min(_RESIDENT_BLOCKS, -(-images * height * -(-width // 4) // lanes))
        num_rows = 0
        if g_sums is not None:
            num_rows = g_sums.shape[1]
            num_blocks = min(num_blocks, num_rows)
        of_depthwise = g.new_empty((num_blocks, *g_depthwise.shape))
        self._launch(
            f"depthwise_backward_{kernel_size}{dilation}{stride}",
            dtype,
            (num_blocks, _chunks(channels)),
            *(gradient, x, x_stride, scale, shift),
            *(x_mean, 0 if x_mean is None else x_mean.shape[1], images, height, width, channels),
            *(depthwise, x_gradient, xg_stride, add, of_depthwise, g_sums, gx_sums, num_rows),
        )
        self._held.append(of_depthwise)
        with self._kernels.beside():
            self._add_shares(dtype, of_depthwise, g_depthwise)

    def _pointwise_forward(
        self,
        dtype: torch.dtype,
        x: Tensor,
        x_stride: int,
        images: int,
        height: int,
        width: int,
        channels: int,
        step: int,
        offset: int,
        *out: Any,
    ) -> None:
        num_pixels = images * -(-height // step) * -(-width // step)
        shape = (num_pixels, height, width, channels, step, offset, True)
        self._multiply(dtype, (x, x_stride), shape, *out)

    def _pointwise_backward(
        self,
        dtype: torch.dtype,
        g: Tensor,
        g_stride: int,
        weights: Tensor | None,
        y: Tensor,
        y_stride: int,
        a: Tensor,
        b: Tensor,
        c0: Tensor,
        x: Tensor,
        x_stride: int,
        images: int,
        height: int,
        width: int,
        channels: int,
        step: int,
        offset: int,
        weight: Tensor,
        channels_out: int,
        x_gradient: Tensor,
        xg_stride: int,
        add: bool,
        g_weight: Tensor,
    ) -> None:
        before = (g, g_stride, weights, y, y_stride, a, b, c0)
        shape = (images, height, width, channels, step, offset)
        to = (x_gradient, xg_stride, add)
        self._weight_back(dtype, before, shape, x, x_stride, True, channels_out, g_weight)
        self._multiply_back(dtype, before, shape, x, x_stride, weight, channels_out, *to)

    def _join(self, dtype: torch.dtype, *arguments: Any) -> None:
        *inputs, images, pixels, channels, out, out_stride = arguments
        num_pixels = images * pixels
        blocks = (_elementwise(num_pixels, channels), 1)
        self._launch("join", dtype, blocks, *inputs, num_pixels, pixels, channels, out, out_stride)

    def _copy(self, dtype: torch.dtype, *arguments: Any) -> None:
        *inputs, images, pixels, channels, out, out_stride, add = arguments
        num_pixels = images * pixels
        blocks = (_elementwise(num_pixels, channels), 1)
        to = (out, out_stride, add)
        self._launch("copy", dtype, blocks, *inputs, num_pixels, pixels, channels, *to)

    def _pool_forward(self, dtype: torch.dtype, x: Tensor, x_stride: int, *arguments: Any) -> None:
        images, height, width, channels, stride, *_ = arguments
        num_pixels = images * -(-height // stride) * -(-width // stride)
        blocks = (_elementwise(num_pixels, channels), 1)
        self._launch("pool_forward", dtype, blocks, x, x_stride, *arguments)

    def _pool_backward(
        self, dtype: torch.dtype, g: Tensor, g_stride: int, weights: Tensor | None, *arguments: Any
    ) -> None:
        _, images, height, width, channels, *_ = arguments
        blocks = (_elementwise(images * height * width, channels), 1)
        self._launch("pool_backward", dtype, blocks, g, g_stride, weights, *arguments)

    def _multiply(
        self,
        dtype: torch.dtype,
        x: tuple[Tensor, int],
        shape: tuple[int, int, int, int, int, int, bool],
        weight: Tensor,
        channels_out: int,
        y: Tensor,
        y_stride: int,
        sums: Tensor,
        squares: Tensor,
    ) -> None:
        width, height = _tile(channels_out)
        self._launch(
            f"pointwise_forward_{width}",
            dtype,
            (sums.shape[1], -(-channels_out // width)),
            *(*x, *shape, weight, channels_out, y, y_stride, sums, squares),
            threads=width * height // 16,
        )

    def _multiply_back(
        self,
        dtype: torch.dtype,
        before: tuple[Any, ...],
        shape: tuple[int, int, int, int, int, int],
        x: Tensor | None,
        x_stride: int,
        weight: Tensor,
        channels_out: int,
        x_gradient: Tensor,
        xg_stride: int,
        add: bool,
    ) -> None:
        images, height, width, channels, step, offset = shape
        pixels = -(-height // step) * -(-width // step)
        columns, rows = _tile(channels)
        num_pixels = images * pixels
        self._launch(
            f"pointwise_input_{columns}",
            dtype,
            (-(-num_pixels // rows), -(-channels // columns)),
            *(*before, num_pixels, pixels, height, width, channels, step, offset),
            *(x, x_stride, weight, channels_out, x_gradient, xg_stride, add),
            threads=columns * rows // 16,
        )

    def _weight_back(
        self,
        dtype: torch.dtype,
        before: tuple[Any, ...],
        shape: tuple[int, int, int, int, int, int],
        x: Tensor,
        x_stride: int,
        active: bool,
        channels_out: int,
        g_weight: Tensor,
    ) -> None:
        """The gradient of a 1x1 convolution's weight, beside what follows: only the end waits."""
        images, height, width, channels, step, offset = shape
        pixels = -(-height // step) * -(-width // step)
        num_blocks = _blocks(images * pixels, 64)
        shares = x.new_empty((num_blocks, channels_out, channels))
        self._held += [before, x, shares]
        blocks = (num_blocks, _chunks(channels) * _chunks(channels_out))
        read = (x, x_stride, images * pixels, pixels, height, width, channels, step, offset, active)
        with self._kernels.beside():
            self._launch("pointwise_weight", dtype, blocks, *before, *read, channels_out, shares)
            self._add_shares(dtype, shares, g_weight)

    def _add_shares(self, dtype: torch.dtype, shares: Tensor, out: Tensor) -> None:
        """Add up what blocks have for a parameter."""
        size = out.numel()
        self._launch("add_shares", dtype, (-(-size // 32), 1), shares, len(shares), size, out)

    def _launch(
        self,
        name: str,
        dtype: torch.dtype,
        blocks: tuple[int, int],
        *arguments: Tensor | int | float | None,
        threads: int = _THREADS,
    ) -> None:
        self._kernels.launch(name, dtype, blocks, threads, arguments)


def _blocks(num_pixels: int, at_least: int) -> int:
    """How many blocks share a sum over pixels, of which each has at least so many."""
    return min(_MAX_BLOCKS, -(-num_pixels // at_least))


def _chunks(channels: int) -> int:
    return -(-channels // _CHANNELS_OF_BLOCK)


def _elementwise(num_pixels: int, channels: int) -> int:
    return -(-num_pixels * (channels // 4) // _THREADS)


def _tile(channels: int) -> tuple[int, int]:
    """Channels and pixels that a block multiplies at a time, where there are so many channels."""
    return next((tile for tile in _TILES if channels <= tile[0]), _TILES[-1])
