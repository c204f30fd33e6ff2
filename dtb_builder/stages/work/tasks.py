"""The loop that runs tasks, and decides which are tried again and which errors stop it."""

import pickle
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dtb_builder.errors import (
    ConfigError,
    ContradictionError,
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

_STOPPING = (StorageError, ImagesError, ConfigError, MissingVolumeError, ContradictionError)
"""Errors of the machine or of the settings, which every other task would have, too."""


@dataclass(frozen=True)
class Task:
    """A piece of work that is tried until it succeeds or has failed too often.

    Attributes:
        key: identifies the task.
        function: a module-level function; a generator function takes turns with the others of its
            process, at each yield.
        arguments: the function's arguments.
        on_device: whether it needs the device of a run; otherwise it needs one core.
        num_failed: the number of attempts that failed in earlier processes.
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
    """A task has done its work; the result is None if its attempt failed afterwards."""

    task: Task
    result: Any


@dataclass(frozen=True)
class Failed:
    """An attempt at a task has failed.

    Attributes:
        task: the task.
        error: the error that it raised or that ended its process.
        traceback: the error's traceback as text.
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
    """A task will be started again, without a failed attempt.

    Attributes:
        task: the task.
        error: says that another process holds its lock, or that its machine is gone.
    """

    task: Task
    error: Exception


@dataclass(frozen=True)
class Waited:
    """The loop has waited for the engine, at most a second unless the engine is serial."""


Event = Started | Ended | Failed | Postponed | Waited


def run_tasks(
    engine: Engine,
    batches: Iterator[Sequence[Task]],
    *,
    max_attempts: int,
    at_once: int = 1,
    is_done: Callable[[Task], bool] = lambda _: False,
) -> Iterator[Event]:
    """Run tasks on an engine until there are no more; only a bounded number is in memory.

    If a machine is lost or another process holds a task's lock, the task is started again and no
    attempt is counted. A process that dies counts as one attempt of its first task that is not
    done. A training that has diverged is given up at once, since it would diverge again.

    Args:
        engine: the engine, already started.
        batches: the tasks in order; a process begins the tasks of a batch in order. An empty batch
            means that none is ready until another task has ended.
        max_attempts: how often a task may fail before it is given up.
        at_once: how many tasks of a batch take turns; a task that was stopped is tried again alone.
        is_done: whether a task has done its work, asked when its attempt failed or its process
            died.

    Raises:
        StorageError, ImagesError, ConfigError, MissingVolumeError, ContradictionError: a task
            raised it; these errors concern every task.
    """
    loop = _Loop(batches, max_attempts, is_done)
    while True:
        while engine.has_room() and (batch := loop.next_batch()):
            engine.submit(_call(batch, at_once))
            loop.running[batch[0].key] = batch
            yield from map(Started, batch)
        if engine.is_idle():
            assert loop.exhausted, "no task is ready, and no task runs"
            return
        for end in engine.wait(seconds=_POLL_SECONDS):
            yield from loop.ended(end)
        yield Waited()


def _call(batch: tuple[Task, ...], at_once: int) -> Call:
    first = batch[0]
    return Call(first.key, attempt, (batch, at_once), first.on_device, first.function.__name__)


@dataclass(frozen=True)
class _Attempt:
    """The result of a task in its process, or an error with its traceback."""

    result: Any = None
    error: Exception | None = None
    traceback: str = ""


def attempt(tasks: tuple[Task, ...], at_once: int) -> list[_Attempt]:
    """Run tasks in this process, `at_once` of them in turns; other errors stop no other task.

    Raises:
        StorageError, ImagesError, ConfigError, MissingVolumeError, ContradictionError: a task
            raised it, and the next tasks would, too.
    """
    waiting = deque((task, _attempt(task)) for task in tasks)
    running: deque[tuple[Task, Generator[None, None, _Attempt]]] = deque()
    ended: dict[Hashable, _Attempt] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(waiting.popleft())
            task, turns = running.popleft()
            try:
                next(turns)
            except StopIteration as end:
                ended[task.key] = end.value
            else:
                running.append((task, turns))
    finally:
        for _, turns in running:  # those that another's error stops
            turns.close()
    return [ended[task.key] for task in tasks]


def _attempt(task: Task) -> Generator[None, None, _Attempt]:
    try:
        result = task.function(*task.arguments)
        if isinstance(result, Generator):
            result = yield from result
        return _Attempt(result)
    except _STOPPING:
        raise
    except Exception as error:  # noqa: BLE001 - the loop decides what it means
        return _Attempt(error=_portable(error), traceback=traceback_text(error))


def _portable(error: Exception) -> Exception:
    """The error or, if it cannot be pickled, a RuntimeError with its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled in the same line
    except Exception:  # noqa: BLE001 - pickling may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Loop:
    """The state of `run_tasks`: waiting and running tasks, and failed attempts."""

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
        """The tasks that one process runs next; empty if none is ready."""
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
        """The events that follow from the end of a call."""
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
        """The events that follow from a process that died alone or with its machine."""
        left = [task for task in batch if not self._is_done(task)]
        yield from (Ended(task, None) for task in batch if task not in left)
        if left and not is_lost:
            # The process died before it could return a traceback.
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
