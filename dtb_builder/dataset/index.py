"""The index of a DTB file: a checksummed array for every column of the schema."""

import contextlib
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.column import (
    StoredColumn,
    aligned_rows,
    block_checksums,
    list_checksum,
    read_rows,
)
from dtb_builder.dataset.failures import FailedRun, failure_columns
from dtb_builder.dataset.moments import moment_columns, moments_from
from dtb_builder.dataset.opening import (
    damage_is_named,
    dataset_at,
    integer_attribute,
    reading_hdf5,
)
from dtb_builder.dataset.source import Source, Span
from dtb_builder.errors import ClosedError, DamagedFileError, NotDTBFileError
from dtb_builder.record import Moment

__all__ = ["IndexReader", "IndexWriter", "row_checksums"]

_WRITTEN_BYTES = 2**22
_CHECKED_AT_OPENING = 2**20
_WHERE_STATES_ARE = (
    "runs/number",
    "runs/volume",
    "runs/num_",
    "runs/tensors_",
    "moments/",
)
_NEAR_BYTES = 2**14
"""A gap between two columns of at most this many bytes is read rather than skipped."""

_LEAST_RUN_BYTES = 100
"""Fewer bytes than any run takes: its keys and genotype have 96, and other columns follow."""

_INDEXED = (schema.FileKind.SHARD, schema.FileKind.BENCHMARK)
_COLUMNS = {column.name: column for column in schema.COLUMNS}


def row_checksums(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.uint32]:
    """The expected runs/crc32c, shape (runs,), computed from the columns that it covers."""
    start = 0
    for column in schema.MOMENTS:
        start = crc32c(np.ascontiguousarray(columns[column.name], column.dtype).data, start)
    parts = [_row_bytes(columns[column.name], column.dtype) for column in schema.ROW_COLUMNS]
    rows = np.concatenate(parts, axis=1)
    return np.array([crc32c(row.data, start) for row in rows], np.uint32)


def _row_bytes(values: NDArray[Any], dtype: np.dtype) -> NDArray[np.uint8]:
    """Each row of a column as bytes, shape (rows, bytes)."""
    num_bytes = math.prod(values.shape[1:]) * dtype.itemsize
    whole = np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)
    return whole.reshape(len(values), num_bytes)


class IndexWriter:
    """Fills the index of a new file, some rows at a time, in constant memory.

    Args:
        file: a new file.
        num_runs: rows of the columns that have one row per run.
        num_epochs: epochs of every run; a run has num_epochs + 1 rows of metrics.
        moments: moments of every run.
        failures: the runs that failed for good.
    """

    def __init__(
        self,
        file: h5py.File,
        *,
        num_runs: int,
        num_epochs: int,
        moments: Sequence[Moment],
        failures: Sequence[FailedRun],
    ) -> None:
        self._file = file
        self._failures = failures
        sizes = _sizes(num_runs, num_epochs, len(moments), len(failures))
        if max(sizes["epochs"], sizes["moments"]) > schema.MAX_ENTRIES:
            raise ValueError(
                f"a file has room for {schema.MAX_ENTRIES - 1} epochs and as many moments, "
                f"got {num_epochs} and {len(moments)}"
            )
        for column in schema.COLUMNS:
            file.create_dataset(column.name, shape=_shape(column, sizes), dtype=column.dtype)
        self.put(moment_columns(moments) | failure_columns(failures))

    def put(self, columns: Mapping[str, NDArray[Any]], rows: slice = slice(None)) -> None:
        """Write the given rows of the given columns."""
        for name, values in columns.items():
            if values.size:
                dataset_at(self._file, name)[rows] = values

    def finish(
        self,
        provenance: str,
        environments: Sequence[str],
        origins: Sequence[str],
        volumes: Sequence[str],
    ) -> None:
        """Write the texts and all checksums; `put` must not be called afterwards."""
        messages = [failure.message for failure in self._failures]
        every = ([provenance], environments, origins, volumes, messages)
        for name, texts in zip(schema.TEXTS, every, strict=True):
            # A traceback may contain a file name's undecodable bytes as lone surrogates.
            encoded = [text.encode(errors="backslashreplace") for text in texts]
            width = max((len(text) for text in encoded), default=1) or 1
            data = np.array(encoded, dtype=h5py.string_dtype("utf-8", width))
            self._file.create_dataset(name, data=data)
        for name in (*schema.TEXTS, *_COLUMNS):
            checksums = np.array(_checksums(dataset_at(self._file, name)), "<u4")
            stored = self._file.create_dataset(schema.checksums_of(name), data=checksums)
            checksum = list_checksum(name, checksums.tobytes())
            stored.attrs[schema.CHECKSUM_ATTRIBUTE] = np.uint32(checksum)


