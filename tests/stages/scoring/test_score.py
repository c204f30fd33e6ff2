import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import DyingEngine
from filelock import FileLock

from dtb_builder import Benchmark, Run
from dtb_builder.errors import SingularKernelError
from dtb_builder.scores import Atoms, Scale, z_sum
from dtb_builder.scores.scoring import score_network
from dtb_builder.stages.scoring import worker as score_worker
from dtb_builder.stages.scoring.folder import ScoreFolder
from dtb_builder.stages.scoring.table import ScoreTable, read_scores, write_scores
from dtb_builder.stages.work.lines import append_line, read_lines

Dtb = Callable[..., int]
NAMES = ("wot", "distinguishing_ability", "activation_units", "snip", "num_parameters")
QUICK = ("num_images=8", "num_reference=null", f"scores=[{','.join(NAMES)}]", "cluster=serial")
NUM_STATES = 12


@pytest.fixture
def benchmark(finished: Path, tmp_path: Path) -> Path:
    """A benchmark of two runs of six states, two of them within the first epoch."""
    return Path(shutil.copy(finished / "dtb.h5", tmp_path / "dtb.h5"))


@pytest.fixture(scope="module")
def scored(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its scores; not to be written to."""
    from dtb_builder.cli import main

    file = tmp_path_factory.mktemp("scored") / "scores.parquet"
    assert main(["score", str(finished / "dtb.h5"), *QUICK, "--into", str(file)]) == 0
    return file


def content(file: Path) -> tuple[Any, list[dict[str, Any]]]:
    """Everything a file of scores says that does not depend on the clock."""
    table = read_scores(file)
    rows = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in table.rows]
    return table.about, rows


def when(run: Run) -> list[tuple[int | None, int | None, dict[str, int]]]:
    """Every kept state's epoch or step, in the order in which they were reached."""
    return [
        (moment.epoch, moment.step if moment.epoch is None else None, {"step": moment.step})
        for moment in run.moments
    ]


def stop_after(monkeypatch: pytest.MonkeyPatch, num_lines: int, *, before: bool) -> None:
    """Have the process die, as by Ctrl-C, around its next n-th line."""
    count = 0

    def dying(path: Path, value: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if before and count == num_lines:
            raise KeyboardInterrupt
        append_line(path, value)
        if count == num_lines:
            raise KeyboardInterrupt

    monkeypatch.setattr(score_worker, "append_line", dying)


def test_every_kept_state_of_every_run_has_a_row(finished: Path, scored: Path) -> None:
    rows = read_scores(scored).rows
    with Benchmark(finished / "dtb.h5") as benchmark:
        wanted = [
            (run.number, None if step else epoch, run.training_state(**asked).num_batches_tracked)
            for run in benchmark
            for epoch, step, asked in when(run)
        ]
        assert {row["genotype"] for row in rows} == {str(run.genotype) for run in benchmark}
    assert [(row["run"], row["epoch"], row["step"]) for row in rows] == wanted
    assert len(rows) == NUM_STATES
    assert {row["num_images"] for row in rows} == {8}
    assert not any(row["errors"] or row["singular"] for row in rows)


def test_a_row_has_the_scores_of_its_state(
    finished: Path, scored: Path, monkeypatch: pytest.MonkeyPatch, dtb: Dtb, tmp_path: Path
) -> None:
    probes: list[Any] = []

    def kept(network: Any, probe: Any, names: Any, **rest: Any) -> Any:
        probes.append(probe)
        return score_network(network, probe, names, **rest)

    monkeypatch.setattr(score_worker, "score_network", kept)
    dtb("score", finished / "dtb.h5", *QUICK, "--into", tmp_path / "again.parquet")
    with Benchmark(finished / "dtb.h5") as benchmark:
        for row in read_scores(scored).rows:
            asked = {"step": row["step"]} if row["epoch"] is None else {"epoch": row["epoch"]}
            network = benchmark.run(row["run"]).network(**asked)
            expected = score_network(network, probes[0], NAMES).values
            assert {name: row[name] for name in NAMES} == expected
            assert all(row[f"{name}_seconds"] > 0 for name in NAMES)


def test_the_probe_is_named_by_index_and_hash(scored: Path) -> None:
    table = read_scores(scored)
    probe = table.about["probe"]
    assert len(set(probe["indices"])) == 8
    assert {row["probe_sha256"] for row in table.rows} == {probe["sha256"]}


def test_scoring_again_does_nothing(
    benchmark: Path, scored: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copy(scored, benchmark.with_name("scores.parquet")))
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(score_worker, "score_network", lambda *_, **__: pytest.fail("scored"))
    assert dtb("score", benchmark, *QUICK) == 0
    assert dtb("score", benchmark, *QUICK, "compute.kernels=off") == 0  # which only train
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("is_complete", [True, False])
def test_scores_of_other_runs_of_the_plan_stay_beside(
    is_complete: bool, scored: Path, finished: Path, tmp_path: Path, dtb: Dtb
) -> None:
    shard = Path(shutil.copy(finished / "shards" / "shard-00001.h5", tmp_path))
    table = read_scores(scored)
    kept = [row for row in table.rows if is_complete or row["run"] == 0 or row["epoch"] == 1]
    file = tmp_path / "scores.parquet"
    write_scores(file, ScoreTable(table.about, kept))
    assert dtb("score", shard, *QUICK) == 0
    found = sorted(read_scores(file).rows, key=lambda row: (row["run"], row["step"]))
    expected = sorted(table.rows, key=lambda row: (row["run"], row["step"]))
    assert [row["wot"] for row in found] == [row["wot"] for row in expected]
    assert dtb("report", shard) == 0


def test_a_file_of_scores_made_before_kernels_were_left_out_is_taken_over(
    scored: Path, benchmark: Path, dtb: Dtb
) -> None:
    table = read_scores(scored)
    about = json.loads(json.dumps(table.about))
    about["settings"]["compute"].pop("kernels")
    write_scores(benchmark.with_name("scores.parquet"), ScoreTable(about, table.rows))
    assert dtb("score", benchmark, *QUICK) == 0


@pytest.mark.parametrize(("num_lines", "before"), [(1, True), (6, False), (8, True), (12, False)])
def test_a_stopped_scoring_goes_on_to_the_same_scores(
    num_lines: int,
    before: bool,
    benchmark: Path,
    scored: Path,
    dtb: Dtb,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, num_lines, before=before)
        assert dtb("score", benchmark, *QUICK) == 130
    assert not benchmark.with_name("scores.parquet").exists()
    counts: list[int] = []
    monkeypatch.setattr(
        score_worker, "append_line", lambda *args: (counts.append(1), append_line(*args))
    )
    assert dtb("score", benchmark, *QUICK) == 0
    assert len(counts) == NUM_STATES - num_lines + before
    assert content(benchmark.with_name("scores.parquet")) == content(scored)
    assert not list(benchmark.parent.glob("*.working"))


def test_kill_9_loses_no_finished_state(benchmark: Path, scored: Path, dtb: Dtb) -> None:
    command = [sys.executable, "-m", "dtb_builder.cli", "score", str(benchmark), *QUICK]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = ScoreFolder(benchmark.with_name("scores.parquet")).lines_file(0)
    end = time.monotonic() + 60
    while not read_lines(lines) and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = read_lines(lines)
    assert kept
    assert dtb("score", benchmark, *QUICK) == 0
    assert content(benchmark.with_name("scores.parquet")) == content(scored)
    first = read_scores(benchmark.with_name("scores.parquet")).rows[0]
    assert first["wot_seconds"] == kept[0]["wot_seconds"]


def test_other_settings_are_refused_with_what_differs(
    benchmark: Path, scored: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(scored, benchmark.with_name("scores.parquet"))
    assert dtb("score", benchmark, *QUICK, "num_images=9") == 2
    assert "settings.num_images: 8 then, 9 now" in capsys.readouterr().err


def test_other_settings_are_refused_for_what_is_in_progress(
    benchmark: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 1, before=False)
        dtb("score", benchmark, *QUICK)
    assert dtb("score", benchmark, *QUICK, "probe_seed=1") == 2
    assert "settings.probe_seed: 0 then, 1 now" in capsys.readouterr().err


def test_two_scorings_of_one_file_do_not_meet(
    benchmark: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(benchmark.with_name(".scores.parquet.lock")):
        assert dtb("score", benchmark, *QUICK) == 2
    assert "is being made by another process" in capsys.readouterr().err


def test_a_damaged_state_is_recorded_and_the_others_are_scored(
    benchmark: Path, finished: Path, scored: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with Benchmark(benchmark) as opened:
        offset = int(opened._store.index.column("moments/offset")[1, 5])
    data = bytearray(benchmark.read_bytes())
    data[offset + 40] ^= 1
    benchmark.write_bytes(data)
    file = benchmark.with_name("scores.parquet")
    assert dtb("score", benchmark, *QUICK) == 1
    assert "1 states lack a score" in capsys.readouterr().out
    rows, whole = content(file)[1], content(scored)[1]
    assert rows[:11] + rows[12:] == whole[:11] + whole[12:]
    assert json.loads(rows[11]["errors"])["state"].startswith("DamagedFileError")
    assert rows[11]["wot"] is None

    shutil.copy(finished / "dtb.h5", benchmark)
    assert dtb("score", benchmark, *QUICK) == 1
    assert dtb("score", benchmark, *QUICK, "retry=failed") == 0
    assert content(file) == content(scored)


def test_a_worker_that_dies_is_tried_again_and_then_recorded(
    benchmark: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dtb_builder.stages.scoring import driver

    tries: list[int] = []

    def dying(job: Any, unit: Any) -> int:
        tries.append(unit.number)
        if unit.number == 0:
            raise RuntimeError("the node went away")
        return score_worker.score_unit(job, unit)

    monkeypatch.setattr(driver, "score_unit", dying)
    assert dtb("score", benchmark, *QUICK) == 1
    assert tries.count(0) == 3
    rows = read_scores(benchmark.with_name("scores.parquet")).rows
    assert len(rows) == NUM_STATES
    assert all("the node went away" in row["errors"] for row in rows[:6])
    assert "run 0 failed, given up" in capsys.readouterr().err


def test_a_lost_machine_fails_no_state(
    benchmark: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dtb_builder.stages.scoring import driver

    monkeypatch.setattr(driver, "open_engine", lambda *_: DyingEngine(5, is_lost=True))
    assert dtb("score", benchmark, *QUICK, "cluster.max_attempts=2") == 0
    rows = read_scores(benchmark.with_name("scores.parquet")).rows
    assert [row["errors"] for row in rows] == [None] * NUM_STATES


def test_images_other_than_those_of_the_training_are_refused(
    benchmark: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dtb_builder.images.image_set.Images.sha256", "0" * 64)
    score_worker._images_and_probe.cache_clear()
    assert dtb("score", benchmark, *QUICK) == 2
    assert "is not what" in capsys.readouterr().err
    score_worker._images_and_probe.cache_clear()


def test_runs_that_are_merged_later_are_scored_without_the_others(
    finished: Path, tmp_path: Path, dtb: Dtb, scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    shard = (folder / "shards" / "shard-00001.h5").rename(tmp_path / "shard.h5")
    assert dtb("merge", folder, "allow_missing=true") == 0
    assert dtb("score", folder / "dtb.h5", *QUICK) == 0
    assert len(read_scores(folder / "scores.parquet").rows) == 6
    shard.rename(folder / "shards" / "shard-00001.h5")
    assert dtb("merge", folder) == 0
    networks: list[int] = []
    monkeypatch.setattr(
        score_worker,
        "score_network",
        lambda *args, **rest: (networks.append(1), score_network(*args, **rest))[1],
    )
    assert dtb("score", folder / "dtb.h5", *QUICK) == 0
    assert len(networks) == 6
    assert content(folder / "scores.parquet") == content(scored)


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference samples of six genotypes are allowed."""
    for module in ("stages.scoring.driver", "stages.scoring.config", "scores.reference"):
        monkeypatch.setattr(f"dtb_builder.{module}.MIN_GENOTYPES", 6)


@pytest.mark.usefixtures("small_samples")
def test_das_has_the_frozen_scale_of_a_sample_drawn_for_these_networks(
    benchmark: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtb_builder.stages.scoring.driver._REFERENCE_CHUNK", 4)
    settings = [setting for setting in QUICK if not setting.startswith("num_reference")]
    assert dtb("score", benchmark, *settings, "num_reference=6") == 0
    table = read_scores(benchmark.with_name("scores.parquet"))
    reference = table.about["reference"]
    assert len(reference["abilities"]) == 6

    def atoms(abilities: list[float], units: list[float]) -> Atoms:
        return Atoms(np.array(abilities), np.array(units).astype(np.int64), 8)

    frozen = Scale.of(atoms(reference["abilities"], reference["activation_units"]))
    found = atoms(
        [row["distinguishing_ability"] for row in table.rows],
        [row["activation_units"] for row in table.rows],
    )
    das = [row["das"] for row in table.rows]
    assert das == pytest.approx(z_sum(found, frozen).tolist())
    write_scores(benchmark.with_name("scores.parquet"), ScoreTable(table.about, table.rows[1:]))
    # The file's own sample is taken, and none is drawn again.
    monkeypatch.setattr("dtb_builder.stages.scoring.worker.draw_atoms", None)
    assert dtb("score", benchmark, *settings, "num_reference=6") == 0
    assert [row["das"] for row in read_scores(benchmark.with_name("scores.parquet")).rows] == das


def test_a_reference_sample_of_too_few_regular_kernels_is_said(
    benchmark: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def singular(*_: object, **__: object) -> None:
        raise SingularKernelError("made up")

    monkeypatch.setattr("dtb_builder.stages.scoring.worker.draw_atoms", singular)
    names = "scores=[distinguishing_ability,activation_units]"
    settings = ("cluster=serial", "num_images=8", "num_reference=100", names)
    assert dtb("score", benchmark, *settings) == 0
    assert "no das for num_images=8: fewer than 100 of the 100" in capsys.readouterr().err


def test_a_machine_without_the_device_fails_no_state(
    benchmark: Path, dtb: Dtb, refused_without_a_gpu: Callable[..., None]
) -> None:
    refused_without_a_gpu(dtb, "score", benchmark, *QUICK)
    assert not benchmark.with_name("scores.parquet").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("scores=[]", "scores must be different ones, at least 1"),
        ("scores=[nope]", "scores: there is no score nope: there are wot, "),
        ("num_images=1", "num_images must be at least 2"),
        ("num_images=2000", "wanted 2000 different images"),
        ("probe_seed=-1", "probe_seed must be at least 0"),
        ("num_reference=5", "num_reference must be at least 100 or null"),
        ("cluster.time_limit=5", "cluster.time_limit has no effect on scores"),
        ("cluster.shards=0-1", "cluster.shards has no effect on scores"),
        ("cluster.runs_per_task=2", "cluster.runs_per_task and tensorboard have no"),
        ("recipe.num_epochs=5", "conf/score.yaml lists every setting"),
    ],
)
def test_a_bad_setting_is_refused_and_explained(
    setting: str, message: str, benchmark: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("score", benchmark, *QUICK, setting) == 2
    assert message in capsys.readouterr().err
    assert not list(benchmark.parent.glob("*.working"))


@pytest.mark.usefixtures("small_samples")
def test_several_numbers_of_images_stand_side_by_side_as_if_scored_alone(
    benchmark: Path, dtb: Dtb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "wot,distinguishing_ability,activation_units,snip,num_parameters"
    settings = ("cluster=serial", "num_reference=6", f"scores=[{names}]")
    both, alone = tmp_path / "both.parquet", tmp_path / "alone.parquet"
    assert dtb("score", benchmark, *settings, "num_images=[8,4]", "--into", both) == 0
    assert dtb("score", benchmark, *settings, "num_images=4", "--into", alone) == 0
    table, rows = read_scores(both), content(alone)[1]
    assert [row["num_images"] for row in table.rows] == [4, 8] * NUM_STATES
    smaller = [row for row in content(both)[1] if row["num_images"] == 4]
    assert smaller == rows
    assert all(row["das"] is not None for row in table.rows)
    assert table.about["smaller_references"] == [read_scores(alone).about["reference"]]
    assert dtb("score", benchmark, *settings, "num_images=[8,4]", "--into", both) == 0
    capsys.readouterr()
    assert dtb("rank", benchmark, "--scores", both, "--resamples", 20) == 0
    shown = capsys.readouterr().out
    for word in ("epoch 0, n = 4", "epoch 3, n = 8", "DAS / WOT at epoch 0, n = 4"):
        assert word in shown


@pytest.mark.parametrize("sizes", ["[]", "[8,8]", "[1,8]"])
def test_numbers_of_images_must_be_different_and_at_least_2(
    sizes: str, benchmark: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("score", benchmark, f"num_images={sizes}") == 2
    assert "num_images must be at least 2, or different such numbers" in capsys.readouterr().err
