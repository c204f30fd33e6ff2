"""Every name, type and shape of a DTB file; data_schema.md says the same in prose."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dtb_builder.record import METRICS

__all__ = [
    "BLOCK_BYTES",
    "COLUMNS",
    "FORMAT",
    "MAX_ENTRIES",
    "MAX_FLOATS",
    "MOMENTS",
    "POINTERS",
    "ROW_COLUMNS",
    "SCHEMA_VERSION",
    "TENSOR_DTYPE",
    "Column",
    "FileKind",
    "checksums_of",
    "run_group",
]

FORMAT = "darts-training-bench"
"""The value of the root attribute ``format`` of every DTB file."""

SCHEMA_VERSION = "2.0"
"""``major.minor``; readers refuse another major version."""

DRAFT_MAJOR = "1"
"""The major version of drafts in which no benchmark was published."""

MAX_FLOATS = 2**25
"""The most floats of a state; a larger number means damage, since no DARTS network comes near."""

MAX_ENTRIES = 2**20
"""The most epochs of a run, epoch 0 included, and the most moments of a file."""

BLOCK_BYTES = 2**12
"""Bytes of a column that one checksum covers."""


class FileKind:
    """The values of the root attribute ``kind``."""

    SHARD = "shard"
    BENCHMARK = "benchmark"
    STATES = "states"


FORMAT_ATTRIBUTE = "format"
VERSION_ATTRIBUTE = "schema_version"
KIND_ATTRIBUTE = "kind"
PROVENANCE_ATTRIBUTE = "provenance_crc32c"
"""A root attribute: CRC-32C of the provenance, equal in all files of a benchmark."""

CHECKSUM_ATTRIBUTE = "crc32c"
"""An attribute of each list of checksums: CRC-32C of the column's name and the list.

It covers the name, so that a column cannot replace another.
"""

PROVENANCE = "provenance"
"""One UTF-8 string: JSON of the config, the images, the splits and the writer's version."""

ENVIRONMENTS = "environments"
"""UTF-8 strings, each JSON: devices and software that epochs ran on."""

ORIGINS = "origins"
"""UTF-8 strings, each JSON: where runs come from."""

VOLUMES = "volumes"
"""UTF-8 strings: names of files in the same folder that hold states; "" is this file."""

FAILURE_MESSAGES = "failures/message"
"""UTF-8 strings: the traceback of each failed run."""

TEXTS = (PROVENANCE, ENVIRONMENTS, ORIGINS, VOLUMES, FAILURE_MESSAGES)
"""The string datasets, one-dimensional."""


Shape = type | dict[str, "Shape"]
"""The type of a JSON value; for an object, the type of each key's value, ``*`` for any key."""

_NETWORK: Shape = {
    **dict.fromkeys(("channels", "layers", "num_classes", "input_channels", "image_size"), int),
    "auxiliary": bool,
}

_PROVENANCE: dict[str, Shape] = {
    "config": {
        "compute": dict,
        "images": {"name": str, "num_valid": int, "split_seed": int},
        "network": dict,
        "recipe": dict,
        "seeds": list,
        "space": {"kind": str},
        "states": dict,
    },
    "images": {"name": str, "num_classes": int, "sha256": str, "shape": list},
    "network": _NETWORK,
    "splits": {"train": {}, "*": {"of": str, "size": int}},
}

PROVENANCE_SHAPE: Shape = {**_PROVENANCE, "plan": {"runs": int, "sha256": str}}
"""The parts of a provenance that readers use."""

UNITED_PROVENANCE_SHAPE: Shape = {**_PROVENANCE, "plans": list}
"""The same for a united file."""

ENVIRONMENT_SHAPE: Shape = {"device_name": str}


