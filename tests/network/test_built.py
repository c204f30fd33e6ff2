"""The passes of a CPU are found where they are, and compiled where they are not."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dtb_builder.network import built, compiler
from dtb_builder.network.built import passes_file

Fake = Callable[[str], None]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with sources alone, and an empty cache."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    for name in compiler._SOURCES:
        (folder / name).write_text(f"// {name}")
    monkeypatch.setattr(compiler, "FOLDER", folder)
    monkeypatch.setattr(built, "FOLDER", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a shell script in the place of the compiler; its last argument is the file to write."""

    def put(script: str) -> None:
        program = tmp_path / "compiler"
        program.write_text(f"#!/bin/sh\nfor file; do :; done\n{script}\n")
        program.chmod(0o700)
        monkeypatch.setenv("CXX", str(program))

    return put


def test_the_library_of_the_package_is_used(kernels: Path, fake: Fake) -> None:
    fake("exit 1")
    shipped = kernels / compiler.library_name()
    shipped.write_bytes(b"binary")
    assert passes_file.__wrapped__() == shipped


def test_one_of_other_sources_is_not(kernels: Path, fake: Fake) -> None:
    fake('echo new > "$file"')
    (kernels / compiler.library_name()).write_text("old")
    (kernels / "passes.inc").write_text("// new")
    found = passes_file.__wrapped__()
    assert found is not None
    assert found.read_text() == "new\n"
    assert kernels not in found.parents


def test_it_is_compiled_on_first_use_and_said_so(
    kernels: Path, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake('echo "$@" > "$file"')
    found = [passes_file.__wrapped__() for _ in range(2)]
    assert found[0] == found[1]
    assert found[0] is not None
    assert "-O3" in found[0].read_text()
    assert [message.partition(",")[0] for message in caplog.messages] == [
        "note: compiling the passes"
    ]


def test_a_compiler_that_fails_is_quoted_and_training_goes_on_without(
    kernels: Path, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake("echo no such header >&2; exit 1")
    assert passes_file.__wrapped__() is None
    assert "no such header" in caplog.messages[-1]


def test_without_a_compiler_there_are_no_passes(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert passes_file.__wrapped__() is None


def test_python_alone_can_compile_them_into_the_package(tmp_path: Path, fake: Fake) -> None:
    """As setup.py and the Makefile do, before anything is installed."""
    package = tmp_path / "network"
    (package / "kernels").mkdir(parents=True)
    (package / "compiler.py").write_bytes(Path(compiler.__file__).read_bytes())
    for name in compiler._SOURCES:
        (package / "kernels" / name).write_text(f"// {name}")
    old = package / "kernels" / "passes-x86_64-0123456789abcdef.so"
    old.write_text("of older sources")
    fake('echo binary > "$file"')
    command = [sys.executable, "-S", "-E", str(package / "compiler.py")]
    subprocess.run(command, check=True, env=dict(os.environ))
    (library,) = (package / "kernels").glob("passes-*.so")
    assert library.read_text() == "binary\n"
    fake("exit 1")
    (package / "kernels" / "passes.inc").write_text("// new")
    done = subprocess.run(command, check=True, env=dict(os.environ), capture_output=True, text=True)
    assert done.stderr.startswith("note: training will use torch alone")
    assert library.exists()
