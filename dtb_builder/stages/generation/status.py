"""The status of a generation, read from its files; fast also for long plans."""

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.journal import peek_journal
from dtb_builder.errors import DTBError
from dtb_builder.stages.generation.foreign import shard_files, why_misplaced
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.settings.shard_range import ShardRange
from dtb_builder.stages.work.locking import is_held

__all__ = ["DeviceStatus", "FailedStatus", "ForeignStatus", "Status", "status"]

Merged = Literal["no", "yes", "stale", "damaged"]

_NUMBERED = re.compile(r"(?:shard|run)-(\d+)\.?(h5|journal|failures\.json|damage\.json)?")


@dataclass(frozen=True)
class FailedStatus:
    """A run with failed attempts that has not finished.

    Attributes:
        number: the run's number.
        attempts: the number of failed attempts.
        given_up: whether it will not be tried again.
        is_final: whether another attempt would fail likewise.
        reason: the last line of the last traceback.
        log: the path of the run's log.
    """

    number: int
    attempts: int
    given_up: bool
    is_final: bool
    reason: str
    log: str


@dataclass(frozen=True)
class ForeignStatus:
    """A file among the shards that is not the shard of its name.

    Attributes:
        file: the file's path.
        reason: why it is not of the plan, or why it cannot be read.
    """

    file: str
    reason: str


@dataclass(frozen=True)
class DeviceStatus:
    """The running workers on devices with the same name.

    Attributes:
        name: the devices' name, or "not known yet" before the first epoch.
        num_running: the number of runs that are being trained on them.
        seconds_per_epoch: the mean seconds of these runs' latest epochs; None before the first.
        epochs_per_hour: of all these runs together; before the first epoch as calibrated, or 0.
    """

    name: str
    num_running: int
    seconds_per_epoch: float | None
    epochs_per_hour: float


@dataclass(frozen=True)
class Status:
    """The status of a generation.

    Attributes:
        path: the run folder.
        num_runs: the number of planned runs.
        num_finished: runs with all their epochs.
        num_running: runs that a process is training.
        num_started: runs with some epochs that are not finished, given up or running.
        num_given_up: runs that failed as often as allowed.
        num_waiting: runs that have not begun.
        num_epochs: trained epochs, without epoch 0, the initialisation.
        num_planned_epochs: epochs of the whole plan.
        num_shards: planned shards.
        num_closed_shards: shards under their final names.
        num_bytes: bytes of shards, work in progress and the benchmark.
        epochs_per_hour: of all running runs together, from their latest epochs.
        seconds_left: the time for the rest at this pace; None if work is left but nothing runs.
        devices: the running workers, by device.
        failed: the runs with failed attempts that have not finished.
        damaged: what was found damaged of runs in progress, and what was done about it.
        foreign: files among the shards that are not of the plan; none counts as closed.
        holders: who works on the folder now.
        merged: whether the benchmark is there, and holds all that is finished: "stale" if not.
    """

    path: str
    num_runs: int
    num_finished: int
    num_running: int
    num_started: int
    num_given_up: int
    num_waiting: int
    num_epochs: int
    num_planned_epochs: int
    num_shards: int
    num_closed_shards: int
    num_bytes: int
    epochs_per_hour: float
    seconds_left: float | None
    devices: tuple[DeviceStatus, ...]
    failed: tuple[FailedStatus, ...]
    damaged: tuple[str, ...]
    foreign: tuple[ForeignStatus, ...]
    holders: tuple[str, ...]
    merged: Merged

    @property
    def is_complete(self) -> bool:
        """Whether every planned run finished, and nothing foreign lies among the shards."""
        return self.num_finished == self.num_runs and not self.foreign

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: every run finished or was given up, and nobody works."""
        is_settled = self.num_finished + self.num_given_up == self.num_runs
        return self.is_complete or (is_settled and not self.holders)


@dataclass(frozen=True)
class _OpenRun:
    """A run of a shard that is not closed, as far as its files tell."""

    number: int
    num_epochs: int
    seconds: float | None
    device: str | None
    is_running: bool


def status(folder: RunFolder, shards: ShardRange | None = None) -> Status:
    """Look at a run folder; changes nothing and needs no cluster.

    It lists the folder and looks into what is in progress; the plan itself is not read.

    Args:
        folder: a planned run folder.
        shards: count only what belongs to these.

    Raises:
        ConfigError: the folder is not planned, or its config is not valid.
        PlanMismatchError: its config was edited.
    """
    with contextlib.suppress(ModuleNotFoundError):  # a reader's installation has no YAML
        folder.config  # noqa: B018 - raises if it was edited
    shard_size = folder.shard_size
    rows = folder.num_epochs + 1
    wanted = ShardRange(0, folder.num_shards - 1)
    if shards is not None:
        wanted = ShardRange(shards.first, max(shards.first, min(shards.last, wanted.last)))
    first_run = wanted.first * shard_size
    num_runs = max(0, min(folder.num_runs, (wanted.last + 1) * shard_size) - first_run)
    files = [entry for entry in _entries(folder.shards_folder) if entry[0] in wanted]
    foreign = tuple(_foreign(folder, shards))
    misplaced = {entry.file for entry in foreign}
    closed = {
        number
        for number, kind, _ in files
        if kind == "h5" and str(folder.shard_file(number)) not in misplaced
    }
    num_closed_runs = sum(
        min(shard_size, folder.num_runs - number * shard_size) for number in closed
    )
    runs: list[_OpenRun] = []
    failed: list[FailedStatus] = []
    damaged: list[str] = []
    num_bytes = sum(size for *_, size in files)
    for shard in [n for n, *_ in _entries(folder.path / "working") if n in wanted]:
        for number, kind, size in _entries(folder.working_folder(shard)):
            num_bytes += size
            run = PlannedRun(
                number, shard, seed=0, order_seed=0, genotype=""
            )  # enough to find its files
            if shard not in closed and kind == "journal":
                runs.append(_open_run(folder, run, rows))
            elif shard not in closed and kind == "failures.json":
                failed += _failed(folder, run)
            elif shard not in closed and kind == "damage.json":
                damaged += [f"run {number}: {message}" for message in folder.damage(run)]
    finished = {run.number for run in runs if run.num_epochs == rows}
    failed = [failure for failure in failed if failure.number not in finished]
    given_up = {failure.number for failure in failed if failure.given_up}
    running = [r for r in runs if r.is_running and r.number not in finished | given_up]
    busy = finished | given_up | {run.number for run in running}
    num_started = sum(run.num_epochs > 0 and run.number not in busy for run in runs)
    num_finished = num_closed_runs + len(finished)
    given = folder.first_epoch + 1  # rows that nobody has to train
    per_run = rows - given
    num_epochs = num_closed_runs * per_run + sum(max(0, run.num_epochs - given) for run in runs)
    calibrated = folder.calibrated_seconds
    devices = _devices(running, None if calibrated is None else calibrated / per_run)
    pace = sum(device.epochs_per_hour for device in devices)
    num_left = num_runs * per_run - num_epochs
    return Status(
        path=str(folder.path),
        num_runs=num_runs,
        num_finished=num_finished,
        num_running=len(running),
        num_started=num_started,
        num_given_up=len(given_up),
        num_waiting=num_runs - num_finished - len(running) - num_started - len(given_up),
        num_epochs=num_epochs,
        num_planned_epochs=num_runs * per_run,
        num_shards=-(-num_runs // shard_size),
        num_closed_shards=len(closed),
        num_bytes=num_bytes + sum(_size(file) for file in folder.path.glob("*.h5")),
        epochs_per_hour=pace,
        seconds_left=_seconds_left(num_left, pace),
        devices=devices,
        failed=tuple(sorted(failed, key=lambda failure: failure.number)),
        damaged=tuple(sorted(damaged)),
        foreign=foreign,
        holders=folder.holders(),
        merged=_merged(folder, num_finished),
    )


def _foreign(folder: RunFolder, shards: ShardRange | None) -> Iterator[ForeignStatus]:
    for file in shard_files(folder, shards):
        try:
            reason = why_misplaced(folder, file)
        except FileNotFoundError:
            continue  # a repair has set it aside just now
        except DTBError as error:
            reason = str(error)
        if reason is not None:
            yield ForeignStatus(str(file), reason)


def _seconds_left(num_epochs: int, epochs_per_hour: float) -> float | None:
    if not num_epochs:
        return 0.0
    return 3600 * num_epochs / epochs_per_hour if epochs_per_hour else None


def _entries(folder: Path) -> Iterator[tuple[int, str | None, int]]:
    """The numbered files and folders in a folder: number, kind and bytes of each.

    They may go while they are looked at, where somebody works.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if match := _NUMBERED.match(entry.name):
                    yield int(match[1]), match[2], _size(entry)
    except FileNotFoundError:
        return


