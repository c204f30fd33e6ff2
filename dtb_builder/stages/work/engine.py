"""What an engine is: it runs tasks, as many at once as there is room for."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

__all__ = ["Engine", "Task", "TaskEnd"]


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
