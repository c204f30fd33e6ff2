"""The passes compiled for a processor, called from Python."""

import ctypes
import struct
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dtb_builder.errors import ConfigError
from dtb_builder.network.kernels.declared import ADDRESS, declared_arguments

__all__ = ["LEVELS", "Library"]

LEVELS = ("portable", "avx2", "avx512")
"""The instruction sets that passes are compiled for."""

_SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}
# How an argument becomes a Word of kernels.cpp.
_FORMATS = {ADDRESS: "Q", "long": "q", "double": "d"}


class _Pass(ctypes.Structure):
    """A Pass of kernels.cpp."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("arguments", ctypes.c_char_p),
        ("run", ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p)),
    )


class Library:
    """The passes of one instruction set.

    Attributes:
        level: of LEVELS; "portable" uses only what every processor of this kind has.
        device_type: where the maps are.
        gathers_sums: whether block_backward gathers the sums of any batch norm after which the
            gradient is that it writes, given the maps before it; else only of one within a block.

    Args:
        path: the compiled library.
        level: which to use; by default the best that this processor has.

    Raises:
        ImportError: the library was compiled from other sources, which only a checkout can have.
    """

    device_type = "cpu"
    gathers_sums = False

    def __init__(self, path: Path, level: int | None = None) -> None:
        library = ctypes.CDLL(str(path))
        if not hasattr(library, "dtb_passes_f32"):
            raise ImportError(f"{path} is of another version of this package: install it again")
        self._path = path
        self.level = library.dtb_best_level() if level is None else level
        self._passes: dict[tuple[str, torch.dtype], tuple[tuple[str, ...], struct.Struct, Any]] = {}
        for dtype, suffix in _SUFFIXES.items():
            passes = library[f"dtb_passes_{suffix}"]
            passes.restype = ctypes.POINTER(_Pass)
            for one in takewhile(lambda one: one.name is not None, passes()):
                kinds = declared_arguments(one.arguments.decode())
                layout = struct.Struct("".join(_FORMATS[kind] for kind in kinds.values()))
                self._passes[one.name.decode(), dtype] = (tuple(kinds), layout, one.run)

    @property
    def name(self) -> str:
        """What decides the bits besides the version of the code: the instruction set."""
        return LEVELS[self.level]

    def __reduce__(self) -> tuple[Any, ...]:
        return Library, (self._path, self.level)

    def begin(self) -> "Library":
        """The same passes for one pass through a network, which ends with meet."""
        return self

    def meet(self) -> None:
        """Wait for whatever passes have left to be done: nothing."""

    def storing_bfloat16(self) -> "Library":
        """Passes that store maps in bfloat16: there are none for a CPU."""
        raise ConfigError("recipe.activations=bfloat16 needs a GPU: see compute.device")

    def maps_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """In which the maps of a network of this type are stored."""
        return dtype

    def sums(self, channels: int, num_pixels: int, like: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Room for two sums per channel over pixels, float64."""
        one, two = torch.empty(2, channels, dtype=torch.float64).unbind()
        return one, two

    def between(self, maps: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Further arguments of a block's passes: none."""
        return {}

    def run(self, name: str, dtype: torch.dtype, **arguments: Tensor | int | float | None) -> None:
        """Call a pass; see `prepared`."""
        self.prepared(name, dtype, **arguments)()

    def prepared(
        self, name: str, dtype: torch.dtype, **arguments: Tensor | int | float | None
    ) -> Callable[[], None]:
        """A call of a pass, for as long as the memory of its arguments is theirs.

        Args:
            name: of the pass.
            dtype: float32 or float64, that of the maps.
            arguments: as kernels.cpp and passes.inc name them; for an address, a tensor or None.

        Raises:
            KeyError: an argument is missing.
            TypeError: the pass has no such argument.
        """
        names, layout, run = self._passes[name, dtype]
        if len(arguments) != len(names):
            raise TypeError(f"{name} takes {', '.join(names)}; got {', '.join(arguments)}")
        words = []
        for argument in names:
            value = arguments[argument]
            if value is None:
                value = 0
            elif isinstance(value, Tensor):
                value = value.data_ptr()
            words.append(value)
        return partial(run, self.level, layout.pack(*words))
