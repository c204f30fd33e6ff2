"""The status of a generation, read from its files; fast also for long plans."""

import fcntl
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

__all__ = ["DeviceStatus", "FailedStatus", "ForeignStatus", "Status", "status"]

Merged = Literal["no", "yes", "stale", "damaged"]

_NUMBERED = re.compile(r"(?:shard|run)-(\d+)\.?(h5|journal|failures\.json)?")


@dataclass(frozen=True)
class FailedStatus:
    """A run with failed attempts that has not finished.

    Attributes:
        number: the run's number.
        attempts: the number of failed attempts.
        given_up: whether it will not be tried again.
        reason: the last line of the last traceback.
        log: the path of the run's log.
    """

    number: int
    attempts: int
    given_up: bool
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
        epochs_per_hour: of all these runs together.
    """

    name: str
    num_running: int
    seconds_per_epoch: float | None
    epochs_per_hour: float


@dataclass(frozen=True)
class Status:
    """The status of a generation.

    Attributes:
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
        foreign: files among the shards that are not of the plan; none counts as closed.
        holders: who works on the folder now.
        merged: whether the benchmark is there, and holds all that is finished: "stale" if not.
    """

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
        ConfigError: the folder is not planned.
    """
    config = folder.config
    rows = config.recipe.num_epochs + 1
    wanted = ShardRange(0, folder.num_shards - 1)
    if shards is not None:
        wanted = ShardRange(shards.first, max(shards.first, min(shards.last, wanted.last)))
    first_run = wanted.first * config.shard_size
    num_runs = max(0, min(folder.num_runs, (wanted.last + 1) * config.shard_size) - first_run)
    files = [entry for entry in _entries(folder.shards_folder) if entry[0] in wanted]
    foreign = tuple(_foreign(folder, shards))
    misplaced = {entry.file for entry in foreign}
    closed = {
        number
        for number, kind, _ in files
        if kind == "h5" and str(folder.shard_file(number)) not in misplaced
    }
    num_closed_runs = sum(
        min(config.shard_size, folder.num_runs - number * config.shard_size) for number in closed
    )
    runs: list[_OpenRun] = []
    failed: list[FailedStatus] = []
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
    finished = {run.number for run in runs if run.num_epochs == rows}
    failed = [failure for failure in failed if failure.number not in finished]
    given_up = {failure.number for failure in failed if failure.given_up}
    running = [r for r in runs if r.is_running and r.number not in finished | given_up]
    busy = finished | given_up | {run.number for run in running}
    num_started = sum(run.num_epochs > 0 and run.number not in busy for run in runs)
    num_finished = num_closed_runs + len(finished)
    given = config.first_epoch + 1  # rows that nobody has to train
    per_run = rows - given
    num_epochs = num_closed_runs * per_run + sum(max(0, run.num_epochs - given) for run in runs)
    devices = _devices(running)
    pace = sum(device.epochs_per_hour for device in devices)
    num_left = num_runs * per_run - num_epochs
    return Status(
        num_runs=num_runs,
        num_finished=num_finished,
        num_running=len(running),
        num_started=num_started,
        num_given_up=len(given_up),
        num_waiting=num_runs - num_finished - len(running) - num_started - len(given_up),
        num_epochs=num_epochs,
        num_planned_epochs=num_runs * per_run,
        num_shards=-(-num_runs // config.shard_size),
        num_closed_shards=len(closed),
        num_bytes=num_bytes + sum(_size(file) for file in folder.path.glob("*.h5")),
        epochs_per_hour=pace,
        seconds_left=_seconds_left(num_left, pace),
        devices=devices,
        failed=tuple(sorted(failed, key=lambda failure: failure.number)),
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
        is_running=_is_held(journal.with_suffix(".lock")),
    )


def _failed(folder: RunFolder, run: PlannedRun) -> Iterator[FailedStatus]:
    failures = folder.failures(run)
    if failures.messages:
        reason = failures.messages[-1].strip().rpartition("\n")[2]
        log = str(folder.log_file(run))
        yield FailedStatus(run.number, len(failures.messages), failures.given_up, reason, log)


def _devices(running: list[_OpenRun]) -> tuple[DeviceStatus, ...]:
    by_name: defaultdict[str, list[_OpenRun]] = defaultdict(list)
    for run in running:
        by_name[run.device or "not known yet"].append(run)
    found: list[DeviceStatus] = []
    for name, runs in sorted(by_name.items()):
        seconds = [run.seconds for run in runs if run.seconds]
        mean = sum(seconds) / len(seconds) if seconds else None
        found.append(DeviceStatus(name, len(runs), mean, len(runs) * 3600 / mean if mean else 0.0))
    return tuple(found)


def _is_held(lock: Path) -> bool:
    """Whether a process holds a lock; the lock file is neither created nor written."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _merged(folder: RunFolder, num_finished: int) -> Merged:
    if not folder.benchmark_file.exists():
        return "no"
    try:
        with Benchmark(folder.benchmark_file) as benchmark:
            num_merged = len(benchmark)
    except DTBError:
        return "damaged"
    newest = max((file.stat().st_mtime for file in folder.shard_files()), default=0.0)
    older = folder.benchmark_file.stat().st_mtime < newest
    return "stale" if older or num_merged < num_finished else "yes"


def _size(file: Path | os.DirEntry[str]) -> int:
    """The bytes of a file; 0 if it has been removed meanwhile."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
