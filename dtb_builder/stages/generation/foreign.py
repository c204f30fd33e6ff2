"""Find files in ``shards/`` that do not belong to the plan, such as another study's."""

import contextlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.opening import dataset_at, integer_attribute, open_file, reading_hdf5
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DTBError, PlanMismatchError
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.settings.shard_range import ShardRange

__all__ = [
    "check_shards",
    "foreign_error",
    "shard_files",
    "shards_present",
    "why_foreign",
    "why_misplaced",
]

_NAME = re.compile(r"shard-(\d+)\.h5")


def shards_present(folder: RunFolder) -> Iterator[tuple[Path, list[PlannedRun]]]:
    """Each file in ``shards/`` with its planned runs; no runs if the plan has no such shard."""
    surplus = set(folder.shard_files())
    for shard, runs in folder.shards():
        file = folder.shard_file(shard)
        if file in surplus:
            surplus.remove(file)
            yield file, runs
    yield from ((file, []) for file in sorted(surplus))


def why_foreign(folder: RunFolder, file: Path, runs: list[PlannedRun]) -> str | None:
    """Why a file is not the shard of these planned runs, or None if it is.

    Raises:
        DTBError: the file cannot be read.
    """
    if reason := why_misplaced(folder, file):
        return reason
    with contextlib.closing(Store(file)) as store:
        if store.provenance_text != folder.provenance:
            return _OTHER_PLAN
        names = ("number", "seed", "order_seed")
        columns = [store.index.column(f"runs/{name}").tolist() for name in names]
        keys = [np.asarray(key, np.uint8).tobytes() for key in store.index.column("runs/key")]
    planned = [(run.number, run.seed, run.order_seed, run.key) for run in runs]
    for found, wanted in zip(zip(*columns, keys, strict=True), planned, strict=True):
        if found != wanted:
            return _unplanned(wanted[0])
    return None


def why_misplaced(folder: RunFolder, file: Path) -> str | None:
    """Why a file is not the shard of its name, or None if its run numbers and provenance fit.

    It does not read the plan; `why_foreign` does.

    Raises:
        DTBError: the file cannot be read.
    """
    match = _NAME.fullmatch(file.name)
    first = int(match[1]) * folder.shard_size if match else folder.num_runs
    if first >= folder.num_runs:
        return "the plan has no such shard"
    about = file.stat()
    found = _content(file, about.st_mtime_ns, about.st_size)
    if found[0] != crc32c(folder.provenance.encode()):
        return _OTHER_PLAN
    planned = range(first, min(first + folder.shard_size, folder.num_runs))
    if foreign := np.setdiff1d(found[1], planned).tolist():
        return _unplanned(foreign[0])
    if len(found[1]) != len(planned):
        return f"it has {len(found[1])} of the {len(planned)} runs that are planned for it"
    return None


def shard_files(folder: RunFolder, shards: ShardRange | None) -> Iterator[Path]:
    """All files in ``shards/``; or those in a range, and all without a shard's name."""
    for file in folder.shard_files():
        match = _NAME.fullmatch(file.name)
        if shards is None or not match or int(match[1]) in shards:
            yield file


def check_shards(folder: RunFolder, shards: ShardRange | None = None) -> None:
    """Check that the files in ``shards/``, or in a range of it, belong to the plan.

    Raises:
        PlanMismatchError: a file does not belong to the plan.
        DTBError: a file cannot be read.
    """
    for file in shard_files(folder, shards):
        try:
            reason = why_misplaced(folder, file)
        except DTBError as error:
            error.add_note(f"dtb repair {folder.path} saves its intact runs")
            raise
        if reason is not None:
            raise foreign_error(folder, file, reason)


def foreign_error(folder: RunFolder, file: Path, reason: str) -> PlanMismatchError:
    """The error for a foreign shard, which says what to do."""
    return PlanMismatchError(
        f"{file} is not a shard of {folder.path}: {reason}; dtb repair {folder.path} sets it aside"
    )


_OTHER_PLAN = "it was made from another plan"


def _unplanned(number: int) -> str:
    return f"its run {number} is not planned for this shard"


@lru_cache(maxsize=2**14)
def _content(file: Path, _mtime_ns: int, _num_bytes: int) -> tuple[int, NDArray[np.int64]]:
    """The checksum of a shard's provenance, and its run numbers; cached for `status --watch`."""
    with open_file(file) as opened, reading_hdf5(file):
        checksum = integer_attribute(opened, file, schema.PROVENANCE_ATTRIBUTE)
        return checksum, np.asarray(dataset_at(opened, "runs/number")[()])
