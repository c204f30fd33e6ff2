"""Find the compiled passes of this machine."""

from functools import cache

import torch

from dtb_builder.network.built import passes_file
from dtb_builder.network.kernels.cuda import CudaLibrary
from dtb_builder.network.kernels.library import Library
from dtb_builder.network.kernels.nvrtc import CompiledKernels

__all__ = ["AnyLibrary", "find_library"]

AnyLibrary = Library | CudaLibrary


@cache
def find_library(device_type: str = "cpu") -> AnyLibrary | None:
    """The compiled passes for the CPU or the current CUDA device, or None.

    None for "cpu" if the package came without them and cannot compile them; None for "cuda" if
    torch sees no GPU or came without NVRTC.
    """
    if device_type == "cpu":
        file = passes_file()
        return None if file is None else Library(file)
    if device_type != "cuda" or not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    try:
        return CudaLibrary(CompiledKernels(f"sm_{major}{minor}"))
    except OSError:
        return None