def _open_run(folder: RunFolder, run: PlannedRun, num_rows: int) -> _OpenRun:
    journal = folder.journal_file(run)
    peek = peek_journal(journal)
    seconds = [value for name, value in peek.metrics.items() if name.endswith("_seconds")]
    return _OpenRun(
        number=run.number,
        num_epochs=num_rows if peek.has_ended else peek.num_epochs,  # it has no more to train
        # Nothing is trained in epoch 0, which says little of the others.
        seconds=sum(seconds) if peek.num_epochs > 1 else None,
        device=peek.environment.get("device_name"),
        is_running=is_held(journal.with_suffix(".lock")) is True,
    )


def _failed(folder: RunFolder, run: PlannedRun) -> Iterator[FailedStatus]:
    failures = folder.failures(run)
    if failures.messages:
        yield FailedStatus(
            number=run.number,
            attempts=len(failures.messages),
            given_up=failures.given_up,
            is_final=failures.is_final,
            reason=failures.reason,
            log=str(folder.log_file(run)),
        )


def _devices(running: list[_OpenRun], calibrated: float | None) -> tuple[DeviceStatus, ...]:
    """The devices of running runs; their pace is the calibrated one until a first epoch's end."""
    by_name: defaultdict[str, list[_OpenRun]] = defaultdict(list)
    for run in running:
        by_name[run.device or "not known yet"].append(run)
    found: list[DeviceStatus] = []
    for name, runs in sorted(by_name.items()):
        seconds = [run.seconds for run in runs if run.seconds]
        mean = sum(seconds) / len(seconds) if seconds else None
        epoch = mean or calibrated
        found.append(
            DeviceStatus(name, len(runs), mean, len(runs) * 3600 / epoch if epoch else 0.0)
        )
    return tuple(found)


def _merged(folder: RunFolder, num_finished: int) -> Merged:
    if not folder.benchmark_file.exists():
        return "no"
    try:
        with Benchmark(folder.benchmark_file) as benchmark:
            is_own = benchmark.provenance_text == folder.provenance
            return "yes" if is_own and len(benchmark) >= num_finished else "stale"
    except DTBError:
        return "damaged"


def _size(file: Path | os.DirEntry[str]) -> int:
    """The bytes of a file; 0 if it has been removed meanwhile."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
