"""Consolidating shards into the benchmark: states are checked and copied as they are."""

import contextlib
from collections.abc import Iterator, Sequence
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
from dtb_builder.dataset.index import IndexWriter, Rows
from dtb_builder.dataset.opening import create, damage_is_named
from dtb_builder.dataset.shard import failure_columns, place_columns
from dtb_builder.dataset.states import Frames, write_states
from dtb_builder.dataset.store import FailedRun, Store
from dtb_builder.errors import DTBError, DuplicateRunError, PlanMismatchError

__all__ = ["MergedRun", "merge", "remove_old_volumes"]

_COPIED = tuple(
    dict.fromkeys(
        name
        for checksum, covered in schema.ROW_CHECKSUMS.items()
        for name in (*(column.name for column in covered), checksum)
    )
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
    environments: tuple[str, ...]
    provenance: str
    num_epochs: int
    num_steps: int
    num_differences: int

    @property
    def plan(self) -> tuple[str, int, int, int]:
        """What shards of one plan share."""
        return self.provenance, self.num_epochs, self.num_steps, self.num_differences


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
    environments = sorted({text for outline in outlines for text in outline.environments})
    provenance = outlines[0].provenance
    checksum = crc32c(provenance.encode())
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
            num_epochs=outlines[0].num_epochs,
            num_steps=outlines[0].num_steps,
            num_differences=outlines[0].num_differences,
        )
        for outline in outlines:
            rows = _rows(np.searchsorted(numbers, outline.numbers))
            _copy_columns(sources.of(outline.path), outline, index, rows, environments)
        yield from _copy_states(outlines, numbers, sources, index, volumes)
        if failures:
            index.put(failure_columns(failures))
        index.finish(
            {
                schema.PROVENANCE: [provenance],
                schema.ENVIRONMENTS: environments,
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
    index = store.index
    return _Outline(
        path=path,
        numbers=index.numbers,
        checksums=index.column(list(schema.ROW_CHECKSUMS)[-1]),
        failures=store.failures,
        environments=index.texts(schema.ENVIRONMENTS),
        provenance=store.provenance_text,
        num_epochs=index.num_epochs,
        num_steps=index.num_steps,
        num_differences=index.num_differences,
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


def _rows(positions: NDArray[np.intp]) -> Rows:
    """The positions as a slice where they follow one another, which HDF5 writes much faster."""
    if len(positions) and positions[-1] - positions[0] + 1 == len(positions):
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def _copy_columns(
    source: Store,
    outline: _Outline,
    index: IndexWriter,
    rows: Rows,
    environments: Sequence[str],
) -> None:
    source.check_environments()
    local = np.array([environments.index(text) for text in outline.environments], np.int32)
    columns = {name: source.index.column(name) for name in _COPIED}
    with damage_is_named(outline.path):
        columns["runs/environment"] = local[source.index.column("runs/environment")]
    index.put(columns, rows)


def _copy_states(
    outlines: Sequence[_Outline],
    numbers: NDArray[np.int64],
    sources: "_Sources",
    index: IndexWriter,
    volumes: _Volumes,
) -> Iterator[MergedRun]:
    """Copy the states run by run, in the order of their numbers, whichever shard they are in."""
    shard_of = np.empty(len(numbers), np.intp)
    for i, outline in enumerate(outlines):
        shard_of[np.searchsorted(numbers, outline.numbers)] = i
    places: dict[str, list[Any]] = {}
    first = 0
    for position, number in enumerate(numbers.tolist()):
        outline = outlines[shard_of[position]]
        row = int(np.searchsorted(outline.numbers, number))
        placed, num_bytes = _copy_run(sources.of(outline.path), row, number, volumes)
        for name, value in placed.items():
            places.setdefault(name, []).append(value)
        yield MergedRun(number, num_bytes)
        if position + 1 - first == _BLOCK_RUNS or position + 1 == len(numbers):
            columns = {name: np.array(values) for name, values in places.items()}
            index.put(columns, slice(first, position + 1))
            places.clear()
            first = position + 1


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


def _copy_run(
    source: Store, row: int, number: int, volumes: _Volumes
) -> tuple[dict[str, Any], int]:
    """Copy one run's states; returns the columns of where they went, and their bytes."""
    index = source.index
    kept = index.column("state_index/kept")[row].astype(bool)
    num_bytes = int(index.column("state_index/length")[row, kept].sum())
    num_bytes += int(index.column("step_index/length")[row].sum())
    num_bytes += int(index.column("difference_index/length")[row].sum())

    def frames(group: str, entries: Sequence[int]) -> Frames:
        return Frames(len(entries), (source.frame(group, row, entry) for entry in entries))

    try:
        places = write_states(
            volumes.file_for(num_bytes),
            number,
            np.frombuffer(source.table_bytes(row), schema.TENSOR_DTYPE),
            epochs=frames("state_index", np.flatnonzero(kept).tolist()),
            steps=frames("step_index", range(index.num_steps)),
            differences=frames("difference_index", range(index.num_differences)),
            num_floats=int(index.column("state_index/num_floats")[row]),
        )
    except DTBError as error:
        error.add_note(f"in the states of run {number}")
        raise
    columns = place_columns(places, kept) | {"state_index/volume": len(volumes.names) - 1}
    return {name: columns[name] for name in schema.POINTERS}, num_bytes
