"""How tasks are placed: a common face for Ray and for this process alone."""

import os
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from dtb_builder.stages.config import ClusterConfig, ComputeConfig

__all__ = ["Engine", "SerialEngine", "Task", "TaskEnd", "open_engine"]


@dataclass(frozen=True)
class Task:
    """A call to be made somewhere.

    Attributes:
        key: by which its end is known.
        function: a module-level function.
        arguments: what it is called with.
        on_device: whether it computes on the run's device; otherwise it takes one core.
    """

    key: Hashable
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    on_device: bool


@dataclass(frozen=True)
class TaskEnd:
    """What became of a task.

    Attributes:
        key: of the task.
        result: what the function returned, or None.
        error: what it raised, or how its worker died, or None.
        is_lost: whether its machine went away, as a spot instance does: no fault of the task.
    """

    key: Hashable
    result: Any
    error: Exception | None
    is_lost: bool = False


class Engine(Protocol):
    """Runs tasks, as many at once as there is room for."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def has_room(self) -> bool:
        """Whether another task may be submitted now."""
        ...

    def is_idle(self) -> bool:
        """Whether every submitted task has ended."""
        ...

    def submit(self, task: Task) -> None:
        """Have a task run."""
        ...

    def wait(self, *, seconds: float) -> list[TaskEnd]:
        """The tasks that have ended since the last call; waits for one, but not for ever."""
        ...


class SerialEngine:
    """Runs each task in this process when its end is waited for."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tasks.clear()

    def has_room(self) -> bool:
        """Whether another task may be submitted now."""
        return not self._tasks

    def is_idle(self) -> bool:
        """Whether every submitted task has ended."""
        return not self._tasks

    def submit(self, task: Task) -> None:
        """Have a task run."""
        self._tasks.append(task)

    def wait(self, *, seconds: float) -> list[TaskEnd]:  # noqa: ARG002 - it never has to wait
        """Run one task; the wait is as long as the task."""
        task = self._tasks.popleft()
        try:
            return [TaskEnd(task.key, task.function(*task.arguments), None)]
        except Exception as error:  # noqa: BLE001 - the caller decides, as with a remote task
            return [TaskEnd(task.key, None, error)]


def open_engine(cluster: ClusterConfig, compute: ComputeConfig) -> Engine:
    """The engine that a configuration asks for, not started yet; only Ray's needs Ray."""
    if cluster.engine == "serial":
        return SerialEngine()
    if cluster.address is None:
        # Ray's default for a cluster of one's own, but said aloud it is not warned of.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from dtb_builder.stages.ray_engine import RayEngine  # here: a serial launch needs no Ray

    return RayEngine(cluster, compute)
