"""A cache on disk for compiled code."""

import atexit
import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from filelock import FileLock

__all__ = ["compiled_once"]


def compiled_once(name: str, compile_it: Callable[[Path], None]) -> Path:
    """The file of a compiled binary: in the cache, where it is put if it is not there.

    The cache is ``$XDG_CACHE_HOME/darts-training-bench``, with ``~/.cache`` as the default. The
    binary will be executed, so its file is ignored if another user could have written it or if its
    SHA-256, which is in a file beside it, does not match. One process compiles and the others wait
    for it. Where no cache can be written, each process compiles.

    Args:
        name: the file's name, with hashes of all that decides the binary.
        compile_it: the compiler, which writes the file that it is given.
    """
    with contextlib.suppress(OSError, RuntimeError):  # no home, no space, no locks
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        file = folder / "darts-training-bench" / name
        if _is_sound(file):
            return file
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(file.parent):
            with FileLock(f"{file}.lock"):
                if not _is_sound(file):
                    _put(file, compile_it)
                return file
    file = _folder_of_this_process() / name
    if not file.exists():
        compile_it(file)
    return file


def _put(file: Path, compile_it: Callable[[Path], None]) -> None:
    with TemporaryDirectory(dir=file.parent) as folder:
        compiled = Path(folder) / file.name
        compile_it(compiled)
        compiled.chmod(0o600)
        digest = _digest_file(file)
        digest.unlink(missing_ok=True)
        digest.touch(mode=0o600)
        digest.write_text(sha256(compiled.read_bytes()).hexdigest())
        compiled.replace(file)


def _is_sound(file: Path) -> bool:
    """Whether a file is the one that this user's compiler once wrote."""
    if not file.exists() or not _is_private(file.parent) or not _is_private(file):
        return False
    digest = _digest_file(file)
    return digest.exists() and digest.read_text() == sha256(file.read_bytes()).hexdigest()


def _digest_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _is_private(path: Path) -> bool:
    """Whether this user owns a path and nobody else can write to it."""
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def _folder_of_this_process() -> Path:
    """Removed when the process ends."""
    folder = mkdtemp(prefix="darts-training-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
