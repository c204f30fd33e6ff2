"""Append-only files: bytes are on disk when `append` returns, or are cut off again.

Journals, and the lines of scorings and searches, are such files. Their records have checksums; who
opens such a file cuts off the records that are damaged.
"""

import os
from pathlib import Path

from dtb_builder.dataset.atomic import followed, sync_folder

__all__ = ["append", "create", "cut"]


def create(path: Path) -> None:
    """Create an empty file and sync its name to disk; raises what `followed` raises."""
    followed(path).open("wb").close()
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append bytes; they are on disk when this returns.

    Only the caller may append to the file meanwhile. If the bytes cannot all be written, those that
    were written are cut off again.
    """
    with path.open("r+b", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(file.fileno(), left) :]
            os.fdatasync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise


def cut(path: Path, num_bytes: int) -> None:
    """Cut a file to its first ``num_bytes`` bytes, and sync it to disk."""
    if path.stat().st_size != num_bytes:
        with path.open("r+b") as file:
            file.truncate(num_bytes)
            os.fsync(file.fileno())
