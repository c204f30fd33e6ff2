"""The cells of a network in fused passes of compiled code, for one thread of a CPU or for a GPU.

The modules of dtb_builder.network stay the definition; here is the same function, faster.
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
