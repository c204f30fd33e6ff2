"""What a provenance says of a config."""

import pytest

from dtb_builder.commands.composing import compose
from dtb_builder.stages.settings.config import Config, deciding_settings
from dtb_builder.stages.settings.launch import LAUNCH_KEYS
from dtb_builder.stages.settings.parsing import parse


def deciding(*settings: str) -> dict[str, object]:
    composed = compose(settings)
    return deciding_settings(
        parse(Config, {key: value for key, value in composed.items() if key not in LAUNCH_KEYS})
    )


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [("images", "num_test", 9), ("images", "pool", 2), ("recipe", "evaluate_epochs", [1])],
)
def test_a_setting_that_came_later_is_in_a_provenance_where_it_is_set(
    group: str, name: str, value: object
) -> None:
    assert name not in deciding()[group]  # pyright: ignore[reportOperatorIssue]
    assert deciding(f"{group}.{name}={value}")[group][name] == value  # pyright: ignore[reportIndexIssue]
