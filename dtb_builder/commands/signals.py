"""Being told to stop."""

import signal

__all__ = ["Sigterm", "Terminated"]


class Terminated(BaseException):
    """SIGTERM has come, as from Slurm before a time limit or from a cloud before a preemption."""


class Sigterm:
    """Listens for SIGTERM, from the moment it is made.

    Attributes:
        raising: whether to raise `Terminated` at once. Ray's compiled code cannot pass on an
            exception out of a signal handler; there the driver asks, at least once a second.
    """

    def __init__(self) -> None:
        self.raising = True
        self._came = False
        signal.signal(signal.SIGTERM, self._stop)

    def check(self) -> None:
        """Raise `Terminated` if the signal has come."""
        if self._came:
            raise Terminated

    def _stop(self, _signal: int, _frame: object) -> None:
        first, self._came = not self._came, True
        if self.raising and first:  # once is enough
            raise Terminated
