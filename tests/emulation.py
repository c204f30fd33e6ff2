"""The kernels of a GPU, run thread by thread on a CPU for machines that have no GPU."""

import contextlib
import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import dtb_builder

__all__ = ["EmulatedKernels", "compile_emulation"]

_ELEMENTS = {torch.float32: "float", torch.float64: "double"}


class EmulatedKernels:
    """What launches kernels as a device would.

    Args:
        folder: where compile_emulation has put them.
    """

    name = "emulated"

    def __init__(self, folder: Path) -> None:
        self._libraries = {
            dtype: ctypes.CDLL(str(folder / f"{element}.so"))
            for dtype, element in _ELEMENTS.items()
        }

    def launch(
        self,
        name: str,
        dtype: torch.dtype,
        blocks: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
    ) -> None:
        addresses = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        if self._libraries[dtype].launch(name.encode(), *blocks, threads, addresses):
            raise KeyError(name)

    def side_stream(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def wait_for_side_stream(self) -> None:
        pass


def compile_emulation(folder: Path) -> bool:
    """Compile passes.cu for the CPU; whether there is a compiler that can."""
    compiler = shutil.which("g++")
    if compiler is None:
        return False
    kernels = Path(dtb_builder.__file__).parent / "network" / "kernels"
    for element in _ELEMENTS.values():
        options = ("-std=c++17", "-O1", "-w", "-fPIC", "-shared", f"-DELEMENT={element}")
        source = Path(__file__).with_suffix(".cpp")
        to = folder / f"{element}.so"
        subprocess.run([compiler, *options, f"-I{kernels}", str(source), "-o", str(to)], check=True)
    return True
