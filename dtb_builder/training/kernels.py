"""Which compiled passes a config asks for."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from dtb_builder.errors import ConfigError
from dtb_builder.network.built import passes_file
from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.recipe import Activations, Recipe

if TYPE_CHECKING:
    from dtb_builder.network.kernels import AnyLibrary

__all__ = ["kernels_name", "library_of", "with_kernels_settled"]

_logger = logging.getLogger(__name__)


def with_kernels_settled(compute: ComputeConfig, recipe: Recipe, *, channels: int) -> ComputeConfig:
    """The same with kernels=auto turned on where it can be, else off.

    The passes are for float32, on one thread of a CPU or on a GPU, whose passes come with torch.
    Where only those for the CPU are missing, a line says so.

    Args:
        compute: the settings.
        recipe: of the training.
        channels: of a node in the first cells.

    Raises:
        ConfigError: compute.kernels=on, for what the passes cannot compute; or a recipe that only
            the passes of a GPU can follow, without them.
    """
    on_gpu = compute.device == "cuda"
    unfit = None
    if recipe.precision != "float32":
        unfit = f"recipe.precision={recipe.precision}, they are for float32"
    elif on_gpu and channels % 4:
        unfit = f"network.channels={channels}, on a GPU they need a multiple of four"
    if compute.kernels == "on" and unfit is not None:
        raise ConfigError(f"compute.kernels=on means nothing with {unfit}: leave it auto")
    if recipe.activations != "float32" and (not on_gpu or unfit or compute.kernels == "off"):
        raise ConfigError(
            f"recipe.activations={recipe.activations} is how the compiled passes of a GPU store "
            "maps: it needs compute=cuda, recipe.precision=float32, compute.kernels other than off "
            "and a multiple of four channels"
        )
    if compute.kernels != "auto":
        return compute
    usable = (on_gpu or compute.threads == 1) and unfit is None
    found = usable and (on_gpu or passes_file() is not None)
    if usable and not found:
        _logger.warning(
            "note: training without compiled kernels, which were not built: "
            "installing the package with a C++ compiler (g++ or clang) at hand makes it faster"
        )
    return replace(compute, kernels="on" if found else "off")


def library_of(compute: ComputeConfig, activations: Activations = "float32") -> "AnyLibrary | None":
    """The passes that runs are computed with, or None where these are torch's alone.

    Args:
        compute: the settings.
        activations: of the recipe.

    Raises:
        ConfigError: the config wants compiled passes, and this installation has none.
    """
    if compute.kernels != "on":
        return None
    from dtb_builder.network.kernels import find_library  # here, since planning needs no torch

    library = find_library(compute.device)
    if library is None:
        missing = (
            "install the package again with a C++ compiler"
            if compute.device == "cpu"
            else "torch sees no GPU, or came without CUDA's compiler"
        )
        raise ConfigError(
            "compute.kernels is on, but this installation has no compiled kernels for "
            f"{compute.device}: {missing}, or plan with compute.kernels=off"
        )
    return library.storing_bfloat16() if activations == "bfloat16" else library


def kernels_name(compute: ComputeConfig) -> str | None:
    """The instruction set of the passes, or None where there are none."""
    library = library_of(compute)
    return None if library is None else library.name
