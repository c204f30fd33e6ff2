"""The passes for a GPU: which kernels of passes.cu each is made of."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dtb_builder.network.kernels.declared import ADDRESS, declared_kernels

__all__ = ["CudaLibrary", "Kernels"]


class _Share(ctypes.Structure):
    """A Share of passes.cu."""

    _fields_ = (
        ("from", ctypes.c_void_p),
        ("to", ctypes.c_void_p),
        ("rows", ctypes.c_int),
        ("size", ctypes.c_int),
    )


class _Shares(ctypes.Structure):
    """Shares of passes.cu: with 24 bytes each, within the 4 KiB that arguments may take."""

    _fields_ = (("of", _Share * 128),)


_C_TYPES = {ADDRESS: ctypes.c_void_p, "int": ctypes.c_int, "double": ctypes.c_double}
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
        """What decides the bits besides the version of the code, such as "sm_90"."""
        ...

    def launch(
        self,
        name: str,
        dtype: torch.dtype,
        blocks: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
    ) -> None:
        """Run a kernel on the current stream; arguments are values of ctypes, in order."""
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
        maps_dtype: in which maps are stored, with their gradients; None for the network's own.
    """

    gathers_sums = True  # see Library

    def __init__(
        self,
        kernels: Kernels,
        device_type: str = "cuda",
        maps_dtype: torch.dtype | None = None,
    ) -> None:
        self._kernels = kernels
        self.device_type = device_type
        self._maps_dtype = maps_dtype
        # Tensors of kernels on the second stream, kept alive until the streams have met.
        self._held: list[Any] = []
        # What blocks have for parameters, and the gradients that this will add up to.
        self._shares: list[tuple[Tensor, Tensor]] = []

    def begin(self) -> "CudaLibrary":
        """The same passes for one pass through a network, which ends with meet."""
        return CudaLibrary(self._kernels, self.device_type, self._maps_dtype)

    def storing_bfloat16(self) -> "CudaLibrary":
        """The same passes for a network in float32 whose maps are stored in bfloat16."""
        return CudaLibrary(self._kernels, self.device_type, torch.bfloat16)

    def maps_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """In which the maps of a network of this type are stored."""
        return self._maps_dtype or dtype

    def meet(self) -> None:
        """Wait for whatever passes have left to be done beside, and finish what they have begun.

        The gradients of all parameters of convolutions are added up here, in one launch or two.
        """
        if self._held:
            self._kernels.meet()
        most = len(_Shares().of)
        for first in range(0, len(self._shares), most):
            some = self._shares[first : first + most]
            rows = (_Share(a.data_ptr(), b.data_ptr(), len(a), b.numel()) for a, b in some)
            largest = max(out.numel() for _, out in some)
            blocks = (-(-largest // 32), len(some))
            dtype = self.maps_dtype(some[0][0].dtype)
            self._launch("add_shares", dtype, blocks, {"shares": _Shares((_Share * most)(*rows))})
        self._shares.clear()
        self._held.clear()

    @property
    def name(self) -> str:
        """What decides the bits besides the version of the code: the architecture."""
        return self._kernels.name

    def __reduce__(self) -> tuple[Any, ...]:
        return CudaLibrary, (self._kernels, self.device_type, self._maps_dtype)

    def sums(self, channels: int, num_pixels: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Room for two sums per channel over pixels, float64; each block writes its column."""
        blocks = _blocks(num_pixels, 32)
        one, two = like.new_empty((2, channels, blocks), dtype=torch.float64)
        return one, two

    def between(self, maps: Tensor) -> dict[str, Tensor]:
        """Further arguments of a block's passes: room for what lies between its convolutions."""
        return {"between": torch.empty_like(maps, memory_format=torch.channels_last)}

    def run(self, name: str, dtype: torch.dtype, **arguments: Tensor | int | float | None) -> None:
        """Call a pass; see Library.prepared."""
        self.prepared(name, dtype, **arguments)()

    def prepared(
        self, name: str, dtype: torch.dtype, **arguments: Tensor | int | float | None
    ) -> Callable[[], None]:
        """A call of a pass; see Library.prepared."""
        return partial(getattr(self, f"_{name}"), dtype, arguments)

    def _norm_forward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        rows = p["mean"].shape[1]
        self._launch("norm_forward", dtype, (p["C"], 1), p, rows=rows, threads=128)

    def _norm_backward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        rows = {"rows": p["g_sums"].shape[1], "mean_rows": p["mean"].shape[1]}
        self._launch("norm_backward", dtype, (p["C"], 1), p, **rows, threads=128)

    def _norm_sums(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        blocks = (p["g_sums"].shape[1], _chunks(p["C"]))
        size = {"mean_rows": p["mean"].shape[1], "num_pixels": p["N"] * p["pixels"]}
        self._launch("norm_sums", dtype, blocks, p, **size)

    def _block_forward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        height, width = _strided(p, p["s"])
        lanes = _THREADS // min(_CHANNELS_OF_BLOCK // 2, p["C"] // 2)
        blocks = (-(-p["N"] * height * -(-width // 4) // lanes), _chunks(p["C"]))
        self._launch(f"depthwise_forward_{p['k']}{p['d']}{p['s']}", dtype, blocks, p)
        between = {"x": p["between"], "x_stride": p["C"]}
        self._multiply(dtype, {**p, **_as_pointwise(p), **between}, active=False)

    def _block_backward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        channels, height, width = p["C"], p["H"], p["W"]
        product = {**p, **_as_pointwise(p), "g_weight": p["g_pointwise"]}
        between = {"x": p["between"], "x_stride": channels}
        self._weight_back(dtype, {**product, **between}, active=False)
        gradient = torch.empty_like(p["between"])
        out = {"x_gradient": gradient, "x_gradient_stride": channels, "add": False}
        self._multiply_back(dtype, {**product, "x": None, **out})
        lanes = _THREADS // min(_CHANNELS_OF_BLOCK // 2, channels // 2)
        num_blocks = min(_RESIDENT_BLOCKS, -(-p["N"] * height * -(-width // 4) // lanes))
        rows = mean_rows = 0
        if p["g_sums"] is not None:
            rows, mean_rows = p["g_sums"].shape[1], p["x_mean"].shape[1]
            num_blocks = min(num_blocks, rows)
        shares = p["g_depthwise"].new_empty((num_blocks, *p["g_depthwise"].shape))
        self._launch(
            f"depthwise_backward_{p['k']}{p['d']}{p['s']}",
            dtype,
            (num_blocks, _chunks(channels)),
            {**p, "g_between": gradient, "shares": shares, "rows": rows, "mean_rows": mean_rows},
        )
        self._shares.append((shares, p["g_depthwise"]))

    def _pointwise_forward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        self._multiply(dtype, p, active=True)

    def _pointwise_backward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        self._weight_back(dtype, p, active=True)
        self._multiply_back(dtype, p)

    def _join(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        self._elementwise("join", dtype, p["N"] * p["pixels"], p)

    def _copy(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        self._elementwise("copy", dtype, p["N"] * p["pixels"], p)

    def _pool_forward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        height, width = _strided(p, p["s"])
        self._elementwise("pool_forward", dtype, p["N"] * height * width, p)

    def _pool_backward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        self._elementwise("pool_backward", dtype, p["N"] * p["H"] * p["W"], p)

    def _elementwise(
        self, name: str, dtype: torch.dtype, num_pixels: int, p: Mapping[str, Any]
    ) -> None:
        blocks = (-(-num_pixels * (p["C"] // 4) // _THREADS), 1)
        self._launch(name, dtype, blocks, p, num_pixels=num_pixels)

    def _multiply(self, dtype: torch.dtype, p: dict[str, Any], *, active: bool) -> None:
        """A 1x1 convolution, after a ReLU if active."""
        width, height = _tile(p["Co"])
        self._launch(
            f"pointwise_forward_{width}",
            dtype,
            (p["mean"].shape[1], -(-p["Co"] // width)),
            {**p, **_pixels(p), "active": active},
            threads=width * height // 16,
        )

    def _multiply_back(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        """The gradient of what a 1x1 convolution read."""
        pixels = _pixels(p)
        width, height = _tile(p["C"])
        blocks = (-(-pixels["num_pixels"] // height), -(-p["C"] // width))
        threads = width * height // 16
        self._launch(f"pointwise_input_{width}", dtype, blocks, {**p, **pixels}, threads=threads)

    def _weight_back(self, dtype: torch.dtype, p: dict[str, Any], *, active: bool) -> None:
        """The gradient of a 1x1 convolution's weight, on a second stream: only the end waits."""
        pixels = _pixels(p)
        num_blocks = _blocks(pixels["num_pixels"], 64)
        shares = p["g_weight"].new_empty((num_blocks, p["Co"], p["C"]))
        self._held.append(p)
        self._shares.append((shares, p["g_weight"]))
        blocks = (num_blocks, _chunks(p["C"]) * _chunks(p["Co"]))
        more = {**pixels, "active": active, "shares": shares}
        with self._kernels.beside():
            self._launch("pointwise_weight", dtype, blocks, {**p, **more})

    def _launch(
        self,
        name: str,
        dtype: torch.dtype,
        blocks: tuple[int, int],
        arguments: Mapping[str, Any],
        *,
        threads: int = _THREADS,
        **more: int,
    ) -> None:
        """Run a kernel with those of the arguments that it has."""
        values = {**arguments, **more}
        kinds = _kernel_arguments()[name.rstrip("_0123456789")]
        packed = [_packed(kind, values[argument]) for argument, kind in kinds.items()]
        self._kernels.launch(name, dtype, blocks, threads, packed)


@cache
def _kernel_arguments() -> dict[str, Mapping[str, str]]:
    return declared_kernels(Path(__file__).with_name("passes.cu").read_text())


def _packed(kind: str, value: Tensor | int | float | _Shares | None) -> Any:
    """An argument as it lies in memory."""
    if isinstance(value, _Shares):
        return value
    return _C_TYPES[kind](value.data_ptr() if isinstance(value, Tensor) else value)


def _as_pointwise(p: Mapping[str, Any]) -> dict[str, Any]:
    """A block's 1x1 convolution, as the passes of one that stands alone are given it."""
    height, width = _strided(p, p["s"])
    shape = {"H": height, "W": width, "Co": p["C"], "y_stride": p["C"], "step": 1, "offset": 0}
    return {**shape, "x_stride": 0, "weight": p["pointwise"]}


def _strided(p: Mapping[str, Any], stride: int) -> tuple[int, int]:
    """Height and width of what a pass with a stride writes."""
    return -(-p["H"] // stride), -(-p["W"] // stride)


def _pixels(p: Mapping[str, Any]) -> dict[str, int]:
    """How many pixels of an image, and of all, a 1x1 convolution writes."""
    height, width = _strided(p, p["step"])
    return {"pixels": height * width, "num_pixels": p["N"] * height * width}


def _blocks(num_pixels: int, at_least: int) -> int:
    """How many blocks share a sum over pixels, of which each has at least so many."""
    return min(_MAX_BLOCKS, -(-num_pixels // at_least))


def _chunks(channels: int) -> int:
    return -(-channels // _CHANNELS_OF_BLOCK)


def _tile(channels: int) -> tuple[int, int]:
    """Channels and pixels that a block multiplies at a time, where there are so many channels."""
    return next((tile for tile in _TILES if channels <= tile[0]), _TILES[-1])
