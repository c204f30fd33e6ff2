"""Merging shards into one benchmark; states are verified and copied unchanged."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.copying import VOLUME_NAMES, CopiedRun, Part, Sources, copy_runs
from dtb_builder.dataset.kept import Kept
from dtb_builder.dataset.store import FailedRun, Store
from dtb_builder.errors import DuplicateRunError, PlanMismatchError
from dtb_builder.record import Moment

__all__ = ["merge", "remove_old_volumes"]


class _Shard(NamedTuple):
    """The facts about a shard that must be known before the first shard is copied."""

    part: Part
    failures: tuple[FailedRun, ...]
    plan: tuple[str, int, tuple[Moment, ...]]
    """The provenance, epochs and moments, which all shards of one plan have in common."""


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
        found = [_shard(sources.of(path)) for path in shards]
        parts = [shard.part for shard in found]
        provenance, num_epochs, _ = first = found[0].plan
        for shard in found[1:]:
            if shard.plan != first:
                raise PlanMismatchError(
                    f"{shard.part.path} and {parts[0].path} were made from different plans"
                )
        yield from copy_runs(
            parts,
            target,
            sources,
            provenance=provenance,
            num_epochs=num_epochs,
            failures=_open_failures(found, _all_numbers(parts)),
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


def _shard(store: Store) -> _Shard:
    store.check_known()
    store.check_listed()
    numbers, moments = store.index.numbers, store.index.moments
    part = Part.of(store, np.arange(len(numbers)), numbers, Kept(moments, moments))
    return _Shard(part, store.failures, (store.provenance_text, store.index.num_epochs, moments))


def _all_numbers(parts: Sequence[Part]) -> NDArray[np.int64]:
    numbers = np.concatenate([part.numbers for part in parts])
    unique, counts = np.unique(numbers, return_counts=True)
    if len(unique) < len(numbers):
        number = int(unique[counts > 1][0])
        places = [str(part.path) for part in parts if number in part.numbers]
        raise DuplicateRunError(f"run {number} is in several shards: {' and '.join(places)}")
    return unique


def _open_failures(shards: Sequence[_Shard], numbers: NDArray[np.int64]) -> list[FailedRun]:
    """The failed runs that no shard finished, by number; of duplicates the one tried most often."""
    finished = set(numbers.tolist())
    failures: dict[int, FailedRun] = {}
    for failure in (failure for shard in shards for failure in shard.failures):
        known = failures.get(failure.number, failure)
        failures[failure.number] = max(failure, known, key=_attempts)
    return [failures[number] for number in sorted(failures.keys() - finished)]


def _attempts(failure: FailedRun) -> tuple[int, str]:
    """The sort key that chooses among several failures of a run, independent of their order."""
    return failure.attempts, failure.message
