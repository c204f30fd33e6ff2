"""Several trainings in one process: one goes on where another would only wait."""

import time
from collections.abc import Generator
from typing import TypeVar

import torch

__all__ = ["on_own_stream", "seconds_when_done", "when_done"]

Turn = TypeVar("Turn")


def when_done(device: torch.device) -> Generator[None, None, None]:
    """Turns for others until the device has done what it was told on the current stream."""
    if device.type == "cuda":
        done = torch.cuda.Event()
        done.record()
        while not done.query():
            yield


def seconds_when_done(device: torch.device) -> Generator[None, None, float]:
    """Seconds on a clock, when that is so."""
    yield from when_done(device)
    return time.perf_counter()


def on_own_stream(turns: Generator[Turn, None, None]) -> Generator[Turn, None, None]:
    """The same turns with what they launch on a CUDA stream of their own.

    Streams run at the same time, and each does one thing after another.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    while True:
        with torch.cuda.stream(stream):
            try:
                turn = next(turns)
            except StopIteration:
                return
        yield turn
