"""Recognise the errors of a disk that is full, read-only or gone."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from dtb_builder.errors import StorageError

__all__ = ["is_storage_fault", "storage_is_named"]

_DISK = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EIO,
        errno.ESTALE,
        errno.ENODEV,
    }
)
"""Error numbers that always concern a disk, even without a file name."""

_PLACE = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR})
"""Error numbers that concern the disk only if they name a file of the run folder."""


def is_storage_fault(error: BaseException, path: Path) -> bool:
    """Whether an error means that a file in a folder could not be written.

    Args:
        error: the error.
        path: the folder; an error that names a file elsewhere does not concern it.
    """
    if isinstance(error, StorageError):
        return True
    if not isinstance(error, OSError):
        return False
    named = [name for name in (error.filename, error.filename2) if isinstance(name, str | Path)]
    if not named:
        return error.errno in _DISK
    own = path.absolute()
    inside = any(own in (file := Path(name).absolute()).parents or file == own for name in named)
    return inside and error.errno in _DISK | _PLACE


@contextlib.contextmanager
def storage_is_named(path: Path) -> Iterator[None]:
    """Turn storage errors of the operating system about a folder into a `StorageError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError) or not is_storage_fault(error, path):
            raise
        reason = os.strerror(error.errno or errno.EIO)
        where = f" ({error.filename})" if error.filename else ""
        raise StorageError(
            f"{path} cannot be written to: {reason}{where}; finished work is safe, and the same "
            "command continues once this is fixed"
        ) from error
