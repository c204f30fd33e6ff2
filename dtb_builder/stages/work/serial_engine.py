"""An engine that makes calls one after the other in this process."""

from collections import deque
from typing import Self

from dtb_builder.stages.work.engine import Call, CallEnd

__all__ = ["SerialEngine"]


class SerialEngine:
    """Makes each call in `wait`."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.clear()

    def has_room(self) -> bool:
        """Whether another call may be submitted now."""
        return not self._calls

    def is_idle(self) -> bool:
        """Whether every submitted call has ended."""
        return not self._calls

    def submit(self, call: Call) -> None:
        """Queue a call."""
        self._calls.append(call)

    def wait(self, *, seconds: float) -> list[CallEnd]:  # noqa: ARG002 - it never times out
        """Make one call."""
        call = self._calls.popleft()
        try:
            return [CallEnd(call.key, call.function(*call.arguments), None)]
        except Exception as error:  # noqa: BLE001 - the caller decides, as with a remote call
            return [CallEnd(call.key, None, error)]
