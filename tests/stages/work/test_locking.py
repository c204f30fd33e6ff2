import errno
import fcntl
from pathlib import Path
from typing import Any

import pytest

from dtb_builder.errors import ConfigError, LockedError
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.work.locking import held


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system like Lustre mounted without -o flock."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_lock_that_is_held_is_told(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        held(lock, seconds=0, otherwise=str),
        pytest.raises(LockedError, match="somebody"),
        held(lock, seconds=0.1, otherwise=lambda: "somebody works here"),
    ):
        pass


@pytest.mark.usefixtures("without_locks")
def test_a_file_system_without_locks_is_refused_and_no_soft_lock_is_left(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="-o flock"),
        held(tmp_path / "lock", seconds=0, otherwise=str),
    ):
        pass
    with pytest.raises(ConfigError, match="-o flock"):
        RunFolder(tmp_path / "run").check_writeable()
