"""Training every run of a plan that is not finished, and closing every shard whose runs are."""

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dtb_builder.dataset.journal import count_epochs
from dtb_builder.errors import ConfigError, ImagesError, StorageError
from dtb_builder.stages.generation.outcomes import RunOutcome, close_shard
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.settings.launch import LaunchConfig
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.stages.work.engine import Engine, Task, TaskEnd
from dtb_builder.stages.work.engines import open_engine

__all__ = ["Progress", "RunFailed", "RunFinished", "ShardClosed", "generate"]

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class RunFinished:
    """A run has all its epochs."""

    run: PlannedRun


@dataclass(frozen=True)
class RunFailed:
    """A try at a run failed; ``given_up`` when it was the last one."""

    run: PlannedRun
    error: str
    given_up: bool


@dataclass(frozen=True)
class ShardClosed:
    """A shard stands under its final name."""

    path: Path


@dataclass(frozen=True)
class Progress:
    """How many epochs of the plan are done, epoch 0 of every run included."""

    num_epochs: int


Event = RunFinished | RunFailed | ShardClosed | Progress


Training = Callable[[Path, tuple[PlannedRun, ...], float | None], list[RunOutcome]]


def generate(
    folder: RunFolder, launch: LaunchConfig, *, train: Training | None = None
) -> Iterator[Event]:
    """Do all the work of a plan, or of a range of its shards, that is left; nothing is done twice.

    Args:
        folder: a planned run folder.
        launch: how to do it.
        train: what a worker calls with the run folder, some runs and the time limit of each;
            None is `workers.train_runs`.

    Yields:
        what happens, as it happens, and at least once a second a `Progress`.

    Raises:
        LockedError: somebody else works on the folder, or on these shards.
        ConfigError: it is not planned or has no such shards, the cluster has no room for a run, or
            a machine cannot compute as planned.
        PlanMismatchError: its config or its plan was edited since it was planned.
        StorageError: the folder cannot be written to any more; nothing finished is harmed.
        ImagesError: a worker has not the images of the plan.
    """
    folder.config  # noqa: B018 - raises where there is none, before anything is started
    folder.check_plan()
    folder.check_writeable()
    if train is None:
        from dtb_builder.stages.generation.worker import train_runs as train  # here: it needs torch
    shards = launch.cluster.shard_range
    if shards is not None and shards.first >= folder.num_shards:
        raise ConfigError(
            f"cluster.shards={shards}: {folder.path} has shards 0 to {folder.num_shards - 1}"
        )
    lock = folder.locked() if shards is None else folder.shards_locked(shards)
    engine = open_engine(launch.cluster, folder.config.compute)
    with storage_is_named(folder.path), lock, engine:
        yield from _Driver(folder, launch, engine, train).events()


@dataclass
class _OpenShard:
    """A shard that work is done for."""

    runs: list[PlannedRun]
    left: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)


