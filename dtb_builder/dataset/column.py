"""One column of the index, where it lies in its file; whatever is read of it is proved by blocks.

Each 4 KiB of a column's bytes has a checksum in a list of their own, and the list has one that
counts the column's name in. To read some rows is to read the blocks that they touch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.schema import BLOCK_BYTES
from dtb_builder.dataset.source import Source, Span, wrong_bytes

__all__ = ["StoredColumn", "aligned_rows", "block_checksums", "list_checksum", "read_together"]

_CACHED_BYTES = 2**20
"""What a processor still has at hand when the checksums are made."""


def block_checksums(data: bytes | memoryview) -> list[int]:
    """The CRC-32C of each block of some bytes; the last block may be shorter."""
    view = memoryview(data)
    return [crc32c(view[i : i + BLOCK_BYTES]) for i in range(0, len(view), BLOCK_BYTES)]


def list_checksum(name: str, checksums: bytes) -> int:
    """The CRC-32C that proves a column's list of checksums."""
    return crc32c(checksums, crc32c(name.encode()))


def aligned_rows(row_bytes: int, num_bytes: int) -> int:
    """Rows that are read at once: about so many bytes, and only whole blocks."""
    rows = BLOCK_BYTES // math.gcd(BLOCK_BYTES, row_bytes) if row_bytes else BLOCK_BYTES
    return rows * max(1, num_bytes // max(1, rows * row_bytes))


class StoredColumn:
    """A column as contiguous bytes of a file.

    Args:
        name: path in the file.
        dtype: of its numbers.
        shape: its rows first.
        offset: of its first byte.
        source: the file.
        list_offset: of the first byte of its checksums.
        list_checksum: what proves them.

    Raises:
        DamagedFileError: in any method: the bytes are not those that were written.
    """

    def __init__(
        self,
        name: str,
        dtype: np.dtype,
        shape: tuple[int, ...],
        offset: int,
        source: Source,
        *,
        list_offset: int,
        list_checksum: int,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self.num_bytes = shape[0] * self.row_bytes
        self.span: Span = (offset, self.num_bytes)
        self.list_span: Span = (list_offset, 4 * -(-self.num_bytes // BLOCK_BYTES))
        self._list_checksum = list_checksum
        self._source = source
        self._checksums: NDArray[np.uint32] | None = None
        self._last: tuple[int, int, NDArray[Any]] = (0, 0, self.array(b""))

    def whole(self) -> NDArray[Any]:
        """The column, not writeable."""
        self.take_list(self._source.read(*self.list_span))
        return self.checked(self._source.read(*self.span))

    def take_list(self, checksums: bytes) -> None:
        """Prove the list of checksums that was read, and remember it."""
        if list_checksum(self.name, checksums) != self._list_checksum:
            raise wrong_bytes(self._source, f"{self.name}: the list of its checksums is wrong")
        self._checksums = np.frombuffer(checksums, "<u4")

    @property
    def has_list(self) -> bool:
        """Whether the list of checksums was read."""
        return self._checksums is not None

    def checked(self, data: bytes) -> NDArray[Any]:
        """The column whose bytes were read, after its list; not writeable."""
        self._prove(0, data)
        return self.array(data)

    def block_span(self, first: int, stop: int) -> Span:
        """Where the blocks lie that some rows touch."""
        begin = first * self.row_bytes // BLOCK_BYTES * BLOCK_BYTES
        end = min(-(-stop * self.row_bytes // BLOCK_BYTES) * BLOCK_BYTES, self.num_bytes)
        return self.span[0] + begin, max(0, end - begin)

    def checked_rows(self, first: int, stop: int, data: bytes) -> NDArray[Any]:
        """Some rows, from the bytes of the blocks that they touch; not writeable."""
        begin = self.block_span(first, stop)[0] - self.span[0]
        self._prove(begin // BLOCK_BYTES, data)
        start = first * self.row_bytes - begin
        rows = self.array(data[start : start + (stop - first) * self.row_bytes], stop - first)
        if self._source.is_far:
            self._last = first, stop, rows
        return rows

    def remembered(self, first: int, stop: int) -> NDArray[Any] | None:
        """Some rows of a file that is far away, if they are what was last read of it."""
        known_first, known_stop, rows = self._last
        if known_first <= first < stop <= known_stop:
            return rows[first - known_first : stop - known_first]
        return None

    def streamed(self, num_rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """The column in parts of so many rows, each with its first row's position."""
        for first in range(0, self.shape[0], num_rows):
            (rows,) = read_together([self], first, min(first + num_rows, self.shape[0]))
            yield first, rows

    def reduced(
        self, reduce: Callable[[NDArray[Any]], NDArray[Any]], dtype: DTypeLike
    ) -> NDArray[Any]:
        """A number of each row, shape (rows,), without keeping the rows.

        Args:
            reduce: makes some rows, shape (some, ...), into as many numbers.
            dtype: of those numbers.
        """
        found = np.empty(self.shape[0], dtype)
        num_bytes = self._source.whole_up_to if self._source.is_far else _CACHED_BYTES
        for first, rows in self.streamed(aligned_rows(self.row_bytes, num_bytes)):
            found[first : first + len(rows)] = reduce(rows)
        return found

    def array(self, data: bytes, num_rows: int | None = None) -> NDArray[Any]:
        """Some whole rows, from their bytes; not writeable."""
        if num_rows is None:
            num_rows = len(data) // self.row_bytes if self.row_bytes else self.shape[0]
        return np.frombuffer(data, self.dtype).reshape(num_rows, *self.shape[1:])

    def _prove(self, first_block: int, data: bytes) -> None:
        assert self._checksums is not None
        found = block_checksums(data)
        if found != self._checksums[first_block : first_block + len(found)].tolist():
            raise wrong_bytes(self._source, f"{self.name}: a checksum of its bytes is wrong")


def read_together(columns: Sequence[StoredColumn], first: int, stop: int) -> list[NDArray[Any]]:
    """The same rows of several columns of one file, proved; asked for at once."""
    known = [column.remembered(first, stop) for column in columns]
    wanted = [column for column, rows in zip(columns, known, strict=True) if rows is None]
    if not wanted:
        return [rows for rows in known if rows is not None]
    source = wanted[0]._source  # noqa: SLF001 - it is this module's
    listless = [column for column in wanted if not column.has_list]
    lists = source.read_many([column.list_span for column in listless]) if listless else ()
    for column, checksums in zip(listless, lists, strict=True):
        column.take_list(checksums)
    parts = iter(source.read_many([column.block_span(first, stop) for column in wanted]))
    return [
        column.checked_rows(first, stop, next(parts)) if rows is None else rows
        for column, rows in zip(columns, known, strict=True)
    ]