def _checksums(dataset: h5py.Dataset) -> list[int]:
    """The checksum of each block of a dataset's bytes."""
    if not dataset.size:
        return []
    step = aligned_rows(dataset.nbytes // len(dataset), _WRITTEN_BYTES)
    parts = (dataset[first : first + step].tobytes() for first in range(0, len(dataset), step))
    return [checksum for part in parts for checksum in block_checksums(part)]


def _sizes(num_runs: int, num_epochs: int, num_moments: int, num_failures: int) -> dict[str, int]:
    """The values of the schema's named sizes."""
    return {
        "runs": num_runs,
        "epochs": num_epochs + 1,
        "moments": num_moments,
        "failures": num_failures,
    }


def _shape(column: schema.Column, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[size] if isinstance(size, str) else size for size in column.shape)


class IndexReader:
    """Reads the index of an open file; every part is verified by block checksums.

    A short column, or one that is requested whole, is read whole and cached. Of a longer column,
    only the blocks that hold the requested rows are read.

    Raises:
        NotDTBFileError: the file holds a benchmark's states and has no index.
        ClosedError: in any method: the file was closed before this was read.
        DamagedFileError: here or in any method: the bytes are not those that were written.
    """

    def __init__(self, file: h5py.File, source: Source) -> None:
        self._file = file
        self._source = source
        self._path = source.location
        self._arrays: dict[str, NDArray[Any]] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._stored: dict[str, StoredColumn] = {}
        self._moments: tuple[Moment, ...] | None = None
        self._numbers: NDArray[np.int64] | None = None
        with reading_hdf5(self._path, self._file):
            kind = file.attrs[schema.KIND_ATTRIBUTE]
            if isinstance(kind, str) and kind == schema.FileKind.STATES:
                raise NotDTBFileError(
                    f"{self._path} has no index: it holds the states of a benchmark; open that "
                    "instead, commonly dtb.h5"
                )
            if not isinstance(kind, str) or kind not in _INDEXED:
                raise DamagedFileError(f"expected a shard or a benchmark, got kind {kind!r}")
            self.num_runs, num_rows = self._sizes("epochs")
            self.num_epochs = num_rows - 1
            self.num_moments = self._sizes("moments")[1]
        if not 1 <= num_rows <= schema.MAX_ENTRIES or self.num_moments > schema.MAX_ENTRIES:
            raise DamagedFileError(
                f"{self._path}: expected 1 to {schema.MAX_ENTRIES} rows of metrics and at most as "
                f"many moments, got {num_rows} and {self.num_moments}"
            )
        if self.num_runs > source.num_bytes // _LEAST_RUN_BYTES:
            raise DamagedFileError(
                f"{self._path}: {self.num_runs} runs in a file of {source.num_bytes} bytes"
            )

    def _sizes(self, size: str) -> tuple[int, int]:
        """The number of runs and the length of a row, from the first column of this shape.

        Every other column's shape is compared with them when it is read.
        """
        for column in schema.COLUMNS:
            if column.shape == ("runs", size):
                # A missing column must not prevent reading the others.
                with contextlib.suppress(DamagedFileError, OSError, RuntimeError, KeyError):
                    num_runs, number = dataset_at(self._file, column.name).id.shape
                    return num_runs, number
        raise DamagedFileError(f"there is no column of shape (runs, {size})")

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The runs' numbers; checked to be increasing."""
        if self._numbers is None:
            numbers = self.column("runs/number")
            if not (np.diff(numbers) > 0).all() or (len(numbers) and numbers[0] < 0):
                raise DamagedFileError(f"{self._path}: run numbers should be >= 0 and increase")
            self._numbers = numbers
        return self._numbers

    @property
    def moments(self) -> tuple[Moment, ...]:
        """The moments of the file's runs, in order."""
        if self._moments is None:
            columns = {column.name: self.column(column.name) for column in schema.MOMENTS}
            with damage_is_named(self._path, self._file):
                self._moments = moments_from(columns, self.num_epochs)
        return self._moments

    def check_start(self) -> None:
        """Check that the runs' numbers exist and, unless there are very many, that they increase.

        Raises:
            DamagedFileError: a check fails.
        """
        if self._place("runs/number").num_bytes <= _CHECKED_AT_OPENING:
            self.numbers  # noqa: B018 - it checks

    def column(self, name: str) -> NDArray[Any]:
        """A column of the schema, shape (rows, ...), read-only."""
        if name not in self._arrays:
            stored = self._place(name)
            self._arrays[name] = self._read([stored], 0, stored.shape[0])[0]
        return self._arrays[name]

    def check(self, name: str) -> None:
        """Read and verify a whole column; only a short one is cached."""
        self.reduced(name, lambda rows: np.zeros(len(rows), np.uint8), np.uint8)

    def reduced(
        self, name: str, reduce: Callable[[NDArray[Any]], NDArray[Any]], dtype: DTypeLike
    ) -> NDArray[Any]:
        """A column reduced to one number per row, shape (rows,); a long column is not cached.

        Args:
            name: the column's name.
            reduce: turns some rows, shape (some, ...), into one number each, shape (some,).
            dtype: type of those numbers.
        """
        if self._is_short(name):
            return reduce(self.column(name)).astype(dtype, copy=False)
        stored = self._place(name)
        found = np.empty(stored.shape[0], dtype)
        step = aligned_rows(stored.row_bytes, self._source.streamed_bytes)
        for first in range(0, len(found), step):
            stop = min(first + step, len(found))
            found[first:stop] = reduce(self._read([stored], first, stop)[0])
        return found

    def streamed(self, names: Sequence[str], num_rows: int) -> Iterator[dict[str, NDArray[Any]]]:
        """The same rows of several columns of runs, ``num_rows`` rows at a time."""
        for first in range(0, self.num_runs, num_rows):
            yield self.rows(names, first, min(first + num_rows, self.num_runs))

    def rows(self, names: Sequence[str], first: int, stop: int) -> dict[str, NDArray[Any]]:
        """Some rows of several columns of runs; nothing is cached."""
        columns = [self._place(name) for name in names]
        return dict(zip(names, self._read(columns, first, stop), strict=True))

    def cell(self, name: str, row: int) -> NDArray[Any]:
        """A run's entry in a column, shape (...)."""
        return self.cells((name,), row)[name]

    def cells(self, names: Sequence[str], row: int) -> dict[str, NDArray[Any]]:
        """A run's entries in several columns, in the order of ``names``, requested together."""
        found = {name: self.column(name)[row] for name in names if self._is_short(name)}
        if long := [name for name in names if name not in found]:
            found |= {name: rows[0] for name, rows in self.rows(long, row, row + 1).items()}
        return {name: found[name] for name in names}

    def fetch(self) -> None:
        """Read and cache the short columns of a remote file; neighbours share a request.

        If all columns together are too long, only the columns that locate states are read.
        """
        columns = [self._place(name) for name in _COLUMNS]
        if sum(column.num_bytes for column in columns) > self._source.whole_up_to:
            columns = [column for column in columns if column.name.startswith(_WHERE_STATES_ARE)]
        columns = [column for column in columns if self._is_short(column.name)]
        columns += [self._place(name) for name in schema.TEXTS]
        spans = [span for c in columns for span in (c.list_span, c.span(0, c.shape[0]))]
        parts = iter(_fetched(self._source, spans))
        with damage_is_named(self._path, self._file):
            for column in columns:
                column.take_list(next(parts))
                values = column.proved(0, column.shape[0], next(parts))
                if column.name in schema.TEXTS:
                    self._texts[column.name] = _decoded(values)
                else:
                    self._arrays[column.name] = values

    def salvaged(self, name: str) -> NDArray[Any] | None:
        """A column without verifying its checksums, or None if it cannot be read at all."""
        try:
            stored = self._located(name, are_proved=False)
            with damage_is_named(self._path, self._file):
                data = self._source.read(stored.offset, stored.num_bytes)
        except DamagedFileError:
            return None
        return stored.array(data, stored.shape[0])

    def texts(self, name: str) -> tuple[str, ...]:
        """One of the schema's string datasets."""
        if name not in self._texts:
            stored = self._place(name)
            with damage_is_named(self._path, self._file):
                self._texts[name] = _decoded(self._read([stored], 0, stored.shape[0])[0])
        return self._texts[name]

    def check_open(self) -> None:
        """Check that the file is still open.

        Raises:
            ClosedError: it was closed.
        """
        if not self._file:
            raise ClosedError(f"{self._path} was closed before this was read")

    def _is_short(self, name: str) -> bool:
        """Whether a column is in the cache, or short enough for it."""
        return name in self._arrays or self._place(name).num_bytes <= self._source.whole_up_to

    def _read(self, columns: Sequence[StoredColumn], first: int, stop: int) -> list[NDArray[Any]]:
        with damage_is_named(self._path, self._file):
            return read_rows(columns, first, stop)

    def _place(self, name: str) -> StoredColumn:
        """Where a column or text lies; its type, shape and layout are checked once."""
        self.check_open()
        if name not in self._stored:
            self._stored[name] = self._located(name)
        return self._stored[name]

    def _located(self, name: str, *, are_proved: bool = True) -> StoredColumn:
        """As `_place`, but read from HDF5; ``are_proved=False`` skips damaged checksums."""
        with reading_hdf5(self._path, self._file):
            _, dtype, shape, offset = self._contiguous(name)
            if name in schema.TEXTS:
                if dtype.kind != "S" or len(shape) != 1:
                    raise DamagedFileError(f"{name}: expected strings, got {dtype}")
            else:
                column = _COLUMNS[name]
                num_rows = next(iter(shape), 0)  # only this shape says how many runs failed
                sizes = _sizes(self.num_runs, self.num_epochs, self.num_moments, num_rows)
                _check_type(name, (dtype, shape), (column.dtype, _shape(column, sizes)))
            stored = StoredColumn(name, dtype, shape, self._source, offset)
            if are_proved:
                list_name = schema.checksums_of(name)
                listed, *found, stored.list_offset = self._contiguous(list_name)
                num_blocks = stored.list_span[1] // 4
                _check_type(list_name, tuple(found), (np.dtype("<u4"), (num_blocks,)))
                checksum = integer_attribute(listed, self._path, schema.CHECKSUM_ATTRIBUTE)
                stored.list_checksum = checksum
            return stored

    def _contiguous(self, name: str) -> tuple[h5py.Dataset, np.dtype, tuple[int, ...], int]:
        """A contiguous dataset, with its type, shape and offset."""
        dataset = dataset_at(self._file, name)
        dtype, shape, offset = dataset.id.dtype, dataset.id.shape, dataset.id.get_offset()
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes > self._source.num_bytes:
            raise DamagedFileError(
                f"{name}: {num_bytes} bytes in a file of {self._source.num_bytes}"
            )
        if offset is None and num_bytes:  # None: unallocated, chunked or in another file
            raise DamagedFileError(f"{name}: expected a contiguous dataset of this file")
        return dataset, dtype, shape, offset or 0


def _check_type(name: str, found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    if found != expected:
        texts = (f"{dtype} of shape {shape}" for dtype, shape in (expected, found))
        raise DamagedFileError(f"{name}: expected {', got '.join(texts)}")


def _decoded(texts: NDArray[np.bytes_]) -> tuple[str, ...]:
    return tuple(text.decode() for text in texts.tolist())


def _fetched(source: Source, wanted: Iterable[Span]) -> list[bytes]:
    """The bytes of each span; neighbouring spans share a read."""
    wanted = list(wanted)
    merged: list[Span] = []
    for start, length in sorted(span for span in wanted if span[1]):
        if merged and start <= sum(merged[-1]) + _NEAR_BYTES:
            merged[-1] = merged[-1][0], max(start + length, sum(merged[-1])) - merged[-1][0]
        else:
            merged.append((start, length))
    parts = source.read_many(merged)
    starts = [start for start, _ in merged]

    def cut(span: Span) -> bytes:
        i = bisect_right(starts, span[0]) - 1
        return parts[i][span[0] - starts[i] :][: span[1]] if span[1] else b""

    return [cut(span) for span in wanted]
