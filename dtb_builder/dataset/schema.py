"""Every name, type and shape of a DTB file; data_schema.md says the same in prose."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from dtb_builder.record import METRICS

__all__ = [
    "ADDED_GROUPS",
    "COLUMNS",
    "FORMAT",
    "MAX_FLOATS",
    "POINTERS",
    "ROW_CHECKSUMS",
    "ROW_COLUMNS",
    "SCHEMA_VERSION",
    "TENSOR_DTYPE",
    "Column",
    "FileKind",
    "run_group",
]

FORMAT = "darts-training-bench"
"""The value of the root attribute ``format``, by which a DTB file is known."""

SCHEMA_VERSION = "1.2"
"""``major.minor``: readers refuse another major number."""

MAX_FLOATS = 2**26
"""The longest state a file may hold; a larger number means damage (no DARTS network comes near)."""


class FileKind:
    """The values of the root attribute ``kind``."""

    SHARD = "shard"
    BENCHMARK = "benchmark"
    STATES = "states"


FORMAT_ATTRIBUTE = "format"
VERSION_ATTRIBUTE = "schema_version"
KIND_ATTRIBUTE = "kind"
PROVENANCE_ATTRIBUTE = "provenance_crc32c"
"""CRC-32C of the provenance, on the root of every file: files of one benchmark share it."""

CHECKSUM_ATTRIBUTE = "crc32c"
"""CRC-32C of a dataset's name and bytes, on each dataset outside the states group.

The name is counted in so that no dataset can stand in for another.
"""

PROVENANCE = "provenance"
"""One UTF-8 string: JSON of the config, the images, the splits and the writer's version."""

ENVIRONMENTS = "environments"
"""UTF-8 strings, each JSON: the device and software of some epochs."""

VOLUMES = "volumes"
"""UTF-8 strings: the files that hold states, beside this one; "" is this file itself."""

FAILURE_MESSAGES = "failures/message"
"""UTF-8 strings: why each failed run failed, with its traceback."""

TEXTS = (PROVENANCE, ENVIRONMENTS, VOLUMES, FAILURE_MESSAGES)
"""The string datasets, one-dimensional."""


@dataclass(frozen=True)
class Column:
    """One array of the index: a row for every run (or failed run).

    Attributes:
        name: path in the file.
        dtype: little-endian numpy type.
        per_row: shape of one row; "epochs" stands for num_epochs + 1, "steps" and "differences" for
            how many such states each of the file's runs has.
        meaning: one sentence, also in data_schema.md.
        since: the minor version that added it.
    """

    name: str
    dtype: np.dtype
    per_row: tuple[int | str, ...]
    meaning: str
    since: int = 0

    def row_shape(self, num_epochs: int, num_steps: int, num_differences: int) -> tuple[int, ...]:
        """The shape of one row in a file of runs with so many epochs, and such states."""
        sizes = {"epochs": num_epochs + 1, "steps": num_steps, "differences": num_differences}
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.per_row)

    @property
    def counts_failures(self) -> bool:
        """Whether a row stands for a failed run."""
        return self.name.startswith("failures/")


def _column(
    name: str, dtype: str, per_row: tuple[int | str, ...], meaning: str, since: int = 0
) -> Column:
    return Column(name, np.dtype(dtype), per_row, meaning, since)


