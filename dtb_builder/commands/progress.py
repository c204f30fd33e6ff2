"""The progress of a command: a bar on a terminal, a line per minute in a log."""

import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["progress"]

_LOG_SECONDS = 60


def progress(**about: Any) -> "tqdm[Any]":
    """Tqdm's bar on a terminal, else its text as a line per minute and at the end."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(mininterval=1, **about)
    file: Any = _Lines(sys.stderr)
    return tqdm(
        file=file,
        mininterval=_LOG_SECONDS,
        maxinterval=_LOG_SECONDS,
        miniters=1,
        ncols=0,
        **about,
    )


class _Lines:
    """A file in which each update of the bar is a new line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        self._file.flush()
