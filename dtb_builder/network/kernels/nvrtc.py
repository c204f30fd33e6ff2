"""Compile passes.cu for a GPU with NVRTC on first use, and launch its kernels."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from dtb_builder.network.compile_cache import compiled_once

__all__ = ["CompiledKernels", "compiled"]

_OPTIONS = {
    torch.float32: (b"-DELEMENT=float",),
    torch.float64: (b"-DELEMENT=double",),
    torch.bfloat16: (b"-DELEMENT=float", b"-DBFLOAT16"),
}


class CompiledKernels:
    """The kernels of an architecture, loaded on each device when first launched there.

    Args:
        architecture: such as "sm_90".

    Raises:
        OSError: this torch came without NVRTC.
    """

    def __init__(self, architecture: str) -> None:
        self._architecture = architecture
        _toolkit()
        self._streams: dict[int, torch.cuda.Stream] = {}
        self._modules: dict[tuple[int, torch.dtype], ctypes.c_void_p] = {}
        self._functions: dict[tuple[int, torch.dtype, str], ctypes.c_void_p] = {}

    @property
    def name(self) -> str:
        """The GPU architecture."""
        return self._architecture

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledKernels, (self._architecture,)

    def launch(
        self,
        name: str,
        dtype: torch.dtype,
        blocks: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
    ) -> None:
        """Launch a kernel on the current stream; arguments are ctypes values, in order."""
        addresses = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        size = (*blocks, 1, threads, 1, 1)
        function = self._function(name, dtype)
        _check(_toolkit().cuLaunchKernel(function, *size, 0, stream, addresses, None), name)

    @contextmanager
    def side_stream(self) -> Iterator[None]:
        """Within, launch on a second stream, which first waits for the current one."""
        stream = self._stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield

    def wait_for_side_stream(self) -> None:
        """Make the current stream wait for the second one."""
        torch.cuda.current_stream().wait_stream(self._stream())

    def _stream(self) -> torch.cuda.Stream:
        device = torch.cuda.current_device()
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream()
        return self._streams[device]

    def _function(self, name: str, dtype: torch.dtype) -> ctypes.c_void_p:
        device = torch.cuda.current_device()
        function = self._functions.get((device, dtype, name))
        if function is None:
            function = ctypes.c_void_p()
            module = self._module(device, dtype)
            _check(
                _toolkit().cuModuleGetFunction(ctypes.byref(function), module, name.encode()), name
            )
            self._functions[device, dtype, name] = function
        return function

    def _module(self, device: int, dtype: torch.dtype) -> ctypes.c_void_p:
        module = self._modules.get((device, dtype))
        if module is None:
            module = ctypes.c_void_p()
            binary = compiled(self._architecture, dtype)
            _check(_toolkit().cuModuleLoadData(ctypes.byref(module), binary), "passes.cu")
            self._modules[device, dtype] = module
        return module


@cache
def _toolkit() -> ctypes.CDLL:
    """Torch's library that loads NVRTC and the CUDA driver, with the symbols of both."""
    return ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libcaffe2_nvrtc.so"))


@cache
def compiled(architecture: str, dtype: torch.dtype) -> bytes:
    """The binary of all kernels for one dtype; compiling takes some seconds once per machine."""
    source = Path(__file__).with_name("passes.cu").read_bytes()
    options = (
        b"--gpu-architecture=" + architecture.encode(),
        b"--std=c++17",
        *_OPTIONS[dtype],
    )
    version = (ctypes.c_int(), ctypes.c_int())
    _check(_toolkit().nvrtcVersion(*map(ctypes.byref, version)), "passes.cu")
    numbers = "-".join(str(number.value) for number in version)
    digest = sha256(b"\0".join((*options, source))).hexdigest()
    name = f"passes-{architecture}-nvrtc-{numbers}-{digest}.cubin"

    def compile_it(file: Path) -> None:
        file.write_bytes(_compile(architecture, source, options))

    return compiled_once(name, compile_it).read_bytes()


def _compile(architecture: str, source: bytes, options: tuple[bytes, ...]) -> bytes:
    nvrtc = _toolkit()
    program = ctypes.c_void_p()
    _check(
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"passes.cu", 0, None, None),
        "passes.cu",
    )
    try:
        failed = nvrtc.nvrtcCompileProgram(
            program, len(options), (ctypes.c_char_p * len(options))(*options)
        )
        if failed:
            log = _read(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
            text = log.rstrip(b"\0").decode(errors="replace")
            raise RuntimeError(f"passes.cu for {architecture}: {text}")
        return _read(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(program: ctypes.c_void_p, get_size: Any, get: Any) -> bytes:
    size = ctypes.c_size_t()
    _check(get_size(program, ctypes.byref(size)), "passes.cu")
    buffer = ctypes.create_string_buffer(size.value)
    _check(get(program, buffer), "passes.cu")
    return buffer.raw


def _check(error: int, what: str) -> None:
    if error:
        raise RuntimeError(f"CUDA refuses {what} with error {error}")
