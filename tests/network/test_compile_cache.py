"""A compiler's result is kept for later processes, if only this user could have put it there."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtb_builder.network import compile_cache
from dtb_builder.network.compile_cache import compiled_once

Compile = Callable[[Path], None]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the result named "passes" is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "darts-training-bench" / "passes"


@pytest.fixture
def compile_it() -> Compile:
    """Makes other bytes each time."""
    results = iter((b"first", b"second", b"third"))

    def write(file: Path) -> None:
        file.write_bytes(next(results))

    return write


def raising(error: type[Exception]) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_it_is_compiled_once(file: Path, compile_it: Compile) -> None:
    assert compiled_once("passes", compile_it) == file
    assert compiled_once("passes", compile_it).read_bytes() == b"first"
    assert compiled_once("others", compile_it).read_bytes() == b"second"


def test_only_this_user_can_read_or_write_it(file: Path, compile_it: Compile) -> None:
    compiled_once("passes", compile_it)
    digest = file.with_name("passes.sha256")
    modes = [path.stat().st_mode & 0o777 for path in (file, digest, file.parent)]
    assert modes == [0o600, 0o600, 0o700]


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 37])
def test_what_is_damaged_is_compiled_again(damage: bytes, file: Path, compile_it: Compile) -> None:
    compiled_once("passes", compile_it)
    file.write_bytes(damage)
    assert compiled_once("passes", compile_it).read_bytes() == b"second"
    assert compiled_once("passes", compile_it).read_bytes() == b"second"


@pytest.mark.parametrize("of_folder", [False, True])
def test_what_others_could_have_written_is_not_run(
    of_folder: bool, file: Path, compile_it: Compile
) -> None:
    compiled_once("passes", compile_it)
    (file.parent if of_folder else file).chmod(0o777)
    assert compiled_once("passes", compile_it).read_bytes() == b"second"


@pytest.mark.parametrize("reason", ["folder", "home", "locks"])
def test_where_nothing_can_be_kept_each_process_compiles(
    reason: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "folder":
        file.parent.write_bytes(b"a file where the folder would be")
    elif reason == "home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", raising(RuntimeError))
    else:
        monkeypatch.setattr(compile_cache, "FileLock", raising(NotImplementedError))
    compile_cache._folder_of_this_process.cache_clear()
    compiled: list[Path] = []

    def compile_it(file: Path) -> None:
        compiled.append(file)
        file.write_bytes(b"binary")

    assert compiled_once("unkept", compile_it) == compiled_once("unkept", compile_it)
    assert len(compiled) == 1
    assert compiled[0].parent.stat().st_mode & 0o777 == 0o700


def test_others_wait_for_the_one_that_compiles(file: Path) -> None:
    """Here threads, which lock each other out as processes do."""
    compiled: list[int] = []

    def compile_it(file: Path) -> None:
        compiled.append(1)
        time.sleep(0.2)
        file.write_bytes(b"binary")

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: compiled_once("passes", compile_it), range(3)))
    assert found == [file, file, file]
    assert compiled == [1]
