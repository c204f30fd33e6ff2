"""Decide from a config whether compiled passes are used."""

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
    """The settings with kernels=auto replaced by "on" where the passes can be used, else "off".

    The passes need float32, and one CPU thread or a GPU. Where they would be used on a CPU, they
    are compiled if need be, or a warning says why not; for a GPU, they are compiled on first use.

    Args:
        compute: the settings.
        recipe: the recipe of the training.
        channels: channels of a node in the first cells.

    Raises:
        ConfigError: compute.kernels=on, but the passes do not support the settings.
            Or a recipe that only the passes of a GPU support, without them.
    """
    on_gpu = compute.device == "cuda"
    unsupported = None
    if recipe.precision != "float32":
        unsupported = f"recipe.precision={recipe.precision}: the kernels need float32"
    elif on_gpu and channels % 4:
        unsupported = f"network.channels={channels}: GPU kernels need a multiple of four"
    if compute.kernels == "on" and unsupported is not None:
        raise ConfigError(f"compute.kernels=on does not support {unsupported}; set it to auto")
    if recipe.activations != "float32" and (not on_gpu or unsupported or compute.kernels == "off"):
        raise ConfigError(
            f"recipe.activations={recipe.activations} is how the compiled passes of a GPU store "
            "maps: it needs compute=cuda, recipe.precision=float32, compute.kernels other than off "
            "and a multiple of four channels"
        )
    if compute.kernels != "auto":
        return compute
    usable = (on_gpu or compute.threads == 1) and unsupported is None
    used = usable and (on_gpu or passes_file() is not None)
    if usable and not used:
        _logger.warning(
            "note: training without compiled kernels, because no C++ compiler could make them; "
            "install g++ or clang to make training faster"
        )
    return replace(compute, kernels="on" if used else "off")


def library_of(compute: ComputeConfig, activations: Activations = "float32") -> "AnyLibrary | None":
    """The compiled passes that runs are trained with, or None if kernels are off.

    Args:
        compute: the settings.
        activations: of the recipe.

    Raises:
        ConfigError: kernels are on, but this installation has none.
    """
    if compute.kernels != "on":
        return None
    from dtb_builder.network.kernels import find_library  # here, since planning needs no torch

    library = find_library(compute.device)
    if library is None:
        missing = (
            "install a C++ compiler"
            if compute.device == "cpu"
            else "torch sees no GPU, or came without CUDA's compiler"
        )
        raise ConfigError(
            "compute.kernels is on, but this installation has no compiled kernels for "
            f"{compute.device}: {missing}, or plan with compute.kernels=off"
        )
    return library.storing_bfloat16() if activations == "bfloat16" else library


def kernels_name(compute: ComputeConfig) -> str | None:
    """The instruction set of the compiled passes, or None if kernels are off."""
    library = library_of(compute)
    return None if library is None else library.name
