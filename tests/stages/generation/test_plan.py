import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dtb_builder.commands.composing import compose
from dtb_builder.images import Images
from dtb_builder.images.loaders import load_images
from dtb_builder.images.settings import ImagesConfig
from dtb_builder.space import NAMED, sample_uniform
from dtb_builder.stages.generation import plan as plan_stage
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.stages.settings.space import SpaceConfig

Dtb = Callable[..., int]


def files(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes()
        for name in ("config.yaml", "plan.csv", "provenance.json")
    }


def test_the_same_config_plans_the_same_bytes(tmp_path: Path, dtb: Dtb) -> None:
    for name in ("one", "other"):
        assert dtb("plan", tmp_path / name, "space.num_genotypes=3", "seeds=[1,2]") == 0
    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_planning_again_changes_nothing(tmp_path: Path, dtb: Dtb) -> None:
    dtb("plan", tmp_path, "space.num_genotypes=3")
    before = files(tmp_path)
    assert dtb("plan", tmp_path, "space.num_genotypes=3") == 0
    assert dtb("plan", tmp_path) == 0
    assert files(tmp_path) == before


def test_every_genotype_is_trained_with_every_seed(tmp_path: Path, dtb: Dtb) -> None:
    dtb("plan", tmp_path, "space.num_genotypes=2", "seeds=[5,7]", "shard_size=3")
    runs = list(RunFolder(tmp_path).plan())
    assert [(run.number, run.shard, run.seed) for run in runs] == [
        (0, 0, 5),
        (1, 0, 7),
        (2, 0, 5),
        (3, 1, 7),
    ]
    assert [run.genotype for run in runs[::2]] == [str(sample_uniform(0, i)) for i in (0, 1)]


def test_another_config_is_refused_with_the_difference(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path, "space.num_genotypes=3")
    before = files(tmp_path)
    assert dtb("plan", tmp_path, "space.num_genotypes=4", "recipe.num_epochs=9") == 2
    error = capsys.readouterr().err
    assert "recipe.num_epochs: 2 when it was planned, 9 now" in error
    assert "space.num_genotypes: 3 when it was planned, 4 now" in error
    assert files(tmp_path) == before


def test_single_settings_are_compared_with_the_folders_own(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert dtb("plan", folder, "recipe.num_epochs=7", "space=named", "seeds=[3,4]") == 0
    assert dtb("plan", folder, "seeds=[3,4]", "recipe.num_epochs=7") == 0
    capsys.readouterr()
    assert dtb("plan", folder, "recipe.batch_size=32") == 2
    wrong = [line for line in capsys.readouterr().err.splitlines() if "when it was planned" in line]
    assert wrong == ["  recipe.batch_size: 64 when it was planned, 32 now"]
    assert dtb("plan", folder, "recipe=smoke") == 2  # a group: all the others are the defaults


@pytest.mark.parametrize("text", ["", "[1]", "recipe: 3", "{"])
def test_a_single_setting_on_a_damaged_config_is_refused_like_none(
    text: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path) == 0
    RunFolder(tmp_path).config_file.write_text(text)
    for settings in ((), ("recipe.num_epochs=1",)):
        assert dtb("plan", tmp_path, *settings) == 2
    assert capsys.readouterr().err.startswith("dtb: ")


def test_neither_a_file_nor_the_folder_of_a_search_is_planned(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert dtb("plan", tmp_path / "file") == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    (tmp_path / "search.json").touch()
    assert dtb("plan", tmp_path) == 2
    assert "is the folder of a search" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "generate", "merge"])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_epochs: 2", "num_epochs: 9", "recipe.num_epochs: 2 when it was planned, 9 now"),
        ("num_epochs: 2", "", "recipe.num_epochs"),
        ("seeds:", "seeds: {", "is not YAML"),
    ],
)
def test_an_edited_config_is_refused_with_the_difference(
    command: str,
    old: str,
    new: str,
    message: str,
    tmp_path: Path,
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dtb("plan", tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace(old, new))
    assert dtb(command, tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "config.yaml" in error


@pytest.mark.parametrize("command", ["generate", "merge"])
def test_an_edited_plan_is_refused(
    command: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path)
    plan = tmp_path / "plan.csv"
    plan.write_text(plan.read_text().replace("sep_conv_3x3", "sep_conv_5x5", 1))
    assert dtb(command, tmp_path) == 2
    assert "plan.csv is not what" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.yaml", "provenance.json"])
def test_a_file_of_the_plan_that_is_gone_is_named(
    name: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path)
    (tmp_path / name).unlink()
    for command in ("status", "generate", "merge"):
        assert dtb(command, tmp_path) == 2
        assert f"{name} is missing" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "7\n"])
