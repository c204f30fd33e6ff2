"""The index of a DTB file: a checksummed array for every column of the schema."""

import contextlib
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.column import StoredColumn
from dtb_builder.dataset.opening import (
    damage_is_named,
    dataset_at,
    integer_attribute,
    reading_hdf5,
    schema_minor,
)
from dtb_builder.dataset.source import Location, Source
from dtb_builder.errors import DamagedFileError, NotDTBFileError
from dtb_builder.record import METRICS

__all__ = ["IndexReader", "IndexWriter", "Rows", "check_differences", "row_checksums"]

Rows = slice | NDArray[np.intp]
_BLOCK_ROWS = 2**16
_CHECKED_AT_OPENING = 2**20
_WHERE_STATES_ARE = ("runs/number", "state_index/", "step_index/", "difference_index/")
_NEAR_BYTES = 2**14
"""A gap that is sooner read than asked around."""

_ROWS_BEFORE_COLUMNS = 500
_INDEXED = (schema.FileKind.SHARD, schema.FileKind.BENCHMARK)


def row_checksums(
    columns: Mapping[str, NDArray[Any]], covered: Sequence[schema.Column] = schema.ROW_COLUMNS
) -> NDArray[np.uint32]:
    """The CRC-32C of each row of the covered columns, one after the other, shape (runs,)."""
    parts = [_row_bytes(columns[column.name], column.dtype) for column in covered]
    rows = np.concatenate(parts, axis=1)
    return np.array([crc32c(row.data) for row in rows], np.uint32)


def _row_bytes(values: NDArray[Any], dtype: np.dtype) -> NDArray[np.uint8]:
    """Each row of a column as bytes, shape (rows, bytes)."""
    num_bytes = math.prod(values.shape[1:]) * dtype.itemsize
    whole = np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)
    return whole.reshape(len(values), num_bytes)


def check_differences(
    epochs: NDArray[np.int64],
    keys: NDArray[np.int64],
    kept: NDArray[np.bool_],
    *,
    where: Location,
) -> None:
    """See that a run's differences are of epochs without a whole state, to epochs with one.

    Args:
        epochs: of the differences, shape (differences,).
        keys: the epochs of what they are differences to, shape (differences,).
        kept: whether the state of an epoch is there as it is, shape (num_epochs + 1,).
        where: the file.

    Raises:
        DamagedFileError: one is not, or they do not stand in order.
    """
    there = (epochs >= 0) & (epochs < len(kept)) & (keys >= 0) & (keys < len(kept))
    if not there.all() or kept[epochs].any() or not kept[keys].all() or (np.diff(epochs) < 1).any():
        raise DamagedFileError(
            f"{where}: differences should be of increasing epochs without states of their own, to "
            f"epochs with one; got epochs {epochs.tolist()} to {keys.tolist()}"
        )


_PROOFS = {
    covered.name: checksum
    for checksum, columns in schema.ROW_CHECKSUMS.items()
    for covered in columns
    if covered.name not in schema.ROW_CHECKSUMS
}
"""The column of checksums that covers a column's rows."""


