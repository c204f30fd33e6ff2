"""Writing a state to a file that other tools load."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset.atomic import write_whole
from dtb_builder.extras import extras_are_named

__all__ = ["check_weights_name", "write_weights"]

_SUFFIXES = (".safetensors", ".pt")


def check_weights_name(path: Path) -> None:
    """Check that a file's name has a known ending.

    Raises:
        ValueError: it has another ending.
    """
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"expected a name that ends in .safetensors or .pt, got {path.name}")


@extras_are_named("a state's file")
def write_weights(
    path: Path, tensors: Mapping[str, NDArray[np.float32]], about: dict[str, str]
) -> None:
    """Write named tensors; the file is whole or absent. Only safetensors files store ``about``.

    Raises:
        ValueError: the name does not end in .safetensors or .pt.
        MissingPackageError: the package safetensors, or torch, is not installed.
    """
    check_weights_name(path)
    if path.suffix == ".safetensors":
        write_whole(path, _safetensors(tensors, about))
    else:
        from dtb_builder.network.state import torch_file

        write_whole(path, torch_file(tensors))


def _safetensors(tensors: Mapping[str, NDArray[np.float32]], about: dict[str, str]) -> bytes:
    from safetensors.numpy import save

    return save({name: values.copy() for name, values in tensors.items()}, about)
