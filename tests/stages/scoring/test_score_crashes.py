"""A scoring that crashes behind any of its system calls goes on to the same scores."""

import shutil
from pathlib import Path

import pytest
from chaos import fake_scoring
from chaos.crash_points import crashes, record

from dtb_builder.stages.scoring import worker as score_worker
from dtb_builder.stages.scoring.folder import ScoreFolder
from dtb_builder.stages.work.lines import read_lines

STRIDE = 9
"""Every so-manieth crash, so that the test stays short; they are all as good."""


def test_a_crash_behind_any_system_call_loses_no_scored_state(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_worker, "score_network", fake_scoring.fake_scores)
    root, before, build = tmp_path / "root", tmp_path / "before", tmp_path / "build"
    for folder in (root, before, build):
        folder.mkdir()
    for folder in (root, before):
        shutil.copy(finished / "dtb.h5", folder)
    calls = record([str(Path(fake_scoring.__file__)), str(root)], root, build)
    expected = fake_scoring.told(root)
    assert len(expected) == 12
    num_crashes = 0
    for num_calls, _, folder in crashes(calls, before, root, tmp_path / "after"):
        num_crashes += 1
        if num_crashes % STRIDE:
            continue
        done = [call for call in calls[:num_calls] if call.path.endswith(".lines")]
        num_synced = sum(call.kind == "S" for call in done)
        kept = len(lines_of(folder))
        if not (folder / "scores.parquet").exists():
            assert kept >= num_synced
        fake_scoring.main(folder)
        assert fake_scoring.told(folder) == expected
        assert not list(folder.glob("*.working"))
    assert num_crashes == 2 * (len(calls) + 1) > 50


def lines_of(folder: Path) -> list[object]:
    """The states that are scored."""
    working = ScoreFolder(folder / "scores.parquet").working
    return [line for file in sorted(working.glob("*.lines")) for line in read_lines(file)]
