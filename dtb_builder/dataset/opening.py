"""Opening HDF5 files, and checking that they are DTB files of a readable schema version."""

import contextlib
import io
import os
import re
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    "check_hard",
    "create",
    "damage_is_named",
    "dataset_at",
    "group_at",
    "integer_attribute",
    "is_newer",
    "open_file",
    "opened",
    "reading_hdf5",
]


def opened(location: Location) -> tuple[h5py.File, Source]:
    """Open a local or remote file with HDF5 and as a source of bytes; the caller closes both.

    Raises:
        FileNotFoundError: there is no such file.
        RemoteError: the server does not support byte ranges.
        NotDTBFileError: the file is not a DTB file.
        SchemaVersionError: its schema has another major version.
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
    # Close the file before Python ends: HDF5 would close it later and crash by calling Python.
    weakref.finalize(file, _close, file.id)
    return file, source


def _close(file_id: h5py.h5f.FileID) -> None:
    if file_id.valid:
        file_id.close()


def open_file(path: Path) -> h5py.File:
    """The file, open for reading.

    Raises:
        FileNotFoundError: there is no such file.
        NotDTBFileError: the file is not a DTB file.
        SchemaVersionError: its schema has another major version.

    Warns:
        UserWarning: its schema has a newer minor version.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():  # opening a pipe would block
        raise NotDTBFileError(f"{path} is a folder or a device, not a DTB file")
    return _checked(path, path)


def _checked(target: Path | MetadataFile, location: Location) -> h5py.File:
    try:
        try:
            file = h5py.File(target, "r")
        except OSError as error:
            if not isinstance(target, Path) or "lock" not in str(error):
                raise
            file = h5py.File(target, "r", locking=False)  # another program has it open
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


def _check(file: h5py.File, path: Location) -> None:
    with damage_is_named(path):
        names = (schema.FORMAT_ATTRIBUTE, schema.VERSION_ATTRIBUTE, schema.KIND_ATTRIBUTE)
        found, version, kind = (file.attrs.get(name) for name in names)
    if not isinstance(found, str) or found != schema.FORMAT:
        raise NotDTBFileError(
            f"{path} is an HDF5 file but not a DTB file: its attribute "
            f"{schema.FORMAT_ATTRIBUTE!r} is {found!r}, not {schema.FORMAT!r}"
        )
    has = f"{path} has schema version {str(version)[:20]!r}"
    major, found_major = (text.partition(".")[0] for text in (schema.SCHEMA_VERSION, str(version)))
    if found_major == schema.DRAFT_MAJOR:
        raise SchemaVersionError(
            f"{has}, a draft in which no benchmark was published: make the file again with this "
            "dtb_builder"
        )
    if found_major != major:
        raise SchemaVersionError(
            f"{has}, this dtb_builder reads versions {major}.x; a newer dtb_builder may read it"
        )
    # Warn once per benchmark: its volumes have its version.
    if is_newer(file, path) and kind != schema.FileKind.STATES:
        warnings.warn(
            f"{path} has schema version {version}, newer than {schema.SCHEMA_VERSION} of this "
            "dtb_builder: what the newer one added is not read",
            stacklevel=2,
        )


def is_newer(file: h5py.File, path: Location) -> bool:
    """Whether an open file has a newer minor version, and so may hold unknown parts.

    Raises:
        DamagedFileError: the version is not two numbers.
    """
    with damage_is_named(path):
        version = str(file.attrs[schema.VERSION_ATTRIBUTE])
        if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", version):
            raise DamagedFileError(f"a schema version is two numbers, got {version[:20]!r}")
        minor, known = (int(v.partition(".")[2]) for v in (version, schema.SCHEMA_VERSION))
        return minor > known


def dataset_at(group: h5py.Group, name: str) -> h5py.Dataset:
    """The dataset of this path in a file or group.

    Raises:
        DamagedFileError: the name belongs to something else.
        KeyError: there is nothing of this name.
    """
    found = _object_at(group, name)
    if not isinstance(found, h5py.h5d.DatasetID):
        raise DamagedFileError(f"{name}: expected a dataset, got {type(found).__name__}")
    return h5py.Dataset(found)


def group_at(file: h5py.File, name: str) -> h5py.Group:
    """The group of this path in a file, "" being the root; raises what `dataset_at` raises."""
    found = _object_at(file, name) if name else h5o.open(file.id, b"/")
    if not isinstance(found, h5py.h5g.GroupID):
        raise DamagedFileError(f"{name}: expected a group, got {type(found).__name__}")
    return h5py.Group(found)


def _object_at(group: h5py.Group, name: str) -> Any:
    path = b""
    for part in name.encode().split(b"/"):  # the low-level API is faster: files have many columns
        path = path + b"/" + part if path else part
        check_hard(group, path)
    return h5o.open(group.id, path)


def check_hard(group: h5py.Group, path: bytes) -> None:
    """Check that a name belongs to an object of this file; links may lead to any file.

    Raises:
        DamagedFileError: it is a link.
        KeyError: there is nothing of this name.
    """
    if group.id.links.get_info(path).type != h5l.TYPE_HARD:
        raise DamagedFileError(
            f"{path.decode(errors='replace')}: expected an object of this file, got a link"
        )


def integer_attribute(owner: h5py.File | h5py.Dataset, path: Location, name: str) -> int:
    """A whole-number attribute of a file or dataset.

    Raises:
        DamagedFileError: there is no such attribute.
    """
    with reading_hdf5(path, owner):
        found = h5py.h5a.open(owner.id, name.encode())  # the low-level API is faster
        value = np.zeros(found.shape, found.dtype)
        if value.dtype.kind not in "iu" or value.shape != ():
            raise DamagedFileError(f"attribute {name}: expected a whole number")
        found.read(value)
        return int(value)


@contextlib.contextmanager
def create(path: Path, *, kind: str, provenance_crc32c: int) -> Iterator[h5py.File]:
    """A new DTB file of a kind, closed when the context ends.

    Raises:
        OSError: a write failed, as on a full disk; the file is then unusable.
    """
    with _Target(path, "w+b") as target:
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


class _Target(io.FileIO):
    """The file HDF5 writes to; it stores the first write error instead of raising it.

    HDF5 cannot close a file that it cannot flush: the file stays open, and HDF5 prints an error for
    every object in it. So HDF5 sees every write succeed, and `create` raises the error.
    """

    error: OSError | None = None
    _num_new = 0

    def write(self, data: Any, /) -> int:
        left = memoryview(data)
        try:
            while left and self.error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        self._num_new += len(data)
        if self._num_new >= _WRITE_BACK_BYTES:
            self._start_write_back()
        return len(data)

    def _start_write_back(self) -> None:
        """Start writing to disk early, if possible, so that the final sync takes less time."""
        start = max(0, self.tell() - self._num_new)
        with contextlib.suppress(AttributeError, OSError):
            os.posix_fadvise(self.fileno(), start, self._num_new, os.POSIX_FADV_DONTNEED)
        self._num_new = 0

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size or 0


@contextlib.contextmanager
def damage_is_named(
    path: Path | str, file: h5py.File | h5py.Dataset | None = None
) -> Iterator[None]:
    """Turn h5py's errors about damaged bytes into a `DamagedFileError` that names the file.

    Args:
        path: the file's path.
        file: the file or one of its datasets; if it has been closed, `ClosedError` is raised.
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
    """Let HDF5 read an open file, local or remote; raises what `damage_is_named` raises."""
    far = isinstance(location, str)
    with without_collection() if far else contextlib.nullcontext(), damage_is_named(location, file):
        yield
