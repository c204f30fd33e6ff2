"""Opening HDF5 files: whether one is a DTB file, of a schema this version can read."""

import contextlib
import io
import os
import re
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from h5py import h5l, h5o  # pyright: ignore[reportAttributeAccessIssue] - they have no stubs

from dtb_builder.dataset import schema
from dtb_builder.dataset.remote import MetadataFile, RemoteSource, without_collection
from dtb_builder.dataset.source import FileSource, Location, Source
from dtb_builder.errors import (
    ClosedError,
    DamagedFileError,
    DTBError,
    NotDTBFileError,
    SchemaVersionError,
)

__all__ = [
    "create",
    "damage_is_named",
    "dataset_at",
    "integer_attribute",
    "is_of_newer_minor",
    "open_file",
    "opened",
    "reading_hdf5",
    "schema_minor",
]


def opened(location: Location) -> tuple[h5py.File, Source]:
    """A file, here or on a server, as HDF5 sees it and as bytes; both want closing.

    Raises:
        FileNotFoundError: there is no such file.
        RemoteError: the server does not give it in ranges.
        NotDTBFileError: it is not a DTB file.
        SchemaVersionError: its schema is of another major version.
    """
    if isinstance(location, Path):
        file = open_file(location)
        return file, FileSource(file, location)
    source = RemoteSource(location)
    try:
        with without_collection():
            file = _checked(MetadataFile(source), location)
    except NotDTBFileError as error:
        if source.failure is not None:
            raise source.failure from error
        raise
    # What is open when Python ends, HDF5 would close later, by calling Python: it would crash.
    weakref.finalize(file, _close, file.id)
    return file, source


def _close(file_id: h5py.h5f.FileID) -> None:
    if file_id.valid:
        file_id.close()


