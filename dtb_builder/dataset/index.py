"""The index of a DTB file: a checksummed array for every column of the schema."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.opening import (
    damage_is_named,
    dataset_at,
    integer_attribute,
    schema_minor,
)
from dtb_builder.errors import DamagedFileError, NotDTBFileError
from dtb_builder.record import METRICS

__all__ = ["IndexReader", "IndexWriter", "Rows", "row_checksums"]

Rows = slice | NDArray[np.intp]
_BLOCK_ROWS = 2**16
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


class IndexWriter:
    """Fills the index of a new file, some rows at a time, in memory that does not grow with it.

    Args:
        file: a new file.
        num_runs: rows of the columns that count runs.
        num_failures: rows of the columns that count failed runs.
        num_epochs: of every run; a run has num_epochs + 1 rows of metrics.
        num_steps: states of every run after steps of the first epoch.
    """

    def __init__(
        self,
        file: h5py.File,
        *,
        num_runs: int,
        num_failures: int,
        num_epochs: int,
        num_steps: int,
    ) -> None:
        self._file = file
        for column in schema.COLUMNS:
            num_rows = num_failures if column.counts_failures else num_runs
            shape = (num_rows, *column.row_shape(num_epochs, num_steps))
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
    """Reads the index of an open file, each column whole, checked and remembered.

    Raises:
        NotDTBFileError: the file holds a benchmark's states and has no index.
        DamagedFileError: here or in any method: the bytes are not those that were written.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file = file
        self._path = path
        self._arrays: dict[str, NDArray[Any]] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._num_bytes = path.stat().st_size
        self._columns = {column.name: column for column in schema.COLUMNS}
        with damage_is_named(path):
            kind = file.attrs[schema.KIND_ATTRIBUTE]
            if isinstance(kind, str) and kind == schema.FileKind.STATES:
                raise NotDTBFileError(
                    f"{path} has no index: it holds the states of a benchmark; open that instead, "
                    "commonly dtb.h5"
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
            self._minor = schema_minor(file, path)
            if self._minor < 1 and "step_index" in file:
                raise DamagedFileError("schema version 1.0 has no step_index, the file has")
            self.num_steps: int = self._num_steps()

    def _shapes(self, names: Sequence[str]) -> Iterator[tuple[int, ...]]:
        """The shapes of those of the columns that are there to be looked at."""
        for name in names:
            with contextlib.suppress(DamagedFileError, OSError, RuntimeError, KeyError):
                yield dataset_at(self._file, name).shape

    def _num_steps(self) -> int:
        """How many steps' states each run has, from the shape of their columns."""
        names = [name for name, c in self._columns.items() if "steps" in c.per_row]
        shapes = set(self._shapes(names)) if self._minor >= 1 else set()
        if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
            raise DamagedFileError(f"step_index should have one shape, got {sorted(shapes)}")
        return shapes.pop()[1] if shapes else 0

    def check_numbers(self) -> None:
        """See that the runs can be told apart and stand in order.

        Raises:
            DamagedFileError: they cannot.
        """
        numbers = self.column("runs/number")
        if not (np.diff(numbers) > 0).all() or (len(numbers) and numbers[0] < 0):
            raise DamagedFileError(f"{self._path}: run numbers should be >= 0 and increase")

    def check_steps(self) -> None:
        """See that the steps of every run can be told apart and stand in order.

        Raises:
            DamagedFileError: they cannot.
        """
        steps = self.column("step_index/step")
        if not (np.diff(steps, prepend=0) > 0).all():
            raise DamagedFileError(f"{self._path}: a run's steps should be >= 1 and increase")

    def column(self, name: str) -> NDArray[Any]:
        """A column of the schema, shape (rows, ...), not writeable.

        Raises:
            ValueError: the file was closed before the column was read.
            DamagedFileError: its bytes are not those that were written.
        """
        if name not in self._arrays:
            self.check_open()
            self._arrays[name] = self._column(name, damaged=False)
        return self._arrays[name]

    def salvaged(self, name: str) -> NDArray[Any] | None:
        """A column whatever its checksum, or None where not even its shape is right."""
        try:
            return self._column(name, damaged=True)
        except DamagedFileError:
            return None

    def _column(self, name: str, *, damaged: bool) -> NDArray[Any]:
        column = self._columns[name]
        if column.since > self._minor:
            return self._before_it_was_added(column)
        with damage_is_named(self._path):
            dataset = dataset_at(self._file, name)
            rows = dataset.shape[0] if column.counts_failures else self.num_runs
            shape = (rows, *column.row_shape(self.num_epochs, self.num_steps))
            if dataset.dtype != column.dtype or dataset.shape != shape:
                raise DamagedFileError(
                    f"{name}: expected {column.dtype} of shape {shape}, "
                    f"got {dataset.dtype} of shape {dataset.shape}"
                )
            return self._load(dataset, name, damaged=damaged)

    def _before_it_was_added(self, column: schema.Column) -> NDArray[Any]:
        """What a file of an earlier minor version means by a column that it lacks."""
        if column.name != "step_index/row_crc32c":
            shape = column.row_shape(self.num_epochs, 0)
            return np.zeros((self.num_runs, *shape), column.dtype)
        covered = {covered.name: self.column(covered.name) for covered in schema.STEP_ROW_COLUMNS}
        return row_checksums(covered, schema.STEP_ROW_COLUMNS)

    def texts(self, name: str) -> tuple[str, ...]:
        """One of the schema's string datasets; raises as `column`."""
        if name not in self._texts:
            self.check_open()
            with damage_is_named(self._path):
                dataset = dataset_at(self._file, name)
                if dataset.dtype.kind != "S" or dataset.ndim != 1:
                    raise DamagedFileError(f"{name}: expected strings, got {dataset.dtype}")
                texts = self._load(dataset, name).tolist()
                self._texts[name] = tuple(text.decode() for text in texts)
        return self._texts[name]

    def check_open(self) -> None:
        """See that the file can still be read.

        Raises:
            ValueError: it was closed.
        """
        if not self._file:
            raise ValueError(f"{self._path} was closed before this was read")

    def _load(self, dataset: h5py.Dataset, name: str, *, damaged: bool = False) -> NDArray[Any]:
        """A dataset's array, if its layout is plain, its size possible and its checksum right."""
        num_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
        if dataset.chunks is not None or dataset.is_virtual or dataset.external:
            raise DamagedFileError(f"{name}: expected a contiguous dataset of this file")
        if num_bytes > self._num_bytes:
            raise DamagedFileError(f"{name}: {num_bytes} bytes in a file of {self._num_bytes}")
        array = np.ascontiguousarray(dataset[...])
        if damaged:
            return array
        expected = integer_attribute(dataset, self._path, schema.CHECKSUM_ATTRIBUTE)
        if crc32c(array.data, crc32c(name.encode())) != expected:
            raise DamagedFileError(f"{name}: its checksum is not {expected:#010x}")
        array.flags.writeable = False
        return array
