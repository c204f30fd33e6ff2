"""The file of scores: Parquet with one row per state; source and settings are in its metadata."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.codec import crc32c
from dtb_builder.errors import DamagedFileError, NotDTBFileError, SchemaVersionError
from dtb_builder.scores.names import SCORES

__all__ = ["FACTS", "ScoreTable", "read_scores", "score_names", "seconds_name", "write_scores"]

_VERSION = 1
_KEY = b"dtb_scores"
FACTS = {
    "run": pyarrow.int64(),
    "seed": pyarrow.int64(),
    "genotype": pyarrow.string(),
    "fingerprint": pyarrow.string(),
    "epoch": pyarrow.int64(),
    "step": pyarrow.int64(),
    "num_images": pyarrow.int64(),
    "probe_sha256": pyarrow.string(),
    "singular": pyarrow.bool_(),
    "smallest_eigenvalue": pyarrow.float64(),
    "das": pyarrow.float64(),
}
"""Columns before the scores."""

_ENDING = {
    "state_seconds": pyarrow.float64(),
    "environment": pyarrow.string(),
    "errors": pyarrow.string(),
}


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """The scores of a benchmark's states.

    Attributes:
        about: the source, the settings, the probe's indices and hash, the reference sample of DAS
            and, as "own", the function and hash of each score of the user.
        rows: one per run, moment and number of probe images, with the columns of docs/scores.md;
            missing values are None.
    """

    about: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


def seconds_name(score: str) -> str:
    """The name of the column with the seconds that a score took."""
    return f"{score}_seconds"


def score_names(row: Mapping[str, Any]) -> list[str]:
    """The scores that a row of a table has columns for, a person's own included."""
    return [name for name in row if seconds_name(name) in row]


def write_scores(path: Path, table: ScoreTable) -> None:
    """Write a table atomically; equal tables give equal content."""
    columns = pyarrow.Table.from_pylist(
        [dict(row) for row in table.rows], schema=pyarrow.schema(_types(table.about))
    )
    text = json.dumps(dict(table.about), sort_keys=True)
    head = {"version": _VERSION, "about": text, "crc32c": _checksum(columns.to_pylist(), text)}
    columns = columns.replace_schema_metadata({_KEY: json.dumps(head).encode()})
    with whole_file(path) as temporary:
        parquet.write_table(columns, temporary, compression="zstd", write_page_checksum=True)


def read_scores(path: Path) -> ScoreTable:
    """Read a table of `write_scores`, of this version or an older one.

    A score that an older version did not have is None in every row.

    Raises:
        FileNotFoundError: there is no such file.
        NotDTBFileError: it is not a file of scores.
        SchemaVersionError: a newer version of this package wrote it.
        DamagedFileError: its bytes have changed.
    """
    try:
        columns = parquet.read_table(path, page_checksum_verification=True, memory_map=False)
        types = dict(zip(columns.schema.names, columns.schema.types, strict=True))
        metadata = columns.schema.metadata or {}
        rows = columns.to_pylist()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}: make it with dtb score") from None
    except (pyarrow.ArrowException, OSError, ValueError, UnicodeError) as error:
        raise DamagedFileError(f"{path} is not Parquet, or damaged: {error}") from error
    try:
        head = json.loads(metadata[_KEY])
        version, text, checksum = head["version"], head["about"], head["crc32c"]
    except (KeyError, ValueError, TypeError) as error:
        raise NotDTBFileError(
            f"{path} is not a file of scores: it lacks {_KEY.decode()}"
        ) from error
    if version != _VERSION:
        raise SchemaVersionError(f"{path} has version {version} of scores, expected {_VERSION}")
    if _checksum(rows, text) != checksum:
        raise DamagedFileError(f"{path}: its rows do not have the recorded checksum")
    about = json.loads(text)
    known = _types(about)
    if unknown := sorted(types.keys() - known.keys()):
        names = ", ".join(map(repr, unknown))
        raise SchemaVersionError(
            f"{path} has the scores {names}, which this version does not have: use a newer version"
        )
    if known | types != known or not FACTS.keys() | _ENDING.keys() <= types.keys():
        raise DamagedFileError(f"{path} does not have the columns of a file of scores")
    return ScoreTable(about, [dict.fromkeys(known) | row for row in rows])


def _types(about: Mapping[str, Any]) -> dict[str, pyarrow.DataType]:
    scores = dict.fromkeys((*SCORES, *about.get("own", ())), pyarrow.float64())
    seconds = dict.fromkeys(map(seconds_name, scores), pyarrow.float64())
    return FACTS | scores | seconds | _ENDING


def _checksum(rows: Sequence[Mapping[str, Any]], text: str) -> int:
    """The checksum of all values of all rows, and of the metadata."""
    checksum = crc32c(text.encode())
    for row in rows:
        checksum = crc32c(repr(list(row.items())).encode(), checksum)
    return checksum
