"""Fused forward and backward kernels for training the cells, for one CPU thread or a GPU.

The modules of dtb_builder.network define what is computed; the kernels compute it faster.
"""

from dtb_builder.network.kernels.cells import RepeatedCells, can_be_compiled, run_compiled
from dtb_builder.network.kernels.cuda import CudaLibrary
from dtb_builder.network.kernels.find import AnyLibrary, find_library
from dtb_builder.network.kernels.library import Library

__all__ = [
    "AnyLibrary",
    "CudaLibrary",
    "Library",
    "RepeatedCells",
    "can_be_compiled",
    "find_library",
    "run_compiled",
]
