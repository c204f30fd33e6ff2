"""Packages that not every installation has, and how to get each."""

from collections.abc import Iterator
from contextlib import contextmanager

from dtb_builder.errors import MissingPackageError

__all__ = ["extras_are_named"]

_EXTRAS = {
    "ConfigSpace": "search",
    "aiohttp": "remote",
    "dacite": "build",
    "filelock": "build",
    "fsspec": "remote",
    "hdf5plugin": "build",
    "huggingface_hub": "publish",
    "hydra": "build",
    "mlcroissant": "publish",
    "pandas": "export",
    "plotly": "report",
    "pooch": "build",
    "pyarrow": "export",
    "ray": "build",
    "resvg_py": "report",
    "safetensors": "export",
    "scipy": "report",
    "sklearn": "build",
    "threadpoolctl": "build",
    "torch": "build",
    "xarray": "export",
    "yaml": "build",
}
"""The extra of this package that brings each."""

_OTHERS = {"syne_tune": "syne-tune"}
"""What no extra brings, by its name in the package index."""


@contextmanager
def extras_are_named(what: str) -> Iterator[None]:
    """Say, where a package is missing, what to install.

    Args:
        what: it is that needs the package, such as ``dtb rank`` or a method.

    Raises:
        MissingPackageError: a package that is known here is not installed.
    """
    try:
        yield
    except MissingPackageError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _EXTRAS:
            wanted = f"'darts-training-bench[{_EXTRAS[package]}]'"
        elif package in _OTHERS:
            wanted = _OTHERS[package]
        else:
            raise
        raise MissingPackageError(
            f"{what} needs the package {package}: pip install {wanted}", name=error.name
        ) from error
