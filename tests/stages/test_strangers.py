"""Files that somebody else has made, as the commands meet them."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from chaos.mutants import seal
from chaos.reading import taking_at_most
from fuzz.targets import put_text

from dtb_builder import Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.opening import dataset_at
from dtb_builder.errors import DamagedFileError, TimeLimitError
from dtb_builder.shown import shown
from dtb_builder.stages.work.locking import FolderLock
from dtb_builder.stages.work.tracebacks import traceback_text

Dtb = Callable[..., int]


@pytest.fixture
def forged(finished: Path, tmp_path: Path) -> Callable[..., Path]:
    """A benchmark whose provenance has other parts, under right checksums."""

    def make(**parts: Any) -> Path:
        file = tmp_path / "forged.h5"
        shutil.copy(finished / "dtb.h5", file)
        with h5py.File(file, "r+") as opened:
            provenance = json.loads(dataset_at(opened, schema.PROVENANCE)[0])
            for name, changes in parts.items():
                known = provenance.get(name)
                provenance[name] = known | changes if isinstance(known, dict) else changes
            text = json.dumps(provenance, ensure_ascii=False).encode()
            put_text(opened, schema.PROVENANCE, text)
            seal(opened)
        return file

    return make


@pytest.mark.parametrize("claim", [{"layers": 10**9}, {"channels": 10**9}, {"image_size": 64}])
def test_a_network_that_a_file_claims_is_not_built_unless_its_states_are_as_large(
    claim: dict[str, int], forged: Callable[..., Path], dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    file = forged(network=claim)
    with taking_at_most(128):
        assert dtb("reproduce", file, "--run", 0) == 2
        assert dtb("replay", file, "--run", 0, "--epoch", 1) == 2
        with Benchmark(file) as benchmark, contextlib.suppress(DamagedFileError):
            benchmark.run(0).network(epoch=1)
    told = capsys.readouterr().err
    assert told.count("its tensors are not those") + told.count("does not take the images of") == 2


@pytest.mark.parametrize(
    "parts",
    [
        {"plans": [{}]},
        {"plans": [{"provenance_sha256": [], "seeds": 7}]},
        {"plans": [7]},
        {"plans": 7, "subset_of": 7},
        {"splits": {"test": {}}},
    ],
)
def test_a_making_of_another_shape_is_refused_where_it_would_be_carried_on(
    parts: dict[str, Any], forged: Callable[..., Path], dtb: Dtb, tmp_path: Path
) -> None:
    file = forged(**parts)
    assert dtb("unite", file, file, "--into", tmp_path / "united.h5") == 2
    if "subset_of" in parts:
        assert dtb("subset", file, "--runs", 0, "--into", tmp_path / "subset.h5") == 2
    if "splits" in parts:
        assert dtb("plan", tmp_path / "run", "images=digits", "--adopt", file) == 2


def test_what_a_file_says_does_not_control_a_terminal(
    forged: Callable[..., Path], dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "\x1b]0;pwned\x07\x1b[2J\nruns 9999\u202e"
    file = forged(images={"name": odd}, splits={odd: {"of": odd, "size": 1}})
    for command in ("info", "verify", "report"):
        dtb(command, file)
    dtb("query", file, "--run", 0)
    told = capsys.readouterr()
    assert all(line == shown(line) for line in (told.out + told.err).split("\n"))
    assert "runs 9999" not in told.out.split("\n")


def test_a_file_that_a_killed_program_left_open_is_told_and_copied(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "marked.h5"
    shutil.copy(finished / "dtb.h5", file)
    code = f"import h5py, os; f = h5py.File({str(file)!r}, 'r+'); f.flush(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert dtb("info", file) == 2
    assert "is marked as open for writing" in capsys.readouterr().err
    assert dtb("repair", file) == 0
    assert (tmp_path / "marked.repaired.h5").read_bytes() == (finished / "dtb.h5").read_bytes()


def test_a_lock_that_is_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("dear")
    folder.mkdir()
    for name in (".lock", ".lock.json"):
        (folder / name).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), FolderLock(folder).held():
        pass
    (folder / ".lock").unlink()
    with FolderLock(folder).held():
        assert victim.read_text() == "dear"


def test_names_of_locks_that_are_none_of_ours_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "shards-a-b.lock").touch()
    with FolderLock(tmp_path).held():
        assert len(FolderLock(tmp_path).holders()) == 1


def test_a_traceback_names_no_folder_of_who_met_it() -> None:
    home = Path("~").expanduser()

    def fail() -> None:
        try:
            json.loads("{")
        except ValueError as error:
            raise TimeLimitError(f"{home}/images on 10.0.0.7") from error

    with pytest.raises(TimeLimitError) as raised:
        fail()
    text = traceback_text(raised.value)
    assert 'File "json/decoder.py"' in text
    assert "~/images on (address)" in text
    assert str(Path(__file__).parent) not in text
    assert str(home) == "/" or str(home) not in text


@pytest.mark.parametrize("sign", ["#", "!", "'", "(", "[", "{", ";", "ü"])
def test_a_value_that_wants_quotes_is_told_so(
    sign: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path / "run", f"images.root=a{sign}b", "--show") == 2
    told = capsys.readouterr().err
    assert "needs quotes" in told
    assert dtb("plan", tmp_path / "run", f'images.root="a{sign}b"', "--show") == 0


def test_nothing_that_dtb_has_not_is_advised(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path / "run", "images.root=c,d") == 2
    assert "--multirun" not in capsys.readouterr().err


def test_a_terminal_may_know_ascii_only(
    finished: Path, tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ü.h5"
    os.link(finished / "dtb.h5", file)
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert dtb("info", file) == 0
    terminal.flush()
    assert b"\\xfc.h5" in terminal.buffer.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
