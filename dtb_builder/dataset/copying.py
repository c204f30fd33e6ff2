"""Writing a benchmark from runs of other files, for merges, unions and subsets.

Frames are verified and copied unchanged, one at a time; the index is written in blocks of rows.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.atomic import remove_unfinished, whole_file
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.failures import FailedRun
from dtb_builder.dataset.identity import adopted
from dtb_builder.dataset.index import IndexWriter, row_checksums
from dtb_builder.dataset.kept import Kept
from dtb_builder.dataset.moments import moment_columns
from dtb_builder.dataset.opening import create, damage_is_named
from dtb_builder.dataset.shard import text_places
from dtb_builder.dataset.states import without_states, write_states
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError, DTBError

__all__ = ["VOLUME_NAMES", "CopiedRun", "Part", "Sources", "copy_runs"]

_LISTED = ("environment", "origin")
"""Columns of runs/ that are positions in a list of texts; a copy has its own list."""

VOLUME_NAMES = "states-*.h5"

_COPIED = tuple(
    column.name
    for column in schema.COLUMNS
    if column.counts_runs
    and column.name not in schema.POINTERS
    and column.name.partition("/")[2] not in _LISTED
)
"""The columns whose rows are copied unchanged if all states are kept."""

_STATES = tuple(
    column.name
    for column in schema.COLUMNS
    if column.shape == ("runs", "moments") and column.name not in schema.POINTERS
)
"""The columns that change if states are left out."""

_BLOCK_RUNS = 1024
_GAP_RUNS = 64
"""Rows that are cheaper to read than to skip."""

_MOST_OPEN = 64


@dataclass(frozen=True)
class CopiedRun:
    """One run whose states have been copied, with their number of bytes."""

    number: int
    num_bytes: int


class Sources:
    """A cache of open files, of limited size because a process may open only so many."""

    def __init__(self) -> None:
        self._stores: dict[Path, Store] = {}

    def of(self, path: Path) -> Store:
        """The file, opened if it is not open; it may be closed once 64 others were asked for."""
        store = self._stores.pop(path, None)
        if store is None:
            if len(self._stores) == _MOST_OPEN:
                self._stores.pop(next(iter(self._stores))).close()  # the longest unused
            store = Store(path)
        self._stores[path] = store
        return store

    def close(self) -> None:
        """Close them all."""
        for store in self._stores.values():
            store.close()


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one file that are copied.

    Attributes:
        path: the file.
        rows: the rows, increasing.
        numbers: the runs' numbers in the copy, increasing.
        checksums: the runs' checksums in the file.
        kept: the states that the copy keeps.
        listed: for each of `_LISTED`, the file's texts as the copy will store them; None for a text
            that no run uses.
    """

    path: Path
    rows: NDArray[np.intp]
    numbers: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    kept: Kept
    listed: Mapping[str, Sequence[str | None]]
    _local: dict[str, NDArray[np.int32]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, store: Store, rows: NDArray[np.intp], numbers: NDArray[np.int64], kept: Kept
    ) -> Self:
        """Rows of an open file."""
        listed: dict[str, tuple[str | None, ...]] = {}
        for name in _LISTED:
            used = _used(store, f"runs/{name}", rows)
            texts = enumerate(store.index.texts(f"{name}s"))
            listed[name] = tuple(text if i in used else None for i, text in texts)
        checksums = store.index.column("runs/crc32c")[rows]
        return cls(Path(store.path), rows, numbers, checksums, kept, listed)

    @classmethod
    def adopting(
        cls, store: Store, rows: NDArray[np.intp], numbers: NDArray[np.int64], kept: Kept
    ) -> Self:
        """As `of`, but the origins name the plan that the runs were trained under."""
        part = cls.of(store, rows, numbers, kept)
        origins = [
            text and json.dumps(adopted(json.loads(text), store.provenance_sha256), sort_keys=True)
            for text in part.listed["origin"]
        ]
        return replace(part, listed={**part.listed, "origin": origins})

    def place_texts(self, positions: Mapping[str, Mapping[str, int]]) -> None:
        """Look up where the copy's lists have this part's texts."""
        for name, texts in self.listed.items():
            found = [-1 if text is None else positions[name][text] for text in texts]
            self._local[name] = np.array(found, np.int32)

    def columns(self, store: Store, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Some rows of all columns, except the pointers to states, as the copy stores them."""
        names = (*_COPIED, *(f"runs/{name}" for name in _LISTED))
        found: list[dict[str, NDArray[Any]]] = []
        for group in _near(rows):
            read = store.index.rows(names, int(group[0]), int(group[-1]) + 1)
            found.append({name: values[group - group[0]] for name, values in read.items()})
        columns = {name: np.concatenate([part[name] for part in found]) for name in names}
        if not self.kept.is_all:
            moments = moment_columns(store.index.moments)
            if (row_checksums(columns | moments) != columns["runs/crc32c"]).any():
                raise DamagedFileError(f"{self.path}: the checksum of a run is wrong")
        for name, local in self._local.items():
            with damage_is_named(self.path):
                columns[f"runs/{name}"] = local[columns[f"runs/{name}"]]
        return columns


def copy_runs(
    parts: Sequence[Part],
    target: Path,
    sources: Sources,
    *,
    provenance: str,
    num_epochs: int,
    failures: Sequence[FailedRun] = (),
    volume_size: int | None = None,
) -> Iterator[CopiedRun]:
    """Write a benchmark from runs of other files; its files appear after the last run is copied.

    Args:
        parts: the runs; all parts keep the same moments.
        target: the benchmark's index.
        sources: opens the files.
        provenance: the benchmark's provenance.
        num_epochs: epochs of every run that did not end early.
        failures: the failed runs that the benchmark lists, by number.
        volume_size: as in `merge`.

    Yields:
        each run once its states are copied, by number.

    Raises:
        DamagedFileError: a checksum is wrong; then nothing is published.
    """
    moments = parts[0].kept.moments
    is_all = all(part.kept.is_all for part in parts)
    written = schema.POINTERS if is_all else (*schema.POINTERS, *_STATES)
    numbers, source_of, row_of = _by_number(parts)
    listed = {
        name: text_places(text for p in parts for text in p.listed[name] if text is not None)
        for name in _LISTED
    }
    for part in parts:
        part.place_texts(listed)
    checksum = crc32c(provenance.encode())
    # Contexts exit in reverse order: all files are closed before the first is renamed, and the
    # index, which was entered first, is renamed last.
    with contextlib.ExitStack() as published, contextlib.ExitStack() as opened:
        content = _content_id(parts, numbers, provenance, volume_size)
        states = target.with_name(f"states-{content}.h5")
        remove_unfinished(target.parent, [target.name, f"{states.stem}-*.h5"])
        temporary = published.enter_context(whole_file(target))
        file = opened.enter_context(
            create(temporary, kind=schema.FileKind.BENCHMARK, provenance_crc32c=checksum)
        )
        size = volume_size if moments else None  # a volume without states would be empty
        volumes = _Volumes(file, states, size, checksum, published, opened)
        index = IndexWriter(
            file,
            num_runs=len(numbers),
            num_epochs=num_epochs,
            moments=moments,
            failures=failures,
        )
        for start in range(0, len(numbers), _BLOCK_RUNS):
            rows = slice(start, min(start + _BLOCK_RUNS, len(numbers)))
            columns = _columns(parts, source_of[rows], row_of[rows], sources)
            columns["runs/number"] = numbers[rows]
            places: dict[str, list[Any]] = {name: [] for name in written}
            for of, row, number in zip(
                *(each[rows].tolist() for each in (source_of, row_of, numbers)), strict=True
            ):
                part = parts[of]
                copied, cells = _copied(part, sources.of(part.path), row, number, volumes)
                for name, values in places.items():
                    values.append(cells[name])
                yield copied
            columns |= {name: np.array(values) for name, values in places.items()}
            if not is_all:
                columns["runs/crc32c"] = row_checksums(columns | moment_columns(moments))
            index.put(columns, rows)
        environments, origins = (list(listed[name]) for name in _LISTED)
        index.finish(provenance, environments, origins, volumes.names)


def _by_number(
    parts: Sequence[Part],
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """The copy's run numbers, increasing; for each, its part, and its row in that file."""
    numbers = np.concatenate([part.numbers for part in parts])
    source_of = np.repeat(np.arange(len(parts)), [len(part.numbers) for part in parts])
    row_of = np.concatenate([part.rows for part in parts])
    order = np.argsort(numbers, kind="stable")
    return numbers[order], source_of[order], row_of[order]


def _content_id(
    parts: Sequence[Part],
    numbers: NDArray[np.int64],
    provenance: str,
    volume_size: int | None,
) -> str:
    """A hash of all that determines the volumes' bytes, independent of the parts' order."""
    checksums = np.empty(len(numbers), np.uint32)
    for part in parts:
        checksums[np.searchsorted(numbers, part.numbers)] = part.checksums
    digest = hashlib.sha256(
        "\0".join((provenance, str(volume_size), h5py.version.hdf5_version)).encode()
    )
    digest.update(numbers.tobytes())
    digest.update(checksums.tobytes())
    return digest.hexdigest()[:12]


def _used(store: Store, name: str, rows: NDArray[np.intp]) -> set[int]:
    """Which positions of a list some rows of a column have."""
    used: set[int] = set()
    for start in range(0, len(rows), _BLOCK_RUNS):
        for group in _near(rows[start : start + _BLOCK_RUNS]):
            read = store.index.rows((name,), int(group[0]), int(group[-1]) + 1)[name]
            used.update(np.unique(read[group - group[0]]).tolist())
    return used


def _near(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Rows in groups that are read at once."""
    return np.split(rows, np.flatnonzero(np.diff(rows) > _GAP_RUNS) + 1) if len(rows) else []


def _columns(
    parts: Sequence[Part], of: NDArray[np.intp], rows: NDArray[np.intp], sources: Sources
) -> dict[str, NDArray[Any]]:
    """Rows of the copy, each from the row of the part that it is of."""
    found: dict[str, NDArray[Any]] = {}
    for i in np.unique(of).tolist():
        part, positions = parts[i], np.flatnonzero(of == i)
        for name, values in part.columns(sources.of(part.path), rows[positions]).items():
            if name not in found:
                found[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
            found[name][positions] = values
    return found


def _copied(
    part: Part, source: Store, row: int, number: int, volumes: "_Volumes"
) -> tuple[CopiedRun, dict[str, Any]]:
    """Copy the states of a run; also returns its entries in the columns that locate them."""
    places = source.states.places(row)
    num_bytes = part.kept.num_bytes(places)
    file = volumes.file_for(num_bytes)
    try:
        cells = (
            write_states(
                file,
                number,
                np.frombuffer(source.states.table_bytes(places), schema.TENSOR_DTYPE),
                part.kept.moments,
                part.kept.lengths(places),
                lambda name, position: part.kept.frame(source, row, places, name, position),
                num_floats=places.num_floats,
            )
            if part.kept.moments
            else without_states(places)
        )
    except DTBError as error:
        error.add_note(f"in the states of run {number}")
        raise
    return CopiedRun(number, num_bytes), cells | {"runs/volume": len(volumes.names) - 1}


class _Volumes:
    """The files that the copied states are written to, one after the other."""

    def __init__(
        self,
        index: h5py.File,
        path: Path,
        volume_size: int | None,
        provenance_crc32c: int,
        published: contextlib.ExitStack,
        opened: contextlib.ExitStack,
    ) -> None:
        self._path = path
        self._volume_size = volume_size
        self._provenance_crc32c = provenance_crc32c
        self._published = published
        self._opened = opened
        self._file = index
        self._volume = contextlib.ExitStack()
        self._num_bytes = 0
        self.names: list[str] = [] if volume_size is not None else [""]

    def file_for(self, num_bytes: int) -> h5py.File:
        """The file to write the next run to, which has ``num_bytes`` bytes."""
        if self._volume_size is not None:
            full = self._num_bytes and self._num_bytes + num_bytes > self._volume_size
            if not self.names or full:
                self._start_volume()
        self._num_bytes += num_bytes
        return self._file

    def _start_volume(self) -> None:
        path = self._path.with_stem(f"{self._path.stem}-{len(self.names):05d}")
        temporary = self._published.enter_context(whole_file(path))
        self._volume.close()  # a benchmark may have more volumes than a process may have open
        self._volume = self._opened.enter_context(contextlib.ExitStack())
        self._file = self._volume.enter_context(
            create(
                temporary,
                kind=schema.FileKind.STATES,
                provenance_crc32c=self._provenance_crc32c,
            )
        )
        self._num_bytes = 0
        self.names.append(path.name)
