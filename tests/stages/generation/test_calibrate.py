import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dtb_builder.stages.generation.calibrate import calibrated, timings
from dtb_builder.stages.generation.estimate import Estimate, RunSeconds, evaluation_hint
from dtb_builder.stages.generation.run_folder import RunFolder

Dtb = Callable[..., int]


def test_the_bytes_of_a_calibration_are_those_of_the_shards(finished: Path, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    before = sorted(folder.path.rglob("*"))
    found = calibrated(folder, list(timings(folder)))
    stored = sum(file.stat().st_size for file in folder.shard_files())
    assert (found.num_runs, found.num_shards, found.device) == (2, 2, "cpu")
    # Two runs of a few hundred floats: HDF5's own structures are most of such a shard.
    assert 0.2 * stored < found.num_bytes < stored
    assert found.hours > 0
    assert sorted(folder.path.rglob("*")) == before


def test_plan_says_how_it_knows_and_when_evaluation_rules(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("network.channels=2", "network.layers=2", "images.num_valid=1300")
    evaluated = ("recipe.num_epochs=3", "recipe.evaluate_epochs=[0]", "space.num_genotypes=2")
    assert dtb("plan", tmp_path, *settings, *evaluated, "--calibrate") == 0
    first, second, *_ = (said := capsys.readouterr().out).splitlines()
    assert {line.partition(":")[0] for line in (first, second)} == {"run 0", "run 1"}
    assert "from two epochs of three genotypes" in said
    whole = re.search(r"a run +([\d.e-]+) s of training, ([\d.e-]+) s of eval.*, (.+) s of", said)
    assert whole is not None
    one = [re.findall(r"([\d.e-]+) s of", line)[1] for line in (first, second)]
    assert float(whole[2]) == pytest.approx(sum(map(float, one)), rel=0.02), "two evaluations each"
    assert RunFolder(tmp_path).calibrated_seconds == pytest.approx(
        sum(map(float, whole.groups())), rel=0.02
    )
    assert not list(tmp_path.glob(".calibrate*"))


@pytest.mark.parametrize(
    ("seconds", "num_evaluated", "said"),
    [
        (10.0, (10_000, 10_000), None),
        (
            51.0,
            (10_000, 359),
            (
                "85 % evaluates 10,000 + 359 images: images.num_valid=1000 or "
                "recipe.evaluate_epochs=[0] makes it less"
            ),
        ),
    ],
)
def test_a_plan_that_mostly_evaluates_says_so(
    seconds: float, num_evaluated: tuple[int, int], said: str | None, finished: Path
) -> None:
    run = RunSeconds(training=8.0, evaluation=seconds, storing=1.0 if said else 3.0)
    cost = Estimate(1, 1, 1, run, num_evaluated, "cpu")
    assert evaluation_hint(cost, RunFolder(finished).config) == said


def test_one_that_is_told_to_stop_leaves_nothing_behind(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told_to_stop(folder: RunFolder, *_: object) -> None:
        assert folder.path in tmp_path.glob(".calibrate*")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("dtb_builder.stages.generation.calibrate._timing", told_to_stop)
    before = signal.signal(signal.SIGTERM, unexpected)
    try:
        code = dtb("plan", tmp_path, "images=digits", "network.channels=2", "--calibrate")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 75
    assert not list(tmp_path.glob(".calibrate*"))


def unexpected(*_: object) -> None:
    raise SystemExit("the command does not listen for SIGTERM")


def test_a_device_that_is_not_here_cannot_be_timed(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert dtb("plan", tmp_path, "compute=cuda", "--calibrate") == 2
    assert "this machine has no cuda" in capsys.readouterr().err
