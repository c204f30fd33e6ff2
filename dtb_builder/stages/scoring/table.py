"""The file of scores: Parquet with one row per state; source and settings are in its metadata."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
from pyarrow import parquet

from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.json_object import check_shape, json_object
from dtb_builder.errors import DamagedFileError, DTBError, NotDTBFileError, SchemaVersionError
from dtb_builder.scores.names import SCORES
from dtb_builder.stages.scoring.parquet_pages import unpacked_bytes

__all__ = [
    "FACTS",
    "ScoreTable",
    "moment_of",
    "read_scores",
    "score_names",
    "seconds_name",
    "write_scores",
]

_VERSION = 1
_BATCH_ROWS = 2**10
_MOST_CELLS_PER_BYTE = 16
"""Rows times columns: the seconds alone, which differ from state to state, take more bytes."""

_MOST_UNPACKED = 100
"""As many times may a file's bytes grow when they are unpacked."""

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
        rows: one per run, moment and number of probe images, with the columns of docs/ranking.md;
            missing values are None.
    """

    about: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


def moment_of(row: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The epoch of a row, or its step within one; the other is None, whatever the row has there."""
    return row["epoch"], row["step"] if row["epoch"] is None else None


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
    checksum = crc32c(text.encode())
    for batch in columns.to_batches(_BATCH_ROWS):
        checksum = _checksum(batch, checksum)
    head = {"version": _VERSION, "about": text, "crc32c": checksum}
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
        with path.open("rb") as opened:
            about, expected = _checked_head(path, opened)  # before memory is taken for the rows
            parsed, checksum, rows = json_object(about, path), crc32c(about.encode()), list[_Row]()
            names = _types(parsed)
            for batch in _batches(opened):
                checksum = _checksum(batch, checksum)
                rows += _rows_of(batch, names)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}: make it with dtb score") from None
    except (pyarrow.ArrowException, OSError, ValueError, UnicodeError) as error:
        if isinstance(error, DTBError):
            raise
        raise DamagedFileError(f"{path} is not Parquet, or damaged: {error}") from error
    if checksum != expected:
        raise DamagedFileError(f"{path}: its rows do not have the recorded checksum")
    return ScoreTable(parsed, rows)


def _checked_head(path: Path, opened: BinaryIO) -> tuple[str, int]:
    """What the rows hang on, as JSON, and the checksum of all, from the end of the file alone."""
    file = parquet.ParquetFile(opened)
    stored = file.schema_arrow
    if _KEY not in (stored.metadata or {}):
        raise NotDTBFileError(f"{path} is not a file of scores: it lacks {_KEY.decode()}")
    head = json_object(stored.metadata[_KEY], path)
    check_shape(head, {"version": int, "about": str, "crc32c": int}, str(path), whole=True)
    if head["version"] != _VERSION:
        raise SchemaVersionError(
            f"{path} has version {head['version']} of scores, expected {_VERSION}"
        )
    known = _types(json_object(head["about"], path))
    types = dict(zip(stored.names, stored.types, strict=True))
    if unknown := sorted(types.keys() - known.keys()):
        names = ", ".join(map(repr, unknown))
        raise SchemaVersionError(
            f"{path} has the scores {names}, which this version does not have: use a newer version"
        )
    if known | types != known or not FACTS.keys() | _ENDING.keys() <= types.keys():
        raise DamagedFileError(f"{path} does not have the columns of a file of scores")
    num_bytes, groups = path.stat().st_size, file.metadata
    num_cells = groups.num_rows * len(known)
    unpacked = unpacked_bytes(opened)
    if num_cells > _MOST_CELLS_PER_BYTE * num_bytes or unpacked > _MOST_UNPACKED * num_bytes:
        raise DamagedFileError(
            f"{path}: {groups.num_rows} rows, of {unpacked} bytes, in a file of {num_bytes}"
        )
    return head["about"], head["crc32c"]


def _batches(opened: BinaryIO) -> Iterator[pyarrow.RecordBatch]:
    texts = [name for name, kind in (FACTS | _ENDING).items() if kind == pyarrow.string()]
    file = parquet.ParquetFile(opened, page_checksum_verification=True, read_dictionary=texts)
    yield from file.iter_batches(_BATCH_ROWS)


class _Row(Mapping[str, Any]):
    """A row of a batch, by the names of all columns; a column without values takes no memory."""

    __slots__ = ("_columns", "_place")

    def __init__(self, columns: Mapping[str, pyarrow.Array | None], place: int) -> None:
        self._columns, self._place = columns, place

    def __getitem__(self, name: str) -> Any:
        column = self._columns[name]
        return None if column is None else column[self._place].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _rows_of(batch: pyarrow.RecordBatch, names: Iterable[str]) -> Iterator[_Row]:
    columns: dict[str, pyarrow.Array | None] = dict.fromkeys(names)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        columns[name] = column if column.null_count < len(column) else None
    return (_Row(columns, place) for place in range(batch.num_rows))


def _types(about: Mapping[str, Any]) -> dict[str, pyarrow.DataType]:
    scores = dict.fromkeys((*SCORES, *about.get("own", ())), pyarrow.float64())
    seconds = dict.fromkeys(map(seconds_name, scores), pyarrow.float64())
    return FACTS | scores | seconds | _ENDING


def _checksum(batch: pyarrow.RecordBatch, checksum: int) -> int:
    """The checksum of all values of rows, going on from that of what stands before them."""
    names = batch.schema.names
    for row in zip(*map(_values, batch.columns), strict=True):
        checksum = crc32c(repr(list(zip(names, row, strict=True))).encode(), checksum)
    return checksum


def _values(column: pyarrow.Array) -> list[Any]:
    """The values of a column; equal texts are one object, however often they stand."""
    if not isinstance(column, pyarrow.DictionaryArray):
        return column.to_pylist()
    texts = column.dictionary.to_pylist()
    return [None if place is None else texts[place] for place in column.indices.to_pylist()]
