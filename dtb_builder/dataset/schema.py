"""Every name, type and shape of a DTB file; data_schema.md says the same in prose."""

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
"""The value of the root attribute ``format``, by which a DTB file is known."""

SCHEMA_VERSION = "2.0"
"""``major.minor``: readers refuse another major number."""

DRAFT_MAJOR = "1"
"""The major number of drafts in which no benchmark was published."""

MAX_FLOATS = 2**25
"""The longest state a file may hold; a larger number means damage (no DARTS network comes near)."""

MAX_ENTRIES = 2**20
"""The most rows of metrics of a run, and the most moments, that a file may have."""

BLOCK_BYTES = 2**12
"""Bytes of a column that one checksum proves."""


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
"""On each list of checksums: CRC-32C of the column's name and of the list.

The name is counted in so that no column can stand in for another.
"""

PROVENANCE = "provenance"
"""One UTF-8 string: JSON of the config, the images, the splits and the writer's version."""

ENVIRONMENTS = "environments"
"""UTF-8 strings, each JSON: the device and software of some epochs."""

ORIGINS = "origins"
"""UTF-8 strings, each JSON: where some runs come from."""

VOLUMES = "volumes"
"""UTF-8 strings: the files that hold states, beside this one; "" is this file itself."""

FAILURE_MESSAGES = "failures/message"
"""UTF-8 strings: why each failed run failed, with its traceback."""

TEXTS = (PROVENANCE, ENVIRONMENTS, ORIGINS, VOLUMES, FAILURE_MESSAGES)
"""The string datasets, one-dimensional."""


Shape = type | dict[str, "Shape"]
"""A kind of JSON value; of an object, that of each key, with ``*`` for any."""

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
"""What readers rely on in a provenance."""

UNITED_PROVENANCE_SHAPE: Shape = {**_PROVENANCE, "plans": list}
"""The same of several files united."""

ENVIRONMENT_SHAPE: Shape = {"device_name": str}


@dataclass(frozen=True)
class Column:
    """One array of the index.

    Attributes:
        name: path in the file.
        dtype: little-endian numpy type.
        shape: "runs", "epochs" (num_epochs + 1), "moments" and "failures" stand for the sizes of
            the file.
        meaning: in a few words, also in data_schema.md.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str, ...]
    meaning: str

    @property
    def counts_runs(self) -> bool:
        """Whether a row stands for a run."""
        return self.shape[0] == "runs"


def _column(name: str, dtype: str, shape: tuple[int | str, ...], meaning: str) -> Column:
    return Column(name, np.dtype(dtype), shape, meaning)


_RUN, _EPOCHS, _AT_MOMENTS = ("runs",), ("runs", "epochs"), ("runs", "moments")
_MOMENT, _FAILURE = ("moments",), ("failures",)
_CELLS = (2, 8, 2)

COLUMNS: tuple[Column, ...] = (
    _column("moments/epoch", "<i4", _MOMENT, "the epoch that it ends; -1 within an epoch"),
    _column("moments/step", "<i8", _MOMENT, "training steps until then, increasing"),
    _column("moments/base", "<i4", _MOMENT, "position of a difference's base; -1 of a whole state"),
    _column("runs/number", "<i8", _RUN, "in the plan, strictly increasing"),
    _column("runs/seed", "<i8", _RUN, "of the initialisation"),
    _column("runs/order_seed", "<i8", _RUN, "of data order, augmentation and drop-path"),
    _column("runs/genotype", "|u1", ("runs", *_CELLS), "cells, edges: operation, predecessor"),
    _column("runs/key", "|u1", ("runs", 32), "SHA-256 of the genotype's canonical text"),
    _column("runs/iso_key", "|u1", ("runs", 32), "SHA-256 that isomorphic genotypes share"),
    _column("runs/num_parameters", "<i8", _RUN, "trainable, auxiliary head included"),
    _column("runs/multiply_accumulates", "<i8", _RUN, "for one image, without auxiliary head"),
    _column("runs/num_epochs", "<i4", _RUN, "the last epoch stored: E, or less if it diverged"),
    _column("runs/state_crc32c", "<u4", _EPOCHS, "of the state as trained, kept or not"),
    *(_column(f"metrics/{name}", "<f8", _EPOCHS, text) for name, text in METRICS.items()),
    *(
        _column(f"measured/{name}", "|u1", _EPOCHS, f"1 where metrics/{name} was measured")
        for name in METRICS
    ),
    _column("runs/num_floats", "<i8", _RUN, "length of a state"),
    _column("runs/num_tensors", "<i8", _RUN, "tensors in a state"),
    _column("runs/tensors_crc32c", "<u4", _RUN, "of the tensor table"),
    _column("moments/length", "<i8", _AT_MOMENTS, "bytes of the state's frame; 0: none"),
    _column("moments/crc32c", "<u4", _AT_MOMENTS, "of the state's frame"),
    _column("moments/momentum_length", "<i8", _AT_MOMENTS, "bytes of momentum's frame; 0: none"),
    _column("moments/momentum_crc32c", "<u4", _AT_MOMENTS, "of the momentum's frame"),
    _column("runs/crc32c", "<u4", _RUN, "of the run's entries above: see below"),
    _column("runs/environment", "<i4", _EPOCHS, "index of environments: where the epoch ran"),
    _column("runs/origin", "<i4", _RUN, "index of origins: where the run comes from"),
    _column("runs/volume", "<i4", _RUN, "index of volumes: where its states lie"),
    _column("runs/tensors_offset", "<i8", _RUN, "first byte of the tensor table"),
    _column("moments/offset", "<i8", _AT_MOMENTS, "first byte of the state's frame"),
    _column("moments/momentum_offset", "<i8", _AT_MOMENTS, "first byte of the momentum's frame"),
    _column("failures/number", "<i8", _FAILURE, "the failed run's"),
    _column("failures/seed", "<i8", _FAILURE, "its seed"),
    _column("failures/order_seed", "<i8", _FAILURE, "its order seed"),
    _column("failures/genotype", "|u1", ("failures", *_CELLS), "as runs/genotype"),
    _column("failures/attempts", "<i8", _FAILURE, "how often it was tried"),
)
"""The index, in the order it is written."""

MOMENTS: tuple[Column, ...] = tuple(c for c in COLUMNS if c.shape == ("moments",))
"""The table of moments, which all runs of a file share."""

_ROW_CHECKSUM = [column.name for column in COLUMNS].index("runs/crc32c")

ROW_COLUMNS: tuple[Column, ...] = tuple(
    c for c in COLUMNS[:_ROW_CHECKSUM] if c.counts_runs and c.name != "runs/number"
)
"""What runs/crc32c covers of a run's row: what stays the same from the worker to the reader."""

POINTERS = (
    "runs/volume",
    "runs/tensors_offset",
    "moments/offset",
    "moments/momentum_offset",
)
"""The columns that say where something lies: a merge writes them anew."""

CHECKSUMS_GROUP = "checksums"


def checksums_of(name: str) -> str:
    """The list of checksums of a column or text: a u4 for each 4 KiB of its bytes."""
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
    """The group that holds the states of the run of this number."""
    return f"{STATES_GROUP}/{number:08d}"
