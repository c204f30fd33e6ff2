"""The scores of unions and subsets."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtb_builder import Benchmark
from dtb_builder.cli import main
from dtb_builder.network import NetworkSpec
from dtb_builder.scores import Atoms, ReferenceSample, das
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.unite import unite
from dtb_builder.stages.scoring.copied import copy_scores
from dtb_builder.stages.scoring.table import ScoreTable, read_scores, write_scores

Dtb = Callable[..., int]
QUICK = ("num_images=8", "num_reference=null", "scores=[wot,num_parameters]", "cluster=serial")


@pytest.fixture(scope="module")
def scored(
    finished: Path, other_study: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Folders of two benchmarks with their scores; not to be written to."""
    folder = tmp_path_factory.mktemp("scored")
    folders = [folder / "one", folder / "two"]
    for into, studied in zip(folders, (finished, other_study), strict=True):
        into.mkdir()
        shards = map(str, RunFolder(studied).shard_files())
        assert main(["unite", *shards, "--into", str(into / "dtb.h5")]) == 0
        assert main(["score", str(into / "dtb.h5"), *QUICK]) == 0
    return folders


def scores_by_genotype(file: Path) -> dict[Any, float]:
    return {
        (row["genotype"], row["epoch"], row["step"]): row["wot"] for row in read_scores(file).rows
    }


