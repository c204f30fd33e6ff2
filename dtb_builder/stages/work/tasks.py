"""The one loop that runs tasks: what is tried again, what is given up, what stops everything."""

import pickle
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dtb_builder.errors import (
    ConfigError,
    DivergedError,
    ImagesError,
    LockedError,
    MissingVolumeError,
    StorageError,
)
from dtb_builder.stages.work.engine import Call, CallEnd, Engine
from dtb_builder.stages.work.tracebacks import traceback_text

__all__ = ["Ended", "Event", "Failed", "Postponed", "Started", "Task", "Waited", "run_tasks"]

_POLL_SECONDS = 1.0

_STOPPING = (StorageError, ImagesError, ConfigError, MissingVolumeError)
"""Errors of the machine or of the settings: every other task would meet them, too."""


@dataclass(frozen=True)
class Task:
    """A piece of work that is tried until it succeeds or has failed too often.

    Attributes:
        key: by which its events are known.
        function: a module-level function.
        arguments: what it is called with.
        on_device: whether it computes on the run's device; otherwise it takes one core.
        num_failed: attempts that failed before, in an earlier process.
    """

    key: Hashable
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    on_device: bool
    num_failed: int = 0


@dataclass(frozen=True)
class Started:
    """A task was handed to the engine."""

    task: Task


@dataclass(frozen=True)
class Ended:
    """A task has done its work; the result is None where its attempt failed only afterwards."""

    task: Task
    result: Any


@dataclass(frozen=True)
class Failed:
    """An attempt at a task has failed.

    Attributes:
        task: that failed.
        error: what it raised, or how its process died.
        traceback: of the error, as text.
        given_up: whether the task is not tried again.
    """

    task: Task
    error: Exception
    traceback: str
    given_up: bool

    @property
    def reason(self) -> str:
        """The error in one line."""
        return f"{type(self.error).__name__}: {self.error}"


@dataclass(frozen=True)
class Postponed:
    """A task will be started again, through no fault of its own.

    Attributes:
        task: that did not end.
        error: another process holds its lock, or its machine is gone.
    """

    task: Task
    error: Exception


@dataclass(frozen=True)
class Waited:
    """The engine was waited for; comes at least once a second while a task runs elsewhere."""


Event = Started | Ended | Failed | Postponed | Waited


def run_tasks(
    engine: Engine,
    batches: Iterator[Sequence[Task]],
    *,
    max_attempts: int,
    is_done: Callable[[Task], bool] = lambda _: False,
) -> Iterator[Event]:
    """Run tasks on an engine until there are no more; a bounded number is in memory at once.

    A lost machine and a lock that another process holds are nobody's failure: the task is started
    again, and no attempt is counted. A process that dies is one attempt of the first of its tasks
    that is not done. A training that has diverged is given up at once, since the same bits would
    diverge again.

    Args:
        engine: that is started.
        batches: in the order of their start; one process runs the tasks of a batch, one after
            another. An empty one where none is ready until another task has ended.
        max_attempts: how often a task may fail before it is given up.
        is_done: whether a task has done its work, though its attempt failed or its process died
            afterwards.

    Raises:
        StorageError: raised by a task, as are the others: they concern every task.
        ImagesError: likewise.
        ConfigError: likewise.
        MissingVolumeError: likewise.
    """
    loop = _Loop(batches, max_attempts, is_done)
    while True:
        while engine.has_room() and (batch := loop.next_batch()):
            engine.submit(_call(batch))
            loop.running[batch[0].key] = batch
            yield from map(Started, batch)
        if engine.is_idle():
            assert loop.exhausted, "no task is ready, and none runs that it could wait for"
            return
        for end in engine.wait(seconds=_POLL_SECONDS):
            yield from loop.ended(end)
        yield Waited()


def _call(batch: tuple[Task, ...]) -> Call:
    first = batch[0]
    return Call(first.key, attempt, (batch,), first.on_device, first.function.__name__)


@dataclass(frozen=True)
class _Attempt:
    """How a task went in its process: a result, or an error with its traceback."""

    result: Any = None
    error: Exception | None = None
    traceback: str = ""


def attempt(tasks: tuple[Task, ...]) -> list[_Attempt]:
    """Run tasks one after another in this process; what one of them raises stops no other.

    Raises:
        StorageError, ImagesError, ConfigError, MissingVolumeError: a task did; the others that are
            left would, too.
    """
    return [_attempt(task) for task in tasks]


def _attempt(task: Task) -> _Attempt:
    try:
        return _Attempt(task.function(*task.arguments))
    except _STOPPING:
        raise
    except Exception as error:  # noqa: BLE001 - the loop decides what it means
        return _Attempt(error=_portable(error), traceback=traceback_text(error))


def _portable(error: Exception) -> Exception:
    """The error, or where it cannot travel between processes, one of the same text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made by the line itself
    except Exception:  # noqa: BLE001 - whatever pickling it raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Loop:
    """The state of `run_tasks`: what waits, what runs, what has failed how often."""

    def __init__(
        self,
        batches: Iterator[Sequence[Task]],
        max_attempts: int,
        is_done: Callable[[Task], bool],
    ) -> None:
        self._batches = batches
        self._max_attempts = max_attempts
        self._is_done = is_done
        self._again: deque[Task] = deque()
        self._locked: deque[Task] = deque()
        self._num_failed: dict[Hashable, int] = {}
        self.running: dict[Hashable, tuple[Task, ...]] = {}
        self.exhausted = False

    def next_batch(self) -> tuple[Task, ...]:
        """The tasks that one process runs next; empty where none is ready."""
        if self._again:
            return (self._again.popleft(),)
        if not self.exhausted:
            try:
                if batch := next(self._batches):
                    return tuple(batch)
            except StopIteration:
                self.exhausted = True
        return (self._locked.popleft(),) if self._locked else ()

    def ended(self, end: CallEnd) -> Iterator[Event]:
        """What the end of a call means for its tasks."""
        batch = self.running.pop(end.key)
        if isinstance(end.error, _STOPPING):
            raise end.error
        if end.error is not None:
            yield from self._died(batch, end.error, is_lost=end.is_lost)
            return
        for task, tried in zip(batch, end.result, strict=True):
            if tried.error is None:
                self._num_failed.pop(task.key, None)
                yield Ended(task, tried.result)
            elif isinstance(tried.error, LockedError):
                self._locked.append(task)
                yield Postponed(task, tried.error)
            elif self._is_done(task):
                yield Ended(task, None)
            else:
                yield self._failed(task, tried.error, tried.traceback)

    def _died(self, batch: tuple[Task, ...], error: Exception, *, is_lost: bool) -> Iterator[Event]:
        """A process is gone: with its machine, or over the first of its tasks that is not done."""
        left = [task for task in batch if not self._is_done(task)]
        yield from (Ended(task, None) for task in batch if task not in left)
        if left and not is_lost:
            # The process could not say itself what went wrong.
            yield self._failed(left.pop(0), error, traceback_text(error))
        self._again.extend(left)
        yield from (Postponed(task, error) for task in left)

    def _failed(self, task: Task, error: Exception, text: str) -> Failed:
        num_failed = self._num_failed.get(task.key, task.num_failed) + 1
        given_up = num_failed >= self._max_attempts or isinstance(error, DivergedError)
        if given_up:
            self._num_failed.pop(task.key, None)
        else:
            self._num_failed[task.key] = num_failed
            self._again.append(task)
        return Failed(task, error, text, given_up)
