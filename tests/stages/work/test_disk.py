import errno
from pathlib import Path

import pytest

from dtb_builder.errors import StorageError
from dtb_builder.stages.work.disk import storage_is_named


def test_a_file_missing_in_the_folder_is_named_as_its_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written to"), storage_is_named(tmp_path):
        (tmp_path / "gone" / "journal").open("wb")


def test_a_file_missing_elsewhere_is_not_the_folders_fault(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(FileNotFoundError) as raised, storage_is_named(run):
        (tmp_path / "images" / "train").open("rb")
    assert not isinstance(raised.value, StorageError)


def test_a_full_disk_is_told_though_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No space left"), storage_is_named(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_lost_connection_is_no_storage_fault(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), storage_is_named(tmp_path):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
