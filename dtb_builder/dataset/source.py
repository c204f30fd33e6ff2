"""Reading the bytes of an open file, local or remote."""

import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import h5py

from dtb_builder.errors import ClosedError, DamagedFileError, DTBError
from dtb_builder.shown import masked

__all__ = [
    "FileSource",
    "Location",
    "Source",
    "Span",
    "Url",
    "located",
    "sibling",
    "wrong_bytes",
]


class Url(str):
    """A URL whose text in messages leaves out user name, password and query.

    Passed as a string argument it is the full URL; `raw` is the full URL as a plain string.
    """

    __slots__ = ()

    @property
    def raw(self) -> str:
        """The full URL."""
        return str.__str__(self)

    def __str__(self) -> str:
        return masked(self.raw)

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


Location = Path | Url
"""A local file, or the URL of a remote one."""

Span = tuple[int, int]
"""The offset of the first byte, and the number of bytes."""


def located(given: str | os.PathLike[str]) -> Location:
    """The absolute path of a local file, or a URL.

    >>> located("https://example.org/dtb.h5")
    'https://example.org/dtb.h5'
    """
    text = os.fspath(given)
    if isinstance(text, Url):
        return text
    return Url(text) if "://" in text else Path(text).absolute()


def sibling(location: Location, name: str) -> Location:
    """The file of this name in the same folder.

    >>> sibling(Url("https://example.org/a/dtb.h5?download=true"), "states.h5").raw
    'https://example.org/a/states.h5?download=true'
    """
    if isinstance(location, Path):
        return location.with_name(name)
    before, mark, query = location.partition("?")
    return Url(f"{before.rpartition('/')[0]}/{name}{mark}{query}")


class Source(Protocol):
    """Reads spans of one file's bytes; any number of threads may use it, also after a fork.

    Attributes:
        location: the file.
        num_bytes: its size.
        whole_up_to: a column of at most this many bytes is read whole.
        streamed_bytes: bytes of a longer column that are read at a time.
    """

    location: Location
    num_bytes: int
    whole_up_to: int
    streamed_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a span; raises DamagedFileError if the span is not within the file."""
        ...

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of several spans, requested together if that is faster."""
        ...

    def changed(self) -> DTBError | None:
        """The error to raise if the file has been replaced, else None."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class FileSource:
    """The bytes of a local file that HDF5 has open.

    It reads the same file even if that is renamed or replaced.
    """

    whole_up_to = 2**24
    streamed_bytes = 2**20  # still in a processor's cache when their checksums are computed

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.location: Location = path
        self._descriptor = os.dup(file.id.get_vfd_handle())
        self._is_open = True
        # Free the descriptor only now: no thread can still read by its number.
        weakref.finalize(self, os.close, self._descriptor)
        self.num_bytes = os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a span; raises DamagedFileError if the span is not within the file."""
        check_span(self, offset, length)  # before allocating memory for it
        data = os.pread(self._descriptor, length, offset)
        return data if len(data) == length else b"".join(self._blocks(offset, length))

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of several spans."""
        return [self.read(offset, length) for offset, length in spans]

    def changed(self) -> None:
        """None: the descriptor always reads the same file."""

    def close(self) -> None:
        """Close the file; the descriptor's number stays in use, but now has no bytes."""
        if self._is_open:
            self._is_open = False
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, self._descriptor, inheritable=False)
            os.close(nothing)

    def _blocks(self, offset: int, length: int) -> Iterator[bytes]:
        while length > 0 and (block := os.pread(self._descriptor, length, offset)):
            yield block
            offset, length = offset + len(block), length - len(block)
        if length:
            if not self._is_open:
                raise ClosedError(f"{self.location} was closed before this was read")
            raise DamagedFileError(f"{self.location} was cut short while it was open")


def wrong_bytes(source: Source, what: str) -> DTBError:
    """The error for bytes that are not those that were written."""
    return source.changed() or DamagedFileError(what)


def check_span(source: Source, offset: int, length: int) -> None:
    """Check that a span is within the file.

    Raises:
        DamagedFileError: it is not.
    """
    if offset < 0 or length < 0 or offset + length > source.num_bytes:
        raise DamagedFileError(
            f"{source.location} has {source.num_bytes} bytes, none at {offset} + {length}"
        )