COLUMNS: tuple[Column, ...] = (
    _column("runs/number", "<i8", (), "the run's number in the plan, strictly increasing"),
    _column("runs/seed", "<i8", (), "the seed of its initialisation and training"),
    _column(
        "runs/genotype",
        "|u1",
        (2, 8, 2),
        "normal and reduction cell: 8 edges of (operation, predecessor)",
    ),
    _column("runs/key", "|u1", (32,), "SHA-256 of the genotype's canonical text"),
    _column("runs/iso_key", "|u1", (32,), "SHA-256 that isomorphic genotypes share"),
    _column("runs/num_parameters", "<i8", (), "trainable parameters, auxiliary head included"),
    _column("runs/environment", "<i4", ("epochs",), "where each epoch ran: index of environments"),
    *(_column(f"metrics/{name}", "<f8", ("epochs",), text) for name, text in METRICS.items()),
    *(
        _column(f"measured/{name}", "|u1", ("epochs",), f"1 where metrics/{name} was measured")
        for name in METRICS
    ),
    _column("state_index/volume", "<i4", (), "where the run's states lie: index of volumes"),
    _column("state_index/num_floats", "<i8", (), "length of the run's state vectors"),
    _column("state_index/num_tensors", "<i8", (), "tensors in the run's states"),
    _column("state_index/tensors_offset", "<i8", (), "first byte of the run's tensor table"),
    _column("state_index/tensors_crc32c", "<u4", (), "CRC-32C of the tensor table's bytes"),
    _column("state_index/kept", "|u1", ("epochs",), "1 where the epoch's state is in the file"),
    _column("state_index/offset", "<i8", ("epochs",), "first byte of the state's frame"),
    _column("state_index/length", "<i8", ("epochs",), "bytes of the state's frame"),
    _column("state_index/crc32c", "<u4", ("epochs",), "CRC-32C of the state's frame"),
    _column(
        "state_index/num_batches_tracked",
        "<i8",
        ("epochs",),
        "training steps behind the state's batch-norm statistics",
    ),
    _column(
        "runs/crc32c",
        "<u4",
        (),
        "CRC-32C of the run's rows of the columns above, one after the other, without "
        "runs/environment, state_index/volume, state_index/tensors_offset and state_index/offset",
    ),
    _column("step_index/step", "<i8", ("steps",), "step of the first epoch, from 1, increasing", 1),
    _column("step_index/offset", "<i8", ("steps",), "first byte of that state's frame", 1),
    _column("step_index/length", "<i8", ("steps",), "bytes of that state's frame", 1),
    _column("step_index/crc32c", "<u4", ("steps",), "CRC-32C of that state's frame", 1),
    _column(
        "step_index/num_batches_tracked",
        "<i8",
        ("steps",),
        "training steps behind that state's batch-norm statistics",
        1,
    ),
    _column(
        "step_index/row_crc32c",
        "<u4",
        (),
        "CRC-32C of the run's rows of runs/crc32c and of the columns of step_index above, one "
        "after the other, without step_index/offset",
        1,
    ),
    _column(
        "difference_index/epoch",
        "<i8",
        ("differences",),
        "epoch of a state that is stored as a difference, increasing",
        2,
    ),
    _column(
        "difference_index/key",
        "<i8",
        ("differences",),
        "epoch of the kept state that it is the difference to",
        2,
    ),
    _column(
        "difference_index/offset", "<i8", ("differences",), "first byte of that state's frame", 2
    ),
    _column("difference_index/length", "<i8", ("differences",), "bytes of that state's frame", 2),
    _column("difference_index/crc32c", "<u4", ("differences",), "CRC-32C of that state's frame", 2),
    _column(
        "difference_index/num_batches_tracked",
        "<i8",
        ("differences",),
        "training steps behind that state's batch-norm statistics",
        2,
    ),
    _column(
        "difference_index/row_crc32c",
        "<u4",
        (),
        "CRC-32C of the run's rows of step_index/row_crc32c and of the columns of difference_index "
        "above, one after the other, without difference_index/offset",
        2,
    ),
    _column("failures/number", "<i8", (), "the failed run's number in the plan"),
    _column("failures/seed", "<i8", (), "its seed"),
    _column("failures/genotype", "|u1", (2, 8, 2), "its genotype, as in runs/genotype"),
    _column("failures/attempts", "<i8", (), "how often it was tried"),
)
"""The index, in the order it is written."""

POINTERS = (
    "state_index/volume",
    "state_index/tensors_offset",
    "state_index/offset",
    "step_index/offset",
    "difference_index/offset",
)
"""The columns that say where something lies: a merge writes them anew, no row checksum covers them,
and what they lead to has a checksum of its own."""

ROW_COLUMNS: tuple[Column, ...] = tuple(
    column
    for column in COLUMNS
    if column.since == 0
    and not column.counts_failures
    and column.name not in (*POINTERS, "runs/environment", "runs/crc32c")
)
"""What runs/crc32c covers: what a merge leaves as it is, from the worker to the reader."""


def _chained(before: str, group: str) -> tuple[Column, ...]:
    """A column of row checksums, and what the one of a later group covers beside it."""
    left_out = (*POINTERS, f"{group}/row_crc32c")
    return tuple(
        column
        for column in COLUMNS
        if column.name == before
        or (column.name.startswith(f"{group}/") and column.name not in left_out)
    )


ROW_CHECKSUMS: Mapping[str, tuple[Column, ...]] = MappingProxyType(
    {
        "runs/crc32c": ROW_COLUMNS,
        "step_index/row_crc32c": _chained("runs/crc32c", "step_index"),
        "difference_index/row_crc32c": _chained("step_index/row_crc32c", "difference_index"),
    }
)
"""Each column of checksums of a run's rows, with the columns it covers; each covers the one before
it, so that the last one proves the whole row."""

ADDED_GROUPS: Mapping[str, int] = MappingProxyType(
    {column.name.partition("/")[0]: column.since for column in COLUMNS if column.since}
)
"""The groups that a later minor version added, and which."""

STATES_GROUP = "states"
VALUES = "values"
STEP_VALUES = "step_values"
DIFFERENCE_VALUES = "difference_values"
TENSORS = "tensors"

TENSOR_DTYPE = np.dtype(
    [("name", "S64"), ("rank", "|u1"), ("shape", "<i4", (4,)), ("offset", "<i8")]
)
"""A row of a run's tensor table; sizes beyond ``rank`` are 1."""


def run_group(number: int) -> str:
    """The group that holds the states of the run of this number."""
    return f"{STATES_GROUP}/{number:08d}"
