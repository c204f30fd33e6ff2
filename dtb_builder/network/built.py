"""The path of the compiled passes, if they were built; needs no torch."""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

__all__ = ["passes_file"]


def passes_file() -> Path | None:
    """The compiled library of network/kernels, or None if it was installed without C++ compiler."""
    folder = Path(__file__).parent / "kernels"
    files = (folder / f"_passes{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((file for file in files if file.exists()), None)
