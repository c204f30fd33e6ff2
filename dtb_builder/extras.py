"""Packages that an installation may lack, and how to install them."""

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
    "threadpoolctl": "build",
    "torch": "build",
    "xarray": "export",
    "yaml": "build",
}
"""The extra of this package that installs each."""

_OTHERS = {"syne_tune": "syne-tune"}
"""Packages that no extra installs, with their names in the package index."""


@contextmanager
def extras_are_named(what: str) -> Iterator[None]:
    """Turn the ImportError of a missing package into an error that says what to install.

    Args:
        what: a command or a method that needs the package, for the message.

    Raises:
        MissingPackageError: a package of the tables above is not installed.
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
