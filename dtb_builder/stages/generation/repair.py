"""Save the intact runs of damaged files, and list the runs that must be trained again."""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.journal import read_journal
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.salvage import LostRun, SavedRun, salvage
from dtb_builder.dataset.schema import PROVENANCE
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import FailedRun, Store
from dtb_builder.dataset.superblock import clear_mark, is_marked
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import DTBError, MissingVolumeError, SchemaVersionError, UnfinishedError
from dtb_builder.stages.generation.foreign import shards_present, why_foreign
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.work.disk import storage_is_named

__all__ = ["Repair", "SetAside", "Unmarked", "repair_file", "repair_folder"]


@dataclass(frozen=True)
class Repair:
    """The result of repairing a damaged file.

    Attributes:
        path: the damaged file.
        num_saved: the number of intact runs.
        lost: the runs that could not be read, with the reason.
        rebuilt: the path of the saved runs.
        lost_failures: why the list of failed runs could not be read, or None.
    """

    path: Path
    num_saved: int
    lost: tuple[LostRun, ...]
    rebuilt: Path
    lost_failures: str | None = None


@dataclass(frozen=True)
class SetAside:
    """An intact file among the shards that is not of the plan.

    Attributes:
        path: its path among the shards.
        reason: why it is not of the plan.
        aside: its new path.
    """

    path: Path
    reason: str
    aside: Path


@dataclass(frozen=True)
class Unmarked:
    """A file that was marked as open for writing, as by a program that was killed.

    Attributes:
        path: the file.
        copy: the same without the mark.
    """

    path: Path
    copy: Path


def repair_folder(folder: RunFolder) -> Iterator[Repair | SetAside | Unmarked]:
    """Turn every damaged shard of a run folder into journals, so that generate can complete it.

    The intact runs become finished journals. The damaged file is moved to ``damaged/``, and so are
    shards of other plans.

    Yields:
        the result for each damaged or foreign shard.
    """
    with storage_is_named(folder.path), folder.locked():
        for file, runs in shards_present(folder):
            if is_marked(file):
                yield _unmarked(file, file)
            if runs and _is_damaged(file):
                yield _take_apart(folder, runs)
            elif reason := why_foreign(folder, file, runs):
                yield SetAside(file, reason, _set_aside(folder, file))


def repair_file(path: Path, *, without_volumes: bool = False) -> Repair | Unmarked | None:
    """Write the intact runs of a damaged benchmark or shard, and its failed runs, to a new file.

    The new file is in the same folder; files of earlier repairs are never overwritten.

    Of a file that is only marked as open for writing, a copy without the mark.

    Returns:
        the result, or None if nothing is damaged.

    Raises:
        UnfinishedError: no run is intact.
        MissingVolumeError: a states file is missing, which is no damage; not raised with
            `without_volumes`.
        DTBError: the file cannot be opened, or its provenance is damaged.
    """
    if is_marked(path):
        unmarked = _unmarked(path, _unused(path.with_suffix(".repaired.h5")))
        return repair_file(unmarked.copy, without_volumes=without_volumes) or unmarked
    if not _is_damaged(path):
        return None
    if not without_volumes:
        _check_volumes(path)
    with contextlib.closing(Store(path)) as store:
        provenance = store.index.texts(PROVENANCE)[0]
        num_epochs, moments = store.index.num_epochs, store.index.moments
        failures: tuple[FailedRun, ...] = ()
        lost_failures = None
        try:
            failures = store.failures
        except DTBError as error:
            lost_failures = str(error)
    rebuilt = _unused(path.with_suffix(".repaired.h5"))
    with tempfile.TemporaryDirectory(prefix=".repair-", dir=path.parent) as name:
        saved, lost = _salvaged(path, Path(name), plan="repair")
        journals = [journal for run in saved if (journal := read_journal(run.journal))]
        if not journals:
            raise UnfinishedError(f"{path} has no run that is intact")
        whole = Path(name) / "whole.h5"
        write_shard(
            whole,
            journals,
            failures,
            provenance=provenance,
            num_epochs=num_epochs,
            moments=moments,
        )
        for _ in merge([whole], rebuilt):
            pass
    return Repair(path, len(saved), lost, rebuilt, lost_failures)


def _unmarked(path: Path, copy: Path) -> Unmarked:
    """Copy a marked file without the mark, or put the copy in its place."""
    with whole_file(copy) as temporary:
        shutil.copyfile(path, temporary)
        clear_mark(temporary)
    return Unmarked(path, copy)


def _check_volumes(path: Path) -> None:
    try:
        with Benchmark(path) as benchmark:
            benchmark.check_files()
    except MissingVolumeError as error:
        error.add_note("if it is lost, --without-volumes saves the runs that lie elsewhere")
        raise
    except DTBError:
        pass  # what is damaged is the list of volumes


def _is_damaged(path: Path) -> bool:
    try:
        return any(checked.error is not None for checked in verify(path))
    except DTBError:
        return True


def _take_apart(folder: RunFolder, runs: list[PlannedRun]) -> Repair:
    shard = runs[0].shard
    file = folder.shard_file(shard)
    working = folder.working_folder(shard)
    working.mkdir(parents=True, exist_ok=True)
    saved, lost = _salvaged(file, working, plan=folder.plan_id)
    planned = {run.number: run for run in runs}
    for foreign in [run for run in saved if not _is_as_planned(run, planned)]:
        foreign.journal.unlink()
        saved.remove(foreign)
        lost = (*lost, LostRun(foreign.number, "it is not the run that was planned"))
    found = {run.number for run in saved} | {run.number for run in lost}
    lost = (*lost, *(LostRun(number, "it is missing") for number in sorted(planned.keys() - found)))
    # Rows without a number stand for runs that are listed by theirs.
    lost = tuple(run for run in lost if run.number is not None)
    _set_aside(folder, file)
    return Repair(file, len(saved), lost, working)


def _set_aside(folder: RunFolder, file: Path) -> Path:
    aside = _unused(folder.damaged_file(file))
    aside.parent.mkdir(exist_ok=True)
    return file.replace(aside)


def _unused(path: Path) -> Path:
    """The path, with a number in its name if the path exists."""
    numbered = (path.with_stem(f"{path.stem}-{i}") for i in itertools.count(2))
    return next(found for found in itertools.chain([path], numbered) if not found.exists())


def _is_as_planned(saved: SavedRun, planned: dict[int, PlannedRun]) -> bool:
    journal, run = read_journal(saved.journal), planned.get(saved.number)
    if journal is None or run is None:
        return False
    facts = ("genotype", "seed", "order_seed")
    return all(getattr(journal.run, name) == getattr(run, name) for name in facts)


def _salvaged(path: Path, folder: Path, *, plan: str) -> tuple[list[SavedRun], tuple[LostRun, ...]]:
    saved: list[SavedRun] = []
    lost: list[LostRun] = []
    try:
        for run in salvage(path, folder, plan=plan):
            if isinstance(run, SavedRun):
                saved.append(run)
            else:
                lost.append(run)
    except SchemaVersionError:
        raise
    except DTBError:
        return [], ()
    return saved, tuple(lost)
