"""Files that are whole or absent: written under a temporary name, then renamed.

Use it for every file whose name the user gives: a link, a device or a pipe of that name is kept.
"""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
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
    """A temporary path that is renamed to ``path`` if the body succeeds.

    The bytes and the name are on disk when the context ends. If the body raises, ``path`` is
    unchanged and the temporary file is removed. A file that is replaced passes on its mode. If
    ``path`` is a link, its target is written; a device or a pipe receives the bytes.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        PermissionError: ``path`` is another user's link.
    """
    path = followed(path)
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        with _handed_over(path, mode) as temporary:
            yield temporary
        return
    if not path.parent.is_dir():  # checked here, or the error would name the temporary path
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    temporary = _beside(path)
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        _sync(temporary, os.O_RDWR)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _handed_over(path: Path, mode: int) -> Iterator[Path]:
    """A temporary path elsewhere, whose bytes are copied to a device or pipe at the end."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, name a file", str(path))
    with tempfile.TemporaryDirectory() as folder:
        yield (temporary := Path(folder) / "bytes")
        with temporary.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)


def followed(path: Path) -> Path:
    """The target of a path: the path itself, unless it is a link.

    Raises:
        PermissionError: the path is a link that belongs neither to this user nor to root. In a
            shared folder, another user may have made it to get a file of this user overwritten.
    """
    for _ in range(_MOST_LINKS):
        if not path.is_symlink() or _is_magic(path):
            return path
        if path.lstat().st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "it is another user's link", str(path))
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


_MOST_LINKS = 40
"""Linux follows the same number."""


def _is_magic(path: Path) -> bool:
    """Whether a link refers to an open file instead of a path, as /proc/self/fd/1 may."""
    return not (path.parent / path.readlink()).exists() and path.exists()


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new temporary folder that is renamed to ``path`` if the body succeeds.

    ``path`` must be absent, an empty folder, or a link to either. If the body raises, the temporary
    folder is removed. The body must sync the files that it writes.
    """
    path = followed(path)
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
    """A temporary folder for the parts of ``path``; `remove_unfinished` also removes it."""
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``; a crash leaves either the old file or the new one."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def remove_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Remove temporary files of killed writers; no process may be writing these files now.

    Args:
        folder: the folder of the files.
        names: patterns of the files' names, such as ``shard-*.h5``.
    """
    for name in names:
        for temporary in folder.glob(f".{name}.*.writing"):
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A unique temporary path in the same folder."""
    # Not the process id: two machines with a shared file system may use the same one.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}.writing")


def sync_folder(folder: Path) -> None:
    """Sync a folder's names to disk."""
    _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
