"""Engines whose processes go as a test says."""

from dtb_builder.stages.work.engine import CallEnd
from dtb_builder.stages.work.serial_engine import SerialEngine

__all__ = ["DyingEngine"]


class DyingEngine(SerialEngine):
    """Its first calls end with their process, before their function is called.

    Args:
        deaths: how many.
        is_lost: whether it is their machine that has gone.
    """

    def __init__(self, deaths: int, *, is_lost: bool) -> None:
        super().__init__()
        self._deaths = deaths
        self._is_lost = is_lost

    def wait(self, *, seconds: float) -> list[CallEnd]:
        """Lose the next call, or make it."""
        if not self._deaths:
            return super().wait(seconds=seconds)
        self._deaths -= 1
        return [CallEnd(self._calls.popleft().key, None, OSError("gone"), self._is_lost)]
