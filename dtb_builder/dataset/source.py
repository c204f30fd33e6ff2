"""Where the bytes of an open file come from."""

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
    """A URL that messages show without its user's name and password, and without its query.

    As an argument it is the whole URL, and `raw` is that as a plain text.
    """

    __slots__ = ()

    @property
    def raw(self) -> str:
        """All of it."""
        return str.__str__(self)

    def __str__(self) -> str:
        return masked(self.raw)

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


Location = Path | Url
"""A file here, or the URL of one elsewhere."""

Span = tuple[int, int]
"""The first byte, and how many."""


def located(given: str | os.PathLike[str]) -> Location:
    """A file here, found again after a change of folder; or a URL.

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
    """Gives spans of one file's bytes, to any number of threads, also after a fork.

    Attributes:
        location: of the file.
        num_bytes: its size.
        whole_up_to: a column of at most so many bytes is best read whole.
        streamed_bytes: how much of a longer one is best read at a time.
    """

    location: Location
    num_bytes: int
    whole_up_to: int
    streamed_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a span; raises DamagedFileError where the file does not reach so far."""
        ...

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of several spans, asked for at once where that is quicker."""
        ...

    def changed(self) -> DTBError | None:
        """An error that says that another file has taken the place of this one, or None."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


class FileSource:
    """The bytes of a file that HDF5 has open here.

    It keeps to that file, though it were renamed or another took its name.
    """

    whole_up_to = 2**24
    streamed_bytes = 2**20  # still in a processor's cache when their checksums are computed

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.location: Location = path
        self._descriptor = os.dup(file.id.get_vfd_handle())
        self._is_open = True
        # Only now may its number become another file's: no thread can be reading it any more.
        weakref.finalize(self, os.close, self._descriptor)
        self.num_bytes = os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a span; raises DamagedFileError where the file does not reach so far."""
        check_span(self, offset, length)  # before memory is taken for it
        data = os.pread(self._descriptor, length, offset)
        return data if len(data) == length else b"".join(self._blocks(offset, length))

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of several spans."""
        return [self.read(offset, length) for offset, length in spans]

    def changed(self) -> None:
        """Never: it keeps to its file."""

    def close(self) -> None:
        """Give the file back; the number stays this reader's, but has no bytes any more."""
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
    """The error for bytes of a file that are not those that were written there."""
    return source.changed() or DamagedFileError(what)


def check_span(source: Source, offset: int, length: int) -> None:
    """See that a file reaches so far.

    Raises:
        DamagedFileError: it does not.
    """
    if offset < 0 or length < 0 or offset + length > source.num_bytes:
        raise DamagedFileError(
            f"{source.location} has {source.num_bytes} bytes, none at {offset} + {length}"
        )
