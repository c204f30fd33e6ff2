"""Consolidating shards into the benchmark: states are checked and copied as they are."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.index import IndexWriter
from dtb_builder.dataset.moments import moment_columns
from dtb_builder.dataset.opening import create, damage_is_named
from dtb_builder.dataset.shard import failure_columns, text_places
from dtb_builder.dataset.states import write_states
from dtb_builder.dataset.store import FailedRun, Store
from dtb_builder.errors import DTBError, DuplicateRunError, PlanMismatchError
from dtb_builder.record import Moment

__all__ = ["MergedRun", "merge", "remove_old_volumes"]

_LISTED = ("environment", "origin")
"""Columns of runs/ that are positions in a list of texts, which a merge writes anew."""

_COPIED = tuple(
    column.name
    for column in schema.COLUMNS
    if column.counts_runs
    and column.name not in schema.POINTERS
    and column.name.partition("/")[2] not in _LISTED
)
"""The columns whose rows are the same in the shard and in the benchmark."""

_VOLUME_NAMES = "states-*.h5"
_BLOCK_RUNS = 1024
_MOST_OPEN = 64


@dataclass(frozen=True)
class MergedRun:
    """One run whose states have been copied, with the bytes that took."""

    number: int
    num_bytes: int


@dataclass(frozen=True, eq=False)
class _Outline:
    """What must be known of every shard before the first is copied."""

    path: Path
    numbers: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    failures: tuple[FailedRun, ...]
    listed: dict[str, tuple[str, ...]]
    provenance: str
    num_epochs: int
    moments: tuple[Moment, ...]

    @property
    def plan(self) -> tuple[str, int, tuple[Moment, ...]]:
        """What shards of one plan share."""
        return self.provenance, self.num_epochs, self.moments


def merge(
    shards: Sequence[Path], target: Path, *, volume_size: int | None = None
) -> Iterator[MergedRun]:
    """Merge shards, in any order, into one benchmark; the files appear when the last run is copied.

    Args:
        shards: the shards of one plan.
        target: the benchmark's index, commonly ``dtb.h5``.
        volume_size: None puts the states into the index file; otherwise they go into files
            ``states-0123456789ab-00000.h5`` and so on beside it, each closed once it holds so many
            bytes. The middle of their names comes from what is in them, so that a merge of other
            runs, or of another volume size, never touches the volumes that the old index names.

    Yields:
        each run as its states have been copied, by number.

    Raises:
        ValueError: there are no shards.
        PlanMismatchError: the shards belong to different plans.
        DuplicateRunError: a run stands in two shards.
        SchemaVersionError: a shard is of a newer minor version.
        DamagedFileError: a checksum is wrong; nothing is published then.
    """
    if not shards:
        raise ValueError("there are no shards to merge")
    with contextlib.closing(_Sources()) as sources:
        yield from _merge(shards, target, sources, volume_size)


def _merge(
    shards: Sequence[Path], target: Path, sources: "_Sources", volume_size: int | None
) -> Iterator[MergedRun]:
    outlines = [_outline(path, sources.of(path)) for path in shards]
    _check_one_plan(outlines)
    numbers = _all_numbers(outlines)
    failures = _open_failures(outlines, numbers)
    listed = {
        name: text_places(text for outline in outlines for text in outline.listed[name])
        for name in _LISTED
    }
    first = outlines[0]
    checksum = crc32c(first.provenance.encode())
    # Contexts end last in, first out: every file is closed before the first is renamed, and the
    # index, entered first, is renamed last.
    with contextlib.ExitStack() as published, contextlib.ExitStack() as opened:
        temporary = published.enter_context(whole_file(target))
        file = opened.enter_context(
            create(temporary, kind=schema.FileKind.BENCHMARK, provenance_crc32c=checksum)
        )
        volumes = _Volumes(
            file,
            target.with_name(f"states-{_content_id(outlines, numbers, volume_size)}.h5"),
            volume_size,
            checksum,
            published,
            opened,
        )
        index = IndexWriter(
            file,
            num_runs=len(numbers),
            num_failures=len(failures),
            num_epochs=first.num_epochs,
            num_moments=len(first.moments),
        )
        index.put(moment_columns(first.moments))
        source_of = np.empty(len(numbers), np.intp)
        for i, outline in enumerate(outlines):
            source_of[np.searchsorted(numbers, outline.numbers)] = i
        for start in range(0, len(numbers), _BLOCK_RUNS):
            rows = slice(start, min(start + _BLOCK_RUNS, len(numbers)))
            block = _Block(numbers[rows], [outlines[i] for i in source_of[rows]], sources)
            index.put(block.columns(listed), rows)
            places: dict[str, list[Any]] = {name: [] for name in schema.POINTERS}
            for merged, cells in block.copied_states(volumes):
                for name, values in places.items():
                    values.append(cells[name])
                yield merged
            index.put({name: np.array(values) for name, values in places.items()}, rows)
        if failures:
            index.put(failure_columns(failures))
        index.finish(
            {
                schema.PROVENANCE: [first.provenance],
                schema.ENVIRONMENTS: list(listed["environment"]),
                schema.ORIGINS: list(listed["origin"]),
                schema.VOLUMES: volumes.names,
                schema.FAILURE_MESSAGES: [failure.message for failure in failures],
            }
        )


def remove_old_volumes(target: Path) -> None:
    """Remove the volumes beside a benchmark that it does not name, as an earlier merge leaves them.

    For a folder that holds no other benchmark.
    """
    with contextlib.closing(Store(target)) as store:
        named = store.index.texts(schema.VOLUMES)
    for volume in target.parent.glob(_VOLUME_NAMES):
        if volume.name not in named:
            volume.unlink()


class _Volumes:
    """The files that take the merged states, one after the other."""

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
        """The file that takes the next run, of so many bytes."""
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


def _outline(path: Path, store: Store) -> _Outline:
    store.check_known()
    store.check_listed()
    index = store.index
    return _Outline(
        path=path,
        numbers=index.numbers,
        checksums=index.column("runs/crc32c"),
        failures=store.failures,
        listed={
            "environment": index.texts(schema.ENVIRONMENTS),
            "origin": index.texts(schema.ORIGINS),
        },
        provenance=store.provenance_text,
        num_epochs=index.num_epochs,
        moments=index.moments,
    )


def _check_one_plan(outlines: Sequence[_Outline]) -> None:
    first = outlines[0]
    for outline in outlines[1:]:
        if outline.plan != first.plan:
            raise PlanMismatchError(
                f"{outline.path} and {first.path} were made from different plans"
            )


def _all_numbers(outlines: Sequence[_Outline]) -> NDArray[np.int64]:
    numbers = np.concatenate([outline.numbers for outline in outlines])
    unique, counts = np.unique(numbers, return_counts=True)
    if len(unique) < len(numbers):
        number = int(unique[counts > 1][0])
        places = [str(outline.path) for outline in outlines if number in outline.numbers]
        raise DuplicateRunError(f"run {number} stands twice, in {' and '.join(places)}")
    return unique


def _content_id(
    outlines: Sequence[_Outline], numbers: NDArray[np.int64], volume_size: int | None
) -> str:
    """A hash of everything that decides the bytes of the volumes, whatever the shards' order."""
    checksums = np.empty(len(numbers), np.uint32)
    for outline in outlines:
        checksums[np.searchsorted(numbers, outline.numbers)] = outline.checksums
    about = (outlines[0].provenance, str(volume_size), h5py.version.hdf5_version)
    digest = sha256("\0".join(about).encode())
    digest.update(numbers.tobytes())
    digest.update(checksums.tobytes())
    return digest.hexdigest()[:12]


