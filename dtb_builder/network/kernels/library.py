"""The passes on a CPU: calls into the compiled C++ library."""

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
"""The instruction sets for which the passes are compiled."""

_SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}
# How struct packs an argument into a Word of kernels.cpp.
_FORMATS = {ADDRESS: "Q", "long": "q", "double": "d"}


class _Pass(ctypes.Structure):
    """The struct Pass of kernels.cpp."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("arguments", ctypes.c_char_p),
        ("run", ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p)),
    )


class Library:
    """The passes of one instruction set.

    Attributes:
        level: the index in LEVELS; "portable" runs on every processor of this architecture.
        device_type: where the tensors are.
        gathers_sums: whether passes can gather the sums of norm_sums for any batch norm of whose
            output they write the gradient, and norm_sums those of several batch norms; otherwise
            only block_backward can, for one inside a separable convolution.

    Args:
        path: the compiled library.
        level: the index in LEVELS; by default the best one that this processor supports.
    """

    device_type = "cpu"
    gathers_sums = False

    def __init__(self, path: Path, level: int | None = None) -> None:
        library = ctypes.CDLL(str(path))
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
        """The instruction set, which decides the last bits."""
        return LEVELS[self.level]

    def __reduce__(self) -> tuple[Any, ...]:
        return Library, (self._path, self.level)

    def new_step(self) -> "Library":
        """This library: on a CPU, a pass has nothing left to do when it returns."""
        return self

    def finish(self) -> None:
        """Do nothing; see new_step."""

    def storing_bfloat16(self) -> "Library":
        """Passes that store maps in bfloat16: there are none for a CPU."""
        raise ConfigError("recipe.activations=bfloat16 needs a GPU: see compute.device")

    def maps_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """In which the maps of a network of this type are stored."""
        return dtype

    def sums(self, channels: int, num_pixels: int, like: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Buffers for two sums per channel, float64, shape (channels,)."""
        one, two = torch.empty(2, channels, dtype=torch.float64).unbind()
        return one, two

    def between(self, maps: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """More arguments of a block's passes: none on a CPU."""
        return {}

    def run(self, name: str, dtype: torch.dtype, **arguments: Tensor | int | float | None) -> None:
        """Call a pass; see `prepared`."""
        self.prepared(name, dtype, **arguments)()

    def prepared(
        self, name: str, dtype: torch.dtype, **arguments: Tensor | int | float | None
    ) -> Callable[[], None]:
        """A call of a pass with its arguments packed; valid while its tensors are alive.

        Args:
            name: the pass, such as "block_forward".
            dtype: float32 or float64, as the tensors have it.
            arguments: the names of kernels.cpp and passes.inc; for a pointer, a tensor or None.

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
