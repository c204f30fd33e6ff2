"""Adopting a plan's runs from finished studies that have them, instead of training them."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dtb_builder.dataset.atomic import remove_unfinished
from dtb_builder.dataset.copying import Sources
from dtb_builder.dataset.identity import identities, identity
from dtb_builder.dataset.kept import Kept
from dtb_builder.dataset.store import Store
from dtb_builder.dataset.stored_journal import write_stored
from dtb_builder.errors import ConfigError, PlanMismatchError, StateNotKeptError
from dtb_builder.record import TRAINED_HERE, Moment
from dtb_builder.stages.generation.outcomes import is_finished
from dtb_builder.stages.generation.parent import parent_of
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.generation.same_study import check_same_study
from dtb_builder.stages.settings.shard_range import ShardRange
from dtb_builder.stages.work.disk import storage_is_named

__all__ = ["FinishedRuns", "Wanted", "adopt", "check_studies", "num_known"]

_BLOCK_RUNS = 4096


@dataclass(frozen=True)
class Wanted:
    """What a plan requires of the runs that it adopts.

    Attributes:
        user: the plan's folder, for messages.
        provenance: the plan's provenance.
        moments: the moments at which the plan keeps states.
        momentum_epochs: the epochs after which the plan keeps the momentum.
    """

    user: Path
    provenance: Mapping[str, Any]
    moments: tuple[Moment, ...]
    momentum_epochs: Collection[int]

    @classmethod
    def by(cls, folder: RunFolder) -> "Wanted":
        """The requirements of a planned folder."""
        config = folder.config
        epochs = config.momentum_epochs
        if config.branch is not None:
            epochs = epochs | {config.branch.epoch}  # its momentum is kept if the parent's is
        return cls(folder.path, folder.provenance_settings, folder.moments, epochs)

    def check_alike(self, store: Store) -> None:
        """Check that a file's runs were trained with the plan's settings and images.

        Raises:
            PlanMismatchError: they were not.
        """
        check_same_study(
            self.provenance, store.provenance, where=str(store.path), user=str(self.user)
        )

    def kept_of(self, store: Store) -> Kept:
        """The states of a file that the plan keeps.

        Raises:
            PlanMismatchError: the file lacks some of them.
        """
        try:
            kept = Kept(store.index.moments, self.moments, momentum=self.momentum_epochs)
        except StateNotKeptError as error:
            raise PlanMismatchError(f"{store.path}: {error}, {self._widen()}") from error
        ends = [moment.epoch for moment in store.index.moments]
        first = self.provenance["config"].get("branch", {}).get("epoch")
        wanted = {*self.momentum_epochs} - {first}
        if wanted and store.index.num_runs:
            names = ("moments/momentum_length",)
            blocks = store.index.streamed(names, _BLOCK_RUNS)
            has = np.any([block[names[0]].any(axis=0) for block in blocks], axis=0)
            there = {epoch for epoch, h in zip(ends, has.tolist(), strict=True) if h}
            if missing := sorted(wanted - there):
                raise PlanMismatchError(
                    f"{store.path}: no momentum is kept after epochs "
                    f"{', '.join(map(str, missing))}, {self._widen()}"
                )
        return kept

    def _widen(self) -> str:
        return (
            f"which {self.user} keeps; --widen instead of --adopt trains its runs again, to "
            "the same bits, and keeps more"
        )


@dataclass
class FinishedRuns:
    """The runs of finished studies, found by their identity.

    Args:
        paths: run folders, benchmarks or shards.

    Raises:
        ConfigError: a folder has no finished runs.
    """

    paths: Sequence[Path]
    sources: Sources = field(default_factory=Sources)
    _known: dict[bytes, tuple[Path, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for file in _files(self.paths):
            for row, run in enumerate(identities(self.sources.of(file))):
                self._known.setdefault(run, (file, row))

    def find(self, folder: RunFolder, run: PlannedRun) -> tuple[Store, int] | None:
        """The file and the row of a planned run, or None if no file has it."""
        with parent_of(folder, run) as parent:
            origin = TRAINED_HERE if parent is None else parent.origin
        found = self._known.get(identity(run.key, run.seed, run.order_seed, origin))
        return None if found is None else (self.sources.of(found[0]), found[1])


def check_studies(
    wanted: Wanted, *, adopting: Sequence[Path] = (), widening: Sequence[Path] = ()
) -> None:
    """Check that a plan can adopt the runs of other studies, or train them again.

    Raises:
        PlanMismatchError: a study was trained differently, or keeps too few states to be adopted.
        ConfigError: a folder has no finished runs.
    """
    for paths, is_adopted in ((adopting, True), (widening, False)):
        for file in _files(paths):
            with contextlib.closing(Store(file)) as store:
                wanted.check_alike(store)
                if is_adopted:
                    wanted.kept_of(store)


def num_known(folder: RunFolder, paths: Sequence[Path]) -> int:
    """The number of a plan's runs that other studies have."""
    runs = FinishedRuns(paths)
    with contextlib.closing(runs.sources):
        return sum(runs.find(folder, run) is not None for run in folder.plan())


def adopt(
    folder: RunFolder, paths: Sequence[Path], shards: ShardRange | None = None
) -> Iterator[PlannedRun]:
    """Adopt the runs of a plan that other studies have, each as a finished journal.

    Finished runs are left unchanged, so an interrupted call can be repeated.

    Args:
        folder: a planned run folder.
        paths: run folders, benchmarks or shards with the same deciding config.
        shards: adopt only the runs of these shards; None adopts all.

    Yields:
        each run once its journal is on disk.

    Raises:
        PlanMismatchError: a file was trained differently, or lacks states that the plan keeps.
        LockedError: another process works on the folder, or on these shards.
        DamagedFileError: a file is damaged.
        StorageError: the folder can no longer be written to.
    """
    folder.check_plan()
    wanted = Wanted.by(folder)
    check_studies(wanted, adopting=paths)
    runs = FinishedRuns(paths)
    lock = folder.locked() if shards is None else folder.shards_locked(shards)
    with storage_is_named(folder.path), contextlib.closing(runs.sources), lock:
        for shard, planned in folder.shards(shards):
            if folder.shard_file(shard).exists():
                continue
            remove_unfinished(folder.working_folder(shard), ["run-*.journal"])
            for run in planned:
                found = None if is_finished(folder, run) else runs.find(folder, run)
                if found is not None:
                    _adopt(folder, run, *found, wanted)
                    yield run


def _adopt(folder: RunFolder, run: PlannedRun, store: Store, row: int, wanted: Wanted) -> None:
    kept = Kept(store.index.moments, wanted.moments, momentum=wanted.momentum_epochs)
    with folder.run_locked(run):
        write_stored(
            folder.journal_file(run), store, row, kept, number=run.number, plan=folder.plan_id
        )
        for used in folder.checkpoint_files(run):
            used.unlink()


def _files(paths: Iterable[Path]) -> list[Path]:
    """The files of run folders, benchmarks and shards that hold runs."""
    return [file for path in paths for file in _files_of(path)]


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    folder = RunFolder(path)
    files = folder.shard_files()
    if folder.benchmark_file.exists():
        files.append(folder.benchmark_file)
    if not files:
        raise ConfigError(
            f"{path} has neither a finished shard nor dtb.h5: dtb generate {path} makes them"
        )
    return files
