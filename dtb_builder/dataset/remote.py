"""Files on a server, read in byte ranges through fsspec: https, s3, hf and others."""

import gc
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

from dtb_builder.dataset.source import Location, Span, Url, check_span
from dtb_builder.errors import DTBError, RemoteError
from dtb_builder.shown import masked

__all__ = ["MetadataFile", "RemoteSource", "without_collection"]

_BLOCK_BYTES = 2**13
_CACHED_BLOCKS = 2**10


class RemoteSource:
    """The bytes of a file on a server.

    It holds nothing open, so threads, and processes after a fork, may share it.

    Attributes:
        failure: the error of HDF5's last failed request. HDF5 itself reports it as damage.

    Raises:
        FileNotFoundError: there is no such file.
        RemoteError: here or in any method: a request to the server failed.
    """

    whole_up_to = 2**22
    streamed_bytes = 2**22

    def __init__(self, url: str) -> None:
        self.location: Location = url if isinstance(url, Url) else Url(url)
        self.failure: RemoteError | None = None
        self._about = self._info()
        size = self._about.get("size")
        if not isinstance(size, int) or size < 0 or self._about.get("partial") is False:
            raise RemoteError(f"{self.location}: {_NO_RANGES}")
        self.num_bytes = size

    def _info(self) -> dict[str, Any]:
        """The file's size and identity, asked of the server now."""
        with self._failures_named():
            filesystem, path = self._filesystem()
            filesystem.invalidate_cache(path)  # the cached listing may be older than the file
            about = filesystem.info(path)
        return {name: about[name] for name in _IDENTITY if name in about}

    def changed(self) -> DTBError | None:
        """The error to raise if the file has changed since it was opened, else None."""
        try:
            about = self._info()
        except (FileNotFoundError, RemoteError):
            return None  # the network may be at fault
        if about == self._about:
            return None
        return RemoteError(
            f"{self.location} was changed on the server since it was opened: open it again"
        )

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a span; raises DamagedFileError if the span is not within the file."""
        check_span(self, offset, length)
        if not length:
            return b""
        filesystem, path = self._filesystem()
        with self._failures_named():
            if filesystem.async_impl and "http" not in filesystem.protocol:
                data = filesystem.cat_file(path, start=offset, end=offset + length)
            else:
                data = self._read_opened(filesystem, path, offset, length)
        return self._checked(data, length)

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of several spans, requested concurrently if the protocol allows."""
        filesystem, path = self._filesystem()
        if len(spans) < 2 or not filesystem.async_impl:
            return [self.read(*span) for span in spans]
        for span in spans:
            check_span(self, *span)
        starts, ends = [span[0] for span in spans], [sum(span) for span in spans]
        with self._failures_named():
            found = filesystem.cat_ranges([path] * len(spans), starts, ends, on_error="raise")
        return [self._checked(data, span[1]) for data, span in zip(found, spans, strict=True)]

    def close(self) -> None:
        """Nothing is open."""

    def _read_opened(self, filesystem: Any, path: str, offset: int, length: int) -> bytes:
        """Read through a file object, which detects a server that ignores the range."""
        options = {"cache_type": "none", "size": self.num_bytes}  # size: saves a request
        with filesystem.open(path, "rb", **options) as file:
            file.seek(offset)
            try:
                return file.read(length)
            except ValueError as error:
                raise RemoteError(f"{self.location}: {_NO_RANGES}") from error

    def _checked(self, data: bytes, length: int) -> bytes:
        if len(data) != length:
            raise self.changed() or RemoteError(
                f"{self.location}: asked for {length} bytes, got {len(data)}"
            )
        return data

    def _filesystem(self) -> tuple[Any, str]:
        """The file system and the path in it; fsspec caches one per thread and process."""
        assert isinstance(self.location, Url)
        url = self.location.raw
        protocol = url.partition("://")[0]
        try:
            from fsspec.config import conf
            from fsspec.core import url_to_fs

            if protocol in ("http", "https"):
                from dtb_builder.dataset.http import client_options

                given = conf.get(protocol, {}).get("client_kwargs", {})
                return url_to_fs(url, client_kwargs=client_options(given))
            return url_to_fs(url)
        except ImportError as error:
            raise RemoteError(f"{self.location}: {_INSTALL} ({error})") from error
        except ValueError as error:
            raise RemoteError(f"{self.location}: {masked(str(error))}") from error

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            # Some file systems also raise it if a server refuses or does not answer.
            cause = error.__cause__
            if cause is None or _status(cause) in (404, 410):
                raise FileNotFoundError(f"there is no file {self.location}") from None
            raise self._named(cause) from error
        except (DTBError, MemoryError):
            raise
        except Exception as error:  # each file system and HTTP client has its own error types
            raise self._named(error) from error

    def _named(self, error: BaseException) -> RemoteError:
        if not str(error) and error.__cause__ is not None:
            error = error.__cause__  # fsspec's timeout error has no message
        return RemoteError(f"{self.location}: {type(error).__name__}: {masked(str(error))}")