def _open_failures(outlines: Sequence[_Outline], numbers: NDArray[np.int64]) -> list[FailedRun]:
    """The failed runs that no shard finished, each with its most attempts, by number."""
    finished = set(numbers.tolist())
    failures: dict[int, FailedRun] = {}
    for outline in outlines:
        for failure in outline.failures:
            known = failures.get(failure.number, failure)
            failures[failure.number] = max(failure, known, key=_attempts)
    return [failures[number] for number in sorted(failures.keys() - finished)]


def _attempts(failure: FailedRun) -> tuple[int, str]:
    """By which one of several failures of a run is chosen, whatever their order."""
    return failure.attempts, failure.message


class _Sources:
    """Open shards, no more of them at once than a process may have open."""

    def __init__(self) -> None:
        self._stores: dict[Path, Store] = {}

    def of(self, path: Path) -> Store:
        """The shard, opened if need be."""
        if path not in self._stores:
            if len(self._stores) == _MOST_OPEN:
                self._stores.pop(next(iter(self._stores))).close()
            self._stores[path] = Store(path)
        return self._stores[path]

    def close(self) -> None:
        """Close them all."""
        for store in self._stores.values():
            store.close()


class _Block:
    """Some rows of the benchmark, whose runs lie in any of the shards.

    Args:
        numbers: of the runs, increasing.
        outlines: of the shard of each.
        sources: the shards.
    """

    def __init__(
        self, numbers: NDArray[np.int64], outlines: Sequence[_Outline], sources: "_Sources"
    ) -> None:
        self._sources = sources
        self._runs = [
            (number, outline, int(np.searchsorted(outline.numbers, number)))
            for number, outline in zip(numbers.tolist(), outlines, strict=True)
        ]

    def columns(self, listed: Mapping[str, Mapping[str, int]]) -> dict[str, NDArray[Any]]:
        """The rows of all columns but those that lead to states.

        Args:
            listed: where each text stands in the benchmark, of the columns that are such places.
        """
        found: dict[str, NDArray[Any]] = {}
        for positions, outline, rows in self._by_shard():
            source = self._sources.of(outline.path)
            names = (*_COPIED, *(f"runs/{name}" for name in _LISTED))
            # A shard's runs are in order as the block's are: those of a block follow one another.
            columns = source.index.rows(names, rows[0], rows[-1] + 1)
            for name, texts in outline.listed.items():
                local = np.array([listed[name][text] for text in texts], np.int32)
                with damage_is_named(outline.path):
                    columns[f"runs/{name}"] = local[columns[f"runs/{name}"]]
            for name, values in columns.items():
                if name not in found:
                    found[name] = np.empty((len(self._runs), *values.shape[1:]), values.dtype)
                found[name][positions] = values
        return found

    def _by_shard(self) -> Iterator[tuple[list[int], _Outline, list[int]]]:
        """Each shard with the block's positions and the shard's rows of its runs."""
        grouped: dict[Path, tuple[list[int], _Outline, list[int]]] = {}
        for position, (_, outline, row) in enumerate(self._runs):
            positions, _, rows = grouped.setdefault(outline.path, ([], outline, []))
            positions.append(position)
            rows.append(row)
        return iter(grouped.values())

    def copied_states(self, volumes: _Volumes) -> Iterator[tuple[MergedRun, dict[str, Any]]]:
        """Copy the states of each run, in order; with its entries in `schema.POINTERS`."""
        for number, outline, row in self._runs:
            yield _copied(self._sources.of(outline.path), row, number, outline.moments, volumes)


def _copied(
    source: Store, row: int, number: int, moments: Sequence[Moment], volumes: _Volumes
) -> tuple[MergedRun, dict[str, Any]]:
    places = source.states.places(row)
    num_bytes = int(places.length.sum() + places.momentum_length.sum())
    try:
        cells = write_states(
            volumes.file_for(num_bytes),
            number,
            np.frombuffer(source.states.table_bytes(places), schema.TENSOR_DTYPE),
            moments,
            (places.length, places.momentum_length),
            lambda name, position: source.states.frames(places, name, [position])[0],
            num_floats=places.num_floats,
        )
    except DTBError as error:
        error.add_note(f"in the states of run {number}")
        raise
    return MergedRun(number, num_bytes), cells | {"runs/volume": len(volumes.names) - 1}
