"""The shipped references are of the shipped experiments."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from dtb_builder.scores import shipped_references
from dtb_builder.stages.scoring import das_reference
from dtb_builder.stages.scoring.das_reference import EXPERIMENTS, reference_of, settings_of
from dtb_builder.stages.settings.config import Config
from dtb_builder.stages.settings.launch import LaunchConfig
from dtb_builder.stages.settings.parsing import parse


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_reference_has_the_networks_and_images_of_its_experiment(
    name: str, dtb: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path, "--show", f"experiment={name}") == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    launch = LaunchConfig.__dataclass_fields__
    config = parse(Config, {key: value for key, value in settings.items() if key not in launch})
    assert settings_of(name) == (config.images, config.network)
    assert shipped_references().keys() == set(EXPERIMENTS)


def test_the_quickstarts_reference_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtb_builder.scores.reference.MIN_GENOTYPES", 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = reference_of("quickstart", 8)
    torch.set_num_threads(threads)
    shipped = shipped_references()["quickstart"]
    assert (made.spec, made.probe_sha256) == (shipped.spec, shipped.probe_sha256)
    assert made.activation_units == shipped.activation_units[:8]
    # Another processor rounds otherwise, and a few codes with it.
    assert made.abilities == pytest.approx(shipped.abilities[:8], rel=1e-3)
    assert len(shipped.abilities) == das_reference.NUM_GENOTYPES
