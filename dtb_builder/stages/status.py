"""Where a generation stands, from its files alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.journal import count_epochs
from dtb_builder.errors import DTBError
from dtb_builder.stages.run_folder import RunFolder

__all__ = ["FailedStatus", "Status", "status"]

Merged = Literal["no", "yes", "stale", "damaged"]


@dataclass(frozen=True)
class FailedStatus:
    """A run with failed attempts that has not finished.

    Attributes:
        number: the run's.
        attempts: how many failed.
        given_up: whether it is left alone from now on.
        reason: the last line of the last traceback.
    """

    number: int
    attempts: int
    given_up: bool
    reason: str


@dataclass(frozen=True)
class Status:
    """Where a generation stands.

    Attributes:
        num_runs: planned.
        num_finished: with all their epochs.
        num_started: with some epochs, neither finished nor given up.
        num_given_up: failed as often as allowed.
        num_waiting: not begun.
        num_epochs: finished, epoch 0 of every run included.
        num_planned_epochs: of the whole plan.
        num_shards: planned.
        num_closed_shards: under their final names.
        num_bytes: of shards, work in progress and the benchmark.
        failed: the runs with failed attempts that have not finished.
        holder: who works on the folder now, or None.
        merged: whether the benchmark is there, and holds all that is finished: "stale" if not.
    """

    num_runs: int
    num_finished: int
    num_started: int
    num_given_up: int
    num_waiting: int
    num_epochs: int
    num_planned_epochs: int
    num_shards: int
    num_closed_shards: int
    num_bytes: int
    failed: tuple[FailedStatus, ...]
    holder: str | None
    merged: Merged

    @property
    def is_complete(self) -> bool:
        """Whether every planned run finished."""
        return self.num_finished == self.num_runs


def status(folder: RunFolder) -> Status:
    """Look at a run folder; changes nothing and needs no cluster.

    Raises:
        ConfigError: the folder is not planned.
    """
    rows = folder.config.recipe.num_epochs + 1
    num_runs = num_finished = num_started = num_given_up = num_epochs = 0
    num_shards = num_closed_shards = 0
    failed: list[FailedStatus] = []
    for shard, runs in folder.shards():
        num_shards += 1
        num_runs += len(runs)
        if folder.shard_file(shard).exists():
            num_closed_shards += 1
            num_finished += len(runs)
            num_epochs += len(runs) * rows
            continue
        for run in runs:
            done = count_epochs(folder.journal_file(run))
            num_epochs += done
            if done == rows:
                num_finished += 1
                continue
            failures = folder.failures(run)
            num_given_up += failures.given_up
            num_started += done > 0 and not failures.given_up
            if failures.messages:
                reason = failures.messages[-1].strip().rpartition("\n")[2]
                attempts = len(failures.messages)
                failed.append(FailedStatus(run.number, attempts, failures.given_up, reason))
    return Status(
        num_runs=num_runs,
        num_finished=num_finished,
        num_started=num_started,
        num_given_up=num_given_up,
        num_waiting=num_runs - num_finished - num_started - num_given_up,
        num_epochs=num_epochs,
        num_planned_epochs=num_runs * rows,
        num_shards=num_shards,
        num_closed_shards=num_closed_shards,
        num_bytes=sum(_size(file) for file in folder.data_files()),
        failed=tuple(failed),
        holder=folder.holder(),
        merged=_merged(folder, num_finished),
    )


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


def _size(file: Path) -> int:
    """Bytes of a file, which may be gone by now where somebody works."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