class IndexWriter:
    """Fills the index of a new file, some rows at a time, in memory that does not grow with it.

    Args:
        file: a new file.
        num_runs: rows of the columns that count runs.
        num_failures: rows of the columns that count failed runs.
        num_epochs: of every run; a run has num_epochs + 1 rows of metrics.
        num_steps: states of every run after steps of the first epoch.
        num_differences: states of every run that are differences to others.
    """

    def __init__(
        self,
        file: h5py.File,
        *,
        num_runs: int,
        num_failures: int,
        num_epochs: int,
        num_steps: int,
        num_differences: int,
    ) -> None:
        self._file = file
        for column in schema.COLUMNS:
            num_rows = num_failures if column.counts_failures else num_runs
            shape = (num_rows, *column.row_shape(num_epochs, num_steps, num_differences))
            file.create_dataset(column.name, shape=shape, dtype=column.dtype)

    def put(self, columns: Mapping[str, NDArray[Any]], rows: Rows = slice(None)) -> None:
        """Write the given rows of the given columns."""
        for name, values in columns.items():
            if values.size:
                dataset_at(self._file, name)[rows] = values

    def finish(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Write the texts and every checksum; nothing may be put afterwards."""
        for name in schema.TEXTS:
            # A traceback may quote a file name's undecodable bytes, as lone surrogates.
            encoded = [text.encode(errors="backslashreplace") for text in texts[name]]
            width = max((len(text) for text in encoded), default=1) or 1
            data = np.array(encoded, dtype=h5py.string_dtype("utf-8", width))
            self._file.create_dataset(name, data=data)
        for name in (*schema.TEXTS, *(column.name for column in schema.COLUMNS)):
            dataset = dataset_at(self._file, name)
            checksum = crc32c(name.encode())
            for start in range(0, len(dataset) if dataset.size else 0, _BLOCK_ROWS):
                checksum = crc32c(dataset[start : start + _BLOCK_ROWS].data, checksum)
            dataset.attrs[schema.CHECKSUM_ATTRIBUTE] = np.uint32(checksum)


class IndexReader:
    """Reads the index of an open file, each part of it checked.

    A column that is asked for whole is remembered. Of a column too long for that, a run's entry is
    read alone: as part of the run's row, which runs/crc32c proves in some forty small reads; or,
    once hundreds of runs were asked for, by checksums of the column's blocks.

    Raises:
        NotDTBFileError: the file holds a benchmark's states and has no index.
        DamagedFileError: here or in any method: the bytes are not those that were written.
    """

    def __init__(self, file: h5py.File, source: Source) -> None:
        self._file = file
        self._source = source
        self._path = source.location
        self._arrays: dict[str, NDArray[Any]] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._stored: dict[str, StoredColumn] = {}
        self._columns = {column.name: column for column in schema.COLUMNS}
        self._last_rows: dict[str, tuple[int, dict[str, NDArray[Any]]]] = {}
        self._num_rows_read = 0
        with reading_hdf5(self._path):
            kind = file.attrs[schema.KIND_ATTRIBUTE]
            if isinstance(kind, str) and kind == schema.FileKind.STATES:
                raise NotDTBFileError(
                    f"{self._path} has no index: it holds the states of a benchmark; open that "
                    "instead, commonly dtb.h5"
                )
            if not isinstance(kind, str) or kind not in _INDEXED:
                raise DamagedFileError(f"expected a shard or a benchmark, got kind {kind!r}")
            shapes = set(self._shapes([f"metrics/{name}" for name in METRICS]))
            if len(shapes) != 1:
                raise DamagedFileError(f"metrics should have one shape, got {sorted(shapes)}")
            (shape,) = shapes
            if len(shape) != 2 or shape[1] < 1:
                raise DamagedFileError(f"expected metrics of shape (runs, epochs + 1), got {shape}")
            self.num_runs: int = shape[0]
            self.num_epochs: int = shape[1] - 1
            self._minor = schema_minor(file, self._path)
            for group, since in schema.ADDED_GROUPS.items():
                if self._minor < since and group in file:
                    raise DamagedFileError(
                        f"schema version 1.{self._minor} has no {group}, the file has"
                    )
            self.num_steps: int = self._num_states("step_index", "steps")
            self.num_differences: int = self._num_states("difference_index", "differences")

    def _shapes(self, names: Sequence[str]) -> Iterator[tuple[int, ...]]:
        """The shapes of those of the columns that are there to be looked at."""
        for name in names:
            with contextlib.suppress(DamagedFileError, OSError, RuntimeError, KeyError):
                yield dataset_at(self._file, name).shape

    def _num_states(self, group: str, size: str) -> int:
        """How many states of a group each run has, from the shape of their columns."""
        names = [name for name, c in self._columns.items() if size in c.per_row]
        shapes = set(self._shapes(names)) if self._minor >= schema.ADDED_GROUPS[group] else set()
        if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
            raise DamagedFileError(f"{group} should have one shape, got {sorted(shapes)}")
        return shapes.pop()[1] if shapes else 0

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """The runs' numbers, known to tell them apart and to stand in order; raises as `column`."""
        numbers = self.column("runs/number")
        if not (np.diff(numbers) > 0).all() or (len(numbers) and numbers[0] < 0):
            raise DamagedFileError(f"{self._path}: run numbers should be >= 0 and increase")
        return numbers

    def check_start(self) -> None:
        """See that the runs' numbers are there, and as they should be unless there are very many.

        Raises:
            DamagedFileError: they are not.
        """
        with damage_is_named(self._path):
            few = self.stored("runs/number").num_bytes <= _CHECKED_AT_OPENING
        if few:
            self.numbers  # noqa: B018 - it checks

    def check_steps(self) -> None:
        """See that the steps of every run can be told apart and stand in order.

        Raises:
            DamagedFileError: they cannot.
        """
        steps = self.column("step_index/step")
        if not (np.diff(steps, prepend=0) > 0).all():
            raise DamagedFileError(f"{self._path}: a run's steps should be >= 1 and increase")

    def check_differences(self) -> None:
        """See that every difference is of an epoch without a whole state, to one that has one.

        Raises:
            DamagedFileError: one is not, or they do not stand in order.
        """
        kept = self.column("state_index/kept") != 0
        epochs, keys = (self.column(f"difference_index/{name}") for name in ("epoch", "key"))
        for row in range(self.num_runs if self.num_differences else 0):
            check_differences(epochs[row], keys[row], kept[row], where=self._path)

    def column(self, name: str) -> NDArray[Any]:
        """A column of the schema, shape (rows, ...), not writeable.

        Raises:
            ValueError: the file was closed before the column was read.
            DamagedFileError: its bytes are not those that were written.
        """
        if name not in self._arrays:
            self.check_open()
            if self._is_later(name):
                self._arrays[name] = self._before_it_was_added(self._columns[name])
            else:
                with damage_is_named(self._path):
                    self._arrays[name] = self.stored(name).whole()
        return self._arrays[name]

    def at_epoch(self, name: str, epoch_row: int) -> NDArray[Any]:
        """A column's entries at one epoch, shape (runs,); raises as `column`."""
        if self._is_short(name):
            return self.column(name)[:, epoch_row]
        with damage_is_named(self._path):
            stored = self.stored(name)
            return stored.reduced(lambda block: block[:, epoch_row], stored.dtype)

    def reduced(
        self, name: str, reduce: Callable[[NDArray[Any]], NDArray[Any]], dtype: DTypeLike
    ) -> NDArray[Any]:
        """A number of each of a column's rows, as `StoredColumn.reduced`; raises as `column`."""
        if self._is_short(name):
            return reduce(self.column(name)).astype(dtype)
        with damage_is_named(self._path):
            return self.stored(name).reduced(reduce, dtype)

    def streamed(self, names: Sequence[str], num_rows: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Columns side by side in blocks of rows, proved when the last was given, as `column`."""
        self.check_open()
        with damage_is_named(self._path):
            streams = [self.stored(name).streamed(num_rows) for name in names]
        while True:
            with damage_is_named(self._path):
                blocks = [next(stream, None) for stream in streams]
            found = {
                name: block[1]
                for name, block in zip(names, blocks, strict=True)
                if block is not None
            }
            if not found:
                return
            yield found

    def cell(self, name: str, row: int) -> NDArray[Any]:
        """A run's entry in a column, shape (...); raises as `column`."""
        if self._is_short(name):
            return self.column(name)[row]
        with damage_is_named(self._path):
            if name in schema.POINTERS:
                return self.stored(name).unproved_row(row)
            if name not in _PROOFS or self._num_rows_read >= _ROWS_BEFORE_COLUMNS:
                return self.stored(name).proved_row(row)
            return self._row(row, _PROOFS[name])[name]

    def fetch(self) -> None:
        """Read at once what is worth keeping of a file that is far away.

        That is every short column if all together are short, else those that say where the states
        are; neighbours in one request.
        """
        with damage_is_named(self._path):
            every = [self.stored(name) for name in self._columns if not self._is_later(name)]
            if sum(stored.num_bytes for stored in every) > self._source.whole_up_to:
                every = [stored for stored in every if stored.name.startswith(_WHERE_STATES_ARE)]
            short = [stored for stored in every if stored.num_bytes <= self._source.whole_up_to]
            texts = [self._stored_text(name) for name in schema.TEXTS]
            fetched = _fetched(self._source, [*short, *texts])
            for stored, data in zip(short, fetched, strict=False):
                self._arrays[stored.name] = stored.checked(data)
            for stored, data in zip(texts, fetched[len(short) :], strict=True):
                self._texts[stored.name] = _decoded(stored.checked(data))

    def salvaged(self, name: str) -> NDArray[Any] | None:
        """A column whatever its checksum, or None where not even its shape is right."""
        try:
            if self._is_later(name):
                return self._before_it_was_added(self._columns[name])
            with damage_is_named(self._path):
                stored = self._locate(name, damaged=True)
                return stored.array(self._source.read(stored.offset, stored.num_bytes))
        except DamagedFileError:
            return None

    def stored(self, name: str) -> StoredColumn:
        """Where a column lies, once its type, shape and layout are known to be right."""
        if name not in self._stored:
            self._stored[name] = self._locate(name, damaged=False)
        return self._stored[name]

    def _before_it_was_added(self, column: schema.Column) -> NDArray[Any]:
        """What a file of an earlier minor version means by a column that it lacks."""
        if column.name not in schema.ROW_CHECKSUMS:
            shape = column.row_shape(self.num_epochs, 0, 0)
            return np.zeros((self.num_runs, *shape), column.dtype)
        covered = schema.ROW_CHECKSUMS[column.name]
        return row_checksums({c.name: self.column(c.name) for c in covered}, covered)

    def texts(self, name: str) -> tuple[str, ...]:
        """One of the schema's string datasets; raises as `column`."""
        if name not in self._texts:
            self.check_open()
            with damage_is_named(self._path):
                self._texts[name] = _decoded(self._stored_text(name).whole())
        return self._texts[name]

    def check_open(self) -> None:
        """See that the file can still be read.

        Raises:
            ValueError: it was closed.
        """
        if not self._file:
            raise ValueError(f"{self._path} was closed before this was read")

    def _is_later(self, name: str) -> bool:
        """Whether a column was added to the schema after the file was written."""
        return self._columns[name].since > self._minor

    def _is_short(self, name: str) -> bool:
        """Whether a column is in memory, or may as well be."""
        if name in self._arrays:
            return True
        self.check_open()
        if self._is_later(name):
            return True
        with damage_is_named(self._path):
            return self.stored(name).num_bytes <= self._source.whole_up_to

    def _row(self, row: int, proof: str) -> dict[str, NDArray[Any]]:
        """A run's entries in every column that a column of checksums covers, and proves."""
        last = self._last_rows.get(proof)
        if last is not None and last[0] == row:
            return last[1]
        columns = [self.stored(column.name) for column in schema.ROW_CHECKSUMS[proof]]
        checksum = self.stored(proof)
        spans = [stored.row_span(row) for stored in (*columns, checksum)]
        *parts, expected = self._source.read_many(spans)
        if crc32c(b"".join(parts)) != int(checksum.array(expected)[0]):
            raise DamagedFileError(f"the checksum of row {row} of the index is wrong")
        found = {
            stored.name: stored.array(part)[0] for stored, part in zip(columns, parts, strict=True)
        }
        self._last_rows[proof] = row, found
        if not self._source.is_far:
            self._num_rows_read += 1
        return found

    def _stored_text(self, name: str) -> StoredColumn:
        with reading_hdf5(self._path):
            dataset = dataset_at(self._file, name)
            if dataset.dtype.kind != "S" or dataset.ndim != 1:
                raise DamagedFileError(f"{name}: expected strings, got {dataset.dtype}")
            return self._placed(dataset, name, damaged=False)

    def _locate(self, name: str, *, damaged: bool) -> StoredColumn:
        column = self._columns[name]
        with reading_hdf5(self._path):
            dataset = dataset_at(self._file, name)
            rows = dataset.shape[0] if column.counts_failures else self.num_runs
            sizes = self.num_epochs, self.num_steps, self.num_differences
            shape = (rows, *column.row_shape(*sizes))
            if dataset.dtype != column.dtype or dataset.shape != shape:
                raise DamagedFileError(
                    f"{name}: expected {column.dtype} of shape {shape}, "
                    f"got {dataset.dtype} of shape {dataset.shape}"
                )
            return self._placed(dataset, name, damaged=damaged)

    def _placed(self, dataset: h5py.Dataset, name: str, *, damaged: bool) -> StoredColumn:
        """Where a dataset lies, if its layout is plain and its size possible."""
        num_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
        if dataset.chunks is not None or dataset.is_virtual or dataset.external:
            raise DamagedFileError(f"{name}: expected a contiguous dataset of this file")
        if num_bytes > self._source.num_bytes:
            raise DamagedFileError(
                f"{name}: {num_bytes} bytes in a file of {self._source.num_bytes}"
            )
        offset = dataset.id.get_offset()
        if offset is None and num_bytes:
            raise DamagedFileError(f"{name}: nothing was written")
        expected = 0
        if not damaged:
            expected = integer_attribute(dataset, self._path, schema.CHECKSUM_ATTRIBUTE)
        return StoredColumn(name, dataset.dtype, dataset.shape, offset or 0, expected, self._source)


def _decoded(texts: NDArray[np.bytes_]) -> tuple[str, ...]:
    return tuple(text.decode() for text in texts.tolist())


def _fetched(source: Source, columns: Sequence[StoredColumn]) -> list[bytes]:
    """The bytes of each column, those that lie together read together."""
    spans: list[tuple[int, int]] = []
    for column in sorted(columns, key=lambda column: column.offset):
        start, stop = column.offset, column.offset + column.num_bytes
        if spans and start <= spans[-1][1] + _NEAR_BYTES:
            spans[-1] = spans[-1][0], max(stop, spans[-1][1])
        elif column.num_bytes:
            spans.append((start, stop))
    parts = source.read_many([(start, stop - start) for start, stop in spans])
    starts = [start for start, _ in spans]

    def cut(column: StoredColumn) -> bytes:
        if not column.num_bytes:
            return b""
        i = bisect_right(starts, column.offset) - 1
        return parts[i][column.offset - starts[i] :][: column.num_bytes]

    return [cut(column) for column in columns]
