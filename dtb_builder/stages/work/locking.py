"""Locks of a run folder, for one process on all of it, or for several on ranges of its shards.

The lock of the whole folder is the file ``.lock``. The lock of a range is the file
``.locks/shards-FIRST-LAST.lock``; a process holds ``.lock`` while it takes it. So the whole folder
cannot be locked while a range is, and ranges cannot overlap. All are locks of the operating system,
which frees them when their holder dies.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.json_object import json_object
from dtb_builder.errors import ConfigError, DamagedFileError, LockedError
from dtb_builder.stages.settings.shard_range import ShardRange

__all__ = ["FolderLock", "check_lockable", "held", "is_held"]

_logger = logging.getLogger(__name__)

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})

_WHOLE_SECONDS = 2
"""The time to wait for ``.lock``: longer than `FolderLock.holders` holds it."""

_LOOK_SECONDS = 1
"""The time to wait for a range's lock, likewise."""

_RANGE_SECONDS = 60
"""The time to wait for ``.lock`` with a range: enough for a thousand jobs that start at once."""


@contextlib.contextmanager
def held(file: Path, *, seconds: float, otherwise: Callable[[], str]) -> Iterator[None]:
    """Hold a lock of the operating system, which frees it when its holder dies.

    Args:
        file: the lock file.
        seconds: how long to wait for the lock.
        otherwise: makes the error's message, when it is needed, since the holder may change.

    Raises:
        LockedError: another process has held the lock all the time.
        ConfigError: the file system has no locks.
    """
    from filelock import FileLock, Timeout  # here, since a reader's installation has none

    lock = FileLock(file, fallback_to_soft=False)  # a soft lock would outlive a killed holder
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise LockedError(otherwise()) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise _no_locks(file.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def check_lockable(file: IO[bytes], folder: Path) -> None:
    """Check that a file system has locks, by locking an open temporary file.

    Raises:
        ConfigError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _no_locks(folder, error) from error


def _no_locks(folder: Path, error: OSError) -> ConfigError:
    reason = os.strerror(error.errno or errno.ENOSYS)
    return ConfigError(
        f"{folder} is on a file system without file locks ({reason}), so two processes could train "
        "the same run: mount it with locks (Lustre: -o flock; NFS: without nolock), or use another "
        "folder"
    )


def is_held(file: Path) -> bool | None:
    """Whether a process holds a lock, None if that cannot be told; the file is not changed."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:  # another user's
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)
    return False


class FolderLock:
    """The lock of one run folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def held(self, *, seconds: float = _WHOLE_SECONDS) -> Iterator[None]:
        """Hold the lock of the whole folder, so that no other process writes to it.

        Args:
            seconds: how long to wait for the lock.

        Raises:
            LockedError: another process holds it, or a range.
        """
        with self._gate(seconds):
            for shards in self._ranges():
                self._check_free(shards)
            with _signed(self._signature, self._path):
                yield

    @contextlib.contextmanager
    def held_range(self, shards: ShardRange) -> Iterator[None]:
        """Hold the lock of a range of shards; other processes may work on other shards.

        Raises:
            LockedError: another process holds the folder, or a range that overlaps this one.
        """
        self._folder.mkdir(exist_ok=True)
        with contextlib.ExitStack() as own:
            with self._gate(_RANGE_SECONDS):
                for other in self._ranges():
                    if other.overlaps(shards):
                        self._check_free(other)
                own.enter_context(self._range(shards))
            with _signed(self._range_signature(shards), self._path):
                yield

    def holders(self) -> tuple[str, ...]:
        """A text on each process that holds the folder or a range of it."""
        locks = {self._signature: self._whole_lock} | {
            self._range_signature(shards): self._range_lock(shards) for shards in self._ranges()
        }
        texts = [_holder(file, lock) for file, lock in locks.items() if file.exists()]
        return tuple(text for text in texts if text is not None)

    def _gate(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        def otherwise() -> str:
            return f"{self._path} is in use by {_text(self._signature)}"

        return held(self._whole_lock, seconds=seconds, otherwise=otherwise)

    def _range(self, shards: ShardRange) -> contextlib.AbstractContextManager[None]:
        def otherwise() -> str:
            text = _text(self._range_signature(shards))
            return f"shards {shards} of {self._path} are in use by {text}"

        return held(self._range_lock(shards), seconds=_LOOK_SECONDS, otherwise=otherwise)

    def _check_free(self, shards: ShardRange) -> None:
        with self._range(shards):
            pass

    def _ranges(self) -> list[ShardRange]:
        """The ranges that have a lock file, held or not."""
        found: list[ShardRange] = []
        for file in self._folder.glob("shards-*.lock"):
            with contextlib.suppress(ValueError):  # another name than this class gives
                found.append(ShardRange.parse(file.stem.removeprefix("shards-")))
        return sorted(found, key=lambda shards: shards.first)

    @property
    def _folder(self) -> Path:
        return self._path / ".locks"

    @property
    def _signature(self) -> Path:
        return self._path / ".lock.json"

    def _range_signature(self, shards: ShardRange) -> Path:
        return self._folder / f"shards-{shards}.json"

    @property
    def _whole_lock(self) -> Path:
        return self._path / ".lock"

    def _range_lock(self, shards: ShardRange) -> Path:
        return self._folder / f"shards-{shards}.lock"


@contextlib.contextmanager
def _signed(signature: Path, path: Path) -> Iterator[None]:
    """Write who holds a lock to a file, and remove the file at the end."""
    if signature.exists():
        _logger.warning("%s was left by %s, which died", path, _text(signature))
        signature.unlink()  # it may be a link by now
    about = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_whole(signature, json.dumps(about).encode())
    try:
        yield
    finally:
        signature.unlink(missing_ok=True)


def _holder(signature: Path, lock: Path) -> str | None:
    """A text on the process that holds a signed lock; None if its holder has died."""
    text = _text(signature)
    if signature.parent.name == ".locks":
        text += f", on {signature.stem.replace('-', ' ', 1)}"
    is_alive = is_held(lock)
    if is_alive is None:
        return f"{text}, if it is still alive"
    return text if is_alive else None


def _text(signature: Path) -> str:
    try:
        about = json_object(signature.read_text(), signature)
        return f"process {about['process']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError, DamagedFileError):
        return "another process"
