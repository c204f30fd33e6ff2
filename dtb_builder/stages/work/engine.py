"""The interface of an engine, which makes several calls at once."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, Self

__all__ = ["Call", "CallEnd", "Engine"]


@dataclass(frozen=True)
class Call:
    """A function call that an engine makes once.

    Attributes:
        key: identifies the call's end.
        function: a module-level function.
        arguments: the function's arguments.
        on_device: whether it needs the device of a run; otherwise it needs one core.
        name: the name under which the engine shows it.
    """

    key: Hashable
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    on_device: bool
    name: str


@dataclass(frozen=True)
class CallEnd:
    """The result or the error of a call.

    Attributes:
        key: the call's key.
        result: the function's result, or None.
        error: the error that it raised or that ended its process, or None.
        is_lost: whether its machine went away, as a spot instance may; not the call's fault.
    """

    key: Hashable
    result: Any
    error: Exception | None
    is_lost: bool = False


class Engine(Protocol):
    """Makes each call once, and several at the same time."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def has_room(self) -> bool:
        """Whether another call may be submitted now."""
        ...

    def is_idle(self) -> bool:
        """Whether every submitted call has ended."""
        ...

    def submit(self, call: Call) -> None:
        """Queue a call."""
        ...

    def wait(self, *, seconds: float) -> list[CallEnd]:
        """The calls that have ended since the last wait; waits for at least one, or a time-out."""
        ...
