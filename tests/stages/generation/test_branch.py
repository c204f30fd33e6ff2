"""Runs that go on from stored states of others."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from on_ray import dtb_on_ray

from dtb_builder import Benchmark, Run
from dtb_builder.cli import main
from dtb_builder.errors import PlanMismatchError
from dtb_builder.images import Images
from dtb_builder.record import METRICS, Moment
from dtb_builder.stages.generation import parent as parent_stage
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.worker import training
from dtb_builder.stages.publishing.publish import _figures

Dtb = Callable[..., int]
TINY = (
    *("images=digits", "images.num_valid=1300", "network.channels=2", "network.layers=2"),
    *("recipe.num_epochs=5", "recipe.drop_path_probability=0.3", "recipe.drop_path_ramp=true"),
    *("recipe.horizontal_flip=true", "space.num_genotypes=2", "order_seeds=[5]", "shard_size=1"),
    *("states.momentum=[2,4]", "states.key_every=2", "states.steps=[1,8]", "cluster=serial"),
)
FROM, LAST = 2, 5


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of two runs whose momentum is kept after epochs 2 and 4."""
    folder = tmp_path_factory.mktemp("parent")
    assert main(["generate", str(folder), *TINY]) == 0
    assert main(["merge", str(folder)]) == 0
    return folder / "dtb.h5"


def crcs(run: Run) -> list[int]:
    return [run.state_crc32c(epoch=epoch) for epoch in range(run.num_epochs + 1)]


def assert_same_training(run: Run, other: Run) -> None:
    assert crcs(run) == crcs(other)
    for name in METRICS:
        if not name.endswith("seconds"):
            assert run.curve(name).tolist() == other.curve(name).tolist(), name
    for moment in run.moments:
        mine, its = (each.training_state(step=moment.step) for each in (run, other))
        assert mine.values.tobytes() == its.values.tobytes()


def assert_finished_as(folder: Path, parent: Path, dtb: Dtb) -> None:
    """See that a branch with nothing changed ends as its parent did."""
    assert dtb("generate", folder, "cluster=serial") == 0
    assert dtb("merge", folder) == 0
    with Benchmark(parent) as benchmark, Benchmark(folder / "dtb.h5") as branched:
        for run in branched:
            assert_same_training(run, benchmark.run(int(run.origin["run"])))


