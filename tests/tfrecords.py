"""Writes TFRecord files, as small as a test needs them."""

import struct

from dtb_builder.tables.tfrecord import masked_checksum

__all__ = ["framed"]


def framed(record: bytes) -> bytes:
    """A record as it stands in a file."""
    length = struct.pack("<Q", len(record))
    sums = [struct.pack("<I", masked_checksum(part)) for part in (length, record)]
    return length + sums[0] + record + sums[1]
