"""On files in the published format, written here field by field."""

import base64
import io
import json
import struct
from typing import Any

import pytest
from tfrecords import framed

from dtb_builder import errors
from dtb_builder.tables import EvaluationData, TrainedCell, read_nasbench101
from dtb_builder.tables.cell101 import Cell101

CELL = Cell101(((0, 1), (0, 2), (1, 2)), ("conv3x3-bn-relu",))


def varint(number: int) -> bytes:
    groups = []
    while True:
        number, group = number >> 7, number & 127
        groups.append(group | (128 if number else 0))
        if not number:
            return bytes(groups)


def evaluation(*values: float, path: bytes = b"model.ckpt-1") -> bytes:
    """Epoch, seconds and three accuracies as doubles, then a path."""
    doubles = [
        varint(key << 3 | 1) + struct.pack("<d", value) for key, value in enumerate(values, 1)
    ]
    message = b"".join(doubles) + varint(6 << 3 | 2) + varint(len(path)) + path
    return varint(1 << 3 | 2) + varint(len(message)) + message


METRICS = (
    evaluation(0, 0, 0.1, 0.1, 0.1)
    + evaluation(54, 500.5, 0.9, 0.8, 0.7)
    + evaluation(108, 1000.25, 1.0, 0.9375, 0.9)
    + varint(2 << 3) + varint(8_555_530)
    + varint(3 << 3 | 1) + struct.pack("<d", 1200.0)
)  # fmt: skip


def file(**changes: Any) -> io.BytesIO:
    row = {
        "hash": "00005c142e6f48ac74fdcf73e3439874",
        "epochs": 108,
        "adjacency": "011001000",
        "operations": "input,conv3x3-bn-relu,output",
        "metrics": base64.b64encode(METRICS).decode(),
    } | changes
    return io.BytesIO(framed(json.dumps(list(row.values())).encode()))


def test_a_record_is_a_training_of_a_cell() -> None:
    assert list(read_nasbench101(file())) == [
        TrainedCell(
            module_hash="00005c142e6f48ac74fdcf73e3439874",
            cell=CELL,
            num_epochs=108,
            num_parameters=8_555_530,
            halfway=EvaluationData(500.5, 0.9, 0.8, 0.7),
            final=EvaluationData(1000.25, 1.0, 0.9375, 0.9),
        )
    ]


def test_records_follow_one_another() -> None:
    both = io.BytesIO(file(epochs=4).getvalue() + file(epochs=12).getvalue())
    assert [training.num_epochs for training in read_nasbench101(both)] == [4, 12]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operations": "input,conv3x3-bn-relu,relu"}, "operations must go from input to output"),
        ({"operations": "input,maxpool5x5,output"}, "operations must be of"),
        ({"adjacency": "0110010001"}, "matrix must be square, got 10 entries"),
        ({"adjacency": "0000000000000000"}, "the matrix of 1 operations must have shape"),
        ({"metrics": "no base64"}, "is not one of NAS-Bench-101"),
        ({"metrics": base64.b64encode(METRICS[:-20]).decode()}, "is not one of NAS-Bench-101"),
        ({"metrics": base64.b64encode(METRICS[30:]).decode()}, "is not one of NAS-Bench-101"),
        ({"metrics": base64.b64encode(b"\xff" * 12).decode()}, "a number has more than 64 bits"),
        ({"metrics": base64.b64encode(b"\x0d1234").decode()}, "must have the wire type 0, 1 or 2"),
        ({"metrics": ""}, "is not one of NAS-Bench-101"),
        ({"hash": "a", "another": 1}, "too many values to unpack"),
    ],
)
def test_another_content_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.TableError, match=r"^record 0 ") as caught:
        list(read_nasbench101(file(**changes)))
    assert message in str(caught.value)


def test_an_evaluation_that_lacks_an_accuracy_is_refused() -> None:
    metrics = 3 * evaluation(0, 0, 0.1) + varint(2 << 3) + varint(7)
    with pytest.raises(errors.TableError, match=r"must have the fields 2 to 5, got \[1, 2, 3\]"):
        list(read_nasbench101(file(metrics=base64.b64encode(metrics).decode())))