def open_file(path: Path) -> h5py.File:
    """The file, open for reading.

    Raises:
        FileNotFoundError: there is no such file.
        NotDTBFileError: it is not a DTB file.
        SchemaVersionError: its schema is of another major version.

    Warns:
        UserWarning: its schema is of a newer minor version.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():  # a pipe would block whoever opens it
        raise NotDTBFileError(f"{path} is a folder or a device, not a DTB file")
    return _checked(path, path)


def _checked(target: Path | MetadataFile, location: Location) -> h5py.File:
    try:
        file = _opened_hdf5(target)
    except OSError as error:
        if "already open for write" in str(error):
            raise NotDTBFileError(
                f"{location} is marked as open for writing: a program has it open, or was killed "
                "while it had; dtb repair makes a copy without the mark"
            ) from error
        raise NotDTBFileError(
            f"{location} is not an HDF5 file, or is cut short: {error}"
        ) from error
    try:
        _check(file, location)
    except BaseException:
        file.close()
        raise
    return file


def _opened_hdf5(target: Path | MetadataFile) -> h5py.File:
    """The file as h5py opens it by itself, which may have it open; or without a lock."""
    try:
        return h5py.File(target, "r")
    except OSError as error:
        if not isinstance(target, Path) or "lock" not in str(error):
            raise
        return h5py.File(target, "r", locking=False)


def _check(file: h5py.File, path: Location) -> None:
    with damage_is_named(path):
        found = file.attrs.get(schema.FORMAT_ATTRIBUTE)
        version = file.attrs.get(schema.VERSION_ATTRIBUTE)
    if not isinstance(found, str) or found != schema.FORMAT:
        raise NotDTBFileError(
            f"{path} is an HDF5 file but not a DTB file: its attribute "
            f"{schema.FORMAT_ATTRIBUTE!r} is {found!r}, not {schema.FORMAT!r}"
        )
    major = schema.SCHEMA_VERSION.partition(".")[0]
    found_major = str(version).partition(".")[0]
    if found_major == schema.DRAFT_MAJOR:
        raise SchemaVersionError(
            f"{path} has schema version {str(version)[:20]!r}, a draft in which no benchmark was "
            "published and which nothing reads: make the file again with this dtb_builder"
        )
    if found_major != major:
        raise SchemaVersionError(
            f"{path} has schema version {str(version)[:20]!r}, this dtb_builder reads versions "
            f"{major}.x; a newer dtb_builder may read it"
        )
    # The volumes of a benchmark are of its version, and once is enough.
    if is_of_newer_minor(file, path) and _kind(file, path) != schema.FileKind.STATES:
        warnings.warn(
            f"{path} has schema version {version}, newer than {schema.SCHEMA_VERSION} of this "
            "dtb_builder: what the newer one added is not read",
            stacklevel=2,
        )


def _kind(file: h5py.File, path: Location) -> object:
    with damage_is_named(path):
        return file.attrs[schema.KIND_ATTRIBUTE]


def schema_minor(file: h5py.File, path: Location) -> int:
    """The minor version of an open file's schema.

    Raises:
        DamagedFileError: the version is not two numbers.
    """
    with damage_is_named(path):
        version = str(file.attrs[schema.VERSION_ATTRIBUTE])
        if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", version):
            raise DamagedFileError(f"a schema version is two numbers, got {version[:20]!r}")
        return int(version.partition(".")[2])


def is_of_newer_minor(file: h5py.File, path: Location) -> bool:
    """Whether a file may hold what this version knows nothing of; raises as `schema_minor`."""
    return schema_minor(file, path) > int(schema.SCHEMA_VERSION.partition(".")[2])


def dataset_at(group: h5py.Group, name: str) -> h5py.Dataset:
    """The dataset of this path in a file or group.

    Raises:
        DamagedFileError: something else has the name.
        KeyError: nothing has it.
    """
    path = b""
    for part in name.encode().split(b"/"):  # by h5py's lower layer: files have many columns
        path = path + b"/" + part if path else part
        if group.id.links.get_info(path).type != h5l.TYPE_HARD:
            raise DamagedFileError(f"{path.decode()}: expected an object of this file, got a link")
    found = h5o.open(group.id, path)
    if not isinstance(found, h5py.h5d.DatasetID):
        raise DamagedFileError(f"{name}: expected a dataset, got {type(found).__name__}")
    return h5py.Dataset(found)


def integer_attribute(owner: h5py.File | h5py.Dataset, path: Location, name: str) -> int:
    """A whole-number attribute of a file or dataset.

    Raises:
        DamagedFileError: there is none.
    """
    with reading_hdf5(path, owner):
        return int(np.asarray(owner.attrs[name]))


@contextlib.contextmanager
def create(path: Path, *, kind: str, provenance_crc32c: int) -> Iterator[h5py.File]:
    """A new DTB file of a kind, closed when the context ends.

    Raises:
        OSError: a write failed, as on a full disk; the file is worth nothing then.
    """
    with path.open("w+b", buffering=0) as raw:
        target = _Target(raw)
        try:
            with h5py.File(target, "w", libver=("v110", "v110")) as file:
                file.attrs[schema.FORMAT_ATTRIBUTE] = schema.FORMAT
                file.attrs[schema.VERSION_ATTRIBUTE] = schema.SCHEMA_VERSION
                file.attrs[schema.KIND_ATTRIBUTE] = kind
                file.attrs[schema.PROVENANCE_ATTRIBUTE] = provenance_crc32c
                yield file
        finally:
            if target.error is not None:
                raise target.error


_WRITE_BACK_BYTES = 2**24


class _Target:
    """What HDF5 writes to: a file whose first failed write is remembered instead of raised.

    HDF5 cannot give up a file that it cannot flush: it keeps it open and prints an error for every
    object in it. So it is told that all is well, and whoever made the file is told the truth.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._num_new = 0
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int:
        left = memoryview(data)
        try:
            while left and self.error is None:
                left = left[self._raw.write(left) :]
        except OSError as error:
            self.error = error
        self._num_new += len(data)
        if self._num_new >= _WRITE_BACK_BYTES:
            self._start_write_back()
        return len(data)

    def _start_write_back(self) -> None:
        """Have the disk begin with what would else wait for the sync at the end, where it can."""
        start = max(0, self._raw.tell() - self._num_new)
        with contextlib.suppress(AttributeError, OSError):
            os.posix_fadvise(self._raw.fileno(), start, self._num_new, os.POSIX_FADV_DONTNEED)
        self._num_new = 0

    def truncate(self, size: int) -> int:
        try:
            self._raw.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size

    def read(self, size: int) -> bytes:
        """Never called; by this method h5py knows a file."""
        return self._raw.read(size) or b""

    def readinto(self, buffer: memoryview) -> int:
        return self._raw.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def flush(self) -> None:
        """Nothing is buffered; the caller syncs the whole file at the end."""


@contextlib.contextmanager
def damage_is_named(
    path: Path | str, file: h5py.File | h5py.Dataset | None = None
) -> Iterator[None]:
    """Turn what h5py raises over damaged bytes into a `DamagedFileError` that names the file.

    Args:
        path: of the file.
        file: it or a dataset of it; where another thread has closed it, that is what is said.
    """
    try:
        yield
    except DTBError as error:
        if isinstance(error, DamagedFileError):
            _check_open(path, file, error)
        error.add_note(f"in {os.fspath(path)}")
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        _check_open(path, file, error)
        raise DamagedFileError(f"{os.fspath(path)} is damaged: {error}") from error


def _check_open(path: Path | str, file: h5py.File | h5py.Dataset | None, error: Exception) -> None:
    if file is not None and not file:
        raise ClosedError(f"{os.fspath(path)} was closed before this was read") from error


@contextlib.contextmanager
def reading_hdf5(
    location: Location, file: h5py.File | h5py.Dataset | None = None
) -> Iterator[None]:
    """Have HDF5 read in an open file, here or on a server; raises as `damage_is_named`."""
    far = isinstance(location, str)
    with without_collection() if far else contextlib.nullcontext(), damage_is_named(location, file):
        yield
