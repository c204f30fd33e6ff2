"""The shipped configurations say what the package means."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dtb_builder.images import IMAGE_SETS
from dtb_builder.stages.settings.config import Config
from dtb_builder.stages.settings.launch import LaunchConfig
from dtb_builder.stages.settings.parsing import parse

CONF = Path(__file__).parents[3] / "conf"
LAUNCH = set(LaunchConfig.__dataclass_fields__)
NEEDED = {
    "space=file": ("space.file=genotypes.txt",),
    "space=mutations": ("space.parent=DARTS_V2",),
    # Their auxiliary loss wants a head.
    "recipe=darts": ("network=darts",),
    "recipe=darts_bf16": ("network=darts",),
    "recipe=nb301": ("network=darts",),
    "recipe=nb301_bf16": ("network=darts",),
}
OPTIONS = [f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml"))]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_makes_a_valid_config(
    option: str, dtb: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path, "--show", option, *NEEDED.get(option, ())) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    config = parse(Config, {k: v for k, v in settings.items() if k not in LAUNCH})
    parse(LaunchConfig, {k: v for k, v in settings.items() if k in LAUNCH})
    assert config.images.name in IMAGE_SETS


def test_every_option_begins_with_a_line_for_people() -> None:
    assert OPTIONS
    for path in CONF.glob("*/*.yaml"):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# "), path
