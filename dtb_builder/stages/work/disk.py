"""Telling a disk that is full, read-only or gone from a fault of the work itself."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from dtb_builder.errors import StorageError

__all__ = ["is_storage_fault", "storage_is_named"]

_ERRNOS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENODEV,
    }
)


def is_storage_fault(error: BaseException) -> bool:
    """Whether an error says that a file could not be kept, for no fault of who wrote it."""
    if isinstance(error, StorageError):
        return True
    return isinstance(error, OSError) and error.errno in _ERRNOS


@contextlib.contextmanager
def storage_is_named(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a run folder into a `StorageError` that names it."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError) or not is_storage_fault(error):
            raise
        reason = os.strerror(error.errno or errno.EIO)
        where = f" ({error.filename})" if error.filename else ""
        raise StorageError(
            f"{path} cannot be written to: {reason}{where}; what is finished is safe, and the "
            "same command goes on once that is mended"
        ) from error
