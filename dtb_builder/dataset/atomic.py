"""Files that are whole or absent: written beside their name, then renamed."""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = [
    "remove_unfinished",
    "scratch_folder",
    "sync_folder",
    "whole_file",
    "whole_folder",
    "write_whole",
]


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the body has succeeded.

    The bytes and the name have reached the disk when the context ends. When the body raises,
    nothing stands under the name that did not stand there before, and the temporary file is gone.
    """
    if not path.parent.is_dir():  # said here, or else the temporary name would be blamed
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    temporary = _beside(path)
    try:
        yield temporary
        _sync(temporary, os.O_RDWR)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new temporary folder that takes the name ``path`` when the body has succeeded.

    Nothing, or an empty folder, stands there before. When the body raises, the temporary folder is
    gone. Its files are synced by whoever writes them.
    """
    temporary = _beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A temporary folder for what ``path`` is made from; `remove_unfinished` knows its name."""
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_whole(path: Path, data: bytes) -> None:
    """Make ``path`` hold just ``data``; a crash leaves the old file or the new one."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def remove_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Remove what writers of these files left when they were killed; nobody may be writing them.

    Args:
        folder: that the files are in.
        names: of the files, as patterns such as ``shard-*.h5``.
    """
    for name in names:
        for temporary in folder.glob(f".{name}.*.writing"):
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A name in the same folder that nobody else writes to."""
    # Machines that share a file system may share process ids, too.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}.writing")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk."""
    _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
