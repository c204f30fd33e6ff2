"""One column of the index, where it lies in its file: whole, at one epoch or of one run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.source import Source
from dtb_builder.errors import DamagedFileError

__all__ = ["StoredColumn"]

_CACHED_BYTES = 2**20
"""What a processor still has at hand when the checksum is made."""

_BLOCK_BYTES = 2**12


@dataclass(frozen=True, eq=False)
class StoredColumn:
    """A column as contiguous bytes of a file.

    Attributes:
        name: path in the file.
        dtype: of its numbers.
        shape: its rows first.
        offset: of its first byte.
        checksum: CRC-32C of its name and bytes.
        source: the file.

    Raises:
        DamagedFileError: in any method: the bytes are not those that were written.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    checksum: int
    source: Source

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape[1:], dtype=int)) * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        return self.shape[0] * self.row_bytes

    def whole(self) -> NDArray[Any]:
        """The column, not writeable."""
        return self.checked(self.source.read(self.offset, self.num_bytes))

    def checked(self, data: bytes) -> NDArray[Any]:
        """The column whose bytes were read, not writeable."""
        self._check(crc32c(data, crc32c(self.name.encode())))
        return self.array(data)

    def reduced(
        self, reduce: Callable[[NDArray[Any]], NDArray[Any]], dtype: DTypeLike
    ) -> NDArray[Any]:
        """A number of each row, shape (rows,), without keeping the rows.

        Args:
            reduce: makes some rows, shape (some, ...), into as many numbers.
            dtype: of those numbers.
        """
        found = np.empty(self.shape[0], dtype)
        for first, block in self.streamed(self._cached_rows):
            found[first : first + len(block)] = reduce(block)
        return found

    def row_span(self, row: int) -> tuple[int, int]:
        """Where a row lies in the file."""
        return self.offset + row * self.row_bytes, self.row_bytes

    def unproved_row(self, row: int) -> NDArray[Any]:
        """A row that no checksum was held against: for a place whose content has its own."""
        return self.array(self.source.read(*self.row_span(row)))[0]

    def proved_row(self, row: int) -> NDArray[Any]:
        """A row, its neighbourhood held against checksums that the first such call has made.

        That call reads the whole column, but keeps a thousandth of it.
        """
        block, position = divmod(row, self._block_rows)
        offset = self.offset + block * self._block_rows * self.row_bytes
        stop = min(offset + self._block_rows * self.row_bytes, self.offset + self.num_bytes)
        data = self.source.read(offset, stop - offset)
        if crc32c(data) != self._block_checksums[block]:
            raise DamagedFileError(f"{self.name}: its bytes at {offset} have changed")
        return self.array(data)[position]

    @cached_property
    def _block_rows(self) -> int:
        return max(1, _BLOCK_BYTES // self.row_bytes)

    @cached_property
    def _block_checksums(self) -> NDArray[np.uint32]:
        size = self._block_rows * self.row_bytes
        checksums: list[int] = []
        for _, block in self.streamed(self._cached_rows):
            data = block.data.cast("B")
            checksums += [crc32c(data[i : i + size]) for i in range(0, len(data), size)]
        return np.array(checksums, np.uint32)

    @cached_property
    def _cached_rows(self) -> int:
        """Whole blocks of rows, as many as are best read at once."""
        num_bytes = self.source.whole_up_to if self.source.is_far else _CACHED_BYTES
        return self._block_rows * max(1, num_bytes // (self._block_rows * self.row_bytes))

    def streamed(self, num_rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """The column in blocks of so many rows, each with its first row's position.

        They are proved only when the last was given: until then nothing may come of them.
        """
        checksum = crc32c(self.name.encode())
        for first in range(0, self.shape[0], num_rows):
            rows = min(num_rows, self.shape[0] - first)
            data = self.source.read(self.offset + first * self.row_bytes, rows * self.row_bytes)
            checksum = crc32c(data, checksum)
            yield first, self.array(data)
        self._check(checksum)

    def _check(self, checksum: int) -> None:
        if checksum != self.checksum:
            raise DamagedFileError(f"{self.name}: its checksum is not {self.checksum:#010x}")

    def array(self, data: bytes) -> NDArray[Any]:
        """Some whole rows, from their bytes; not writeable."""
        rows = len(data) // self.row_bytes if self.row_bytes else self.shape[0]
        return np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])
