"""Several jobs on one run folder, each on a range of its shards."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.errors import LockedError
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.status import status
from dtb_builder.stages.settings.shard_range import ShardRange

Dtb = Callable[..., int]
RANGES = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(
    lambda pair: ShardRange(min(pair), max(pair))
)


@given(RANGES)
def test_a_range_is_what_its_text_says(shards: ShardRange) -> None:
    assert ShardRange.parse(str(shards)) == shards


@given(RANGES, RANGES)
def test_ranges_overlap_just_when_a_shard_is_in_both(one: ShardRange, other: ShardRange) -> None:
    both = [shard for shard in range(31) if shard in one and shard in other]
    assert one.overlaps(other) == other.overlaps(one) == bool(both)


@pytest.mark.parametrize("text", ["", "-1", "5-2", "a", "1-2-3", "1.5"])
def test_a_text_that_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="range of shards"):
        ShardRange.parse(text)


@pytest.fixture
def planned(finished: Path, tmp_path: Path) -> RunFolder:
    """The plan of the tiny runs, one to a shard, of which nothing is trained."""
    for name in ("config.yaml", "provenance.json", "plan.csv"):
        shutil.copy(finished / name, tmp_path / name)
    return RunFolder(tmp_path)


def test_ranges_that_share_no_shard_are_held_at_once(planned: RunFolder) -> None:
    other = RunFolder(planned.path)
    with planned.shards_locked(ShardRange(0, 4)), other.shards_locked(ShardRange(5, 9)):
        on = [holder.rpartition(", on ")[2] for holder in planned.holders()]
        assert on == ["shards 0-4", "shards 5-9"]
    assert planned.holders() == ()


@pytest.mark.parametrize("shards", [ShardRange(0, 4), ShardRange(4, 9), ShardRange(2, 3)])
def test_ranges_that_share_a_shard_are_not(planned: RunFolder, shards: ShardRange) -> None:
    refused = pytest.raises(LockedError, match=r"shards 0-4 of .* are in use by process")
    other = RunFolder(planned.path)
    with planned.shards_locked(ShardRange(0, 4)), refused, other.shards_locked(shards):
        pass
    with planned.shards_locked(shards):  # once it is free
        pass


def test_who_looks_for_a_moment_keeps_nobody_out(planned: RunFolder) -> None:
    with planned.shards_locked(ShardRange(0, 1)):
        pass
    looking = FileLock(planned.path / ".locks" / "shards-0-1.lock", thread_local=False)
    for wanted in (ShardRange(0, 1), ShardRange(1, 2)):
        looking.acquire()
        Timer(0.3, looking.release).start()
        with planned.shards_locked(wanted):
            pass


def test_the_whole_folder_and_a_range_of_it_are_not_held_at_once(
    planned: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtb_builder.stages.work.locking._RANGE_SECONDS", 0.1)
    other = RunFolder(planned.path)
    with planned.shards_locked(ShardRange(0, 4)), pytest.raises(LockedError), other.locked():
        pass
    with planned.locked(), pytest.raises(LockedError), other.shards_locked(ShardRange(0, 4)):
        pass


def test_a_range_whose_holder_died_is_free(
    planned: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    holder = (
        "import os, sys; from pathlib import Path\n"
        "from dtb_builder.stages.generation.run_folder import RunFolder\n"
        "from dtb_builder.stages.settings.shard_range import ShardRange\n"
        "with RunFolder(Path(sys.argv[1])).shards_locked(ShardRange(0, 4)): os._exit(9)\n"
    )
    died = subprocess.run([sys.executable, "-c", holder, str(planned.path)], check=False)
    assert died.returncode == 9
    assert planned.holders() == ()
    with planned.shards_locked(ShardRange(0, 4)):
        assert "died" in caplog.text
    with planned.locked():
        pass


def test_two_jobs_at_once_on_their_ranges_make_what_one_makes(
    planned: RunFolder, finished: Path, dtb: Dtb, content: Callable[[Path], dict[Any, Any]]
) -> None:
    command = [sys.executable, "-m", "dtb_builder.cli", "generate", str(planned.path)]
    jobs = [
        subprocess.Popen(
            [*command, "cluster=serial", f"cluster.shards={shard}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for shard in (0, 1)
    ]
    printed = [job.communicate(timeout=120)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], printed
    assert dtb("status", planned.path, "--check") == 0
    assert dtb("merge", planned.path) == 0
    assert content(planned.benchmark_file) == content(finished / "dtb.h5")


def test_a_job_trains_its_shards_and_no_others(planned: RunFolder, dtb: Dtb) -> None:
    assert dtb("generate", planned.path, "cluster=serial", "cluster.shards=1") == 0
    assert [file.name for file in planned.shard_files()] == ["shard-00001.h5"]
    assert status(planned).num_waiting == 1
    assert dtb("status", planned.path, "--check") == 1


def test_shards_beyond_the_plan_are_refused_and_a_range_that_ends_there_is_not(
    planned: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("generate", planned.path, "cluster=serial", "cluster.shards=2-5") == 2
    assert "has shards 0 to 1" in capsys.readouterr().err
    assert dtb("generate", planned.path, "cluster=serial", "cluster.shards=1-5") == 0


def test_two_jobs_that_plan_one_folder_at_once_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dtb_builder.cli", "plan", str(tmp_path / "run")]
    jobs = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0]
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["plan"]["runs"] > 0
    RunFolder(tmp_path / "run").check_plan()
