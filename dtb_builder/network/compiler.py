"""Compile the passes of a CPU; imports nothing but Python's own, so that setup.py can run it.

As a program it puts them into its own package, where every user of the package finds them.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

__all__ = ["FOLDER", "CompilerError", "compile_passes", "has_compiler", "library_name"]

FOLDER = Path(__file__).parent / "kernels"
"""Where the sources are, and the library if the package has it."""

_SOURCES = ("kernels.cpp", "passes.inc")
_FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")


class CompilerError(Exception):
    """There is no C++ compiler, or it refuses the sources."""


def library_name() -> str:
    """The library's file name, with a hash of the sources and flags that decide its bits."""
    parts = [(FOLDER / name).read_bytes() for name in _SOURCES]
    digest = sha256(b"\0".join([" ".join(_FLAGS).encode(), *parts])).hexdigest()
    return f"passes-{platform.machine()}-{digest[:16]}.so"


def has_compiler() -> bool:
    """Whether there is a C++ compiler: the variable CXX, or else c++."""
    return shutil.which(_compiler()[0]) is not None


def compile_passes(file: Path) -> None:
    """Compile the library into a file, in some twenty seconds.

    Raises:
        CompilerError: it cannot be compiled here.
    """
    partial = file.absolute().with_suffix(".partial")
    command = [*_compiler(), *_FLAGS, "kernels.cpp", "-o", str(partial)]
    try:
        subprocess.run(  # noqa: S603 - the compiler that this user names
            command, cwd=FOLDER, check=True, capture_output=True, text=True
        )
    except OSError as error:
        raise CompilerError(f"no C++ compiler: {error}") from error
    except subprocess.CalledProcessError as error:
        raise CompilerError(f"{shlex.join(command)}: {error.stderr[-1000:]}") from error
    partial.replace(file)


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


if __name__ == "__main__":
    wanted = FOLDER / library_name()
    try:
        if not wanted.exists():
            compile_passes(wanted)
            for file in set(FOLDER.glob("passes-*.so")) - {wanted}:
                file.unlink()
    except CompilerError as error:
        sys.stderr.write(f"note: training will use torch alone: {error}\n")
