"""A compiler's result is kept for later processes, if only this user could have put it there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dtb_builder.network.kernels.compile_cache import compiled_once

Compile = Callable[[], bytes]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the result named "passes" is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "darts-training-bench" / "passes"


@pytest.fixture
def compile_it() -> Compile:
    """Makes other bytes each time."""
    results = iter((b"first", b"second", b"third"))
    return lambda: next(results)


def test_it_is_compiled_once(file: Path, compile_it: Compile) -> None:
    assert compiled_once("passes", compile_it) == b"first"
    assert compiled_once("passes", compile_it) == b"first"
    assert compiled_once("others", compile_it) == b"second"
    assert sorted(path.name for path in file.parent.iterdir()) == ["others", "passes"]


def test_only_this_user_can_read_or_write_it(file: Path, compile_it: Compile) -> None:
    compiled_once("passes", compile_it)
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent)] == [0o600, 0o700]


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 37])
def test_what_is_damaged_is_compiled_again(damage: bytes, file: Path, compile_it: Compile) -> None:
    compiled_once("passes", compile_it)
    file.write_bytes(damage)
    assert compiled_once("passes", compile_it) == b"second"
    assert compiled_once("passes", compile_it) == b"second"


@pytest.mark.parametrize("of_folder", [False, True])
def test_what_others_could_have_written_is_not_run(
    of_folder: bool, file: Path, compile_it: Compile
) -> None:
    compiled_once("passes", compile_it)
    (file.parent if of_folder else file).chmod(0o777)
    assert compiled_once("passes", compile_it) == b"second"


def test_where_nothing_can_be_kept_it_is_compiled_each_time(
    file: Path, compile_it: Compile
) -> None:
    file.parent.write_bytes(b"a file where the folder would be")
    assert compiled_once("passes", compile_it) == b"first"
    assert compiled_once("passes", compile_it) == b"second"
