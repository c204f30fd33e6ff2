"""The passes compiled for a processor, called from Python."""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["Library"]

_KINDS = {
    "p": ctypes.c_void_p,
    "l": ctypes.c_long,
    "d": ctypes.c_double,
    "i": ctypes.c_int,
}
# The arguments of kernels.cpp, in order: p a pointer, l a long, d a double, i the level; - is none,
# but one of the passes for a GPU.
_PASSES = {
    "augment": "ppppppllllllp",
    "norm_forward": "ppdppddpplppp",
    "norm_backward": "ppppdplppppp",
    "block_forward": "iplpplllllllppppp-",
    "block_backward": "iplpppppplppplllllllpppllpppp-",
    "pointwise_forward": "iplllllllplplpp",
    "pointwise_backward": "iplpplpppplllllllplpllp",
    "norm_sums": "iplpplplllpp",
    "join": "iplpppplppplllpl",
    "copy": "iplppplllpll",
    "pool_forward": "ipllllllpp",
    "pool_backward": "iplpplllllpll",
}
LEVELS = ("portable", "avx2", "avx512")
"""The instruction sets that passes are compiled for."""

_SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}


class Library:
    """The passes of one instruction set.

    Attributes:
        level: of LEVELS; "portable" uses only what every processor of this kind has.
        device_type: where the maps are.

    Args:
        path: the compiled library.
        level: which to use; by default the best that this processor has.
    """

    device_type = "cpu"

    def __init__(self, path: Path, level: int | None = None) -> None:
        library = ctypes.CDLL(str(path))
        self._path = path
        self.level = library.dtb_best_level() if level is None else level
        self._functions: dict[tuple[str, torch.dtype], Any] = {}
        for name, kinds in _PASSES.items():
            for dtype, suffix in _SUFFIXES.items():
                function = library[f"dtb_{name}_{suffix}"]
                function.argtypes = [_KINDS[kind] for kind in kinds if kind != "-"]
                function.restype = None
                self._functions[name, dtype] = function

    @property
    def name(self) -> str:
        """What beside the version of the code decides the bits: the instruction set."""
        return LEVELS[self.level]

    def __reduce__(self) -> tuple[Any, ...]:
        return Library, (self._path, self.level)

    def begin(self) -> "Library":
        """The same passes for one pass through a network, which ends with meet."""
        return self

    def meet(self) -> None:
        """Wait for whatever passes have left to be done: nothing."""

    def sums(self, channels: int, num_pixels: int, like: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Room for two sums per channel over pixels, float64, to which passes add."""
        one, two = torch.zeros(2, channels, dtype=torch.float64)
        return one, two

    def between(self, maps: Tensor) -> Tensor | None:  # noqa: ARG002
        """Room for what lies between the convolutions of a block: none, it is computed again."""
        return None

    def run(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | float | None) -> None:
        """Call a pass; a tensor is given as the address of its first element, None as null."""
        kinds = _PASSES[name]
        values = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
        if kinds[0] == "i":
            values.insert(0, self.level)
        wanted = (value for value, kind in zip(values, kinds, strict=True) if kind != "-")
        self._functions[name, dtype](*wanted)
