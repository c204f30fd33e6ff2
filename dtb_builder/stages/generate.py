"""Training every run of a plan that is not finished, and closing every shard whose runs are."""

import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dtb_builder.dataset.journal import count_epochs
from dtb_builder.errors import ConfigError, ImagesError, StorageError
from dtb_builder.stages.config import LaunchConfig
from dtb_builder.stages.engines import Engine, Task, TaskEnd, open_engine
from dtb_builder.stages.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.storage import storage_is_named
from dtb_builder.stages.workers import RunOutcome, close_shard, train_run

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


def generate(folder: RunFolder, launch: LaunchConfig) -> Iterator[Event]:
    """Do all the work of a plan that is left; what is finished is never done again.

    Yields:
        what happens, as it happens, and at least once a second a `Progress`.

    Raises:
        LockedError: somebody else works on the folder.
        ConfigError: it is not planned, the cluster has no room for a run, or a worker's machine
            cannot compute as planned.
        PlanMismatchError: its config or its plan was edited since it was planned.
        StorageError: the folder cannot be written to any more; nothing finished is harmed.
        ImagesError: a worker has not the images of the plan.
    """
    folder.config  # noqa: B018 - raises where there is none, before anything is started
    folder.check_plan()
    folder.check_writeable()
    engine = open_engine(launch.cluster, folder.config.compute)
    with storage_is_named(folder.path), folder.locked(), engine:
        yield from _Driver(folder, launch, engine).events()


@dataclass
class _OpenShard:
    """A shard that work is done for."""

    runs: list[PlannedRun]
    left: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)


class _Driver:
    """The loop that keeps the engine busy; its memory does not grow with the plan."""

    def __init__(self, folder: RunFolder, launch: LaunchConfig, engine: Engine) -> None:
        self._folder = folder
        self._launch = launch
        self._engine = engine
        self._open: dict[int, _OpenShard] = {}
        self._tasks: dict[int, PlannedRun] = {}
        self._again: deque[PlannedRun] = deque()
        self._rows = folder.config.recipe.num_epochs + 1
        self._num_done = 0

    def events(self) -> Iterator[Event]:
        """Everything that happens until no work is left."""
        runs = self._runs()
        yield Progress(0)  # the engine is up
        while True:
            while self._engine.has_room() and (run := self._next(runs)) is not None:
                self._tasks[run.number] = run
                arguments = (self._folder.path, run, self._launch.cluster.time_limit)
                self._engine.submit(Task(run.number, train_run, arguments, on_device=True))
            if self._engine.is_idle():
                break
            for end in self._engine.wait(seconds=_POLL_SECONDS):
                yield from self._ended(end)
            yield Progress(self._num_done + sum(map(self._count, self._tasks.values())))
        yield Progress(self._num_done)

    def _next(self, runs: Iterator[PlannedRun]) -> PlannedRun | None:
        return self._again.popleft() if self._again else next(runs, None)

    def _runs(self) -> Iterator[PlannedRun]:
        """The runs to train, as far as known before looking into their journals."""
        for shard, runs in self._folder.shards():
            if self._folder.shard_file(shard).exists():
                self._folder.clear_working_folder(shard)
                self._num_done += len(runs) * self._rows
                continue
            if self._launch.retry == "failed":
                for run in runs:
                    self._folder.forgive(run)
            given_up = {run.number for run in runs if self._folder.failures(run).given_up}
            left = {run.number for run in runs} - given_up
            self._open[shard] = _OpenShard(runs, left, given_up)
            yield from (run for run in runs if run.number in left)

    def _count(self, run: PlannedRun) -> int:
        return count_epochs(self._folder.journal_file(run))

    def _ended(self, end: TaskEnd) -> Iterator[Event]:
        if isinstance(end.key, str):
            if end.error is not None:
                raise end.error
            yield ShardClosed(end.result)
            return
        assert isinstance(end.key, int)
        run = self._tasks.pop(end.key)
        outcome: RunOutcome | None = end.result
        if isinstance(end.error, StorageError | ImagesError | ConfigError):
            raise end.error
        if end.error is not None:
            # The worker died before it could write down what went wrong.
            self._folder.add_failure(run, "".join(traceback.format_exception(end.error)))
            yield from self._failed(run, f"{type(end.error).__name__}: {end.error}")
        elif outcome is not None and outcome.error is not None:
            yield from self._failed(run, outcome.error)
        else:
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
            arguments = (self._folder.path, shard.runs)
            key = f"shard {run.shard}"
            self._engine.submit(Task(key, close_shard, arguments, on_device=False))
