"""What a compiler has made, kept on disk for the processes to come."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

__all__ = ["compiled_once"]


def compiled_once(name: str, compile_it: Callable[[], bytes]) -> bytes:
    """What a compiler makes, from an earlier process if one has made it.

    It lies in ``$XDG_CACHE_HOME/darts-training-bench``, ``~/.cache`` by default, behind its
    SHA-256. Since it will be run, nothing is read that others can write to, and nothing damaged.
    Where nothing can be kept, it is compiled each time.

    Args:
        name: of what decides the result, hashes included.
        compile_it: called if there is none.
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
    """Whether only this user can write there."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
