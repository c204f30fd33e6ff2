"""Find the compiled passes of the CPU, or compile them; needs no torch."""

import logging
from functools import cache
from pathlib import Path

from dtb_builder.network.compile_cache import compiled_once
from dtb_builder.network.compiler import (
    FOLDER,
    CompilerError,
    compile_passes,
    has_compiler,
    library_name,
)

__all__ = ["passes_file"]

_logger = logging.getLogger(__name__)


@cache
def passes_file() -> Path | None:
    """The library: of the package, or of the cache, where it is compiled on first use.

    None where it must be compiled and cannot be.
    """
    in_package = FOLDER / library_name()
    if in_package.exists():
        return in_package
    if not has_compiler():
        return None
    try:
        return compiled_once(in_package.name, _compile)
    except CompilerError as error:
        _logger.warning("note: the passes do not compile: %s", error)
        return None


def _compile(file: Path) -> None:
    _logger.warning("note: compiling the passes, once for this user and version: some 20 seconds")
    compile_passes(file)