def test_a_branch_with_nothing_changed_has_the_parents_epochs_bit_for_bit(
    parent: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("branch", parent, tmp_path, "--runs", "0-1", "--from", FROM) == 0
    assert_finished_as(tmp_path, parent, dtb)
    with Benchmark(parent) as benchmark, Benchmark(tmp_path / "dtb.h5") as branched:
        run, other = branched.run(1), benchmark.run(1)
        assert run.moments[0] == Moment(FROM * 3, FROM)
        assert [moment.step for moment in run.moments] == [6, 8, 9, 12, 15]
        assert run.momentum_epochs == (2, 4)
        assert run.origin == parent_stage.origin_of(
            other, FROM, branched.provenance["config"]["branch"]["provenance_sha256"]
        )
        assert run.origin["crc32c"] == other.crc32c
        assert branched.provenance["parent"] == benchmark.provenance
        assert (run.seed, run.order_seed) == (0, 5)
    capsys.readouterr()
    assert dtb("verify", tmp_path / "dtb.h5", "--deep") == 0
    assert dtb("reproduce", tmp_path / "dtb.h5", "--run", 1) == 0
    assert capsys.readouterr().out.count("the same bits") == LAST - FROM
    assert dtb("replay", tmp_path / "dtb.h5", "--run", 1, "--epoch", 3) == 0
    assert dtb("replay", tmp_path / "dtb.h5", "--run", 1, "--epoch", 2) == 2
    assert "run 1 branches from epoch 2" in capsys.readouterr().err


def test_a_branch_of_more_runs_takes_over_those_of_an_earlier_one(
    parent: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    few, more = tmp_path / "few", tmp_path / "more"
    assert dtb("branch", parent, few, "--runs", "1", "--from", FROM) == 0
    assert dtb("generate", few, "cluster=serial") == 0
    assert dtb("branch", parent, more, "--runs", "0-1", "--from", FROM) == 0
    assert dtb("generate", more, "--adopt", few, "cluster=serial") == 0
    assert "1 runs adopted" in capsys.readouterr().out
    assert_finished_as(more, parent, dtb)
    with Benchmark(more / "dtb.h5") as branched:
        assert ["adopted_from" in run.origin for run in branched] == [False, True]
        assert branched.run(1).branch_epoch == FROM


@pytest.mark.ray
def test_a_branch_is_trained_on_ray_to_the_same_bits(
    parent: Path, tmp_path: Path, dtb: Dtb
) -> None:
    assert dtb("branch", parent, tmp_path, "--from", FROM) == 0
    done = dtb_on_ray("generate", tmp_path)
    assert done.returncode == 0, done.stderr
    assert_finished_as(tmp_path, parent, dtb)


@pytest.mark.parametrize(
    "changed", ["recipe.learning_rate=0.01", "order_seeds=[6,7]", "recipe.num_epochs=4"]
)
def test_what_is_changed_differs_after_the_branch_alone(
    parent: Path, tmp_path: Path, dtb: Dtb, changed: str
) -> None:
    assert dtb("branch", parent, tmp_path, "--runs", 1, "--from", FROM, changed) == 0
    assert dtb("generate", tmp_path, "cluster=serial") == 0
    assert dtb("merge", tmp_path) == 0
    with Benchmark(parent) as benchmark, Benchmark(tmp_path / "dtb.h5") as branched:
        old = crcs(benchmark.run(1))
        assert len(branched) == (2 if "order" in changed else 1)
        assert len({tuple(crcs(run)) for run in branched}) == len(branched)
        for run in branched:
            assert crcs(run)[: FROM + 1] == old[: FROM + 1]
            assert not set(crcs(run)[FROM + 1 :]) & set(old)
            assert run.origin["run"] == 1
        assert dtb("reproduce", tmp_path / "dtb.h5", "--run", 0) == 0


@pytest.mark.parametrize("lost", ["nothing", "checkpoint", "journal", "half a journal"])
def test_a_stopped_branch_goes_on_to_the_same_bits(
    parent: Path, tmp_path: Path, dtb: Dtb, lost: str
) -> None:
    assert dtb("branch", parent, tmp_path, "--runs", 1, "--from", FROM) == 0
    folder = RunFolder(tmp_path)
    (run,) = folder.plan()
    for epoch, _ in training(folder, run, logging.getLogger("test")):
        assert epoch > FROM
        if epoch == 4:
            break
    journal, (checkpoint,) = folder.journal_file(run), folder.checkpoint_files(run)
    if lost == "checkpoint":
        checkpoint.unlink()
    elif lost == "journal":
        journal.unlink()
    elif lost == "half a journal":
        journal.write_bytes(journal.read_bytes()[:4000])
    assert_finished_as(tmp_path, parent, dtb)


def test_a_branch_of_a_branch_and_one_from_the_initialisation_are_branches(
    parent: Path, tmp_path: Path, dtb: Dtb
) -> None:
    assert dtb("branch", parent, tmp_path / "one", "--from", 0, "--runs", 0) == 0
    assert_finished_as(tmp_path / "one", parent, dtb)
    shard = tmp_path / "one" / "shards" / "shard-00000.h5"
    assert dtb("branch", shard, tmp_path / "two", "--from", 4, "states=ends") == 0
    assert_finished_as(tmp_path / "two", parent, dtb)
    with Benchmark(tmp_path / "two" / "dtb.h5") as branched:
        assert branched.run(0).state_epochs == (4, 5)
        assert _figures(branched)["runs that go on from other runs"] == "1 from epoch 4"


def test_a_damaged_shard_of_a_branch_is_trained_again_from_its_parent(
    parent: Path, tmp_path: Path, dtb: Dtb
) -> None:
    assert dtb("branch", parent, tmp_path, "--runs", 1, "--from", FROM) == 0
    assert dtb("generate", tmp_path, "cluster=serial") == 0
    shard = RunFolder(tmp_path).shard_file(0)
    with Benchmark(shard) as benchmark:
        frame = int(benchmark._store.index.column("moments/offset")[0, 2])
    data = bytearray(shard.read_bytes())
    data[frame + 50] ^= 1
    shard.write_bytes(data)
    assert dtb("repair", tmp_path) == 1
    assert_finished_as(tmp_path, parent, dtb)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--from", 3), "cannot continue from epoch 3: .* after epochs 0, 2, 4"),
        (("--from", 6), "no epoch 6"),
        (("--from", 2, "--runs", "1-2"), "has no run 2"),
        (("--from", 2, "--runs", "all"), "--runs must be numbers"),
        (("--from", 4, "recipe.num_epochs=4"), "recipe.num_epochs must be larger than 4"),
        (("--from", 2, "recipe.batch_size=32"), "recipe.batch_size cannot change"),
        (("--from", 2, "states.dtype=bfloat16", "states.momentum=none"), "a branch stores the"),
        (("--from", 2, "network.channels=4"), "not network"),
        (("--from", 2, "images.num_valid=100"), "its parent's images"),
        (("--from", 2, "recipe.speed=3"), "there is no setting"),
    ],
)
def test_what_cannot_be_branched_is_refused_with_its_reason(
    parent: Path,
    tmp_path: Path,
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[Any, ...],
    reason: str,
) -> None:
    assert dtb("branch", parent, tmp_path / "new", *arguments) == 2
    assert re.search(reason, capsys.readouterr().err)
    assert not (tmp_path / "new" / "plan.csv").exists()


