"""Read the published file of NAS-Bench-101: cells with their accuracies, one record per training.

Format: google-research/nasbench. A record of nasbench_full.tfrecord or nasbench_only108.tfrecord
is a JSON list of the cell's hash, the number of epochs, the adjacency matrix as digits, the
operations of the vertices separated by commas, and a base64-coded protocol buffer ``ModelMetrics``
with evaluations at the start, half way and at the end.
"""

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import BinaryIO

from dtb_builder.errors import TableError
from dtb_builder.tables.cell101 import MAX_VERTICES, Cell101
from dtb_builder.tables.tfrecord import read_records

__all__ = ["EvaluationData", "TrainedCell", "read_nasbench101"]


@dataclass(frozen=True)
class EvaluationData:
    """A network's metrics at one point of its training, named as in the published format.

    Attributes:
        training_seconds: the training time so far, on the publishers' TPU.
        train_accuracy: on 10,000 of the training images, in [0, 1].
        valid_accuracy: on validation images, in [0, 1].
        test_accuracy: on CIFAR-10's test images, in [0, 1].
    """

    training_seconds: float
    train_accuracy: float
    valid_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class TrainedCell:
    """One training of a cell's network; most cells have three for each number of epochs.

    Attributes:
        module_hash: the cell's hash in the table, the same for isomorphic cells.
        cell: the cell.
        num_epochs: the number of epochs of the training.
        num_parameters: the number of parameters in the table.
        halfway: the metrics after half of the epochs.
        final: the metrics after all epochs.
    """

    module_hash: str
    cell: Cell101
    num_epochs: int
    num_parameters: int
    halfway: EvaluationData
    final: EvaluationData


def read_nasbench101(file: BinaryIO) -> Iterator[TrainedCell]:
    """All trainings of a file, which is opened for reading bytes, in the file's order.

    Raises:
        TableError: the file is damaged or has another format; the message has the record's number.
    """
    for number, record in enumerate(read_records(file)):
        try:
            yield _trained_cell(record)
        except (
            *(AttributeError, ValueError, TypeError, LookupError, RecursionError),
            *(binascii.Error, struct.error),
        ) as error:
            reason = str(error)[:200]
            raise TableError(f"record {number} is not one of NAS-Bench-101: {reason}") from error


def _trained_cell(record: bytes) -> TrainedCell:
    module_hash, num_epochs, adjacency, operations, metrics = json.loads(record)
    if not isinstance(module_hash, str) or type(num_epochs) is not int:
        raise TypeError(f"a hash and epochs must be text and number, got {module_hash!r:.40}")
    size = isqrt(len(adjacency))
    if len(adjacency) != size**2:
        raise ValueError(f"an adjacency matrix must be square, got {len(adjacency)} entries")
    if size > MAX_VERTICES:
        raise ValueError(f"a cell has at most {MAX_VERTICES} vertices, got {size}")
    rows = [[int(digit) for digit in adjacency[i * size :][:size]] for i in range(size)]
    first, *inner, last = operations.split(",")
    if (first, last) != ("input", "output"):
        raise ValueError(f"operations must go from input to output, got {operations}")
    fields = _fields(base64.b64decode(metrics, validate=True))
    evaluations = [_evaluation(value) for key, value in fields if key == 1]
    (num_parameters,) = (value for key, value in fields if key == 2)
    if len(evaluations) != 3 or not isinstance(num_parameters, int):
        raise ValueError(f"wanted 3 evaluations and a parameter count, got {len(evaluations)}")
    return TrainedCell(
        module_hash=module_hash,
        cell=Cell101.from_matrix(rows, inner),
        num_epochs=num_epochs,
        num_parameters=num_parameters,
        halfway=evaluations[1],
        final=evaluations[2],
    )


def _evaluation(message: object) -> EvaluationData:
    """Fields 2 to 5 of ``EvaluationData``; 1 is the epoch, 6 the path of a checkpoint."""
    if not isinstance(message, bytes):
        raise TypeError(f"an evaluation must be a message, got {message!r}")
    values = {key: value for key, value in _fields(message) if isinstance(value, float)}
    if not {2, 3, 4, 5} <= values.keys():
        raise ValueError(f"an evaluation must have the fields 2 to 5, got {sorted(values)}")
    return EvaluationData(*(values[key] for key in (2, 3, 4, 5)))


def _fields(message: bytes) -> list[tuple[int, int | float | bytes]]:
    """The numbers and values of a protocol buffer's fields; only the three wire types used here."""
    fields: list[tuple[int, int | float | bytes]] = []
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        match tag & 7:
            case 0:
                value, position = _varint(message, position)
            case 1:
                (value,) = struct.unpack_from("<d", message, position)
                position += 8
            case 2:
                length, position = _varint(message, position)
                value = message[position : position + length]
                if len(value) < length:
                    raise ValueError("a message ends within a field")
                position += length
            case kind:
                raise ValueError(f"a field must have the wire type 0, 1 or 2, got {kind}")
        fields.append((tag >> 3, value))
    return fields


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """The varint at a position, with seven bits per byte, and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number has more than 64 bits")