def test_a_config_that_is_none_is_refused(
    text: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    assert dtb("status", tmp_path) == 2
    assert "must be keys with values" in capsys.readouterr().err


def test_the_file_of_genotypes_is_needed_only_to_plan(tmp_path: Path, dtb: Dtb) -> None:
    listing = tmp_path / "genotypes.txt"
    listing.write_text("DARTS_V1\nDARTS_V2\n")
    settings = ("space=file", f"space.file={listing}")
    assert dtb("plan", tmp_path / "run", *settings) == 0
    moved = listing.rename(tmp_path / "moved.txt")
    assert dtb("plan", tmp_path / "run") == 0
    assert dtb("plan", tmp_path / "run", "space=file", f"space.file={moved}") == 0


def test_images_that_are_not_where_they_are_said_to_be_leave_the_plan_as_it_is(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert dtb("plan", folder, "network.channels=2") == 0
    before = files(folder)
    assert dtb("plan", folder, "images.root=/nowhere") == 2
    assert "/nowhere" in capsys.readouterr().err
    assert files(folder) == before


@pytest.mark.parametrize("experiment", ["quickstart", "fashion_small", "nb301", "darts"])
def test_every_experiment_takes_genotypes_of_a_file(experiment: str) -> None:
    composed = compose([f"experiment={experiment}", "space=file", "space.file=mine.txt"])
    assert parse(SpaceConfig, composed["space"]).num_genotypes is None


def test_images_may_move(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path | None] = []

    def load(name: str, root: Path | None) -> Images:
        asked.append(root)
        return load_images(name, None)

    monkeypatch.setattr("dtb_builder.images.settings.load_images", load)
    monkeypatch.chdir(tmp_path)
    assert dtb("plan", "run", "images.root=here", "network.layers=4", "compute.kernels=off") == 0
    assert set(asked) == {tmp_path / "here"}
    before = files(tmp_path / "run")
    assert dtb("plan", "run") == 0
    assert files(tmp_path / "run") == before
    asked.clear()
    assert dtb("plan", "run", "images.root=there") == 0
    assert set(asked) == {tmp_path / "there"}
    after = files(tmp_path / "run")
    assert {name for name in after if after[name] != before[name]} == {"config.yaml"}
    assert dtb("plan", "run", "space.num_genotypes=8") == 0  # says nothing of a root
    assert files(tmp_path / "run") == after
    assert not capsys.readouterr().err


def test_a_genotype_listed_twice_is_refused(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "genotypes.txt"
    listing.write_text(f"DARTS_V1\nDARTS_V2\n{NAMED['DARTS_V1'].canonical()}\n")
    for settings in (
        ("space=file", f"space.file={listing}"),
        ("space=named", "space.names=[DARTS_V1,DARTS_V2,DARTS_V1]"),
    ):
        assert dtb("plan", tmp_path / "run", *settings) == 2
        assert "one genotype twice, as number 1 and 3" in capsys.readouterr().err


def test_drawn_genotypes_are_all_different(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("space=mutations", "space.parent=DARTS_V2")
    assert dtb("plan", tmp_path / "run", *settings, "space.num_genotypes=60") == 0
    genotypes = [run.genotype for run in RunFolder(tmp_path / "run").plan()]
    assert len(set(genotypes)) == 60
    # 96 other operations, and some other predecessors: there are no 200 one-step mutations.
    assert dtb("plan", tmp_path / "more", *settings, "space.num_genotypes=200") == 2
    assert "different ones were drawn" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    ["space.file=x", "space.parent=DARTS_V1", "space.names=[DARTS_V1]"],
)
def test_a_setting_that_would_do_nothing_is_refused(
    setting: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path / "run", setting) == 2
    assert "has no effect with space.kind=uniform" in capsys.readouterr().err


def test_a_changed_file_of_genotypes_is_refused(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "genotypes.txt"
    settings = ("space=file", f"space.file={listing}")
    listing.write_text("DARTS_V1\nDARTS_V2\n")
    assert dtb("plan", tmp_path / "run", *settings) == 0
    for text, message in (("DARTS_V2\nDARTS_V1\n", "run 0"), ("DARTS_V1\n", "run 1 is missing")):
        listing.write_text(text)
        assert dtb("plan", tmp_path / "run", *settings) == 2
        assert message in capsys.readouterr().err


def test_an_invalid_genotype_in_a_file_is_named_with_its_line(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "genotypes.txt"
    listing.write_text("# two of them\nDARTS_V1\nGenotype(normal=[], reduce=[])\n")
    assert dtb("plan", tmp_path / "run", "space=file", f"space.file={listing}") == 2
    assert f"{listing}, line 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_parent_comes_first_among_its_mutations(tmp_path: Path, dtb: Dtb) -> None:
    settings = ("space=mutations", "space.parent=DARTS_V2", "space.num_genotypes=3")
    dtb("plan", tmp_path, *settings)
    genotypes = [run.genotype for run in RunFolder(tmp_path).plan()]
    assert genotypes[0] == str(NAMED["DARTS_V2"].canonical())
    assert len(set(genotypes)) == 3


def test_named_genotypes_are_all_or_those_listed(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path / "all", "space=named")
    assert len(list(RunFolder(tmp_path / "all").plan())) == len(NAMED)
    dtb("plan", tmp_path / "one", "space=named", "space.names=[DARTS_V1]")
    assert len(list(RunFolder(tmp_path / "one").plan())) == 1
    assert dtb("plan", tmp_path / "none", "space=named", "space.names=[DARTS_V9]") == 2
    assert "DARTS_V9" in capsys.readouterr().err


def test_a_plan_says_what_it_will_cost(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path, "space.num_genotypes=30", "shard_size=4", "recipe.num_epochs=5")
    printed = capsys.readouterr().out
    assert "runs        30 of 5 epochs" in printed
    assert "shards      8 of up to 4 runs" in printed
    assert "MiB" in printed
    assert "hours of one worker" in printed


def test_what_a_gpu_will_cost_is_guessed_where_there_is_none(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert dtb("plan", tmp_path, "compute=cuda", "space.num_genotypes=1") == 0
    assert RunFolder(tmp_path).config.compute.kernels == "on"
    printed = capsys.readouterr().out
    assert "as timed on cpu here" in printed
    assert "this machine has no cuda" in printed


@pytest.mark.parametrize("kernels", ["on", "off"])
def test_a_machine_that_plans_later_takes_what_another_has_settled(
    kernels: str, tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dtb("plan", tmp_path / "other", f"compute.kernels={kernels}") == 0
    load = plan_stage.load_split_images

    def meanwhile(config: ImagesConfig) -> Any:
        shutil.copytree(tmp_path / "other", tmp_path / "run", dirs_exist_ok=True)
        return load(config)

    monkeypatch.setattr(plan_stage, "load_split_images", meanwhile)
    assert dtb("plan", tmp_path / "run") == 0
    assert RunFolder(tmp_path / "run").config.compute.kernels == kernels
    assert dtb("plan", tmp_path / "run", "space.seed=5") == 2


def test_images_that_are_missing_stop_the_plan(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    settings = ("images=fashion_mnist", f"images.root={empty}")
    assert dtb("plan", tmp_path / "run", *settings) == 2
    assert str(empty) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_images_that_are_not_square_are_refused(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = np.zeros((300, 1, 8, 9), np.uint8), np.arange(300) % 2
    wide = Images("wide", pixels, labels, pixels, labels, 2, np.zeros(1), np.ones(1))
    monkeypatch.setattr("dtb_builder.images.settings.load_images", lambda _name, _root: wide)
    assert dtb("plan", tmp_path) == 2
    assert "8 x 9" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert dtb("plan", tmp_path / "file" / "run") == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_provenance_tells_the_splits_apart_and_no_path(tmp_path: Path, dtb: Dtb) -> None:
    listing = tmp_path / "genotypes.txt"
    listing.write_text("DARTS_V1\n")
    dtb("plan", tmp_path / "run", "space=file", f"space.file={listing}")
    folder = RunFolder(tmp_path / "run")
    splits = folder.provenance_settings["splits"]
    assert {name: split["size"] for name, split in splits.items()} == {
        "train": 1238,
        "valid": 200,
        "test": 359,
    }
    assert len({split["indices_sha256"] for split in splits.values()}) == 3
    assert str(tmp_path) not in folder.provenance


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("[5,41]", "steps of the training, which has 40 in 2 epochs; got [41]; 1238 images"),
        ("[0]", "states.steps must increase from at least 1, got [0]"),
        ("[3,2]", "states.steps must increase from at least 1, got [3, 2]"),
        ("[2,2]", "states.steps must increase from at least 1, got [2, 2]"),
        ("all", "states.steps must be 'logarithmic' or a list of int, got 'all'"),
    ],
)
def test_steps_that_the_training_has_not_are_refused(
    steps: str, message: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path, f"states.steps={steps}") == 2
    assert message in capsys.readouterr().err
    assert not RunFolder(tmp_path).is_planned


def test_a_folder_planned_before_a_setting_was_known_goes_on(tmp_path: Path, dtb: Dtb) -> None:
    dtb("plan", tmp_path)
    config, provenance = tmp_path / "config.yaml", tmp_path / "provenance.json"
    settings, made = yaml.safe_load(config.read_text()), json.loads(provenance.read_text())
    for states in (settings["states"], made["config"]["states"]):
        assert set(states) > {"epochs"}
        del states["steps"], states["dtype"], states["auxiliary_head"]
    config.write_text(yaml.safe_dump(settings))
    provenance.write_text(json.dumps(made))
    before = files(tmp_path)
    assert dtb("plan", tmp_path, "space=uniform") == 0
    assert dtb("status", tmp_path) == 0
    assert files(tmp_path) == before
    assert dtb("plan", tmp_path, "states.steps=[3]") == 2
