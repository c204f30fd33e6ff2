"""Tasks one after the other in this process."""

from collections import deque
from types import TracebackType
from typing import Self

from dtb_builder.stages.work.engine import Task, TaskEnd

__all__ = ["SerialEngine"]


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