class _Driver:
    """The loop that keeps the engine busy; its memory does not grow with the plan."""

    def __init__(
        self, folder: RunFolder, launch: LaunchConfig, engine: Engine, train: Training
    ) -> None:
        self._folder = folder
        self._launch = launch
        self._engine = engine
        self._train = train
        self._open: dict[int, _OpenShard] = {}
        self._tasks: dict[int, tuple[PlannedRun, ...]] = {}
        self._closing: dict[str, list[PlannedRun]] = {}
        self._again: deque[PlannedRun] = deque()
        self._rows = folder.config.recipe.num_epochs + 1
        self._num_done = 0

    def events(self) -> Iterator[Event]:
        """Everything that happens until no work is left."""
        groups = self._groups()
        yield Progress(0)  # the engine is up
        looked = time.monotonic()
        while True:
            while self._engine.has_room() and (runs := self._next(groups)) is not None:
                self._submit(runs)
            if self._engine.is_idle():
                break
            for end in self._engine.wait(seconds=_POLL_SECONDS):
                yield from self._ended(end)
            if time.monotonic() - looked >= _POLL_SECONDS:  # it reads a file for every run
                working = [run for runs in self._tasks.values() for run in runs]
                yield Progress(self._num_done + sum(map(self._count, working)))
                looked = time.monotonic()
        yield Progress(self._num_done)

    def _submit(self, runs: tuple[PlannedRun, ...]) -> None:
        key = runs[0].number
        self._tasks[key] = runs
        arguments = (self._folder.path, runs, self._launch.cluster.time_limit)
        self._engine.submit(Task(key, self._train, arguments, on_device=True))

    def _next(self, groups: Iterator[tuple[PlannedRun, ...]]) -> tuple[PlannedRun, ...] | None:
        return (self._again.popleft(),) if self._again else next(groups, None)

    def _groups(self) -> Iterator[tuple[PlannedRun, ...]]:
        """The runs to train, by task, as far as known before looking into their journals."""
        size = self._launch.cluster.runs_per_task
        for shard, runs in self._folder.shards(self._launch.cluster.shard_range):
            if self._folder.shard_file(shard).exists():
                self._folder.clear_working_folder(shard)
                self._num_done += len(runs) * self._rows
                continue
            if self._launch.retry == "failed":
                for run in runs:
                    self._folder.forgive(run)
            given_up = {run.number for run in runs if self._folder.failures(run).given_up}
            left = [run for run in runs if run.number not in given_up]
            self._open[shard] = _OpenShard(runs, {run.number for run in left}, given_up)
            for start in range(0, len(left), size):
                yield tuple(left[start : start + size])

    def _count(self, run: PlannedRun) -> int:
        return count_epochs(self._folder.journal_file(run))

    def _ended(self, end: TaskEnd) -> Iterator[Event]:
        if isinstance(end.key, str):
            closing = self._closing.pop(end.key)
            if end.is_lost:
                self._close(closing)
                return
            if end.error is not None:
                raise end.error
            yield ShardClosed(end.result)
            return
        assert isinstance(end.key, int)
        runs = self._tasks.pop(end.key)
        if isinstance(end.error, StorageError | ImagesError | ConfigError):
            raise end.error
        if end.error is not None:
            yield from self._died(runs, end)
            return
        errors = {outcome.number: outcome.error for outcome in end.result}
        for run in runs:
            if (error := errors[run.number]) is not None:
                yield from self._failed(run, error)
            else:
                yield from self._finished(run)

    def _died(self, runs: tuple[PlannedRun, ...], end: TaskEnd) -> Iterator[Event]:
        """A worker is gone: with its machine, or at the first of its runs that is not finished."""
        assert end.error is not None
        finished = [run for run in runs if self._count(run) == self._rows]
        for run in finished:
            yield from self._finished(run)
        left = [run for run in runs if run not in finished]
        if left and not end.is_lost:
            # It could not write down itself what went wrong.
            guilty = left.pop(0)
            self._folder.add_failure(guilty, "".join(traceback.format_exception(end.error)))
            yield from self._failed(guilty, f"{type(end.error).__name__}: {end.error}")
        self._again.extend(left)

    def _finished(self, run: PlannedRun) -> Iterator[Event]:
        self._num_done += self._rows
        yield RunFinished(run)
        self._settle(run)

    def _failed(self, run: PlannedRun, error: str) -> Iterator[Event]:
        attempts = len(self._folder.failures(run).messages)
        given_up = attempts >= self._launch.cluster.max_attempts
        if given_up:
            self._folder.give_up(run)
            self._open[run.shard].given_up.add(run.number)
        yield RunFailed(run, error, given_up)
        if given_up:
            self._settle(run)
        else:
            self._again.append(run)

    def _settle(self, run: PlannedRun) -> None:
        """Close the run's shard when it was the last one; a shard with a failed run stays open."""
        shard = self._open[run.shard]
        shard.left.discard(run.number)
        if shard.left:
            return
        del self._open[run.shard]
        if not shard.given_up:
            self._close(shard.runs)

    def _close(self, runs: list[PlannedRun]) -> None:
        key = f"shard {runs[0].shard}"
        self._closing[key] = runs
        arguments = (self._folder.path, runs)
        self._engine.submit(Task(key, close_shard, arguments, on_device=False))
