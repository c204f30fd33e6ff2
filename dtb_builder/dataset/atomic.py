"""Files that are whole or absent: written beside their name, then renamed.

Whoever writes a file under a name that somebody gave writes it through here, so that a link, a
device or a pipe of that name stays what it is.
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
    """A temporary path that becomes ``path`` when the body has succeeded.

    The bytes and the name have reached the disk when the context ends. When the body raises,
    nothing stands under the name that did not stand there before, and the temporary file is gone.
    A file that was there before leaves its mode. A link stays, and the file that it leads to is
    written; a device or a pipe is given the bytes.

    Raises:
        IsADirectoryError: it is a folder.
        PermissionError: it is a link that somebody else has put there.
    """
    path = followed(path)
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        with _handed_over(path, mode) as temporary:
            yield temporary
        return
    if not path.parent.is_dir():  # said here, or else the temporary name would be blamed
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
    """A temporary path elsewhere whose bytes a device or pipe is given at the end."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, name a file", str(path))
    with tempfile.TemporaryDirectory() as folder:
        yield (temporary := Path(folder) / "bytes")
        with temporary.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)


def followed(path: Path) -> Path:
    """What a path leads to: itself, unless it is a link.

    Raises:
        PermissionError: it is a link of neither this user nor root. In a folder that others write
            to, it may have been put there to have a file of this user's overwritten.
    """
    for _ in range(_MOST_LINKS):
        if not path.is_symlink() or _is_magic(path):
            return path
        if path.lstat().st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "it is another user's link", str(path))
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


_MOST_LINKS = 40
"""As many as Linux follows."""


def _is_magic(path: Path) -> bool:
    """Whether a link names what is open rather than a path, as /proc/self/fd/1 may."""
    return not (path.parent / path.readlink()).exists() and path.exists()


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new temporary folder that takes the name ``path`` when the body has succeeded.

    Nothing, or an empty folder, stands there before, or a link to one. When the body raises, the
    temporary folder is gone. Its files are synced by whoever writes them.
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