def _status(error: BaseException) -> int | None:
    """The HTTP status in an error of aiohttp, botocore, httpx or requests."""
    answer = getattr(error, "response", error)
    if isinstance(answer, dict):
        return answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return getattr(answer, "status_code", getattr(answer, "status", None))


_IDENTITY = ("size", "partial", "ETag", "Last-Modified", "LastModified", "mtime", "modified")
"""The facts that change when a file is replaced, by the names that services use for them."""

_NO_RANGES = "the server does not give ranges of a file; download it, and open it here"
_INSTALL = "reading from a server takes fsspec: pip install 'darts-training-bench[remote]'"


class _Collection:
    """Python's garbage collection, disabled while at least one caller has paused it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._num_waiting = 0
        self._was_on = False

    def pause(self) -> None:
        with self._lock:
            if not self._num_waiting:
                self._was_on = gc.isenabled()
                gc.disable()
            self._num_waiting += 1

    def go_on(self) -> None:
        with self._lock:
            self._num_waiting -= 1
            if not self._num_waiting and self._was_on:
                gc.enable()


_COLLECTION = _Collection()


@contextmanager
def without_collection() -> Iterator[None]:
    """Disable garbage collection while HDF5 reads from a server in the body.

    Freeing an h5py object takes HDF5's lock, in whichever thread collects it. If fsspec's thread
    collects one, it waits for HDF5, while HDF5 waits for fsspec's data: a deadlock.
    """
    _COLLECTION.pause()
    try:
        _let_fsspec_end_a_collection()
        yield
    finally:
        _COLLECTION.go_on()


def _let_fsspec_end_a_collection() -> None:
    """Wait until fsspec's thread is idle, so that it has nothing to free."""
    asyn = sys.modules.get("fsspec.asyn")
    if asyn is not None and asyn.loop[0] is not None:
        asyn.sync(asyn.loop[0], _nothing)


async def _nothing() -> None: ...


class MetadataFile(io.RawIOBase):
    """The file object through which HDF5 reads a remote file's metadata, in cached blocks.

    HDF5 must read it inside `without_collection`.
    """

    def __init__(self, source: RemoteSource) -> None:
        self._source = source
        self._position = 0
        self._block = lru_cache(_CACHED_BLOCKS)(self._read_block)

    def _read_block(self, number: int) -> bytes:
        first = number * _BLOCK_BYTES
        try:
            return self._source.read(first, min(_BLOCK_BYTES, self._source.num_bytes - first))
        except RemoteError as error:
            self._source.failure = error
            raise

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer up to the end of the file."""
        wanted = memoryview(buffer).cast("B")
        stop = min(self._position + len(wanted), self._source.num_bytes)
        filled = 0
        while self._position < stop:
            number, start = divmod(self._position, _BLOCK_BYTES)
            part = self._block(number)[start : start + stop - self._position]
            wanted[filled : filled + len(part)] = part
            filled += len(part)
            self._position += len(part)
        return filled

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position, as `io.RawIOBase.seek`."""
        self._position = offset + (0, self._position, self._source.num_bytes)[whence]
        return self._position
