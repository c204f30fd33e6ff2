"""Whether runs use the compiled passes is settled when they are planned."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dtb_builder import Benchmark
from dtb_builder.errors import ConfigError
from dtb_builder.network.kernels import find_library
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.training import kernels
from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.environment import environment

DTB = Callable[..., int]
SMALL = ("network.channels=2", "network.layers=2", "space.num_genotypes=1")
built = pytest.mark.skipif(find_library() is None, reason="installed without a C++ compiler")


@built
def test_auto_is_on_where_the_passes_can_be_used(dtb: DTB, tmp_path: Path) -> None:
    assert dtb("plan", tmp_path, *SMALL) == 0
    config = RunFolder(tmp_path).config
    assert config.compute.kernels == "on"
    compute, recipe = replace(config.compute, kernels="auto"), config.recipe
    for unusable in (
        (replace(compute, threads=2), recipe),
        (compute, replace(recipe, precision="bfloat16")),
    ):
        assert kernels.with_kernels_settled(*unusable, channels=2).kernels == "off"


def test_auto_is_on_for_a_gpu_whatever_was_built(
    dtb: DTB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "passes_file", lambda: None)
    assert dtb("plan", tmp_path, *SMALL) == 0
    config = RunFolder(tmp_path).config
    caplog.clear()
    compute = replace(config.compute, device="cuda", kernels="auto")
    recipe = config.recipe
    assert kernels.with_kernels_settled(compute, recipe, channels=12).kernels == "on"
    for unfit, channels in ((replace(recipe, precision="bfloat16"), 12), (recipe, 6)):
        assert kernels.with_kernels_settled(compute, unfit, channels=channels).kernels == "off"
        with pytest.raises(ConfigError, match=r"compute\.kernels=on does not support"):
            kernels.with_kernels_settled(replace(compute, kernels="on"), unfit, channels=channels)
    assert caplog.messages == []


def test_without_passes_one_line_says_so_and_auto_is_off(
    dtb: DTB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "passes_file", lambda: None)
    assert dtb("plan", tmp_path, *SMALL) == 0
    assert RunFolder(tmp_path).config.compute.kernels == "off"
    notes = caplog.messages
    assert [note.startswith("note: training without compiled kernels") for note in notes] == [True]


@built
def test_a_plan_stays_settled_where_the_passes_are_missing(
    dtb: DTB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path, *SMALL) == 0
    monkeypatch.setattr("dtb_builder.network.kernels.find_library", lambda _: None)
    assert dtb("generate", tmp_path, "cluster=serial") == 2
    assert "this installation has no compiled kernels" in capsys.readouterr().err


@built
def test_the_passes_that_were_used_stand_beside_the_processor(
    generate: DTB, dtb: DTB, tmp_path: Path
) -> None:
    library = find_library()
    assert library is not None
    for setting, expected in (("on", library.name), ("off", None)):
        folder = tmp_path / setting
        settings = (f"compute.kernels={setting}", "recipe.num_epochs=1", "states.steps=[]")
        assert generate(folder, *settings) == 0
        with Benchmark(next((folder / "shards").iterdir())) as shard:
            (facts,) = shard.environments
        assert facts.get("kernels") == expected
        assert "cpu_capability" in facts


@built
def test_a_run_on_the_passes_can_be_reproduced(generate: DTB, dtb: DTB, tmp_path: Path) -> None:
    assert generate(tmp_path, "compute.kernels=on") == 0
    shard = next((tmp_path / "shards").iterdir())
    assert dtb("reproduce", shard, "--run", "0") == 0


def test_files_made_before_there_were_passes_had_none() -> None:
    assert ComputeConfig(device="cpu", threads=1, deterministic=True).kernels == "off"
    assert "kernels" not in environment("cpu")