def test_a_union_has_the_scores_of_its_runs_under_their_new_numbers(
    scored: list[Path], tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "all.h5"
    assert dtb("unite", *reversed(scored), "--into", into) == 0
    assert "scores.parquet: 24 scored states" in capsys.readouterr().out
    found = read_scores(tmp_path / "scores.parquet")
    with Benchmark(into) as united:
        runs = {run.number: str(run.genotype) for run in united}
    assert {row["run"]: row["genotype"] for row in found.rows} == runs
    assert scores_by_genotype(tmp_path / "scores.parquet") == {
        key: value
        for folder in scored
        for key, value in scores_by_genotype(folder / "scores.parquet").items()
    }
    before = (tmp_path / "scores.parquet").read_bytes()
    assert dtb("score", into, *QUICK) == 0  # nothing is left to do
    assert (tmp_path / "scores.parquet").read_bytes() == before
    assert dtb("rank", into) == 0


def test_a_state_that_failed_in_one_file_has_the_scores_of_the_other(
    scored: list[Path], tmp_path: Path, dtb: Dtb
) -> None:
    failed = Path(shutil.copytree(scored[0], tmp_path / "failed")) / "scores.parquet"
    table = read_scores(failed)
    nothing = {"wot": None, "errors": '{"state": "lost"}'}
    rows = [row if row["epoch"] is None else {**row, **nothing, "step": None} for row in table.rows]
    write_scores(failed, ScoreTable(table.about, rows))
    into = tmp_path / "all.h5"
    assert dtb("unite", failed.parent, scored[0], "--into", into) == 0
    found = read_scores(into.with_name("scores.parquet")).rows
    assert [row["wot"] for row in found] == [row["wot"] for row in table.rows]


def test_what_has_no_scores_yet_is_scored_later(
    scored: list[Path], tmp_path: Path, dtb: Dtb
) -> None:
    bare = Path(shutil.copy(scored[1] / "dtb.h5", tmp_path / "bare.h5"))
    into = tmp_path / "both" / "all.h5"
    into.parent.mkdir()
    assert dtb("unite", scored[0], bare, "--into", into) == 0
    assert len(read_scores(into.with_name("scores.parquet")).rows) == 12
    assert dtb("score", into, *QUICK) == 0
    assert len(read_scores(into.with_name("scores.parquet")).rows) == 24


def test_a_subset_without_states_keeps_its_scores(
    scored: list[Path], tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "small.h5"
    assert dtb("subset", scored[0], "--runs", "1", "--states", "none", "--into", into) == 0
    rows = read_scores(tmp_path / "scores.parquet").rows
    assert {row["run"] for row in rows} == {1}
    assert len(rows) == 6
    assert dtb("score", into, *QUICK) == 0  # nothing is left to do
    (tmp_path / "scores.parquet").unlink()
    capsys.readouterr()
    assert dtb("score", into, *QUICK) == 2
    assert "there is no state to score" in capsys.readouterr().err
    assert not (tmp_path / "scores.parquet").exists()


def test_a_subset_with_fewer_states_keeps_the_scores_of_the_others_when_it_is_scored(
    scored: list[Path], tmp_path: Path, dtb: Dtb
) -> None:
    into, file = tmp_path / "small.h5", tmp_path / "scores.parquet"
    assert dtb("subset", scored[0], "--runs", "1", "--states", "ends", "--into", into) == 0
    table = read_scores(file)
    assert len(table.rows) == 6
    assert dtb("score", into, *QUICK) == 0  # nothing is left to do
    assert len(read_scores(file).rows) == 6
    rows = [row for row in table.rows if row["epoch"] != 0]
    write_scores(file, ScoreTable(table.about, rows))
    assert dtb("score", into, *QUICK) == 0
    assert {row["epoch"] for row in read_scores(file).rows} == {row["epoch"] for row in table.rows}


def test_scores_of_other_settings_or_in_the_way_are_not_copied_but_the_runs_are(
    scored: list[Path], tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(scored[1], other)
    table = read_scores(other / "scores.parquet")
    settings = {**table.about["settings"], "probe_seed": 7}
    write_scores(
        other / "scores.parquet", ScoreTable({**table.about, "settings": settings}, table.rows)
    )
    assert dtb("unite", scored[0], other, "--into", tmp_path / "all.h5") == 0
    told = capsys.readouterr().out
    assert "the scores are not copied: " in told
    assert "settings.probe_seed: 7 in it, 0 in the other" in told
    assert not (tmp_path / "scores.parquet").exists()
    (tmp_path / "scores.parquet").write_bytes(b"mine")
    assert dtb("subset", scored[0], "--runs", "0", "--into", tmp_path / "one.h5") == 0
    assert f"{tmp_path / 'scores.parquet'} exists" in capsys.readouterr().out
    assert (tmp_path / "scores.parquet").read_bytes() == b"mine"


def test_das_of_a_union_has_the_scale_of_the_first_file(scored: list[Path], tmp_path: Path) -> None:
    spec, units = NetworkSpec(channels=3, layers=2, num_classes=10, image_size=8), range(100, 200)
    samples = [
        ReferenceSample(spec, "probe", 8, 0, tuple(np.arange(first, first + 100.0)), tuple(units))
        for first in (-200.0, -900.0)
    ]
    files = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    of_row = {"distinguishing_ability": -300.0, "activation_units": 120.0, "num_images": 8}
    expected = float(das(Atoms(np.array([-300.0]), np.array([120]), 8), samples[0])[0])
    for file, folder, sample, known in zip(files, scored, samples, (expected, 7.0), strict=True):
        table = read_scores(folder / "scores.parquet")
        rows = [{**row, **of_row, "das": known} for row in table.rows]
        write_scores(file, ScoreTable({**table.about, "reference": asdict(sample)}, rows))
    list(unite([folder / "dtb.h5" for folder in scored], tmp_path / "all.h5"))
    assert copy_scores(files, tmp_path / "all.h5", tmp_path / "scores.parquet") == 24
    assert {row["das"] for row in read_scores(tmp_path / "scores.parquet").rows} == {expected}


def test_no_file_is_written_if_no_run_of_the_copy_is_scored(
    scored: list[Path], tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(scored[0] / "scores.parquet", tmp_path)
    other, into = (
        Path(shutil.copy(scored[1] / "dtb.h5", tmp_path / "b.h5")),
        tmp_path / "c" / "c.h5",
    )
    into.parent.mkdir()
    assert dtb("subset", other, "--into", into) == 0
    assert "its runs have no scores to copy" in capsys.readouterr().out
    assert not into.with_name("scores.parquet").exists()
