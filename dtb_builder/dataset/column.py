"""A column of the index as bytes of a file, verified by block checksums.

Each 4 KiB block of a column has a CRC-32C in a list. The CRC-32C of the list also covers the
column's name. To read some rows, all blocks that contain them are read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.schema import BLOCK_BYTES
from dtb_builder.dataset.source import Source, Span, wrong_bytes

__all__ = ["StoredColumn", "aligned_rows", "block_checksums", "list_checksum", "read_rows"]


def block_checksums(data: bytes | memoryview) -> list[int]:
    """The CRC-32C of each block of some bytes; the last block may be shorter."""
    view = memoryview(data)
    return [crc32c(view[i : i + BLOCK_BYTES]) for i in range(0, len(view), BLOCK_BYTES)]


def list_checksum(name: str, checksums: bytes) -> int:
    """The CRC-32C of a column's name and list of checksums."""
    return crc32c(checksums, crc32c(name.encode()))


def aligned_rows(row_bytes: int, num_bytes: int) -> int:
    """The number of rows that fill whole blocks and have about ``num_bytes`` bytes."""
    rows = BLOCK_BYTES // math.gcd(BLOCK_BYTES, row_bytes) if row_bytes else BLOCK_BYTES
    return rows * max(1, num_bytes // max(1, rows * row_bytes))


@dataclass(eq=False)
class StoredColumn:
    """Where a column lies in its file.

    Attributes:
        name: path in the file.
        dtype: type of its numbers.
        shape: rows first.
        source: the file.
        offset: offset of its first byte.
        list_offset: offset of its list of checksums.
        list_checksum: CRC-32C of its name and list of checksums.
        checksums: the checksum of each block; None until they are read.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    source: Source
    offset: int
    list_offset: int = 0
    list_checksum: int = 0
    checksums: NDArray[np.uint32] | None = None

    def __post_init__(self) -> None:
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.num_bytes = self.shape[0] * self.row_bytes

    @property
    def list_span(self) -> Span:
        """The span of its list of checksums."""
        return self.list_offset, 4 * -(-self.num_bytes // BLOCK_BYTES)

    def span(self, first: int, stop: int) -> Span:
        """The span of the blocks that contain rows ``first`` to ``stop``."""
        begin = first * self.row_bytes // BLOCK_BYTES * BLOCK_BYTES
        end = min(-(-stop * self.row_bytes // BLOCK_BYTES) * BLOCK_BYTES, self.num_bytes)
        return self.offset + begin, max(0, end - begin)

    def take_list(self, checksums: bytes) -> None:
        """Verify the list of checksums that was read, and keep it."""
        if list_checksum(self.name, checksums) != self.list_checksum:
            raise wrong_bytes(self.source, f"{self.name}: the list of its checksums is wrong")
        self.checksums = np.frombuffer(checksums, "<u4")

    def proved(self, first: int, stop: int, data: bytes) -> NDArray[Any]:
        """Verified rows from the bytes of their span, read-only; call `take_list` first."""
        assert self.checksums is not None
        begin = self.span(first, stop)[0] - self.offset
        block, found = begin // BLOCK_BYTES, block_checksums(data)
        if found != self.checksums[block : block + len(found)].tolist():
            raise wrong_bytes(self.source, f"{self.name}: a checksum of its bytes is wrong")
        start = first * self.row_bytes - begin
        return self.array(data[start : start + (stop - first) * self.row_bytes], stop - first)

    def array(self, data: bytes, num_rows: int) -> NDArray[Any]:
        """Some rows from their bytes, read-only."""
        return np.frombuffer(data, self.dtype).reshape(num_rows, *self.shape[1:])


def read_rows(columns: Sequence[StoredColumn], first: int, stop: int) -> list[NDArray[Any]]:
    """The same rows of several columns of a file, requested together, read-only.

    Raises:
        DamagedFileError: the bytes are not those that were written.
    """
    if not columns:
        return []
    source = columns[0].source
    listless = [column for column in columns if column.checksums is None]
    lists = source.read_many([column.list_span for column in listless])
    for column, checksums in zip(listless, lists, strict=True):
        column.take_list(checksums)
    parts = source.read_many([column.span(first, stop) for column in columns])
    return [c.proved(first, stop, part) for c, part in zip(columns, parts, strict=True)]
