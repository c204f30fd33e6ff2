"""The passes on a GPU, each a sequence of kernel launches from passes.cu."""

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
    """The struct Share of passes.cu."""

    _fields_ = (
        ("from", ctypes.c_void_p),
        ("to", ctypes.c_void_p),
        ("rows", ctypes.c_int),
        ("size", ctypes.c_int),
    )


class _Shares(ctypes.Structure):
    """The struct Shares of passes.cu: 128 x 24 bytes, since kernel arguments may take 4 KiB."""

    _fields_ = (("of", _Share * 128),)


class _Normed(ctypes.Structure):
    """The struct Normed of passes.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("g", "y", "weights", "mean", "g_sums", "gx_sums")),
        *((name, ctypes.c_int) for name in ("g_stride", "y_stride", "mean_rows")),
    )


class _Norms(ctypes.Structure):
    """The struct Norms of passes.cu."""

    _fields_ = (("of", _Normed * 8),)


_C_TYPES = {ADDRESS: ctypes.c_void_p, "int": ctypes.c_int, "double": ctypes.c_double}
# The largest number of partial sums that a sum over pixels is split into. It keeps a large GPU
# busy, and is the same on every GPU, since it decides the last bits.
_MAX_BLOCKS = 384
# How many blocks of a kernel with many registers are resident on an H100.
_RESIDENT_BLOCKS = 264
_CHANNELS_OF_BLOCK = 64
_THREADS = 256
# Output channels and pixels of a block's tile in a 1x1 convolution.
_TILES = ((16, 256), (32, 64), (64, 32))


class Kernels(Protocol):
    """The kernels of passes.cu, compiled for a device."""

    @property
    def name(self) -> str:
        """The GPU architecture, which decides the last bits, such as "sm_90"."""
        ...

    def launch(
        self,
        name: str,
        dtype: torch.dtype,
        blocks: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
    ) -> None:
        """Launch a kernel on the current stream; arguments are ctypes values, in order."""
        ...

    def side_stream(self) -> AbstractContextManager[None]:
        """Within, launch on a second stream, which first waits for the current one."""
        ...

    def wait_for_side_stream(self) -> None:
        """Make the current stream wait for the second one."""
        ...


class CudaLibrary:
    """The passes on a GPU, with the interface of Library.

    Args:
        kernels: compiled for the device.
        device_type: where the tensors are; "cpu" for emulated kernels.
        maps_dtype: the type in which maps and their gradients are stored; None for the network's.
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
        # Arguments of kernels on the second stream: freed memory could be used by the first one.
        self._held: list[Any] = []
        # Each block's partial sum of a weight gradient, and the gradient that they add up to.
        self._shares: list[tuple[Tensor, Tensor]] = []

    def new_step(self) -> "CudaLibrary":
        """The same kernels with an own list of unfinished gradients; end the step with finish()."""
        return CudaLibrary(self._kernels, self.device_type, self._maps_dtype)

    def storing_bfloat16(self) -> "CudaLibrary":
        """The same kernels for a network in float32 whose maps are stored in bfloat16."""
        return CudaLibrary(self._kernels, self.device_type, torch.bfloat16)

    def maps_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The type in which the maps of a network of this type are stored."""
        return self._maps_dtype or dtype

    def finish(self) -> None:
        """Wait for the second stream, and add up the weight gradients of all convolutions.

        One launch adds the partial sums of up to 128 gradients.
        """
        if self._held:
            self._kernels.wait_for_side_stream()
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
        """The GPU architecture, which decides the last bits."""
        return self._kernels.name

    def __reduce__(self) -> tuple[Any, ...]:
        return CudaLibrary, (self._kernels, self.device_type, self._maps_dtype)

    def sums(self, channels: int, num_pixels: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Buffers for two sums per channel, float64, shape (channels, blocks)."""
        blocks = _blocks(num_pixels, 32)
        one, two = like.new_empty((2, channels, blocks), dtype=torch.float64)
        return one, two

    def between(self, maps: Tensor) -> dict[str, Tensor]:
        """One more argument of a block's passes: a buffer for the depthwise output."""
        return {"between": torch.empty_like(maps, memory_format=torch.channels_last)}

    def run(self, name: str, dtype: torch.dtype, **arguments: Any) -> None:
        """Call a pass; see Library.prepared."""
        self.prepared(name, dtype, **arguments)()

    def prepared(self, name: str, dtype: torch.dtype, **arguments: Any) -> Callable[[], None]:
        """A call of a pass; see Library.prepared. `norms` are batch norms whose sums are wanted."""
        return partial(getattr(self, f"_{name}"), dtype, arguments)

    def _norm_forward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        rows = p["mean"].shape[1]
        self._launch("norm_forward", dtype, (p["C"], 1), p, rows=rows, threads=128)

    def _norm_backward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        rows = {"rows": p["g_sums"].shape[1], "mean_rows": p["mean"].shape[1]}
        self._launch("norm_backward", dtype, (p["C"], 1), p, **rows, threads=128)

    def _norm_sums(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        norms = p.get("norms", [p])
        most = len(_Norms().of)
        for first in range(0, len(norms), most):
            some = norms[first : first + most]
            blocks = (some[0]["g_sums"].shape[1], len(some) * _chunks(p["C"]))
            arguments = {**p, "norms": _packed_norms(some)}
            self._launch("norm_sums", dtype, blocks, arguments, num_pixels=p["N"] * p["pixels"])

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
        self._weight_gradient(dtype, {**product, **between}, active=False)
        gradient = torch.empty_like(p["between"])
        out = {"x_gradient": gradient, "x_gradient_stride": channels, "add": False}
        self._input_gradient(dtype, {**product, "x": None, **out})
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
        self._weight_gradient(dtype, p, active=True)
        self._input_gradient(dtype, p)

    def _join(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        self._elementwise("join", dtype, p["N"] * p["pixels"], p)

    def _copy(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        self._writing("copy", dtype, p["N"] * p["pixels"], p)

    def _pool_forward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        height, width = _strided(p, p["s"])
        self._elementwise("pool_forward", dtype, p["N"] * height * width, p)

    def _pool_backward(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        self._writing("pool_backward", dtype, p["N"] * p["H"] * p["W"], p)

    def _elementwise(
        self, name: str, dtype: torch.dtype, num_pixels: int, p: Mapping[str, Any]
    ) -> None:
        blocks = (-(-num_pixels * (p["C"] // 4) // _THREADS), 1)
        self._launch(name, dtype, blocks, p, num_pixels=num_pixels)

    def _writing(self, name: str, dtype: torch.dtype, num_pixels: int, p: dict[str, Any]) -> None:
        """Launch a kernel that gathers the sums of `norms`, if given, of what it writes."""
        norms = p.get("norms", [])
        lanes = _THREADS // min(_CHANNELS_OF_BLOCK // 4, p["C"] // 4)
        blocks = norms[0]["g_sums"].shape[1] if norms else -(-num_pixels // lanes)
        arguments = {**p, "norms": _packed_norms(norms), "num_norms": len(norms)}
        self._launch(name, dtype, (blocks, _chunks(p["C"])), arguments, num_pixels=num_pixels)

    def _multiply(self, dtype: torch.dtype, p: dict[str, Any], *, active: bool) -> None:
        """Launch a 1x1 convolution, with a ReLU before it if active."""
        width, height = _tile(p["Co"])
        self._launch(
            f"pointwise_forward_{width}",
            dtype,
            (p["mean"].shape[1], -(-p["Co"] // width)),
            {**p, **_pixels(p), "active": active},
            threads=width * height // 16,
        )

    def _input_gradient(self, dtype: torch.dtype, p: dict[str, Any]) -> None:
        """Launch the gradient of a 1x1 convolution's input."""
        pixels = _pixels(p)
        width, height = _tile(p["C"])
        blocks = (-(-pixels["num_pixels"] // height), -(-p["C"] // width))
        threads = width * height // 16
        self._launch(f"pointwise_input_{width}", dtype, blocks, {**p, **pixels}, threads=threads)

    def _weight_gradient(self, dtype: torch.dtype, p: dict[str, Any], *, active: bool) -> None:
        """Launch the gradient of a 1x1 convolution's weight on the second stream; see finish."""
        pixels = _pixels(p)
        num_blocks = _blocks(pixels["num_pixels"], 64)
        shares = p["g_weight"].new_empty((num_blocks, p["Co"], p["C"]))
        self._held.append(p)
        self._shares.append((shares, p["g_weight"]))
        blocks = (num_blocks, _chunks(p["C"]) * _chunks(p["Co"]))
        more = {**pixels, "active": active, "shares": shares}
        with self._kernels.side_stream():
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
        """Launch a kernel with the arguments that its declaration names; others are ignored."""
        values = {**arguments, **more}
        kinds = _kernel_arguments()[name.rstrip("_0123456789")]
        packed = [_packed(kind, values[argument]) for argument, kind in kinds.items()]
        self._kernels.launch(name, dtype, blocks, threads, packed)


@cache
def _kernel_arguments() -> dict[str, Mapping[str, str]]:
    return declared_kernels(Path(__file__).with_name("passes.cu").read_text())


def _packed(kind: str, value: Tensor | int | float | ctypes.Structure | None) -> Any:
    """An argument as a ctypes value."""
    if isinstance(value, ctypes.Structure):
        return value
    return _C_TYPES[kind](value.data_ptr() if isinstance(value, Tensor) else value)


def _packed_norms(norms: Sequence[Mapping[str, Any]]) -> _Norms:
    """Batch norms whose sums are wanted; "g" is missing where the kernel itself writes it."""
    packed = _Norms()
    names = {name for name, *_ in _Normed._fields_}
    for i, norm in enumerate(norms):
        values = {**norm, "mean_rows": norm["mean"].shape[1]}
        for name in names & values.keys():
            value = values[name]
            setattr(packed.of[i], name, value.data_ptr() if isinstance(value, Tensor) else value)
    return packed


def _as_pointwise(p: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for a block's 1x1 convolution, under the names of the pointwise passes."""
    height, width = _strided(p, p["s"])
    shape = {"H": height, "W": width, "Co": p["C"], "y_stride": p["C"], "step": 1, "offset": 0}
    return {**shape, "x_stride": 0, "weight": p["pointwise"]}


def _strided(p: Mapping[str, Any], stride: int) -> tuple[int, int]:
    """Height and width of a pass's output."""
    return -(-p["H"] // stride), -(-p["W"] // stride)


def _pixels(p: Mapping[str, Any]) -> dict[str, int]:
    """The output pixels of a 1x1 convolution, per image and of the whole batch."""
    height, width = _strided(p, p["step"])
    return {"pixels": height * width, "num_pixels": p["N"] * height * width}


def _blocks(num_pixels: int, at_least: int) -> int:
    """How many blocks a sum over pixels is split into, with at least so many pixels each."""
    return min(_MAX_BLOCKS, -(-num_pixels // at_least))


def _chunks(channels: int) -> int:
    return -(-channels // _CHANNELS_OF_BLOCK)


def _tile(channels: int) -> tuple[int, int]:
    """Channels and pixels of a block's tile, for a 1x1 convolution with so many channels."""
    return next((tile for tile in _TILES if channels <= tile[0]), _TILES[-1])
