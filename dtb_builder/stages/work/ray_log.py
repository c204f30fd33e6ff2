"""Redirect Ray's log to a file, away from what the user reads."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

__all__ = ["ray_starts_into", "ray_works_into"]


@contextlib.contextmanager
def ray_starts_into(log: Path | None) -> Iterator[None]:
    """Within, while Ray starts, this process's standard error is redirected to a file.

    The file descriptor is redirected, since Ray's compiled code writes to it directly.
    """
    if log is None:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    real = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)
        os.close(real)


@contextlib.contextmanager
def ray_works_into(log: Path | None) -> Iterator[None]:
    """Within, the warnings of a running Ray and the output of its workers go to a file."""
    if log is None:
        yield
        return
    logger = logging.getLogger("ray")
    streams = [h for h in logger.handlers if isinstance(h, logging.StreamHandler)]
    with log.open("a") as file:
        before = [handler.setStream(file) for handler in streams]
        dispatcher.remove_handler("ray_print_logs")
        dispatcher.add_handler("dtb_log", lambda data: _write(file, data))
        try:
            yield
        finally:
            dispatcher.remove_handler("dtb_log")
            for handler, stream in zip(streams, before, strict=True):
                if stream is not None:
                    handler.setStream(stream)


def _write(file: TextIO, data: Mapping[str, Any]) -> None:
    """Write lines of a process with its name and address."""
    if data.get("pid") == "autoscaler":
        return  # thirty lines every five seconds, which are also in Ray's monitor.log
    who = f"({data.get('task_name') or data.get('pid')}, ip={data.get('ip')})"
    file.writelines(f"{who} {line}\n" for line in data["lines"])
    file.flush()
