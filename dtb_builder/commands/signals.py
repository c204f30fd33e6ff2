"""Stopping cleanly on SIGTERM."""

import signal

__all__ = ["Sigterm", "Terminated"]


class Terminated(BaseException):
    """SIGTERM has come: from Slurm before a time limit, or from a cloud before a preemption."""


class Sigterm:
    """Listens for SIGTERM, from the moment it is made.

    Attributes:
        raising: whether the signal handler raises `Terminated` itself. With Ray it must not: Ray's
            compiled code loses the exception. The driver then calls `check` every second.
    """

    def __init__(self) -> None:
        self.raising = True
        self._came = False
        signal.signal(signal.SIGTERM, self._stop)

    def check(self) -> None:
        """Raise `Terminated` if the signal was received."""
        if self._came:
            raise Terminated

    def _stop(self, _signal: int, _frame: object) -> None:
        first, self._came = not self._came, True
        if self.raising and first:  # only once
            raise Terminated
