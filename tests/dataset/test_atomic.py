"""What stands under an output's name stays what it is: a link, a device, a pipe, a mode."""

import os
import stat
from pathlib import Path
from threading import Thread

import pytest

from dtb_builder.dataset.appended import create
from dtb_builder.dataset.atomic import followed, whole_file, whole_folder, write_whole


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("there", "not-yet"):
        link, file = tmp_path / name, tmp_path / "disk" / f"{name}.csv"
        link.symlink_to(f"disk/{name}.csv")
        write_whole(link, b"new")
        assert (link.is_symlink(), file.read_bytes()) == (True, b"new")
    assert len(list((tmp_path / "disk").iterdir())) == 2
    (tmp_path / "folder").symlink_to("disk")
    with pytest.raises(IsADirectoryError, match="name a file"):
        write_whole(tmp_path / "folder", b"new")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(tmp_path / "loop", b"new")


def test_a_link_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"dear")
    link.symlink_to(victim)
    os.chown(link, 1, 1, follow_symlinks=False) if os.geteuid() == 0 else monkeypatch.setattr(
        os, "geteuid", lambda: 12345
    )
    for write in (lambda path: write_whole(path, b""), create):
        with pytest.raises(PermissionError, match="another user's link"):
            write(link)
    assert victim.read_bytes() == b"dear"


def test_a_folder_that_is_linked_is_filled_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with whole_folder(tmp_path / "link") as unfinished:
        (unfinished / "a").touch()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "a").exists()


def test_a_pipe_is_given_the_bytes_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"all of it")
    reader.join(10)
    assert read == [b"all of it"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device() -> None:
    write_whole(Path("/dev/null"), b"bytes")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), b"bytes")
    assert Path("/dev/full").is_char_device()


def test_a_name_for_what_is_open_is_followed_to_what_is_open(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        assert followed(Path(f"/proc/self/fd/{writing}")).exists()
        write_whole(Path(f"/proc/self/fd/{writing}"), b"bytes")
        os.close(writing)
        assert pipe.read() == b"bytes"


def test_a_file_keeps_the_mode_that_it_had(tmp_path: Path) -> None:
    file = tmp_path / "private.csv"
    file.touch(0o600)
    with whole_file(file) as temporary:
        temporary.write_bytes(b"new")
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o600)
