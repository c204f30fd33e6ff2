"""Train the unfinished runs of a plan, and close the shards whose runs are finished."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dtb_builder.dataset.journal import peek_journal
from dtb_builder.errors import ConfigError, UnfinishedError
from dtb_builder.stages.generation.adopt import Wanted, check_studies
from dtb_builder.stages.generation.foreign import check_shards
from dtb_builder.stages.generation.outcomes import UnfinishedRuns, close_shard, is_finished
from dtb_builder.stages.generation.parent import check_parents
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.settings.launch import LaunchConfig
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.stages.work.engine import Engine
from dtb_builder.stages.work.engines import open_engine
from dtb_builder.stages.work.tasks import Ended, Failed, Postponed, Started, Task, Waited, run_tasks
from dtb_builder.stages.work.tasks import Event as TaskEvent

__all__ = [
    "Progress",
    "RunDamaged",
    "RunFailed",
    "RunFinished",
    "RunPostponed",
    "ShardClosed",
    "generate",
]

_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class RunFinished:
    """A run has all its epochs, or it has diverged just now for the reason ``diverged``."""

    run: PlannedRun
    diverged: str | None = None


@dataclass(frozen=True)
class RunFailed:
    """An attempt at a run has failed; ``given_up`` if there will be no other attempt."""

    run: PlannedRun
    error: str
    given_up: bool


@dataclass(frozen=True)
class RunPostponed:
    """A run will be started again: its machine was lost, or another process holds its lock."""

    run: PlannedRun
    reason: str


@dataclass(frozen=True)
class ShardClosed:
    """A shard is written under its final name."""

    path: Path


@dataclass(frozen=True)
class Progress:
    """The number of trained epochs of the plan, without epoch 0, the initialisation."""

    num_epochs: int


@dataclass(frozen=True)
class RunDamaged:
    """A file of a run in progress was found damaged; the message says what is done about it."""

    run: PlannedRun
    message: str


Event = RunFinished | RunFailed | RunPostponed | RunDamaged | ShardClosed | Progress


Trained = Generator[None, None, str | None] | str | None
Training = Callable[..., Trained]
"""What a task calls; see `train_run`. A plain function takes no turns."""


def generate(
    folder: RunFolder,
    launch: LaunchConfig,
    *,
    train: Training | None = None,
    widening: Sequence[Path] = (),
) -> Iterator[Event]:
    """Do the work that is left of a plan, or of a range of its shards.

    Args:
        folder: a planned run folder.
        launch: the settings of this launch.
        train: the function that a worker calls with the run folder, a run and its time limit; None
            is `worker.train_run`.
        widening: run folders or benchmarks whose runs are trained again, to keep more states; see
            `worker.train_run`.

    Yields:
        events as they happen, and a `Progress` at least once a second.

    Raises:
        LockedError: another process works on the folder or on these shards.
        ConfigError: the folder is not planned or has no such shards, the cluster is too small for a
            run, or a machine lacks the planned device.
        PlanMismatchError: config, plan or parents were edited since the folder was planned, or a
            file among its shards is of another plan.
        DamagedFileError: it is a branch, and its parents are missing or damaged.
        StorageError: the folder cannot be written to any more; finished work is safe.
        ImagesError: a worker does not have the images of the plan.
        ContradictionError: a run that is trained again has other bits here.
    """
    folder.config  # noqa: B018 - raises where there is none, before anything is started
    folder.check_plan()
    check_parents(folder)
    folder.check_writeable()
    if train is None:
        from dtb_builder.stages.generation.worker import train_run as train  # here: it needs torch
    shards = launch.cluster.shard_range
    if shards is not None and shards.first >= folder.num_shards:
        raise ConfigError(
            f"cluster.shards={shards}: {folder.path} has shards 0 to {folder.num_shards - 1}"
        )
    check_shards(folder, shards)
    if widening:
        check_studies(Wanted.by(folder), widening=widening)
    lock = folder.locked() if shards is None else folder.shards_locked(shards)
    engine = open_engine(launch.cluster, folder.config.compute, folder.ray_log_file)
    with storage_is_named(folder.path), lock, engine:
        yield from _Driver(folder, launch, engine, train, widening).events()


@dataclass
class _OpenShard:
    """A shard with unfinished runs."""

    runs: list[PlannedRun]
    left: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)


class _Driver:
    """The state of a generation; its memory does not grow with the plan."""

    def __init__(
        self,
        folder: RunFolder,
        launch: LaunchConfig,
        engine: Engine,
        train: Training,
        widening: Sequence[Path],
    ) -> None:
        self._folder = folder
        self._path = folder.path.absolute()  # a worker's current directory is its own
        self._launch = launch
        self._engine = engine
        self._train = train
        self._studies = (tuple(path.absolute() for path in widening),) if widening else ()
        self._open: dict[int, _OpenShard] = {}
        self._running: set[PlannedRun] = set()
        self._num_told: dict[PlannedRun, int] = {}
        self._ready: deque[Sequence[Task]] = deque()
        self._found: deque[PlannedRun] = deque()
        self._reopened: set[int] = set()
        self._first_epoch = folder.config.first_epoch
        self._num_epochs = folder.config.recipe.num_epochs - self._first_epoch
        self._num_done = 0

    def events(self) -> Iterator[Event]:
        """The events until no work is left."""
        yield Progress(0)  # the engine is up
        looked = time.monotonic()
        for event in run_tasks(
            self._engine,
            self._batches(),
            max_attempts=self._launch.cluster.max_attempts,
            at_once=self._launch.cluster.together,
            is_done=self._is_done,
        ):
            yield from self._told(event)
            if time.monotonic() - looked >= _PROGRESS_SECONDS:  # it reads a file for every run
                for run in self._running:
                    yield from self._damage(run)
                yield Progress(self._num_done + sum(map(self._count, self._running)))
                looked = time.monotonic()
        yield Progress(self._num_done)

    def _batches(self) -> Iterator[Sequence[Task]]:
        """The tasks: runs to train, and shards to close once their runs are finished."""
        size = self._launch.cluster.runs_per_task
        for shard, runs in self._folder.shards(self._launch.cluster.shard_range):
            if self._folder.shard_file(shard).exists():
                self._folder.clear_working_folder(shard)
                self._num_done += len(runs) * self._num_epochs
                continue
            tasks = self._open_shard(shard, runs)
            for start in range(0, len(tasks), size):
                while self._ready:
                    yield self._ready.popleft()
                yield tasks[start : start + size]
            while self._ready:
                yield self._ready.popleft()
        while self._open or self._ready:
            yield self._ready.popleft() if self._ready else []

    def _open_shard(self, shard: int, runs: list[PlannedRun]) -> list[Task]:
        """A task for each run of a shard that has neither finished nor was given up.

        As far as its files tell: who closes the shard reads all of them.
        """
        if self._launch.retry == "failed":
            for run in runs:
                self._folder.forgive(run)
        finished = [run for run in runs if is_finished(self._folder, run)]
        unfinished = [run for run in runs if run not in finished]
        given_up = {run.number for run in unfinished if self._folder.failures(run).given_up}
        left = [run for run in unfinished if run.number not in given_up]
        self._found.extend(finished)
        self._num_done += len(finished) * self._num_epochs
        self._open[shard] = _OpenShard(runs, {run.number for run in left}, given_up)
        if not left:
            self._close(shard)
        return [self._training(run) for run in left]

    def _training(self, run: PlannedRun) -> Task:
        return Task(
            key=run,
            function=self._train,
            arguments=(self._path, run, self._launch.cluster.time_limit, *self._studies),
            on_device=True,
            num_failed=len(self._folder.failures(run).messages),
        )

    def _told(self, event: TaskEvent) -> Iterator[Event]:
        """The events of the generation that follow from an event of the task loop."""
        while self._found:  # before its shard is closed
            yield RunFinished(self._found.popleft())
        if isinstance(event, Waited):
            return
        run = event.task.key
        if not isinstance(run, PlannedRun):  # a shard is being closed
            if isinstance(event, Ended) and isinstance(event.result, Path):
                yield ShardClosed(event.result)
            elif isinstance(event, Ended):
                self._reopen(event.result)
            elif isinstance(event, Failed) and event.given_up:
                raise event.error
            return
        if isinstance(event, Started):
            self._running.add(run)
            self._num_told[run] = len(self._folder.damage(run))
            return
        self._running.discard(run)
        yield from self._damage(run)
        self._num_told.pop(run, None)
        if isinstance(event, Postponed):
            yield RunPostponed(run, str(event.error))
        elif isinstance(event, Ended):
            self._num_done += self._num_epochs
            yield RunFinished(run, event.result)
            self._settle(run)
        else:
            yield from self._failed(run, event)

    def _damage(self, run: PlannedRun) -> Iterator[Event]:
        """What its worker has found damaged of a run since the last look."""
        found = self._folder.damage(run)
        for message in found[self._num_told.get(run, 0) :]:
            yield RunDamaged(run, message)
        self._num_told[run] = len(found)

    def _failed(self, run: PlannedRun, event: Failed) -> Iterator[Event]:
        self._folder.add_failure(run, event.traceback)
        if event.given_up:
            self._folder.give_up(run)
            self._open[run.shard].given_up.add(run.number)
        yield RunFailed(run, event.reason, event.given_up)
        if event.given_up:
            self._settle(run)

    def _settle(self, run: PlannedRun) -> None:
        """Close the run's shard if no run is left."""
        left = self._open[run.shard].left
        left.discard(run.number)
        if not left:
            self._close(run.shard)

    def _close(self, number: int) -> None:
        """Close a shard of which no run is left; a shard with a run given up stays open."""
        shard = self._open.pop(number)
        if not shard.given_up:
            arguments = (self._path, shard.runs)
            self._ready.append([Task(f"shard {number}", close_shard, arguments, on_device=False)])

    def _reopen(self, left: UnfinishedRuns) -> None:
        """Train those runs of a shard whose journals turned out to be damaged.

        Raises:
            UnfinishedError: they were trained again already.
        """
        numbers = {run.number for run in left.unfinished}
        if again := sorted(numbers & self._reopened):
            raise UnfinishedError(
                f"runs {again} ended twice without a whole journal in {self._folder.path}"
            )
        self._reopened |= numbers
        self._open[left.runs[0].shard] = _OpenShard(left.runs, numbers)
        self._num_done -= len(numbers) * self._num_epochs
        self._ready.extend([self._training(run)] for run in left.unfinished)

    def _is_done(self, task: Task) -> bool:
        return isinstance(task.key, PlannedRun) and is_finished(self._folder, task.key)

    def _count(self, run: PlannedRun) -> int:
        return max(
            0, peek_journal(self._folder.journal_file(run)).num_epochs - 1 - self._first_epoch
        )
