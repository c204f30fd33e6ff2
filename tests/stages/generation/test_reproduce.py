from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dtb_builder import Benchmark
from dtb_builder.cli import main
from dtb_builder.dataset.run import Run
from dtb_builder.images.image_set import Images
from dtb_builder.record import TrainingState
from dtb_builder.stages.generation import reproduce as reproduce_stage

Dtb = Callable[..., int]
PARTS = ("train", "valid", "test")


def test_a_run_is_reproduced_from_its_file_alone(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("reproduce", finished / "dtb.h5", "--run", 1) == 0
    printed = capsys.readouterr().out
    assert printed.count("the same bits") == 4
    assert "run 1 is reproduced bit for bit" in printed


def test_a_mismatch_is_explained_by_what_differs_in_the_environment(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce_stage, "set_up_machine", lambda _: torch.set_num_threads(2))
    initial = reproduce_stage.initial_network

    def other(genotype: Any, spec: Any, seed: int) -> Any:
        return initial(genotype, spec, seed + 1)

    monkeypatch.setattr(reproduce_stage, "initial_network", other)
    assert dtb("reproduce", finished / "dtb.h5", "--run", 1) == 1
    printed = capsys.readouterr().out
    assert "floats of the state" in printed
    assert "floats of the state of step 5" in printed
    assert printed.count("the checksum of the state") == 4
    assert "run 1 is NOT reproduced" in printed
    assert "threads: 1 then, 2 now" in printed


def test_a_run_that_is_not_there_is_refused(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("reproduce", finished / "dtb.h5", "--run", 7) == 2
    assert "has no run 7" in capsys.readouterr().err


def test_other_images_are_refused(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Images, "sha256", "0" * 64)
    for command in (("reproduce", "--run", 0), ("verify", "--deep")):
        assert dtb(command[0], finished / "dtb.h5", *command[1:]) == 2
        assert "is not what" in capsys.readouterr().err


def test_a_deep_look_finds_a_state_that_is_not_the_one_evaluated(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dtb("verify", finished / "dtb.h5", "--deep") == 0
    assert "8 states evaluated again, 0 wrong" in capsys.readouterr().out
    read = Run.training_state

    def shifted(self: Run, *, epoch: int | None = None, step: int | None = None) -> TrainingState:
        state = read(self, epoch=epoch, step=step)
        if (self.number, epoch) == (1, 3):
            return TrainingState(state.values * 1.01, state.num_batches_tracked)
        return state

    monkeypatch.setattr(Run, "training_state", shifted)
    assert dtb("verify", finished / "dtb.h5", "--deep") == 1
    printed = capsys.readouterr().out
    assert "wrong: run 1 epoch 3: valid_loss" in printed
    assert "8 states evaluated again, 1 wrong" in printed


def test_on_another_machine_a_small_difference_is_none(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere: Mapping[str, Any] = {"device": "cpu", "device_name": "an abacus"}
    monkeypatch.setattr(Run, "environment", lambda *_, **__: elsewhere)
    metric = Run.metric
    monkeypatch.setattr(
        Run, "metric", lambda self, name, *, epoch: metric(self, name, epoch=epoch) * 1.0001
    )
    with Benchmark(finished / "dtb.h5") as benchmark:
        found = list(reproduce_stage.reevaluate(benchmark, root=None))
    assert not any(compared.mismatches for compared in found)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a few pooled images, evaluated at its ends alone; its images are beside it."""
    folder = tmp_path_factory.mktemp("pooled")
    rng = np.random.default_rng(0)
    for part, num_images in (("train", 60), ("t10k", 20)):
        for name, values in (
            ("images-idx3", rng.integers(0, 256, (num_images, 28, 28))),
            ("labels-idx1", np.arange(num_images) % 10),
        ):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            file = folder / f"{part}-{name}-ubyte"
            file.write_bytes(header + values.astype(np.uint8).tobytes())
    settings = ("images.num_valid=20", "images.num_test=10", "images.pool=2")
    sizes = ("network.channels=2", "network.layers=2", "space.num_genotypes=1")
    recipe = ("recipe.batch_size=20", "recipe.evaluate_epochs=[0]", "cluster=serial")
    root = (f"images.root={folder}", "images=fashion_mnist")
    assert main(["generate", str(folder / "run"), *root, *settings, *sizes, *recipe]) == 0
    return folder / "run" / "shards" / "shard-00000.h5"


def test_pooled_images_are_trained_on_evaluated_replayed_and_scored(
    pooled: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with Benchmark(pooled) as benchmark:
        assert benchmark.provenance["images"]["shape"] == [1, 14, 14]
        assert benchmark.provenance["splits"]["test"]["size"] == 10
        measured = [~np.ma.getmaskarray(benchmark.run(0).curve(f"{part}_loss")) for part in PARTS]
    assert [each.tolist() for each in measured] == [
        [False, True, True],
        [True, False, True],
        [True, False, True],
    ]
    root = ("--root", pooled.parents[2])
    assert dtb("reproduce", pooled, "--run", 0, *root) == 0
    assert dtb("verify", pooled, "--deep", *root) == 0
    assert "2 states evaluated again, 0 wrong\n1 states were not eval" in capsys.readouterr().out
    assert dtb("replay", pooled, "--run", 0, "--epoch", 1, *root) == 0
    scoring = ("num_images=8", "scores=[wot]", "num_reference=null", "cluster=serial")
    assert dtb("score", pooled, *scoring, f"images_root={pooled.parents[2]}") == 0


def test_a_few_images_more_or_less_agree_where_bits_may_differ() -> None:
    """Two of 200 images are 0.835 - 0.825, which is more than 0.01 in floats."""
    assert reproduce_stage.agrees("valid_accuracy", 0.825, 0.835, 0.01)
    assert not reproduce_stage.agrees("valid_accuracy", 0.825, 0.84, 0.01)
    assert not reproduce_stage.agrees("valid_accuracy", 0.825, 0.835, 0.0)
