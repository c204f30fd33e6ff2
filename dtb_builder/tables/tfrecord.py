"""Read the records of a TFRecord file without TensorFlow.

A record has its length in 8 bytes, the length's checksum in 4, its data, and their checksum in 4,
all little-endian. A checksum is a masked CRC-32C, see `masked_checksum`.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from crc32c import crc32c

from dtb_builder.errors import TableError

__all__ = ["masked_checksum", "read_records"]

_MAX_BYTES = 2**24  # of a record; a larger length is damage


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """The records from the current position to the end of a file.

    Raises:
        TableError: a checksum does not match, or the file ends within a record.
    """
    number = 0
    while header := file.read(12):
        length, checksum = struct.unpack("<QI", header) if len(header) == 12 else (0, -1)
        if masked_checksum(header[:8]) != checksum or length > _MAX_BYTES:
            raise TableError(f"record {number}: wanted a length and its checksum, got {header!r}")
        record = file.read(length)
        if file.read(4) != struct.pack("<I", masked_checksum(record)) or len(record) < length:
            raise TableError(f"record {number}: its {length} bytes are damaged or cut off")
        yield record
        number += 1


def masked_checksum(data: bytes) -> int:
    """The format's checksum of some bytes: CRC-32C, rotated right by 15 bits, plus a constant."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
