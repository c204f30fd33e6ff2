import os
from pathlib import Path

import pytest

from dtb_builder.cli import main

JOBS = Path(__file__).parents[2] / "jobs"


def test_the_launchers_of_an_installation_are_those_of_the_checkout(tmp_path: Path) -> None:
    assert main(["jobs", "--into", str(tmp_path / "jobs")]) == 0
    made = {f.relative_to(tmp_path / "jobs") for f in (tmp_path / "jobs").rglob("*") if f.is_file()}
    ours = {file.relative_to(JOBS) for file in JOBS.rglob("*") if file.is_file()}
    assert made == {file for file in ours if "__" not in str(file)}
    for file in made:
        assert (tmp_path / "jobs" / file).read_bytes() == (JOBS / file).read_bytes()
        assert os.access(tmp_path / "jobs" / file, os.X_OK) == os.access(JOBS / file, os.X_OK)


def test_launchers_are_written_into_a_new_folder_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "--into", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
