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

__all__ = ["EmulatedKernels", "can_emulate"]

_OPTIONS = {
    torch.float32: ("-DELEMENT=float",),
    torch.float64: ("-DELEMENT=double",),
    torch.bfloat16: ("-DELEMENT=float", "-DBFLOAT16"),
}


class EmulatedKernels:
    """What launches kernels as a device would.

    Args:
        folder: where they are compiled to when they are first launched.
    """

    name = "emulated"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libraries: dict[torch.dtype, ctypes.CDLL] = {}

    def launch(
        self,
        name: str,
        dtype: torch.dtype,
        blocks: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
    ) -> None:
        addresses = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        if dtype not in self._libraries:
            self._libraries[dtype] = _compiled(self._folder, dtype)
        if self._libraries[dtype].launch(name.encode(), *blocks, threads, addresses):
            raise KeyError(name)

    def side_stream(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def wait_for_side_stream(self) -> None:
        pass


def can_emulate() -> bool:
    """Whether there is a compiler that can compile passes.cu for the CPU."""
    return shutil.which("g++") is not None


def _compiled(folder: Path, dtype: torch.dtype) -> ctypes.CDLL:
    kernels = Path(dtb_builder.__file__).parent / "network" / "kernels"
    options = ("-std=c++17", "-O1", "-w", "-fPIC", "-shared", *_OPTIONS[dtype])
    source, to = Path(__file__).with_suffix(".cpp"), folder / f"{dtype}.so"
    subprocess.run(["g++", *options, f"-I{kernels}", str(source), "-o", str(to)], check=True)
    return ctypes.CDLL(str(to))
