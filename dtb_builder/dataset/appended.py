"""Files that are only appended to: what was added is on disk, or is cut off again.

The journal's records and the lines of scorings and searches are kept so. Each says by its own
checksums what counts; whoever opens one cuts off what does not.
"""

import os
from pathlib import Path

from dtb_builder.dataset.atomic import followed, sync_folder

__all__ = ["append", "create", "cut"]


def create(path: Path) -> None:
    """Make an empty file whose name has reached the disk; raises as `followed`."""
    followed(path).open("wb").close()
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Add bytes; they have reached the disk when this returns.

    The caller holds the file: nobody else appends to it. Bytes that cannot be written whole are cut
    off again.
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
    """Leave a file its first bytes; the rest is gone from the disk, too, when this returns."""
    if path.stat().st_size != num_bytes:
        with path.open("r+b") as file:
            file.truncate(num_bytes)
            os.fsync(file.fileno())
