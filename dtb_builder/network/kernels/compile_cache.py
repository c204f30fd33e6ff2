"""A cache on disk for compiled code."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

__all__ = ["compiled_once"]


def compiled_once(name: str, compile_it: Callable[[], bytes]) -> bytes:
    """A compiled binary: from the cache, or else compiled and put there.

    The cache is ``$XDG_CACHE_HOME/darts-training-bench``, with ``~/.cache`` as the default. The
    binary will be executed, so its file is ignored if another user could have written it or if its
    SHA-256 does not match. Where no cache can be written, each process compiles.

    Args:
        name: the file's name, with hashes of all that decides the binary.
        compile_it: the compiler, called if the cache has no valid file.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = folder / "darts-training-bench" / name
    with contextlib.suppress(OSError):
        if _is_private(file.parent) and _is_private(file):
            digest, binary = (stored := file.read_bytes())[:32], stored[32:]
            if sha256(binary).digest() == digest:
                return binary
    binary = compile_it()
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
            temporary.write(sha256(binary).digest() + binary)
        Path(temporary.name).replace(file)
    return binary


def _is_private(path: Path) -> bool:
    """Whether this user owns a path and nobody else can write to it."""
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