@dataclass(frozen=True)
class Column:
    """One array of the index; data_schema.md says what its numbers mean.

    Attributes:
        name: path in the file.
        dtype: little-endian numpy type.
        shape: "runs", "epochs" (num_epochs + 1), "moments" and "failures" stand for the sizes of
            the file.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str, ...]

    @property
    def counts_runs(self) -> bool:
        """Whether a row stands for a run."""
        return self.shape[0] == "runs"


def _columns(
    group: str, dtype: str, shape: tuple[int | str, ...], names: Iterable[str]
) -> tuple[Column, ...]:
    return tuple(Column(f"{group}/{name}", np.dtype(dtype), shape) for name in names)


_RUN, _EPOCHS, _AT_MOMENTS = ("runs",), ("runs", "epochs"), ("runs", "moments")
_MOMENT, _FAILURE = ("moments",), ("failures",)
_CELLS = (2, 8, 2)

COLUMNS: tuple[Column, ...] = (
    *_columns("moments", "<i4", _MOMENT, ["epoch"]),
    *_columns("moments", "<i8", _MOMENT, ["step"]),
    *_columns("moments", "<i4", _MOMENT, ["base"]),
    *_columns("runs", "<i8", _RUN, ["number", "seed", "order_seed"]),
    *_columns("runs", "|u1", ("runs", *_CELLS), ["genotype"]),
    *_columns("runs", "|u1", ("runs", 32), ["key", "iso_key"]),
    *_columns("runs", "<i8", _RUN, ["num_parameters", "multiply_accumulates"]),
    *_columns("runs", "<i4", _RUN, ["num_epochs"]),
    *_columns("runs", "<u4", _EPOCHS, ["state_crc32c"]),
    *_columns("metrics", "<f8", _EPOCHS, METRICS),
    *_columns("measured", "|u1", _EPOCHS, METRICS),
    *_columns("runs", "<i8", _RUN, ["num_floats", "num_tensors"]),
    *_columns("runs", "<u4", _RUN, ["tensors_crc32c"]),
    *_columns("moments", "<i8", _AT_MOMENTS, ["length"]),
    *_columns("moments", "<u4", _AT_MOMENTS, ["crc32c"]),
    *_columns("moments", "<i8", _AT_MOMENTS, ["momentum_length"]),
    *_columns("moments", "<u4", _AT_MOMENTS, ["momentum_crc32c"]),
    *_columns("runs", "<u4", _RUN, ["crc32c"]),
    *_columns("runs", "<i4", _EPOCHS, ["environment"]),
    *_columns("runs", "<i4", _RUN, ["origin", "volume"]),
    *_columns("runs", "<i8", _RUN, ["tensors_offset"]),
    *_columns("moments", "<i8", _AT_MOMENTS, ["offset", "momentum_offset"]),
    *_columns("failures", "<i8", _FAILURE, ["number", "seed", "order_seed"]),
    *_columns("failures", "|u1", ("failures", *_CELLS), ["genotype"]),
    *_columns("failures", "<i8", _FAILURE, ["attempts"]),
)
"""The columns of the index, in the order in which they are written."""

MOMENTS: tuple[Column, ...] = tuple(c for c in COLUMNS if c.shape == ("moments",))
"""The columns of the table of moments, which all runs of a file share."""

_ROW_CHECKSUM = [column.name for column in COLUMNS].index("runs/crc32c")

ROW_COLUMNS: tuple[Column, ...] = tuple(
    c for c in COLUMNS[:_ROW_CHECKSUM] if c.counts_runs and c.name != "runs/number"
)
"""The entries of a run that runs/crc32c covers: they do not change from the worker on."""

POINTERS = (
    "runs/volume",
    "runs/tensors_offset",
    "moments/offset",
    "moments/momentum_offset",
)
"""The columns that locate states: a copy has its own."""

CHECKSUMS_GROUP = "checksums"


def checksums_of(name: str) -> str:
    """The name of the list of checksums of a column or text: a u4 for each 4 KiB block."""
    return f"{CHECKSUMS_GROUP}/{name}"


STATES_GROUP = "states"
WHOLE = "whole"
DIFFERENCES = "differences"
MOMENTUM = "momentum"
TENSORS = "tensors"

TENSOR_DTYPE = np.dtype(
    [("name", "S64"), ("rank", "|u1"), ("shape", "<i4", (4,)), ("offset", "<i8")]
)
"""A row of a run's tensor table; sizes beyond ``rank`` are 1."""


def run_group(number: int) -> str:
    """The name of the group with the states of the run of this number."""
    return f"{STATES_GROUP}/{number:08d}"