def test_states_that_were_rounded_or_without_momentum_are_no_start(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, setting in (("a", "states.dtype=bfloat16"), ("b", "states.dtype=float32")):
        folder = tmp_path / name
        quick = (*TINY[:5], "space.num_genotypes=1", "recipe.num_epochs=2", "cluster=serial")
        assert dtb("generate", folder, *quick, setting) == 0
        shard = folder / "shards" / "shard-00000.h5"
        assert dtb("branch", shard, tmp_path / "new", "--from", 1) == 2
        known = "(none)" if name == "a" else "0"
        assert f"its momentum after epochs {known}; states.momentum" in capsys.readouterr().err


def test_other_images_than_the_parents_are_refused(
    parent: Path,
    tmp_path: Path,
    dtb: Dtb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Images, "sha256", "0" * 64)
    assert dtb("branch", parent, tmp_path, "--from", FROM) == 2
    assert "is not what" in capsys.readouterr().err
    assert not RunFolder(tmp_path).is_planned


def test_a_planned_branch_is_planned_again_by_the_same_command_alone(
    parent: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert dtb("branch", parent, tmp_path, "--runs", 1, "--from", FROM) == 0
    assert dtb("generate", tmp_path, "recipe.num_epochs=5", "space.num_genotypes=3") == 2
    capsys.readouterr()
    for other in (("--runs", 0, "--from", FROM), ("--runs", 1, "--from", 4)):
        assert dtb("branch", parent, tmp_path, *other) == 2
        assert "was planned with another config" in capsys.readouterr().err


def test_a_branch_knows_its_parents_file(
    parent: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("branch", parent, tmp_path / "a", "--runs", 0, "--from", FROM) == 0
    assert dtb("branch", parent, tmp_path / "b", "--runs", 1, "--from", FROM) == 0
    folder, other = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    folder.parent_file.write_bytes(other.parent_file.read_bytes())
    (run,) = folder.plan()
    with pytest.raises(PlanMismatchError, match="the parent of run 0"):
        next(training(folder, run, logging.getLogger("test")))
    assert dtb("generate", tmp_path / "a", "cluster=serial") == 2
    assert "does not have the runs that the branch was planned with" in capsys.readouterr().err
    folder.parent_file.unlink()
    assert dtb("generate", tmp_path / "a", "cluster=serial") == 2
    assert "parent.h5 is missing: the runs of the branch" in capsys.readouterr().err


def test_status_counts_only_the_epochs_that_a_branch_trains(
    parent: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("branch", parent, tmp_path, "--from", FROM) == 0
    capsys.readouterr()
    assert dtb("status", tmp_path, "--json") == 0
    assert f'"num_planned_epochs": {2 * (LAST - FROM)}' in capsys.readouterr().out
    assert dtb("plan", tmp_path, "--calibrate") == 2
    assert "from their initialisation" in capsys.readouterr().err


def test_what_a_killed_branch_command_left_is_removed_by_the_next(
    parent: Path, tmp_path: Path, dtb: Dtb
) -> None:
    left = tmp_path / ".parent.h5.0123.writing"
    left.mkdir()
    (left / "run-00000000.journal").write_bytes(b"half")
    assert dtb("branch", parent, tmp_path, "--from", FROM) == 0
    assert not list(tmp_path.glob("*.writing"))
