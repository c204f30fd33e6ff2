"""Writes TFRecord files, as small as a test needs them."""

import base64
import json
import struct

from dtb_builder.tables.tfrecord import masked_checksum

__all__ = ["framed", "trained_cell"]


def framed(record: bytes) -> bytes:
    """A record as it stands in a file."""
    length = struct.pack("<Q", len(record))
    sums = [struct.pack("<I", masked_checksum(part)) for part in (length, record)]
    return length + sums[0] + record + sums[1]


def trained_cell(name: str, adjacency: str, operations: str, *accuracies: float) -> bytes:
    """A record of NAS-Bench-101: a cell's training that ended with this test accuracy.

    Args:
        name: the cell's hash.
        adjacency: the matrix as digits.
        operations: of all vertices, with commas between.
        accuracies: on the test images at the beginning, half way and at the end.
    """
    evaluations = [_evaluation(54.0 * i, accuracy) for i, accuracy in enumerate(accuracies)]
    message = b"".join(_field(1, part) for part in evaluations) + b"\x10\x07"
    row = [name, 108, adjacency, operations, base64.b64encode(message).decode()]
    return framed(json.dumps(row).encode())


def _evaluation(epoch: float, accuracy: float) -> bytes:
    """Epoch, seconds and three accuracies."""
    values = (epoch, 1.0, accuracy, accuracy, accuracy)
    return b"".join(bytes([key << 3 | 1]) + struct.pack("<d", v) for key, v in enumerate(values, 1))


def _field(key: int, message: bytes) -> bytes:
    assert len(message) < 128
    return bytes([key << 3 | 2, len(message)]) + message
