"""The progress of a command: a bar on a terminal, a line per minute in a log."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["WITH_POSTFIX", "begun", "progress"]

WITH_POSTFIX = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
"""A format without tqdm's own forecast; the caller sets a better one as the bar's postfix."""

_LOG_SECONDS = 60

T = TypeVar("T")


def progress(**about: Any) -> "tqdm[Any]":
    """Tqdm's bar on a terminal, else its text as a line per minute and at the end."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(mininterval=1, **about)
    file: Any = _Lines(sys.stderr)
    if "bar_format" in about:
        about["bar_format"] = about["bar_format"].replace(
            "{l_bar}{bar}|", "{desc}: {percentage:.0f}%"
        )
    else:
        about["ncols"] = 0
    return tqdm(file=file, mininterval=_LOG_SECONDS, maxinterval=_LOG_SECONDS, miniters=1, **about)


def begun(events: Iterable[T]) -> Iterator[T]:
    """The same events; the first is waited for now, so that an error comes before any bar."""
    rest = iter(events)
    return chain(list(islice(rest, 1)), rest)


class _Lines:
    """A file in which each update of the bar is a new line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        self._file.flush()
