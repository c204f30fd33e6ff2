"""Merging shards into one benchmark; states are verified and copied unchanged."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.copying import LISTED, VOLUME_NAMES, CopiedRun, Part, Sources, copy_runs
from dtb_builder.dataset.kept import Kept
from dtb_builder.dataset.store import FailedRun, Store
from dtb_builder.errors import DuplicateRunError, PlanMismatchError
from dtb_builder.record import Moment

__all__ = ["merge", "remove_old_volumes"]


@dataclass(frozen=True, eq=False)
class _Outline:
    """The facts about a shard that must be known before the first shard is copied."""

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
        """What all shards of one plan have in common."""
        return self.provenance, self.num_epochs, self.moments


def merge(
    shards: Sequence[Path], target: Path, *, volume_size: int | None = None
) -> Iterator[CopiedRun]:
    """Merge shards, in any order, into one benchmark; files appear after the last run is copied.

    Args:
        shards: the shards of one plan.
        target: the benchmark's index, commonly ``dtb.h5``.
        volume_size: None writes the states to the index file. Otherwise they go to volumes
            ``states-0123456789ab-00000.h5`` and so on in the same folder, each closed once it holds
            this many bytes. The middle of the name is a hash of the contents, so a merge of other
            runs, or with another volume size, never overwrites the volumes of an old index.

    Yields:
        each run once its states are copied, by number.

    Raises:
        ValueError: there are no shards.
        PlanMismatchError: the shards belong to different plans.
        DuplicateRunError: a run is in two shards.
        SchemaVersionError: a shard has a newer minor schema version.
        DamagedFileError: a checksum is wrong; then nothing is published.
    """
    if not shards:
        raise ValueError("there are no shards to merge")
    with contextlib.closing(Sources()) as sources:
        outlines = [_outline(path, sources.of(path)) for path in shards]
        _check_one_plan(outlines)
        first = outlines[0]
        kept = Kept(first.moments, first.moments)
        yield from copy_runs(
            [
                Part(
                    outline.path,
                    np.arange(len(outline.numbers)),
                    outline.numbers,
                    outline.checksums,
                    kept,
                    outline.listed,
                )
                for outline in outlines
            ],
            target,
            sources,
            provenance=first.provenance,
            num_epochs=first.num_epochs,
            failures=_open_failures(outlines, _all_numbers(outlines)),
            volume_size=volume_size,
        )


def remove_old_volumes(target: Path) -> None:
    """Remove the volumes of earlier merges, which the benchmark in this folder does not name.

    The folder must hold no other benchmark.
    """
    with contextlib.closing(Store(target)) as store:
        named = store.index.texts(schema.VOLUMES)
    for volume in target.parent.glob(VOLUME_NAMES):
        if volume.name not in named:
            volume.unlink()


def _outline(path: Path, store: Store) -> _Outline:
    store.check_known()
    store.check_listed()
    index = store.index
    return _Outline(
        path=path,
        numbers=index.numbers,
        checksums=index.column("runs/crc32c"),
        failures=store.failures,
        listed={name: index.texts(f"{name}s") for name in LISTED},
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
        raise DuplicateRunError(f"run {number} is in several shards: {' and '.join(places)}")
    return unique


def _open_failures(outlines: Sequence[_Outline], numbers: NDArray[np.int64]) -> list[FailedRun]:
    """The failed runs that no shard finished, by number; of duplicates the one tried most often."""
    finished = set(numbers.tolist())
    failures: dict[int, FailedRun] = {}
    for outline in outlines:
        for failure in outline.failures:
            known = failures.get(failure.number, failure)
            failures[failure.number] = max(failure, known, key=_attempts)
    return [failures[number] for number in sorted(failures.keys() - finished)]


def _attempts(failure: FailedRun) -> tuple[int, str]:
    """The sort key that chooses among several failures of a run, independent of their order."""
    return failure.attempts, failure.message
