"""What an engine is: it makes calls, as many at once as there is room for."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

__all__ = ["Call", "CallEnd", "Engine"]


@dataclass(frozen=True)
class Call:
    """A call to be made somewhere, once.

    Attributes:
        key: by which its end is known.
        function: a module-level function.
        arguments: what it is called with.
        on_device: whether it computes on the run's device; otherwise it takes one core.
        name: for people who look at the engine's processes.
    """

    key: Hashable
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    on_device: bool
    name: str


@dataclass(frozen=True)
class CallEnd:
    """What became of a call.

    Attributes:
        key: of the call.
        result: what the function returned, or None.
        error: what it raised, or how its process died, or None.
        is_lost: whether its machine went away, as a spot instance does: no fault of the call.
    """

    key: Hashable
    result: Any
    error: Exception | None
    is_lost: bool = False


class Engine(Protocol):
    """Makes calls, as many at once as there is room for; each is made once."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def has_room(self) -> bool:
        """Whether another call may be submitted now."""
        ...

    def is_idle(self) -> bool:
        """Whether every submitted call has ended."""
        ...

    def submit(self, call: Call) -> None:
        """Have a call made."""
        ...

    def wait(self, *, seconds: float) -> list[CallEnd]:
        """The calls that have ended since the last time; waits for one, but not for ever."""
        ...
